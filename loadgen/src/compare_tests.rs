//! What comparisons say, and how it looks.

use clap::Parser as _;

use super::*;
use crate::cli::Cli;
use crate::tally::Outcome;

fn report(millis: u64, lost: u64) -> Report {
    let plan = Cli::parse_from(["loadgen", "echo", "-c", "1", "-R", "50"]).into_plan().unwrap();
    let mut outcome = Outcome::default();
    outcome.connections.opened = 1;
    (outcome.tally.sent, outcome.tally.received, outcome.tally.lost) = (100, 100 - lost, lost);
    (0..100).for_each(|_| outcome.tally.latency.record(millis * 1_000_000));
    Report::new(&plan, &outcome, 2.0)
}

fn group(name: &str, runs: &[(u64, u64)]) -> Group {
    Group { name: name.to_owned(), reports: runs.iter().map(|&(millis, lost)| report(millis, lost)).collect() }
}

fn finding(comparison: &Comparison, name: &str) -> (String, &'static str) {
    let row = comparison.rows.iter().find(|row| row.name == name).unwrap_or_else(|| panic!("no {name}"));
    (row.cells()[2].clone(), row.finding)
}

#[test]
fn what_repeated_runs_show_is_told_from_what_they_do_not() {
    let base = group("before", &[(100, 0), (101, 0), (99, 0)]);
    let comparison = Comparison::new(base.clone(), group("after", &[(150, 0), (151, 2), (149, 1)]));
    assert_eq!(finding(&comparison, "p99").1, "higher");
    assert!(finding(&comparison, "p99").0.starts_with("+50."), "{:?}", comparison.rows);
    assert_eq!(finding(&comparison, "lost"), (String::new(), "differs"));
    assert_eq!(finding(&comparison, "sent"), ("+0.0 %".to_owned(), "no difference shown"));
    assert!(comparison.warnings.is_empty(), "{:?}", comparison.warnings);
    let back = Comparison::new(comparison.new, base.clone());
    assert_eq!(finding(&back, "p50").1, "lower");
    let noise = Comparison::new(base, group("after", &[(100, 0), (99, 0), (102, 0)]));
    assert_eq!(finding(&noise, "p50").1, "no difference shown");
    assert!(noise.to_text().contains("none shown"), "{}", noise.to_text());
}

#[test]
fn a_terminal_of_80_columns_shows_the_lines_whole() {
    let many = |name: &str, millis: u64| {
        let mut group = group(name, &[(millis, 0), (millis * 30, 77), (millis, 0)]);
        for report in &mut group.reports {
            (report.rate, report.received_rate) = (1_234_567.0 / millis as f64, 1_234_567.0);
            report.service_us = report.latency_us;
            report.set_up = "1,000 connections, 2 threads, ".repeat(4);
        }
        group
    };
    let text = Comparison::new(many("a name of the base", 100), many("another name", 110)).to_text();
    assert!(text.contains(" to >+999 %  none shown\n"), "{text}");
    assert!(text.contains("\n  from actual send p99\n           "), "{text}");
    for line in text.lines() {
        assert!(line.chars().count() <= crate::fold::COLUMNS, "{} columns: {line}", line.chars().count());
    }
}

#[test]
fn so_it_does_with_long_names_great_numbers_and_names_that_are_no_text() {
    let many = |name: &str, rate: f64| {
        let mut group = group(name, &[(1, 0), (2, 0)]);
        for report in &mut group.reports {
            (report.rate, report.received_rate, report.lost, report.errors) =
                (rate, rate * 1e3, 300_000_000, 12_345_678);
            let mut population = report.clone();
            population.name = Some("p".repeat(100) + "\u{1b}[2J\nend");
            report.populations = vec![population];
        }
        group.reports[1].set_up = "another".to_owned();
        group
    };
    let name = |end: &str| "\u{1b}[31mlabel".to_owned() + &"-".repeat(100) + end;
    let comparison = Comparison::new(many(&name("before"), 3_000_000.0), many(&name("after"), 3_456_789.0));
    let text = comparison.to_text();
    assert!(text.contains("3.000 M/s  3.457 M/s") && text.contains("3,000 M/s  3,457 M/s"), "{text}");
    assert!(text.contains("  300.0 M    300.0 M") && text.contains(" 12,345,678 12,345,678"), "{text}");
    assert!(text.contains("-before (2 runs): echo") && text.contains("\n\\u{1b}[31mlabel-----…---"), "{text}");
    assert!(text.contains("\n  pppp") && text.contains("[2J\\nend p99\n"), "{text}");
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
    for line in text.lines() {
        assert!(line.chars().count() <= crate::fold::COLUMNS, "{} columns: {line}", line.chars().count());
    }
    assert!(comparison.to_json().contains(&"p".repeat(100)), "scripts get them whole");
}

