//! From samples to the table.

use serde::Serialize;

use super::interval::{Interval, interval, median};
use super::machine::Machine;
use super::measure::{Sample, WorkSample};
use super::program::{Part, Program};
use super::row::{Budget, Measures, Row};

/// A load that is busier than this, with a server that is not, was the bottleneck.
const BUSY: f64 = 0.95;

/// Everything that was measured.
#[derive(Serialize, Debug)]
pub(super) struct Report {
    pub(super) machine: Machine,
    /// Rounds in which each server ran once in each row.
    pub(super) pairs: usize,
    /// Time that each run was measured.
    pub(super) seconds: f64,
    /// What each server of the table is.
    pub(super) servers: Vec<(&'static str, &'static str)>,
    pub(super) rows: Vec<RowReport>,
    /// Servers that could not be measured.
    pub(super) left_out: Vec<LeftOut>,
}

/// A server that was left out, and why.
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
pub(super) struct LeftOut {
    pub(super) server: &'static str,
    /// The row, or all of them.
    pub(super) row: Option<&'static str>,
    pub(super) reason: String,
}

/// One row.
#[derive(Serialize, Debug)]
pub(super) struct RowReport {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    pub(super) measures: Measures,
    pub(super) lines: Vec<Line>,
    pub(super) verdicts: Vec<Verdict>,
    /// Messages that one send of wsgate could have taken at best.
    window: usize,
}

/// One server in a row.
#[derive(Serialize, Debug)]
pub(super) struct Line {
    pub(super) server: &'static str,
    /// In nanoseconds or bytes, see [`Measures`].
    pub(super) median: f64,
    /// wsgate's figure divided by this one's, pair by pair.
    pub(super) ratio: Option<Interval>,
    /// The load kept the server waiting.
    pub(super) load_was_bottleneck: bool,
    /// One for each round; `null` if the run failed.
    pub(super) samples: Vec<Option<Sample>>,
}

/// A budget, judged.
#[derive(Serialize, Debug)]
pub(super) struct Verdict {
    pub(super) budget: String,
    pub(super) result: Judgement,
}

/// Whether a budget is kept.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Debug)]
#[serde(rename_all = "snake_case")]
pub(super) enum Judgement {
    /// With 95 % confidence.
    Met,
    /// With 95 % confidence not.
    Missed,
    /// The limit lies between the bounds; more pairs may tell.
    Open,
    /// What it compares with was not measured, or in fewer than five pairs.
    NotJudged,
}

