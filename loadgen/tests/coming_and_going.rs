//! Scenarios about connections: churn, storm, and subscribers that stall.
#![allow(clippy::disallowed_methods)] // Servers of tests have threads, and one is slow on purpose.

mod common;

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use common::{Run, loadgen, loadgen_with, server, tcp_server};
use loadgen::limits::HANDSHAKES_PENDING_MAX;
use tungstenite::Message;
use tungstenite::handshake::server::{Request, Response};
use wsgate::proto::frame::{self, OpCode};

/// A server that tells how each connection ended: its close code, or `cut`.
fn ends() -> (SocketAddr, mpsc::Receiver<String>) {
    let (sender, ends) = mpsc::channel();
    let address = server(move |mut socket| {
        let mut end = "cut".to_owned();
        loop {
            match socket.read() {
                Ok(Message::Close(Some(close))) => end = u16::from(close.code).to_string(),
                Ok(_) => {}
                Err(_) => break,
            }
        }
        let _ = sender.send(end);
    });
    (address, ends)
}

#[test]
fn churn_connects_at_the_rate_and_leaves_in_good_order() {
    for more in ["", "--stay 50ms -t 2", "--arrivals poisson --seed 3"] {
        let (address, ends) = ends();
        let run = loadgen_with("churn", address, "/", "-R 50 -d 400ms", &more.split_whitespace().collect::<Vec<_>>());
        assert_eq!((run.code, run.faults()), (0, vec![]), "{more}: {}", run.json);
        let sent = run.count("sent");
        assert_eq!((run.count("received"), run.count("opened")), (sent, sent), "{more}");
        assert!(if more.contains("poisson") { sent > 5 } else { sent == 20 }, "{more}: {sent}");
        let ends: Vec<_> = ends.iter().take(sent as usize).collect();
        assert!(ends.iter().all(|end| end == "1000"), "{ends:?}");
        assert!(run.latency_ms("max") > 0.0);
    }
}

#[test]
fn churn_begins_at_once_since_nobody_connects_before_it() {
    let (address, _ends) = ends();
    let run = loadgen("churn", address, "-R 20 -d 100ms -t 2");
    let connect = &run.json["phases"][0];
    assert_eq!(connect["phase"], "connect", "{}", run.json);
    let seconds = connect["seconds"].as_f64().unwrap();
    assert!(seconds < 0.5, "the first client was meant to connect after {seconds} s");
}

#[test]
fn churn_counts_from_the_time_at_which_a_client_meant_to_connect() {
    let address = tcp_server(|stream| {
        std::thread::sleep(Duration::from_millis(250));
        let mut socket = tungstenite::accept(stream).unwrap();
        while socket.read().is_ok() {}
    });
    // The place takes 250 ms and more, and a client comes every 100 ms: the last of ten is
    // 1.35 s late.
    let run = waiting_for_the_server(address, "-c 1 -R 10 -d 1s");
    assert_eq!((run.code, run.count("received")), (0, 10), "{}", run.json);
    assert!(run.latency_ms("p50") > 750.0 && run.latency_ms("max") > 1_500.0, "{}", run.json["latency_us"]);
    let service = run.json["service_us"]["p50"].as_f64().unwrap();
    assert!((250_000.0..350_000.0).contains(&service), "{service}");
}

/// A run of one second of which the server makes more, and in which no connect left late for
/// loadgen's own doing. A busy machine stops loadgen for a moment, too, so there are a few tries
/// for that. In none is much of the time loadgen's.
fn waiting_for_the_server(server: SocketAddr, arguments: &str) -> Run {
    const TRIES: usize = 10;
    let mut told = Vec::new();
    for _ in 0..TRIES {
        let run = loadgen("churn", server, arguments);
        let more = run.json["seconds"].as_f64().unwrap() - 1.0;
        let own = run.lag_seconds();
        assert!(more > 0.1 && own < more / 2.0, "{own} s of {more} are loadgen's: {}", run.json);
        if own_lateness(&run).is_empty() {
            return run;
        }
        told.push(run.json["invalid"].to_string());
    }
    panic!("the server was the limit, and not loadgen: {told:?}");
}

/// Reasons that say that connects left late for loadgen's own doing.
fn own_lateness(run: &Run) -> Vec<&str> {
    let reasons = run.json["invalid"].as_array().unwrap().iter().map(|invalid| invalid["reason"].as_str().unwrap());
    reasons.filter(|reason| ["schedule_lag", "rate"].contains(reason)).collect()
}

#[test]
fn churn_is_valid_where_more_handshakes_wait_for_the_server_than_may() {
    // Accepted by the kernel and answered one after the other, 10 ms each.
    let turn = Mutex::new(());
    let address = tcp_server(move |stream| {
        let turn = turn.lock().unwrap();
        std::thread::sleep(Duration::from_millis(10));
        let mut socket = tungstenite::accept(stream).unwrap();
        drop(turn);
        while socket.read().is_ok() {}
    });
    let run = waiting_for_the_server(address, "-t 1 -R 300 -d 1s");
    assert_eq!((run.code, run.count("received")), (0, 300), "{}", run.json);
    assert!(run.json["rate"].as_f64().unwrap() < 250.0, "at most {HANDSHAKES_PENDING_MAX} wait: {}", run.json);
}

#[test]
fn churn_may_last_longer_than_a_handshake() {
    let (address, _ends) = ends();
    // Who comes has the place of one that came and went before, whose time is over.
    let run = loadgen("churn", address, "-R 100 -d 1s --timeout 200ms");
    assert_eq!((run.code, run.faults(), run.count("received")), (0, vec![], 100), "{}", run.json);
}

