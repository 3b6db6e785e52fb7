//! How what a worker counted gets to the main thread, about each second.
//!
//! Owner: the worker. It counts into one set of counters and histograms while the
//! main thread reads another; at a cut they change places. So a message costs no
//! lock and no second recording, and nothing is allocated while the run lasts.

use std::sync::mpsc::{Receiver, Sender};

use wsgate::time::Time;

use crate::shared::{Counts, Reporter};
use crate::tally::{Connections, Outcome, Tally};
use crate::timeline::Timeline;

/// What one worker counted in an interval.
#[derive(Debug)]
pub struct Interval {
    /// Number of the worker.
    pub worker: usize,
    /// When the interval was meant to begin: a cut of the timeline.
    pub from: Time,
    /// When it ended.
    pub until: Time,
    /// What was counted, and nothing from before.
    pub outcome: Box<Outcome>,
}

/// The worker's end.
#[derive(Debug)]
pub struct Handover {
    timeline: Timeline,
    from: Time,
    cut_at: Time,
    /// Empty sets that came back.
    returned: Receiver<Box<Outcome>>,
    spare: Option<Box<Outcome>>,
    /// The sum of what was handed over.
    before: Counts,
}

impl Handover {
    /// Cuts from `now` on. Sets that were read come back by `returned`.
    pub fn new(timeline: Timeline, now: Time, returned: Receiver<Box<Outcome>>) -> Self {
        let (from, cut_at) = (timeline.last_cut(now), timeline.next_cut(now));
        Self { timeline, from, cut_at, returned, spare: Some(Box::default()), before: Counts::default() }
    }

    /// From now on, cuts are made there.
    pub fn follow(&mut self, timeline: Timeline, now: Time) {
        self.cut_at = timeline.next_cut(now);
        self.timeline = timeline;
    }

    /// When the next cut is due.
    pub fn cut_at(&self) -> Time {
        self.cut_at
    }

    /// Hands over what was counted and leaves empty counters in its place, if it is
    /// time. Without a set to leave, because the main thread is behind, the interval
    /// becomes longer.
    pub fn cut(&mut self, now: Time, tally: &mut Tally, connections: &mut Connections, reporter: &Reporter) {
        if now < self.cut_at {
            return;
        }
        let until = self.timeline.last_cut(now);
        self.cut_at = self.timeline.next_cut(now);
        let Some(mut outcome) = self.spare.take().or_else(|| self.returned.try_recv().ok()) else { return };
        self.before = self.counts(tally, connections);
        std::mem::swap(&mut outcome.tally, tally);
        std::mem::swap(&mut outcome.connections, connections);
        reporter.hand_over(Interval { worker: reporter.worker, from: self.from, until, outcome });
        self.from = until;
    }

    /// Hands over the last part.
    pub fn finish(self, now: Time, outcome: Outcome, reporter: &Reporter) {
        let outcome = Box::new(outcome);
        reporter.hand_over(Interval { worker: reporter.worker, from: self.from, until: now, outcome });
    }

    /// What was counted since the run began.
    pub fn counts(&self, tally: &Tally, connections: &Connections) -> Counts {
        let Connections { opened, failures, .. } = connections;
        let (sent, received) = (tally.sent_total(), tally.received_total());
        self.before + Counts { opened: *opened, failed: failures.total(), sent, received }
    }
}

/// The main thread's way to give a set back to its worker.
pub type Return = Sender<Box<Outcome>>;

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::course::Course;
    use crate::shared::Notice;

    #[test]
    fn what_was_counted_is_handed_over_once_and_nothing_is_left_out() {
        let (notices, received) = mpsc::channel();
        let (give_back, returned) = mpsc::channel();
        let reporter = Reporter { worker: 0, notices };
        let timeline = Timeline::sending(&Course::steady(Duration::from_secs(10)), Time::ZERO);
        let mut handover = Handover::new(timeline, Time::ZERO, returned);
        let (mut tally, mut connections) = (Tally::default(), Connections::default());
        let mut handed_over = Vec::new();
        for (second, give) in [(1, false), (2, false), (3, true), (4, false)] {
            tally.sent += 1 << second;
            connections.opened += 1;
            // A turn before the cut hands nothing over.
            handover.cut(Time(second * 1_000_000_000 - 1), &mut tally, &mut connections, &reporter);
            handover.cut(Time(second * 1_000_000_000 + 5), &mut tally, &mut connections, &reporter);
            for notice in received.try_iter() {
                let Notice::Interval(Interval { from, until, mut outcome, .. }) = notice else { panic!("{notice:?}") };
                handed_over.push((from.as_millis(), until.as_millis(), outcome.tally.sent, outcome.connections.opened));
                outcome.reset();
                if give {
                    give_back.send(outcome).unwrap();
                }
            }
            if second == 2 {
                give_back.send(Box::default()).unwrap();
            }
            assert_eq!(handover.counts(&tally, &connections).opened, second);
        }
        assert_eq!(handed_over, [(0, 1_000, 2, 1), (1_000, 3_000, 4 + 8, 2), (3_000, 4_000, 16, 1)]);
    }
}
