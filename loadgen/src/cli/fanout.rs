//! `loadgen fanout`, and the run of `loadgen` without arguments.

use std::time::Duration;

use clap::{Args, Parser as _};

use super::load::Load;
use super::plan::{Common, Urls, build};
use super::values::{connections, query};
use super::{Cli, Scenario};
use crate::plan::{Kind, Plan};
use crate::target::Target;

/// The run without arguments: short, and gentle to a laptop.
const DEFAULT_SUBSCRIBERS: usize = 100;
const DEFAULT_RATE: f64 = 200.0;
const DEFAULT_DURATION: Duration = Duration::from_secs(5);
/// A topic of wsgate by default.
pub(super) const DEFAULT_URL: &str = "ws://127.0.0.1:8000/topics/loadgen";

pub(super) const EXAMPLES: &str = "\
Examples:
  loadgen fanout -c 1000 -R 100
      100 messages per second to each of 1,000 subscribers of wsgate
  loadgen fanout ws://host:8000/topics/room -c 1000
      the next message when every subscriber has the last one
  loadgen fanout --publishers 4 --publisher-query subscribe=off -R 400
      four publishers that wsgate sends nothing back to
  loadgen fanout ws://host:8000/topics/room -c 500 -R 100 --json | jq .lost
      one figure for a script";

#[derive(Args, Debug)]
pub(super) struct Fanout {
    /// Where connecting subscribes, and where what is sent goes to all subscribers
    #[arg(value_name = "URL", default_value = DEFAULT_URL)]
    pub(super) url: Target,
    /// Subscribers to open
    #[arg(short, long, value_name = "N", default_value_t = DEFAULT_SUBSCRIBERS, value_parser = connections)]
    pub(super) connections: usize,
    /// Connections that publish, beside the subscribers
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = connections)]
    pub(super) publishers: usize,
    /// Added to the URL of publishers, such as subscribe=off with wsgate
    #[arg(long, value_name = "QUERY", value_parser = query)]
    pub(super) publisher_query: Option<String>,
    #[command(flatten)]
    pub(super) load: Load,
    #[command(flatten)]
    pub(super) common: Common,
}

impl Fanout {
    pub(super) fn into_plan(self) -> Result<Plan, String> {
        let urls = Urls { target: self.url, publisher_query: self.publisher_query };
        build(Kind::Fanout { publishers: self.publishers }, urls, self.connections, Some(self.load), self.common)
    }
}

/// The run of `loadgen` without arguments: what `fanout` would do with the defaults.
pub(super) fn default_plan() -> Plan {
    let arguments = ["loadgen", "fanout", "--publisher-query", "subscribe=off"];
    let Ok(Cli { scenario: Some(Scenario::Fanout(mut fanout)) }) = Cli::try_parse_from(arguments) else {
        unreachable!("the defaults of fanout parse");
    };
    fanout.load.rate = Some(DEFAULT_RATE);
    fanout.common.duration = DEFAULT_DURATION;
    Plan { is_default: true, ..fanout.into_plan().expect("the defaults of fanout are valid") }
}
