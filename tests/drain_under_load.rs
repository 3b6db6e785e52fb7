//! SIGTERM while messages are on their way: who publishes knows what was accepted, and
//! every subscriber has seen all of that when it is told to go.
#![allow(missing_docs, clippy::disallowed_methods)]

mod common;

use std::collections::{HashMap, HashSet};
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use common::program::Program;
use common::{RawClient, masked, wait_until};
use rustix::process::Signal;

const ROUNDS: usize = 5;
const SUBSCRIBERS: usize = 20;
const PUBLISHERS: usize = 3;
const HTTP_PUBLISHERS: usize = 2;
/// Accepted messages of each publisher before the signal comes.
const BEFORE: usize = 60;
/// Messages of a WebSocket publisher that it has not seen come back.
const IN_FLIGHT: usize = 8;

/// What all threads of a round share.
struct Round {
    clients: SocketAddr,
    admin: SocketAddr,
    /// The signal is on its way.
    signalled: AtomicBool,
    /// Publishers that have had enough accepted.
    warm: AtomicUsize,
}

/// What a publisher knows to be accepted.
type Accepted = Vec<String>;

impl Round {
    fn open(&self) -> RawClient {
        let mut client = RawClient::connect(self.clients);
        client.upgrade("/topics/load", self.clients);
        client
    }

    /// Reads until it is told to go, answers, and ends in order; everything it got.
    fn subscribe(mut client: RawClient) -> Vec<String> {
        let mut received = Vec::new();
        loop {
            match client.read_frame() {
                (0x81, payload) => received.push(String::from_utf8(payload).expect("text is UTF-8")),
                (0x88, body) => {
                    assert_eq!(&body[..2], 1001u16.to_be_bytes());
                    client.send(&masked(0x88, &body));
                    client.expect_end();
                    return received;
                }
                (first, _) => panic!("a frame that begins with {first:#x}"),
            }
        }
    }

    /// Publishes until it is told to go. What came back before the signal was accepted
    /// before it.
    fn publish(&self, name: usize, mut client: RawClient) -> Accepted {
        let (mut accepted, mut sent, mut seen) = (Vec::new(), 0, 0);
        let own = format!("w{name}-");
        loop {
            while sent < seen + IN_FLIGHT {
                client.send(&masked(0x81, format!("{own}{sent}").as_bytes()));
                sent += 1;
            }
            let (first, payload) = client.read_frame();
            if first == 0x88 {
                client.send(&masked(0x88, &payload));
                return accepted;
            }
            let message = String::from_utf8(payload).expect("text is UTF-8");
            if message.starts_with(&own) {
                seen += 1;
                if !self.signalled.load(Ordering::SeqCst) {
                    accepted.push(message);
                }
                self.count_warm(seen);
            }
        }
    }

    /// Publishes over one connection until that is refused. Every 200 is a promise, whenever it came.
    fn publish_over_http(&self, name: usize) -> Accepted {
        let mut client = RawClient::connect(self.admin);
        let mut accepted = Vec::new();
        for n in 0.. {
            let message = format!("h{name}-{n}");
            let request = format!(
                "POST /topics/load HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{message}",
                message.len()
            );
            // A gateway that has ended is as good as one that refuses.
            let mut first = [0];
            if client.0.write_all(request.as_bytes()).and_then(|()| client.0.read_exact(&mut first)).is_err() {
                break;
            }
            let head = client.read_head();
            let length = head.to_ascii_lowercase();
            let length = length.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()).expect(&head);
            client.read_bytes(length.parse().expect(length));
            if head.starts_with("TTP/1.1 503 ") {
                break;
            }
            assert!(head.starts_with("TTP/1.1 200 "), "{head}");
            accepted.push(message);
            self.count_warm(accepted.len());
        }
        accepted
    }

    fn count_warm(&self, accepted: usize) {
        if accepted == BEFORE {
            self.warm.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Messages of each publisher stand in their order, and none stands twice.
fn check_order(received: &[String]) {
    let mut last: HashMap<&str, i64> = HashMap::new();
    for message in received {
        let (publisher, number) = message.split_once('-').expect(message);
        let number: i64 = number.parse().expect(message);
        let last = last.entry(publisher).or_insert(-1);
        assert!(number > *last, "{message} after {publisher}-{last}");
        *last = number;
    }
}

fn go_down_under_load(arguments: &[&str]) {
    // On a busy machine a subscriber may be far behind, which is another subject.
    let patient = ["--shards", "2", "--limits-queue-bytes-max", "67108864"];
    let mut program = Program::start(&[&patient, arguments].concat());
    let round = Round {
        clients: program.clients,
        admin: program.admin,
        signalled: AtomicBool::new(false),
        warm: AtomicUsize::new(0),
    };
    let (accepted, received) = std::thread::scope(|scope| {
        let subscribers: Vec<RawClient> = (0..SUBSCRIBERS).map(|_| round.open()).collect();
        let subscribers: Vec<_> =
            subscribers.into_iter().map(|client| scope.spawn(|| Round::subscribe(client))).collect();
        let round = &round;
        let mut publishers: Vec<_> = (0..PUBLISHERS)
            .map(|name| (name, round.open()))
            .map(|(name, client)| scope.spawn(move || round.publish(name, client)))
            .collect();
        publishers.extend((0..HTTP_PUBLISHERS).map(|name| scope.spawn(move || round.publish_over_http(name))));
        wait_until("messages flow", || round.warm.load(Ordering::SeqCst) == PUBLISHERS + HTTP_PUBLISHERS);
        round.signalled.store(true, Ordering::SeqCst);
        program.signal(Signal::TERM);
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| thread.join().expect("a client that sees it all");
        let accepted: Accepted = publishers.into_iter().flat_map(join).collect();
        let received: Vec<Vec<String>> = subscribers.into_iter().map(join).collect();
        (accepted, received)
    });
    assert_eq!(program.wait().code(), Some(0));
    assert!(accepted.len() >= (PUBLISHERS + HTTP_PUBLISHERS) * BEFORE - PUBLISHERS * IN_FLIGHT);
    for (n, received) in received.iter().enumerate() {
        check_order(received);
        let received: HashSet<&String> = received.iter().collect();
        let lost: Vec<_> = accepted.iter().filter(|message| !received.contains(message)).collect();
        assert!(lost.is_empty(), "subscriber {n} has lost {lost:?} of {}", accepted.len());
    }
}

#[test]
fn nobody_loses_a_message_that_was_accepted_before() {
    for _ in 0..ROUNDS {
        go_down_under_load(&[]);
    }
}

#[test]
fn nor_while_the_grace_runs_and_connections_are_told_one_after_the_other() {
    for _ in 0..ROUNDS {
        go_down_under_load(&["--drain-grace-ms", "100", "--drain-spread-ms", "200"]);
    }
}
