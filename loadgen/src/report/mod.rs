//! What a run found out. One object; `text` shows it to people, its JSON form is for
//! scripts and for `compare` and `merge`, `docs/loadgen-json.md` describes it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::fold::folded;
use crate::latency::{Latency, Quantiles};
use crate::limits::{SCHEDULE_LAG_MAX, SCHEDULE_LAG_PART_MAX, SENDING_LATE_MAX, SENDING_LATE_PART_MAX};
use crate::merge::Merged;
use crate::mix::Mix;
use crate::origin::Origin;
use crate::plan::Plan;
use crate::scenario::Pace;
use crate::self_check::WorkerLoad;
use crate::series::{PhaseTotal, Second, Series};
use crate::server_watch::ServerReport;
use crate::tally::{Limit, Outcome, Tally};
use crate::threshold::{Judgement, Threshold};

mod mixed;
mod set_up;
pub mod tables;
mod text;
mod verdict;
mod words;

pub use verdict::{EXIT_INTERNAL, EXIT_USAGE, Verdict};
pub use words::Words;

/// Version of the JSON object. Fields may be added under the same version.
const SCHEMA: u32 = 2;

/// The report. Its fields are those of the JSON object; times are in microseconds
/// unless they say otherwise.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Version of this layout.
    pub schema: u32,
    /// Where, when and how the run was made; not repeated in a population's.
    pub origin: Origin,
    /// Of a population: its name.
    #[serde(default)]
    pub name: Option<String>,
    /// `echo`, `fanout` and so on; `mixed` if there are populations.
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
    /// Bytes of each message; `None` if they are not the same in all populations.
    pub payload_bytes: Option<usize>,
    /// Unanswered messages per sender; closed loop only.
    pub in_flight: Option<u32>,
    /// Messages per second that were asked for, in the mean over what was measured; open
    /// loop only.
    pub target_rate: Option<f64>,
    /// From the first message to the last: the measured time, or longer if they left late.
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
    /// What loadgen's own threads had to do. Older reports do not say.
    #[serde(default)]
    pub workers: Vec<WorkerReport>,
    /// It ended before its time, since somebody asked for it.
    #[serde(default)]
    pub interrupted: bool,
    /// What else a reader should know.
    #[serde(default)]
    pub notes: Vec<String>,
    /// A report of each, if several populations ran at the same time.
    #[serde(default)]
    pub populations: Vec<Report>,
}

/// One phase of a run.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PhaseReport {
    /// Its name.
    pub phase: String,
    /// Its messages are in the figures.
    #[serde(default)]
    pub measured: bool,
    /// How long it lasted.
    pub seconds: f64,
    /// Messages per second that were asked for at its beginning and at its end; open loop
    /// only.
    #[serde(default)]
    pub asked: Option<(f64, f64)>,
    /// Messages sent, measured or not.
    pub sent: u64,
    /// Messages received intact, measured or not.
    pub received: u64,
    /// What went wrong in it: messages and connections.
    #[serde(default)]
    pub faults: u64,
    /// Latency of the measured messages that arrived in it.
    pub latency_us: Option<Quantiles>,
    /// The same from the actual send; open loop only.
    pub service_us: Option<Quantiles>,
}

impl PhaseReport {
    fn new(PhaseTotal { phase, seconds, outcome }: &PhaseTotal) -> Self {
        let Tally { latency, service, lost, duplicated, reordered, corrupted, misdelivered, .. } = &outcome.tally;
        let messages = lost + duplicated + reordered + corrupted + misdelivered;
        Self {
            phase: phase.name.to_string(),
            measured: phase.measured,
            seconds: *seconds,
            asked: None,
            sent: outcome.tally.sent_total(),
            received: outcome.tally.received_total(),
            faults: messages + outcome.connections.failures.total(),
            latency_us: latency.quantiles(),
            service_us: service.quantiles(),
        }
    }
}

/// One reason for which a run is not valid.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Invalid {
    /// `schedule_lag`, `rate`, `cpu` or `back_pressure`.
    pub reason: String,
    /// The same in words, with figures.
    pub text: String,
}

impl Invalid {
    fn new(limit: &Limit) -> Self {
        Self { reason: limit.name().to_owned(), text: limit.to_string() }
    }
}

