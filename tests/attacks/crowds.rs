//! Very many connections that do next to nothing.

use std::io::Write as _;
use std::time::{Duration, Instant};

use wsgate::proto::handshake::Status;
use wsgate::stats::CloseReason;

use super::common::tls::read_until_gone;
use super::common::{PATIENCE, TestServer};
use super::{Honest, TOPIC, answered, attacker, wait_for_peace};

#[test]
fn half_open_handshakes_that_dribble_are_answered_408_however_many_there_are() {
    const ATTACKERS: usize = 5_000;
    const HANDSHAKE_BYTES_MAX: usize = 1024;
    const BEGUN: &[u8] = b"GET /topics/room HTTP/1.1\r\nX-Dribble: ";
    let server = TestServer::with(|config| {
        config.timeouts.handshake = Duration::from_secs(5);
        config.limits.handshake_bytes_max = HANDSHAKE_BYTES_MAX;
    });
    let mut honest = Honest::join(&server);
    let table = || server.sum(|stats| &stats.connection_memory_bytes);
    let heads = || server.sum(|stats| &stats.input_memory_bytes);
    let before = table();
    let mut attackers = Vec::with_capacity(ATTACKERS);
    honest.publish_during(|| {
        for _ in 0..ATTACKERS {
            let mut client = attacker(&server, None);
            client.send(BEGUN);
            attackers.push(client);
        }
    });
    server.wait_until("all that has come is counted", |_| heads() >= (ATTACKERS * BEGUN.len()) as u64);
    let (slots, heads) = (table() - before, heads());
    assert!(slots <= 1024 * ATTACKERS as u64, "{slots} bytes for {ATTACKERS} connections");
    // A vector that grows may have as much again to spare.
    assert!(heads <= (2 * HANDSHAKE_BYTES_MAX * ATTACKERS) as u64, "{heads} bytes of {ATTACKERS} heads");
    // A byte now and then is no reason to wait longer.
    let began = Instant::now();
    while answered(&server, Status::RequestTimeout) == 0 {
        assert!(began.elapsed() < PATIENCE, "nobody was told that it took too long");
        for client in &mut attackers {
            if client.0.write_all(b"a").is_err() {
                break;
            }
        }
        honest.publish(64);
    }
    server.wait_until("all are answered", |server| answered(server, Status::RequestTimeout) == ATTACKERS as u64);
    // Who dribbles on behind the answer may find a reset in its place.
    let told = attackers.iter_mut().map(read_until_gone).filter(|answer| answer.starts_with(b"HTTP/1.1 408 ")).count();
    assert!(told > ATTACKERS / 2, "{told} of {ATTACKERS} have read their answer");
    drop(attackers);
    wait_for_peace(&server);
    assert_eq!(server.closes(CloseReason::HandshakeTimeout), ATTACKERS as u64);
    honest.publish(64);
}

#[test]
fn thousands_that_never_read_are_cut_and_queues_stay_within_their_bound() {
    const ATTACKERS: usize = 2_000;
    const QUEUE_BYTES_MAX: usize = 64 * 1024;
    const MESSAGE_BYTES: usize = 4 * 1024;
    /// Many times what a queue and the kernels at both ends take.
    const MESSAGES_MAX: u64 = 1_000;
    let server = TestServer::with(|config| {
        config.limits.queue_bytes_max = QUEUE_BYTES_MAX;
        config.limits.kernel_unsent_bytes = 16 * 1024;
        config.timeouts.close = Duration::from_millis(100);
    });
    let mut honest = Honest::join(&server);
    let mut attackers: Vec<_> = (0..ATTACKERS).map(|_| attacker(&server, Some(4096))).collect();
    attackers.iter_mut().for_each(|client| {
        client.upgrade(TOPIC, server.clients);
    });
    let cut = || server.closes(CloseReason::SlowConsumer);
    while cut() < ATTACKERS as u64 {
        honest.publish(MESSAGE_BYTES);
        assert!(honest.published < MESSAGES_MAX, "{} of {ATTACKERS} are cut", cut());
        // They wait for the same messages, which are kept once on each of the two shards. A
        // batch counts with what its vector may have to spare.
        let held = server.sum(|stats| &stats.queue_memory_bytes);
        assert!(held <= (2 * 2 * (QUEUE_BYTES_MAX + MESSAGE_BYTES)) as u64, "{held} bytes are kept");
    }
    // A Close cannot reach who does not read.
    for client in &mut attackers {
        client.expect_gone();
    }
    drop(attackers);
    wait_for_peace(&server);
    assert_eq!(cut(), ATTACKERS as u64);
    honest.publish(64);
}
