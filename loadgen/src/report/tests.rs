use clap::Parser as _;

use super::*;
use crate::cli::Cli;
use crate::failure::Failure;
use crate::handover::Interval;
use crate::server_watch::{ServerReport, SourceReport, Steps};
use crate::timeline::Timeline;
use wsgate::time::Time;

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

/// The text of a report in one line, wherever its own are broken.
fn words(report: &Report) -> String {
    report.to_text().split_whitespace().collect::<Vec<_>>().join(" ")
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
    let faults: [Counter; 3] = [|o| &mut o.tally.duplicated, |o| &mut o.tally.reordered, |o| &mut o.tally.corrupted];
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
        Report::new(&plan, &outcome, 0.0).why_not_connected(&plan.into())
    };
    assert!(advice("loadgen").contains("start wsgate first: cargo run --release"));
    assert!(advice("loadgen echo ws://10.0.0.1/").contains("is the server running"));
}

#[test]
fn a_run_that_was_late_is_invalid() {
    let plan = plan("loadgen echo -c 1 -R 5");
    let mut outcome = outcome(100, 0);
    (0..100).for_each(|_| outcome.tally.schedule_lag.record(900_000));
    assert_eq!(Report::new(&plan, &outcome, 1.0).verdict, Verdict::Ok);
    (0..2).for_each(|_| outcome.tally.schedule_lag.record(5_000_000));
    let report = Report::new(&plan, &outcome, 1.0);
    assert_eq!((report.verdict, report.verdict.exit_code()), (Verdict::Invalid, 6));
    assert_eq!(report.invalid[0].reason, "schedule_lag");
    assert!(report.to_text().contains("INVALID"), "{}", report.to_text());
    assert!((4_990.0..5_010.0).contains(&report.schedule_lag_us.unwrap()));
    // The same lag beside a latency of 100 ms means little.
    (0..1_000).for_each(|_| outcome.tally.latency.record(100_000_000));
    assert_eq!(Report::new(&plan, &outcome, 1.0).verdict, Verdict::Ok);
}

#[test]
fn a_run_that_did_not_hold_its_rate_is_invalid_whatever_the_latency() {
    let plan = plan("loadgen echo -c 1 -R 100 -d 2s");
    let mut outcome = outcome(200, 0);
    // So long that a lag of 100 ms is nothing beside it.
    (0..200).for_each(|_| outcome.tally.latency.record(5_000_000_000));
    (0..200).for_each(|_| outcome.tally.schedule_lag.record(100_000_000));
    let mut report = |seconds, behind| {
        outcome.tally.behind = Duration::from_millis(behind);
        Report::new(&plan, &outcome, seconds)
    };
    assert_eq!(report(2.01, 10).verdict, Verdict::Ok, "less than 1 % of the time");
    assert_eq!(report(2.5, 0).verdict, Verdict::Ok, "for which the server is the reason");
    assert_eq!(report(1.5, 14).verdict, Verdict::Ok, "stopped before its time");
    assert_eq!(report(1.5, 16).verdict, Verdict::Invalid, "with messages that should have left");
    let late = report(2.5, 500);
    assert_eq!((late.verdict, late.rate, late.invalid[0].reason.as_str()), (Verdict::Invalid, 80.0, "rate"));
    assert!(words(&late).contains("rate: 80.0 per second left, 100 were asked for"), "{}", late.to_text());
    assert!("rate < 0.99 * target".parse::<Threshold>().unwrap().judge(&late).failed);
}

#[test]
fn what_workers_say_about_themselves_makes_a_run_invalid_unless_that_is_allowed() {
    let plan = plan("loadgen echo -c 1");
    let mut outcome = outcome(10, 1);
    outcome.limits.push(Limit::Cpu { worker: 1, busiest: 0.99, windows: 3 });
    let mut report = Report::new(&plan, &outcome, 1.0);
    assert_eq!(report.verdict, Verdict::Invalid, "whatever was lost may be loadgen's own doing");
    assert!(words(&report).contains("worker 1 had its processor busy for up to 99 % of the time, in 3 windows"));
    report.judge(&[], true);
    assert_eq!(report.verdict, Verdict::Faults);
    assert!(report.to_text().contains("INVALID"), "the report says it all the same");
}

