//! Who sleeps and who wakes, under all interleavings and reorderings that the memory
//! model allows: `driver/wait_flag.rs` on the atomics of loom.
//!
//! The mailboxes' use of it is modelled as `driver/mailbox.rs` has it: a ring per pair of
//! threads, a flag of who sleeps, a flag of who waits for room in a full ring. A lost wake
//! is a deadlock, which loom reports. That it does is shown with flags that have one
//! mistake each.
#![allow(missing_docs)]

#[path = "../src/driver/wait_flag.rs"]
mod wait_flag;

/// What `wait_flag.rs` takes from its parent.
mod atomic {
    pub(super) use loom::sync::atomic::{Ordering, fence};

    /// Loom's, with stores that have their place among the exchanges of other threads. Loom
    /// orders a plain store only behind what its own thread has seen, so it would go on to
    /// report that a thread reads what its exchange left there, although another thread's
    /// later store was before that read. The language gives all changes one order.
    pub(super) struct AtomicBool(loom::sync::atomic::AtomicBool);

    impl AtomicBool {
        pub(super) fn new(value: bool) -> Self {
            Self(loom::sync::atomic::AtomicBool::new(value))
        }

        pub(super) fn load(&self, ordering: Ordering) -> bool {
            self.0.load(ordering)
        }

        pub(super) fn store(&self, value: bool, ordering: Ordering) {
            self.0.swap(value, ordering);
        }

        pub(super) fn swap(&self, value: bool, ordering: Ordering) -> bool {
            self.0.swap(value, ordering)
        }
    }
}

// Not loom's: its own drop is a step of the model, which must not be taken while a thread
// unwinds from a deadlock.
use std::sync::Arc;
use std::sync::atomic::AtomicUsize as Count;

use atomic::{AtomicBool, Ordering, fence};
use loom::sync::Notify;
use loom::sync::atomic::AtomicUsize;
use loom::thread;
use wait_flag::WaitFlag;

/// See [`check`].
const INTERRUPTIONS_MAX: usize = 3;

/// The flag, or one with a mistake.
trait Flag: Send + Sync + 'static {
    fn new() -> Self;
    fn raise_unless(&self, has_changed: impl FnOnce() -> bool) -> bool;
    fn is_raised(&self) -> bool;
    fn lower(&self);
    fn take(&self) -> bool;
}

impl Flag for WaitFlag {
    fn new() -> Self {
        Self::new()
    }
    fn raise_unless(&self, has_changed: impl FnOnce() -> bool) -> bool {
        self.raise_unless(has_changed)
    }
    fn is_raised(&self) -> bool {
        self.is_raised()
    }
    fn lower(&self) {
        self.lower();
    }
    fn take(&self) -> bool {
        self.take()
    }
}

/// The mistakes that a flag can have.
const LOOKS_FIRST: u8 = 1;
const NO_FENCE_AFTER_RAISING: u8 = 2;
const NO_FENCE_BEFORE_TAKING: u8 = 3;
const TAKEN_BY_SEVERAL: u8 = 4;
const TAKEN_UNNOTICED: u8 = 5;

struct Wrong<const MISTAKE: u8>(AtomicBool);

impl<const MISTAKE: u8> Flag for Wrong<MISTAKE> {
    fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    fn raise_unless(&self, has_changed: impl FnOnce() -> bool) -> bool {
        if MISTAKE == LOOKS_FIRST {
            if has_changed() {
                return false;
            }
            self.0.store(true, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            return true;
        }
        self.0.store(true, Ordering::Relaxed);
        if MISTAKE != NO_FENCE_AFTER_RAISING {
            fence(Ordering::SeqCst);
        }
        let changed = has_changed();
        if changed {
            self.lower();
        }
        !changed
    }

    fn is_raised(&self) -> bool {
        MISTAKE == TAKEN_UNNOTICED || self.0.load(Ordering::Relaxed)
    }

    fn lower(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    fn take(&self) -> bool {
        if MISTAKE != NO_FENCE_BEFORE_TAKING {
            fence(Ordering::SeqCst);
        }
        if MISTAKE == TAKEN_BY_SEVERAL {
            let raised = self.0.load(Ordering::Relaxed);
            if raised {
                self.lower();
            }
            return raised;
        }
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::AcqRel)
    }
}

/// How many entries were put in and taken out of a ring with one producer and one
/// consumer, with the orderings of the ring that the mailboxes use.
struct Ring {
    capacity: usize,
    put: AtomicUsize,
    taken: AtomicUsize,
}

impl Ring {
    fn new(capacity: usize) -> Self {
        Self { capacity, put: AtomicUsize::new(0), taken: AtomicUsize::new(0) }
    }

