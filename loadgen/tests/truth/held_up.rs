//! loadgen itself is held up: what it then says of its rate.
#![allow(clippy::disallowed_methods)] // A stop of known length is what is tested.

use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::common::server;

const ECHO: &str = "echo -c 1 -R 1000 --fail-if rate<0.99*target";

/// A run that stands still for 900 ms after the 400th message or connection, and is treated
/// with `then` before it goes on.
fn held_up(arguments: &str, duration: &str, then: impl Fn(Pid)) -> (Value, Output) {
    let (sender, started) = mpsc::channel();
    let address = server(move |mut socket| {
        let _ = sender.send(());
        while let Ok(message) = socket.read() {
            let _ = sender.send(());
            let _ = socket.send(message);
        }
    });
    let child = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(arguments.split(' '))
        .args([&format!("ws://{address}/"), "-d", duration, "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = Pid::from_child(&child);
    (0..400).for_each(|_| started.recv_timeout(Duration::from_secs(20)).unwrap());
    kill_process(pid, Signal::STOP).unwrap();
    thread::sleep(Duration::from_millis(900));
    then(pid);
    kill_process(pid, Signal::CONT).unwrap();
    let output = child.wait_with_output().unwrap();
    (serde_json::from_slice(&output.stdout).unwrap(), output)
}

fn reasons(report: &Value) -> Vec<&str> {
    report["invalid"].as_array().unwrap().iter().map(|invalid| invalid["reason"].as_str().unwrap()).collect()
}

#[test]
fn a_run_that_could_not_hold_its_rate_does_not_look_clean() {
    // Half of its time loadgen does not run, and it is over before that goes on.
    let (report, output) = held_up(ECHO, "1s", |_| ());
    let number = |name: &str| report[name].as_f64().unwrap();
    assert_eq!((number("sent"), number("received")), (1_000.0, 1_000.0), "{report}");
    // The last one left no sooner than 900 ms after the 400th.
    assert!(number("seconds") > 1.29 && number("rate") < 1_000.0 / 1.29, "{report}");
    assert!(reasons(&report).contains(&"rate"), "{report}");
    assert!(report["thresholds"][0]["failed"].as_bool().unwrap(), "{report}");
    assert_eq!(output.status.code(), Some(6), "{report}");
}

#[test]
fn nor_does_one_that_is_interrupted_before_it_has_caught_up() {
    let (report, output) = held_up(ECHO, "60s", |pid| kill_process(pid, Signal::INT).unwrap());
    assert_eq!(report["interrupted"], true, "{report}");
    // What was due may have left before loadgen heard of the interrupt: late.
    assert!(reasons(&report).iter().any(|reason| ["rate", "schedule_lag"].contains(reason)), "{report}");
    assert_eq!(output.status.code(), Some(6), "{report}");
}

#[test]
fn clients_that_come_late_do_not_look_as_if_they_had_waited_for_the_server() {
    // Places are short when it goes on, and fill in one burst.
    for arguments in ["churn -R 500 -c 60 --stay 100ms", "churn -R 500 -c 500 --stay 1s"] {
        let (report, output) = held_up(arguments, "3s", |_| ());
        assert!(reasons(&report).contains(&"schedule_lag"), "{arguments}: {report}");
        assert!(report["schedule_lag_max_us"].as_f64().unwrap() > 800_000.0, "{arguments}: {report}");
        assert_eq!(output.status.code(), Some(6), "{arguments}: {report}");
    }
}

#[test]
fn nor_when_they_are_interrupted_with_all_places_taken() {
    let (report, output) =
        held_up("churn -R 500 -c 50 --stay 100ms", "60s", |pid| kill_process(pid, Signal::INT).unwrap());
    assert!(reasons(&report).contains(&"rate"), "{report}");
    assert_eq!(output.status.code(), Some(6), "{report}");
}
