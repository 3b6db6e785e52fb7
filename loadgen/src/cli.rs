//! The command line: what may be said, and its translation into a [`Plan`].
//!
//! Parse first, validate second: every bound is checked here, so that a run that
//! starts can be carried out.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use wsgate::proto::frame::MessageKind;

use crate::limits::{
    CONNECTIONS_MAX, DURATION_MAX, IN_FLIGHT_MAX, PAYLOAD_BYTES_MAX, RAMP_DEFAULT, RATE_MAX, THREADS_DEFAULT_MAX,
    THREADS_MAX,
};
use crate::payload::{PAYLOAD_BYTES_MIN, SEQUENCE_MAX};
use crate::plan::{Kind, Plan};
use crate::scenario::Pace;
use crate::target::{Header, Request, Target};
use crate::tls::{TlsPlan, Trust};

mod output;

pub use output::OutputArgs;

const PAYLOAD_DEFAULT: usize = 64;
/// Bytes that one sender may have in flight.
const IN_FLIGHT_BYTES_MAX: usize = 256 << 20;
/// Addresses of `--source`.
const SOURCES_MAX: usize = 4096;

/// The run without arguments: short, and gentle to a laptop.
const DEFAULT_SUBSCRIBERS: usize = 100;
const DEFAULT_RATE: f64 = 200.0;
const DEFAULT_DURATION: Duration = Duration::from_secs(5);
const DEFAULT_FANOUT_URL: &str = "ws://127.0.0.1:8000/topics/loadgen";
const DEFAULT_ECHO_URL: &str = "ws://127.0.0.1:8000/echo";

const EXAMPLES: &str = "\
Examples:
  loadgen
      a short fan-out against wsgate's defaults on this machine
  loadgen echo ws://127.0.0.1:8000/echo -c 100 -d 10s
      100 connections, each sends when its last message came back
  loadgen echo ws://127.0.0.1:8000/echo -c 1000 -R 20000
      20,000 messages per second in all, whatever the server does
  loadgen fanout ws://127.0.0.1:8000/topics/room -c 10000 -R 50
      50 messages per second to each of 10,000 subscribers
  loadgen idle ws://127.0.0.1:8000/topics/room -c 15000 -d 60s
      open and hold 15,000 connections for a minute
  loadgen fanout --help
      all options of a scenario, with more examples

Open and closed loop:
  With --rate, every message has a time at which it is meant to leave, and its
  latency counts from there, even if the server or loadgen was late.
  Without it, the next message waits for an answer, so a server that stalls is
  asked less meanwhile: the figure is labelled service time.

Exit codes:
  0  every message arrived once, in order, unchanged; no connection failed
  1  messages were lost, duplicated, reordered or corrupted, or connections
     failed
  2  wrong usage, or more connections than this process may open
  3  not one connection could be opened
  4  loadgen itself failed";

const ECHO_EXAMPLES: &str = "\
Examples:
  loadgen echo -c 100
      closed loop against wsgate's own /echo: service time
  loadgen echo ws://host:9001/ -c 1000 -R 20000 -d 30s
      open loop: 20,000 messages per second over 1,000 connections
  loadgen echo ws://host:9001/ -c 10 --in-flight 16 -s 1024
      each connection keeps 16 messages of 1 KiB under way
  loadgen echo ws://host:9001/ -R 1000 --json | jq .latency_us.p99
      one figure for a script";

const FANOUT_EXAMPLES: &str = "\
Examples:
  loadgen fanout -c 1000 -R 100
      100 messages per second to each of 1,000 subscribers of wsgate
  loadgen fanout ws://host:8000/topics/room -c 1000
      the next message when every subscriber has the last one
  loadgen fanout --publishers 4 --publisher-query subscribe=off -R 400
      four publishers that wsgate sends nothing back to
  loadgen fanout ws://host:8000/topics/room -c 500 -R 100 --json | jq .lost
      one figure for a script";

const IDLE_EXAMPLES: &str = "\
Examples:
  loadgen idle ws://host:8000/topics/room -c 15000 -d 60s
      how many can be opened, how long it takes, how many are dropped
  loadgen idle ws://host:8000/topics/room -c 1000 --ramp 100
      connect slowly, 100 per second";

