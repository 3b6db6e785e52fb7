//! Clients that connect at a rate, stay for a while, and leave.
//!
//! What is counted as a message elsewhere is a connection here: sent when it begins to
//! connect, received when its handshake is complete, lost if it never is. Latency counts
//! from the time at which it was meant to connect, also if all members were still busy.
//! The lag of the schedule counts from when it could have connected, had loadgen never
//! been late; `places` knows that.

use std::time::Duration;

use wsgate::time::Time;

use super::places::Places;
use super::{Leave, Scenario};
use crate::course::Course;
use crate::limits::CHURN_LOOK_INTERVAL;
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
    /// One for each member.
    places: Places,
    /// What the connection under way of each member was meant for.
    stamps: Vec<Stamp>,
    window: Option<Window>,
    schedule: Option<Schedule>,
    /// When to look at the latest whether a connect that is due may begin.
    look_again_at: Time,
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
            places: Places::new(members, stay),
            stamps: vec![nothing; members],
            window: None,
            schedule: None,
            look_again_at: Time::ZERO,
            tally: Tally::default(),
        }
    }

    /// The same with the load of that course.
    pub fn over(mut self, course: Course) -> Self {
        self.course = course;
        self
    }

    /// Takes the next connect, if it is due and may begin.
    fn take(&mut self, now: Time) -> Option<usize> {
        let (schedule, window) = (self.schedule.as_mut()?, self.window?);
        if !self.places.admit() {
            return None;
        }
        let (_, intended) = schedule.take(now)?;
        let (member, able) = self.places.take(intended, now)?;
        self.stamps[member] = Stamp { sender: 0, sequence: 0, intended, sent: now };
        self.tally.count_sent(&window, intended);
        self.tally.count_own_lag(&window, intended, able, now);
        Some(member)
    }
}

impl Scenario for Churn {
    fn opened(&mut self, member: usize, now: Time) {
        if let Some(window) = &self.window {
            self.tally.count_received(window, self.stamps[member], true, now);
        }
        self.places.opened(member, now);
    }

    fn gone(&mut self, member: usize, now: Time) {
        self.places.ended(member, now);
    }

    fn failed(&mut self, member: usize, now: Time) {
        self.tally.lost += 1;
        self.places.ended(member, now);
    }

    fn start(&mut self, window: Window) {
        self.window = Some(window);
        self.schedule = Some(Schedule::new(window, self.course.profile(self.rate), self.arrivals, self.share));
    }

    fn stop(&mut self, now: Time) {
        self.window = self.window.map(|window| window.until(now));
        if let Some(due) = self.schedule.as_mut().and_then(|schedule| schedule.stop(now)) {
            self.tally.count_abandoned(due.max(self.places.able_since(now)), now);
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
        let member = self.take(now);
        self.look_again_at = now + CHURN_LOOK_INTERVAL;
        // Where more is due than one turn may begin, that is at once.
        self.places.look_at(self.wake_at().map(|at| at.max(now)));
        member
    }

    fn held_up(&mut self, now: Time) {
        self.look_again_at = now + CHURN_LOOK_INTERVAL;
        self.places.look_at(self.wake_at());
    }

    fn next_leave(&mut self, now: Time) -> Option<(usize, Leave)> {
        Some((self.places.next_leave(now)?, Leave::Close))
    }

    fn wake_at(&self) -> Option<Time> {
        let due = self.schedule.as_ref().and_then(Schedule::next_at);
        // Where nothing but the server is waited for, nothing else would show that loadgen slept.
        let connect = due.map(|at| if self.places.admit() { at } else { at.max(self.look_again_at) });
        [connect, self.places.next_leave_at()].into_iter().flatten().min()
    }

    fn sending_done(&self, now: Time) -> bool {
        let all_taken = self.schedule.as_ref().is_some_and(|schedule| schedule.next_at().is_none());
        all_taken && self.window.is_some_and(|window| now >= window.end)
    }

    fn drained(&self) -> bool {
        self.places.connecting() == 0
    }

    fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }

    fn finish(mut self: Box<Self>) -> Tally {
        self.tally.lost += self.places.connecting() as u64;
        self.tally
    }
}

#[cfg(test)]
#[path = "churn_tests.rs"]
mod tests;
