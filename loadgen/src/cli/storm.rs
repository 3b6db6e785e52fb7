//! `loadgen storm`.

use clap::Args;

use super::fanout::DEFAULT_URL;
use super::plan::{Common, Urls, build};
use super::values::connections;
use crate::limits::STORMS_MAX;
use crate::plan::{Kind, Plan};
use crate::target::Target;

pub(super) const EXAMPLES: &str = "\
Examples:
  loadgen storm ws://host:8000/topics/room -c 10000
      all connections drop at once: how long until all are served again?
  loadgen storm -c 5000 --times 3 -d 30s
      three storms, ten seconds apart
  loadgen storm -c 5000 --json | jq .recovery_seconds
      the times of all storms, for a script";

#[derive(Args, Debug)]
pub(super) struct Storm {
    /// Where to connect
    #[arg(value_name = "URL", default_value = DEFAULT_URL)]
    pub(super) url: Target,
    /// Connections that drop and come back
    #[arg(short, long, value_name = "N", default_value_t = 1000, value_parser = connections)]
    pub(super) connections: usize,
    /// Storms, spread evenly over --duration; who is not back by the next one is lost
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(STORMS_MAX)))]
    pub(super) times: u32,
    #[command(flatten)]
    pub(super) common: Common,
}

impl Storm {
    pub(super) fn into_plan(self) -> Result<Plan, String> {
        let urls = Urls { topics: 1, target: self.url, publisher_query: None };
        build(Kind::Storm { times: self.times }, urls, self.connections, None, self.common)
    }
}