/// Opens thousands of WebSocket clients against any server and reports latency,
/// throughput, and what was lost, duplicated or out of order.
///
/// Without arguments: a short fan-out against wsgate on this machine.
#[derive(Parser, Debug)]
#[command(name = "loadgen", version, after_help = EXAMPLES, disable_help_subcommand = true,
          override_usage = "loadgen [SCENARIO [URL] [OPTIONS]]", subcommand_help_heading = "Scenarios")]
pub struct Cli {
    #[command(subcommand)]
    scenario: Option<Scenario>,
}

#[derive(Subcommand, Debug)]
enum Scenario {
    /// Every connection sends messages and expects each of them back
    #[command(after_help = ECHO_EXAMPLES)]
    Echo(Echo),
    /// Publishers send to a topic, every subscriber expects every message
    #[command(after_help = FANOUT_EXAMPLES)]
    Fanout(Fanout),
    /// Open connections and hold them; pings are answered
    #[command(after_help = IDLE_EXAMPLES)]
    Idle(Idle),
}

#[derive(Args, Debug)]
struct Echo {
    /// Where messages are echoed
    #[arg(value_name = "URL", default_value = DEFAULT_ECHO_URL)]
    url: Target,
    /// Connections to open
    #[arg(short, long, value_name = "N", default_value_t = 100, value_parser = connections)]
    connections: usize,
    #[command(flatten)]
    load: Load,
    #[command(flatten)]
    common: Common,
}

#[derive(Args, Debug)]
struct Fanout {
    /// Where connecting subscribes, and where what is sent goes to all subscribers
    #[arg(value_name = "URL", default_value = DEFAULT_FANOUT_URL)]
    url: Target,
    /// Subscribers to open
    #[arg(short, long, value_name = "N", default_value_t = DEFAULT_SUBSCRIBERS, value_parser = connections)]
    connections: usize,
    /// Connections that publish, beside the subscribers
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = connections)]
    publishers: usize,
    /// Added to the URL of publishers, such as subscribe=off with wsgate
    #[arg(long, value_name = "QUERY", value_parser = query)]
    publisher_query: Option<String>,
    #[command(flatten)]
    load: Load,
    #[command(flatten)]
    common: Common,
}

#[derive(Args, Debug)]
struct Idle {
    /// Where to connect
    #[arg(value_name = "URL", default_value = DEFAULT_FANOUT_URL)]
    url: Target,
    /// Connections to open
    #[arg(short, long, value_name = "N", default_value_t = 1000, value_parser = connections)]
    connections: usize,
    #[command(flatten)]
    common: Common,
}

#[derive(Args, Debug)]
struct Load {
    /// Open loop: messages per second over all senders, such as 20000 or 0.5
    #[arg(short = 'R', long, value_name = "PER_SECOND", value_parser = rate)]
    rate: Option<f64>,
    /// Closed loop: unanswered messages per sender
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "rate",
          value_parser = clap::value_parser!(u32).range(1..=i64::from(IN_FLIGHT_MAX)))]
    in_flight: u32,
    /// Bytes of each message; 20 hold what loadgen must recognize
    #[arg(short = 's', long, value_name = "BYTES", default_value_t = PAYLOAD_DEFAULT, value_parser = payload)]
    payload: usize,
    /// Send binary messages instead of text
    #[arg(long)]
    binary: bool,
    /// How long to wait for missing messages at the end
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = duration)]
    grace: Duration,
}

#[derive(Args, Debug)]
struct Common {
    /// How long to send, or to hold: 500ms, 10s, 5m, 1h
    #[arg(short, long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    duration: Duration,
    /// Worker threads [default: one per core, 16 at most]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=THREADS_MAX as i64))]
    threads: Option<u16>,
    /// Connects per second; never exceeded
    #[arg(long, value_name = "PER_SECOND", default_value_t = RAMP_DEFAULT, value_parser = rate)]
    ramp: f64,
    /// How long a connection may take to open
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    timeout: Duration,
    /// Header to send with the upgrade, such as 'Authorization: Bearer abc'; may be repeated
    #[arg(long, value_name = "NAME: VALUE")]
    header: Vec<Header>,
    /// Subprotocol to ask for
    #[arg(long, value_name = "NAME", value_parser = token)]
    subprotocol: Option<String>,
    /// Address to connect from, or an IPv4 range such as 127.0.0.2-127.0.0.20; each has about 28,000 ports
    #[arg(long, value_name = "IP[-IP]", value_parser = sources)]
    source: Option<Sources>,
    /// For wss://: file of the certificates (PEM) to trust, in place of the system's authorities
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    ca: Option<PathBuf>,
    /// For wss://: name to ask for and to look for in the certificate [default: the URL's host]
    #[arg(long, value_name = "NAME")]
    sni: Option<String>,
    /// For wss://: accept any certificate
    #[arg(long)]
    insecure: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// Source addresses. A type of its own: clap takes a bare `Vec` for a repeated flag.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Sources(Vec<IpAddr>);

impl Cli {
    /// What is to be made of the results.
    pub fn output(&self) -> OutputArgs {
        match &self.scenario {
            None => OutputArgs::default(),
            Some(Scenario::Echo(echo)) => echo.common.output.clone(),
            Some(Scenario::Fanout(fanout)) => fanout.common.output.clone(),
            Some(Scenario::Idle(idle)) => idle.common.output.clone(),
        }
    }

