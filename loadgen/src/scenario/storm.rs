//! All connections drop at once and come back: how long until all are served again?
//!
//! Storms are spread evenly over the run, at the same times on all workers. What is
//! counted as a message elsewhere is a return here: sent when the connection is cut,
//! received when it is served again, lost if it is not by the next storm.

use std::collections::VecDeque;
use std::time::Duration;

use wsgate::time::Time;

use super::{Leave, Scenario};
use crate::payload::Stamp;
use crate::schedule::Window;
use crate::tally::Tally;

/// A client whose return failed tries again after that.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// The storm scenario's part on one worker.
#[derive(Debug)]
pub struct Storm {
    times: u32,
    is_live: Vec<bool>,
    /// The storm that cut each member last, counted from 1.
    cut_by: Vec<u32>,
    live: usize,
    /// Storms that have begun.
    begun: u32,
    /// When the last one did.
    since: Time,
    /// Members that it is to cut.
    cutting: Vec<usize>,
    /// Who connects again when, the first one first.
    returning: VecDeque<(Time, usize)>,
    /// Members that it has cut and that are not back.
    missing: u64,
    window: Option<Window>,
    tally: Tally,
}

impl Storm {
    /// That many members, and that many storms in the run.
    pub fn new(members: usize, times: u32) -> Self {
        Self {
            times,
            is_live: vec![false; members],
            cut_by: vec![0; members],
            live: 0,
            begun: 0,
            since: Time::ZERO,
            cutting: Vec::new(),
            returning: VecDeque::new(),
            missing: 0,
            window: None,
            tally: Tally::default(),
        }
    }

    fn next_storm(&self) -> Option<Time> {
        let window = self.window.filter(|_| self.begun < self.times)?;
        let at = window.start + window.end.since(window.start) / self.times * self.begun;
        (at < window.end).then_some(at)
    }

    /// Who should be back from the storm before is lost to it.
    fn begin(&mut self, at: Time) {
        self.tally.lost += self.missing;
        self.missing = 0;
        self.begun += 1;
        self.since = at;
        self.cutting = (0..self.is_live.len()).filter(|&member| self.is_live[member]).collect();
    }
}

impl Scenario for Storm {
    fn opened(&mut self, member: usize, now: Time) {
        self.is_live[member] = true;
        self.live += 1;
        // Before the first storm, or from one that was given up.
        let is_awaited = self.begun > 0 && self.cut_by[member] == self.begun;
        let Some(window) = self.window.filter(|_| is_awaited) else { return };
        let stamp = Stamp { sender: 0, sequence: 0, intended: self.since, sent: self.since };
        self.tally.count_received(&window, stamp, false, now);
        self.missing -= 1;
        if self.missing == 0 {
            self.tally.count_recovery(self.begun as usize - 1, now.since(self.since));
        }
    }

    fn gone(&mut self, member: usize, _now: Time) {
        self.is_live[member] = false;
        self.live -= 1;
    }

    fn failed(&mut self, member: usize, now: Time) {
        if self.begun > 0 {
            self.returning.push_back((now + RETRY_AFTER, member));
        }
    }

    fn start(&mut self, window: Window) {
        self.window = Some(window);
    }

    fn stop(&mut self, now: Time) {
        self.window = self.window.map(|window| window.until(now));
        self.times = self.begun;
    }

    fn message(&mut self, _member: usize, _payload: &[u8], _now: Time) -> bool {
        self.tally.foreign += 1;
        false
    }

    fn next_send(&mut self, _now: Time) -> Option<(usize, Stamp)> {
        None
    }

    fn next_connect(&mut self, now: Time) -> Option<usize> {
        self.returning.pop_front_if(|&mut (at, _)| at <= now).map(|(_, member)| member)
    }

    fn next_leave(&mut self, now: Time) -> Option<(usize, Leave)> {
        if self.cutting.is_empty() {
            let at = self.next_storm().filter(|&at| at <= now)?;
            self.begin(at);
        }
        let member = self.cutting.pop()?;
        self.missing += 1;
        self.cut_by[member] = self.begun;
        self.returning.push_back((now, member));
        if let Some(window) = &self.window {
            self.tally.count_sent(window, self.since);
        }
        Some((member, Leave::Cut))
    }

    fn wake_at(&self) -> Option<Time> {
        [self.next_storm(), self.returning.front().map(|&(at, _)| at)].into_iter().flatten().min()
    }

    fn sending_done(&self, now: Time) -> bool {
        (self.live == 0 && self.begun == 0) || self.window.is_some_and(|window| now >= window.end)
    }

    fn drained(&self) -> bool {
        self.missing == 0
    }

    fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }

    fn finish(mut self: Box<Self>) -> Tally {
        self.tally.lost += self.missing;
        self.tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::window;

    const SECOND: u64 = 1_000_000_000;

    /// Two members that are connected, and two storms in ten seconds.
    fn storm() -> Box<Storm> {
        let mut storm = Box::new(Storm::new(2, 2));
        storm.opened(0, Time(0));
        storm.opened(1, Time(0));
        storm.start(window(Time(SECOND), Duration::from_secs(10)));
        storm
    }

    fn cut_all(storm: &mut Storm, now: u64) -> Vec<usize> {
        std::iter::from_fn(|| {
            let (member, Leave::Cut) = storm.next_leave(Time(now))? else { panic!("closed in words") };
            storm.gone(member, Time::ZERO);
            Some(member)
        })
        .collect()
    }

    #[test]
    fn all_drop_at_once_and_the_last_one_back_ends_the_storm() {
        let mut storm = storm();
        assert_eq!(storm.wake_at(), Some(Time(SECOND)));
        assert!(cut_all(&mut storm, SECOND - 1).is_empty());
        assert_eq!(cut_all(&mut storm, SECOND).len(), 2);
        let back: Vec<_> = std::iter::from_fn(|| storm.next_connect(Time(SECOND))).collect();
        assert_eq!(back.len(), 2);
        storm.opened(back[0], Time(2 * SECOND));
        storm.failed(back[1], Time(2 * SECOND));
        assert_eq!(storm.next_connect(Time(2 * SECOND)), None);
        assert_eq!(storm.next_connect(Time(2 * SECOND) + RETRY_AFTER), Some(back[1]));
        assert!(!storm.drained());
        storm.opened(back[1], Time(3 * SECOND));
        assert!(storm.drained());
        assert_eq!(storm.wake_at(), Some(Time(6 * SECOND)), "the second storm");
        let tally = storm.finish();
        assert_eq!(tally.recoveries, [Duration::from_secs(2)]);
        assert_eq!((tally.sent, tally.received, tally.lost), (2, 2, 0));
    }

    #[test]
    fn who_is_not_back_by_the_next_storm_is_lost() {
        let mut storm = storm();
        cut_all(&mut storm, SECOND);
        storm.opened(0, Time(2 * SECOND));
        assert_eq!(cut_all(&mut storm, 6 * SECOND), [0]);
        assert!(storm.sending_done(Time(11 * SECOND)));
        let tally = storm.finish();
        assert_eq!((tally.sent, tally.received, tally.lost), (3, 1, 2));
        assert_eq!(tally.recoveries, [] as [Duration; 0]);
    }
}
