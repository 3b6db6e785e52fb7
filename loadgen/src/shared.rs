//! What the main thread and the workers tell each other.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;

use crate::handover::Interval;
use crate::schedule::Window;

/// From the main thread to a worker.
#[derive(Clone, Copy, Debug)]
pub enum Command {
    /// Everybody has connected: send in that window.
    Start(Window),
    /// Send nothing more: the run was interrupted.
    Stop,
    /// Everybody is done sending: say when nothing more is expected.
    Drain,
    /// Close all connections and end.
    Close,
}

/// How far a worker is. A later stage contains the earlier ones.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Stage {
    /// Handshakes are under way.
    Connecting,
    /// Each connection is open or has failed.
    Connected,
    /// All messages are sent.
    Sent,
    /// All messages have arrived.
    Drained,
    /// The thread is at its end.
    Ended,
}

/// From a worker to the main thread.
#[derive(Debug)]
pub enum Notice {
    /// The worker has reached a stage.
    Reached {
        /// Number of the worker.
        worker: usize,
        /// What it reached.
        stage: Stage,
    },
    /// What the worker counted in an interval.
    Interval(Interval),
}

/// A worker's way to the main thread. When it goes out of scope, by a panic even,
/// the main thread hears that the worker ended.
#[derive(Debug)]
pub struct Reporter {
    /// Number of the worker in the run.
    pub worker: usize,
    /// The main thread's queue.
    pub notices: Sender<Notice>,
}

impl Reporter {
    /// The worker has reached a stage.
    pub fn reached(&self, stage: Stage) {
        // Nobody listens only if the main thread has panicked; it says so itself.
        let _ = self.notices.send(Notice::Reached { worker: self.worker, stage });
    }

    /// The worker is done with an interval.
    pub fn hand_over(&self, interval: Interval) {
        let _ = self.notices.send(Notice::Interval(interval));
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.reached(Stage::Ended);
    }
}

/// One worker's counters, for the progress line. On a cache line of their own, so
/// that workers do not slow each other down.
#[derive(Default, Debug)]
#[repr(align(128))]
pub struct Counters {
    opened: AtomicU64,
    failed: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
}

/// A reading of [`Counters`].
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Counts {
    /// Handshakes that were completed.
    pub opened: u64,
    /// Connections that failed, before or after.
    pub failed: u64,
    /// Messages sent.
    pub sent: u64,
    /// Messages received.
    pub received: u64,
}

impl Counters {
    /// Called by the worker, once a turn.
    pub fn publish(&self, counts: Counts) {
        self.opened.store(counts.opened, Ordering::Relaxed);
        self.failed.store(counts.failed, Ordering::Relaxed);
        self.sent.store(counts.sent, Ordering::Relaxed);
        self.received.store(counts.received, Ordering::Relaxed);
    }

    /// Called by the main thread.
    pub fn read(&self) -> Counts {
        Counts {
            opened: self.opened.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            sent: self.sent.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
        }
    }
}

impl std::ops::Add for Counts {
    type Output = Counts;

    fn add(self, other: Counts) -> Counts {
        Counts {
            opened: self.opened + other.opened,
            failed: self.failed + other.failed,
            sent: self.sent + other.sent,
            received: self.received + other.received,
        }
    }
}