    /// The run that was asked for. An error carries the text for the user.
    pub fn into_plan(self) -> Result<Plan, clap::Error> {
        let plan = match self.scenario {
            None => Ok(default_plan()),
            Some(Scenario::Echo(Echo { url, connections, load, common })) => {
                let (url, load) = (Urls { target: url, publisher_query: None }, Some(load));
                build(Kind::Echo, url, connections, load, common)
            }
            Some(Scenario::Fanout(Fanout { url, connections, publishers, publisher_query, load, common })) => {
                let url = Urls { target: url, publisher_query };
                build(Kind::Fanout { publishers }, url, connections, Some(load), common)
            }
            Some(Scenario::Idle(Idle { url, connections, common })) => {
                let url = Urls { target: url, publisher_query: None };
                build(Kind::Idle, url, connections, None, common)
            }
        };
        plan.and_then(|plan| check(&plan).map(|()| plan))
            .map_err(|text| Cli::command().error(ErrorKind::ValueValidation, text))
    }
}

struct Urls {
    target: Target,
    publisher_query: Option<String>,
}

/// The run of `loadgen` without arguments: what `fanout` would do with the defaults.
fn default_plan() -> Plan {
    let arguments = ["loadgen", "fanout", "--publisher-query", "subscribe=off"];
    let Ok(Cli { scenario: Some(Scenario::Fanout(fanout)) }) = Cli::try_parse_from(arguments) else {
        unreachable!("the defaults of fanout parse");
    };
    let Fanout { url, connections, publishers, publisher_query, mut load, mut common } = fanout;
    load.rate = Some(DEFAULT_RATE);
    common.duration = DEFAULT_DURATION;
    let url = Urls { target: url, publisher_query };
    let plan = build(Kind::Fanout { publishers }, url, connections, Some(load), common);
    Plan { is_default: true, ..plan.expect("the defaults of fanout are valid") }
}

fn build(kind: Kind, urls: Urls, connections: usize, load: Option<Load>, common: Common) -> Result<Plan, String> {
    let publishers = if let Kind::Fanout { publishers } = kind { publishers } else { 0 };
    let request = |target: &Target| Request::new(target, &common.header, common.subprotocol.as_deref());
    // More threads than connections would have nothing to do.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = common.threads.map_or(cores.min(THREADS_DEFAULT_MAX), usize::from);
    let pace = load.as_ref().map(|load| match load.rate {
        Some(rate) => Pace::Open { rate },
        None => Pace::Closed { in_flight: load.in_flight },
    });
    let tls = tls_plan(&urls.target, &common)?;
    Ok(Plan {
        kind,
        request: request(&urls.target),
        publisher_request: request(&urls.target.with_query(urls.publisher_query.as_deref().unwrap_or_default())),
        target: urls.target,
        tls,
        connections,
        pace,
        payload_bytes: load.as_ref().map_or(PAYLOAD_BYTES_MIN, |load| load.payload),
        ramp: common.ramp,
        handshake_timeout: common.timeout,
        duration: common.duration,
        grace: load.as_ref().map_or(Duration::ZERO, |load| load.grace),
        message_kind: if load.as_ref().is_some_and(|load| load.binary) {
            MessageKind::Binary
        } else {
            MessageKind::Text
        },
        threads: threads.min(connections + publishers),
        sources: common.source.map_or(Vec::new(), |sources| sources.0),
        is_default: false,
    })
}

/// How TLS is spoken, if it is.
fn tls_plan(target: &Target, common: &Common) -> Result<Option<TlsPlan>, String> {
    if !target.is_secure() {
        let given = common.ca.is_some() || common.sni.is_some() || common.insecure;
        return if given { Err("--ca, --sni and --insecure are for wss:// URLs\n".to_owned()) } else { Ok(None) };
    }
    let trust = match &common.ca {
        Some(path) => Trust::File(path),
        None if common.insecure => Trust::Anybody,
        None => Trust::System,
    };
    let name = common.sni.as_deref().unwrap_or(target.host());
    TlsPlan::new(trust, name).map(Some).map_err(|text| text + "\n")
}

/// What no flag can check alone.
fn check(plan: &Plan) -> Result<(), String> {
    let connections = plan.connections_total();
    if connections > CONNECTIONS_MAX {
        return Err(format!("{connections} connections are over the limit of {CONNECTIONS_MAX}\n"));
    }
    let senders = if plan.publishers() > 0 { plan.publishers() } else { plan.connections };
    match plan.pace {
        Some(Pace::Open { rate }) => {
            let messages = rate * plan.duration.as_secs_f64() / senders as f64;
            if messages > f64::from(SEQUENCE_MAX) {
                return Err(format!(
                    "{messages:.0} messages per sender are over the limit of {SEQUENCE_MAX}; use more connections, \
                     a lower --rate or a shorter --duration\n"
                ));
            }
        }
        Some(Pace::Closed { in_flight }) => {
            let bytes = in_flight as usize * plan.payload_bytes;
            if bytes > IN_FLIGHT_BYTES_MAX {
                return Err(format!(
                    "--in-flight {in_flight} times --payload {} are {bytes} bytes per sender, over the limit of \
                     {IN_FLIGHT_BYTES_MAX}\n",
                    plan.payload_bytes
                ));
            }
        }
        None => {}
    }
    Ok(())
}

fn connections(text: &str) -> Result<usize, String> {
    whole(text, 1, CONNECTIONS_MAX)
}

fn payload(text: &str) -> Result<usize, String> {
    whole(text, PAYLOAD_BYTES_MIN, PAYLOAD_BYTES_MAX)
}

fn whole(text: &str, min: usize, max: usize) -> Result<usize, String> {
    match text.parse() {
        Ok(value) if (min..=max).contains(&value) => Ok(value),
        _ => Err(format!("not a whole number from {min} to {max}")),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value <= RATE_MAX => Ok(value),
        _ => Err(format!("not a number above 0 and up to {RATE_MAX}")),
    }
}

/// `500ms`, `10s`, `5m`, `1h`; a bare number counts seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len()));
    let seconds_per_unit = match unit {
        "ms" => 0.001,
        "s" | "" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("{unit:?} is no unit; use ms, s, m or h")),
    };
    let seconds = number.parse::<f64>().map_err(|_| "not a time such as 500ms, 10s, 5m or 1h".to_owned())?;
    match Duration::try_from_secs_f64(seconds * seconds_per_unit) {
        Ok(duration) if !duration.is_zero() && duration <= DURATION_MAX => Ok(duration),
        _ => Err(format!("not above 0 and up to {} h", DURATION_MAX.as_secs() / 3600)),
    }
}