#[test]
fn a_failed_threshold_has_a_code_of_its_own_and_faults_come_first() {
    let plan = plan("loadgen echo -c 1");
    let thresholds = ["p99 > 5ms", "p50 > 0.5ms"].map(|text| text.parse::<Threshold>().unwrap());
    let mut report = Report::new(&plan, &outcome(10, 0), 1.0);
    report.judge(&thresholds[..1], false);
    assert_eq!(report.verdict, Verdict::Ok);
    report.judge(&thresholds, false);
    assert_eq!((report.verdict, report.verdict.exit_code()), (Verdict::ThresholdFailed, 5));
    let text = report.to_text();
    assert!(text.contains("passed  fail if p99 > 5ms  (it is 1.00 ms)"), "{text}");
    assert!(text.contains("FAILED  fail if p50 > 0.5ms  (it is 1.00 ms)"), "{text}");
    let mut report = Report::new(&plan, &outcome(10, 1), 1.0);
    report.judge(&thresholds, false);
    assert_eq!(report.verdict, Verdict::Faults);
}

#[test]
fn what_the_server_took_is_told_in_words() {
    let text = words(&full());
    for line in [
        "server: pid 1 (init)",
        "processor time 10.0 ms per message received, 0.10 s in 1.0 s (0.10 busy)",
        "open files 1 before, 2 with all connections, 3 at the end, 4 at most",
        "not to the end pid 1 (init), 1.5 s after the first message's time: the process ended",
        "not known pid 1 (init): it is the first",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let html = crate::html::report(&full());
    assert!(html.contains("<h2>Server") && html.contains("sends_total"), "{html}");
}

#[test]
fn handshakes_and_returns_are_not_called_messages() {
    let mut outcome = outcome(10, 1);
    outcome.tally.service.record(1_000_000);
    outcome.tally.schedule_lag.record(1_000);
    outcome.connections.opened = 20;
    let text = |arguments: &str| Report::new(&plan(arguments), &outcome, 1.0).to_text();
    let churn = text("loadgen churn -R 10");
    for part in
        ["  connects ", "  handshakes ", "without a handshake", "handshake, intended connect", "connects began at most"]
    {
        assert!(churn.contains(part), "{part} in {churn}");
    }
    for part in ["message", "sent", "received", "reordered", "latency"] {
        assert!(!churn.contains(part), "{part} in {churn}");
    }
    let storm = text("loadgen storm -c 10");
    assert!(storm.contains("drop to served again") && !storm.contains("service time"), "{storm}");
}

#[test]
fn no_line_is_wider_than_a_terminal() {
    let mut wide = outcome(10, 0);
    wide.connections.opened = 100_000;
    let tally = &mut wide.tally;
    (tally.sent, tally.received, tally.lost) = (98_765_432, 9_876_543_210, 12_345);
    (tally.duplicated, tally.misdelivered, tally.foreign) = (1_234_567, 1_234_567, 1_234_567);
    for latency in [&mut tally.latency, &mut tally.service, &mut tally.schedule_lag] {
        [12_340, 123_400_000, 1_234_000_000, 3_600_000_000_000].iter().for_each(|&nanos| latency.record(nanos));
    }
    tally.stalled.count = 1_000;
    tally.stalled.ended = [("closed by server 4008", 400), ("connection reset", 300)]
        .map(|(kind, count)| (kind.to_owned(), count))
        .into();
    wide.connections.handshakes.record(1_234_000_000);
    wide.connections.failures.add(&Failure::HandshakeTimeout(Duration::from_secs(10)));
    wide.limits.push(Limit::Cpu { worker: 15, busiest: 0.9951, windows: 120 });
    let scenarios = [
        "loadgen echo -c 19000 -R 1000000",
        "loadgen echo -c 19000 --in-flight 1000",
        "loadgen fanout -c 100000 -R 123456.5 --warm-up 20s --cool-down 20s -d 1000s",
        "loadgen slow -c 100000 -R 10000",
        "loadgen churn -c 10000 -R 10000",
        "loadgen storm -c 10000",
        "loadgen idle -c 200000",
    ];
    let server = full().server;
    let mut reports = scenarios.map(|arguments| {
        let mut report = Report::new(&plan(arguments), &wide, 10.0);
        report.judge(&["p99.9 > 2 * p50".parse().unwrap(), "rate < 0.99 * target".parse().unwrap()], false);
        report.server.clone_from(&server);
        report
    });
    let mut mixed = reports[0].clone();
    mixed.scenario = "mixed".to_owned();
    let phases = ["evening begins", "busy"].map(|name| {
        let figures = PhaseReport { phase: name.to_owned(), seconds: 3_600.0, ..full().phases.remove(0) };
        PhaseReport { sent: 12_345_678_900, received: 123_456_789_000, faults: 1_234_567, ..figures }
    });
    for (report, name) in reports.iter_mut().zip(["rooms", "a-name-of-thirty-characters-or-so", "readers"]) {
        report.phases = phases.to_vec();
        report.name = Some(name.to_owned());
        mixed.populations.push(report.clone());
    }
    mixed.phases = phases.to_vec();
    for report in reports.iter().chain([&mixed]) {
        let text = report.to_text();
        let wide: Vec<_> = text.lines().filter(|line| line.chars().count() > 80).collect();
        assert!(wide.is_empty(), "{wide:#?} of\n{text}");
        // Prose is broken between words, tables are not.
        assert!(text.lines().filter(|line| line.ends_with(" max")).all(|line| line.contains(" p50 ")), "{text}");
        let name = report.words().latency;
        let latency = text.lines().find_map(|line| line.trim_start().strip_prefix(name)).expect(&text);
        assert_eq!(latency.split_whitespace().count(), 12, "six times with their units: {text}");
    }
    let text = mixed.to_text();
    assert!(
        text.contains("busy, 3600.0 s") && text.contains("\n  a-name-of-thirty-characters-or-so, 19,000 echo\n"),
        "{text}"
    );
}

#[test]
fn loadgens_own_threads_are_told_of() {
    let mut outcome = outcome(10, 0);
    let load = WorkerLoad { cpu: Duration::from_millis(500), time: Duration::from_secs(2), ..WorkerLoad::default() };
    outcome.loads = vec![load, WorkerLoad { worker: 1, cpu: Duration::from_secs(1), busiest: 0.75, ..load }];
    let report = Report::new(&plan("loadgen echo -c 2 -t 2"), &outcome, 2.0);
    let parts: Vec<_> = report.workers.iter().map(|worker| (worker.worker, worker.cpu_part)).collect();
    assert_eq!(parts, [(0, 0.25), (1, 0.5)]);
    let text = report.to_text();
    assert!(text.contains("busiest thread (1) used 50 % of a processor, at most 75 %"), "{text}");
}

#[test]
fn older_reports_are_read() {
    let mut json: serde_json::Value = serde_json::from_str(&full().to_json()).unwrap();
    let added = ["name", "workers", "interrupted", "notes", "populations"];
    added.iter().for_each(|field| drop(json.as_object_mut().unwrap().remove(*field).unwrap()));
    for (list, field) in [
        ("series", "measured"),
        ("series", "misdelivered"),
        ("phases", "measured"),
        ("phases", "faults"),
        ("phases", "asked"),
    ] {
        json[list][0].as_object_mut().unwrap().remove(field).unwrap();
    }
    for (object, field) in [("origin", "run"), ("merged", "runs"), ("merged", "starts")] {
        json[object].as_object_mut().unwrap().remove(field).unwrap();
    }
    let read = Report::from_json(&json.to_string()).unwrap();
    assert_eq!((read.sent, read.workers.len(), read.phases[0].faults), (10, 0, 0));
}

#[test]
fn a_report_is_read_as_it_was_written() {
    let mut report = full();
    let read = Report::from_json(&report.to_json()).unwrap();
    assert_eq!(read.to_json(), report.to_json());
    assert_eq!(read.to_text(), report.to_text());
    report.schema = 1;
    let error = Report::from_json(&report.to_json()).unwrap_err();
    assert!(error.contains("schema 1; this loadgen reads 2"), "{error}");
    assert!(Report::from_json("{}").unwrap_err().contains("no report of loadgen"));
}

#[test]
fn the_document_names_every_field_of_the_json_object_and_no_other() {
    let mut fields = Vec::new();
    collect_fields("", &serde_json::from_str(&full().to_json()).unwrap(), &mut fields);
    let document = include_str!("../../../docs/loadgen-json.md").split("\n## Comparisons").next().unwrap();
    let named = document.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let mut named: Vec<_> = named.map(|(name, _)| name.to_owned()).collect();
    fields.sort();
    named.sort();
    assert_eq!(named, fields);
    assert!(document.contains(&format!("schema {SCHEMA}")));
}

/// A report in which every field has a value.
fn full() -> Report {
    let mut outcome = outcome(10, 1);
    outcome.tally.service.record(1_000_000);
    outcome.tally.schedule_lag.record(1_000);
    outcome.connections.handshakes.record(1_000_000);
    outcome.connections.failures.add(&Failure::Disconnected);
    outcome.limits.push(Limit::BackPressure { messages: 5, part: 0.5 });
    outcome.loads.push(WorkerLoad::default());
    let mut series = Series::new(1, Timeline::connecting());
    let until = Time(1_000_000_000);
    let interval = Interval { worker: 0, from: Time::ZERO, until, outcome: Box::new(outcome) };
    series.add(&interval, &mut |_, _| {});
    let mut report = Report::new(&plan("loadgen echo -c 1 -R 5"), &interval.outcome, 1.0).with_series(&series);
    report.phases[0].asked = Some((5.0, 5.0));
    report.in_flight = Some(1);
    report.judge(&["p99 > 5ms".parse().unwrap()], false);
    let hosts = vec!["a".to_owned(), "b".to_owned()];
    let steps = Steps { before: Some(1.0), connected: Some(2.0), end: Some(3.0), most: Some(4.0) };
    let source = SourceReport {
        name: "pid 1 (init)".to_owned(),
        remark: Some("it is the first".to_owned()),
        failure: Some("the process ended".to_owned()),
        failed_at: Some(1.5),
    };
    report.server = Some(ServerReport {
        sources: vec![source],
        seconds: 1.0,
        messages: 10,
        cpu_seconds: Some(0.1),
        cpu_us_per_message: Some(10_000.0),
        cpu_busy: Some(0.1),
        rss_bytes_per_connection: Some(1_000.0),
        rss_bytes: steps,
        files: steps,
        threads: steps,
        counters: [("sends_total".to_owned(), 10.0)].into(),
    });
    let runs = vec!["00000000000000a1".to_owned(), "00000000000000b2".to_owned()];
    report.merged = Some(Merged { reports: 2, runs, hosts, starts_apart: 0.1, starts: Some((1.0, 1.1)) });
    report.origin.run = Some("00000000000000a1".to_owned());
    report.origin.label = Some("before".to_owned());
    report.note("remarkable".to_owned());
    report.name = Some("chat".to_owned());
    report.populations = vec![report.clone()];
    report
}

/// Paths of all fields: `.` leads into an object, `[]` into the entries of a list.
/// Maps are named by what they map, and populations have the fields of a report again.
fn collect_fields(path: &str, value: &serde_json::Value, fields: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(object)
            if !["errors_by_kind", "error_examples", "stalled_by_end", "server.counters"].contains(&path) =>
        {
            for (name, value) in object {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                collect_fields(&path, value, fields);
            }
        }
        serde_json::Value::Array(_) if path == "populations" => fields.push(path.to_owned()),
        serde_json::Value::Array(list) if list.first().is_some_and(serde_json::Value::is_object) => {
            collect_fields(&format!("{path}[]"), &list[0], fields);
        }
        serde_json::Value::Null => panic!("{path} has no value"),
        _ => fields.push(path.to_owned()),
    }
}
