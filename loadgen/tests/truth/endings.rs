//! Servers that close, refuse, or say nothing: each end is counted and named.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use tungstenite::WebSocket;
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;

use crate::common::{Run, loadgen, server, tcp_server};

fn errors_of(run: &Run, kind: &str) -> u64 {
    run.json["errors_by_kind"][kind].as_u64().unwrap_or(0)
}

/// Reads until loadgen has gone; how many messages came.
fn hear_out(mut socket: WebSocket<TcpStream>) -> u64 {
    std::iter::from_fn(|| socket.read().ok()).filter(tungstenite::Message::is_text).count() as u64
}

#[test]
fn a_server_that_never_answers_has_lost_everything() {
    let (sender, heard) = mpsc::channel();
    let address = server(move |socket| sender.send(hear_out(socket)).unwrap());
    let run = loadgen("echo", address, "-c 4 -R 400 -d 500ms --grace 200ms");
    let heard: u64 = (0..4).map(|_| heard.recv_timeout(Duration::from_secs(20)).unwrap()).sum();
    assert_eq!((run.code, run.faults()), (1, vec![("lost", heard)]), "{}", run.json);
    assert_eq!((run.count("sent"), run.count("received")), (200, 0));
    assert!(run.json["latency_us"].is_null(), "no figure for what did not arrive: {}", run.json);
}

#[test]
fn a_server_that_closes_has_cut_as_many_as_it_closed() {
    // Every third connection is told to go at its tenth message, which stays unanswered.
    let (closed, number) = (std::sync::Arc::new(AtomicU64::new(0)), AtomicU64::new(0));
    let log = closed.clone();
    let address = server(move |mut socket| {
        let closes = number.fetch_add(1, Ordering::Relaxed) % 3 == 0;
        let mut messages = 0;
        while let Ok(message) = socket.read() {
            messages += u32::from(message.is_text());
            if closes && messages == 10 {
                log.fetch_add(1, Ordering::Relaxed);
                let frame = CloseFrame { code: CloseCode::Policy, reason: "enough".into() };
                let _ = socket.close(Some(frame));
                while socket.read().is_ok() {}
                return;
            }
            if message.is_text() {
                let _ = socket.send(message);
            }
        }
    });
    let run = loadgen("echo", address, "-c 9 -R 450 -d 1s --grace 200ms");
    let closed = closed.load(Ordering::Relaxed);
    assert_eq!((run.code, closed, errors_of(&run, "closed by server 1008")), (1, 3, closed), "{}", run.json);
    assert_eq!((run.count("dropped"), run.count("errors")), (closed, closed), "{}", run.json);
    assert_eq!(run.count("lost"), run.count("sent") - run.count("received"));
    assert!(run.count("lost") >= closed, "each had one message that was not answered: {}", run.json);
}

#[test]
fn a_server_that_refuses_some_has_as_many_errors() {
    let (refused, number) = (std::sync::Arc::new(AtomicU64::new(0)), AtomicU64::new(0));
    let log = refused.clone();
    let address = tcp_server(move |mut stream| {
        if number.fetch_add(1, Ordering::Relaxed) % 4 == 1 {
            log.fetch_add(1, Ordering::Relaxed);
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n");
            return;
        }
        let mut socket = tungstenite::accept(stream).unwrap();
        while let Ok(message) = socket.read() {
            if message.is_text() {
                let _ = socket.send(message);
            }
        }
    });
    let run = loadgen("echo", address, "-c 20 -R 200 -d 300ms");
    let refused = refused.load(Ordering::Relaxed);
    assert_eq!((run.code, refused, errors_of(&run, "handshake status 429")), (1, 5, 5), "{}", run.json);
    assert_eq!((run.count("opened"), run.count("lost"), run.count("dropped")), (15, 0, 0));
}

#[test]
fn a_server_that_answers_none_or_refuses_all_is_not_measured() {
    let silent = tcp_server(|mut stream| while stream.read(&mut [0; 4096]).is_ok_and(|len| len > 0) {});
    let closing = tcp_server(|mut stream| drop(stream.read(&mut [0; 4096])));
    for (address, arguments) in [(silent, "-c 3 -d 1s --timeout 100ms"), (closing, "-c 3 -d 1s")] {
        let run = loadgen("echo", address, arguments);
        assert_eq!((run.code, &run.json["verdict"]), (3, &"not_connected".into()), "{}", run.json);
        assert_eq!((run.count("errors"), run.count("opened"), run.count("sent")), (3, 0, 0));
    }
}
