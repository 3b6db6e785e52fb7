//! The report as text for people.

use std::cmp::Ordering;
use std::fmt::{self, Write as _};

use super::{Report, tables};
use crate::fold::COLUMNS;
use crate::latency::Quantiles;
use crate::numbers::{decimal, duration, grouped};

const INDENT: &str = "  ";
/// What stands above the labels of a table's rows.
const LABEL_HEAD: &str = "population";

pub(super) fn write(out: &mut String, report: &Report) -> fmt::Result {
    writeln!(out, "{} {}", report.scenario, report.url)?;
    writeln!(out, "  {}", report.set_up)?;
    if let Some(merged) = &report.merged {
        writeln!(out, "  {}", merged.text())?;
    }
    writeln!(out)?;
    write_counts(out, report)?;
    writeln!(out)?;
    write_latencies(out, report)?;
    write_table(out, &tables::populations(report))?;
    write_table(out, &tables::phases(report))?;
    write_own(out, report)?;
    if let Some(server) = &report.server {
        writeln!(out, "\n  server: {}", server.names())?;
        server.lines().iter().try_for_each(|(name, line)| writeln!(out, "    {name:<17}{line}"))?;
    }
    write_thresholds(out, report)?;
    if !report.invalid.is_empty() {
        writeln!(out)?;
        writeln!(out, "  INVALID: loadgen itself was the limit, so this says little about the server.")?;
        for reason in &report.invalid {
            writeln!(out, "    {}: {}", reason.reason, reason.text)?;
        }
        writeln!(out, "  Lower --rate, give it more --threads or cores, or run it on another machine.")?;
    }
    for (storm, seconds) in report.recovery_seconds.iter().enumerate() {
        writeln!(out, "  storm {}: all served again after {seconds:.2} s", storm + 1)?;
    }
    if report.stalled > 0 {
        writeln!(out, "  {}", report.stalled_text())?;
    }
    for note in &report.notes {
        writeln!(out, "\n  {note}")?;
    }
    Ok(())
}

/// What loadgen itself had to do.
fn write_own(out: &mut String, report: &Report) -> fmt::Result {
    let noun = report.words().noun;
    if let (Some(p99), Some(max)) = (report.schedule_lag_us, report.schedule_lag_max_us) {
        let verb = if noun == "connects" { "began" } else { "left" };
        writeln!(out)?;
        writeln!(out, "  {noun} {verb} at most {} after their time (p99: {})", duration(max), duration(p99))?;
    }
    let busiest = report.workers.iter().max_by(|a, b| a.cpu_part.total_cmp(&b.cpu_part));
    if let Some(worker) = busiest.filter(|worker| worker.cpu_part > 0.0) {
        let [mean, max] = [worker.cpu_part, worker.cpu_part_max].map(|part| part * 100.0);
        let number = worker.worker;
        writeln!(out, "  loadgen's busiest thread ({number}) used {mean:.0} % of a processor, at most {max:.0} %")?;
    }
    Ok(())
}

/// Rows of populations, or of phases, in columns as wide as their figures.
fn write_table(out: &mut String, rows: &[tables::Row]) -> fmt::Result {
    if rows.is_empty() {
        return Ok(());
    }
    let label = |row: &tables::Row| match row.phase {
        // The phase is a line above.
        Some(_) => format!("  {}", row.population),
        None => format!("{}, {}", row.population, row.what),
    };
    let width = |column: usize| {
        let figures = rows.iter().map(|row| row.figures[column].as_str());
        figures.chain([tables::HEADS[column]]).map(|text| text.chars().count()).max().unwrap_or(0) + 2
    };
    let widths: [usize; tables::HEADS.len()] = std::array::from_fn(width);
    let room = COLUMNS.saturating_sub(INDENT.len() + widths.iter().sum::<usize>());
    let labels = rows.iter().map(|row| label(row).chars().count()).max().unwrap_or(0).max(LABEL_HEAD.len()).min(room);
    let line = |out: &mut String, label: &str, figures: &[&str]| {
        // A label that would push the figures aside has a line of its own.
        let beside = if label.chars().count() > labels { "" } else { label };
        if beside != label {
            writeln!(out, "{INDENT}{label}")?;
        }
        write!(out, "{INDENT}{beside:<labels$}")?;
        figures.iter().zip(widths).try_for_each(|(figure, width)| write!(out, "{figure:>width$}"))?;
        writeln!(out)
    };
    writeln!(out)?;
    line(out, LABEL_HEAD, &tables::HEADS)?;
    let mut last = None;
    for row in rows {
        if let Some(phase) = row.phase.as_deref().filter(|&phase| last != Some(phase)) {
            writeln!(out, "{INDENT}{phase}, {}", row.what)?;
        }
        line(out, &label(row), &row.figures.each_ref().map(String::as_str))?;
        last = row.phase.as_deref();
    }
    Ok(())
}

