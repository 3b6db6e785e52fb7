//! What changed between two set-ups, each measured by one run or several.

use std::fmt::Write as _;

use serde::Serialize;

use crate::fold::{folded, shortened};
use crate::latency::Latency;
use crate::numbers::{decimal, duration, fraction, millions};
use crate::report::{Report, Verdict};
use crate::statistics::{CONFIDENCE, change, geometric_mean, mean};

/// Version of the JSON object. Fields may be added under the same version.
const SCHEMA: u32 = 1;

/// The reports of one set-up.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its name in tables and plots.
    pub name: String,
    /// Its runs; never empty.
    pub reports: Vec<Report>,
}

impl Group {
    /// The latencies of all its runs.
    pub fn latency(&self) -> Latency {
        let mut sum = Latency::default();
        self.reports.iter().for_each(|report| sum.merge(&report.histograms.latency));
        sum
    }

    /// A figure of each run, or of its population of that name.
    fn values(&self, population: Option<&str>, read: Read) -> Option<Vec<f64>> {
        let part = |report| population.map_or(Some(report), |name| Report::population(report, name));
        self.reports.iter().map(|report| read(part(report)?)).collect()
    }
}

/// What a figure is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// A rate.
    PerSecond,
    /// A time in microseconds.
    #[serde(rename = "us")]
    Micros,
    /// A number.
    Count,
}

impl Unit {
    fn text(self, value: f64) -> String {
        let (text, suffix) = match self {
            Self::PerSecond => (decimal(value), "/s"),
            Self::Micros => (duration(value), ""),
            Self::Count => (fraction(value), ""),
        };
        if self != Self::Micros && text.len() + suffix.len() > CELL_COLUMNS[0] {
            return millions(value) + suffix;
        }
        text + suffix
    }
}

type Read = fn(&Report) -> Option<f64>;

const FIGURES: [(&str, Unit, Read); 14] = [
    ("sent", Unit::PerSecond, |report| Some(report.rate)),
    ("received", Unit::PerSecond, |report| Some(report.received_rate)),
    ("p50", Unit::Micros, |report| report.latency_us.map(|latency| latency.p50)),
    ("p90", Unit::Micros, |report| report.latency_us.map(|latency| latency.p90)),
    ("p99", Unit::Micros, |report| report.latency_us.map(|latency| latency.p99)),
    ("p99.9", Unit::Micros, |report| report.latency_us.map(|latency| latency.p999)),
    ("max", Unit::Micros, |report| report.latency_us.map(|latency| latency.max)),
    ("from actual send p99", Unit::Micros, |report| report.service_us.map(|service| service.p99)),
    ("handshake p99", Unit::Micros, |report| report.handshake_us.map(|handshake| handshake.p99)),
    ("lost", Unit::Count, |report| Some(report.lost as f64)),
    ("other faults", Unit::Count, |report| {
        Some((report.duplicated + report.reordered + report.corrupted + report.misdelivered) as f64)
    }),
    ("errors", Unit::Count, |report| Some(report.errors as f64)),
    ("server CPU per message", Unit::Micros, |report| report.server.as_ref()?.cpu_us_per_message),
    ("server bytes per connection", Unit::Count, |report| report.server.as_ref()?.rss_bytes_per_connection),
];

/// One line of the comparison.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Row {
    /// The population, in mixed runs; `None` for the figures of all together.
    pub population: Option<String>,
    /// The figure.
    pub name: &'static str,
    /// What its values are.
    pub unit: Unit,
    /// Its mean over the first group: geometric where there is a change, which is a ratio of
    /// those, and arithmetic where there is none.
    pub base: f64,
    /// The same of the second.
    pub new: f64,
    /// By what part the second is above the first, such as 0.1 for 10 %; `None` if there is
    /// no ratio.
    pub change: Option<f64>,
    /// Between which bounds that lies.
    pub interval: Option<(f64, f64)>,
    /// What follows.
    pub finding: &'static str,
}

