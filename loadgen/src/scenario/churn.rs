//! Clients that connect at a rate, stay for a while, and leave.
//!
//! What is counted as a message elsewhere is a connection here: sent when it begins to
//! connect, received when its handshake is complete, lost if it never is. Latency counts
//! from the time at which it was meant to connect, also if all members were still busy.
//! The lag of the schedule does not contain that wait: it is the server's.

use std::collections::VecDeque;
use std::time::Duration;

use wsgate::time::Time;

use super::{Leave, Scenario};
use crate::course::Course;
use crate::payload::Stamp;
use crate::schedule::{Arrivals, Schedule, Share, Window};
use crate::tally::Tally;

/// The churn scenario's part on one worker.
#[derive(Debug)]
pub struct Churn {
    share: Share,
    rate: f64,
    arrivals: Arrivals,
    course: Course,
    /// How long a connection stays when it is open.
    stay: Duration,
    /// Members that are not connected.
    free: Vec<usize>,
    /// No handshake may begin, since too many wait for the server.
    held_up: bool,
    /// The end of the last time in which the server kept anybody from connecting.
    able: Time,
    /// What the connection under way of each member was meant for.
    stamps: Vec<Stamp>,
    /// Who leaves when, the first one first.
    leaving: VecDeque<(Time, usize)>,
    under_way: u64,
    window: Option<Window>,
    schedule: Option<Schedule>,
    tally: Tally,
}

impl Churn {
    /// The members of `share`: as many may be connected at once.
    pub fn new(share: Share, rate: f64, arrivals: Arrivals, stay: Duration) -> Self {
        let members = share.local_senders();
        let nothing = Stamp { sender: 0, sequence: 0, intended: Time::ZERO, sent: Time::ZERO };
        Self {
            share,
            rate,
            arrivals,
            course: Course::default(),
            stay,
            free: (0..members).rev().collect(),
            held_up: false,
            able: Time::ZERO,
            stamps: vec![nothing; members],
            leaving: VecDeque::new(),
            under_way: 0,
            window: None,
            schedule: None,
            tally: Tally::default(),
        }
    }

    /// The same with the load of that course.
    pub fn over(mut self, course: Course) -> Self {
        self.course = course;
        self
    }

    /// A handshake ended: there is room for the next.
    fn handshake_ended(&mut self, now: Time) {
        self.under_way -= 1;
        if std::mem::take(&mut self.held_up) {
            self.able = now;
        }
    }

    fn has_left(&mut self, member: usize, now: Time) {
        if self.free.is_empty() {
            self.able = now;
        }
        self.free.push(member);
    }
}

impl Scenario for Churn {
    fn opened(&mut self, member: usize, now: Time) {
        self.handshake_ended(now);
        if let Some(window) = &self.window {
            self.tally.count_received(window, self.stamps[member], true, now);
        }
        self.leaving.push_back((now + self.stay, member));
    }

    fn gone(&mut self, member: usize, now: Time) {
        self.leaving.retain(|&(_, leaving)| leaving != member);
        self.has_left(member, now);
    }

    fn failed(&mut self, member: usize, now: Time) {
        self.handshake_ended(now);
        self.tally.lost += 1;
        self.has_left(member, now);
    }

    fn start(&mut self, window: Window) {
        self.window = Some(window);
        self.schedule = Some(Schedule::new(window, self.course.profile(self.rate), self.arrivals, self.share));
    }

    fn stop(&mut self, now: Time) {
        self.window = self.window.map(|window| window.until(now));
        let due = self.schedule.as_mut().and_then(|schedule| schedule.stop(now));
        if let Some(due) = due.filter(|_| !self.free.is_empty() && !self.held_up) {
            self.tally.count_abandoned(due.max(self.able), now);
        }
    }

    fn message(&mut self, _member: usize, _payload: &[u8], _now: Time) -> bool {
        self.tally.foreign += 1;
        false
    }

    fn next_send(&mut self, _now: Time) -> Option<(usize, Stamp)> {
        None
    }

    fn next_connect(&mut self, now: Time) -> Option<usize> {
        let member = *self.free.last()?;
        let (_, intended) = self.schedule.as_mut()?.take(now)?;
        let window = self.window?;
        self.free.pop();
        self.under_way += 1;
        self.stamps[member] = Stamp { sender: 0, sequence: 0, intended, sent: now };
        self.tally.count_sent(&window, intended);
        self.tally.count_own_lag(&window, intended, self.able, now);
        Some(member)
    }

    fn held_up(&mut self) {
        self.held_up = true;
    }

    fn next_leave(&mut self, now: Time) -> Option<(usize, Leave)> {
        let (_, member) = self.leaving.pop_front_if(|&mut (at, _)| at <= now)?;
        Some((member, Leave::Close))
    }

    fn wake_at(&self) -> Option<Time> {
        let connect = self.schedule.as_ref().filter(|_| !self.free.is_empty()).and_then(Schedule::next_at);
        [connect, self.leaving.front().map(|&(at, _)| at)].into_iter().flatten().min()
    }

