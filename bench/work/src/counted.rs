//! The part of a piece of work that counts.

use std::hint::black_box;

use allocation_counter::measure;

/// What a piece of work came to.
#[derive(Debug)]
pub(crate) struct Counted {
    /// Messages, deliveries or connections.
    pub(crate) units: u64,
    /// Calls of the allocator for more memory.
    pub(crate) allocations: u64,
    /// Bytes that they asked for.
    pub(crate) allocated_bytes: u64,
    /// Bytes that were kept at the end, less those that were given back.
    pub(crate) kept_bytes: i64,
}

impl Counted {
    /// Does work of so many units and counts.
    pub(crate) fn of(units: usize, mut work: impl FnMut()) -> Self {
        let info = measure(|| collect(&mut work));
        Self {
            units: units as u64,
            allocations: info.count_total,
            allocated_bytes: info.bytes_total,
            kept_bytes: info.bytes_current,
        }
    }

    /// As `bench gate` reads it.
    pub(crate) fn to_json(&self, unit: &str) -> String {
        let Self { units, allocations, allocated_bytes, kept_bytes } = self;
        format!(
            r#"{{"unit":"{unit}","units":{units},"allocations":{allocations},"allocated_bytes":{allocated_bytes},"kept_bytes":{kept_bytes}}}"#
        )
    }
}

/// Callgrind collects while this runs: `bench gate` names it.
#[inline(never)]
fn collect(work: &mut dyn FnMut()) {
    work();
    // So that the call above is not a jump, from which nobody returns here.
    black_box(());
}