impl Row {
    /// What the line is about.
    pub fn title(&self) -> String {
        self.titled(str::to_owned)
    }

    fn titled(&self, show: fn(&str) -> String) -> String {
        let population = self.population.as_ref().map(|population| show(population) + " ");
        population.unwrap_or_default() + self.name
    }

    /// Both means, the change and its interval, with units; empty what there is not.
    pub fn cells(&self) -> [String; 4] {
        let percent = |part: f64| match part * 100.0 {
            percent if percent > 999.0 => ">+999 %".to_owned(),
            percent if percent >= 100.0 => format!("{percent:+.0} %"),
            percent => format!("{percent:+.1} %"),
        };
        let change = self.change.map_or(String::new(), percent);
        let interval = self.interval.map(|(low, high)| format!("{} to {}", percent(low), percent(high)));
        [self.unit.text(self.base), self.unit.text(self.new), change, interval.unwrap_or_default()]
    }
}

/// What follows from an interval that contains no change at all.
const NOTHING_SHOWN: &str = "no difference shown";

/// A comparison.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// What `new` is compared with.
    pub base: Group,
    /// What changed.
    pub new: Group,
    /// The figures.
    pub rows: Vec<Row>,
    /// What a reader should know before believing them.
    pub warnings: Vec<String>,
}

impl Comparison {
    /// Compares two set-ups.
    pub fn new(base: Group, new: Group) -> Self {
        assert!(!base.reports.is_empty() && !new.reports.is_empty(), "groups have runs");
        let groups = (&base, &new);
        let populations = base.reports[0].populations.iter().map(|part| part.name.as_deref());
        let rows_of = |population| FIGURES.into_iter().filter_map(move |figure| row(population, figure, groups));
        let rows = populations.chain([None]).flat_map(rows_of).collect();
        let warnings = warnings(&base, &new, str::to_owned);
        Self { base, new, rows, warnings }
    }

    /// One JSON object, on one line; `docs/loadgen-json.md` describes it.
    pub fn to_json(&self) -> String {
        #[derive(Serialize)]
        struct Object<'a> {
            schema: u32,
            confidence: f64,
            base: Name<'a>,
            new: Name<'a>,
            figures: &'a [Row],
            warnings: &'a [String],
        }
        #[derive(Serialize)]
        struct Name<'a> {
            name: &'a str,
            runs: usize,
        }
        fn name(group: &Group) -> Name<'_> {
            Name { name: &group.name, runs: group.reports.len() }
        }
        let Self { base, new, rows, warnings } = self;
        let (base, new) = (name(base), name(new));
        let object = Object { schema: SCHEMA, confidence: CONFIDENCE, base, new, figures: rows, warnings };
        serde_json::to_string(&object).expect("numbers and strings have a JSON form")
    }

    /// As text for people, for a terminal of 80 columns.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        for group in [&self.base, &self.new] {
            let first = &group.reports[0];
            let runs =
                if group.reports.len() == 1 { "1 run".to_owned() } else { format!("{} runs", group.reports.len()) };
            let name = shown(&group.name);
            writeln!(out, "{name} ({runs}): {} {}, {}", first.scenario, first.url, first.set_up).expect("text");
        }
        out.push('\n');
        let percent = CONFIDENCE * 100.0;
        let head = ["base", "new", "change", &format!("{percent:.0} % interval")];
        write_line(&mut out, "", head, "difference");
        for row in &self.rows {
            let [base, new, change, interval] = row.cells();
            let finding = if row.finding == NOTHING_SHOWN { "none shown" } else { row.finding };
            // One unit is enough for both bounds, where the table is narrow.
            let interval = interval.replacen(" %", "", 1);
            write_line(&mut out, &row.titled(shown), [&base, &new, &change, &interval], finding);
        }
        let warnings = warnings(&self.base, &self.new, shown);
        if !warnings.is_empty() {
            out.push('\n');
        }
        for warning in &warnings {
            writeln!(out, "  {warning}").expect("text");
        }
        folded(&out)
    }
}

