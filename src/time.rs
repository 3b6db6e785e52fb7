//! Points in time, as numbers that are handed in.
//!
//! The core never reads a clock: the driver reads it once per turn and passes
//! [`Time`] down, and a simulator may pass whatever it likes.

#![forbid(unsafe_code)]

use std::ops::Add;
use std::time::Duration;

/// Nanoseconds since an origin that the caller chose (for the driver: the start
/// of the process). Enough for 584 years.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Time(pub u64);

impl Time {
    /// The origin.
    pub const ZERO: Time = Time(0);

    /// Time passed since `earlier`; zero if that lies ahead.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Whole milliseconds since the origin.
    pub fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }
}

impl Add<Duration> for Time {
    type Output = Time;

    /// Saturates: a time too far ahead to be written never comes.
    fn add(self, duration: Duration) -> Time {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Time(self.0.saturating_add(nanos))
    }
}
