//! One term of a condition: a number with its unit, or a figure of the report.

use std::str::FromStr;

use crate::latency::Latency;
use crate::report::Report;

/// A number or a figure.
#[derive(Clone, Debug)]
pub(super) enum Term {
    Number(f64),
    /// In microseconds.
    Time(f64),
    /// In bytes.
    Size(f64),
    Counter(Counter),
    /// The same in bytes.
    Bytes(Counter),
    /// The same in microseconds.
    Micros(Counter),
    Percentile(Histogram, Quantile),
    /// A figure of one population.
    Of(String, Box<Term>),
}

/// A figure of the report.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counter {
    pub(super) name: &'static str,
    read: fn(&Report) -> Option<f64>,
}

const COUNTERS: [Counter; 15] = [
    Counter { name: "connections", read: |report| Some(report.connections as f64) },
    Counter { name: "opened", read: |report| Some(report.opened as f64) },
    Counter { name: "dropped", read: |report| Some(report.dropped as f64) },
    Counter { name: "errors", read: |report| Some(report.errors as f64) },
    Counter { name: "sent", read: |report| Some(report.sent as f64) },
    Counter { name: "received", read: |report| Some(report.received as f64) },
    Counter { name: "lost", read: |report| Some(report.lost as f64) },
    Counter { name: "duplicated", read: |report| Some(report.duplicated as f64) },
    Counter { name: "misdelivered", read: |report| Some(report.misdelivered as f64) },
    Counter { name: "reordered", read: |report| Some(report.reordered as f64) },
    Counter { name: "corrupted", read: |report| Some(report.corrupted as f64) },
    Counter { name: "foreign", read: |report| Some(report.foreign as f64) },
    Counter { name: "rate", read: |report| Some(report.rate) },
    Counter { name: "received_rate", read: |report| Some(report.received_rate) },
    Counter { name: "target", read: |report| report.target_rate },
];

/// What stands before a figure of the server.
const SERVER_PREFIX: &str = "server.";

/// What the server took; only of a run that watched it.
const SERVER: [Counter; 3] = [
    Counter { name: "server.cpu_busy", read: |report| report.server.as_ref()?.cpu_busy },
    Counter { name: "server.files", read: |report| report.server.as_ref()?.files.most },
    Counter { name: "server.threads", read: |report| report.server.as_ref()?.threads.most },
];
/// The same in bytes.
pub(super) const SERVER_MEMORY: [Counter; 2] = [
    Counter { name: "server.rss", read: |report| report.server.as_ref()?.rss_bytes.most },
    Counter { name: "server.rss_per_connection", read: |report| report.server.as_ref()?.rss_bytes_per_connection },
];
const SERVER_CPU: Counter =
    Counter { name: "server.cpu_per_message", read: |report| report.server.as_ref()?.cpu_us_per_message };

/// Latencies, and how conditions call them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Histogram {
    /// What stands before the percentile; nothing for the latency.
    prefix: &'static str,
    read: fn(&Report) -> &Latency,
}

const HISTOGRAMS: [Histogram; 4] = [
    Histogram { prefix: "service.", read: |report| &report.histograms.service },
    Histogram { prefix: "handshake.", read: |report| &report.histograms.handshake },
    Histogram { prefix: "lag.", read: |report| &report.histograms.schedule_lag },
    Histogram { prefix: "", read: |report| &report.histograms.latency },
];

/// A part of the latencies, 0 to 1; 1 is `max`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quantile(f64);

impl Term {
    /// What it is in that report: times in microseconds, sizes in bytes.
    pub(super) fn value(&self, report: &Report) -> Option<f64> {
        match self {
            Self::Number(value) | Self::Time(value) | Self::Size(value) => Some(*value),
            Self::Counter(counter) | Self::Bytes(counter) | Self::Micros(counter) => (counter.read)(report),
            Self::Percentile(histogram, Quantile(quantile)) => {
                let latency = (histogram.read)(report);
                (latency.count() > 0).then(|| latency.at(*quantile))
            }
            Self::Of(population, term) => term.value(report.population(population)?),
        }
    }

    /// A time.
    pub(super) fn is_time(&self) -> bool {
        match self {
            Self::Of(_, term) => term.is_time(),
            term => matches!(term, Self::Time(_) | Self::Micros(_) | Self::Percentile(..)),
        }
    }

    /// Memory, or a size with its unit. No population has such figures.
    pub(super) fn is_size(&self) -> bool {
        matches!(self, Self::Size(_) | Self::Bytes(_))
    }

    /// The rate that was asked for.
    pub(super) fn is_target(&self) -> bool {
        matches!(self, Self::Counter(counter) if counter.name == "target")
    }

