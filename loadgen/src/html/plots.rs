//! The plots of a run.

use super::plot::{Line, Plot};
use super::scale::{Scale, nines};
use crate::latency::Latency;
use crate::numbers::decimal;
use crate::report::Report;
use crate::series::Second;
use crate::timeline::CONNECT;

/// Points that a line has at most: more cannot be told apart.
const POINTS_MAX: usize = 400;
/// Points of a percentile line between one nine and the next.
const POINTS_PER_NINE: u32 = 32;

/// Distributions side by side, over percentiles.
pub(super) fn percentiles(title: &'static str, distributions: &[(String, &Latency)]) -> Option<Plot> {
    const CLASSES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
    let recorded = || distributions.iter().filter(|(_, latency)| latency.count() > 0);
    let count = recorded().map(|(_, latency)| latency.count()).max()?;
    let lines: Vec<_> = recorded()
        .zip(CLASSES)
        .map(|((name, latency), class)| Line { name: name.clone(), class, points: percentile_points(latency) })
        .collect();
    Some(Plot {
        title,
        x_name: "percent of the messages that took at most this",
        x: Scale::percentiles(count),
        y: Scale::durations(lines.iter().flat_map(|line| line.points.iter().map(|&(_, y)| y))),
        lines,
        shades: Vec::new(),
        bars: false,
    })
}

fn percentile_points(latency: &Latency) -> Vec<(f64, f64)> {
    let last = nines(1.0 - 1.0 / latency.count().max(10) as f64);
    let steps = (last * f64::from(POINTS_PER_NINE)).ceil() as u32;
    let quantile = |nines: f64| 1.0 - 10_f64.powf(-nines);
    let at = |step: u32| f64::from(step) * last / f64::from(steps);
    let points = (0..=steps).map(|step| (at(step), latency.at(quantile(at(step)))));
    points.chain([(last, latency.at(1.0))]).collect()
}

/// What happened when.
pub(super) fn over_time(report: &Report) -> Vec<Plot> {
    // Before the first message there is nothing to see but the ramp.
    let seconds: Vec<_> = report.series.iter().filter(|second| second.phase != CONNECT || !report.sends()).collect();
    let has_latency = seconds.iter().any(|second| second.latency_us.is_some());
    let mut plots = Vec::new();
    if has_latency {
        plots.push(latency(&seconds));
    }
    if report.sends() {
        plots.push(rate("Received per second", "received", &seconds, |second| second.received, Vec::new()));
        plots.push(rate("Sent per second", "sent", &seconds, |second| second.sent, asked(report)));
    } else {
        plots.push(rate("Connections opened per second", "opened", &seconds, |second| second.opened, Vec::new()));
    }
    if seconds.iter().any(|second| second.faults() > 0) {
        let points = thin(&seconds, |second| Some(second.faults() as f64), |sum, value| sum + value);
        plots.push(Plot {
            title: "Faults: messages and connections",
            bars: true,
            ..plot_of("", vec![Line { name: "faults".to_owned(), class: "faulty", points }], &seconds)
        });
    }
    plots
}

fn latency(seconds: &[&Second]) -> Plot {
    type Read = fn(&Second) -> Option<f64>;
    let lines: [(&str, &'static str, Read); 3] = [
        ("p50", "a", |second| second.latency_us.map(|latency| latency.p50)),
        ("p99", "b", |second| second.latency_us.map(|latency| latency.p99)),
        ("max", "c", |second| second.latency_us.map(|latency| latency.max)),
    ];
    let lines =
        lines.map(|(name, class, read)| Line { name: name.to_owned(), class, points: thin(seconds, read, f64::max) });
    let plot = plot_of("Latency of what arrived in each second", lines.into(), seconds);
    Plot { y: Scale::durations(plot.lines.iter().flat_map(|line| line.points.iter().map(|&(_, y)| y))), ..plot }
}

/// The rate that was asked for, over time: evenly from the beginning of each phase to its end.
fn asked(report: &Report) -> Vec<(f64, f64)> {
    let begins = |phase: &str| report.series.iter().find(|second| second.phase == phase).map(|second| second.at);
    let points = report.phases.iter().filter_map(|phase| {
        let ((from, to), begins) = (phase.asked?, begins(&phase.phase)?);
        Some([(begins, from), (begins + phase.seconds, to)])
    });
    points.flatten().collect()
}

fn rate(
    title: &'static str,
    name: &str,
    seconds: &[&Second],
    count: fn(&Second) -> u64,
    asked: Vec<(f64, f64)>,
) -> Plot {
    // A short rest of a second says little about a rate.
    let whole: Vec<_> = seconds.iter().copied().filter(|second| second.seconds > 0.5 || seconds.len() < 3).collect();
    let read = |second: &Second| Some(count(second) as f64 / second.seconds.max(0.001));
    let points = thin(&whole, read, f64::max);
    let mut lines = vec![Line { name: name.to_owned(), class: "a", points }];
    if !asked.is_empty() {
        lines.push(Line { name: "asked".to_owned(), class: "target", points: asked });
    }
    plot_of(title, lines, seconds)
}

/// Over all `seconds`, those shaded whose messages are in no figure.
fn plot_of(title: &'static str, lines: Vec<Line>, seconds: &[&Second]) -> Plot {
    let x = Scale::time(seconds.iter().flat_map(|second| [second.at, second.at + second.seconds]));
    let y = Scale::linear(lines.iter().flat_map(|line| line.points.iter().map(|&(_, y)| y)), decimal_or_fraction);
    let unmeasured = seconds.iter().filter(|second| !second.measured && second.phase != CONNECT);
    let mut shades = Vec::<(f64, f64)>::new();
    for second in unmeasured {
        let (from, to) = (second.at, second.at + second.seconds);
        match shades.last_mut().filter(|last| (last.1 - from).abs() < 1e-6) {
            Some(last) => last.1 = to,
            None => shades.push((from, to)),
        }
    }
    Plot { title, x_name: "seconds after the first message", x, y, lines, shades, bars: false }
}

/// A point for each second, or for some of them together if there are too many.
fn thin(seconds: &[&Second], read: impl Fn(&Second) -> Option<f64>, join: fn(f64, f64) -> f64) -> Vec<(f64, f64)> {
    let per_point = seconds.len().div_ceil(POINTS_MAX).max(1);
    let point = |seconds: &[&Second]| {
        let value = seconds.iter().filter_map(|second| read(second)).reduce(join)?;
        let (first, last) = (seconds[0], seconds[seconds.len() - 1]);
        Some(((first.at + last.at + last.seconds) / 2.0, value))
    };
    seconds.chunks(per_point).filter_map(point).collect()
}

fn decimal_or_fraction(value: f64) -> String {
    if value >= 100.0 { decimal(value) } else { format!("{value}") }
}
