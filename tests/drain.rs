//! Going down in order: everybody is told, nothing that was accepted is lost.
#![allow(missing_docs, clippy::disallowed_methods)]

mod common;

use std::net::TcpStream;
use std::time::Duration;

use common::program::Program;
use common::{PATIENCE, RawClient, TestServer, masked, wait_until};
use rustix::process::Signal;
use wsgate::config::Config;
use wsgate::stats::CloseReason;

/// So long that a test which waits for it fails.
const NEVER: Duration = Duration::from_secs(3600);

/// Nothing but the peers' own behaviour ends this gateway's drain.
fn patient(config: &mut Config) {
    config.timeouts.close = NEVER;
    config.drain.deadline = NEVER;
}

fn drained(server: &TestServer) -> u64 {
    server.sum(|stats| &stats.closes[CloseReason::Drain as usize])
}

/// Raw connections until every shard has one.
fn open_on_all_shards(server: &TestServer, path: &str) -> Vec<RawClient> {
    let mut clients = Vec::new();
    while server.stats().iter().any(|stats| stats.connections.get() == 0) {
        clients.push(server.raw_open(path));
        assert!(clients.len() < 200, "the kernel spreads connections over the shards");
    }
    clients
}

#[test]
fn everybody_is_told_1001_and_the_end_comes_when_all_have_answered() {
    let server = TestServer::with(patient);
    let mut clients = open_on_all_shards(&server, "/topics/a");
    clients.push(server.raw_open("/echo"));
    server.drain();
    for client in &mut clients {
        let (first, payload) = client.read_frame();
        assert_eq!((first, &payload[..2]), (0x88, 1001u16.to_be_bytes().as_slice()));
        assert_eq!(&payload[2..], b"the server is shutting down");
    }
    assert_eq!(server.sum(|stats| &stats.connections), clients.len() as u64, "the answers are awaited");
    for client in &mut clients {
        client.send(&masked(0x88, &1001u16.to_be_bytes()));
        client.expect_end();
    }
    let count = clients.len() as u64;
    drop(clients);
    server.wait_until("all are counted", |server| drained(server) == count);
    server.wait();
}

#[test]
fn a_gateway_without_connections_ends_at_once() {
    let server = TestServer::with(patient);
    server.drain();
    server.wait();
}

#[test]
fn who_never_answers_is_cut_when_the_time_is_over() {
    let server = TestServer::with(|config| {
        config.timeouts.close = NEVER;
        config.drain.deadline = Duration::from_millis(100);
    });
    let mut clients = open_on_all_shards(&server, "/echo");
    server.drain();
    for client in &mut clients {
        assert_eq!(client.read_frame().0, 0x88);
        client.read_to_reset();
    }
    let stats = server.stats().to_vec();
    server.wait();
    let reset: u64 = stats.iter().map(|stats| stats.drain_resets.get()).sum();
    assert_eq!(reset, clients.len() as u64, "counted apart from those who went when they were told");
}

#[test]
fn who_does_not_even_read_is_cut_when_the_time_is_over() {
    const MESSAGES: u64 = 300;
    let server = TestServer::with(|config| {
        config.timeouts.close = NEVER;
        config.drain.deadline = Duration::from_millis(100);
        config.limits.queue_bytes_max = 64 << 20;
    });
    let mut client = server.raw_small("/topics/a");
    publish(&server, MESSAGES as usize);
    server.wait_until("all are queued", |server| server.sum(|stats| &stats.deliveries) == MESSAGES);
    assert!(server.sum(|stats| &stats.queue_bytes) > 0);
    server.drain();
    server.wait();
    client.read_to_reset();
}

#[test]
fn connections_in_the_handshake_are_answered_503() {
    let server = TestServer::with(patient);
    let mut silent = server.raw();
    let mut half = server.raw();
    half.send(b"GET /echo HTTP/1.1\r\nHost: ");
    server.wait_until("both are accepted", |server| server.sum(|stats| &stats.connections) == 2);
    server.drain();
    for client in [&mut silent, &mut half] {
        let response = client.read_response();
        assert_eq!((response.status, response.header("Retry-After")), (503, Some("1")));
        assert!(response.body.contains("shutting down"), "{response:?}");
    }
    drop((silent, half));
    server.wait();
}

#[test]
fn nobody_is_taken_in_any_more() {
    let server = TestServer::with(patient);
    // Without an answer, it keeps the gateway from ending.
    let mut client = server.raw_open("/echo");
    server.drain();
    assert_eq!(client.read_frame().0, 0x88);
    wait_until("connecting is refused", || TcpStream::connect(server.clients).is_err());
    wait_until("a shard that had not heard yet has closed what it took in", || {
        server.sum(|stats| &stats.connections) == 1
    });
    // What it says now is read and has no meaning.
    client.send(&masked(0x81, b"too late"));
    client.send(&masked(0x88, &1001u16.to_be_bytes()));
    client.expect_end();
    drop(client);
    server.wait();
}

/// Messages of 16 KiB that begin with their number.
fn publish(server: &TestServer, count: usize) {
    let mut publisher = server.client("/topics/a?subscribe=off");
    for n in 0..count {
        publisher.send(tungstenite::Message::binary(message(n)));
    }
    // Its Close is answered after everything before it has been read.
    publisher.0.close(None).expect("sends");
    while publisher.0.read().is_ok() {}
}

