//! `bench attack`: what attacks add to the time from publish to flush.
//!
//! 1,000 honest subscribers get 100 messages a second, once with nobody else there and once
//! beside the attack, from the same server. Its own histogram says how long messages took
//! in it. The attack shares the load's processor with the honest clients, at the lowest
//! priority; how late the honest publisher was says whether that was enough.

mod attacker;
mod bombs;
mod crowds;
mod floods;
mod kinds;
mod report;
mod streams;
mod tls;

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde::Serialize;

use super::Bench;
use super::readers::Readers;
use super::report::Findings;
use super::watch::{self, Memory};
use crate::rig::client;
use crate::rig::delays::Quantiles;
use crate::rig::frames::{client_frame, server_frame};
use crate::rig::histogram::Histogram;
use crate::rig::metrics::{Metrics, Scrape};
use crate::rig::secure::Certificates;
use crate::rig::server::Server;
use crate::rig::window::Meter;
use attacker::{Achieved, Target};
use kinds::Kind;

const SUBSCRIBERS: usize = 1_000;
const MESSAGES_PER_SECOND: u32 = 100;
const PAYLOAD_BYTES: usize = 256;
const PATH: &str = "/topics/room";

/// Little enough that an attack reaches its bounds while it is watched.
const QUEUE_BYTES_MAX: u64 = 64 * 1024;
const QUEUE_BYTES_TOTAL_MAX: u64 = 16 * 1024 * 1024;
const KERNEL_UNSENT_BYTES: u64 = 16 * 1024;
const HANDSHAKE_BYTES_MAX: u64 = 8 * 1024;
const MESSAGE_BYTES_MAX: u64 = 1024 * 1024;
const HANDSHAKE_MS: u64 = 2_000;
const CLOSE_MS: u64 = 1_000;
/// Where the honest are. Attackers have other addresses, with the usual limits.
const EXEMPT: &str = "127.0.0.1/32";

/// Counters of the server that say what became of attacks, beside closes and statuses.
const COUNTERS: [(&str, &str); 6] = [
    ("bombs cut", "wsgate_bombs_cut_total"),
    ("pings skipped", "wsgate_pings_skipped_total"),
    ("TLS handshakes", "wsgate_tls_handshakes_total"),
    ("failed", "wsgate_tls_handshakes_failed_total"),
    ("deferred", "wsgate_tls_handshakes_deferred_total"),
    ("TLS streams truncated", "wsgate_tls_truncated_total"),
];

/// One attack in one round.
#[derive(Serialize, Debug)]
struct Sample {
    attack: &'static str,
    round: usize,
    quiet: Times,
    attacked: Times,
    /// Units of the attack in a second.
    rate: f64,
    /// Connections that it opened, and that the server ended or refused, in a second.
    opened: f64,
    ended: f64,
    /// Of these, refused by the server for what their address had taken already.
    refused: f64,
    /// Of the load's processor.
    attack_busy: f64,
    server_busy: f64,
    /// In the quiet time: what the kernel does for connects that are refused or reset is
    /// nobody's, and would look like other programs.
    others_busy: f64,
    before: Memory,
    most: Memory,
    /// Connections that the server ended meanwhile, by reason, and requests by status.
    closes: BTreeMap<String, u64>,
    statuses: BTreeMap<String, u64>,
    /// Connections that were refused for their address, by bound.
    refusals: BTreeMap<String, u64>,
    /// What [`COUNTERS`] have grown by.
    counters: BTreeMap<String, u64>,
}

/// What the honest got, and when.
#[derive(Clone, Serialize, Debug)]
struct Times {
    /// From the turn that took a message in until all were offered it, in milliseconds, by
    /// the server's own histogram.
    flush_p50: f64,
    flush_p99: f64,
    /// Turns of the server's loop, in milliseconds.
    turn_p99: f64,
    /// From when a message was due until a subscriber had read it.
    delay: Quantiles,
    /// From when a message was due until it was sent.
    late: Quantiles,
    /// Why somebody did not get everything.
    lost: Option<String>,
}

pub(super) fn measure(bench: &Bench) -> io::Result<Findings> {
    let kinds = kinds::select(&bench.attacks)?;
    let certificates = &bench.stand.workshop.certificates;
    let mut samples = Vec::new();
    for round in 0..bench.rounds {
        for kind in &kinds {
            let mut options = bounds();
            if kind.secure {
                options.extend(certificates.server_options());
            }
            let options: Vec<&str> = options.iter().map(String::as_str).chain(kind.flags.iter().copied()).collect();
            let measure = |server: &Server| measure_once(server, kind, certificates, round, bench.time);
            let sample = bench.with_wsgate(1, &options, measure)?;
            eprintln!(
                "{}/{} {}: {:.2} ms at p99, {:.2} ms quiet; {:.0} {} per second",
                round + 1,
                bench.rounds,
                kind.title,
                sample.attacked.flush_p99,
                sample.quiet.flush_p99,
                sample.rate,
                kind.unit
            );
            samples.push(sample);
        }
    }
    Ok(report::find(&kinds, &samples))
}

