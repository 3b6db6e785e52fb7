//! A part of a turn that may not take all of it.
//!
//! Owner: the shard's thread. A look at the clock costs about 30 ns, so it is taken only
//! after some work; a turn with little of that never looks.

use std::time::Duration;

use super::clock::Clock;
use crate::time::Time;

/// See the module.
#[derive(Debug)]
pub(super) struct Slice {
    clock: Clock,
    length: Duration,
    work_per_look: usize,
    /// Done since the last look.
    work: usize,
    /// Known from the first look on, where it begins to count.
    until: Option<Time>,
}

impl Slice {
    /// A slice of so many microseconds, with a look at the clock after so much work.
    pub(super) fn new(clock: Clock, length_us: u64, work_per_look: usize) -> Self {
        Self { clock, length: Duration::from_micros(length_us), work_per_look, work: 0, until: None }
    }

    /// Whether that much more work was enough.
    pub(super) fn is_over_after(&mut self, work: usize) -> bool {
        self.work += work;
        if self.work < self.work_per_look {
            return false;
        }
        self.work = 0;
        let now = self.clock.now();
        now >= *self.until.get_or_insert(now + self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_lasts_until_a_look_at_the_clock_after_its_time() {
        let mut slice = Slice::new(Clock::start(), 0, 10);
        let over: Vec<_> = [4, 5, 1, 9, 1].into_iter().map(|work| slice.is_over_after(work)).collect();
        assert_eq!(over, [false, false, true, false, true], "at each look, and only then");
        let mut slice = Slice::new(Clock::start(), 3_600_000_000, 1);
        assert!((0..1000).all(|_| !slice.is_over_after(5)));
    }
}
