//! Runs that end before their time: by a signal, or because the server is gone.
#![allow(clippy::disallowed_methods)] // Tests wait for what happens, with threads and a clock.

mod common;

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{loadgen, server};
use serde_json::Value;
use tungstenite::Message;

/// An echo server, and a channel that hears of every tenth message.
fn counted_echo() -> (std::net::SocketAddr, mpsc::Receiver<()>) {
    let (sender, tenth) = mpsc::channel();
    let count = AtomicUsize::new(0);
    let address = server(move |mut socket| {
        while let Ok(message) = socket.read() {
            if message.is_text() {
                let _ = socket.send(message);
                if count.fetch_add(1, Ordering::Relaxed) % 10 == 9 {
                    let _ = sender.send(());
                }
            }
        }
    });
    (address, tenth)
}

fn started(arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(arguments).args(["--json", "--allow-invalid"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn signal(child: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

#[test]
fn a_signal_ends_the_run_with_the_report_of_what_was_measured() {
    for which in [rustix::process::Signal::INT, rustix::process::Signal::TERM] {
        let (address, tenth) = counted_echo();
        let begun = Instant::now();
        let child = started(&["echo", &format!("ws://{address}/"), "-c", "2", "-R", "200", "-d", "10m"]);
        (0..5).for_each(|_| tenth.recv_timeout(Duration::from_secs(20)).unwrap());
        signal(&child, which);
        let output = child.wait_with_output().unwrap();
        assert!(begun.elapsed() < Duration::from_secs(60));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let count = |name: &str| report[name].as_u64().unwrap();
        assert_eq!((output.status.code(), count("lost")), (Some(0), 0), "{report}");
        assert!(count("sent") >= 50 && count("sent") == count("received"), "{report}");
        let seconds = report["seconds"].as_f64().unwrap();
        assert!((0.2..60.0).contains(&seconds), "{seconds}");
    }
}

#[test]
fn a_signal_while_connecting_ends_the_run_as_well() {
    let (sender, connected) = mpsc::channel();
    let address = server(move |mut socket| {
        let _ = sender.send(());
        while socket.read().is_ok() {}
    });
    let child = started(&["idle", &format!("ws://{address}/"), "-c", "1000", "--ramp", "2"]);
    connected.recv_timeout(Duration::from_secs(20)).unwrap();
    signal(&child, rustix::process::Signal::INT);
    let output = child.wait_with_output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["opened"].as_u64().unwrap() >= 1, "{report}");
}

#[test]
fn a_server_that_dies_is_told_with_when_and_how_many() {
    let streams = Arc::new(Mutex::new(Vec::new()));
    let count = AtomicUsize::new(0);
    let address = server({
        let streams = streams.clone();
        move |mut socket| {
            streams.lock().unwrap().push(socket.get_ref().try_clone().unwrap());
            while let Ok(message) = socket.read() {
                if let Message::Text(_) = message {
                    let _ = socket.send(message);
                    if count.fetch_add(1, Ordering::Relaxed) == 40 {
                        for stream in &*streams.lock().unwrap() {
                            let _ = stream.shutdown(std::net::Shutdown::Both);
                        }
                    }
                }
            }
        }
    });
    let run = loadgen("echo", address, "-c 4 -R 100 -d 60s");
    assert_eq!((run.code, run.count("dropped")), (1, 4), "{}", run.json);
    let cut: u64 =
        run.json["series"].as_array().unwrap().iter().map(|second| second["dropped"].as_u64().unwrap()).sum();
    assert_eq!(cut, 4, "{}", run.json);
}
