//! When things are meant to happen: the open loop's send times, fixed before the
//! first message leaves, and the pace of connecting.
//!
//! Both are plain arithmetic on times that are handed in.

use std::time::Duration;

use wsgate::time::Time;

use crate::payload::TIME_UNIT_BITS;
use crate::profile::Profile;
use crate::random::Random;

/// The part of a run in which messages are meant to leave. Those that are meant for
/// the time from `measured_from` to `measured_to` are in the figures; those before
/// (warm-up) and after (cool-down) are load like any other, and must arrive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// The first message's time.
    pub start: Time,
    /// Where the figures begin.
    pub measured_from: Time,
    /// Where they end.
    pub measured_to: Time,
    /// No message is meant for this time or later.
    pub end: Time,
}

impl Window {
    /// A warm-up from `start` on, the measurement, and a cool-down.
    pub fn new(start: Time, warm_up: Duration, measured: Duration, cool_down: Duration) -> Self {
        let measured_from = start + warm_up;
        let measured_to = measured_from + measured;
        Self { start, measured_from, measured_to, end: measured_to + cool_down }
    }

    /// The same, but over at `now` at the latest.
    pub fn until(self, now: Time) -> Self {
        Self { measured_to: self.measured_to.min(now), end: self.end.min(now), ..self }
    }

    /// Whether a message that was meant for that time is in the figures.
    pub fn measures(&self, intended: Time) -> bool {
        // As exactly as a message tells it: sender and receiver must agree.
        let ticks = |time: Time| time.0 >> TIME_UNIT_BITS;
        (ticks(self.measured_from)..ticks(self.measured_to)).contains(&ticks(intended))
    }
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

/// How messages follow each other in an open loop.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Arrivals {
    /// At even distances.
    #[default]
    Constant,
    /// As those of many senders that know nothing of each other do: a Poisson process
    /// over all senders, of which each has its turn.
    Poisson {
        /// The same seed gives the same times.
        seed: u64,
    },
}

/// The intended send times of one worker in an open loop, fixed by arithmetic before
/// the first message leaves, whatever happens to any of them. With constant arrivals,
/// message `k` of the run is meant for the moment at which the profile reaches `k`.
#[derive(Clone, Debug)]
pub struct Schedule {
    window: Window,
    profile: Profile,
    share: Share,
    local_senders: usize,
    round: u64,
    local: usize,
    /// Poisson arrivals: the generator, and how much of the profile has passed, in
    /// messages of the whole run.
    poisson: Option<(Random, f64)>,
    next_at: Option<Time>,
}

impl Schedule {
    /// The times of `share`. The profile holds for all workers together.
    pub fn new(window: Window, profile: Profile, arrivals: Arrivals, share: Share) -> Self {
        let local_senders = share.local_senders();
        let poisson = match arrivals {
            Arrivals::Constant => None,
            Arrivals::Poisson { seed } => Some((Random::from_stream(seed, share.worker as u64), 0.0)),
        };
        let mut schedule =
            Self { window, profile, share, local_senders, round: 0, local: 0, poisson, next_at: Some(window.start) };
        schedule.find_next();
        schedule
    }

    /// The next message's time; `None` when all have been taken.
    pub fn next_at(&self) -> Option<Time> {
        self.next_at
    }

    /// Takes the next message if it is due: the local number of its sender and the
    /// time at which it was meant to leave.
    pub fn take(&mut self, now: Time) -> Option<(usize, Time)> {
        let intended = self.next_at.filter(|&at| at <= now)?;
        let sender = self.local;
        self.local += 1;
        if self.local == self.local_senders {
            self.local = 0;
            self.round += 1;
        }
        self.find_next();
        Some((sender, intended))
    }

    /// Nothing more is to be taken. The time of the next message, if that was due and not
    /// taken yet.
    pub fn stop(&mut self, now: Time) -> Option<Time> {
        self.next_at.take().filter(|&at| at <= now)
    }

    fn find_next(&mut self) {
        if self.local_senders == 0 {
            self.next_at = None;
            return;
        }
        let messages = match &mut self.poisson {
            None => (self.round * self.share.senders as u64 + self.share.sender(self.local) as u64) as f64,
            Some((random, passed)) => {
                // This worker's part of a Poisson process is one again, of a part of its rate.
                let gap = random.exponential() * self.share.senders as f64 / self.local_senders as f64;
                *passed += gap;
                *passed
            }
        };
        self.next_at = self.profile.reaches(messages).map(|after| self.window.start + after);
        self.next_at = self.next_at.filter(|&at| at < self.window.end);
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

/// The window that begins at `start` and is `duration` long, all of it measured.
pub fn window(start: Time, duration: Duration) -> Window {
    Window::new(start, Duration::ZERO, duration, Duration::ZERO)
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
