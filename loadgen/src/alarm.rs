//! Wakes an event loop at a point in time, to the microsecond.
//!
//! The timeout of `epoll_wait` has whole milliseconds: an open loop that slept by
//! it would send late and add up to a millisecond of its own to every latency.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use wsgate::time::Time;

/// A timer that makes the event loop return.
#[derive(Debug)]
pub struct Alarm {
    timer: OwnedFd,
    set_for: Option<Time>,
}

impl Alarm {
    /// A timer that is not set. Its events carry `token` and need no answer.
    pub fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        registry.register(&mut SourceFd(&timer.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Self { timer, set_for: None })
    }

    /// Rings at `at`, once; `None` never. Costs nothing if that is already set.
    /// `at` must lie ahead of `now`: what is due needs no alarm.
    pub fn set(&mut self, at: Option<Time>, now: Time) -> io::Result<()> {
        if at == self.set_for {
            return Ok(());
        }
        // All zero switches the timer off.
        let wait = at.map_or(0, |at| at.0.saturating_sub(now.0).max(1));
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let value = Timespec { tv_sec: (wait / 1_000_000_000) as i64, tv_nsec: (wait % 1_000_000_000) as _ };
        let value = Itimerspec { it_interval: zero, it_value: value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &value)?;
        self.set_for = at;
        Ok(())
    }

    /// It rang, so it has to be set again even for the same point in time.
    pub fn rang(&mut self) {
        self.set_for = None;
    }
}