fn write_counts(out: &mut String, report: &Report) -> fmt::Result {
    let asked = grouped(report.connections as u64);
    // They come and go.
    let at_once = format!("opened, at most {asked} at once");
    let comes_and_goes = |report: &Report| report.scenario == "churn";
    let remark = match report.opened.cmp(&(report.connections as u64)) {
        _ if comes_and_goes(report) || report.populations.iter().any(comes_and_goes) => at_once,
        Ordering::Less => format!("of {asked} opened (of those asked for)"),
        Ordering::Equal => format!("of {asked} opened"),
        Ordering::Greater => at_once,
    };
    row(out, "connections", report.opened, &remark)?;
    if report.dropped > 0 {
        row(out, "dropped", report.dropped, "ended before the run did")?;
    }
    if report.sends() {
        let words = report.words();
        let lost = if words.noun == "connects" { "without a handshake" } else { "" };
        row(out, words.sent, report.sent, &format!("{} per second", decimal(report.rate)))?;
        row(out, words.received, report.received, &format!("{} per second", decimal(report.received_rate)))?;
        row(out, "lost", report.lost, lost)?;
        if report.scenario != "churn" {
            row(out, "duplicated", report.duplicated, "")?;
            row(out, "reordered", report.reordered, "")?;
            row(out, "corrupted", report.corrupted, "")?;
        }
    }
    if report.misdelivered > 0 {
        row(out, "misdelivered", report.misdelivered, "messages that reached a subscriber of another topic")?;
    }
    if report.foreign > 0 {
        let other = if report.populations.is_empty() { "this run" } else { "the population" };
        row(out, "foreign", report.foreign, &format!("messages that were not of {other}, ignored"))?;
    }
    row(out, "errors", report.errors, "")?;
    for (kind, count) in &report.errors_by_kind {
        let example = report.error_examples.get(kind).map_or("", String::as_str);
        writeln!(out, "    {kind}: {} (first: {example})", grouped(*count))?;
    }
    Ok(())
}

fn write_latencies(out: &mut String, report: &Report) -> fmt::Result {
    writeln!(out, "{:>38}{:>8}{:>8}{:>8}{:>8}{:>8}", "p50", "p90", "p99", "p99.9", "p99.99", "max")?;
    let words = report.words();
    let rows =
        [(words.latency, report.latency_us), (words.service, report.service_us), ("handshake", report.handshake_us)];
    for (name, quantiles) in rows {
        if let Some(quantiles) = quantiles {
            write_quantiles(out, name, quantiles)?;
        }
    }
    Ok(())
}

fn write_thresholds(out: &mut String, report: &Report) -> fmt::Result {
    if !report.thresholds.is_empty() {
        writeln!(out)?;
    }
    for threshold in &report.thresholds {
        let (word, is) = (if threshold.failed { "FAILED" } else { "passed" }, &threshold.is);
        writeln!(out, "  {word}  fail if {}  (it is {is})", threshold.fail_if)?;
    }
    Ok(())
}

fn row(out: &mut String, name: &str, count: u64, remark: &str) -> fmt::Result {
    let line = format!("  {name:<12}{:>14}  {remark}", grouped(count));
    writeln!(out, "{}", line.trim_end())
}

fn write_quantiles(out: &mut String, name: &str, q: Quantiles) -> fmt::Result {
    write!(out, "  {name:<28}")?;
    let micros = [q.p50, q.p90, q.p99, q.p999, q.p9999, q.max];
    micros.into_iter().try_for_each(|micros| write!(out, "{:>8}", duration(micros)))?;
    writeln!(out)
}
