use std::time::Duration;

use clap::Parser as _;
use wsgate::time::Time;

use super::*;
use crate::cli::Cli;
use crate::course::Course;
use crate::failure::Failure;
use crate::handover::Interval;
use crate::self_check::WorkerLoad;
use crate::series::{Second, Series};
use crate::tally::{Limit, Outcome};
use crate::timeline::Timeline;

/// A run of `seconds`, 100 messages in each.
fn report_of(seconds: u64, change: impl Fn(u64, &mut Outcome)) -> Report {
    let arguments = ["loadgen", "echo", "ws://a/?x=<b>&'c'", "-c", "1", "-R", "100"];
    let plan = Cli::parse_from(arguments).into_plan().unwrap();
    let at = |second: u64| Time(second * 1_000_000_000);
    let mut series = Series::new(1, Timeline::sending(&Course::steady(Duration::from_secs(seconds)), at(0)));
    for second in 0..seconds {
        let mut outcome = Box::<Outcome>::default();
        outcome.connections.opened = u64::from(second == 0);
        (outcome.tally.sent, outcome.tally.received) = (100, 100);
        for message in 0..100 {
            outcome.tally.latency.record((second + 1) * 100_000 * (1 + message));
            outcome.tally.service.record(100_000 * (1 + message));
        }
        change(second, &mut outcome);
        series.add(&Interval { worker: 0, from: at(second), until: at(second + 1), outcome }, &mut |_, _| {});
    }
    Report::new(&plan, &series.total(), seconds as f64).with_series(&series).with_asked(&plan)
}

#[test]
fn the_page_needs_no_other_and_has_what_was_measured() {
    let html = super::report(&report_of(5, |_, _| {}));
    for part in [
        "<strong>OK</strong>",
        "Latency by percentile",
        "Latency of what arrived in each second",
        "Received per second",
        "Sent per second",
        "asked</li>",
        "from actual send",
        ">99<",
        "open loop at 100 per second",
        "prefers-color-scheme: dark",
        "@media print",
        "name=viewport",
    ] {
        assert!(html.contains(part), "{part}");
    }
    for foreign in ["http:", "https:", "src=", "url(", "@import", "<script", "<link"] {
        assert!(!html.contains(foreign), "{foreign}");
    }
    assert!(!html.contains("NaN") && !html.contains("inf "), "{html}");
}

#[test]
fn what_the_server_or_the_user_said_is_text_and_no_markup() {
    let mut report = report_of(2, |_, outcome| {
        outcome.connections.failures.add(&Failure::ClosedByServer { code: Some(1008), reason: "<script>x".into() });
    });
    report.origin.command = "loadgen <img>".to_owned();
    report.origin.label = Some("a & b\u{1b}[2J\u{0}".to_owned());
    let html = super::report(&report);
    assert!(html.contains("ws://a/?x=&lt;b&gt;&amp;&#39;c&#39;"), "{html}");
    assert!(
        html.contains("&lt;script&gt;x") && html.contains("&lt;img&gt;") && html.contains("a &amp; b\\u{1b}[2J\\u{0}")
    );
    assert!(!html.contains("<script") && !html.contains("<img"));
}

#[test]
fn the_verdict_comes_with_its_reasons() {
    let mut report = report_of(3, |second, outcome| outcome.tally.lost = u64::from(second == 1));
    report.judge(&["p99 > 5ms".parse().unwrap()], false);
    let html = super::report(&report);
    for part in ["FAILED: faults", "1 lost", "fail if p99 &gt; 5ms: it is", "<h2>Faults"] {
        assert!(html.contains(part), "{part}");
    }
    let html = super::report(&report_of(3, |second, outcome| {
        if second == 2 {
            outcome.limits.push(Limit::Cpu { worker: 0, busiest: 0.98, windows: 1 });
        }
    }));
    assert!(html.contains("verdict odd") && html.contains("worker 0 had its processor busy"), "{html}");
}

#[test]
fn readers_that_stalled_and_loadgens_threads_are_on_the_page() {
    let html = super::report(&report_of(2, |second, outcome| {
        if second == 1 {
            outcome.tally.stalled.count = 7;
            outcome.tally.stalled.ended.insert("close 4008".to_owned(), 4);
            let (cpu, time) = (Duration::from_millis(600), Duration::from_secs(2));
            outcome.loads.push(WorkerLoad { worker: 3, cpu, time, busiest: 0.4, ..WorkerLoad::default() });
        }
    }));
    assert!(html.contains("7 readers stalled: 4 close 4008, 3 still open"), "{html}");
    assert!(html.contains("3 used 30 % of a processor, at most 40 %"), "{html}");
}

#[test]
fn a_run_without_messages_or_without_seconds_has_a_page_too() {
    let plan = Cli::parse_from(["loadgen", "idle", "ws://a/"]).into_plan().unwrap();
    let mut report = Report::new(&plan, &Outcome::default(), 0.0);
    for _ in 0..2 {
        let html = super::report(&report);
        assert!(html.contains("FAILED: not connected") && !html.contains("NaN"), "{html}");
        report.series = report_of(1, |_, _| {}).series;
    }
}

#[test]
fn a_long_run_is_drawn_with_as_many_points_as_can_be_seen() {
    let [short, long] = [300, 20_000].map(|seconds: usize| {
        let mut report = report_of(1, |_, _| {});
        let second = report.series[0].clone();
        report.series = (0..seconds).map(|at| Second { at: at as f64, ..second.clone() }).collect();
        super::report(&report).len()
    });
    assert!(long < short * 2, "{long} bytes after {short}");
}
