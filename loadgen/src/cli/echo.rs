//! `loadgen echo`.

use clap::Args;

use super::load::Load;
use super::plan::{Common, Urls, build};
use super::values::connections;
use crate::plan::{Kind, Plan};
use crate::target::Target;

/// Where wsgate echoes by default.
const DEFAULT_URL: &str = "ws://127.0.0.1:8000/echo";

pub(super) const EXAMPLES: &str = "\
Examples:
  loadgen echo -c 100
      closed loop against wsgate's own /echo: service time
  loadgen echo ws://host:9001/ -c 1000 -R 20000 -d 30s
      open loop: 20,000 messages per second over 1,000 connections
  loadgen echo ws://host:9001/ -c 10 --in-flight 16 -s 1024
      each connection keeps 16 messages of 1 KiB under way
  loadgen echo ws://host:9001/ -R 1000 --json | jq .latency_us.p99
      one figure for a script";

#[derive(Args, Debug)]
pub(super) struct Echo {
    /// Where messages are echoed
    #[arg(value_name = "URL", default_value = DEFAULT_URL)]
    pub(super) url: Target,
    /// Connections to open
    #[arg(short, long, value_name = "N", default_value_t = 100, value_parser = connections)]
    pub(super) connections: usize,
    #[command(flatten)]
    pub(super) load: Load,
    #[command(flatten)]
    pub(super) common: Common,
}

impl Echo {
    pub(super) fn into_plan(self) -> Result<Plan, String> {
        let urls = Urls { topics: 1, target: self.url, publisher_query: None };
        build(Kind::Echo, urls, self.connections, Some(self.load), self.common)
    }
}
