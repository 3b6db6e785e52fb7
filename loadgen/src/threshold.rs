//! Conditions under which a run counts as failed: `--fail-if 'p99 > 5ms'`.
//!
//! ```text
//! condition = product ( ">" | ">=" | "<" | "<=" | "==" | "!=" ) product
//! product   = term { ( "*" | "/" ) term }
//! term      = [ POPULATION "." ] NAME | NUMBER [ "ns" | "us" | "ms" | "s" | "%" ]
//! ```
//!
//! Read before the run, so that a wrong one costs nobody a run: names are looked up
//! and times are only compared with times. Judged on a finished [`Report`].

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::latency::Latency;
use crate::numbers::duration;
use crate::report::Report;

/// A condition, read.
#[derive(Clone, Debug)]
pub struct Threshold {
    text: String,
    left: Product,
    comparison: Comparison,
    right: Product,
}

/// What became of a condition.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Judgement {
    /// The condition.
    pub fail_if: String,
    /// Its left side, with a unit if it is a time.
    pub is: String,
    /// It was met, or could not be judged.
    pub failed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Comparison {
    symbol: &'static str,
    /// Whether an ordering meets it.
    meets: fn(Ordering) -> bool,
}

/// Longer symbols first: each is looked for from the start of what is left.
const COMPARISONS: [Comparison; 6] = [
    Comparison { symbol: ">=", meets: Ordering::is_ge },
    Comparison { symbol: "<=", meets: Ordering::is_le },
    Comparison { symbol: "==", meets: Ordering::is_eq },
    Comparison { symbol: "!=", meets: Ordering::is_ne },
    Comparison { symbol: ">", meets: Ordering::is_gt },
    Comparison { symbol: "<", meets: Ordering::is_lt },
];

/// What is multiplied, and what it is divided by.
#[derive(Clone, Default, Debug)]
struct Product {
    above: Vec<Term>,
    below: Vec<Term>,
}

#[derive(Clone, Debug)]
enum Term {
    Number(f64),
    /// In microseconds.
    Time(f64),
    Counter(Counter),
    /// The same in microseconds.
    Micros(Counter),
    Percentile(Histogram, Quantile),
    /// A figure of one population.
    Of(String, Box<Term>),
}

/// A figure of the report that is no time.
#[derive(Clone, Copy, Debug)]
struct Counter {
    name: &'static str,
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
const SERVER: [Counter; 5] = [
    Counter { name: "server.cpu_busy", read: |report| report.server.as_ref()?.cpu_busy },
    Counter { name: "server.rss", read: |report| report.server.as_ref()?.rss_bytes.most },
    Counter { name: "server.rss_per_connection", read: |report| report.server.as_ref()?.rss_bytes_per_connection },
    Counter { name: "server.files", read: |report| report.server.as_ref()?.files.most },
    Counter { name: "server.threads", read: |report| report.server.as_ref()?.threads.most },
];
const SERVER_CPU: Counter =
    Counter { name: "server.cpu_per_message", read: |report| report.server.as_ref()?.cpu_us_per_message };

#[derive(Clone, Copy, Debug)]
struct Histogram {
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
struct Quantile(f64);

impl Threshold {
    /// Whether the run was one that the condition is about.
    pub fn judge(&self, report: &Report) -> Judgement {
        let (left, right) = (self.left.value(report), self.right.value(report));
        let ordering = left.zip(right).and_then(|(left, right)| left.partial_cmp(&right));
        let is = match left {
            None => "unknown".to_owned(),
            Some(left) if self.left.time_power() == 1 => duration(left),
            Some(left) => format!("{}", (left * 1e6).round() / 1e6),
        };
        // Who asked for it must not be told that all is well when nothing is known.
        Judgement { fail_if: self.text.clone(), is, failed: ordering.is_none_or(self.comparison.meets) }
    }

    /// Whether it speaks of the `target` of that population, or of the whole run's; only an
    /// open loop has one.
    pub fn needs_rate(&self, of: Option<&str>) -> bool {
        let is_target = |term: &Term| matches!(term, Term::Counter(counter) if counter.name == "target");
        self.terms().any(|term| match term {
            Term::Of(population, term) => of == Some(population) && is_target(term),
            term => of.is_none() && is_target(term),
        })
    }

