//! `bench cliff`: what a delivery costs by how many messages are published at once.
//!
//! One connection publishes a burst in one write, and the next when every subscriber
//! has it all. Larger bursts make larger sends, so a delivery should cost less, and
//! nowhere more: a queue that changes its ways at some size would show as a step.

use std::io;
use std::time::Duration;

use serde::Serialize;

use super::Bench;
use super::report::{Findings, Table, each, max_of, median_of, paired_ratio, show_spread};
use crate::rig::client;
use crate::rig::frames::{client_frame, server_frame};
use crate::rig::load::{FanOut, Pace};
use crate::rig::markdown::{show_ratio, show_time};
use crate::rig::server::Server;
use crate::rig::verdict::{Judgement, Verdict};
use crate::rig::window::Window;

const SUBSCRIBERS: usize = 200;
const PAYLOADS: [usize; 3] = [64, 1024, 64 * 1024];
const BURSTS: [usize; 7] = [1, 2, 16, 33, 64, 256, 4096];
/// Payload bytes of the largest burst.
const BURST_BYTES_MAX: usize = 1024 * 1024;
const WARM_UP: Duration = Duration::from_millis(300);

/// A delivery costs at most this many times what it costs in the next smaller burst.
const RATIO_MAX: f64 = 1.10;

/// The largest burst and its headers may wait for one connection with room to spare:
/// what is measured is the cost of a delivery, not who is closed for being slow.
const OPTIONS: [&str; 2] = ["--limits-queue-bytes-max", "4194304"];

#[derive(Serialize, Debug)]
struct Sample {
    payload_bytes: usize,
    burst: usize,
    round: usize,
    /// Nanoseconds of the server's CPU.
    cpu_per_delivery: f64,
    user_share: f64,
    deliveries: u64,
    /// Turns of the event loop for each burst.
    turns_per_burst: f64,
    /// Send calls for each subscriber and burst: 1 is the least.
    sends_per_burst: f64,
    /// Send calls for each connection and turn that sent something to it.
    sends_per_flush: f64,
    /// Send calls that took less than they were given.
    short_sends: u64,
    server_busy: f64,
    load_busy: f64,
    others_busy: f64,
}

/// Bursts of messages of this size, the smallest first.
fn bursts(payload: usize) -> impl DoubleEndedIterator<Item = usize> {
    BURSTS.into_iter().filter(move |burst| burst * payload <= BURST_BYTES_MAX)
}

pub(super) fn measure(bench: &Bench) -> io::Result<Findings> {
    let mut samples = Vec::new();
    for round in 0..bench.rounds {
        for payload in PAYLOADS {
            // Up and down again, so that what the machine does in time meets both ends.
            let mut order: Vec<_> = bursts(payload).collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for burst in order {
                let sample = bench
                    .with_wsgate(1, &OPTIONS, |server| measure_once(server, payload, burst, round, bench.time))
                    .map_err(|error| io::Error::other(format!("{burst} messages of {payload} B: {error}")))?;
                let (number, cost) = (round + 1, sample.cpu_per_delivery);
                eprintln!("{number}/{} {payload} B in bursts of {burst}: {cost:.1} ns", bench.rounds);
                samples.push(sample);
            }
        }
    }
    Ok(find(&samples))
}

fn measure_once(server: &Server, payload: usize, burst: usize, round: usize, time: Duration) -> io::Result<Sample> {
    let publisher = client::open(server.clients, &["/topics/room?subscribe=off".to_owned()])?.remove(0);
    let subscribers = client::open(server.clients, &vec!["/topics/room".to_owned(); SUBSCRIBERS])?;
    let (sent, delivered) = (client_frame(payload), server_frame(payload));
    let mut load = FanOut::new(publisher, subscribers, &sent, &delivered, Pace::Bursts(burst))?;
    let window = Window::measure(server, &mut load, WARM_UP, time)?;
    let count = |name| window.grown(name).ok_or_else(|| io::Error::other("wsgate has no counters"));
    let (sends, flushes) = (count("wsgate_sends_total")? as f64, count("wsgate_flushes_total")? as f64);
    let rounds_of_all = window.messages as f64 / burst as f64;
    let usage = window.usage;
    Ok(Sample {
        payload_bytes: payload,
        burst,
        round,
        cpu_per_delivery: window.cpu_per_message(),
        user_share: usage.server.user_share(),
        deliveries: window.messages,
        turns_per_burst: count("wsgate_loop_turn_seconds_count")? as f64 / (rounds_of_all / SUBSCRIBERS as f64),
        sends_per_burst: sends / rounds_of_all,
        sends_per_flush: sends / flushes,
        short_sends: count("wsgate_short_sends_total")?,
        server_busy: usage.server_busy(),
        load_busy: usage.load_busy(),
        others_busy: usage.others_busy(),
    })
}