/// Columns of a name that somebody gave, a longer one is shortened: beside it, a figure's has
/// room in one line.
const NAME_COLUMNS: usize = 40;
/// Columns of a line's name; a longer one has a line of its own.
const TITLE_COLUMNS: usize = 16;
/// Columns of both means, the change and its interval.
const CELL_COLUMNS: [usize; 4] = [10, 10, 8, 18];

/// A name on a terminal.
fn shown(name: &str) -> String {
    shortened(name, NAME_COLUMNS)
}

fn write_line(out: &mut String, title: &str, cells: [&str; 4], finding: &str) {
    let mut line = format!("  {title:<TITLE_COLUMNS$}");
    if title.chars().count() > TITLE_COLUMNS {
        writeln!(out, "{line}").expect("text");
        line = " ".repeat(2 + TITLE_COLUMNS);
    }
    for (cell, columns) in cells.iter().zip(CELL_COLUMNS) {
        write!(line, " {cell:>columns$}").expect("text");
    }
    writeln!(out, "{}", format!("{line}  {finding}").trim_end()).expect("text");
}

/// A row; `None` for a figure that no run has, or a count that is 0 everywhere.
fn row(population: Option<&str>, figure: (&'static str, Unit, Read), (base, new): (&Group, &Group)) -> Option<Row> {
    let (name, unit, read) = figure;
    let (base, new) = (base.values(population, read)?, new.values(population, read)?);
    if base.iter().chain(&new).all(|&value| value == 0.0) && (unit != Unit::Count || name != "lost") {
        return None;
    }
    let change = change(&base, &new);
    // Arithmetic ones may go up where the ratio goes down.
    let mean = if change.is_some() { geometric_mean } else { mean };
    let (base_mean, new_mean) = (mean(&base)?, mean(&new)?);
    let interval = change.and_then(|(_, bounds)| bounds);
    let finding = match interval {
        // What is written must not contradict what follows from it.
        Some((low, _)) if low > 0.0 => "higher",
        Some((_, high)) if high < 0.0 => "lower",
        Some(_) => NOTHING_SHOWN,
        None if change.is_none() && base_mean != new_mean => "differs",
        None => "",
    };
    Some(Row {
        population: population.map(str::to_owned),
        name,
        unit,
        base: base_mean,
        new: new_mean,
        change: change.map(|(change, _)| change),
        interval,
        finding,
    })
}

/// `show` says how names are written.
fn warnings(base: &Group, new: &Group, show: fn(&str) -> String) -> Vec<String> {
    let mut warnings = Vec::new();
    for group in [base, new] {
        let name = show(&group.name);
        let of = |verdict| group.reports.iter().filter(|report| report.verdict == verdict).count();
        let runs = group.reports.len();
        match of(Verdict::Invalid) {
            0 => {}
            count => warnings.push(format!("{name}: {count} of {runs} runs INVALID, loadgen itself was the limit")),
        }
        match of(Verdict::NotConnected) {
            0 => {}
            count => warnings.push(format!("{name}: {count} of {runs} runs could not connect")),
        }
        let first = &group.reports[0];
        if group.reports.iter().any(|report| report.set_up != first.set_up || report.scenario != first.scenario) {
            warnings.push(format!("{name}: its runs are not of one set-up"));
        }
    }
    let (a, b) = (&base.reports[0], &new.reports[0]);
    if (&a.scenario, &a.set_up) != (&b.scenario, &b.set_up) {
        warnings.push("the two were not asked for the same".to_owned());
    }
    if (&a.origin.host, a.origin.cores) != (&b.origin.host, b.origin.cores) {
        warnings.push("the two were made on different machines".to_owned());
    }
    if base.reports.len() < 2 || new.reports.len() < 2 {
        warnings.push("one run says nothing about how much runs differ; repeat each, best in turns".to_owned());
    }
    warnings
}

#[cfg(test)]
#[path = "compare_tests.rs"]
mod tests;
