//! Every connection sends messages and expects each of them back.

use wsgate::time::Time;

use super::{Pace, Scenario};
use crate::course::Course;
use crate::order::{Arrival, Tracker};
use crate::payload::{Payload, Reading, SEQUENCE_MAX, Stamp};
use crate::schedule::{Arrivals, Schedule, Share, Window};
use crate::tally::Tally;

/// The echo scenario's part on one worker.
#[derive(Debug)]
pub struct Echo {
    payload: Payload,
    share: Share,
    pace: Pace,
    arrivals: Arrivals,
    course: Course,
    members: Vec<Member>,
    live: usize,
    window: Option<Window>,
    /// Open loop: the times.
    schedule: Option<Schedule>,
    /// Closed loop: first messages of the members' windows that are still to be sent.
    opening: std::ops::Range<u64>,
    /// Messages of live members that are not answered.
    outstanding: u64,
    tally: Tally,
}

#[derive(Default, Debug)]
struct Member {
    live: bool,
    sent: u32,
    answers: Tracker,
}

impl Member {
    fn outstanding(&self) -> u64 {
        u64::from(self.sent) - self.answers.arrived_count()
    }
}

impl Echo {
    /// The members of `share`, whose senders are the connections.
    pub fn new(payload: Payload, share: Share, pace: Pace, arrivals: Arrivals) -> Self {
        let members = (0..share.local_senders()).map(|_| Member::default()).collect();
        Self {
            payload,
            share,
            pace,
            arrivals,
            course: Course::default(),
            members,
            live: 0,
            window: None,
            schedule: None,
            opening: 0..0,
            outstanding: 0,
            tally: Tally::default(),
        }
    }

    /// The same with the load of that course.
    pub fn over(mut self, course: Course) -> Self {
        self.course = course;
        self
    }

    /// The next message waits for an answer.
    fn is_closed(&self) -> bool {
        matches!(self.pace, Pace::Closed { .. })
    }

    fn stamp(&mut self, member: usize, intended: Time, now: Time) -> Option<Stamp> {
        let window = self.window?;
        let sender = self.share.sender(member) as u32;
        let member = &mut self.members[member];
        if !member.live || member.sent > SEQUENCE_MAX {
            return None;
        }
        let stamp = Stamp { sender, sequence: member.sent, intended, sent: now };
        member.sent += 1;
        self.outstanding += 1;
        self.tally.count_sent(&window, intended);
        Some(stamp)
    }

    /// The member itself, or the next one that is still connected: the offered load
    /// stays what was asked for while this worker has any connection.
    fn live_from(&self, member: usize) -> Option<usize> {
        let order = (member..self.members.len()).chain(0..member);
        order.into_iter().find(|&member| self.members[member].live)
    }
}

impl Scenario for Echo {
    fn opened(&mut self, member: usize, _now: Time) {
        self.members[member].live = true;
        self.live += 1;
    }

    fn gone(&mut self, member: usize, _now: Time) {
        self.members[member].live = false;
        self.live -= 1;
        self.outstanding -= self.members[member].outstanding();
    }

    fn start(&mut self, window: Window) {
        self.window = Some(window);
        match self.pace {
            Pace::Open { rate } => {
                let profile = self.course.profile(rate);
                self.schedule = Some(Schedule::new(window, profile, self.arrivals, self.share));
            }
            Pace::Closed { in_flight } => self.opening = 0..u64::from(in_flight) * self.members.len() as u64,
        }
    }

    fn stop(&mut self, now: Time) {
        self.window = self.window.map(|window| window.until(now));
        let due = self.schedule.as_mut().and_then(|schedule| schedule.stop(now));
        if let Some(due) = due.filter(|_| self.live > 0) {
            self.tally.count_abandoned(due, now);
        }
    }

