//! `loadgen idle`.

use clap::Args;

use super::fanout::DEFAULT_URL;
use super::plan::{Common, Urls, build};
use super::values::connections;
use crate::plan::{Kind, Plan};
use crate::target::Target;

pub(super) const EXAMPLES: &str = "\
Examples:
  loadgen idle ws://host:8000/topics/room -c 15000 -d 60s
      how many can be opened, how long it takes, how many are dropped
  loadgen idle ws://host:8000/topics/room -c 1000 --ramp 100
      connect slowly, 100 per second";

#[derive(Args, Debug)]
pub(super) struct Idle {
    /// Where to connect
    #[arg(value_name = "URL", default_value = DEFAULT_URL)]
    pub(super) url: Target,
    /// Connections to open
    #[arg(short, long, value_name = "N", default_value_t = 1000, value_parser = connections)]
    pub(super) connections: usize,
    #[command(flatten)]
    pub(super) common: Common,
}

impl Idle {
    pub(super) fn into_plan(self) -> Result<Plan, String> {
        let urls = Urls { topics: 1, target: self.url, publisher_query: None };
        build(Kind::Idle, urls, self.connections, None, self.common)
    }
}
