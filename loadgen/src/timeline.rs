//! Into which seconds and phases a run is divided, the same for all workers.
//!
//! Seconds begin with the window in which messages are sent; where a phase ends,
//! a shorter one ends with it. Plain arithmetic on times that are handed in.

use std::sync::Arc;
use std::time::Duration;

use wsgate::time::Time;

use crate::course::Course;

/// Name of the phase before the first message.
pub const CONNECT: &str = "connect";
/// Name of the phase after the last message, when answers are waited for.
pub const DRAIN: &str = "drain";

const SECOND: Duration = Duration::from_secs(1);

/// A part of a run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Phase {
    /// Its name in the report.
    pub name: Arc<str>,
    /// Messages that are meant for it are in the figures.
    pub measured: bool,
    /// It lasts until the next one begins.
    pub from: Time,
}

/// The division.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Timeline {
    /// A whole second.
    anchor: Time,
    /// In the order of their times; never empty.
    phases: Vec<Phase>,
}

impl Timeline {
    /// While it is not known when the first message will leave.
    pub fn connecting() -> Self {
        Self::new(Time::ZERO, vec![unmeasured(CONNECT, Time::ZERO)])
    }

    /// A run whose first message leaves at `start`.
    pub fn sending(course: &Course, start: Time) -> Self {
        let mut phases = vec![unmeasured(CONNECT, Time::ZERO)];
        let mut from = start;
        for phase in course.phases() {
            phases.push(Phase { name: phase.name.clone(), measured: phase.measured, from });
            from = from + phase.lasts;
        }
        phases.push(unmeasured(DRAIN, from));
        Self::new(start, phases)
    }

    /// Seconds counted from `anchor`, and phases in the order of their times.
    pub fn new(anchor: Time, phases: Vec<Phase>) -> Self {
        assert!(phases.first().is_some_and(|first| first.from == Time::ZERO), "every time has a phase");
        assert!(phases.is_sorted_by_key(|phase| phase.from), "phases are in the order of their times");
        Self { anchor, phases }
    }

    /// The first cut after `now`.
    pub fn next_cut(&self, now: Time) -> Time {
        let whole = match now >= self.anchor {
            true => self.anchor + SECOND * (now.since(self.anchor).as_secs() as u32 + 1),
            false => self.whole_before(now) + SECOND,
        };
        let anchor = (now < self.anchor).then_some(self.anchor);
        let phases = self.phases.iter().map(|phase| phase.from).filter(|&from| from > now);
        phases.chain(anchor).chain([whole]).min().expect("there is always a next second")
    }

    /// The last cut at `now` or before.
    pub fn last_cut(&self, now: Time) -> Time {
        let whole = match now >= self.anchor {
            true => self.anchor + SECOND * now.since(self.anchor).as_secs() as u32,
            false => self.whole_before(now),
        };
        self.phase_at(now).from.max(whole)
    }

    /// The phase at that time.
    pub fn phase_at(&self, at: Time) -> &Phase {
        self.phases.iter().rfind(|phase| phase.from <= at).unwrap_or(&self.phases[0])
    }

    /// Seconds after the first message; negative before it.
    pub fn seconds_at(&self, at: Time) -> f64 {
        (at.0 as f64 - self.anchor.0 as f64) / 1e9
    }

    /// Before the anchor, seconds count from the start of the clock.
    fn whole_before(&self, now: Time) -> Time {
        Time::ZERO + SECOND * now.since(Time::ZERO).as_secs() as u32
    }
}

fn unmeasured(name: &str, from: Time) -> Phase {
    Phase { name: name.into(), measured: false, from }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::course::{COOL_DOWN, MEASURED, WARM_UP};

    const fn at(millis: u64) -> Time {
        Time(millis * 1_000_000)
    }

    fn measured(start: Time, millis: u64) -> Timeline {
        Timeline::sending(&Course::steady(Duration::from_millis(millis)), start)
    }

    fn cuts(timeline: &Timeline, from: Time, until: Time) -> Vec<u64> {
        let mut cuts = Vec::new();
        let mut now = from;
        while now < until {
            now = timeline.next_cut(now);
            cuts.push(now.as_millis());
        }
        cuts
    }

    #[test]
    fn seconds_begin_with_the_first_message() {
        let timeline = measured(at(1_300), 2_500);
        assert_eq!(cuts(&timeline, at(0), at(5_000)), [1_000, 1_300, 2_300, 3_300, 3_800, 4_300, 5_300]);
        assert_eq!(timeline.seconds_at(at(3_300)), 2.0);
        assert_eq!(timeline.seconds_at(at(1_000)), -0.3);
    }

    #[test]
    fn the_last_cut_is_the_one_that_next_cut_gave() {
        let timeline = measured(at(1_300), 2_500);
        for (now, cut) in
            [(0, 0), (999, 0), (1_299, 1_000), (1_300, 1_300), (3_299, 2_300), (3_800, 3_800), (4_299, 3_800)]
        {
            assert_eq!(timeline.last_cut(at(now)), at(cut), "at {now} ms");
        }
    }

    #[test]
    fn what_is_not_measured_has_seconds_of_its_own() {
        let millis = Duration::from_millis;
        let timeline = Timeline::sending(&Course::plain(millis(1_500), millis(2_000), millis(500)), at(1_000));
        assert_eq!(cuts(&timeline, at(1_000), at(5_000)), [2_000, 2_500, 3_000, 4_000, 4_500, 5_000]);
        for (now, name) in [(1_000, WARM_UP), (2_500, MEASURED), (4_499, MEASURED), (4_500, COOL_DOWN), (5_000, DRAIN)]
        {
            let phase = timeline.phase_at(at(now));
            assert_eq!((&*phase.name, phase.measured), (name, name == MEASURED), "at {now} ms");
        }
    }

    #[test]
    fn every_time_has_a_phase() {
        let timeline = measured(at(1_300), 2_000);
        for (now, name) in [(0, CONNECT), (1_299, CONNECT), (1_300, MEASURED), (3_299, MEASURED), (3_300, DRAIN)] {
            assert_eq!(&*timeline.phase_at(at(now)).name, name, "at {now} ms");
        }
    }
}
