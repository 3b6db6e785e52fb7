//! The report as text for people.

use std::cmp::Ordering;
use std::fmt::{self, Write as _};

use super::Report;
use crate::latency::Quantiles;
use crate::numbers::{decimal, duration, grouped};

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
    if let (Some(p99), Some(max)) = (report.schedule_lag_us, report.schedule_lag_max_us) {
        writeln!(out)?;
        writeln!(out, "  messages left at most {} after their time (p99: {})", duration(max), duration(p99))?;
    }
    if let Some(server) = &report.server {
        writeln!(out, "\n  server: {}", server.names())?;
        server.lines().iter().try_for_each(|(name, line)| writeln!(out, "    {name:<16}{line}"))?;
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
        let ends = report.stalled_by_end.iter().map(|(kind, count)| format!("{count} {kind}")).collect::<Vec<_>>();
        let open = report.stalled - report.stalled_by_end.values().sum::<u64>();
        let ends = ends.into_iter().chain([format!("{open} still open")]).collect::<Vec<_>>().join(", ");
        writeln!(out, "  {} readers stalled: {ends}", report.stalled)?;
    }
    for note in &report.notes {
        writeln!(out, "\n{note}")?;
    }
    Ok(())
}

fn write_counts(out: &mut String, report: &Report) -> fmt::Result {
    let asked = grouped(report.connections as u64);
    let remark = match report.opened.cmp(&(report.connections as u64)) {
        Ordering::Less => format!("of {asked} opened (of those asked for)"),
        Ordering::Equal => format!("of {asked} opened"),
        // They come and go.
        Ordering::Greater => format!("opened, at most {asked} at once"),
    };
    row(out, "connections", report.opened, &remark)?;
    if report.dropped > 0 {
        row(out, "dropped", report.dropped, "ended before the run did")?;
    }
    if report.sends() {
        row(out, "sent", report.sent, &format!("{} per second", decimal(report.rate)))?;
        row(out, "received", report.received, &format!("{} per second", decimal(report.received_rate)))?;
        row(out, "lost", report.lost, "")?;
        row(out, "duplicated", report.duplicated, "")?;
        row(out, "reordered", report.reordered, "")?;
        row(out, "corrupted", report.corrupted, "")?;
    }
    if report.misdelivered > 0 {
        row(out, "misdelivered", report.misdelivered, "messages that reached a subscriber of another topic")?;
    }
    if report.foreign > 0 {
        row(out, "foreign", report.foreign, "messages that were not of this run, ignored")?;
    }
    row(out, "errors", report.errors, "")?;
    for (kind, count) in &report.errors_by_kind {
        let example = report.error_examples.get(kind).map_or("", String::as_str);
        writeln!(out, "    {kind}: {} (first: {example})", grouped(*count))?;
    }
    Ok(())
}

fn write_latencies(out: &mut String, report: &Report) -> fmt::Result {
    writeln!(out, "{:>39}{:>10}{:>10}{:>10}{:>10}{:>10}", "p50", "p90", "p99", "p99.9", "p99.99", "max")?;
    let rows = [
        (report.latency_name(), report.latency_us),
        ("latency from actual send", report.service_us),
        ("handshake", report.handshake_us),
    ];
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
    for (i, micros) in [q.p50, q.p90, q.p99, q.p999, q.p9999, q.max].into_iter().enumerate() {
        write!(out, "{:>width$}", duration(micros), width = if i == 0 { 9 } else { 10 })?;
    }
    writeln!(out)
}