/// Part of a query: what may stand in a URL.
fn query(text: &str) -> Result<String, String> {
    match text.chars().find(|c| !c.is_ascii_graphic() || *c == '#') {
        None => Ok(text.trim_start_matches('?').to_owned()),
        Some(odd) => Err(format!("{odd:?} cannot stand in a query; percent-encode it")),
    }
}

fn token(text: &str) -> Result<String, String> {
    if !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic() && !"()<>@,;:\\\"/[]?={}".contains(c)) {
        Ok(text.to_owned())
    } else {
        Err("not a subprotocol name: letters, digits and -._+".to_owned())
    }
}

fn sources(text: &str) -> Result<Sources, String> {
    let address = |text: &str| text.parse::<IpAddr>().map_err(|_| format!("{text:?} is not an IP address"));
    let Some((first, last)) = text.split_once('-') else { return Ok(Sources(vec![address(text)?])) };
    let (IpAddr::V4(first), IpAddr::V4(last)) = (address(first)?, address(last)?) else {
        return Err("a range has IPv4 addresses".to_owned());
    };
    let (first, last) = (first.to_bits(), last.to_bits());
    if first > last || (last - first) as usize >= SOURCES_MAX {
        return Err(format!("not a range of 1 to {SOURCES_MAX} addresses, the lower one first"));
    }
    Ok(Sources((first..=last).map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))).collect()))
}

#[cfg(test)]
#[path = "cli_tests.rs"]
mod tests;
