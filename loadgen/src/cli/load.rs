//! Flags of the scenarios that send messages.

use std::time::Duration;

use clap::Args;

use super::values::{duration, payload, rate};
use crate::limits::IN_FLIGHT_MAX;

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
    /// Bytes of each message; 20 hold what loadgen must recognize
    #[arg(short = 's', long, value_name = "BYTES", default_value_t = PAYLOAD_DEFAULT, value_parser = payload)]
    pub(super) payload: usize,
    /// Send binary messages instead of text
    #[arg(long)]
    pub(super) binary: bool,
    /// How long to wait for missing messages at the end
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = duration)]
    pub(super) grace: Duration,
}
