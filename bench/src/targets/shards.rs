//! `bench shards`: a fan-out by one shard and by two.
//!
//! Two shards divide the subscribers between them. A second processor for the second
//! shard is not there: it shares the load's, so CPU for each delivery compares only
//! roughly, wakes and sends compare well.

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
use crate::rig::window::Window;

const SUBSCRIBERS: usize = 2_000;
const PAYLOAD_BYTES: usize = 64;
const IN_FLIGHT: [usize; 2] = [1, 64];
const SHARDS: [usize; 2] = [1, 2];
const WARM_UP: Duration = Duration::from_millis(500);

#[derive(Serialize, Debug)]
struct Sample {
    in_flight: usize,
    shards: usize,
    /// Nanoseconds of the server's CPU.
    cpu_per_delivery: f64,
    /// Those in its own code.
    user_per_delivery: f64,
    /// Of its own code; `null` where they are not counted.
    user_instructions: Option<f64>,
    /// For each message published.
    wakes: f64,
    envelopes: f64,
    /// For each delivery.
    sends: f64,
    /// Send calls for each connection and turn that sent something to it.
    sends_per_flush: f64,
    server_busy: f64,
    load_busy: f64,
    others_busy: f64,
}

type Figure = fn(&&Sample) -> f64;

pub(super) fn measure(bench: &Bench) -> io::Result<Findings> {
    let mut samples = Vec::new();
    for round in 0..bench.rounds {
        for in_flight in IN_FLIGHT {
            // There and back again, so that what the machine does in time meets both.
            let mut order = SHARDS;
            if round % 2 == 1 {
                order.reverse();
            }
            for shards in order {
                let sample =
                    bench.with_wsgate(shards, &[], |server| measure_once(server, in_flight, shards, bench.time))?;
                let cost = sample.cpu_per_delivery;
                eprintln!("{}/{} {shards} shards, {in_flight} in flight: {cost:.1} ns", round + 1, bench.rounds);
                samples.push(sample);
            }
        }
    }
    Ok(find(&samples))
}

fn measure_once(server: &Server, in_flight: usize, shards: usize, time: Duration) -> io::Result<Sample> {
    let publisher = client::open(server.clients, &["/topics/room?subscribe=off".to_owned()])?.remove(0);
    let subscribers = client::open(server.clients, &vec!["/topics/room".to_owned(); SUBSCRIBERS])?;
    let (sent, delivered) = (client_frame(PAYLOAD_BYTES), server_frame(PAYLOAD_BYTES));
    let mut load = FanOut::new(publisher, subscribers, &sent, &delivered, Pace::InFlight(in_flight))?;
    let window = Window::measure(server, &mut load, WARM_UP, time)?;
    let count = |name| window.grown(name).map(|n| n as f64).ok_or_else(|| io::Error::other("wsgate has no counters"));
    let (published, sends) = (count("wsgate_published_total")?, count("wsgate_sends_total")?);
    let (usage, deliveries) = (window.usage, window.messages as f64);
    let cpu_per_delivery = window.cpu_per_message();
    Ok(Sample {
        in_flight,
        shards,
        cpu_per_delivery,
        user_per_delivery: cpu_per_delivery * usage.server.user_share(),
        user_instructions: window.instructions.map(|count| count as f64 / deliveries),
        wakes: count("wsgate_wakes_total")? / published,
        envelopes: count("wsgate_envelopes_total")? / published,
        sends: sends / deliveries,
        sends_per_flush: sends / count("wsgate_flushes_total")?,
        server_busy: usage.server_busy(),
        load_busy: usage.load_busy(),
        others_busy: usage.others_busy(),
    })
}

fn find(samples: &[Sample]) -> Findings {
    let mut tables = Vec::new();
    for in_flight in IN_FLIGHT {
        let of = |shards| -> Vec<_> {
            samples.iter().filter(|sample| (sample.in_flight, sample.shards) == (in_flight, shards)).collect()
        };
        let one = of(1);
        let row = |shards| {
            let samples = of(shards);
            let ratio = |figure: Figure| match shards {
                1 => String::new(),
                _ => paired_ratio(&each(&samples, figure), &each(&one, figure)).map(show_ratio).unwrap_or_default(),
            };
            let cpu: Figure = |sample| sample.cpu_per_delivery;
            let user: Figure = |sample| sample.user_per_delivery;
            let instructions = median_of(&samples, |sample| sample.user_instructions.unwrap_or(f64::NAN));
            vec![
                shards.to_string(),
                show_spread(&each(&samples, cpu), show_time),
                ratio(cpu),
                show_spread(&each(&samples, user), show_time),
                ratio(user),
                if instructions.is_nan() { "not counted".to_owned() } else { format!("{instructions:.0}") },
                show_spread(&each(&samples, |sample| sample.wakes), |value| format!("{value:.3}")),
                format!("{:.3}", median_of(&samples, |sample| sample.envelopes)),
                format!("{:.3}", median_of(&samples, |sample| sample.sends)),
                format!("{:.3}", median_of(&samples, |sample| sample.sends_per_flush)),
                format!("{:.0} %", median_of(&samples, |sample| sample.server_busy) * 100.0),
                format!("{:.0} %", median_of(&samples, |sample| sample.load_busy) * 100.0),
            ]
        };
        tables.push(Table {
            title: format!("fan-out to {SUBSCRIBERS} subscribers, {PAYLOAD_BYTES} B, {in_flight} in flight"),
            head: vec![
                "shards",
                "CPU per delivery",
                "÷ one shard",
                "user CPU per delivery",
                "÷ one shard",
                "user instructions",
                "wakes per message published",
                "envelopes per message published",
                "sends per delivery",
                "sends per connection and turn",
                "server busy",
                "load busy",
            ],
            rows: SHARDS.into_iter().map(row).collect(),
        });
    }
    Findings {
        tables,
        verdicts: Vec::new(),
        remarks: vec!["the second shard shares a processor with the load".to_owned()],
        others_busy_max: max_of(samples, |sample| sample.others_busy),
        samples: serde_json::json!(samples),
    }
}
