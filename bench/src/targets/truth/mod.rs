//! `bench truth`: what loadgen says of a server, beside what the server says of itself.
//!
//! Both have a processor of their own. The server's log counts from reading a message to
//! writing its answer, loadgen from sending it to having read the answer. Between the two
//! lies the path, which is measured with a short and fixed delay, and with a limit of its
//! own, so that no error of loadgen's can hide in it. What follows from the log and the
//! path, each message with each, is what loadgen should say.
//!
//! Stalls are held against arithmetic instead, and from the intended send: that is what
//! coordinated omission would hide.

use std::io;
use std::path::Path as File;
use std::process::Command;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

mod law;
mod path;
mod server;

use self::law::{LAWS, Law};
use self::path::Path;
use self::server::TrueServer;
use super::Bench;
use super::report::{Findings, Table, each, median_of, show_spread};
use crate::rig::verdict::{Judgement, Verdict};

const CONNECTIONS: usize = 50;
/// Messages per second.
const RATE: usize = 1_000;
/// Those of loadgen's report.
const QUANTILES: [(&str, f64); 3] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)];

/// How far loadgen may be off: the larger of a part...
const DIFFERENCE_PART_MAX: f64 = 0.02;
/// ... and a time, in microseconds. The path's median may be as long.
const DIFFERENCE_MICROS_MAX: f64 = 100.0;
/// Fewer rounds are not judged.
const ROUNDS_MIN: usize = 5;
/// Runs that loadgen itself calls invalid are made again, so often in a row.
const ATTEMPTS_MAX: usize = 10;

/// One quantile of one run, in microseconds.
#[derive(Clone, Serialize, Debug)]
struct Sample {
    law: String,
    round: usize,
    quantile: &'static str,
    messages: usize,
    /// By the server's log, or by arithmetic.
    known_us: f64,
    /// The same with the path.
    expected_us: f64,
    /// By loadgen, from the actual send, or from the intended one for stalls.
    told_us: f64,
    /// How late messages left, at p99.
    schedule_lag_us: f64,
}

/// One run that loadgen calls valid.
struct Run {
    log: Vec<Duration>,
    report: Value,
}

pub(super) fn measure(bench: &Bench) -> io::Result<Findings> {
    let loadgen = bench.stand.workshop.build_loadgen()?;
    let (mut samples, mut repeated) = (Vec::new(), 0);
    let [shortest @ Law::Fixed(short), others @ ..] = LAWS else { unreachable!("the path has a fixed delay") };
    for round in 0..bench.rounds {
        let mut run = |law: Law| {
            let (run, again) = run_valid(bench, &loadgen, law, round as u64)?;
            repeated += again;
            eprintln!("{}/{} {}", round + 1, bench.rounds, law.name());
            Ok::<_, io::Error>(run)
        };
        let first = run(shortest)?;
        let histograms = &first.report["histograms"];
        let (actual, intended) = (Path::of(&histograms["service"], short)?, Path::of(&histograms["latency"], short)?);
        samples.extend(compare(shortest, round, &first, &actual)?);
        for law in others {
            let path = if law == Law::Stalls { &intended } else { &actual };
            samples.extend(compare(law, round, &run(law)?, path)?);
        }
    }
    Ok(find(&samples, repeated))
}

/// Runs until loadgen calls it valid; how often it did not.
fn run_valid(bench: &Bench, loadgen: &File, law: Law, seed: u64) -> io::Result<(Run, usize)> {
    for attempt in 0..ATTEMPTS_MAX {
        let server = TrueServer::start(law, seed, bench.stand.machine.server_on)?;
        let seconds = bench.time.as_secs_f64();
        let output = Command::new(loadgen)
            .args(["echo", &format!("ws://{}/", server.address), "--json", "--threads", "1"])
            .args(["-c", &CONNECTIONS.to_string(), "-R", &RATE.to_string(), "-d", &format!("{seconds}s")])
            .output()?;
        let log = server.stop()?;
        let report: Value = serde_json::from_slice(&output.stdout).map_err(|error| {
            io::Error::other(format!("loadgen: {error}: {}", String::from_utf8_lossy(&output.stderr)))
        })?;
        match report["verdict"].as_str() {
            Some("ok") if Some(log.len() as u64) == report["received"].as_u64() => {
                return Ok((Run { log, report }, attempt));
            }
            Some("invalid") => eprintln!("{}, again: {}", law.name(), report["invalid"][0]["text"]),
            _ => return Err(io::Error::other(format!("{} answers left the server; loadgen says {report}", log.len()))),
        }
    }
    Err(io::Error::other(format!("loadgen calls {ATTEMPTS_MAX} runs in a row invalid: this machine is too busy")))
}