fn message(n: usize) -> Vec<u8> {
    let mut message = vec![n as u8; 16 * 1024];
    message[..8].copy_from_slice(&n.to_be_bytes());
    message
}

#[test]
fn what_was_queued_before_is_delivered_before_the_close() {
    const MESSAGES: usize = 500;
    let server = TestServer::with(|config| {
        patient(config);
        config.limits.queue_bytes_max = 64 << 20;
    });
    let mut clients: Vec<_> = (0..4).map(|_| server.raw_small("/topics/a")).collect();
    publish(&server, MESSAGES);
    let deliveries = (clients.len() * MESSAGES) as u64;
    server.wait_until("all are queued", |server| server.sum(|stats| &stats.deliveries) == deliveries);
    assert!(server.sum(|stats| &stats.queue_bytes) > 0, "more than the kernel takes");
    server.drain();
    for client in &mut clients {
        for n in 0..MESSAGES {
            let (first, payload) = client.read_frame();
            assert!(first == 0x82 && payload == message(n), "message {n} whole and in its place");
        }
        client.answer_close(1001);
        client.expect_end();
    }
    drop(clients);
    server.wait();
}

#[test]
fn a_close_that_is_under_way_is_not_sent_twice() {
    let server = TestServer::with(patient);
    let mut client = server.raw_open("/echo");
    // The gateway has answered and ended its direction; we have not ended ours.
    client.send(&masked(0x88, &1000u16.to_be_bytes()));
    client.answer_close(1000);
    server.drain();
    client.0.set_read_timeout(Some(PATIENCE)).expect("an option of every socket");
    client.expect_end();
    drop(client);
    server.wait();
}

/// The status that a health check of the clients' port gets.
fn health_of_clients(server: &TestServer) -> u16 {
    let mut client = server.raw();
    client.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
    client.read_response().status
}

#[test]
fn during_the_grace_health_says_503_on_both_ports_and_all_else_goes_on() {
    let server = TestServer::with(|config| {
        patient(config);
        config.drain.grace = NEVER;
    });
    let mut subscribers = open_on_all_shards(&server, "/topics/a");
    assert_eq!(health_of_clients(&server), 200);
    server.drain();
    server.wait_until("all shards have heard", |server| server.stats().iter().all(|s| s.drain_phase.get() == 1));
    assert_eq!(health_of_clients(&server), 503);
    assert_eq!(server.http("GET /health HTTP/1.1", b"").0, 503);

    subscribers.push(server.raw_open("/topics/a"));
    assert_eq!(server.publish("a", "text/plain", b"over http").0, 200);
    let mut publisher = server.raw_open("/topics/a?subscribe=off");
    for client in &mut subscribers {
        client.expect(b"\x81\x09over http");
    }
    publisher.send(&masked(0x81, b"by a client"));
    for client in &mut subscribers {
        client.expect(b"\x81\x0bby a client");
        client.expect_nothing_yet();
    }
    server.abandon();
}

#[test]
fn after_the_grace_publishing_over_http_is_refused_and_those_who_are_left_are_served() {
    let server = TestServer::with(|config| {
        patient(config);
        config.drain.spread = NEVER;
    });
    // Of so many, none but the first of each shard is told at once.
    let mut clients: Vec<_> = (0..20).map(|_| server.raw_open("/topics/a")).collect();
    server.drain();
    server.wait_until("the first are told", |server| server.stats().iter().all(|stats| stats.drain_phase.get() == 4));
    let (status, words) = server.publish("a", "text/plain", b"too late");
    assert!(status == 503 && words.contains("shutting down"), "{status} {words}");
    assert_eq!(server.scraped("publishes_refused", "\"drain\""), 1);
    let left = server.sum(|stats| &stats.drain_left);
    assert!(left >= 18, "{left} of 20 are left");

    // Who is told finds a Close, and what it says has no meaning; the first who is not
    // publishes.
    let publisher = clients.iter_mut().position(|client| {
        client.send(&masked(0x81, b"among us"));
        client.read_frame().0 == 0x81
    });
    let mut told = publisher.expect("somebody is left");
    for client in &mut clients[told + 1..] {
        match client.read_frame() {
            (0x88, _) => told += 1,
            (first, payload) => assert_eq!((first, payload.as_slice()), (0x81, b"among us".as_slice())),
        }
    }
    assert!(told <= 2, "{told} told");
    server.abandon();
}

/// The kernel has completed these connections; what it holds for a listener that closes
/// is reset.
#[test]
fn who_waits_in_the_kernel_s_queue_is_taken_in_and_told() {
    const COUNT: usize = 300;
    let mut program = Program::start(&["--shards", "2", "--drain-deadline-ms", "3600000"]);
    program.signal(Signal::STOP);
    let mut clients: Vec<RawClient> = (0..COUNT).map(|_| RawClient::connect(program.clients)).collect();
    let head = format!(
        "GET /echo HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        program.clients
    );
    clients.iter_mut().for_each(|client| client.send(head.as_bytes()));
    program.signal(Signal::TERM);
    program.signal(Signal::CONT);
    for client in &mut clients {
        let head = client.read_head();
        if head.starts_with("HTTP/1.1 101 ") {
            client.answer_close(1001);
            client.expect_end();
        } else {
            assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
            assert!(client.read_to_end().ends_with(b"reach another\n"));
        }
    }
    drop(clients);
    assert_eq!(program.wait().code(), Some(0));
}
