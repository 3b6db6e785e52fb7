//! `bench slices`: what a fan-out to very many adds to the delay of an unrelated echo.
//!
//! The echo shares the load's processor with the 15,000 subscribers, whose thread
//! therefore runs at the lowest priority. How late the echo's own sends are says how
//! much of a delay is still this side's; the server's turn times say, from the other
//! side, how long anything can have waited there.

mod probe;

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use serde::Serialize;

use super::Bench;
use super::report::{Findings, Table, each, max_of, median_of, show_spread};
use crate::rig::client;
use crate::rig::delays::Quantiles;
use crate::rig::frames::{client_frame, server_frame};
use crate::rig::interval::interval;
use crate::rig::load::{self, FanOut, Pace};
use crate::rig::metrics::{Metrics, Scrape};
use crate::rig::server::Server;
use crate::rig::verdict::{Judgement, Verdict};
use crate::rig::window::Meter;
use probe::Echoes;

const SUBSCRIBERS: usize = 15_000;
const PAYLOAD_BYTES: usize = 64;
/// Messages beside the echoes of a run that counts.
const PUBLISHED_LEAST: u64 = 10;
/// From the first message that is published until echoes are measured.
const WARM_UP: Duration = Duration::from_millis(500);
/// How long publishing goes on beside the echoes that are measured, so that it surely
/// ends after them.
const MARGIN: Duration = Duration::from_millis(500);

/// Milliseconds that may be added to an echo.
const ADDED_MS_MAX: f64 = 5.0;
/// A client that is later than this, in milliseconds at p99, is not to be trusted.
const LATE_MS_MAX: f64 = 1.0;

/// The least priority that there is.
const NICE_MAX: i32 = 19;

#[derive(Serialize, Debug)]
struct Sample {
    /// While nothing is published.
    quiet: Echoes,
    /// While everybody gets one message after the other.
    publishing: Echoes,
    /// Messages published in a second, meanwhile.
    published_per_second: f64,
    turns: Turns,
    server_busy: f64,
    load_busy: f64,
    others_busy: f64,
}

/// Turns of the server's loop, by its own histogram: a bound in milliseconds, and the
/// part of all turns that took at most so long. JSON has no infinity and says `null`.
#[derive(Clone, PartialEq, Serialize, Debug)]
struct Turns(Vec<(f64, f64)>);

impl Turns {
    /// From the buckets of two scrapes, each of which counts all turns up to its bound.
    fn between(before: &Scrape, after: &Scrape) -> io::Result<Self> {
        let buckets = |scrape: &Scrape| scrape.by_label("wsgate_loop_turn_seconds_bucket", "le");
        Self::of(&buckets(before), &buckets(after))
    }

