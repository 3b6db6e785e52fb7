//! `bench stalled`: what subscribers that do not read add to the delay of the others.
//!
//! 1,000 subscribers get 64 KiB a second each. Once all of them read, once every tenth
//! never does; the 900 others are measured, the same ones in both.

mod outcome;

use std::collections::BTreeMap;
use std::io;
use std::net::TcpStream;
use std::time::Duration;

use serde::Serialize;

use super::Bench;
use super::readers::Readers;
use super::report::{Findings, Table, each, max_of, median_of, mib, paired_ratio, show_spread};
use super::watch::{self, Memory};
use crate::rig::client;
use crate::rig::delays::Quantiles;
use crate::rig::frames::{client_frame, server_frame};
use crate::rig::markdown::show_ratio;
use crate::rig::metrics::{Metrics, Scrape};
use crate::rig::server::Server;
use crate::rig::verdict::{Judgement, Verdict};
use crate::rig::window::Meter;
use outcome::Outcomes;

const SUBSCRIBERS: usize = 1_000;
/// One in so many does not read, or is not measured. They stand between the others in
/// the order of subscribing, so that whoever held up the next one would show.
const STALLED_EACH: usize = 10;
const STALLED: usize = SUBSCRIBERS / STALLED_EACH;

const PAYLOAD_BYTES: usize = 1024;
const MESSAGES_PER_SECOND: u32 = 64;
/// Asked for by those that do not read.
const RECEIVE_BUFFER_BYTES: usize = 4096;

/// What may wait for a connection: little enough that those who do not read are closed
/// while they are watched.
const QUEUE_BYTES_MAX: u64 = 256 * 1024;
const QUEUE_BYTES_TOTAL_MAX: u64 = 16 * 1024 * 1024;
/// What the kernel takes for a connection without sending it, in payload. It needs up
/// to twice that to keep it.
const KERNEL_UNSENT_BYTES: u64 = 64 * 1024;
const KERNEL_OVERHEAD: u64 = 2;

/// Until the last of those that do not read has been closed, with time to spare: queue
/// and kernel fill in five seconds.
const TIME_MIN: Duration = Duration::from_secs(7);

#[derive(Serialize, Debug)]
struct Sample {
    /// Whether one in ten did not read.
    stalled: bool,
    round: usize,
    /// From when a message was due until one of the 900 had read it.
    delay: Quantiles,
    before: Memory,
    most: Memory,
    /// Connections that the server ended, by reason.
    closes: BTreeMap<String, u64>,
    /// What those saw that did not read.
    outcomes: Outcomes,
    server_busy: f64,
    load_busy: f64,
    others_busy: f64,
}

type Figure = fn(&&Sample) -> f64;

pub(super) fn measure(bench: &Bench) -> io::Result<Findings> {
    if bench.time < TIME_MIN {
        return Err(io::Error::other(format!(
            "{:?} is too short: who does not read is closed within {TIME_MIN:?}",
            bench.time
        )));
    }
    let bounds = [QUEUE_BYTES_MAX, QUEUE_BYTES_TOTAL_MAX, KERNEL_UNSENT_BYTES].map(|bytes| bytes.to_string());
    let names = ["--limits-queue-bytes-max", "--limits-queue-bytes-total-max", "--limits-kernel-unsent-bytes"];
    let options: Vec<&str> = names.into_iter().zip(&bounds).flat_map(|(name, bytes)| [name, bytes.as_str()]).collect();
    let mut samples = Vec::new();
    for round in 0..bench.rounds {
        for stalled in [round % 2 == 1, round % 2 == 0] {
            let sample = bench.with_wsgate(1, &options, |server| measure_once(server, stalled, round, bench.time))?;
            let Quantiles { p50, p99, max } = sample.delay;
            let who = if stalled { "one in ten stalled" } else { "all reading" };
            eprintln!("{}/{} {who}: {p50:.2} ms, p99 {p99:.2} ms, max {max:.2} ms", round + 1, bench.rounds);
            samples.push(sample);
        }
    }
    Ok(find(&samples))
}

