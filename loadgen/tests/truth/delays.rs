//! Servers whose answers take a known time.
//!
//! No message can be faster than its server, so lower bounds are sharp on any machine.
#![allow(clippy::disallowed_methods)] // The delay is the behaviour under test.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use fastrand::Rng;

use crate::common::{echo_server, loadgen};

/// Sleeps for what `draw` says before each answer, and notes it, in microseconds.
fn delaying(draw: impl Fn(&mut Rng) -> f64 + Send + Sync + 'static) -> (std::net::SocketAddr, Arc<Mutex<Vec<f64>>>) {
    let log = Arc::new(Mutex::new(Vec::new()));
    let (noted, rng) = (log.clone(), Mutex::new(Rng::with_seed(7)));
    let address = echo_server(move |_, message| {
        let micros = draw(&mut rng.lock().unwrap());
        thread::sleep(Duration::from_secs_f64(micros / 1e6));
        noted.lock().unwrap().push(micros);
        vec![message]
    });
    (address, log)
}

/// The value that such a part of all values are at most.
fn quantile(sorted: &[f64], part: f64) -> f64 {
    let rank = (sorted.len() as f64 * part).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

#[test]
fn no_message_is_told_to_be_faster_than_its_server() {
    // A heavy tail: one in a hundred takes over 21 times as long as the shortest.
    let pareto = |rng: &mut Rng| (1_000.0 * (1.0 - rng.f64()).powf(-1.0 / 1.5)).min(300_000.0);
    let fixed = |_: &mut Rng| 5_000.0;
    for (server, log) in [delaying(fixed), delaying(pareto)] {
        let run = loadgen("echo", server, "-c 20 -R 500 -d 2s --arrivals poisson --grace 5s");
        let mut log = log.lock().unwrap().clone();
        let sent = log.len() as u64;
        assert_eq!((run.code, run.faults(), run.count("received")), (0, vec![], sent), "{}", run.json);
        log.sort_by(f64::total_cmp);
        for (name, part) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0)] {
            let (told, known) = (run.latency_ms(name) * 1e3, quantile(&log, part));
            // Figures have three significant digits.
            assert!(told >= known * 0.999, "{name}: {told} us of {known}");
            let service = run.json["service_us"][name].as_f64().unwrap();
            assert!(service >= known * 0.999, "{name} from the actual send: {service} us of {known}");
        }
    }
}

#[test]
fn a_threshold_below_the_delay_fails_and_the_verdict_is_its_own() {
    let (server, _) = delaying(|_| 20_000.0);
    for (condition, code) in [("p50>19ms", 5), ("p99<19ms", 0), ("max<20ms", 0)] {
        let run = loadgen("echo", server, &format!("-c 4 -R 50 -d 300ms --fail-if {condition}"));
        assert_eq!(run.code, code, "{condition}: {}", run.json);
    }
}