impl RowReport {
    /// Compares the programs of a row; each has one sample, or none, for each round.
    pub(super) fn new(row: &Row, measured: Vec<(&'static Program, Vec<Option<Sample>>)>) -> Self {
        let subject: Vec<_> =
            measured.iter().find(|(program, _)| program.part == Part::Subject).map_or_else(Vec::new, |(_, s)| s.clone());
        let mut parts = Vec::new();
        let mut lines = Vec::new();
        for (program, samples) in measured {
            let values: Vec<f64> = samples.iter().flatten().map(|sample| sample.value).collect();
            let Some(median) = median(&values) else { continue };
            let ratio = if program.part == Part::Subject { None } else { paired_ratio(&subject, &samples) };
            parts.push(program.part);
            let load_was_bottleneck = load_was_bottleneck(&samples);
            lines.push(Line { server: program.name, median, ratio, load_was_bottleneck, samples });
        }
        let verdicts = row.budgets.iter().map(|budget| judge(*budget, &lines, &parts)).collect();
        let (window, measures) = (row.work.window(), row.work.measures());
        Self { name: row.name, title: row.title, measures, lines, verdicts, window }
    }
}

/// The ratios of the rounds in which both ran.
fn paired_ratio(subject: &[Option<Sample>], other: &[Option<Sample>]) -> Option<Interval> {
    let pairs = subject.iter().zip(other).filter_map(|(a, b)| a.as_ref().zip(b.as_ref()));
    let ratios: Vec<f64> = pairs.map(|(a, b)| a.value / b.value).filter(|ratio| ratio.is_finite()).collect();
    interval(&ratios)
}

fn load_was_bottleneck(samples: &[Option<Sample>]) -> bool {
    let busy = |of: fn(&WorkSample) -> f64| median_of(samples, of);
    busy(|work| work.load_busy) > BUSY && busy(|work| work.server_busy) < BUSY
}

/// The median of something in the samples of a row with messages, 0 elsewhere.
fn median_of(samples: &[Option<Sample>], of: fn(&WorkSample) -> f64) -> f64 {
    let values: Vec<f64> = samples.iter().flatten().filter_map(|sample| sample.work.as_ref().map(of)).collect();
    median(&values).unwrap_or_default()
}

fn judge(budget: Budget, lines: &[Line], parts: &[Part]) -> Verdict {
    let of = |part| lines.iter().zip(parts).filter(move |(_, other)| **other == part).map(|(line, _)| line);
    let (budget, value, limit) = match budget {
        Budget::OfFloor(limit) => {
            (format!("at most {limit} × floor"), of(Part::Floor).next().and_then(|line| line.ratio), limit)
        }
        Budget::OfBestPeer(limit) => {
            let best = of(Part::Peer).min_by(|a, b| a.median.total_cmp(&b.median));
            let name = best.map_or("none measured", |line| line.server);
            (format!("at most {limit} × best peer ({name})"), best.and_then(|line| line.ratio), limit)
        }
        Budget::Bytes(limit) => {
            let values = of(Part::Subject).flat_map(|line| line.samples.iter().flatten()).map(|sample| sample.value);
            (format!("at most {limit} B"), interval(&values.collect::<Vec<_>>()), limit)
        }
    };
    let result = match value {
        Some(Interval { lower: Some(lower), upper: Some(upper), .. }) => match (lower, upper) {
            (_, upper) if upper <= limit => Judgement::Met,
            (lower, _) if lower > limit => Judgement::Missed,
            _ => Judgement::Open,
        },
        _ => Judgement::NotJudged,
    };
    Verdict { budget, result }
}

impl Report {
    /// The tables, in Markdown.
    pub(super) fn text(&self) -> String {
        let machine = &self.machine;
        let mut text = format!(
            "{}, {} processors, Linux {}. Server on processor {}, load on {}. {} pairs of {} s.\n\
             User instructions: not counted.\n",
            machine.processor,
            machine.processors,
            machine.kernel,
            machine.server_on,
            machine.load_on,
            self.pairs,
            self.seconds
        );
        for row in &self.rows {
            text += &format!("\n**{}** — {}\n\n", row.name, row.title);
            text += &row.table();
            text += &row.remarks();
        }
        text += "\n";
        for (name, about) in &self.servers {
            text += &format!("* {name}: {about}\n");
        }
        for LeftOut { server, row, reason } in &self.left_out {
            let row = row.map(|row| format!(" in {row}")).unwrap_or_default();
            text += &format!("* left out{row}: {server}: {reason}\n");
        }
        text
    }
}

impl RowReport {
    fn table(&self) -> String {
        let mut text = match self.measures {
            Measures::MessageCpu => {
                "| server | CPU per message | user | system | wsgate ÷ it | server busy | load busy |\n\
                 | --- | --- | --- | --- | --- | --- | --- |\n"
            }
            Measures::ConnectionBytes => "| server | bytes per connection | wsgate ÷ it |\n| --- | --- | --- |\n",
        }
        .to_owned();
        for line in &self.lines {
            let ratio = line.ratio.map(show_ratio).unwrap_or_default();
            let Line { server, median, samples, .. } = line;
            text += &match self.measures {
                Measures::MessageCpu => {
                    let user = median_of(samples, |work| work.user_share);
                    let percent = |of| format!("{:.0} %", median_of(samples, of) * 100.0);
                    format!(
                        "| {server} | {} | {} | {} | {ratio} | {} | {} |\n",
                        show_time(*median),
                        show_time(median * user),
                        show_time(median * (1.0 - user)),
                        percent(|work| work.server_busy),
                        percent(|work| work.load_busy)
                    )
                }
                Measures::ConnectionBytes => format!("| {server} | {median:.0} | {ratio} |\n"),
            };
        }
        text
    }

    fn remarks(&self) -> String {
        let mut text = String::new();
        for Verdict { budget, result } in &self.verdicts {
            let result = match result {
                Judgement::Met => "met",
                Judgement::Missed => "MISSED",
                Judgement::Open => "open: the limit lies within the bounds",
                Judgement::NotJudged => "not judged",
            };
            text += &format!("* {budget}: {result}\n");
        }
        for line in self.lines.iter().filter(|line| line.load_was_bottleneck) {
            text += &format!("* the load was the bottleneck of {}, which waited for it\n", line.server);
        }
        for line in &self.lines {
            text += &self.sends(line).unwrap_or_default();
        }
        if text.is_empty() { text } else { format!("\n{text}") }
    }

    /// What wsgate counted itself.
    fn sends(&self, line: &Line) -> Option<String> {
        let sends = || line.samples.iter().flatten().filter_map(|sample| sample.work.as_ref()?.sends);
        let calls: u64 = sends().map(|sends| sends.calls).sum();
        let messages: u64 = sends().map(|sends| sends.messages).sum();
        let turns: u64 = sends().map(|sends| sends.turns).sum();
        let short: u64 = sends().map(|sends| sends.short).sum();
        if messages == 0 || turns == 0 {
            return None;
        }
        let per_message = calls as f64 / messages as f64;
        let window = match self.window {
            1 => String::new(),
            window => format!(" ({:.2} for each connection and {window} messages)", per_message * window as f64),
        };
        let (per_turn, name) = (messages as f64 / turns as f64, line.server);
        Some(format!("* {name}: {per_message:.3} sends per message{window}, {short} short, {per_turn:.1} messages per turn\n"))
    }
}

/// Nanoseconds as a reader wants them.
fn show_time(ns: f64) -> String {
    match ns {
        ns if ns >= 10_000.0 => format!("{:.1} µs", ns / 1000.0),
        ns if ns >= 1000.0 => format!("{:.2} µs", ns / 1000.0),
        ns if ns >= 100.0 => format!("{ns:.0} ns"),
        ns => format!("{ns:.1} ns"),
    }
}

fn show_ratio(ratio: Interval) -> String {
    let bounds = ratio.lower.zip(ratio.upper).map(|(lower, upper)| format!(" ({lower:.2}–{upper:.2})"));
    format!("{:.2}{}", ratio.median, bounds.unwrap_or_default())
}
