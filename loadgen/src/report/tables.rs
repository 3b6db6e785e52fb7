//! Figures of populations and of phases, row by row, as text and HTML show them.

use super::{PhaseReport, Report};
use crate::latency::Quantiles;
use crate::numbers::{decimal, duration, grouped};
use crate::timeline::{CONNECT, DRAIN};

/// Heads of the figures in a row.
pub const HEADS: [&str; 7] = ["sent/s", "received/s", "faults", "p50", "p99", "p99.9", "max"];

/// One row: whose figures they are, and the figures as text.
#[derive(Clone, PartialEq, Debug)]
pub struct Row {
    /// The phase, in a table of phases.
    pub phase: Option<String>,
    /// The population.
    pub population: String,
    /// What it does, and with how many connections.
    pub what: String,
    /// In the order of [`HEADS`].
    pub figures: [String; 7],
}

/// A row for each population; none if there is but the run itself.
pub fn populations(report: &Report) -> Vec<Row> {
    let row = |part: &Report| Row {
        phase: None,
        population: part.name().to_owned(),
        what: format!("{} {}", grouped(part.connections as u64), part.scenario),
        figures: figures(part.sends().then_some([part.rate, part.received_rate]), part.faults(), part.latency_us),
    };
    report.populations.iter().map(row).collect()
}

/// A row for each phase and population; none if it would say what [`populations`] does.
pub fn phases(report: &Report) -> Vec<Row> {
    let sending = |phase: &PhaseReport| phase.phase != CONNECT && phase.phase != DRAIN;
    if report.phases.iter().filter(|phase| sending(phase)).count() < 2 {
        return Vec::new();
    }
    let shown = report.phases.iter().filter(|phase| sending(phase) || phase.faults > 0);
    shown.flat_map(|phase| report.populations.iter().filter_map(|part| phase_row(&phase.phase, part))).collect()
}

fn phase_row(name: &str, part: &Report) -> Option<Row> {
    let phase = part.phases.iter().find(|phase| phase.phase == name)?;
    let per_second = |count: u64| count as f64 / phase.seconds.max(0.001);
    let rates = part.sends().then(|| [phase.sent, phase.received].map(per_second));
    Some(Row {
        phase: Some(name.to_owned()),
        population: part.name().to_owned(),
        what: format!("{:.1} s", phase.seconds),
        figures: figures(rates, phase.faults, phase.latency_us),
    })
}

fn figures(rates: Option<[f64; 2]>, faults: u64, latency: Option<Quantiles>) -> [String; 7] {
    let nothing = || "-".to_owned();
    let [sent, received] = rates.map(|rates| rates.map(decimal)).unwrap_or_else(|| [(); 2].map(|()| nothing()));
    let times = latency.map(|q| [q.p50, q.p99, q.p999, q.max].map(duration));
    let [p50, p99, p999, max] = times.unwrap_or_else(|| [(); 4].map(|()| nothing()));
    [sent, received, grouped(faults), p50, p99, p999, max]
}
