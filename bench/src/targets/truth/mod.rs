//! `bench truth`: what loadgen says of a server, beside what the server says of itself.
//!
//! Both have a processor of their own. The server's log counts from reading a message to
//! writing its answer. loadgen counts from when the message was meant to leave until it
//! has read the answer: the path is in its figure, of two sends, two wake-ups and its own
//! lateness. What the path takes is measured with a server that answers at once.

use std::io;
use std::process::Command;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

mod law;
mod server;

use self::law::{LAWS, Law};
use self::server::TrueServer;
use super::Bench;
use super::report::{Findings, Table, each, median_of, show_spread};
use crate::rig::verdict::{Judgement, Verdict};

const CONNECTIONS: usize = 50;
/// Messages per second.
const RATE: usize = 1_000;
/// Those of `latency_us` in loadgen's report.
const QUANTILES: [(&str, f64); 3] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)];

/// How far loadgen may be from the server: the larger of a part...
const DIFFERENCE_PART_MAX: f64 = 0.02;
/// ... and a time, in microseconds.
const DIFFERENCE_MICROS_MAX: f64 = 100.0;
/// Fewer rounds are not judged.
const ROUNDS_MIN: usize = 5;

/// One quantile of one run.
#[derive(Clone, Serialize, Debug)]
struct Sample {
    law: String,
    round: usize,
    quantile: &'static str,
    messages: usize,
    /// By the server's log, or by arithmetic for stalls.
    known_us: f64,
    /// From the intended send.
    told_us: f64,
    /// From the actual send.
    told_service_us: f64,
    /// How late messages left, at p99.
    schedule_lag_us: f64,
    /// loadgen's verdict: figures of an invalid run are not judged.
    verdict: String,
}

pub(super) fn measure(bench: &Bench) -> io::Result<Findings> {
    let loadgen = bench.stand.workshop.build_loadgen()?;
    let mut samples = Vec::new();
    for round in 0..bench.rounds {
        for law in LAWS {
            let server = TrueServer::start(law, round as u64, bench.stand.machine.server_on)?;
            let seconds = bench.time.as_secs_f64();
            let output = Command::new(&loadgen)
                .args(["echo", &format!("ws://{}/", server.address), "--json", "--threads", "1"])
                .args(["-c", &CONNECTIONS.to_string(), "-R", &RATE.to_string(), "-d", &format!("{seconds}s")])
                .output()?;
            let log = server.stop()?;
            let report: Value = serde_json::from_slice(&output.stdout).map_err(|error| {
                io::Error::other(format!("loadgen: {error}: {}", String::from_utf8_lossy(&output.stderr)))
            })?;
            samples.extend(compare(law, round, log, &report)?);
            eprintln!("{}/{} {}: {}", round + 1, bench.rounds, law.name(), report["verdict"]);
        }
    }
    Ok(find(&samples))
}

fn compare(law: Law, round: usize, mut log: Vec<Duration>, report: &Value) -> io::Result<Vec<Sample>> {
    let number = |value: &Value| value.as_f64().ok_or_else(|| io::Error::other(format!("not measured: {report}")));
    if Some(log.len() as u64) != report["received"].as_u64() {
        let (sent, received) = (log.len(), &report["received"]);
        return Err(io::Error::other(format!("{sent} answers left the server, {received} arrived")));
    }
    log.sort_unstable();
    let sample = |(quantile, part): (&'static str, f64)| {
        let known = law.closed_form(part).unwrap_or_else(|| at(&log, part));
        Ok(Sample {
            law: law.name(),
            round,
            quantile,
            messages: log.len(),
            known_us: known.as_secs_f64() * 1e6,
            told_us: number(&report["latency_us"][quantile])?,
            told_service_us: number(&report["service_us"][quantile])?,
            schedule_lag_us: number(&report["schedule_lag_us"])?,
            verdict: report["verdict"].as_str().unwrap_or_default().to_owned(),
        })
    };
    QUANTILES.into_iter().map(sample).collect()
}

