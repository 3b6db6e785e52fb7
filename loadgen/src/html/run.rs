//! The page about one run: verdict, figures, plots, circumstances.

use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use super::{escape, plots, tone};
use crate::numbers::{decimal, duration, grouped};
use crate::report::{PhaseReport, Report, tables};
use crate::timeline::CONNECT;

pub(super) fn body(report: &Report) -> String {
    let mut html = format!(
        "<h1>{} {}</h1>\n<p class=quiet>{}</p>\n",
        escape(&report.scenario),
        escape(&report.url),
        escape(&report.set_up)
    );
    html += &verdict(report);
    html += &tiles(report);
    html += &table("Populations", &tables::populations(report));
    html += "<div class=plots>\n";
    let words = report.words();
    let distributions = match &report.populations[..] {
        [] => vec![
            (words.latency.to_owned(), &report.histograms.latency),
            (words.service.to_owned(), &report.histograms.service),
        ],
        // What they have in common says little about any.
        parts => parts.iter().map(|part| (part.name().to_owned(), &part.histograms.latency)).collect(),
    };
    let percentiles = plots::percentiles("Latency by percentile", &distributions);
    for plot in percentiles.into_iter().chain(plots::over_time(report)) {
        html += &plot.to_html();
    }
    html += "</div>\n";
    html += &table("Phases", &tables::phases(report));
    html += &latencies(report);
    html += &server(report);
    html += &errors(report);
    html += &thresholds(report);
    html + &circumstances(report)
}

fn verdict(report: &Report) -> String {
    let mut reasons = Vec::new();
    let faults = [
        ("lost", report.lost),
        ("duplicated", report.duplicated),
        ("reordered", report.reordered),
        ("corrupted", report.corrupted),
        ("misdelivered", report.misdelivered),
        ("failed connections", report.errors),
    ];
    let faults = faults.into_iter().filter(|&(_, count)| count > 0);
    let faults: Vec<_> = faults.map(|(name, count)| format!("{} {name}", grouped(count))).collect();
    if !faults.is_empty() {
        reasons.push(faults.join(", "));
    }
    let failed = report.thresholds.iter().filter(|threshold| threshold.failed);
    reasons.extend(failed.map(|threshold| format!("fail if {}: it is {}", threshold.fail_if, threshold.is)));
    let limits = report.invalid.iter().map(|reason| format!("loadgen itself was the limit: {}", reason.text));
    reasons.extend(limits);
    for (storm, seconds) in report.recovery_seconds.iter().enumerate() {
        reasons.push(format!("storm {}: all served again after {seconds:.2} s", storm + 1));
    }
    if report.stalled > 0 {
        reasons.push(report.stalled_text());
    }
    reasons.extend(report.notes.iter().cloned());
    if let Some(merged) = &report.merged {
        reasons.push(merged.text());
    }
    let explanation = match reasons.is_empty() {
        true if report.sends() => {
            "<p>Every message arrived once, in order, unchanged; no connection failed.</p>".to_owned()
        }
        true => "<p>No connection failed.</p>".to_owned(),
        false => {
            let items: Vec<_> = reasons.iter().map(|reason| format!("<li>{}</li>", escape(reason))).collect();
            format!("<ul>{}</ul>", items.concat())
        }
    };
    let (tone, title) = (tone(report.verdict), report.verdict.title());
    format!("<div class=\"verdict {tone}\"><strong>{title}</strong>{explanation}</div>\n")
}

fn tiles(report: &Report) -> String {
    let words = report.words();
    let count = |name: String, count: u64, remark: String| (name, grouped(count), remark);
    let opened = format!("of {} asked", grouped(report.connections as u64));
    let mut tiles = vec![count("Connections".to_owned(), report.opened, opened)];
    if report.sends() {
        let asked = report.target_rate.map_or(String::new(), |rate| format!(" of {} asked", decimal(rate)));
        tiles.push(count(capital(words.sent), report.sent, format!("{}/s{asked}", decimal(report.rate))));
        tiles.push(count(capital(words.received), report.received, format!("{}/s", decimal(report.received_rate))));
        tiles.push(count("Lost".to_owned(), report.lost, words.noun.to_owned()));
    }
    if let Some(latency) = report.latency_us {
        for (name, micros) in [("p50", latency.p50), ("p99", latency.p99), ("Max", latency.max)] {
            tiles.push((name.to_owned(), duration(micros), words.latency.to_owned()));
        }
    }
    let tiles = tiles.iter().map(|(name, value, remark)| {
        format!("<div><dt>{name}</dt><dd>{}<small>{}</small></dd></div>", escape(value), escape(remark))
    });
    format!("<dl class=tiles>{}</dl>\n", tiles.collect::<String>())
}