#[test]
fn means_go_where_the_change_goes() {
    let with_rates = |name: &str, rates: [f64; 3]| {
        let mut group = group(name, &[(1, 0), (1, 0), (1, 0)]);
        group.reports.iter_mut().zip(rates).for_each(|(report, rate)| report.rate = rate);
        group
    };
    // In the arithmetic mean the second is above the first: 1,050.
    let (base, new) = ([1_000.0; 3], [600.0, 800.0, 1_750.0]);
    let comparison = Comparison::new(with_rates("a", base), with_rates("b", new));
    let row = &comparison.rows[0];
    assert!((row.new / row.base - (1.0 + row.change.unwrap())).abs() < 1e-9 && row.new < row.base, "{row:?}");
    let comparison = Comparison::new(with_rates("a", [0.0, 3.0, 0.0]), with_rates("b", new));
    assert_eq!((comparison.rows[0].base, comparison.rows[0].change), (1.0, None), "no ratio with 0");
}

#[test]
fn one_run_each_has_a_change_and_no_finding() {
    let comparison = Comparison::new(group("a", &[(100, 0)]), group("b", &[(110, 0)]));
    let (change, finding) = finding(&comparison, "p99");
    assert!(change.starts_with("+10") || change.starts_with("+9.9"), "{change}");
    assert_eq!(finding, "");
    assert!(comparison.to_text().contains("one run says nothing"), "{}", comparison.to_text());
}

#[test]
fn scripts_get_numbers() {
    let comparison = Comparison::new(
        group("before", &[(100, 0), (101, 0), (99, 0)]),
        group("after", &[(150, 0), (151, 2), (149, 1)]),
    );
    let json: serde_json::Value = serde_json::from_str(&comparison.to_json()).unwrap();
    assert_eq!((json["base"]["name"].as_str(), json["new"]["runs"].as_u64()), (Some("before"), Some(3)));
    let figure = |name: &str| {
        let figures = json["figures"].as_array().unwrap();
        figures.iter().find(|figure| figure["name"] == name).unwrap_or_else(|| panic!("no {name} in {json}")).clone()
    };
    let p99 = figure("p99");
    assert_eq!((p99["unit"].as_str(), p99["finding"].as_str()), (Some("us"), Some("higher")));
    assert!((p99["base"].as_f64().unwrap() - 100_000.0).abs() < 1_000.0, "{p99}");
    let (low, change, high) = (&p99["interval"][0], &p99["change"], &p99["interval"][1]);
    let [low, change, high] = [low, change, high].map(|part| part.as_f64().unwrap());
    assert!(0.45 < low && low < change && (change - 0.5).abs() < 0.01 && change < high, "{p99}");
    let document = include_str!("../../docs/loadgen-json.md").split("\n## Comparisons").nth(1).unwrap();
    let names = |path: &str, value: &serde_json::Value| {
        let keys = value.as_object().unwrap().keys();
        keys.map(|key| format!("`{path}{key}`")).collect::<Vec<_>>()
    };
    let fields = [names("", &json), names("base.", &json["base"]), names("figures[].", &p99)].concat();
    for field in fields.iter().filter(|name| !["`base`", "`new`", "`figures`"].contains(&name.as_str())) {
        assert!(document.contains(field), "{field}");
    }
    assert_eq!((figure("lost")["change"].as_f64(), figure("lost")["new"].as_f64()), (None, Some(1.0)));
}

#[test]
fn what_cannot_be_compared_is_said() {
    let mut new = group("b", &[(100, 0), (100, 0)]);
    new.reports[1].set_up = "other".to_owned();
    new.reports[0].origin.host = "elsewhere".to_owned();
    new.reports[0].verdict = Verdict::Invalid;
    let text = Comparison::new(group("a", &[(100, 0), (100, 0)]), new).to_text();
    for warning in ["b: 1 of 2 runs INVALID", "b: its runs are not of one set-up", "different machines"] {
        assert!(text.contains(warning), "{warning} in {text}");
    }
}