    fn sending_done(&self, now: Time) -> bool {
        let all_taken = self.schedule.as_ref().is_some_and(|schedule| schedule.next_at().is_none());
        all_taken && self.window.is_some_and(|window| now >= window.end)
    }

    fn drained(&self) -> bool {
        self.under_way == 0
    }

    fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }

    fn finish(mut self: Box<Self>) -> Tally {
        self.tally.lost += self.under_way;
        self.tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::window;

    const SECOND: u64 = 1_000_000_000;
    const TENTH: u64 = SECOND / 10;

    fn churn(members: usize) -> Box<Churn> {
        let share = Share { senders: members, workers: 1, worker: 0 };
        let mut churn = Box::new(Churn::new(share, 10.0, Arrivals::Constant, Duration::from_millis(150)));
        churn.start(window(Time(0), Duration::from_secs(1)));
        churn
    }

    #[test]
    fn members_connect_at_the_rate_stay_and_leave() {
        let mut churn = churn(2);
        assert_eq!((churn.next_connect(Time(0)), churn.next_connect(Time(0))), (Some(0), None));
        churn.opened(0, Time(TENTH / 2));
        assert_eq!(churn.wake_at(), Some(Time(TENTH)));
        assert_eq!(churn.next_connect(Time(TENTH)), Some(1));
        assert_eq!(churn.next_leave(Time(2 * TENTH - 1)), None);
        assert_eq!(churn.next_leave(Time(2 * TENTH)), Some((0, Leave::Close)));
        churn.gone(0, Time(2 * TENTH));
        assert_eq!(churn.next_connect(Time(2 * TENTH)), Some(0), "a place that is free again");
    }

    #[test]
    fn a_connect_that_had_to_wait_for_a_place_counts_from_its_time() {
        let mut churn = churn(1);
        churn.next_connect(Time(0)).unwrap();
        assert_eq!(churn.next_connect(Time(5 * TENTH)), None);
        churn.opened(0, Time(5 * TENTH));
        churn.next_leave(Time(7 * TENTH)).unwrap();
        churn.gone(0, Time(7 * TENTH));
        assert_eq!(churn.next_connect(Time(7 * TENTH)), Some(0), "meant for the first tenth");
        churn.opened(0, Time(8 * TENTH));
        let (latency, service) = (churn.tally.latency.quantiles(), churn.tally.service.quantiles());
        assert!((699_000.0..701_000.0).contains(&latency.unwrap().max), "{latency:?}");
        assert!((499_000.0..501_000.0).contains(&service.unwrap().max), "{service:?}");
    }

    #[test]
    fn waiting_for_the_server_is_no_lag_of_the_schedule() {
        let lag = |churn: &Churn| churn.tally.schedule_lag.quantiles().map(|lag| lag.max.round());
        let mut churn = churn(1);
        churn.next_connect(Time(0)).unwrap();
        churn.opened(0, Time(TENTH));
        churn.next_leave(Time(3 * TENTH)).unwrap();
        churn.gone(0, Time(7 * TENTH));
        // A tenth of a second of lag: that is how long the place was free before.
        assert_eq!(churn.next_connect(Time(8 * TENTH)), Some(0), "meant for the first tenth");
        assert!((99_000.0..101_000.0).contains(&lag(&churn).unwrap()), "{:?}", lag(&churn));
        churn.failed(0, Time(20 * TENTH));
        assert_eq!(churn.next_connect(Time(20 * TENTH)), Some(0), "long behind its time");
        assert_eq!(churn.tally.behind, Duration::ZERO, "for that, the server had a place too late");
        churn.failed(0, Time(21 * TENTH));
        churn.next_connect(Time(25 * TENTH)).unwrap();
        assert_eq!(churn.tally.behind, Duration::from_millis(400));
    }

    #[test]
    fn waiting_for_handshakes_under_way_is_no_lag_either() {
        let mut churn = churn(3);
        churn.next_connect(Time(0)).unwrap();
        churn.held_up();
        churn.opened(0, Time(9 * TENTH));
        churn.next_connect(Time(9 * TENTH)).unwrap();
        let lag = churn.tally.schedule_lag.quantiles().unwrap();
        assert!(lag.max < 1_000.0, "{lag:?}");
        churn.held_up();
        churn.stop(Time(50 * TENTH));
        assert_eq!(churn.tally.behind, Duration::ZERO, "what is due could not leave");
    }

    #[test]
    fn what_was_due_and_could_leave_is_behind_when_the_run_is_stopped() {
        let mut churn = churn(3);
        churn.next_connect(Time(0)).unwrap();
        churn.stop(Time(6 * TENTH));
        assert_eq!(churn.tally.behind, Duration::from_millis(500), "the second was meant for 100 ms");
    }

    #[test]
    fn connections_that_fail_or_never_open_are_lost() {
        let mut churn = churn(2);
        churn.next_connect(Time(SECOND)).unwrap();
        churn.next_connect(Time(SECOND)).unwrap();
        churn.failed(0, Time(SECOND));
        assert!(!churn.drained());
        assert_eq!(churn.finish().lost, 2);
    }
}
