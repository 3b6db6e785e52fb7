//! Deadlines of a shard: a hierarchical timer wheel.
//!
//! One deadline per connection slot, in lists that are linked through an array with
//! one node per slot: setting, moving and cancelling touch a few words, and what is
//! not due is not touched. Steps are of [`TIMER_STEP_MS`]; a deadline fires in the
//! step that it lies in or later, never earlier.

use crate::limits::TIMER_STEP_MS;
use crate::time::Time;

const LEVELS: usize = 4;
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
/// Longest distance in steps; what lies further ahead is looked at again then. With
/// steps of 8 ms: 37 hours.
const DISTANCE_MAX: u64 = (1 << (SLOT_BITS * LEVELS as u32)) - 1;

const NONE: u32 = u32::MAX;
const UNLINKED: u16 = u16::MAX;
/// The list of what is due, behind those of the wheel.
const DUE: usize = LEVELS * SLOTS;

#[derive(Clone, Copy)]
struct Node {
    previous: u32,
    next: u32,
    /// Step in which it is due.
    step: u64,
    /// List that it is in, or [`UNLINKED`].
    list: u16,
}

/// Deadlines by connection slot.
pub(super) struct TimerWheel {
    nodes: Vec<Node>,
    heads: [u32; DUE + 1],
    /// One bit for each list of a level that is not empty.
    occupied: [u64; LEVELS],
    /// The last step that was looked at.
    current: u64,
}

impl TimerWheel {
    pub(super) fn new(now: Time) -> Self {
        Self { nodes: Vec::new(), heads: [NONE; DUE + 1], occupied: [0; LEVELS], current: step_of(now) }
    }

    /// Bytes of the nodes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.nodes.len() * size_of::<Node>()
    }

    /// Sets or moves the deadline of a slot.
    pub(super) fn set(&mut self, slot: u32, at: Time) {
        let index = slot as usize;
        if index >= self.nodes.len() {
            self.nodes.resize(index + 1, Node { previous: NONE, next: NONE, step: 0, list: UNLINKED });
        }
        self.cancel(slot);
        // Rounded up: a deadline inside a step is over when the next one begins.
        self.nodes[index].step = at.as_millis().div_ceil(TIMER_STEP_MS).max(self.current + 1);
        self.link(slot);
    }

    /// Forgets the deadline of a slot, if it has one.
    pub(super) fn cancel(&mut self, slot: u32) {
        let Some(&Node { previous, next, list, .. }) = self.nodes.get(slot as usize) else { return };
        if list == UNLINKED {
            return;
        }
        match previous {
            NONE => self.heads[usize::from(list)] = next,
            previous => self.nodes[previous as usize].next = next,
        }
        if next != NONE {
            self.nodes[next as usize].previous = previous;
        }
        if self.heads[usize::from(list)] == NONE && usize::from(list) < DUE {
            self.occupied[usize::from(list) / SLOTS] &= !(1 << (usize::from(list) % SLOTS));
        }
        self.nodes[slot as usize].list = UNLINKED;
    }

    /// A slot whose deadline has come; it has none any more.
    pub(super) fn pop_due(&mut self, now: Time) -> Option<u32> {
        let target = step_of(now);
        loop {
            if self.heads[DUE] != NONE {
                let slot = self.heads[DUE];
                self.cancel(slot);
                return Some(slot);
            }
            if self.current >= target {
                return None;
            }
            // Steps in which nothing can happen are skipped.
            self.current = self.next_step().map_or(target, |step| step.min(target));
            self.enter_step();
        }
    }

    /// When [`TimerWheel::pop_due`] may have something to do; no deadline comes earlier.
    pub(super) fn next_due(&self) -> Option<Time> {
        if self.heads[DUE] != NONE {
            return Some(Time(self.current * TIMER_STEP_MS * 1_000_000));
        }
        self.next_step().map(|step| Time(step * TIMER_STEP_MS * 1_000_000))
    }

    /// The first step after the current one in which a list is due or moves down.
    fn next_step(&self) -> Option<u64> {
        (0..LEVELS)
            .filter(|&level| self.occupied[level] != 0)
            .map(|level| {
                let shift = level as u32 * SLOT_BITS;
                let turn = self.current >> shift;
                let ahead = self.occupied[level].rotate_right((turn as u32 + 1) % SLOTS as u32).trailing_zeros();
                (turn + 1 + u64::from(ahead)) << shift
            })
            .min()
    }

    /// Moves what the current step reaches: a level's list one level down when the
    /// levels below have come round, and the lowest level's list to what is due.
    fn enter_step(&mut self) {
        for level in (0..LEVELS).rev() {
            let shift = level as u32 * SLOT_BITS;
            if self.current & ((1 << shift) - 1) != 0 {
                continue;
            }
            let list = level * SLOTS + (self.current >> shift) as usize % SLOTS;
            while self.heads[list] != NONE {
                let slot = self.heads[list];
                self.cancel(slot);
                self.link(slot);
            }
        }
    }

    fn link(&mut self, slot: u32) {
        let step = self.nodes[slot as usize].step;
        let list = if step <= self.current {
            DUE
        } else {
            let distance = (step - self.current).min(DISTANCE_MAX);
            let level = distance.ilog2() / SLOT_BITS;
            level as usize * SLOTS + ((self.current + distance) >> (level * SLOT_BITS)) as usize % SLOTS
        };
        if list < DUE {
            self.occupied[list / SLOTS] |= 1 << (list % SLOTS);
        }
        let next = std::mem::replace(&mut self.heads[list], slot);
        if next != NONE {
            self.nodes[next as usize].previous = slot;
        }
        let node = &mut self.nodes[slot as usize];
        (node.previous, node.next, node.list) = (NONE, next, list as u16);
    }
}

