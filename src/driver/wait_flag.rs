//! One thread waits for a change that another makes, and is told only if it waits.
//!
//! Owner: `mailbox`. The waiting thread raises the flag and looks once more before it
//! waits; the changing thread changes and then looks at the flag. Each has a fence between
//! the two, so at least one of them sees the other. What waits for and what tells are the
//! callers' business. Never blocks, and knows no thread.
//!
//! `tests/loom.rs` reads this file with the atomics of a model checker in the place of
//! [`super::atomic`], and goes through all interleavings.

#![forbid(unsafe_code)]

use super::atomic::{AtomicBool, Ordering, fence};

/// See the module.
pub(super) struct WaitFlag(AtomicBool);

impl WaitFlag {
    /// Nobody waits.
    pub(super) fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// Waiting thread: says that it is about to wait. `false`: what `has_changed` looks
    /// for is there already, so it must not. `true`: [`WaitFlag::take`] of whoever changes
    /// something from now on is `true`, once.
    pub(super) fn raise_unless(&self, has_changed: impl FnOnce() -> bool) -> bool {
        self.0.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if has_changed() {
            self.lower();
            return false;
        }
        true
    }

    /// Waiting thread: whether nobody has taken the flag since it was raised.
    pub(super) fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Waiting thread: says that it no longer waits.
    pub(super) fn lower(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Changing thread, after the change: whether the other waits and this caller, and no
    /// other, is to tell it.
    pub(super) fn take(&self) -> bool {
        fence(Ordering::SeqCst);
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::AcqRel)
    }
}
