//! Flags of the scenarios that send messages.

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::values::{duration, duration_or_none, payload, rate};
use crate::limits::IN_FLIGHT_MAX;
use crate::random::Random;
use crate::schedule::Arrivals;

const PAYLOAD_DEFAULT: usize = 64;

#[derive(Args, Debug)]
pub(super) struct Load {
    /// Open loop: messages per second over all senders, such as 20000 or 0.5
    #[arg(short = 'R', long, value_name = "PER_SECOND", value_parser = rate)]
    pub(super) rate: Option<f64>,
    /// Closed loop: unanswered messages per sender
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "rate",
          value_parser = clap::value_parser!(u32).range(1..=i64::from(IN_FLIGHT_MAX)))]
    pub(super) in_flight: u32,
    /// Bytes of each message; 20 hold what loadgen must recognize, with --rate 24
    #[arg(short = 's', long, value_name = "BYTES", default_value_t = PAYLOAD_DEFAULT, value_parser = payload)]
    pub(super) payload: usize,
    /// Send binary messages instead of text
    #[arg(long)]
    pub(super) binary: bool,
    /// What is around each payload, such as {"text":"{payload}"}; it is found wherever it arrives
    #[arg(long, value_name = "TEXT")]
    pub(super) message: Option<String>,
    /// How messages follow each other with --rate: evenly, or as those of many independent senders
    #[arg(long, value_name = "KIND", value_enum, default_value_t = ArrivalsArg::Constant, requires = "rate")]
    pub(super) arrivals: ArrivalsArg,
    /// Poisson arrivals: the same number gives the same times [default: another one each run]
    #[arg(long, value_name = "NUMBER", requires = "arrivals")]
    pub(super) seed: Option<u64>,
    /// How long to send before the figures begin
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration_or_none)]
    pub(super) warm_up: Duration,
    /// How long to send after the figures have ended
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration_or_none)]
    pub(super) cool_down: Duration,
    /// How long to wait for missing messages at the end
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = duration)]
    pub(super) grace: Duration,
}

/// How messages follow each other in an open loop.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum ArrivalsArg {
    Constant,
    Poisson,
}

impl Load {
    pub(super) fn arrivals(&self) -> Arrivals {
        arrivals(self.arrivals, self.seed)
    }
}

pub(super) fn arrivals(kind: ArrivalsArg, seed: Option<u64>) -> Arrivals {
    match kind {
        ArrivalsArg::Constant => Arrivals::Constant,
        ArrivalsArg::Poisson => Arrivals::Poisson { seed: seed.unwrap_or_else(random_seed) },
    }
}

fn random_seed() -> u64 {
    // A machine without randomness fails later, where it can be said.
    Random::from_system().map_or(0, |mut random| random.next_u64())
}