fn capital(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// Rows of populations, or of phases.
fn table(title: &str, rows: &[tables::Row]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let has_phases = rows[0].phase.is_some();
    let phase = if has_phases { "<th scope=col class=text>phase</th>" } else { "" };
    let heads: String = tables::HEADS.iter().map(|head| format!("<th scope=col>{head}</th>")).collect();
    let mut html = format!(
        "<section><h2>{title}</h2><div class=wide><table><thead><tr>{phase}<th scope=col class=text>population</th>\
         <th></th>{heads}</tr></thead>"
    );
    let mut last = None;
    for row in rows {
        // A phase is named once.
        let is_same = last == row.phase.as_ref();
        let name = row.phase.as_deref().filter(|_| !is_same).map_or(String::new(), escape);
        let phase = if has_phases { format!("<th scope=row class=text>{name}</th>") } else { String::new() };
        let figures: String = row.figures.iter().map(|figure| format!("<td>{figure}</td>")).collect();
        let (population, what) = (escape(&row.population), escape(&row.what));
        write!(html, "<tr>{phase}<th scope=row class=text>{population}</th><td>{what}</td>{figures}</tr>")
            .expect("text");
        last = row.phase.as_ref();
    }
    html + "</table></div></section>\n"
}

/// Percentiles downwards, so that the table fits a phone.
fn latencies(report: &Report) -> String {
    let words = report.words();
    let columns =
        [(words.latency, report.latency_us), (words.service, report.service_us), ("handshake", report.handshake_us)];
    let columns: Vec<_> = columns.into_iter().filter_map(|(name, quantiles)| Some((name, quantiles?))).collect();
    if columns.is_empty() {
        return String::new();
    }
    let head: String = columns.iter().map(|(name, _)| format!("<th scope=col>{name}</th>")).collect();
    let mut html =
        format!("<section><h2>Percentiles</h2><div class=wide><table><thead><tr><th></th>{head}</tr></thead>");
    for (i, name) in ["p50", "p90", "p99", "p99.9", "p99.99", "max"].into_iter().enumerate() {
        let cells: String = columns
            .iter()
            .map(|(_, q)| format!("<td>{}</td>", duration([q.p50, q.p90, q.p99, q.p999, q.p9999, q.max][i])))
            .collect();
        write!(html, "<tr><th scope=row>{name}</th>{cells}</tr>").expect("text");
    }
    html + "</table></div></section>\n"
}

fn server(report: &Report) -> String {
    let Some(server) = &report.server else { return String::new() };
    let counters = server.counters.iter().map(|(name, growth)| (name.as_str(), grouped(*growth as u64)));
    let lines = server.lines().into_iter().chain(counters);
    let rows =
        lines.map(|(name, line)| format!("<tr><th scope=row>{}</th><td>{}</td></tr>", escape(name), escape(&line)));
    format!(
        "<section><h2>Server</h2><p class=quiet>{}</p><table class=facts>{}</table></section>\n",
        escape(&server.names()),
        rows.collect::<String>()
    )
}

fn errors(report: &Report) -> String {
    if report.errors_by_kind.is_empty() {
        return String::new();
    }
    let rows = report.errors_by_kind.iter().map(|(kind, count)| {
        let example = report.error_examples.get(kind).map_or("", String::as_str);
        let (kind, example) = (escape(kind), escape(example));
        format!("<tr><th scope=row>{kind}</th><td>{}</td><td class=text>{example}</td></tr>", grouped(*count))
    });
    format!(
        "<section><h2>Failed connections</h2><div class=wide><table><thead><tr><th>kind</th><th>count</th>\
         <th class=text>the first</th></tr></thead>{}</table></div></section>\n",
        rows.collect::<String>()
    )
}

fn thresholds(report: &Report) -> String {
    if report.thresholds.is_empty() {
        return String::new();
    }
    let rows = report.thresholds.iter().map(|threshold| {
        let (tone, word) = if threshold.failed { ("bad", "failed") } else { ("good", "passed") };
        let (fail_if, is) = (escape(&threshold.fail_if), escape(&threshold.is));
        format!("<tr><th scope=row><code>{fail_if}</code></th><td>{is}</td><td class={tone}>{word}</td></tr>")
    });
    format!(
        "<section><h2>Thresholds</h2><table><thead><tr><th>fail if</th><th>it is</th><th></th></tr></thead>{}\
         </table></section>\n",
        rows.collect::<String>()
    )
}

fn circumstances(report: &Report) -> String {
    let origin = &report.origin;
    let started = UNIX_EPOCH + Duration::try_from_secs_f64(origin.started_at).unwrap_or_default();
    let mut facts = vec![
        ("Command", format!("<code>{}</code>", escape(&origin.command))),
        ("Started", httpdate::fmt_http_date(started)),
        ("Machine", escape(&format!("{}, {}, {} cores", origin.host, origin.system, origin.cores))),
        ("loadgen", escape(&origin.loadgen)),
        ("Measured", escape(&format!("{}; {:.1} s from the first message to the last", report.mode, report.seconds))),
    ];
    if let Some(label) = &origin.label {
        facts.insert(0, ("Label", escape(label)));
    }
    if let (Some(p99), Some(max)) = (report.schedule_lag_us, report.schedule_lag_max_us) {
        facts.push(("Schedule lag", format!("p99 {}, at most {}", duration(p99), duration(max))));
    }
    let threads = report.workers.iter().map(|worker| {
        let [mean, max] = [worker.cpu_part, worker.cpu_part_max].map(|part| part * 100.0);
        format!("{} used {mean:.0} % of a processor, at most {max:.0} %", worker.worker)
    });
    let threads = threads.collect::<Vec<_>>().join("; ");
    if !threads.is_empty() {
        facts.push(("Threads", threads));
    }
    let phases = report.phases.iter().map(|phase| {
        let PhaseReport { phase, seconds, sent, received, .. } = phase;
        format!("{phase} {seconds:.1} s ({} sent, {} received)", grouped(*sent), grouped(*received))
    });
    if report.series.iter().any(|second| !second.measured && second.phase != CONNECT) {
        let text = "times outside the measured phase, whose messages are in no figure of latency or rate";
        facts.push(("Shaded", text.to_owned()));
    }
    facts.push(("Phases", escape(&phases.collect::<Vec<_>>().join(", "))));
    let rows = facts.iter().map(|(name, value)| format!("<tr><th scope=row>{name}</th><td>{value}</td></tr>"));
    format!("<section><h2>How it was run</h2><table class=facts>{}</table></section>\n", rows.collect::<String>())
}