fn find(samples: &[Sample]) -> Findings {
    let (mut tables, mut verdicts) = (Vec::new(), Vec::new());
    for payload in PAYLOADS {
        let mut rows = Vec::new();
        let mut smaller: Option<(usize, Vec<f64>)> = None;
        for burst in bursts(payload) {
            let mut of_burst: Vec<_> =
                samples.iter().filter(|sample| (sample.payload_bytes, sample.burst) == (payload, burst)).collect();
            of_burst.sort_unstable_by_key(|sample| sample.round);
            let costs = each(&of_burst, |sample| sample.cpu_per_delivery);
            let ratio = smaller.as_ref().and_then(|(_, smaller)| paired_ratio(&costs, smaller));
            if let Some((smaller, _)) = smaller {
                verdicts.push(Verdict {
                    target: format!("{payload} B, {burst} at once at most {RATIO_MAX} × {smaller}"),
                    result: Judgement::at_most(RATIO_MAX, ratio),
                });
            }
            rows.push(vec![
                burst.to_string(),
                show_spread(&costs, show_time),
                ratio.map(show_ratio).unwrap_or_default(),
                format!("{:.0} %", median_of(&of_burst, |sample| sample.user_share) * 100.0),
                format!("{:.1}", median_of(&of_burst, |sample| sample.turns_per_burst)),
                format!("{:.2}", median_of(&of_burst, |sample| sample.sends_per_burst)),
                format!("{:.3}", median_of(&of_burst, |sample| sample.sends_per_flush)),
                format!("{:.0}", median_of(&of_burst, |sample| sample.short_sends as f64)),
                format!("{:.0} %", median_of(&of_burst, |sample| sample.server_busy) * 100.0),
                format!("{:.0} %", median_of(&of_burst, |sample| sample.load_busy) * 100.0),
            ]);
            smaller = Some((burst, costs));
        }
        tables.push(Table {
            title: format!("messages of {payload} B to {SUBSCRIBERS} subscribers"),
            head: vec![
                "at once",
                "CPU per delivery",
                "÷ next smaller",
                "user",
                "turns per burst",
                "sends per subscriber and burst",
                "sends per connection and turn",
                "short sends",
                "server busy",
                "load busy",
            ],
            rows,
        });
    }
    let others_busy_max = max_of(samples, |sample| sample.others_busy);
    Findings { tables, verdicts, remarks: Vec::new(), others_busy_max, samples: serde_json::json!(samples) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(burst: usize, round: usize, cpu_per_delivery: f64) -> Sample {
        Sample {
            payload_bytes: 64 * 1024,
            burst,
            round,
            cpu_per_delivery,
            user_share: 0.1,
            deliveries: 1,
            turns_per_burst: 1.0,
            sends_per_burst: 1.0,
            sends_per_flush: 1.0,
            short_sends: 0,
            server_busy: 0.5,
            load_busy: 0.5,
            others_busy: 0.0,
        }
    }

    #[test]
    fn no_burst_is_larger_than_its_bound() {
        assert_eq!(bursts(64 * 1024).collect::<Vec<_>>(), [1, 2, 16]);
        assert_eq!(bursts(64).last(), Some(4096));
    }

    #[test]
    fn a_step_up_is_missed_and_a_fall_is_met() {
        let costs = [(1, 10.0), (2, 5.0), (16, 6.0)];
        // The rounds run there and back again.
        let samples: Vec<_> = (0..5)
            .flat_map(|round| {
                let mut of_round = costs.map(|(burst, cost)| sample(burst, round, cost * (round + 1) as f64));
                if round % 2 == 1 {
                    of_round.reverse();
                }
                of_round
            })
            .collect();
        let results: Vec<_> = find(&samples).verdicts.iter().map(|verdict| verdict.result).collect();
        let judged = results[results.len() - 2..].to_vec();
        assert_eq!(judged, [Judgement::Met, Judgement::Missed]);
    }
}