    /// What the server took.
    pub(super) fn is_of_server(&self) -> bool {
        let (Self::Counter(counter) | Self::Bytes(counter) | Self::Micros(counter)) = self else { return false };
        counter.name.starts_with(SERVER_PREFIX)
    }
}

impl FromStr for Term {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
            return number(text);
        }
        if let Some(counter) = COUNTERS.into_iter().chain(SERVER).find(|counter| counter.name == text) {
            return Ok(Self::Counter(counter));
        }
        if let Some(counter) = SERVER_MEMORY.into_iter().find(|counter| counter.name == text) {
            return Ok(Self::Bytes(counter));
        }
        if text == SERVER_CPU.name {
            return Ok(Self::Micros(SERVER_CPU));
        }
        let histogram = HISTOGRAMS.into_iter().find(|histogram| text.starts_with(histogram.prefix));
        let histogram = histogram.expect("the last prefix is empty");
        if let Some(quantile) = quantile(&text[histogram.prefix.len()..]) {
            return Ok(Self::Percentile(histogram, quantile));
        }
        // Whether there is such a population is known when the file has been read.
        match text.split_once('.') {
            Some((population, rest)) if histogram.prefix.is_empty() && is_population_name(population) => {
                match rest.parse() {
                    Ok(Self::Counter(_) | Self::Percentile(..)) => {
                        Ok(Self::Of(population.to_owned(), Box::new(rest.parse()?)))
                    }
                    _ => Err(unknown(rest)),
                }
            }
            _ => Err(unknown(text)),
        }
    }
}

fn number(text: &str) -> Result<Term, String> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let value = digits.parse::<f64>().map_err(|_| format!("{digits:?} is not a number"))?;
    let unit = unit.trim();
    if unit.is_empty() {
        return Ok(Term::Number(value));
    }
    let known = UNITS.into_iter().find(|known| known.name == unit);
    known.map(|known| (known.term)(value)).ok_or_else(|| {
        let names = UNITS.map(|known| known.name).join(", ");
        format!("{unit:?} is no unit; there are {names}")
    })
}

struct Unit {
    name: &'static str,
    term: fn(f64) -> Term,
}

const UNITS: [Unit; 12] = [
    Unit { name: "ns", term: |value| Term::Time(value / 1e3) },
    Unit { name: "us", term: Term::Time },
    Unit { name: "ms", term: |value| Term::Time(value * 1e3) },
    Unit { name: "s", term: |value| Term::Time(value * 1e6) },
    Unit { name: "B", term: Term::Size },
    Unit { name: "KB", term: |value| Term::Size(value * 1e3) },
    Unit { name: "MB", term: |value| Term::Size(value * 1e6) },
    Unit { name: "GB", term: |value| Term::Size(value * 1e9) },
    Unit { name: "KiB", term: |value| Term::Size(value * f64::from(1 << 10)) },
    Unit { name: "MiB", term: |value| Term::Size(value * f64::from(1 << 20)) },
    Unit { name: "GiB", term: |value| Term::Size(value * f64::from(1 << 30)) },
    Unit { name: "%", term: |value| Term::Number(value / 100.0) },
];

/// `p99`, `p99.9`, `p999` (the report's spelling of the same), `max`.
fn quantile(text: &str) -> Option<Quantile> {
    let digits = match text {
        "max" => return Some(Quantile(1.0)),
        "p999" => "99.9",
        "p9999" => "99.99",
        _ => text.strip_prefix('p')?,
    };
    let is_number = digits.chars().all(|c| c.is_ascii_digit() || c == '.');
    let percent = digits.parse::<f64>().ok().filter(|percent| is_number && (0.0..=100.0).contains(percent))?;
    Some(Quantile(percent / 100.0))
}

/// Names that no population may have, since figures of all begin with them.
pub fn reserved_names() -> impl Iterator<Item = &'static str> {
    let prefixes = HISTOGRAMS.into_iter().map(|histogram| histogram.prefix).chain([SERVER_PREFIX]);
    prefixes.filter_map(|prefix| prefix.strip_suffix('.'))
}

/// Whether a population may have that name: conditions speak of its figures as `name.p99`.
pub fn is_population_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
        && reserved_names().all(|reserved| reserved != name)
}

fn unknown(name: &str) -> String {
    let counters = COUNTERS.into_iter().chain(SERVER).chain(SERVER_MEMORY);
    let counters: Vec<_> = counters.map(|counter| counter.name).collect();
    format!(
        "{name:?} is no figure of the report; there are {}, and of the latency p50, p99, p99.9 or any other percentile \
         and max, each also as service.p99, handshake.p99 and lag.p99; server.cpu_per_message is a time; NAME.p99 is \
         that of a population of a mixed run",
        counters.join(", ")
    )
}