fn measure_once(server: &Server, stalled: bool, round: usize, time: Duration) -> io::Result<Sample> {
    let admin = server.admin.ok_or_else(|| io::Error::other("wsgate has no admin address"))?;
    let publisher = client::open(server.clients, &["/topics/room?subscribe=off".to_owned()])?.remove(0);
    let Subscribers { readers, silent } = Subscribers::open(server, stalled)?;
    let mut readers = Readers::new(publisher, readers, &client_frame(PAYLOAD_BYTES), &server_frame(PAYLOAD_BYTES))?;
    let (interval, count) =
        (Duration::from_secs(1) / MESSAGES_PER_SECOND, (time.as_secs_f64() * f64::from(MESSAGES_PER_SECOND)) as u32);

    let ((delays, usage), before, most) = watch::during(admin, || {
        let meter = Meter::start(server)?;
        let run = readers.run(interval, count)?;
        Ok((run.delays, meter.stop(server)?))
    })?;
    // While those that read are still there: whom the server has closed is what counts.
    let outcomes = Outcomes::of(silent)?;
    let closes = closes(&Metrics::connect(admin)?.scrape()?);
    drop(readers);
    Ok(Sample {
        stalled,
        round,
        delay: delays.quantiles(),
        before,
        most,
        closes,
        outcomes,
        server_busy: usage.server_busy(),
        load_busy: usage.load_busy(),
        others_busy: usage.others_busy(),
    })
}

/// Connections to one topic.
#[derive(Default)]
struct Subscribers {
    /// Those that read; whether each is measured.
    readers: Vec<(TcpStream, bool)>,
    /// Those that do not.
    silent: Vec<TcpStream>,
}

impl Subscribers {
    fn open(server: &Server, stalled: bool) -> io::Result<Self> {
        let path = "/topics/room";
        let mut open = Self::default();
        for _ in 0..STALLED {
            let measured = client::open(server.clients, &vec![path.to_owned(); STALLED_EACH - 1])?;
            open.readers.extend(measured.into_iter().map(|stream| (stream, true)));
            if stalled {
                open.silent.push(client::open_with_receive_buffer(server.clients, path, RECEIVE_BUFFER_BYTES)?);
            } else {
                open.readers.push((client::open(server.clients, &[path.to_owned()])?.remove(0), false));
            }
        }
        Ok(open)
    }
}

fn closes(scrape: &Scrape) -> BTreeMap<String, u64> {
    let mut closes = scrape.by_label("wsgate_closes_total", "reason");
    closes.retain(|_, count| *count > 0);
    closes
}

fn find(samples: &[Sample]) -> Findings {
    let of = |stalled| -> Vec<_> {
        let mut samples: Vec<_> = samples.iter().filter(|sample| sample.stalled == stalled).collect();
        samples.sort_unstable_by_key(|sample| sample.round);
        samples
    };
    let (reading, stalled) = (of(false), of(true));
    let delays: [(&str, Figure); 3] =
        [("p50", |sample| sample.delay.p50), ("p99", |sample| sample.delay.p99), ("max", |sample| sample.delay.max)];
    let mut verdicts = Vec::new();
    let mut ratios = vec!["÷ all reading".to_owned()];
    for (name, figure) in delays {
        let (with, without) = (each(&stalled, figure), each(&reading, figure));
        ratios.push(paired_ratio(&with, &without).map(show_ratio).unwrap_or_default());
        let target = format!("delay at {name} within the spread of the runs in which all read");
        verdicts.push(Verdict { target, result: judge_delay(&with, &without) });
    }
    ratios.resize(HEAD.len(), String::new());

    let kernel_max = kernel_growth_max(&reading) + STALLED as f64 * (KERNEL_UNSENT_BYTES * KERNEL_OVERHEAD) as f64;
    let queues = max_of(&stalled, |sample| sample.most.queues as f64);
    let kernel = kernel_growth_max(&stalled);
    verdicts.push(Verdict {
        target: format!(
            "queues hold at most limits.queue_bytes_total_max: {} of {}",
            mib(queues),
            mib(QUEUE_BYTES_TOTAL_MAX as f64)
        ),
        result: Judgement::certain(queues <= QUEUE_BYTES_TOTAL_MAX as f64),
    });
    verdicts.push(Verdict {
        target: format!(
            "the kernel holds at most {KERNEL_OVERHEAD} × limits.kernel_unsent_bytes more for each that does not read: \
             {} of {}",
            mib(kernel),
            mib(kernel_max)
        ),
        result: Judgement::certain(kernel <= kernel_max),
    });
    verdicts.push(Verdict {
        target: "each that does not read is told (4008) or reset".to_owned(),
        result: Judgement::certain(
            stalled.iter().all(|sample| sample.outcomes.told + sample.outcomes.reset == STALLED),
        ),
    });
    Findings {
        tables: vec![Table {
            title: format!(
                "{} of {SUBSCRIBERS} subscribers, {MESSAGES_PER_SECOND} × {PAYLOAD_BYTES} B per second to each",
                SUBSCRIBERS - STALLED
            ),
            head: HEAD.to_vec(),
            rows: vec![row("all reading", &reading), row("one in ten does not read", &stalled), ratios],
        }],
        verdicts,
        remarks: stalled.iter().map(|sample| remark(sample)).collect(),
        others_busy_max: max_of(samples, |sample| sample.others_busy),
        samples: serde_json::json!(samples),
    }
}

