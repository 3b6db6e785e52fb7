//! What a run found out: as text for people, as one JSON object for scripts.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use serde::Serialize;

use crate::latency::Quantiles;
use crate::limits::{SCHEDULE_LAG_MAX, SCHEDULE_LAG_PART_MAX};
use crate::plan::{Kind, Plan};
use crate::scenario::Pace;
use crate::series::{PhaseTotal, Second, Series};
use crate::tally::{Outcome, Tally};

/// Version of the JSON object. Fields may be added under the same version.
const SCHEMA: u32 = 1;

/// How a run went; decides the exit code.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every message arrived once, in order, unchanged; no connection failed.
    Ok,
    /// Messages were lost, duplicated, reordered or corrupted, or connections failed.
    Faults,
    /// No connection could be opened at all.
    NotConnected,
}

impl Verdict {
    /// The process's exit code.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Faults => 1,
            Self::NotConnected => 3,
        }
    }
}

/// The report. Its fields are those of the JSON object; times are in microseconds
/// unless they say otherwise.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Version of this layout.
    pub schema: u32,
    /// `echo`, `fanout` or `idle`.
    pub scenario: &'static str,
    /// The server.
    pub url: String,
    /// Open or closed loop, and what latency means there.
    pub mode: &'static str,
    /// How the run went.
    pub verdict: Verdict,
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
    /// Messages that were not of this run; ignored.
    pub foreign: u64,
    /// Connections that failed, before or after their handshake.
    pub errors: u64,
    /// The same by kind.
    pub errors_by_kind: BTreeMap<String, u64>,
    /// The first failure of each kind in words.
    pub error_examples: BTreeMap<String, String>,
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
    /// loadgen itself sent late, so the latencies contain its own delay.
    pub late: bool,
    /// What was counted in each phase, by the time of its arrival.
    pub phases: Vec<PhaseReport>,
    /// What was counted in each second.
    pub series: Vec<Second>,
    #[serde(skip)]
    notes: Vec<String>,
}

/// One phase of a run.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct PhaseReport {
    /// Its name.
    pub phase: String,
    /// How long it lasted.
    pub seconds: f64,
    /// Messages sent.
    pub sent: u64,
    /// Messages received intact.
    pub received: u64,
    /// Latency of what arrived in it.
    pub latency_us: Option<Quantiles>,
    /// The same from the actual send; open loop only.
    pub service_us: Option<Quantiles>,
}