/// The value that such a part of all is at most.
fn at(sorted: &[Duration], part: f64) -> Duration {
    let rank = (sorted.len() as f64 * part).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

fn find(samples: &[Sample]) -> Findings {
    let (mut rows, mut verdicts, mut remarks) = (Vec::new(), Vec::new(), Vec::new());
    for law in LAWS {
        for (quantile, _) in QUANTILES {
            let is_it = |sample: &&Sample| sample.law == law.name() && sample.quantile == quantile;
            let all: Vec<_> = samples.iter().filter(is_it).cloned().collect();
            let valid: Vec<_> = all.iter().filter(|sample| sample.verdict == "ok").cloned().collect();
            let known = median_of(&valid, |sample| sample.known_us);
            let difference = median_of(&valid, |sample| sample.told_us - sample.known_us);
            let allowed = (known * DIFFERENCE_PART_MAX).max(DIFFERENCE_MICROS_MAX);
            let judgement = match law {
                // The path is no error.
                Law::AtOnce => None,
                _ if valid.len() < ROUNDS_MIN => Some(Judgement::NotJudged),
                _ => Some(Judgement::certain(difference.abs() <= allowed)),
            };
            rows.push(vec![
                law.name(),
                quantile.to_owned(),
                show_spread(&each(&valid, |sample| sample.known_us), micros),
                show_spread(&each(&valid, |sample| sample.told_us), micros),
                show_spread(&each(&valid, |sample| sample.told_us - sample.known_us), micros),
                show_spread(&each(&valid, |sample| sample.told_service_us - sample.known_us), micros),
                judgement.map_or("the path".to_owned(), |_| micros(allowed)),
                judgement.map_or_else(String::new, |judgement| judgement.to_string()),
            ]);
            if let Some(result) = judgement {
                verdicts.push(Verdict { target: format!("{}, {quantile}", law.name()), result });
            }
            if quantile == "p99" && valid.len() < all.len() {
                let invalid = all.len() - valid.len();
                remarks.push(format!("{}: loadgen called {invalid} of {} runs invalid itself", law.name(), all.len()));
            }
        }
    }
    let lag = median_of(samples, |sample| sample.schedule_lag_us);
    remarks.push(format!("messages left {} after their time at p99", micros(lag)));
    let head = vec![
        "server",
        "quantile",
        "server's log",
        "loadgen",
        "difference",
        "difference from the actual send",
        "allowed",
        "verdict",
    ];
    let title = format!("{RATE} messages per second over {CONNECTIONS} connections");
    let tables = vec![Table { title, head, rows }];
    Findings { tables, verdicts, remarks, others_busy_max: 0.0, samples: serde_json::json!(samples) }
}

fn micros(micros: f64) -> String {
    format!("{micros:.0} µs")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(law: Law, round: usize, known_us: f64, told_us: f64, verdict: &str) -> Sample {
        Sample {
            law: law.name(),
            round,
            quantile: "p50",
            messages: 1,
            known_us,
            told_us,
            told_service_us: told_us,
            schedule_lag_us: 10.0,
            verdict: verdict.to_owned(),
        }
    }

    /// The verdict about p50 of the law after the path.
    fn judged(samples: &[Sample]) -> Judgement {
        find(samples).verdicts[0].result
    }

    #[test]
    fn the_median_difference_is_held_against_the_larger_allowance() {
        let runs = |known: f64, told: [f64; 5]| -> Vec<Sample> {
            told.iter().enumerate().map(|(round, &told)| sample(LAWS[1], round, known, told, "ok")).collect()
        };
        assert_eq!(judged(&runs(1_000.0, [1_090.0, 1_080.0, 1_099.0, 9_000.0, 9_000.0])), Judgement::Met);
        assert_eq!(judged(&runs(1_000.0, [1_101.0; 5])), Judgement::Missed);
        assert_eq!(judged(&runs(1_000.0, [899.0; 5])), Judgement::Missed, "too good is wrong as well");
        assert_eq!(judged(&runs(100_000.0, [101_999.0; 5])), Judgement::Met);
        assert_eq!(judged(&runs(1_000.0, [1_000.0; 5])[..4]), Judgement::NotJudged);
    }

    #[test]
    fn runs_that_loadgen_calls_invalid_are_told_and_not_judged() {
        let mut samples: Vec<_> = (0..5).map(|round| sample(LAWS[1], round, 1_000.0, 1_010.0, "ok")).collect();
        samples[0].verdict = "invalid".to_owned();
        assert_eq!(judged(&samples), Judgement::NotJudged);
        samples.push(sample(LAWS[1], 5, 1_000.0, 1_010.0, "ok"));
        assert_eq!(judged(&samples), Judgement::Met);
    }
}
