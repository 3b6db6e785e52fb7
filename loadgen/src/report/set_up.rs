//! What was asked for, in words.

use crate::numbers::{decimal, grouped, many};
use crate::plan::{Kind, Plan};
use crate::scenario::Pace;
use crate::sockets::Io;

/// What kind of loop it is, and what latency means there.
pub(super) fn mode(plan: &Plan) -> &'static str {
    match (plan.kind, plan.pace) {
        (Kind::Churn { .. }, _) => "open loop, handshake from intended connect",
        (Kind::Storm { .. }, _) => "connections cut, time until each is served again",
        (_, Some(Pace::Open { .. })) => "open loop, latency from intended send",
        (_, Some(Pace::Closed { .. })) => "closed loop, service time",
        (_, None) => "connections held, no messages",
    }
}

/// Worker threads, and how they wait if not as usual.
pub(super) fn threads(count: usize, io: Io) -> String {
    let threads = many(count, "thread");
    if io == Io::default() { threads } else { format!("{threads} with {}", io.name()) }
}

pub(super) fn set_up(plan: &Plan) -> String {
    let mut parts = match plan.kind {
        Kind::Fanout { publishers } | Kind::Slow { publishers, .. } => {
            vec![many(plan.connections, "subscriber"), many(publishers, "publisher")]
        }
        _ => vec![many(plan.connections, "connection")],
    };
    parts.push(threads(plan.threads, plan.io));
    if plan.pace.is_some() && !matches!(plan.kind, Kind::Churn { .. }) {
        parts.push(format!("{} bytes per message", grouped(plan.payload_bytes as u64)));
    }
    match plan.pace {
        Some(Pace::Open { rate }) if matches!(plan.kind, Kind::Churn { .. }) => {
            parts.push(format!("{} connects per second", decimal(rate)));
        }
        Some(Pace::Open { rate }) => parts.push(format!("open loop at {} per second", decimal(rate))),
        Some(Pace::Closed { in_flight }) => parts.push(format!("closed loop, {in_flight} in flight")),
        None => {}
    }
    parts.push(format!("{:.1} s", plan.course.measured().as_secs_f64()));
    for phase in plan.course.phases().iter().filter(|phase| !phase.measured) {
        parts.push(format!("{} {:.1} s", phase.name, phase.lasts.as_secs_f64()));
    }
    parts.join(", ")
}
