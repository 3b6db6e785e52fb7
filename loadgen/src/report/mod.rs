//! What a run found out. One object; `text` shows it to people, its JSON form is for
//! scripts and for `compare` and `merge`, `docs/loadgen-json.md` describes it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::latency::{Latency, Quantiles};
use crate::limits::{SCHEDULE_LAG_MAX, SCHEDULE_LAG_PART_MAX};
use crate::merge::Merged;
use crate::numbers::{decimal, grouped};
use crate::origin::Origin;
use crate::plan::{Kind, Plan};
use crate::scenario::Pace;

use crate::series::{PhaseTotal, Second, Series};
use crate::server_watch::ServerReport;
use crate::tally::{Limit, Outcome, Tally};
use crate::threshold::{Judgement, Threshold};

mod text;
mod verdict;

pub use verdict::{EXIT_INTERNAL, EXIT_USAGE, Verdict};

/// Version of the JSON object. Fields may be added under the same version.
const SCHEMA: u32 = 2;

/// The report. Its fields are those of the JSON object; times are in microseconds
/// unless they say otherwise.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Version of this layout.
    pub schema: u32,
    /// Where, when and how the run was made.
    pub origin: Origin,
    /// `echo`, `fanout` or `idle`.
    pub scenario: String,
    /// The server.
    pub url: String,
    /// Open or closed loop, and what latency means there.
    pub mode: String,
    /// What was asked for, in words.
    pub set_up: String,
    /// How the run went.
    pub verdict: Verdict,
    /// Why the run says little about the server: loadgen itself was the limit.
    pub invalid: Vec<Invalid>,
    /// What `--fail-if` asked for.
    pub thresholds: Vec<Judgement>,
    /// How the runs were put together, if this is several; see `loadgen merge`.
    pub merged: Option<Merged>,
    /// Connections asked for, publishers included.
    pub connections: usize,
    /// Of these, how many publish; 0 outside fan-outs.
    pub publishers: usize,
    /// Handshakes that were completed.
    pub opened: u64,
    /// Open connections that ended before the run did.
    pub dropped: u64,
    /// Worker threads.
    pub threads: usize,
    /// Bytes of each message.
    pub payload_bytes: usize,
    /// Unanswered messages per sender; closed loop only.
    pub in_flight: Option<u32>,
    /// Messages per second that were asked for; open loop only.
    pub target_rate: Option<f64>,
    /// From the first message to the last.
    pub seconds: f64,
    /// Messages sent (fan-out: published) per second.
    pub rate: f64,
    /// Messages received (fan-out: delivered) per second.
    pub received_rate: f64,
    /// Messages sent; in a fan-out, published.
    pub sent: u64,
    /// Different messages received intact; in a fan-out, deliveries.
    pub received: u64,
    /// Messages that should have arrived and did not.
    pub lost: u64,
    /// Messages that arrived again.
    pub duplicated: u64,
    /// Messages that arrived after a later one of the same sender.
    pub reordered: u64,
    /// Messages that arrived changed.
    pub corrupted: u64,
    /// Messages that reached a subscriber of another topic.
    pub misdelivered: u64,
    /// Messages that were not of this run; ignored.
    pub foreign: u64,
    /// Connections that failed, before or after their handshake.
    pub errors: u64,
    /// The same by kind.
    pub errors_by_kind: BTreeMap<String, u64>,
    /// The first failure of each kind in words.
    pub error_examples: BTreeMap<String, String>,
    /// Storms: seconds until all connections were served again, one for each storm.
    pub recovery_seconds: Vec<f64>,
    /// Subscribers that stalled.
    pub stalled: u64,
    /// Those of them whose connection the server ended, by kind of the end.
    pub stalled_by_end: BTreeMap<String, u64>,
    /// Connections whose Close frame the server left unanswered; no error.
    pub close_unanswered: u64,
    /// Latency, as `mode` says; absent if nothing arrived.
    pub latency_us: Option<Quantiles>,
    /// The same from the actual send; open loop only.
    pub service_us: Option<Quantiles>,
    /// From the first SYN to the 101.
    pub handshake_us: Option<Quantiles>,
    /// 99th percentile of actual minus intended send time; open loop only.
    pub schedule_lag_us: Option<f64>,
    /// The greatest of them.
    pub schedule_lag_max_us: Option<f64>,
    /// What the server took meanwhile, if it was watched.
    pub server: Option<ServerReport>,
    /// The whole distributions, for exact sums and comparisons.
    pub histograms: Histograms,
    /// What was counted in each phase, by the time of its arrival.
    pub phases: Vec<PhaseReport>,
    /// What was counted in each second.
    pub series: Vec<Second>,
    #[serde(skip)]
    notes: Vec<String>,
}

