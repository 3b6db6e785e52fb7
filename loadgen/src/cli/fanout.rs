//! `loadgen fanout`, and the run of `loadgen` without arguments.

use std::time::Duration;

use clap::{Args, Parser as _};

use super::client::Clients;
use super::load::Load;
use super::plan::{Common, Urls, build};
use super::values::{connections, connections_or_none, query};
use super::{Cli, Scenario};
use crate::plan::{Kind, Plan};
use crate::publisher::PublishRequest;
use crate::target::{Header, Target};

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
  loadgen fanout ws://host:8000/topics/room-{topic} --topics 100 -c 5000 -R 1000
      100 topics with 50 subscribers and a publisher each
  loadgen fanout ws://host:8000/topics/room -R 100 --publish-url http://host:8001/topics/room
      published as a back end does, over HTTP
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
    /// Topics over which the subscribers are spread; {topic} in URL or messages is a topic's number
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = connections)]
    pub(super) topics: usize,
    /// Connections that publish to each topic, beside the subscribers [default: 1, with --publish-url 0]
    #[arg(long, value_name = "N", value_parser = connections_or_none)]
    pub(super) publishers: Option<usize>,
    /// Publish by POST to this http:// URL, each message a body; {topic} is a topic's number
    #[arg(long, value_name = "URL", value_parser = Target::parse_http)]
    pub(super) publish_url: Option<Target>,
    /// Header of each publish, such as 'X-API-Key: secret'; may be repeated
    #[arg(long, value_name = "NAME: VALUE", requires = "publish_url")]
    pub(super) publish_header: Vec<Header>,
    /// Connections to --publish-url for each topic; each waits for an answer before its next publish
    #[arg(long, value_name = "N", default_value_t = 1, requires = "publish_url", value_parser = connections)]
    pub(super) http_publishers: usize,
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
        let by_clients = self.publishers.unwrap_or(if self.publish_url.is_some() { 0 } else { 1 });
        let over_http = if self.publish_url.is_some() { self.http_publishers } else { 0 };
        let publishers = (by_clients + over_http) * self.topics;
        if publishers == 0 {
            return Err("--publishers 0 leaves nobody to publish; give --publish-url\n".to_owned());
        }
        if self.topics > self.connections {
            return Err(format!(
                "--topics {} leaves topics without any of {} subscribers\n",
                self.topics, self.connections
            ));
        }
        if self.topics > 1 && !self.names_topic() {
            return Err("--topics: {topic} stands neither in the URL nor in --subscribe or --first\n".to_owned());
        }
        let urls = Urls { topics: self.topics, target: self.url, publisher_query: self.publisher_query };
        let mut plan = build(Kind::Fanout { publishers }, urls, self.connections, Some(self.load), self.common)?;
        plan.client_publishers = by_clients;
        plan.publish = self
            .publish_url
            .map(|url| PublishRequest::new(&url, &self.publish_header, &plan.speech.table))
            .transpose()
            .map_err(|text| text + "\n")?;
        Ok(plan)
    }
}

impl Fanout {
    fn names_topic(&self) -> bool {
        let Clients { subscribe, first, .. } = &self.common.clients;
        let url = self.url.to_string();
        [&url].into_iter().chain(subscribe).chain(first).any(|text| text.contains("{topic}"))
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