#[test]
fn churn_without_places_for_those_who_stay_is_refused() {
    let output = Command::new(env!("CARGO_BIN_EXE_loadgen")).args("churn -R 100 -c 199 --stay 2s".split(' ')).output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("are 200 at once, more than -c 199 has places for"), "{said}");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn churn_against_a_server_that_refuses_is_a_loss_and_an_error() {
    let address = tcp_server(|mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 429 Too Many Requests\r\n\r\n");
        let _ = std::io::Read::read_to_end(&mut stream, &mut Vec::new());
    });
    let run = loadgen("churn", address, "-R 50 -d 200ms");
    assert_eq!((run.count("sent"), run.count("lost"), run.count("errors")), (10, 10, 10), "{}", run.json);
    assert_eq!(run.json["errors_by_kind"].to_string(), "{\"handshake status 429\":10}");
}

#[test]
fn a_storm_cuts_all_connections_and_measures_until_all_are_back() {
    let (address, ends) = ends();
    let run = loadgen("storm", address, "-c 20 --times 2 -d 2s -t 2");
    assert_eq!((run.code, run.faults()), (0, vec![]), "{}", run.json);
    assert_eq!((run.count("opened"), run.count("sent"), run.count("received")), (60, 40, 40));
    let ends: Vec<_> = ends.iter().take(60).collect();
    assert_eq!(ends.iter().filter(|&end| end == "cut").count(), 40);
    assert_eq!(ends.iter().filter(|&end| end == "1000").count(), 20);
    let recoveries = run.json["recovery_seconds"].as_array().unwrap();
    assert!(recoveries.len() == 2 && recoveries.iter().all(|took| took.as_f64().unwrap() < 1.0), "{recoveries:?}");
}

#[test]
fn a_storm_tries_again_where_a_return_fails() {
    let count = AtomicUsize::new(0);
    let address = tcp_server(move |mut stream| {
        // The first two come back to a server that is not ready.
        if (2..4).contains(&count.fetch_add(1, Ordering::Relaxed)) {
            let _ = stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\n\r\n");
            return;
        }
        let mut socket = tungstenite::accept(stream).unwrap();
        while socket.read().is_ok() {}
    });
    let run = loadgen("storm", address, "-c 2 -d 2s");
    assert_eq!((run.count("sent"), run.count("received"), run.count("lost")), (2, 2, 0), "{}", run.json);
    assert_eq!((run.code, run.count("errors")), (1, 2));
    let took = run.json["recovery_seconds"][0].as_f64().unwrap();
    assert!((0.1..1.5).contains(&took), "{took}");
}

/// A topic whose members are sent `stalled` in place of each message if they connected first.
fn topic_with(stalled: impl Fn(&mut TcpStream, &[u8]) + Send + Sync + 'static) -> SocketAddr {
    let members = Arc::new(Mutex::new(Vec::<TcpStream>::new()));
    tcp_server(move |stream| {
        let member = stream.try_clone().unwrap();
        #[allow(clippy::result_large_err)] // The type is tungstenite's.
        let subscribe = |request: &Request, response: Response| {
            if request.uri().query() != Some("publisher") {
                members.lock().unwrap().push(member);
            }
            Ok(response)
        };
        let mut socket = tungstenite::accept_hdr(stream, subscribe).unwrap();
        while let Ok(message) = socket.read() {
            let Message::Text(text) = message else { continue };
            let mut bytes = Vec::new();
            frame::append_server(&mut bytes, OpCode::Text, text.as_bytes());
            let mut members = members.lock().unwrap();
            if let Some((first, others)) = members.split_first_mut() {
                stalled(first, &bytes);
                others.iter_mut().for_each(|member| drop(member.write_all(&bytes)));
            }
        }
    })
}

const SLOW: &str = "-c 4 --stalled 25% -t 1 --ramp 20 --publisher-query publisher -R 50 -d 500ms";

#[test]
fn a_stalled_reader_that_is_closed_is_no_error_and_its_code_is_told() {
    let address = topic_with(|first, _| {
        let mut close = Vec::new();
        frame::append_server(&mut close, OpCode::Close, &4008u16.to_be_bytes());
        let _ = first.write_all(&close);
    });
    let run = loadgen("slow", address, SLOW);
    assert_eq!((run.code, run.faults()), (0, vec![]), "{}", run.json);
    assert_eq!((run.count("sent"), run.count("received"), run.count("stalled")), (25, 75, 1));
    assert_eq!(run.json["stalled_by_end"].to_string(), "{\"closed by server 4008\":1}");
}

#[test]
fn a_stalled_reader_does_not_read_until_the_end() {
    let blocked = Arc::new(AtomicUsize::new(0));
    let seen = blocked.clone();
    let address = topic_with(move |first, bytes| {
        first.set_write_timeout(Some(Duration::from_millis(20))).unwrap();
        if seen.load(Ordering::Relaxed) == 0 && first.write_all(bytes).is_err() {
            seen.store(1, Ordering::Relaxed);
        }
    });
    // 25 MB are more than both kernels' buffers take.
    let run = loadgen("slow", address, &format!("{SLOW} -s 1000000 --grace 500ms"));
    assert_eq!(blocked.load(Ordering::Relaxed), 1, "the server noticed");
    assert_eq!((run.code, run.faults(), run.count("received")), (0, vec![], 75), "{}", run.json);
    assert_eq!((run.count("stalled"), run.json["stalled_by_end"].to_string().as_str()), (1, "{}"));
}
