//! Monotonic time.

use std::time::Instant;

use crate::time::Time;

/// A clock whose origin is its making.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// Starts at [`Time::ZERO`].
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// The time now.
    pub fn now(&self) -> Time {
        Time(self.origin.elapsed().as_nanos() as u64)
    }
}
