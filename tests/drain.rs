//! Going down in order: everybody is told, nothing that was accepted is lost.
#![allow(missing_docs, clippy::disallowed_methods)]

mod common;

use std::net::TcpStream;
use std::time::Duration;

use common::{PATIENCE, RawClient, TestServer, masked, wait_until};
use wsgate::config::Config;
use wsgate::stats::CloseReason;

/// So long that a test which waits for it fails.
const NEVER: Duration = Duration::from_secs(3600);

/// Nothing but the peers' own behaviour ends this gateway's drain.
fn patient(config: &mut Config) {
    config.timeouts.close = NEVER;
    config.timeouts.drain = NEVER;
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
        config.timeouts.drain = Duration::from_millis(100);
    });
    let mut clients = open_on_all_shards(&server, "/echo");
    server.drain();
    for client in &mut clients {
        assert_eq!(client.read_frame().0, 0x88);
        client.read_to_reset();
    }
    server.wait();
}

#[test]
fn who_does_not_even_read_is_cut_when_the_time_is_over() {
    const MESSAGES: u64 = 300;
    let server = TestServer::with(|config| {
        config.timeouts.close = NEVER;
        config.timeouts.drain = Duration::from_millis(100);
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
fn connections_in_the_handshake_are_closed() {
    let server = TestServer::with(patient);
    let mut silent = server.raw();
    let mut half = server.raw();
    half.send(b"GET /echo HTTP/1.1\r\nHost: ");
    server.wait_until("both are accepted", |server| server.sum(|stats| &stats.connections) == 2);
    server.drain();
    for client in [&mut silent, &mut half] {
        assert_eq!(client.read_to_reset(), b"");
    }
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