    fn is_full(&self) -> bool {
        self.put.load(Ordering::Relaxed) - self.taken.load(Ordering::Acquire) == self.capacity
    }

    fn is_empty(&self) -> bool {
        self.put.load(Ordering::Acquire) == self.taken.load(Ordering::Relaxed)
    }

    fn push(&self) -> bool {
        let fits = !self.is_full();
        if fits {
            self.put.store(self.put.load(Ordering::Relaxed) + 1, Ordering::Release);
        }
        fits
    }

    fn pop(&self) -> bool {
        let there = !self.is_empty();
        if there {
            self.taken.store(self.taken.load(Ordering::Relaxed) + 1, Ordering::Release);
        }
        there
    }
}

/// A thread's flag, what wakes it, and how often it said that it would sleep and was woken.
/// The counts are not part of what is checked, so they are not loom's.
struct Bell<F> {
    sleeping: F,
    waker: Notify,
    raised: Count,
    woken: Count,
}

impl<F: Flag> Bell<F> {
    fn new() -> Self {
        Self { sleeping: F::new(), waker: Notify::new(), raised: Count::new(0), woken: Count::new(0) }
    }

    fn ring(&self) {
        if self.sleeping.take() {
            self.woken.fetch_add(1, Ordering::Relaxed);
            self.waker.notify();
        }
    }

    fn sleep_unless(&self, has_changed: impl FnOnce() -> bool) {
        self.raised.fetch_add(1, Ordering::Relaxed);
        if self.sleeping.raise_unless(has_changed) {
            self.waker.wait();
            self.sleeping.lower();
        }
    }

