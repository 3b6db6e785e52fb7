//! When things are meant to happen: the open loop's send times, fixed before the
//! first message leaves, and the pace of connecting.
//!
//! Both are plain arithmetic on times that are handed in.

use std::time::Duration;

use wsgate::time::Time;

/// The part of a run in which messages are meant to leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// The first message's time.
    pub start: Time,
    /// No message is meant for this time or later.
    pub end: Time,
}

/// Which messages of the whole run's sequence belong to one worker.
///
/// Message `k` of the run belongs to sender `k % senders`, and sender `s` to
/// worker `s % workers`: every sender has its turn in each round.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Share {
    /// Senders of the whole run.
    pub senders: usize,
    /// Workers of the whole run.
    pub workers: usize,
    /// This worker.
    pub worker: usize,
}

impl Share {
    /// How many of the senders are this worker's.
    pub fn local_senders(&self) -> usize {
        (self.senders + self.workers - 1).saturating_sub(self.worker) / self.workers
    }

    /// The whole run's number of a sender of this worker.
    pub fn sender(&self, local: usize) -> usize {
        local * self.workers + self.worker
    }
}

/// The intended send times of one worker in an open loop: message `k` of the run
/// is meant for `start + k / rate`, whatever happened to the ones before.
#[derive(Clone, Debug)]
pub struct Schedule {
    window: Window,
    rate: f64,
    share: Share,
    local_senders: usize,
    round: u64,
    local: usize,
}

impl Schedule {
    /// The times of `share` at `rate` messages per second over all workers.
    pub fn new(window: Window, rate: f64, share: Share) -> Self {
        assert!(rate > 0.0, "a rate of {rate} has no schedule");
        let local_senders = share.local_senders();
        Self { window, rate, share, local_senders, round: 0, local: 0 }
    }

    /// The next message's time; `None` when all have been taken.
    pub fn next_at(&self) -> Option<Time> {
        if self.local_senders == 0 {
            return None;
        }
        let message = self.round * self.share.senders as u64 + self.share.sender(self.local) as u64;
        // Exact to a nanosecond for as long as a run may last.
        let at = Time(self.window.start.0 + (message as f64 * 1e9 / self.rate).round() as u64);
        (at < self.window.end).then_some(at)
    }

    /// Takes the next message if it is due: the local number of its sender and the
    /// time at which it was meant to leave.
    pub fn take(&mut self, now: Time) -> Option<(usize, Time)> {
        let intended = self.next_at().filter(|&at| at <= now)?;
        let sender = self.local;
        self.local += 1;
        if self.local == self.local_senders {
            self.local = 0;
            self.round += 1;
        }
        Some((sender, intended))
    }
}

/// Burst that the pace allows, as a part of one second's worth: event loops wake
/// when they can, and a pace without any slack would fall behind for good.
const BURST_PART: f64 = 0.01;

/// Paces connects: never more than the asked rate in any second.
///
/// A generic cell rate algorithm. Time that was not used is not saved up, beyond a
/// hundredth of a second's worth; the steady pace is lowered by that burst, so that
/// the bound holds for every window of a second.
#[derive(Clone, Debug)]
pub struct Pacer {
    interval_ns: f64,
    slack_ns: f64,
    /// When the next permit would be due at the steady pace, in nanoseconds.
    due_ns: f64,
}

impl Pacer {
    /// At most `rate` permits in any second.
    pub fn new(rate: f64) -> Self {
        assert!(rate > 0.0, "a rate of {rate} lets nothing through");
        let extra = (rate * BURST_PART).floor();
        // A window of a second can hold a fraction more than rate x 1 s permits only
        // if the rate has a fraction itself; rounding the steady pace down removes it.
        let steady = if rate >= 1.0 { rate.floor() - extra } else { rate };
        let interval_ns = 1e9 / steady;
        Self { interval_ns, slack_ns: extra * interval_ns, due_ns: 0.0 }
    }

    /// Takes a permit, or says when there will be one.
    pub fn take(&mut self, now: Time) -> Result<(), Time> {
        let now_ns = now.0 as f64;
        let allowed_at = self.due_ns - self.slack_ns;
        if now_ns < allowed_at {
            return Err(Time(allowed_at.ceil() as u64));
        }
        self.due_ns = self.due_ns.max(now_ns) + self.interval_ns;
        Ok(())
    }
}

/// The window that begins at `start` and is `duration` long.
pub fn window(start: Time, duration: Duration) -> Window {
    Window { start, end: start + duration }
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
