//! Loss, duplication and order of one numbered stream, in constant memory.
//!
//! Sixteen bytes while everything arrives in order; holes are remembered only
//! while there are any.

use std::ops::Range;

/// Holes that are remembered per stream. When there are more, the oldest is given
/// up: it counts as lost, and what still arrives for it as duplicated.
const HOLES_MAX: usize = 1024;

/// What an arrival means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrival {
    /// Not seen before, and nothing later was seen either.
    InOrder,
    /// Not seen before, but something later was: the stream is out of order.
    Late,
    /// Seen before.
    Duplicate,
}

/// Follows a stream of sequence numbers 0, 1, 2, ...
#[derive(Default, Debug)]
pub struct Tracker {
    /// One past the highest number seen.
    next: u32,
    /// Numbers below `next` that were not seen.
    holes: Option<Box<Holes>>,
}

#[derive(Default, Debug)]
struct Holes {
    /// Ascending, disjoint, none empty.
    ranges: Vec<Range<u32>>,
    /// Numbers in holes that were given up.
    given_up: u64,
}

impl Tracker {
    /// A message with that number arrived.
    pub fn arrived(&mut self, sequence: u32) -> Arrival {
        if sequence < self.next {
            return self.fill(sequence);
        }
        if sequence > self.next {
            let holes = self.holes.get_or_insert_default();
            if holes.ranges.len() == HOLES_MAX {
                let oldest = holes.ranges.remove(0);
                holes.given_up += oldest.len() as u64;
            }
            holes.ranges.push(self.next..sequence);
        }
        self.next = sequence.saturating_add(1);
        Arrival::InOrder
    }

    /// How many different messages arrived.
    pub fn arrived_count(&self) -> u64 {
        let missing = self
            .holes
            .as_ref()
            .map_or(0, |holes| holes.given_up + holes.ranges.iter().map(|range| range.len() as u64).sum::<u64>());
        u64::from(self.next) - missing
    }

    fn fill(&mut self, sequence: u32) -> Arrival {
        let Some(holes) = &mut self.holes else { return Arrival::Duplicate };
        // The range that begins at or before the number.
        let index = holes.ranges.partition_point(|range| range.start <= sequence).wrapping_sub(1);
        let Some(range) = holes.ranges.get_mut(index).filter(|range| range.contains(&sequence)) else {
            return Arrival::Duplicate;
        };
        let above = sequence + 1..range.end;
        range.end = sequence;
        match (range.start == range.end, above.start == above.end) {
            (true, true) => drop(holes.ranges.remove(index)),
            (true, false) => *range = above,
            (false, true) => {}
            (false, false) => holes.ranges.insert(index + 1, above),
        }
        if holes.ranges.is_empty() && holes.given_up == 0 {
            self.holes = None;
        }
        Arrival::Late
    }
}

#[cfg(test)]
mod tests {
    use super::Arrival::{Duplicate, InOrder, Late};
    use super::*;

    fn arrivals(sequences: &[u32]) -> (Vec<Arrival>, u64) {
        let mut tracker = Tracker::default();
        let arrivals = sequences.iter().map(|&sequence| tracker.arrived(sequence)).collect();
        (arrivals, tracker.arrived_count())
    }

    #[test]
    fn a_stream_in_order_needs_no_memory() {
        let mut tracker = Tracker::default();
        assert!((0..1000).all(|sequence| tracker.arrived(sequence) == InOrder));
        assert!(tracker.holes.is_none());
        assert_eq!(tracker.arrived_count(), 1000);
        assert_eq!(size_of::<Tracker>(), 16);
    }

    #[test]
    fn a_lost_message_leaves_a_hole() {
        assert_eq!(arrivals(&[0, 2, 3]), (vec![InOrder; 3], 3));
    }

    #[test]
    fn a_repeated_message_is_a_duplicate_wherever_it_comes() {
        assert_eq!(arrivals(&[0, 0, 1, 0]), (vec![InOrder, Duplicate, InOrder, Duplicate], 2));
        assert_eq!(arrivals(&[0, 2, 2, 0]), (vec![InOrder, InOrder, Duplicate, Duplicate], 2));
    }

    #[test]
    fn swapped_messages_make_one_late_arrival() {
        assert_eq!(arrivals(&[1, 0, 2]), (vec![InOrder, Late, InOrder], 3));
    }

    #[test]
    fn a_hole_is_filled_from_any_side() {
        assert_eq!(arrivals(&[5, 0, 4, 2, 2, 1, 3, 3]).0[1..], [Late, Late, Late, Duplicate, Late, Late, Duplicate]);
        assert_eq!(arrivals(&[5, 0, 4, 2, 2, 1, 3, 3]).1, 6);
    }

    #[test]
    fn any_order_of_a_set_counts_each_once() {
        // Every permutation of six, each number twice over.
        fn permute(prefix: &mut Vec<u32>, rest: &[u32]) {
            if rest.is_empty() {
                let mut tracker = Tracker::default();
                let fresh = prefix.iter().filter(|&&s| tracker.arrived(s) != Duplicate).count();
                let again = prefix.iter().filter(|&&s| tracker.arrived(s) != Duplicate).count();
                assert_eq!((fresh, again, tracker.arrived_count()), (6, 0, 6), "{prefix:?}");
                assert!(tracker.holes.is_none());
            }
            for (i, &item) in rest.iter().enumerate() {
                prefix.push(item);
                permute(prefix, &[&rest[..i], &rest[i + 1..]].concat());
                prefix.pop();
            }
        }
        permute(&mut Vec::new(), &[0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn more_holes_than_fit_are_still_counted() {
        let mut tracker = Tracker::default();
        let last = 2 * (HOLES_MAX as u32 + 10);
        for sequence in (0..last).step_by(2).map(|even| even + 1) {
            tracker.arrived(sequence);
        }
        assert_eq!(tracker.arrived_count(), u64::from(last / 2));
        assert_eq!(tracker.arrived(0), Duplicate, "given up");
        assert_eq!(tracker.arrived(last - 2), Late, "remembered");
    }
}
