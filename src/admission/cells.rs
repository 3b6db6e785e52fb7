//! What one address has, counted in its cells, of which the smallest counts.
//!
//! Owner: none; every shard counts in them at any moment, and nobody waits for anybody. Each
//! decides by what it found when it counted, cell by cell, so one that is between two cells
//! may let each further shard pass the bound by one. What is counted is never lost, so that
//! is all.
//!
//! `tests/loom_admission.rs` reads this file with the atomics of a model checker in the
//! place of [`super::atomic`], and goes through all interleavings.

#![forbid(unsafe_code)]

use super::atomic::{AtomicU32, AtomicU64, Ordering};

/// How far ahead handshakes may be paid, in nanoseconds: so many as are allowed in a
/// second may come at once.
pub(super) const AHEAD_NS: u64 = 1_000_000_000;

/// One of an address's cells; others may have it too.
#[derive(Debug)]
pub(super) struct Cell {
    connections: AtomicU32,
    /// Until when handshakes are paid for, each with its share of a second: nanoseconds
    /// since the origin of [`crate::time::Time`].
    paid_until: AtomicU64,
}

impl Cell {
    /// Nothing is counted.
    pub(super) fn new() -> Self {
        Self { connections: AtomicU32::new(0), paid_until: AtomicU64::new(0) }
    }
}

/// One connection more, unless there are `max`; 0 is any number.
pub(super) fn add_connection<const N: usize>(cells: &[&Cell; N], max: u32) -> bool {
    let before = cells.map(|cell| cell.connections.fetch_add(1, Ordering::Relaxed));
    let is_room = max == 0 || before.iter().any(|count| *count < max);
    if !is_room {
        remove_connection(cells);
    }
    is_room
}

/// One connection less.
pub(super) fn remove_connection<const N: usize>(cells: &[&Cell; N]) {
    for cell in cells {
        let before = cell.connections.fetch_sub(1, Ordering::Relaxed);
        assert!(before > 0, "who leaves was counted");
    }
}

/// A handshake at `now` pays its share of a second, [`AHEAD_NS`] ahead at most. One that is
/// refused pays nothing, unless others paid between its look and its turn.
pub(super) fn pay<const N: usize>(cells: &[&Cell; N], share_ns: u64, now_ns: u64) -> bool {
    let until_max = now_ns + AHEAD_NS;
    let is_room = |paid_until: u64| paid_until.max(now_ns) + share_ns <= until_max;
    // Who is over the bound costs a look.
    if !cells.iter().any(|cell| is_room(cell.paid_until.load(Ordering::Relaxed))) {
        return false;
    }
    // What other addresses in a cell pay does not make debts in it.
    let paid = |before: u64| before.max((before.max(now_ns) + share_ns).min(until_max));
    // A look may be out of date; what a change finds is not.
    let before =
        cells.map(|cell| cell.paid_until.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |b| Some(paid(b))));
    before.into_iter().any(|before| before.is_ok_and(is_room))
}
