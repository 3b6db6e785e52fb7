//! How far shards that take in the same address pass its bounds, under all interleavings
//! and reorderings that the memory model allows: `admission/cells.rs` on the atomics of loom.
//!
//! A bound may be passed by one for each further shard, and nothing that was counted may be
//! lost. That loom would tell is shown with cells that have one mistake each.
#![allow(missing_docs)]

#[path = "../src/admission/cells.rs"]
mod cells;

/// What `cells.rs` takes from its parent.
mod atomic {
    pub(super) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};
}

use std::sync::Arc;

use atomic::{AtomicU32, AtomicU64, Ordering};
use cells::{AHEAD_NS, Cell};
use loom::thread;

const SHARDS: usize = 2;
/// Tries of each shard, so that one may lose a race more than once.
const TRIES: usize = 2;
/// See `check`.
const INTERRUPTIONS_MAX: usize = 3;

/// An address's cells, or some with a mistake. Two show all that four would.
trait Address: Send + Sync + 'static {
    fn new() -> Self;
    fn pay(&self, share_ns: u64, now_ns: u64) -> bool;
    fn enter(&self, max: u32) -> bool;
    fn leave(&self);
}

struct Right([Cell; 2]);

impl Address for Right {
    fn new() -> Self {
        Self([Cell::new(), Cell::new()])
    }
    fn pay(&self, share_ns: u64, now_ns: u64) -> bool {
        cells::pay(&self.0.each_ref(), share_ns, now_ns)
    }
    fn enter(&self, max: u32) -> bool {
        cells::add_connection(&self.0.each_ref(), max)
    }
    fn leave(&self) {
        cells::remove_connection(&self.0.each_ref());
    }
}

/// Counts in one cell, whose counters are written as those with one writing thread are;
/// and of handshakes that are paid for at the same moment, one is.
struct Wrong {
    connections: AtomicU32,
    paid_until: AtomicU64,
}

impl Address for Wrong {
    fn new() -> Self {
        Self { connections: AtomicU32::new(0), paid_until: AtomicU64::new(0) }
    }

    fn pay(&self, share_ns: u64, now_ns: u64) -> bool {
        let paid = self.paid_until.load(Ordering::Relaxed).max(now_ns) + share_ns;
        let is_paid = paid <= now_ns + AHEAD_NS;
        if is_paid {
            self.paid_until.fetch_max(paid, Ordering::Relaxed);
        }
        is_paid
    }

    fn enter(&self, max: u32) -> bool {
        let before = self.connections.load(Ordering::Relaxed);
        if before < max {
            self.connections.store(before + 1, Ordering::Relaxed);
        }
        before < max
    }

    fn leave(&self) {
        let before = self.connections.load(Ordering::Relaxed);
        assert!(before > 0, "who leaves was counted");
        self.connections.store(before - 1, Ordering::Relaxed);
    }
}

/// Goes through all runs in which threads are interrupted so often at most.
fn check(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(INTERRUPTIONS_MAX);
    builder.check(model);
}

/// How many tries succeed when every shard makes its own at the same time.
fn successes<A: Address>(address: &Arc<A>, attempt: fn(&A) -> bool) -> usize {
    let tries = move |address: &A| (0..TRIES).filter(|_| attempt(address)).count();
    let others: Vec<_> = (1..SHARDS)
        .map(|_| {
            let address = address.clone();
            thread::spawn(move || tries(&address))
        })
        .collect();
    let own = tries(address);
    own + others.into_iter().map(|other| other.join().unwrap()).sum::<usize>()
}

fn handshakes<A: Address>() {
    const MAX: usize = 2;
    const NOW_NS: u64 = 5 * AHEAD_NS;
    check(|| {
        let admitted = successes(&Arc::new(A::new()), |address| address.pay(AHEAD_NS / MAX as u64, NOW_NS));
        assert!((MAX..MAX + SHARDS).contains(&admitted), "{admitted} of {MAX} handshakes");
    });
}

fn connections<A: Address>() {
    const MAX: usize = 1;
    check(|| {
        let address = Arc::new(A::new());
        let admitted = successes(&address, |address| address.enter(MAX as u32));
        assert!((MAX..MAX + SHARDS).contains(&admitted), "{admitted} of {MAX} connections");
        (0..admitted).for_each(|_| address.leave());
        assert!(address.enter(MAX as u32) && !address.enter(MAX as u32), "all that have left are forgotten");
    });
}

/// Each shard's connections come and go, none over the bound.
fn coming_and_going<A: Address>() {
    check(|| {
        let address = Arc::new(A::new());
        let come_and_go = |address: &A| {
            assert!(address.enter(SHARDS as u32), "there is room for one of each");
            address.leave();
            true
        };
        successes(&address, come_and_go);
        assert!((0..SHARDS).all(|_| address.enter(SHARDS as u32)) && !address.enter(SHARDS as u32));
    });
}

#[test]
fn handshakes_pass_their_bound_by_one_for_each_further_shard_at_most() {
    handshakes::<Right>();
}

#[test]
fn connections_pass_their_bound_by_one_for_each_further_shard_at_most() {
    connections::<Right>();
}

#[test]
fn connections_that_come_and_go_at_the_same_time_leave_nothing_behind() {
    coming_and_going::<Right>();
}

#[test]
#[should_panic(expected = "of 2 handshakes")]
fn handshakes_that_are_paid_for_together_pass_the_bound_again_and_again() {
    handshakes::<Wrong>();
}

#[test]
#[should_panic(expected = "who leaves was counted")]
fn a_count_that_is_written_over_is_lost() {
    connections::<Wrong>();
}
