//! Runs that end before their time: by a signal, or because the server is gone.
#![allow(clippy::disallowed_methods)] // Tests wait for what happens, with threads and a clock.

mod common;

use std::io::Write as _;
use std::net::Shutdown;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{loadgen, server, tcp_server};
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
fn a_signal_before_anybody_is_connected_gives_a_report_that_says_so() {
    let (sender, accepted) = mpsc::channel();
    let address = tcp_server(move |mut stream| {
        let _ = sender.send(());
        // Answers nothing.
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    });
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(["echo", &format!("ws://{address}/"), "-c", "3", "-d", "10m"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    (0..3).for_each(|_| accepted.recv_timeout(Duration::from_secs(20)).unwrap());
    signal(&child, rustix::process::Signal::INT);
    let output = child.wait_with_output().unwrap();
    let [text, words] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert_eq!(output.status.code(), Some(3), "{words}");
    assert!(text.contains("0  of 3 opened") && text.contains("Interrupted"), "{text}");
    assert!(!words.contains("cannot connect"), "{words}");
}

#[test]
fn who_asks_for_the_report_does_not_wait_for_answers_that_never_come() {
    let (sender, heard) = mpsc::channel();
    let address = server(move |mut socket| {
        while socket.read().is_ok() {
            let _ = sender.send(());
        }
    });
    let begun = Instant::now();
    let child = started(&["echo", &format!("ws://{address}/"), "-c", "1", "-d", "10m", "--grace", "10m"]);
    heard.recv_timeout(Duration::from_secs(20)).unwrap();
    signal(&child, rustix::process::Signal::INT);
    let output = child.wait_with_output().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(60));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["interrupted"], &report["sent"]), (&true.into(), &1.into()), "{report}");
}

/// The publisher's connection is the first to end, which ends the run; the others follow.
#[test]
fn all_connections_that_a_dying_server_cuts_are_counted() {
    const SUBSCRIBERS: usize = 40;
    let streams = Arc::new(Mutex::new(Vec::new()));
    let count = AtomicUsize::new(0);
    let address = server({
        let streams = streams.clone();
        move |mut socket| {
            streams.lock().unwrap().push(socket.get_ref().try_clone().unwrap());
            while let Ok(message) = socket.read() {
                let streams = streams.lock().unwrap();
                let payload = message.into_data();
                for mut stream in &*streams {
                    let _ = stream.write_all(&[&[0x81, payload.len() as u8], &*payload].concat());
                }
                if count.fetch_add(1, Ordering::Relaxed) == 20 {
                    let _ = socket.get_ref().shutdown(Shutdown::Both);
                    for stream in &*streams {
                        // As long as a kernel may take between one and the next.
                        std::thread::sleep(Duration::from_millis(1));
                        let _ = stream.shutdown(Shutdown::Both);
                    }
                }
            }
        }
    });
    let run = loadgen("fanout", address, "-c 40 -R 100 -d 60s");
    assert_eq!(run.count("dropped"), SUBSCRIBERS as u64 + 1, "{}", run.json);
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