fn compare(law: Law, round: usize, run: &Run, path: &Path) -> io::Result<Vec<Sample>> {
    let number = |value: &Value| value.as_f64().ok_or_else(|| io::Error::other("a figure of loadgen's is missing"));
    let parts = QUANTILES.map(|(_, part)| part);
    let count = run.log.len();
    // Of stalls, arithmetic knows what each message of an evenly sent many waits for.
    let known = |i: usize, took: Duration| law.closed_form((i as f64 + 0.5) / count as f64).unwrap_or(took);
    let mut known: Vec<f64> = run.log.iter().enumerate().map(|(i, &took)| known(i, took).as_secs_f64() * 1e6).collect();
    known.sort_by(f64::total_cmp);
    let expected = path.beside(&known, &parts);
    let told = if law == Law::Stalls { &run.report["latency_us"] } else { &run.report["service_us"] };
    let sample = |((quantile, part), expected_us): ((&'static str, f64), f64)| {
        let rank = (count as f64 * part).ceil() as usize;
        Ok(Sample {
            law: law.name(),
            round,
            quantile,
            messages: count,
            known_us: known[rank.clamp(1, count) - 1],
            expected_us,
            told_us: number(&told[quantile])?,
            schedule_lag_us: number(&run.report["schedule_lag_us"])?,
        })
    };
    QUANTILES.into_iter().zip(expected).map(sample).collect()
}

fn find(samples: &[Sample], repeated: usize) -> Findings {
    let (mut rows, mut verdicts) = (Vec::new(), Vec::new());
    for law in LAWS {
        for (quantile, _) in QUANTILES {
            let is_it = |sample: &&Sample| sample.law == law.name() && sample.quantile == quantile;
            let all: Vec<_> = samples.iter().filter(is_it).cloned().collect();
            let is_path = law == LAWS[0];
            // The path's own distribution is what it is; only its median has a limit.
            let difference =
                |sample: &Sample| sample.told_us - if is_path { sample.known_us } else { sample.expected_us };
            let allowed = (median_of(&all, |sample| sample.known_us) * DIFFERENCE_PART_MAX).max(DIFFERENCE_MICROS_MAX);
            let is_judged = !is_path || quantile == QUANTILES[0].0;
            let result = match all.len() {
                ..ROUNDS_MIN => Judgement::NotJudged,
                _ => Judgement::certain(median_of(&all, difference).abs() <= allowed),
            };
            rows.push(vec![
                law.name(),
                quantile.to_owned(),
                show_spread(&each(&all, |sample| sample.known_us), micros),
                show_spread(&each(&all, |sample| sample.expected_us), micros),
                show_spread(&each(&all, |sample| sample.told_us), micros),
                show_spread(&each(&all, difference), micros),
                if is_judged { micros(allowed) } else { String::new() },
                if is_judged { result.to_string() } else { "the path".to_owned() },
            ]);
            if is_judged {
                verdicts.push(Verdict { target: format!("{}, {quantile}", law.name()), result });
            }
        }
    }
    let head =
        vec!["server", "quantile", "server's log", "with the path", "loadgen", "difference", "allowed", "verdict"];
    let title = format!("{RATE} messages per second over {CONNECTIONS} connections");
    let lag = micros(median_of(samples, |sample| sample.schedule_lag_us));
    let remarks = vec![
        format!("messages left {lag} after their time at p99"),
        format!("runs that loadgen called invalid, and that were made again: {repeated}"),
    ];
    let tables = vec![Table { title, head, rows }];
    Findings { tables, verdicts, remarks, others_busy_max: 0.0, samples: serde_json::json!(samples) }
}

fn micros(micros: f64) -> String {
    format!("{micros:.0} µs")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Five runs that were to say `expected` and said `told`; the verdict.
    fn judged(law: Law, expected: f64, told: [f64; 5]) -> Judgement {
        let sample = |(round, told_us)| Sample {
            law: law.name(),
            round,
            quantile: "p50",
            messages: 1,
            known_us: expected,
            expected_us: expected,
            told_us,
            schedule_lag_us: 10.0,
        };
        let samples: Vec<_> = told.into_iter().enumerate().map(sample).collect();
        let verdicts = find(&samples, 0).verdicts;
        verdicts.iter().find(|verdict| verdict.target == format!("{}, p50", law.name())).unwrap().result
    }

    #[test]
    fn the_median_difference_is_held_against_the_larger_allowance() {
        let law = LAWS[1];
        assert_eq!(judged(law, 1_000.0, [1_090.0, 1_080.0, 1_099.0, 9_000.0, 9_000.0]), Judgement::Met);
        assert_eq!(judged(law, 1_000.0, [1_101.0; 5]), Judgement::Missed);
        assert_eq!(judged(law, 1_000.0, [899.0; 5]), Judgement::Missed, "too good is wrong as well");
        assert_eq!(judged(law, 100_000.0, [101_999.0; 5]), Judgement::Met);
        assert_eq!(judged(law, 100_000.0, [102_001.0; 5]), Judgement::Missed);
    }

    #[test]
    fn no_error_hides_in_the_path() {
        assert_eq!(judged(LAWS[0], 300.0, [390.0; 5]), Judgement::Met);
        assert_eq!(judged(LAWS[0], 300.0, [410.0; 5]), Judgement::Missed);
    }
}