    fn assert_woken_once_for_each_sleep(&self) {
        let (woken, raised) = (self.woken.load(Ordering::Relaxed), self.raised.load(Ordering::Relaxed));
        assert!(woken <= raised, "{woken} wakes for {raised} sleeps");
    }
}

/// Goes through all runs in which threads are interrupted so often at most. Without a
/// bound it takes hours; each planted mistake shows with two.
fn check(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(INTERRUPTIONS_MAX);
    builder.check(model);
}

/// Sends batches of entries, with one look at the flag after each; returns how often it woke.
fn send_batches<F: Flag>(ring: &Ring, bell: &Bell<F>, batches: &[usize]) {
    for entries in batches {
        for _ in 0..*entries {
            assert!(ring.push(), "the ring has room for all");
        }
        bell.ring();
    }
}

/// One sender and one receiver that sleeps whenever it finds nothing.
fn a_receiver_that_sleeps<F: Flag>() {
    check(|| {
        const BATCHES: [usize; 2] = [2, 1];
        let all: usize = BATCHES.iter().sum();
        let ring = Arc::new(Ring::new(all));
        let bell = Arc::new(Bell::<F>::new());
        let sender = {
            let (ring, bell) = (ring.clone(), bell.clone());
            thread::spawn(move || send_batches(&ring, &bell, &BATCHES))
        };
        let mut received = 0;
        while received < all {
            while ring.pop() {
                received += 1;
            }
            if received < all {
                bell.sleep_unless(|| !ring.is_empty());
            }
        }
        sender.join().unwrap();
        bell.assert_woken_once_for_each_sleep();
        assert!(bell.woken.load(Ordering::Relaxed) <= BATCHES.len(), "at most one wake per batch");
    });
}

/// Two senders with a ring each, and one receiver.
fn two_senders<F: Flag>() {
    check(|| {
        let rings = [Arc::new(Ring::new(1)), Arc::new(Ring::new(1))];
        let bell = Arc::new(Bell::<F>::new());
        let senders = rings.clone().map(|ring| {
            let bell = bell.clone();
            thread::spawn(move || send_batches(&ring, &bell, &[1]))
        });
        let mut received = 0;
        while received < 2 {
            received += rings.iter().filter(|ring| ring.pop()).count();
            if received < 2 {
                bell.sleep_unless(|| rings.iter().any(|ring| !ring.is_empty()));
            }
        }
        for sender in senders {
            sender.join().unwrap();
        }
        bell.assert_woken_once_for_each_sleep();
    });
}

/// A sender with more than the ring holds, which sleeps until there is room, and a receiver
/// that sleeps until there is something: `Post::announce`, `receive` and `prepare_sleep`.
fn a_sender_without_room<F: Flag>() {
    check(|| {
        const ENTRIES: usize = 3;
        let ring = Arc::new(Ring::new(1));
        let starved = Arc::new(F::new());
        let (senders_bell, receivers_bell) = (Arc::new(Bell::<F>::new()), Arc::new(Bell::<F>::new()));
        let receiver = {
            let (ring, starved) = (ring.clone(), starved.clone());
            let (senders_bell, receivers_bell) = (senders_bell.clone(), receivers_bell.clone());
            thread::spawn(move || {
                let mut received = 0;
                while received < ENTRIES {
                    while ring.pop() {
                        received += 1;
                        if starved.take() {
                            senders_bell.ring();
                        }
                    }
                    if received < ENTRIES {
                        receivers_bell.sleep_unless(|| !ring.is_empty());
                    }
                }
            })
        };
        let mut waiting = ENTRIES;
        while waiting > 0 {
            let before = waiting;
            while waiting > 0 {
                if ring.push() {
                    waiting -= 1;
                } else if starved.raise_unless(|| !ring.is_full()) {
                    break;
                }
            }
            if waiting < before {
                receivers_bell.ring();
            }
            if waiting > 0 {
                senders_bell.sleep_unless(|| !ring.is_full() || !starved.is_raised());
            }
        }
        starved.lower();
        receiver.join().unwrap();
        senders_bell.assert_woken_once_for_each_sleep();
        receivers_bell.assert_woken_once_for_each_sleep();
    });
}

#[test]
fn a_receiver_is_woken_for_what_it_did_not_see_and_once_per_batch() {
    a_receiver_that_sleeps::<WaitFlag>();
}

#[test]
fn of_two_senders_one_wakes() {
    two_senders::<WaitFlag>();
}

#[test]
fn a_sender_without_room_is_woken_when_there_is_some() {
    a_sender_without_room::<WaitFlag>();
}

#[test]
#[should_panic(expected = "deadlock")]
fn looking_before_raising_the_flag_loses_a_wake() {
    a_receiver_that_sleeps::<Wrong<LOOKS_FIRST>>();
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_flag_without_a_fence_behind_it_loses_a_wake() {
    a_receiver_that_sleeps::<Wrong<NO_FENCE_AFTER_RAISING>>();
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_look_at_the_flag_without_a_fence_before_it_loses_a_wake() {
    a_receiver_that_sleeps::<Wrong<NO_FENCE_BEFORE_TAKING>>();
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_sender_that_looks_for_room_before_it_says_so_is_not_woken() {
    a_sender_without_room::<Wrong<LOOKS_FIRST>>();
}

/// A receiver sees the flag, is held up, and takes it when the sender has used that room and
/// raised the flag anew.
#[test]
#[should_panic(expected = "deadlock")]
fn a_sender_that_does_not_see_its_flag_taken_for_older_room_is_not_woken() {
    a_sender_without_room::<Wrong<TAKEN_UNNOTICED>>();
}

#[test]
#[should_panic(expected = "wakes for")]
fn a_flag_that_several_take_wakes_more_than_once() {
    two_senders::<Wrong<TAKEN_BY_SEVERAL>>();
}