    /// The populations of whose figures it speaks.
    pub fn populations(&self) -> impl Iterator<Item = &str> {
        self.terms().filter_map(|term| match term {
            Term::Of(population, _) => Some(population.as_str()),
            _ => None,
        })
    }

    /// Whether it speaks of what the server took, which is known of a watched one alone.
    pub fn needs_server(&self) -> bool {
        let of_server = |counter: &Counter| counter.name.starts_with(SERVER_PREFIX);
        self.terms().any(|term| matches!(term, Term::Counter(counter) | Term::Micros(counter) if of_server(counter)))
    }

    fn terms(&self) -> impl Iterator<Item = &Term> {
        [&self.left, &self.right].into_iter().flat_map(|side| side.above.iter().chain(&side.below))
    }
}

impl FromStr for Threshold {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let at = text.find(['<', '>', '=', '!']).ok_or("no comparison; write such as 'p99 > 5ms' or 'lost > 0'")?;
        let (left, rest) = text.split_at(at);
        let comparison = COMPARISONS.into_iter().find(|comparison| rest.starts_with(comparison.symbol));
        let comparison = comparison.ok_or("no comparison: one of > >= < <= == !=")?;
        let (left, right) = (left.parse::<Product>()?, rest[comparison.symbol.len()..].parse::<Product>()?);
        if left.time_power() != right.time_power() {
            let unit = "a time needs a unit: ns, us, ms or s";
            return Err(format!("one side is a time and the other is not; {unit}"));
        }
        Ok(Self { text: text.trim().to_owned(), left, comparison, right })
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Product {
    fn value(&self, report: &Report) -> Option<f64> {
        let product = |terms: &[Term]| terms.iter().map(|term| term.value(report)).product::<Option<f64>>();
        Some(product(&self.above)? / product(&self.below)?)
    }

    /// 1 for a time, 0 for a plain number.
    fn time_power(&self) -> i32 {
        let times = |terms: &[Term]| terms.iter().filter(|term| term.is_time()).count() as i32;
        times(&self.above) - times(&self.below)
    }
}

impl FromStr for Product {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut product = Self::default();
        let mut rest = text;
        let mut side = &mut product.above;
        while let Some(at) = rest.find(['*', '/']) {
            side.push(rest[..at].trim().parse()?);
            side = if rest[at..].starts_with('*') { &mut product.above } else { &mut product.below };
            rest = &rest[at + 1..];
        }
        side.push(rest.trim().parse()?);
        Ok(product)
    }
}

impl Term {
    fn value(&self, report: &Report) -> Option<f64> {
        match self {
            Self::Number(value) | Self::Time(value) => Some(*value),
            Self::Counter(counter) | Self::Micros(counter) => (counter.read)(report),
            Self::Percentile(histogram, Quantile(quantile)) => {
                let latency = (histogram.read)(report);
                (latency.count() > 0).then(|| latency.at(*quantile))
            }
            Self::Of(population, term) => term.value(report.population(population)?),
        }
    }

