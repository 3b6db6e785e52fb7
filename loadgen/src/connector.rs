//! Who connects next, and when: the ramp, and the handshakes under way.
//!
//! Owner: one worker. The pace is shared by all of them. Knows no socket.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use wsgate::time::Time;

use crate::limits::{HANDSHAKES_PENDING_MAX, HOPELESS_FAILURES};
use crate::schedule::Pacer;

/// The ramp of one worker.
#[derive(Debug)]
pub struct Connector {
    pacer: Arc<Mutex<Pacer>>,
    /// From connect to 101.
    timeout: Duration,
    members: usize,
    next: usize,
    under_way: usize,
    succeeded: bool,
    failed: usize,
    /// In the order of their deadlines; those that are done are skipped later.
    deadlines: VecDeque<Deadline>,
    /// When to try the next one; `None`: when a handshake under way has ended.
    try_at: Option<Time>,
}

/// By when a handshake must be complete.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Deadline {
    /// Where the connection is kept.
    pub slot: usize,
    /// Whose it is: slots are used again.
    pub member: usize,
    /// The time at which it fails.
    pub at: Time,
}

impl Connector {
    /// Members 0 to `members`, at the pace that all workers share. A handshake may
    /// take `timeout` from the first SYN on.
    pub fn new(members: usize, pacer: Arc<Mutex<Pacer>>, timeout: Duration) -> Self {
        Self {
            pacer,
            timeout,
            members,
            next: 0,
            under_way: 0,
            succeeded: false,
            failed: 0,
            deadlines: VecDeque::new(),
            try_at: Some(Time::ZERO),
        }
    }

    /// The member that may connect now.
    pub fn next(&mut self, now: Time) -> Option<usize> {
        self.try_at = None;
        if self.next == self.members || self.under_way >= HANDSHAKES_PENDING_MAX {
            return None;
        }
        if !self.succeeded && self.failed >= HOPELESS_FAILURES {
            self.next = self.members; // Nothing is served there: enough was tried.
            return None;
        }
        let permit = self.pacer.lock().expect("no worker panics while it holds the pace").take(now);
        if let Err(later) = permit {
            self.try_at = Some(later);
            return None;
        }
        self.try_at = Some(now);
        self.next += 1;
        self.under_way += 1;
        Some(self.next - 1)
    }

    /// Whether one more handshake may begin now that is none of the ramp's; it has then.
    pub fn admit(&mut self) -> bool {
        let admits = self.under_way < HANDSHAKES_PENDING_MAX;
        self.under_way += usize::from(admits);
        admits
    }

    /// The handshake that was admitted does not begin.
    pub fn withdraw(&mut self) {
        self.under_way -= 1;
    }

    /// The connect of `member` is under way, in `slot`.
    pub fn begun(&mut self, slot: usize, member: usize, now: Time) {
        self.deadlines.push_back(Deadline { slot, member, at: now + self.timeout });
    }

    /// A handshake came to its end, well or not.
    pub fn ended(&mut self, well: bool) {
        self.under_way -= 1;
        self.succeeded |= well;
        self.failed += usize::from(!well);
    }

    /// A deadline that has passed; its handshake may be complete.
    pub fn overdue(&mut self, now: Time) -> Option<Deadline> {
        self.deadlines.pop_front_if(|deadline| deadline.at <= now)
    }

    /// No more members connect, from now on.
    pub fn stop(&mut self) {
        self.next = self.members;
        self.deadlines.clear();
    }

    /// Every member is open or has failed.
    pub fn is_done(&self) -> bool {
        self.next == self.members && self.under_way == 0
    }

    /// When there is something to do again.
    pub fn wake_at(&self) -> Option<Time> {
        if self.is_done() {
            return None;
        }
        [self.try_at, self.deadlines.front().map(|deadline| deadline.at)].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    fn connector(members: usize, rate: f64) -> Connector {
        Connector::new(members, Arc::new(Mutex::new(Pacer::new(rate))), TIMEOUT)
    }

    #[test]
    fn members_connect_at_the_pace_and_the_next_time_is_named() {
        let mut connector = connector(3, 10.0);
        assert_eq!(connector.wake_at(), Some(Time::ZERO), "there is something to begin with");
        assert_eq!(connector.next(Time(0)), Some(0));
        assert_eq!(connector.next(Time(0)), None);
        assert_eq!(connector.wake_at(), Some(Time(100_000_000)));
        assert_eq!(connector.next(Time(100_000_000)), Some(1));
        assert_eq!(connector.next(Time(200_000_000)), Some(2));
        assert_eq!(connector.next(Time(300_000_000)), None);
        (0..3).for_each(|_| connector.ended(true));
        assert!(connector.is_done());
        assert_eq!(connector.wake_at(), None);
    }

    #[test]
    fn handshakes_under_way_are_bounded() {
        let mut connector = connector(10_000, 1e7);
        let begun = std::iter::from_fn(|| connector.next(Time(1_000_000_000))).count();
        assert_eq!(begun, HANDSHAKES_PENDING_MAX);
        connector.ended(true);
        assert!(connector.next(Time(2_000_000_000)).is_some());
    }

    #[test]
    fn handshakes_beside_the_ramp_share_its_bound() {
        let mut connector = connector(1, 1e7);
        assert_eq!(connector.next(Time(0)), Some(0));
        assert_eq!(std::iter::from_fn(|| connector.admit().then_some(())).count(), HANDSHAKES_PENDING_MAX - 1);
        connector.withdraw();
        assert!(connector.admit() && !connector.admit());
        assert!(!connector.is_done());
        (0..HANDSHAKES_PENDING_MAX).for_each(|_| connector.ended(true));
        assert!(connector.is_done());
    }

    #[test]
    fn a_server_that_is_not_there_is_not_tried_for_every_member() {
        let mut connector = connector(10_000, 1e7);
        let mut tried = 0;
        while connector.next(Time(tried * 1_000_000)).is_some() {
            connector.ended(false);
            tried += 1;
        }
        assert_eq!(tried, HOPELESS_FAILURES as u64);
        assert!(connector.is_done());
    }

    #[test]
    fn deadlines_pass_in_order() {
        let mut connector = connector(2, 1e7);
        connector.next(Time(0));
        connector.begun(7, 0, Time(0));
        let due = Time(0) + TIMEOUT;
        assert_eq!(connector.overdue(Time(due.0 - 1)), None);
        assert_eq!(connector.overdue(due), Some(Deadline { slot: 7, member: 0, at: due }));
        assert_eq!(connector.overdue(due), None);
    }
}
