//! `loadgen churn`.

use std::time::Duration;

use clap::Args;

use super::fanout::DEFAULT_URL;
use super::load::{ArrivalsArg, arrivals};
use super::plan::{Common, Urls, build};
use super::values::{connections, duration, duration_or_none, rate};
use crate::plan::{Kind, Plan};
use crate::scenario::Pace;
use crate::target::Target;

pub(super) const EXAMPLES: &str = "\
Examples:
  loadgen churn -R 500
      500 connects per second; each leaves as soon as it is open
  loadgen churn wss://host/topics/room -R 200 --stay 5s -c 2000
      a coming and going, with about 1,000 connected at any time
  loadgen churn -R 100 --arrivals poisson --json | jq .latency_us.p99
      handshake latency from the intended connect, as one figure";

#[derive(Args, Debug)]
pub(super) struct Churn {
    /// Where to connect
    #[arg(value_name = "URL", default_value = DEFAULT_URL)]
    pub(super) url: Target,
    /// Most connections at once; a connect that finds none free waits, and counts from its time
    #[arg(short, long, value_name = "N", default_value_t = 1000, value_parser = connections)]
    pub(super) connections: usize,
    /// Connects per second, whatever the server does
    #[arg(short = 'R', long, value_name = "PER_SECOND", default_value_t = 100.0, value_parser = rate)]
    pub(super) rate: f64,
    /// How long each connection stays
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration_or_none)]
    pub(super) stay: Duration,
    /// How connects follow each other: evenly, or as those of many independent clients
    #[arg(long, value_name = "KIND", value_enum, default_value_t = ArrivalsArg::Constant)]
    pub(super) arrivals: ArrivalsArg,
    /// Poisson arrivals: the same number gives the same times [default: another one each run]
    #[arg(long, value_name = "NUMBER")]
    pub(super) seed: Option<u64>,
    /// How long to wait for missing handshakes at the end
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = duration)]
    pub(super) grace: Duration,
    #[command(flatten)]
    pub(super) common: Common,
}

impl Churn {
    pub(super) fn into_plan(self) -> Result<Plan, String> {
        let at_once = self.rate * self.stay.as_secs_f64();
        if at_once > self.connections as f64 {
            return Err(format!(
                "{} connects per second that stay for {:?} are {at_once:.0} at once, more than -c {} has places for; \
                 raise it, or connect more slowly",
                self.rate, self.stay, self.connections
            ));
        }
        let urls = Urls { topics: 1, target: self.url, publisher_query: None };
        let plan = build(Kind::Churn { stay: self.stay }, urls, self.connections, None, self.common)?;
        let pace = Some(Pace::Open { rate: self.rate });
        // Nothing but handshakes is sent: no payload has to hold the fields of an open loop.
        let payload_bytes = crate::payload::PAYLOAD_BYTES_MIN_OPEN;
        Ok(Plan { pace, payload_bytes, arrivals: arrivals(self.arrivals, self.seed), grace: self.grace, ..plan })
    }
}