    fn is_time(&self) -> bool {
        match self {
            Self::Of(_, term) => term.is_time(),
            term => matches!(term, Self::Time(_) | Self::Micros(_) | Self::Percentile(..)),
        }
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
    match unit.trim() {
        "" => Ok(Term::Number(value)),
        "%" => Ok(Term::Number(value / 100.0)),
        "ns" => Ok(Term::Time(value / 1_000.0)),
        "us" => Ok(Term::Time(value)),
        "ms" => Ok(Term::Time(value * 1_000.0)),
        "s" => Ok(Term::Time(value * 1_000_000.0)),
        unit => Err(format!("{unit:?} is no unit; use ns, us, ms, s or %")),
    }
}

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

/// Whether a population may have that name: conditions speak of its figures as `name.p99`.
pub fn is_population_name(name: &str) -> bool {
    let is_prefix = HISTOGRAMS.iter().any(|histogram| histogram.prefix.trim_end_matches('.') == name);
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
        && !is_prefix
        && name != SERVER_PREFIX.trim_end_matches('.')
}

fn unknown(name: &str) -> String {
    let counters: Vec<_> = COUNTERS.into_iter().chain(SERVER).map(|counter| counter.name).collect();
    format!(
        "{name:?} is no figure of the report; there are {}, and of the latency p50, p99, p99.9 or any other percentile \
         and max, each also as service.p99, handshake.p99 and lag.p99; server.cpu_per_message is a time; NAME.p99 is \
         that of a population of a mixed run",
        counters.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::Cli;
    use crate::tally::Outcome;

    /// A run with 1,000 messages of 1 to 1,000 ms, 10 of them lost, at 500 per second.
    fn report() -> Report {
        let plan = Cli::parse_from(["loadgen", "echo", "-c", "1", "-R", "600"]).into_plan().unwrap();
        let mut outcome = Outcome::default();
        outcome.connections.opened = 1;
        (outcome.tally.sent, outcome.tally.received, outcome.tally.lost) = (1_000, 990, 10);
        (1..=1_000).for_each(|millis| outcome.tally.latency.record(millis * 1_000_000));
        Report::new(&plan, &outcome, 2.0)
    }

    #[test]
    fn a_run_is_judged_by_its_figures() {
        let report = report();
        for (text, failed, is) in [
            ("p99 > 980ms", true, "990 ms"),
            ("p99 > 1s", false, "990 ms"),
            ("p50<0.4s", false, "500 ms"),
            ("p99.85 >= 998000us", true, "999 ms"),
            ("p999 > 2.1 * p50", false, "1.00 s"),
            ("p99 / p50 > 1.9", true, "1.979253"),
            ("max == 0ms", false, "1.00 s"),
            ("lost > 0", true, "10"),
            ("lost > 1% * sent", false, "10"),
            ("lost >= 1% * sent", true, "10"),
            ("rate < 0.99 * target", true, "500"),
            ("rate != 500", false, "500"),
            ("received_rate <= 495", true, "495"),
        ] {
            let judgement = text.parse::<Threshold>().unwrap_or_else(|error| panic!("{text}: {error}")).judge(&report);
            assert_eq!((judgement.failed, judgement.fail_if.as_str()), (failed, text), "{judgement:?}");
            let is_close = is == judgement.is || text.contains('/') && judgement.is.starts_with("1.9");
            assert!(is_close, "{text} is {}", judgement.is);
        }
    }

    #[test]
    fn what_is_not_known_fails() {
        // No latency from the actual send was recorded, and one direction is as unknown as the other.
        for text in ["service.p99 > 1s", "service.p99 < 1s", "errors / dropped > 1"] {
            let judgement = text.parse::<Threshold>().unwrap().judge(&report());
            assert!(judgement.failed, "{judgement:?}");
        }
    }

    #[test]
    fn a_wrong_condition_is_refused_with_what_would_be_right() {
        for (text, advice) in [
            ("p99", "no comparison"),
            ("p99 = 5ms", "one of > >="),
            ("p99 > 5", "a time needs a unit"),
            ("lost > 5ms", "one side is a time"),
            ("p99 * p50 > 5ms", "one side is a time"),
            ("p99 > 5min", "\"min\" is no unit"),
            ("latency > 5ms", "p50, p99, p99.9"),
            ("p101 > 5ms", "\"p101\" is no figure"),
            ("pinf > 5ms", "\"pinf\" is no figure"),
            ("loss > 0", "lost"),
            ("lost > ", "\"\" is no figure"),
            ("lost > 1.2.3", "\"1.2.3\" is not a number"),
        ] {
            let error = text.parse::<Threshold>().unwrap_err();
            assert!(error.contains(advice), "{text}: {error}");
        }
    }

    #[test]
    fn no_population_takes_the_place_of_other_figures() {
        assert!(
            ["server", "service", "lag", "handshake", "a.b", "1st", ""].iter().all(|name| !is_population_name(name))
        );
        assert!(is_population_name("rooms") && is_population_name("servers"));
        assert!("server.rss > 1".parse::<Threshold>().unwrap().needs_server());
        assert!(!"rooms.p99 > 1s".parse::<Threshold>().unwrap().needs_server());
    }

    #[test]
    fn only_a_target_needs_a_rate() {
        let needs = |text: &str, of| text.parse::<Threshold>().unwrap().needs_rate(of);
        assert!(needs("rate < 0.99 * target", None) && !needs("rate < 0.99 * target", Some("chat")));
        assert!(needs("chat.rate < chat.target", Some("chat")) && !needs("chat.rate < chat.target", None));
        assert!(!needs("p99 / p50 > 3", None));
    }
}