const HEAD: [&str; 9] =
    ["", "delay p50", "p99", "max", "RSS growth", "queues, most", "kernel growth", "server busy", "load busy"];

fn row(name: &str, samples: &[&Sample]) -> Vec<String> {
    let ms = |value: f64| format!("{value:.2} ms");
    vec![
        name.to_owned(),
        show_spread(&each(samples, |sample| sample.delay.p50), ms),
        show_spread(&each(samples, |sample| sample.delay.p99), ms),
        show_spread(&each(samples, |sample| sample.delay.max), ms),
        mib(max_of(samples, |sample| sample.most.resident as f64 - sample.before.resident as f64)),
        mib(max_of(samples, |sample| sample.most.queues as f64)),
        mib(kernel_growth_max(samples)),
        format!("{:.0} %", median_of(samples, |sample| sample.server_busy) * 100.0),
        format!("{:.0} %", median_of(samples, |sample| sample.load_busy) * 100.0),
    ]
}

fn remark(sample: &Sample) -> String {
    let closes: Vec<_> = sample.closes.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    let Outcomes { told, reset, neither } = sample.outcomes;
    format!(
        "round {}: closed {}; of those that did not read {told} were told, {reset} reset, {neither} neither",
        sample.round + 1,
        if closes.is_empty() { "nobody".to_owned() } else { closes.join(", ") }
    )
}

fn kernel_growth_max(samples: &[&Sample]) -> f64 {
    max_of(samples, |sample| sample.most.kernel as f64 - sample.before.kernel as f64)
}

/// Met if the median is not above all that was seen without those that do not read;
/// missed only if it is, and every pair that counts says the same.
fn judge_delay(with: &[f64], without: &[f64]) -> Judgement {
    let Some(lower) = paired_ratio(with, without).and_then(|ratio| ratio.lower) else { return Judgement::NotJudged };
    if median_of(with, |delay| *delay) <= max_of(without, |delay| *delay) {
        Judgement::Met
    } else if lower > 1.0 {
        Judgement::Missed
    } else {
        Judgement::Open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_the_same_within_the_spread_of_the_other() {
        let without = [1.0, 2.0, 1.5, 1.2, 1.3];
        let cases = [
            ([1.4, 1.9, 1.9, 1.9, 2.5], Judgement::Met),
            ([3.0, 3.1, 3.2, 3.3, 3.4], Judgement::Missed),
            ([3.0, 1.9, 3.2, 3.3, 3.4], Judgement::Open),
        ];
        for (with, expected) in cases {
            assert_eq!(judge_delay(&with, &without), expected, "{with:?}");
        }
        assert_eq!(judge_delay(&[1.0], &[1.0]), Judgement::NotJudged);
    }
}
