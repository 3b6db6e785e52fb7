//! The clock of a run: nanoseconds since its start, the same on every thread.
#![allow(clippy::disallowed_methods)] // This module is where the time comes from.

use std::time::Instant;

use wsgate::time::Time;

/// A monotonic clock. Copies agree.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock that begins now.
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// The time since the start.
    pub fn now(&self) -> Time {
        Time(u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}