impl PhaseReport {
    fn new(PhaseTotal { phase, seconds, outcome }: &PhaseTotal) -> Self {
        let Tally { sent, received, latency, service, .. } = &outcome.tally;
        Self {
            phase: phase.name.to_owned(),
            seconds: *seconds,
            sent: *sent,
            received: *received,
            latency_us: latency.quantiles(),
            service_us: service.quantiles(),
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
        let per_second = |count: u64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
        let errors = connections.failures.total();
        let verdict = match connections.opened {
            0 => Verdict::NotConnected,
            _ if errors > 0 || !tally.is_faultless() => Verdict::Faults,
            _ => Verdict::Ok,
        };
        let failures = || connections.failures.iter();
        Self {
            schema: SCHEMA,
            scenario: plan.kind.name(),
            url: plan.target.to_string(),
            mode: match plan.pace {
                Some(Pace::Open { .. }) => "open loop, latency from intended send",
                Some(Pace::Closed { .. }) => "closed loop, service time",
                None => "connections held, no messages",
            },
            verdict,
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
            foreign: tally.foreign,
            errors,
            errors_by_kind: failures().map(|(kind, failure)| (kind.to_owned(), failure.count)).collect(),
            error_examples: failures().map(|(kind, failure)| (kind.to_owned(), failure.example.clone())).collect(),
            close_unanswered: connections.close_unanswered,
            latency_us: latency,
            service_us: tally.service.quantiles(),
            handshake_us: connections.handshakes.quantiles(),
            schedule_lag_us: lag.map(|lag| lag.p99),
            schedule_lag_max_us: lag.map(|lag| lag.max),
            late: lag.is_some_and(|lag| lag.p99 > lag_max_us),
            phases: Vec::new(),
            series: Vec::new(),
            notes: Vec::new(),
        }
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

    /// One JSON object, on one line.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("numbers and strings have a JSON form")
    }

    /// The text of the report.
    pub fn to_text(&self, plan: &Plan) -> String {
        let mut text = String::new();
        self.write_text(&mut text, plan).expect("a string can be written to");
        text
    }

    fn write_text(&self, out: &mut String, plan: &Plan) -> fmt::Result {
        writeln!(out, "{} {}", self.scenario, self.url)?;
        writeln!(out, "  {}", self.set_up(plan))?;
        writeln!(out)?;
        let all = if self.opened == self.connections as u64 { "" } else { " (of those asked for)" };
        row(out, "connections", self.opened, &format!("of {} opened{all}", grouped(self.connections as u64)))?;
        if self.dropped > 0 {
            row(out, "dropped", self.dropped, "ended before the run did")?;
        }
        if plan.pace.is_some() {
            self.write_messages(out)?;
        }
        if self.foreign > 0 {
            row(out, "foreign", self.foreign, "messages that were not of this run, ignored")?;
        }
        row(out, "errors", self.errors, "")?;
        for (kind, count) in &self.errors_by_kind {
            let example = self.error_examples.get(kind).map_or("", String::as_str);
            writeln!(out, "    {kind}: {} (first: {example})", grouped(*count))?;
        }
        writeln!(out)?;
        writeln!(out, "{:>39}{:>10}{:>10}{:>10}{:>10}{:>10}", "p50", "p90", "p99", "p99.9", "p99.99", "max")?;
        let latency_name = match plan.pace {
            Some(Pace::Open { .. }) => "latency from intended send",
            _ => "service time",
        };
        if let Some(latency) = self.latency_us {
            write_quantiles(out, latency_name, latency)?;
        }
        if let Some(service) = self.service_us {
            write_quantiles(out, "latency from actual send", service)?;
        }
        if let Some(handshake) = self.handshake_us {
            write_quantiles(out, "handshake", handshake)?;
        }
        if let (Some(p99), Some(max)) = (self.schedule_lag_us, self.schedule_lag_max_us) {
            writeln!(out)?;
            writeln!(out, "  messages left at most {} after their time (p99: {})", duration(max), duration(p99))?;
        }
        if self.late {
            writeln!(out, "  LATE: loadgen itself could not keep the schedule; the latencies contain its own delay.")?;
            writeln!(out, "  Lower --rate, give it more --threads or cores, or run it on another machine.")?;
        }
        for note in &self.notes {
            writeln!(out, "\n{note}")?;
        }
        Ok(())
    }

    fn set_up(&self, plan: &Plan) -> String {
        let many =
            |count: usize, noun: &str| format!("{} {noun}{}", grouped(count as u64), if count == 1 { "" } else { "s" });
        let mut parts = match plan.kind {
            Kind::Fanout { publishers } => {
                vec![many(plan.connections, "subscriber"), many(publishers, "publisher")]
            }
            _ => vec![many(plan.connections, "connection")],
        };
        parts.push(many(self.threads, "thread"));
        if plan.pace.is_some() {
            parts.push(format!("{} bytes per message", grouped(self.payload_bytes as u64)));
        }
        match plan.pace {
            Some(Pace::Open { rate }) => parts.push(format!("open loop at {} per second", decimal(rate))),
            Some(Pace::Closed { in_flight }) => parts.push(format!("closed loop, {in_flight} in flight")),
            None => {}
        }
        parts.push(format!("{:.1} s", self.seconds));
        parts.join(", ")
    }

    fn write_messages(&self, out: &mut String) -> fmt::Result {
        row(out, "sent", self.sent, &format!("{} per second", decimal(self.rate)))?;
        row(out, "received", self.received, &format!("{} per second", decimal(self.received_rate)))?;
        row(out, "lost", self.lost, "")?;
        row(out, "duplicated", self.duplicated, "")?;
        row(out, "reordered", self.reordered, "")?;
        row(out, "corrupted", self.corrupted, "")
    }
}

fn row(out: &mut String, name: &str, count: u64, remark: &str) -> fmt::Result {
    let line = format!("  {name:<12}{:>14}  {remark}", grouped(count));
    writeln!(out, "{}", line.trim_end())
}

fn write_quantiles(out: &mut String, name: &str, q: Quantiles) -> fmt::Result {
    write!(out, "  {name:<28}")?;
    for (i, micros) in [q.p50, q.p90, q.p99, q.p999, q.p9999, q.max].into_iter().enumerate() {
        write!(out, "{:>width$}", duration(micros), width = if i == 0 { 9 } else { 10 })?;
    }
    writeln!(out)
}

/// Microseconds in the unit that reads best, with three significant digits.
fn duration(micros: f64) -> String {
    let (value, unit) = match micros {
        ..1_000.0 => (micros, "us"),
        ..1_000_000.0 => (micros / 1_000.0, "ms"),
        _ => (micros / 1_000_000.0, "s"),
    };
    let digits = match value {
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {unit}")
}

/// A rate: whole from 100 on, grouped.
fn decimal(value: f64) -> String {
    if value >= 100.0 { grouped(value.round() as u64) } else { format!("{value:.1}") }
}

/// Digits in groups of three.
pub fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::Cli;
    use crate::failure::Failure;

    fn plan(arguments: &str) -> Plan {
        Cli::parse_from(arguments.split(' ')).into_plan().unwrap()
    }

    /// The outcome of one connection that sent `sent` and got back `sent - lost`.
    fn outcome(sent: u64, lost: u64) -> Outcome {
        let mut outcome = Outcome::default();
        outcome.connections.opened = 1;
        (outcome.tally.sent, outcome.tally.received, outcome.tally.lost) = (sent, sent - lost, lost);
        (lost..sent).for_each(|_| outcome.tally.latency.record(1_000_000));
        outcome
    }

    #[test]
    fn the_json_object_has_what_scripts_rely_on() {
        let json = Report::new(&plan("loadgen echo -c 1 -R 5"), &outcome(10, 0), 2.0).to_json();
        assert!(!json.contains('\n'));
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        for name in ["scenario", "mode", "errors_by_kind", "latency_us"] {
            assert!(!json[name].is_null(), "{name}");
        }
        for (name, value) in [("seconds", 2.0), ("rate", 5.0), ("sent", 10.0), ("received", 10.0), ("lost", 0.0)] {
            assert_eq!(json[name].as_f64(), Some(value), "{name}");
        }
        for name in ["duplicated", "reordered", "errors", "corrupted"] {
            assert_eq!(json[name].as_u64(), Some(0), "{name}");
        }
        for name in ["p50", "p90", "p99", "p999", "p9999", "max"] {
            assert!((999.0..1_001.0).contains(&json["latency_us"][name].as_f64().unwrap()), "{name}");
        }
    }

    #[test]
    fn any_fault_and_any_error_decides_the_exit_code() {
        let plan = plan("loadgen echo -c 1");
        assert_eq!(Report::new(&plan, &outcome(10, 0), 1.0).verdict.exit_code(), 0);
        assert_eq!(Report::new(&plan, &outcome(10, 1), 1.0).verdict.exit_code(), 1);
        type Counter = fn(&mut Outcome) -> &mut u64;
        let faults: [Counter; 3] =
            [|o| &mut o.tally.duplicated, |o| &mut o.tally.reordered, |o| &mut o.tally.corrupted];
        for fault in faults {
            let mut outcome = outcome(10, 0);
            *fault(&mut outcome) = 1;
            assert_eq!(Report::new(&plan, &outcome, 1.0).verdict.exit_code(), 1);
        }
        let mut failed = outcome(10, 0);
        failed.connections.failures.add(&Failure::Disconnected);
        assert_eq!(Report::new(&plan, &failed, 1.0).verdict.exit_code(), 1);
        failed.connections.opened = 0;
        assert_eq!(Report::new(&plan, &failed, 1.0).verdict.exit_code(), 3);
    }

    #[test]
    fn a_newcomer_without_a_server_is_told_to_start_it() {
        let mut outcome = Outcome::default();
        outcome.connections.failures.add(&Failure::ConnectRefused);
        let advice = |arguments: &str| {
            let plan = plan(arguments);
            Report::new(&plan, &outcome, 0.0).why_not_connected(&plan)
        };
        assert!(advice("loadgen").contains("start wsgate first: cargo run --release"));
        assert!(advice("loadgen echo ws://10.0.0.1/").contains("is the server running"));
    }

    #[test]
    fn a_run_that_was_late_says_so() {
        let plan = plan("loadgen echo -c 1 -R 5");
        let mut outcome = outcome(100, 0);
        (0..100).for_each(|_| outcome.tally.schedule_lag.record(900_000));
        assert!(!Report::new(&plan, &outcome, 1.0).late);
        (0..2).for_each(|_| outcome.tally.schedule_lag.record(5_000_000));
        let report = Report::new(&plan, &outcome, 1.0);
        assert!(report.late && report.to_text(&plan).contains("LATE"));
        assert!((4_990.0..5_010.0).contains(&report.schedule_lag_us.unwrap()));
        // The same lag beside a latency of 100 ms means little.
        (0..1_000).for_each(|_| outcome.tally.latency.record(100_000_000));
        assert!(!Report::new(&plan, &outcome, 1.0).late);
    }

    #[test]
    fn numbers_read_well() {
        for (value, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(value), text);
        }
        for (micros, text) in
            [(0.5, "0.50 us"), (12.34, "12.3 us"), (999.4, "999 us"), (1_500.0, "1.50 ms"), (2_500_000.0, "2.50 s")]
        {
            assert_eq!(duration(micros), text);
        }
    }
}