/// What one of loadgen's threads had to do while messages were measured.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct WorkerReport {
    /// Number of the thread.
    pub worker: usize,
    /// Processor time that it used, in seconds.
    pub cpu_seconds: f64,
    /// The same as a part of the time, 0 to 1.
    pub cpu_part: f64,
    /// That part in the busiest second.
    pub cpu_part_max: f64,
    /// The greatest part of a second in which it ran, or was ready and had no processor.
    pub ready_part_max: f64,
    /// Messages that found earlier ones still waiting for room in their socket.
    pub blocked_messages: u64,
}

impl WorkerReport {
    fn new(load: &WorkerLoad) -> Self {
        let (cpu_seconds, seconds) = (load.cpu.as_secs_f64(), load.time.as_secs_f64());
        Self {
            worker: load.worker,
            cpu_seconds,
            cpu_part: if seconds > 0.0 { cpu_seconds / seconds } else { 0.0 },
            cpu_part_max: load.busiest,
            ready_part_max: load.shortest,
            blocked_messages: load.blocked_messages,
        }
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
        let per_second = |count: u64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
        // Of all the time that it took: what a server keeps waiting leaves behind its own time.
        let late_max = (seconds * SENDING_LATE_PART_MAX).max(SENDING_LATE_MAX.as_secs_f64());
        let asked = plan.target_rate().filter(|_| tally.behind.as_secs_f64() > late_max);
        let slow = asked.map(|asked| Limit::Rate { held: per_second(tally.sent), asked });
        let invalid = outcome.limits.iter().chain(&late).chain(&slow).map(Invalid::new).collect();
        let errors = connections.failures.total();
        let failures = || connections.failures.iter();
        let mut report = Self {
            schema: SCHEMA,
            origin: Origin::default(),
            name: None,
            scenario: plan.kind.name().to_owned(),
            url: plan.target.to_string(),
            mode: set_up::mode(plan).to_owned(),
            set_up: set_up::set_up(plan),
            verdict: Verdict::Ok,
            invalid,
            thresholds: Vec::new(),
            merged: None,
            connections: plan.connections_total(),
            publishers: plan.publishers(),
            opened: connections.opened,
            dropped: connections.dropped,
            threads: plan.threads,
            payload_bytes: Some(plan.payload_bytes),
            in_flight: match plan.pace {
                Some(Pace::Closed { in_flight }) => Some(in_flight),
                _ => None,
            },
            target_rate: plan.target_rate(),
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
            workers: outcome.loads.iter().map(WorkerReport::new).collect(),
            interrupted: false,
            notes: Vec::new(),
            populations: Vec::new(),
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
        self.populations.iter_mut().for_each(|population| population.judge(&[], allow_invalid));
        self.thresholds = fail_if.iter().map(|threshold| threshold.judge(self)).collect();
        let verdicts = [
            (self.opened == 0, Verdict::NotConnected),
            (!self.invalid.is_empty() && !allow_invalid, Verdict::Invalid),
            (self.faults() > 0, Verdict::Faults),
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

    /// The same with the rates that the plan asks for in each phase.
    pub fn with_asked(mut self, plan: &Plan) -> Self {
        for phase in &mut self.phases {
            phase.asked = plan.asked_in(&phase.phase);
        }
        self
    }

    /// Why not one connection could be opened, and what to do.
    pub fn why_not_connected(&self, mix: &Mix) -> String {
        let what = self.error_examples.iter().map(|(kind, example)| format!("{kind}: {example}"));
        let what = what.collect::<Vec<_>>().join("; ");
        let refused = self.errors_by_kind.contains_key("connect refused");
        let advice = match refused {
            true if mix.plans().any(|plan| plan.target.is_local_default()) => {
                "\nstart wsgate first: cargo run --release"
            }
            true => "\nis the server running, and is the port right?",
            false => "",
        };
        format!("cannot connect to {}: {what}{advice}", self.url)
    }

    /// Adds a line of what else a reader should know.
    pub fn note(&mut self, text: String) {
        self.notes.push(text);
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

    /// The text of the report, for a terminal of 80 columns.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        text::write(&mut out, self).expect("a string can be written to");
        folded(&out)
    }

    /// Whether messages are sent in this scenario.
    pub fn sends(&self) -> bool {
        let sends = |report: &Self| report.target_rate.is_some() || report.in_flight.is_some();
        sends(self) || self.populations.iter().any(sends)
    }
}

#[cfg(test)]
mod tests;