/// One phase of a run.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PhaseReport {
    /// Its name.
    pub phase: String,
    /// How long it lasted.
    pub seconds: f64,
    /// Messages sent, measured or not.
    pub sent: u64,
    /// Messages received intact, measured or not.
    pub received: u64,
    /// Latency of the measured messages that arrived in it.
    pub latency_us: Option<Quantiles>,
    /// The same from the actual send; open loop only.
    pub service_us: Option<Quantiles>,
}

impl PhaseReport {
    fn new(PhaseTotal { phase, seconds, outcome }: &PhaseTotal) -> Self {
        let Tally { latency, service, .. } = &outcome.tally;
        Self {
            phase: phase.name.to_owned(),
            seconds: *seconds,
            sent: outcome.tally.sent_total(),
            received: outcome.tally.received_total(),
            latency_us: latency.quantiles(),
            service_us: service.quantiles(),
        }
    }
}

/// One reason for which a run is not valid.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Invalid {
    /// `schedule_lag`, `cpu` or `back_pressure`.
    pub reason: String,
    /// The same in words, with figures.
    pub text: String,
}

impl Invalid {
    fn new(limit: &Limit) -> Self {
        Self { reason: limit.name().to_owned(), text: limit.to_string() }
    }
}

/// All latencies of a run: each a histogram of nanoseconds, in JSON the compressed
/// V2 format of HdrHistogram in base64.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub struct Histograms {
    /// Of `latency_us`.
    pub latency: Latency,
    /// Of `service_us`.
    pub service: Latency,
    /// Of `handshake_us`.
    pub handshake: Latency,
    /// Of `schedule_lag_us`.
    pub schedule_lag: Latency,
}

impl Histograms {
    fn new(outcome: &Outcome) -> Self {
        let Tally { latency, service, schedule_lag, .. } = &outcome.tally;
        Self {
            latency: latency.clone(),
            service: service.clone(),
            handshake: outcome.connections.handshakes.clone(),
            schedule_lag: schedule_lag.clone(),
        }
    }
}

impl Report {
    /// The report of a run that sent for `seconds`.
    pub fn new(plan: &Plan, outcome: &Outcome, seconds: f64) -> Self {
        let Outcome { tally, connections, .. } = outcome;
        let lag = tally.schedule_lag.quantiles();
        let latency = tally.latency.quantiles();
        let lag_part = latency.map_or(0.0, |latency| latency.p99 * SCHEDULE_LAG_PART_MAX);
        let lag_max_us = lag_part.max(SCHEDULE_LAG_MAX.as_secs_f64() * 1e6);
        let micros = |micros: f64| Duration::from_secs_f64(micros / 1e6);
        let late = lag.filter(|lag| lag.p99 > lag_max_us);
        let late = late.map(|lag| Limit::ScheduleLag { p99: micros(lag.p99), allowed: micros(lag_max_us) });
        let invalid = outcome.limits.iter().chain(&late).map(Invalid::new).collect();
        let per_second = |count: u64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
        let errors = connections.failures.total();
        let failures = || connections.failures.iter();
        let mut report = Self {
            schema: SCHEMA,
            origin: Origin::default(),
            scenario: plan.kind.name().to_owned(),
            url: plan.target.to_string(),
            mode: match plan.pace {
                Some(Pace::Open { .. }) => "open loop, latency from intended send",
                Some(Pace::Closed { .. }) => "closed loop, service time",
                None => "connections held, no messages",
            }
            .to_owned(),
            set_up: set_up(plan),
            verdict: Verdict::Ok,
            invalid,
            thresholds: Vec::new(),
            merged: None,
            connections: plan.connections_total(),
            publishers: plan.publishers(),
            opened: connections.opened,
            dropped: connections.dropped,
            threads: plan.threads,
            payload_bytes: plan.payload_bytes,
            in_flight: match plan.pace {
                Some(Pace::Closed { in_flight }) => Some(in_flight),
                _ => None,
            },
            target_rate: match plan.pace {
                Some(Pace::Open { rate }) => Some(rate),
                _ => None,
            },
            seconds,
            rate: per_second(tally.sent),
            received_rate: per_second(tally.received),
            sent: tally.sent,
            received: tally.received,
            lost: tally.lost,
            duplicated: tally.duplicated,
            reordered: tally.reordered,
            corrupted: tally.corrupted,
            misdelivered: tally.misdelivered,
            foreign: tally.foreign,
            errors,
            errors_by_kind: failures().map(|(kind, failure)| (kind.to_owned(), failure.count)).collect(),
            error_examples: failures().map(|(kind, failure)| (kind.to_owned(), failure.example.clone())).collect(),
            recovery_seconds: tally.recoveries.iter().map(Duration::as_secs_f64).collect(),
            stalled: tally.stalled.count,
            stalled_by_end: tally.stalled.ended.clone(),
            close_unanswered: connections.close_unanswered,
            latency_us: latency,
            service_us: tally.service.quantiles(),
            handshake_us: connections.handshakes.quantiles(),
            schedule_lag_us: lag.map(|lag| lag.p99),
            schedule_lag_max_us: lag.map(|lag| lag.max),
            server: None,
            histograms: Histograms::new(outcome),
            phases: Vec::new(),
            series: Vec::new(),
            notes: Vec::new(),
        };
        report.judge(&[], false);
        report
    }

