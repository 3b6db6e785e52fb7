//! A part of a turn that may not take all of it.
//!
//! Owner: the shard's thread. A look at the clock costs about 30 ns, so it is taken only
//! after some work; a turn with little of that never looks.

use std::time::Duration;

use super::clock::Clock;
use crate::limits::{FLUSH_SLICE_US, FLUSHES_PER_LOOK, READ_BYTES_LEAST, READ_BYTES_PER_LOOK, READ_SLICE_US};
use crate::time::Time;

/// See the module.
#[derive(Debug)]
pub(super) struct Slice {
    clock: Clock,
    until: Time,
    work_per_look: usize,
    /// Work of each step at least.
    work_least: usize,
    /// Done since the last look.
    work: usize,
}

impl Slice {
    /// A slice of reads in a turn that began then. One with more haste ends sooner.
    pub(super) fn of_reads(clock: Clock, turn_began: Time, haste: u64) -> Self {
        let until = turn_began + Duration::from_micros(READ_SLICE_US / haste);
        Self { clock, until, work_per_look: READ_BYTES_PER_LOOK, work_least: READ_BYTES_LEAST, work: 0 }
    }

    /// A slice of flushes from now on.
    pub(super) fn of_flushes(clock: Clock) -> Self {
        let until = clock.now() + Duration::from_micros(FLUSH_SLICE_US);
        Self { clock, until, work_per_look: FLUSHES_PER_LOOK, work_least: 1, work: 0 }
    }

    /// Whether one more step was enough, of so much work beside the least.
    pub(super) fn is_over_after(&mut self, work: usize) -> bool {
        self.work += self.work_least + work;
        if self.work < self.work_per_look {
            return false;
        }
        self.work = 0;
        self.clock.now() >= self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_lasts_until_a_look_at_the_clock_after_its_time() {
        let slice = |until| Slice { clock: Clock::start(), until, work_per_look: 10, work_least: 1, work: 0 };
        let mut over = slice(Time::ZERO);
        let over: Vec<_> = [4, 3, 0, 8, 0].into_iter().map(|work| over.is_over_after(work)).collect();
        assert_eq!(over, [false, false, true, false, true], "at each look, and only then");
        let mut open = slice(Time(u64::MAX));
        assert!((0..1000).all(|_| !open.is_over_after(5)));
    }
}
