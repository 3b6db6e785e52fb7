//! Latency is told as it was: no coordinated omission in the open loop.
//!
//! The server stalls for 200 ms in every 2 s. Messages that are meant for a stall
//! wait for its end: of a constant rate that is a tenth, delayed evenly between 0
//! and 200 ms, so that 1 % of all messages wait for more than 180 ms. A load
//! generator that waits for answers sends one message per stall and sees next to
//! nothing of it. That the time counts from the intended send, also when loadgen itself
//! was held up, is tested with each scenario, on a virtual clock.
#![allow(clippy::disallowed_methods)] // The stall is the behaviour under test, so the server looks at the clock.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{echo_server, loadgen};

const PERIOD: Duration = Duration::from_secs(2);
const STALL: Duration = Duration::from_millis(200);

fn stalling_server() -> SocketAddr {
    let started = Instant::now();
    echo_server(move |_, message| {
        let phase = started.elapsed().as_nanos() % PERIOD.as_nanos();
        if let Some(left) = STALL.as_nanos().checked_sub(phase) {
            thread::sleep(Duration::from_nanos(left as u64));
        }
        vec![message]
    })
}

#[test]
fn the_open_loops_tail_shows_a_stall_as_arithmetic_says() {
    // Two whole periods: wherever they begin, 400 ms of them are stalled.
    let run = loadgen("echo", stalling_server(), "-c 1 -R 500 -d 4s");
    assert_eq!((run.code, run.count("sent"), run.count("received")), (0, 2_000, 2_000), "{}", run.json);
    assert_eq!(run.json["mode"], "open loop, latency from intended send");
    // No message can be faster than the stall lets it, so the lower bounds are sharp;
    // a busy machine only makes it slower.
    let (p50, p99, max) = (run.latency_ms("p50"), run.latency_ms("p99"), run.latency_ms("max"));
    assert!(p50 < 50.0, "half of the messages meet no stall: {p50} ms");
    assert!((178.0..400.0).contains(&p99), "1 % wait for more than 180 ms: {p99} ms");
    assert!((197.0..600.0).contains(&max), "the first of a stall waits for all of it: {max} ms");
}

#[test]
fn the_closed_loop_is_labelled_service_time() {
    let run = loadgen("echo", stalling_server(), "-c 1 -d 2s");
    assert_eq!((run.code, run.faults()), (0, vec![]), "{}", run.json);
    assert_eq!(run.json["mode"], "closed loop, service time");
    assert_eq!((&run.json["schedule_lag_us"], &run.json["target_rate"]), (&().into(), &().into()));
    // The same stall, met by one message only.
    assert!(run.latency_ms("p99") < 100.0, "{}", run.json);
}