    /// Reads the percentiles from the histograms again, after these have changed.
    pub fn refresh_percentiles(&mut self) {
        let Histograms { latency, service, handshake, schedule_lag } = &self.histograms;
        self.latency_us = latency.quantiles();
        self.service_us = service.quantiles();
        self.handshake_us = handshake.quantiles();
        self.schedule_lag_us = schedule_lag.quantiles().map(|lag| lag.p99);
        self.schedule_lag_max_us = schedule_lag.quantiles().map(|lag| lag.max);
    }

    /// Decides how the run went, by its own faults and by `fail_if`. With
    /// `allow_invalid` loadgen's own limits stay in the report and decide nothing.
    pub fn judge(&mut self, fail_if: &[Threshold], allow_invalid: bool) {
        self.thresholds = fail_if.iter().map(|threshold| threshold.judge(self)).collect();
        let messages = self.lost + self.duplicated + self.reordered + self.corrupted + self.misdelivered;
        let faults = messages + self.errors;
        let verdicts = [
            (self.opened == 0, Verdict::NotConnected),
            (!self.invalid.is_empty() && !allow_invalid, Verdict::Invalid),
            (faults > 0, Verdict::Faults),
            (self.thresholds.iter().any(|threshold| threshold.failed), Verdict::ThresholdFailed),
        ];
        let first = verdicts.into_iter().find(|&(applies, _)| applies);
        self.verdict = first.map_or(Verdict::Ok, |(_, verdict)| verdict);
    }

    /// The report with the run's phases and seconds.
    pub fn with_series(mut self, series: &Series) -> Self {
        self.phases = series.phases().iter().map(PhaseReport::new).collect();
        self.series = series.seconds().to_vec();
        self
    }

    /// Why not one connection could be opened, and what to do.
    pub fn why_not_connected(&self, plan: &Plan) -> String {
        let what = self.error_examples.iter().map(|(kind, example)| format!("{kind}: {example}"));
        let what = what.collect::<Vec<_>>().join("; ");
        let refused = self.errors_by_kind.contains_key("connect refused");
        let advice = match refused {
            true if plan.target.is_local_default() => "\nstart wsgate first: cargo run --release",
            true => "\nis the server running, and is the port right?",
            false => "",
        };
        format!("cannot connect to {}: {what}{advice}", self.url)
    }

    /// Adds a line to the text: what to try next.
    pub fn note(&mut self, text: String) {
        self.notes.push(text);
    }

    /// What was added to the text.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// One JSON object, on one line.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("numbers and strings have a JSON form")
    }

    /// The report that [`Report::to_json`] wrote. An error says what is wrong with it.
    pub fn from_json(json: &str) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Version {
            schema: u32,
        }
        let Version { schema } =
            serde_json::from_str(json).map_err(|error| format!("no report of loadgen: {error}"))?;
        if schema != SCHEMA {
            return Err(format!("a report of schema {schema}; this loadgen reads {SCHEMA}"));
        }
        serde_json::from_str(json).map_err(|error| format!("a report that is damaged: {error}"))
    }

    /// The text of the report.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        text::write(&mut out, self).expect("a string can be written to");
        out
    }

    /// What `latency_us` is.
    pub fn latency_name(&self) -> &'static str {
        if self.target_rate.is_some() { "latency from intended send" } else { "service time" }
    }

    /// Whether messages are sent in this scenario.
    pub fn sends(&self) -> bool {
        self.target_rate.is_some() || self.in_flight.is_some()
    }
}

fn set_up(plan: &Plan) -> String {
    let many =
        |count: usize, noun: &str| format!("{} {noun}{}", grouped(count as u64), if count == 1 { "" } else { "s" });
    let mut parts = match plan.kind {
        Kind::Fanout { publishers } | Kind::Slow { publishers, .. } => {
            vec![many(plan.connections, "subscriber"), many(publishers, "publisher")]
        }
        _ => vec![many(plan.connections, "connection")],
    };
    parts.push(many(plan.threads, "thread"));
    if plan.pace.is_some() {
        parts.push(format!("{} bytes per message", grouped(plan.payload_bytes as u64)));
    }
    match plan.pace {
        Some(Pace::Open { rate }) => parts.push(format!("open loop at {} per second", decimal(rate))),
        Some(Pace::Closed { in_flight }) => parts.push(format!("closed loop, {in_flight} in flight")),
        None => {}
    }
    parts.push(format!("{:.1} s", plan.duration.as_secs_f64()));
    for (name, duration) in [("warm-up", plan.warm_up), ("cool-down", plan.cool_down)] {
        if !duration.is_zero() {
            parts.push(format!("{name} {:.1} s", duration.as_secs_f64()));
        }
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests;