    fn of(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> io::Result<Self> {
        let grown = |(bound, count): (&String, &u64)| {
            let seconds: f64 = bound.parse().map_err(io::Error::other)?;
            Ok((seconds * 1000.0, count - before.get(bound).copied().unwrap_or_default()))
        };
        let mut buckets = after.iter().map(grown).collect::<io::Result<Vec<(f64, u64)>>>()?;
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        let count = buckets.last().map_or(0, |bucket| bucket.1).max(1) as f64;
        Ok(Self(buckets.into_iter().map(|(bound, turns)| (bound, turns as f64 / count)).collect()))
    }
}

impl Sample {
    fn added(&self) -> Quantiles {
        let (quiet, publishing) = (self.quiet.round_trip, self.publishing.round_trip);
        Quantiles { p50: publishing.p50 - quiet.p50, p99: publishing.p99 - quiet.p99, max: publishing.max - quiet.max }
    }
}

type Figure = fn(&Sample) -> f64;

pub(super) fn measure(bench: &Bench) -> io::Result<Findings> {
    let mut samples = Vec::new();
    for round in 1..=bench.rounds {
        let sample = bench.with_wsgate(1, &[], |server| measure_once(server, bench.time))?;
        let Quantiles { p50, p99, max } = sample.added();
        eprintln!("{round}/{}: {p50:.2} ms, p99 {p99:.2} ms, max {max:.2} ms added", bench.rounds);
        samples.push(sample);
    }
    Ok(find(&samples))
}

fn measure_once(server: &Server, time: Duration) -> io::Result<Sample> {
    let admin: SocketAddr = server.admin.ok_or_else(|| io::Error::other("wsgate has no admin address"))?;
    let mut metrics = Metrics::connect(admin)?;
    let publisher = client::open(server.clients, &["/topics/room?subscribe=off".to_owned()])?.remove(0);
    let subscribers = client::open(server.clients, &vec!["/topics/room".to_owned(); SUBSCRIBERS])?;
    let mut echo = client::open(server.clients, &["/echo".to_owned()])?.remove(0);

    let quiet = probe::run(&mut echo, time)?;
    thread::scope(|scope| {
        let publishing = scope.spawn(|| publish(publisher, subscribers, WARM_UP + time + MARGIN));
        thread::sleep(WARM_UP);
        let before = metrics.scrape()?;
        let meter = Meter::start(server)?;
        let echoes = probe::run(&mut echo, time)?;
        let usage = meter.stop(server)?;
        let after = metrics.scrape()?;
        let ended_early = publishing.is_finished();
        publishing.join().map_err(|_| io::Error::other("the subscribers' thread panicked"))??;
        if ended_early {
            return Err(io::Error::other("publishing ended before the echoes: the echo client was held up"));
        }
        let published = after.sum("wsgate_published_total") - before.sum("wsgate_published_total");
        if published < PUBLISHED_LEAST {
            return Err(io::Error::other(format!(
                "{published} messages were published beside the echoes, {PUBLISHED_LEAST} are the least that says \
                 anything: other programs leave the publisher no time; measure again"
            )));
        }
        Ok(Sample {
            quiet,
            publishing: echoes,
            published_per_second: published as f64 / usage.wall.as_secs_f64(),
            turns: Turns::between(&before, &after)?,
            server_busy: usage.server_busy(),
            load_busy: usage.load_busy(),
            others_busy: usage.others_busy(),
        })
    })
}

/// One message at a time to all, without standing in the way of the echo.
fn publish(publisher: TcpStream, subscribers: Vec<TcpStream>, time: Duration) -> io::Result<()> {
    // Of this thread alone, as Linux has it.
    rustix::process::nice(NICE_MAX)?;
    let (sent, delivered) = (client_frame(PAYLOAD_BYTES), server_frame(PAYLOAD_BYTES));
    let mut load = FanOut::new(publisher, subscribers, &sent, &delivered, Pace::InFlight(1))?;
    load::run(&mut load, time)?;
    Ok(())
}

fn find(samples: &[Sample]) -> Findings {
    let ms = |value: f64| format!("{value:.2} ms");
    let row = |name: &str, of: fn(&Sample) -> Quantiles, late: Option<fn(&Sample) -> Quantiles>| {
        let mut cells = vec![name.to_owned()];
        for figure in [|q: Quantiles| q.p50, |q: Quantiles| q.p99, |q: Quantiles| q.max] {
            cells.push(show_spread(&each(samples, |sample| figure(of(sample))), ms));
        }
        for figure in [|q: Quantiles| q.p50, |q: Quantiles| q.p99, |q: Quantiles| q.max] {
            cells.push(late.map_or_else(String::new, |late| ms(median_of(samples, |sample| figure(late(sample))))));
        }
        cells
    };
    let table = Table {
        title: format!("an echo beside a fan-out of {PAYLOAD_BYTES} B to {SUBSCRIBERS}, one message at a time"),
        head: vec!["", "round trip p50", "p99", "max", "client late p50", "p99", "max"],
        rows: vec![
            row("nothing published", |sample| sample.quiet.round_trip, Some(|sample| sample.quiet.late)),
            row("publishing", |sample| sample.publishing.round_trip, Some(|sample| sample.publishing.late)),
            row("added", Sample::added, None),
        ],
    };
    let figures: [(&str, Figure); 3] = [
        ("p50", |sample| sample.added().p50),
        ("p99", |sample| sample.added().p99),
        ("max", |sample| sample.added().max),
    ];
    let verdicts = figures.map(|(name, figure)| Verdict {
        target: format!("at most {ADDED_MS_MAX} ms added at {name}"),
        result: Judgement::at_most(ADDED_MS_MAX, interval(&each(samples, figure))),
    });

    let mut remarks = vec![
        format!(
            "{:.0} messages published per second; server busy {:.0} %, load busy {:.0} %",
            median_of(samples, |sample| sample.published_per_second),
            median_of(samples, |sample| sample.server_busy) * 100.0,
            median_of(samples, |sample| sample.load_busy) * 100.0
        ),
        format!("turns of the server's loop, by its own histogram: {}", show_turns(samples)),
    ];
    let late = median_of(samples, |sample| sample.publishing.late.p99);
    if late > LATE_MS_MAX {
        remarks.push(format!(
            "the load's processor is part of the delay: the echo client itself was {late:.2} ms late at p99, and as \
             much may be in its round trips; compare with the turns of the server"
        ));
    }
    let latest = max_of(samples, |sample| sample.quiet.late.max.max(sample.publishing.late.max));
    if latest > ADDED_MS_MAX {
        remarks.push(format!(
            "the echo client itself was up to {latest:.1} ms late: the greatest delays say more of this machine than of \
             the server"
        ));
    }
    Findings {
        tables: vec![table],
        verdicts: verdicts.into(),
        remarks,
        others_busy_max: max_of(samples, |sample| sample.others_busy),
        samples: serde_json::json!(samples),
    }
}

/// The part of the turns that were within each bound, in the median round. Bounds that
/// add no turn are left out.
fn show_turns(samples: &[Sample]) -> String {
    let Some(first) = samples.first() else { return String::new() };
    let (mut shown, mut reached) = (Vec::new(), 0.0);
    for (index, (bound, _)) in first.turns.0.iter().enumerate() {
        let part = median_of(samples, |sample| sample.turns.0[index].1);
        if part > reached && bound.is_finite() {
            reached = part;
            shown.push(format!("{:.2} % took at most {bound} ms", part * 100.0));
        }
    }
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_those_between_the_scrapes() {
        let buckets = |counts: [u64; 3]| -> BTreeMap<String, u64> {
            ["0.001", "0.005", "+Inf"].map(str::to_owned).into_iter().zip(counts).collect()
        };
        let turns = Turns::of(&buckets([5, 5, 9]), &buckets([104, 106, 110])).unwrap();
        assert_eq!(turns, Turns(vec![(1.0, 99.0 / 101.0), (5.0, 1.0), (f64::INFINITY, 1.0)]));
    }
}