fn bounds() -> Vec<String> {
    let bounds = [
        ("--limits-queue-bytes-max", QUEUE_BYTES_MAX),
        ("--limits-queue-bytes-total-max", QUEUE_BYTES_TOTAL_MAX),
        ("--limits-kernel-unsent-bytes", KERNEL_UNSENT_BYTES),
        ("--limits-handshake-bytes-max", HANDSHAKE_BYTES_MAX),
        ("--limits-plain-message-bytes-max", MESSAGE_BYTES_MAX),
        ("--timeouts-handshake-ms", HANDSHAKE_MS),
        ("--timeouts-close-ms", CLOSE_MS),
    ];
    let bounds = bounds.into_iter().map(|(flag, value)| (flag, value.to_string()));
    let exempt = ("--address-limits-exempt", EXEMPT.to_owned());
    bounds.chain([exempt]).flat_map(|(flag, value)| [flag.to_owned(), value]).collect()
}

fn measure_once(
    server: &Server,
    kind: &Kind,
    certificates: &Certificates,
    round: usize,
    time: Duration,
) -> io::Result<Sample> {
    let admin = server.admin.ok_or_else(|| io::Error::other("wsgate has no admin address"))?;
    let mut metrics = Metrics::connect(admin)?;
    let publisher = client::open(server.clients, &[format!("{PATH}?subscribe=off")])?.remove(0);
    let readers = client::open(server.clients, &vec![PATH.to_owned(); SUBSCRIBERS])?;
    let readers = readers.into_iter().map(|stream| (stream, true)).collect();
    let mut readers = Readers::new(publisher, readers, &client_frame(PAYLOAD_BYTES), &server_frame(PAYLOAD_BYTES))?;

    let meter = Meter::start(server)?;
    // Under the same watch as later: a scrape has its part in what is slow.
    let (quiet, ..) = watch::during(admin, || times(&mut readers, &mut metrics, time))?;
    let others_busy = meter.stop(server)?.others_busy();
    let target = Target::new(server.clients, kind.sources());
    let stop = AtomicBool::new(false);
    let ((scrapes, attacked, achieved, usage), before, most) = watch::during(admin, || {
        let before = metrics.scrape()?;
        let meter = Meter::start(server)?;
        let (attacked, achieved) = thread::scope(|scope| {
            let attack = scope.spawn(|| attacker::run(&mut *(kind.start)(target, certificates)?, &stop));
            let attacked = times(&mut readers, &mut metrics, time);
            stop.store(true, Ordering::Relaxed);
            let achieved = attack.join().map_err(|_| io::Error::other("the attack panicked"))?;
            io::Result::Ok((attacked?, achieved?))
        })?;
        let usage = meter.stop(server)?;
        Ok(((before, metrics.scrape()?), attacked, achieved, usage))
    })?;
    let Achieved { tally, wall, cpu } = achieved;
    let per_second = |count: u64| count as f64 / wall.as_secs_f64();
    let refusals = grown(&scrapes, "wsgate_address_refusals_total", "bound");
    Ok(Sample {
        attack: kind.name,
        round,
        quiet,
        attacked,
        rate: per_second(tally.done),
        opened: per_second(tally.opened),
        ended: per_second(tally.ended),
        refused: per_second(refusals.values().sum()),
        attack_busy: cpu.as_secs_f64() / wall.as_secs_f64(),
        server_busy: usage.server_busy(),
        others_busy,
        before,
        most,
        closes: grown(&scrapes, "wsgate_closes_total", "reason"),
        statuses: grown(&scrapes, "wsgate_handshakes_total", "status"),
        refusals,
        counters: COUNTERS
            .into_iter()
            .map(|(label, name)| (label.to_owned(), scrapes.1.sum(name) - scrapes.0.sum(name)))
            .filter(|(_, count)| *count > 0)
            .collect(),
    })
}

/// Publishes for a while; a loss is part of what is found.
fn times(readers: &mut Readers, metrics: &mut Metrics, time: Duration) -> io::Result<Times> {
    let count = (time.as_secs_f64() * f64::from(MESSAGES_PER_SECOND)) as u32;
    let before = metrics.scrape()?;
    let run = readers.run(Duration::from_secs(1) / MESSAGES_PER_SECOND, count);
    let after = metrics.scrape()?;
    let histogram = |name| Histogram::between(&before, &after, name);
    let flushes = histogram("wsgate_publish_to_flush_seconds")?;
    let turns = histogram("wsgate_loop_turn_seconds")?;
    let (delay, late, lost) = match run {
        Ok(run) => (run.delays.quantiles(), run.late.quantiles(), None),
        Err(error) => (Quantiles::default(), Quantiles::default(), Some(error.to_string())),
    };
    Ok(Times {
        flush_p50: flushes.quantile(0.5),
        flush_p99: flushes.quantile(0.99),
        turn_p99: turns.quantile(0.99),
        delay,
        late,
        lost,
    })
}

/// How much each label of a counter has grown, without those that have not.
fn grown((before, after): &(Scrape, Scrape), name: &str, label: &str) -> BTreeMap<String, u64> {
    let before = before.by_label(name, label);
    let mut grown = after.by_label(name, label);
    grown.iter_mut().for_each(|(label, count)| *count -= before.get(label).copied().unwrap_or_default());
    grown.retain(|_, count| *count > 0);
    grown
}
