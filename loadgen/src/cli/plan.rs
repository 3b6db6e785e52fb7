//! From flags to a [`Plan`], and what no flag can check alone.

use std::time::Duration;

use clap::Args;
use wsgate::proto::frame::MessageKind;

use super::client::Clients;
use super::load::Load;
use super::output::OutputArgs;
use super::values::{IoArg, duration};
use crate::course::Course;
use crate::limits::{CONNECTIONS_MAX, THREADS_DEFAULT_MAX, THREADS_MAX};
use crate::payload::{PAYLOAD_BYTES_MIN, PAYLOAD_BYTES_MIN_OPEN, SEQUENCE_MAX};
use crate::plan::{Kind, Plan};
use crate::scenario::Pace;
use crate::schedule::Arrivals;
use crate::target::{Request, Target};

/// Bytes that one sender may have in flight.
const IN_FLIGHT_BYTES_MAX: usize = 256 << 20;

#[derive(Args, Debug)]
pub(super) struct Common {
    /// How long to send, or to hold: 500ms, 10s, 5m, 1h
    #[arg(short, long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(super) duration: Duration,
    /// Worker threads [default: one per core, 16 at most]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=THREADS_MAX as i64))]
    pub(super) threads: Option<u16>,
    /// Bind each worker thread to a processor of its own
    #[arg(long)]
    pub(super) pin: bool,
    /// How workers wait for their sockets; auto is epoll
    #[arg(long, env = "LOADGEN_IO", value_name = "KIND", value_enum, default_value_t = IoArg::Auto)]
    pub(super) io: IoArg,
    #[command(flatten)]
    pub(super) clients: Clients,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

pub(super) struct Urls {
    /// Topics of a fan-out; 1 elsewhere.
    pub(super) topics: usize,
    pub(super) target: Target,
    pub(super) publisher_query: Option<String>,
}

pub(super) fn build(
    kind: Kind,
    urls: Urls,
    connections: usize,
    load: Option<Load>,
    common: Common,
) -> Result<Plan, String> {
    let publishers = match kind {
        Kind::Fanout { publishers } | Kind::Slow { publishers, .. } => publishers,
        _ => 0,
    };
    let message = load.as_ref().and_then(|load| load.message.as_deref());
    let speech = common.clients.speech(message).map_err(|text| text + "\n")?;
    let request = |target: &Target| {
        let Clients { header, subprotocol, .. } = &common.clients;
        let request = Request::new(target, header, subprotocol.as_deref(), &speech.table);
        let request = request.map_err(|text| text + "\n")?;
        Ok::<_, String>(if common.clients.compression { request.with_deflate() } else { request })
    };
    // More threads than connections would have nothing to do.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = common.threads.map_or(cores.min(THREADS_DEFAULT_MAX), usize::from);
    let pace = load.as_ref().map(|load| match load.rate {
        Some(rate) => Pace::Open { rate },
        None => Pace::Closed { in_flight: load.in_flight },
    });
    let tls = common.clients.tls_plan(&urls.target)?;
    Ok(Plan {
        kind,
        request: request(&urls.target)?,
        publisher_request: request(&urls.target.with_query(urls.publisher_query.as_deref().unwrap_or_default()))?,
        speech,
        topics: urls.topics,
        publish: None,
        client_publishers: publishers / urls.topics,
        target: urls.target,
        tls,
        connections,
        pace,
        payload_bytes: load.as_ref().map_or(PAYLOAD_BYTES_MIN, |load| load.payload),
        ramp: common.clients.ramp,
        handshake_timeout: common.clients.timeout,
        arrivals: load.as_ref().map_or(Arrivals::Constant, Load::arrivals),
        course: Course::plain(
            load.as_ref().map_or(Duration::ZERO, |load| load.warm_up),
            common.duration,
            load.as_ref().map_or(Duration::ZERO, |load| load.cool_down),
        ),
        grace: load.as_ref().map_or(Duration::ZERO, |load| load.grace),
        message_kind: if load.as_ref().is_some_and(|load| load.binary) {
            MessageKind::Binary
        } else {
            MessageKind::Text
        },
        pin: common.pin,
        io: common.io.into(),
        threads: threads.min(connections + publishers),
        sources: common.clients.source.map_or(Vec::new(), |sources| sources.0),
        is_default: false,
    })
}

/// What no flag can check alone.
pub(super) fn check(plan: &Plan) -> Result<(), String> {
    let connections = plan.connections_total();
    if connections > CONNECTIONS_MAX {
        return Err(format!("{connections} connections are over the limit of {CONNECTIONS_MAX}\n"));
    }
    let senders = if plan.publishers() > 0 { plan.publishers() } else { plan.connections };
    match plan.pace {
        Some(Pace::Open { .. }) if plan.payload_bytes < PAYLOAD_BYTES_MIN_OPEN => {
            return Err(format!(
                "--payload {} does not hold what loadgen must recognize: {PAYLOAD_BYTES_MIN_OPEN} bytes with --rate\n",
                plan.payload_bytes
            ));
        }
        Some(Pace::Open { rate }) => {
            let messages = rate * plan.course.sending().as_secs_f64() / senders as f64;
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