fn step_of(now: Time) -> u64 {
    now.as_millis() / TIMER_STEP_MS
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn ms(millis: u64) -> Time {
        Time(millis * 1_000_000)
    }

    #[test]
    fn nothing_fires_early_and_everything_fires_within_a_step() {
        for distance in [1, 7, 8, 9, 500, 511, 512, 513, 25_000, 32_760, 32_768, 40_000, 3_000_000, 200_000_000] {
            for start in [0, 5, 504, 511, 32_767, 1_000_003] {
                let mut wheel = TimerWheel::new(ms(start));
                let at = start + distance;
                wheel.set(3, ms(at));
                assert_eq!(wheel.pop_due(ms(at - 1)).filter(|_| at % TIMER_STEP_MS != 0), None);
                assert_eq!(wheel.pop_due(ms(at + TIMER_STEP_MS)), Some(3), "{start} + {distance}");
                assert_eq!(wheel.next_due(), None);
            }
        }
    }

    #[test]
    fn waiting_for_next_due_reaches_every_deadline() {
        let mut wheel = TimerWheel::new(ms(0));
        wheel.set(0, ms(25_000));
        let mut looks = 0;
        loop {
            let now = wheel.next_due().expect("a deadline is set");
            looks += 1;
            if wheel.pop_due(now) == Some(0) {
                assert!(now >= ms(25_000));
                break;
            }
        }
        assert!(looks <= 3, "{looks} looks for one deadline");
    }

    proptest! {
        /// Against a sorted map: any sequence of set, cancel and advance.
        #[test]
        fn agrees_with_a_sorted_map(operations in proptest::collection::vec((0u32..20, 0u64..100_000, 0u64..5_000), 1..200)) {
            let mut now = 12_345;
            let mut wheel = TimerWheel::new(ms(now));
            let mut model: BTreeMap<u32, u64> = BTreeMap::new();
            for (slot, distance, advance) in operations {
                if distance % 7 == 0 {
                    wheel.cancel(slot);
                    model.remove(&slot);
                } else {
                    wheel.set(slot, ms(now + distance));
                    model.insert(slot, now + distance);
                }
                now += advance;
                while let Some(slot) = wheel.pop_due(ms(now)) {
                    let at = model.remove(&slot);
                    prop_assert!(at.is_some_and(|at| at <= now), "slot {} at {:?}, now {}", slot, at, now);
                }
                // What is left was not due, to the step.
                for at in model.values() {
                    prop_assert!(at.div_ceil(TIMER_STEP_MS) + 1 > now / TIMER_STEP_MS, "{} is late at {}", at, now);
                }
                prop_assert_eq!(wheel.next_due().is_none(), model.is_empty());
            }
        }
    }
}