    fn message(&mut self, member: usize, payload: &[u8], now: Time) -> bool {
        let reading = self.payload.read(payload);
        let stamp = match reading {
            Reading::Ours(stamp) | Reading::Corrupted(Some(stamp)) => stamp,
            Reading::Corrupted(None) => {
                // Which one it was cannot be told, so that one will count as lost too.
                self.tally.corrupted += 1;
                return self.is_closed();
            }
            Reading::Foreign => {
                self.tally.foreign += 1;
                return false;
            }
        };
        if stamp.sender as usize != self.share.sender(member) || stamp.sequence >= self.members[member].sent {
            self.tally.foreign += 1;
            return false;
        }
        let arrival = self.members[member].answers.arrived(stamp.sequence);
        if arrival == Arrival::Duplicate {
            self.tally.duplicated += 1;
            return false;
        }
        self.outstanding -= 1;
        let Some(window) = self.window else { unreachable!("a message that was sent has a window") };
        self.tally.reordered += u64::from(arrival == Arrival::Late);
        if matches!(reading, Reading::Ours(_)) {
            self.tally.count_received(&window, stamp, self.pace.is_open(), now);
        } else {
            self.tally.corrupted += 1;
        }
        self.is_closed()
    }

    fn next_of(&mut self, member: usize, now: Time) -> Option<Stamp> {
        self.window.filter(|window| now < window.end)?;
        self.stamp(member, now, now)
    }

    fn next_send(&mut self, now: Time) -> Option<(usize, Stamp)> {
        let window = self.window.filter(|window| now >= window.start)?;
        if let Some(schedule) = &mut self.schedule {
            let (member, intended) = schedule.take(now)?;
            let member = self.live_from(member)?;
            self.tally.count_lag(&window, intended, now);
            return Some((member, self.stamp(member, intended, now)?));
        }
        if now >= window.end {
            return None;
        }
        loop {
            let member = (self.opening.next()? % self.members.len() as u64) as usize;
            if let Some(stamp) = self.stamp(member, now, now) {
                return Some((member, stamp));
            }
        }
    }

    fn wake_at(&self) -> Option<Time> {
        match &self.schedule {
            _ if self.live == 0 => None,
            Some(schedule) => schedule.next_at(),
            None if self.opening.is_empty() => None,
            None => self.window.map(|window| window.start),
        }
    }

    fn sending_done(&self, now: Time) -> bool {
        match &self.schedule {
            _ if self.live == 0 => true,
            Some(schedule) if schedule.next_at().is_some() => false,
            _ => self.window.is_some_and(|window| now >= window.end),
        }
    }

    fn drained(&self) -> bool {
        self.outstanding == 0
    }

    fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }

    fn finish(mut self: Box<Self>) -> Tally {
        self.tally.lost = self.members.iter().map(Member::outstanding).sum();
        self.tally
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::schedule::window;

    const SHARE: Share = Share { senders: 2, workers: 1, worker: 0 };

    fn echo(pace: Pace) -> (Box<Echo>, Payload) {
        let payload = Payload::new(5, 64, pace.is_open());
        let mut echo = Box::new(Echo::new(payload.clone(), SHARE, pace, Arrivals::Constant));
        echo.opened(0, Time(0));
        echo.opened(1, Time(0));
        echo.start(window(Time(1_000), Duration::from_secs(1)));
        (echo, payload)
    }

    fn sends(echo: &mut Echo, now: Time) -> Vec<(usize, Stamp)> {
        std::iter::from_fn(|| echo.next_send(now)).collect()
    }

    fn bytes(payload: &Payload, stamp: Stamp) -> Vec<u8> {
        let mut bytes = Vec::new();
        payload.append(&mut bytes, stamp);
        bytes
    }

    #[test]
    fn closed_loop_keeps_the_window_full_until_the_end() {
        let (mut echo, payload) = echo(Pace::Closed { in_flight: 3 });
        assert_eq!(sends(&mut echo, Time(999)), []);
        let first = sends(&mut echo, Time(1_000));
        assert_eq!(first.len(), 6);
        assert!(echo.message(0, &bytes(&payload, first[0].1), Time(2_000)));
        let next = echo.next_of(0, Time(2_048)).unwrap();
        assert_eq!((next.sequence, next.intended), (3, Time(2_048)));
        assert!(echo.sending_done(Time(1_000_001_000)));
        echo.message(0, &bytes(&payload, first[2].1), Time(1_000_001_000));
        assert_eq!(echo.next_of(0, Time(1_000_001_000)), None);
        assert!(!echo.drained());
        let tally = echo.finish();
        assert_eq!((tally.sent, tally.received, tally.lost), (7, 2, 5));
    }

    #[test]
    fn open_loop_counts_latency_from_the_intended_send() {
        let (mut echo, payload) = echo(Pace::Open { rate: 10.0 });
        // The worker was held up for 350 ms: four messages leave late.
        let late = sends(&mut echo, Time(350_001_000));
        assert_eq!(late.iter().map(|&(member, _)| member).collect::<Vec<_>>(), [0, 1, 0, 1]);
        echo.message(0, &bytes(&payload, late[0].1), Time(360_001_000));
        let tally = echo.finish();
        assert!(tally.latency.quantiles().unwrap().max >= 359_000.0);
        assert!(tally.schedule_lag.quantiles().unwrap().max >= 349_000.0);
    }

    #[test]
    fn what_was_due_when_a_run_is_stopped_is_behind() {
        let open = Pace::Open { rate: 10.0 };
        let (mut late, _) = echo(open);
        sends(&mut late, Time(350_001_000));
        late.stop(Time(550_001_000));
        assert_eq!(late.tally.behind, Duration::from_millis(150), "the fifth was meant for 400 ms");
        let (mut in_time, _) = echo(open);
        sends(&mut in_time, Time(350_001_000));
        in_time.stop(Time(350_002_000));
        assert_eq!(in_time.tally.behind, Duration::ZERO);
        let (mut alone, _) = echo(open);
        (0..2).for_each(|member| alone.gone(member, Time::ZERO));
        alone.stop(Time(550_001_000));
        assert_eq!(alone.tally.behind, Duration::ZERO, "nobody was there to send it");
    }

    #[test]
    fn each_fault_is_counted_as_what_it_is() {
        let (mut echo, payload) = echo(Pace::Open { rate: 10.0 });
        let sent: Vec<_> = sends(&mut echo, Time(999_000_000)).into_iter().filter(|&(member, _)| member == 0).collect();
        let message = |i: usize| bytes(&payload, sent[i].1);
        echo.message(0, &message(1), Time(1_000_000_000)); // 0 not yet: out of order
        echo.message(0, &message(0), Time(1_000_000_000));
        echo.message(0, &message(0), Time(1_000_000_000)); // again
        let mut changed = message(2);
        changed[40] ^= 1;
        echo.message(0, &changed, Time(1_000_000_000));
        echo.message(1, &message(3), Time(1_000_000_000)); // on the wrong connection
        echo.message(0, b"hello", Time(1_000_000_000));
        let tally = echo.finish();
        assert_eq!((tally.sent, tally.received, tally.reordered, tally.duplicated), (10, 2, 1, 1));
        assert_eq!((tally.corrupted, tally.foreign, tally.lost), (1, 2, 7));
    }

    #[test]
    fn the_load_of_a_dead_connection_passes_to_a_live_one() {
        let (mut echo, _) = echo(Pace::Open { rate: 10.0 });
        echo.gone(0, Time::ZERO);
        assert!(sends(&mut echo, Time(400_000_000)).iter().all(|&(member, _)| member == 1));
        echo.gone(1, Time::ZERO);
        assert!(echo.sending_done(Time(400_000_000)) && echo.drained());
        assert_eq!(sends(&mut echo, Time(900_000_000)), []);
        assert_eq!(echo.finish().lost, 4, "unanswered when the connections ended");
    }
}
