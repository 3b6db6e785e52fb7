//! What is wrong, or too much, on a few connections.

use std::io::{ErrorKind, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use miniz_oxide::deflate::core::CompressorOxide;
use miniz_oxide::{DataFormat, MZFlush};
use wsgate::limits::RECEIVE_BUFFER_BYTES;
use wsgate::stats::CloseReason;

use super::common::tls::read_until_gone;
use super::common::{RawClient, TestServer, masked, unmasked, upgrade_request};
use super::{Honest, attacker, open, wait_for_peace};

#[test]
fn an_announced_length_of_4_gib_is_answered_1009_before_any_of_it_comes() {
    const ATTACKERS: u64 = 100;
    let server = TestServer::start();
    let mut honest = Honest::join(&server);
    honest.publish_during(|| {
        for n in 0..ATTACKERS {
            let mut client = open(&server, if n % 2 == 0 { "/topics/a" } else { "/echo" });
            let mut frame = vec![0x82, 0xff];
            frame.extend((4u64 << 30).to_be_bytes());
            frame.extend([1, 2, 3, 4]);
            client.send(&frame);
            let words = client.expect_close(1009);
            assert!(words.contains("4294967296"), "{words}");
            client.expect_end();
        }
    });
    wait_for_peace(&server);
    assert_eq!(server.closes(CloseReason::MessageTooLong), ATTACKERS);
}

#[test]
fn fragments_of_a_byte_add_up_to_a_message_that_is_too_long() {
    let server = TestServer::with(|config| {
        config.limits.plain_message_bytes_max = FRAGMENTS - 1;
        config.limits.fragments_max = FRAGMENTS;
    });
    flood_with_fragments(&server);
    assert_eq!(server.closes(CloseReason::MessageTooLong), FRAGMENTERS);
}

#[test]
fn fragments_of_a_byte_are_too_many_before_they_add_up() {
    let server = TestServer::with(|config| {
        config.limits.plain_message_bytes_max = FRAGMENTS;
        config.limits.fragments_max = FRAGMENTS - 1;
    });
    flood_with_fragments(&server);
    assert_eq!(server.closes(CloseReason::TooManyFragments), FRAGMENTERS);
}

const FRAGMENTERS: u64 = 4;
const FRAGMENTS: usize = 100_000;

/// Sends messages in fragments of a byte, each of which is closed with 1009.
fn flood_with_fragments(server: &TestServer) {
    let mut honest = Honest::join(server);
    // A ping between two fragments is no way around the bound.
    let rest = [masked(0x00, b"a"), masked(0x89, b"")].concat().repeat(FRAGMENTS - 1);
    let message = [masked(0x02, b"a"), rest].concat();
    honest.publish_during(|| {
        for _ in 0..FRAGMENTERS {
            let client = open(server, "/topics/a?subscribe=off");
            let mut writer = RawClient::new(client.0.try_clone().expect("a socket can be shared"));
            std::thread::scope(|scope| {
                // The gateway may reset it before it has read all.
                scope.spawn(|| writer.0.write_all(&message));
                read_until_close(client, 1009);
            });
        }
    });
    wait_for_peace(server);
    assert_eq!(server.sum(|stats| &stats.published), honest.published, "none of it was published");
}

/// Reads pongs, then a Close with this code, then the end.
fn read_until_close(mut client: RawClient, code: u16) {
    loop {
        let (first, payload) = client.read_frame();
        match first {
            0x8a => {}
            0x88 => return assert_eq!(payload[..2], code.to_be_bytes()),
            other => panic!("neither a pong nor a Close: {other:#x}"),
        }
    }
}

#[test]
fn bombs_are_closed_with_1009_and_hold_what_was_sent_until_they_are_complete() {
    const ATTACKERS: usize = 4;
    const MESSAGE_BYTES_MAX: usize = 1 << 20;
    /// What a shard keeps to inflate with, and may have inflated.
    const INFLATING_BYTES_MAX: usize = 512 * 1024 + MESSAGE_BYTES_MAX;
    let server = TestServer::with(|config| {
        config.compression.enabled = true;
        config.limits.plain_message_bytes_max = MESSAGE_BYTES_MAX;
    });
    let mut honest = Honest::join(&server);
    let frame = masked(0xc2, &gibibyte_of_zeros());
    assert!(frame.len() < MESSAGE_BYTES_MAX, "{} bytes are too long as they are", frame.len());
    let (last, start) = frame.split_last().expect("a frame has bytes");
    let before = server.sum(|stats| &stats.bytes_in);
    let mut attackers = Vec::new();
    honest.publish_during(|| {
        let request = String::from_utf8(upgrade_request("/topics/a?subscribe=off", server.clients)).expect("text");
        let request = request.replace("\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n");
        for _ in 0..ATTACKERS {
            let mut client = attacker(&server, None);
            client.send(request.as_bytes());
            let head = client.read_head();
            assert!(head.contains("permessage-deflate"), "{head}");
            client.send(start);
            attackers.push(client);
        }
    });
    let sent = (ATTACKERS * start.len()) as u64;
    server.wait_until("all is read", |server| server.sum(|stats| &stats.bytes_in) >= before + sent);
    let held = server.sum(|stats| &stats.assembly_memory_bytes);
    // A vector that grows may have as much again to spare.
    assert!(held <= (ATTACKERS * 2 * MESSAGE_BYTES_MAX) as u64, "{held} bytes for {ATTACKERS} messages in part");
    assert_eq!(server.sum(|stats| &stats.compression_memory_bytes), 0, "nothing was inflated");
    honest.publish_during(|| {
        for mut client in attackers {
            client.send(&[*last]);
            let words = client.expect_close(1009);
            assert!(words.contains(&MESSAGE_BYTES_MAX.to_string()), "{words}");
            client.expect_end();
            let held = server.sum(|stats| &stats.compression_memory_bytes);
            assert!(held <= 2 * INFLATING_BYTES_MAX as u64, "{held} bytes on two shards");
        }
    });
    wait_for_peace(&server);
    assert_eq!(server.sum(|stats| &stats.bombs_cut), ATTACKERS as u64);
    assert_eq!(server.closes(CloseReason::MessageTooLong), ATTACKERS as u64);
    assert_eq!(server.sum(|stats| &stats.published), honest.published, "none of it was published");
}

/// Zeros, compressed to a thousandth, without what a message leaves off at its end.
fn gibibyte_of_zeros() -> Vec<u8> {
    // After a full flush nothing refers to what was before, so the part can be repeated.
    const PART: usize = 16 << 20;
    let mut deflater = CompressorOxide::default();
    deflater.set_format_and_level(DataFormat::Raw, 9);
    let mut part = vec![0; PART / 500];
    let done = miniz_oxide::deflate::stream::deflate(&mut deflater, &vec![0; PART], &mut part, MZFlush::Full);
    assert_eq!(done.bytes_consumed, PART);
    part.truncate(done.bytes_written);
    let mut all = part.repeat((1 << 30) / PART);
    let end = all.len() - 4;
    assert_eq!(all.split_off(end), [0, 0, 0xff, 0xff]);
    all
}

#[test]
fn floods_of_pings_by_those_who_do_not_read_the_pongs_end_in_their_own_kernel() {
    const ATTACKERS: usize = 10;
    const WATERMARK: usize = 16 * 1024;
    const HOUR: Duration = Duration::from_secs(3600);
    let server = TestServer::with(|config| {
        config.limits.reply_bytes_watermark = WATERMARK;
        // However long it takes here: nobody is closed for not answering.
        config.timeouts.ping_interval = HOUR;
        config.timeouts.unacknowledged = HOUR;
    });
    let mut honest = Honest::join(&server);
    let pings = masked(0x89, b"").repeat(10_000);
    // Each with where it is in the bytes.
    let mut attackers: Vec<_> = (0..ATTACKERS).map(|_| (open(&server, "/echo"), 0)).collect();
    for (client, _) in &attackers {
        client.0.set_nonblocking(true).expect("an option of every socket");
    }
    // What is read beyond the watermark is a buffer full at most, and no pong is longer
    // than its ping.
    let queued_max = (ATTACKERS * (WATERMARK + RECEIVE_BUFFER_BYTES)) as u64;
    for _ in 0..200 {
        for (client, position) in &mut attackers {
            match client.0.write(&pings[*position..]) {
                Ok(n) => *position = (*position + n) % pings.len(),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        honest.publish(64);
        let queued = server.sum(|stats| &stats.queue_bytes);
        assert!(queued <= queued_max, "{queued} bytes of pongs wait");
    }
    assert!(server.sum(|stats| &stats.pings_skipped) > 0, "not every ping needs an answer that nobody reads");
    drop(attackers);
    wait_for_peace(&server);
    assert_eq!(server.closes(CloseReason::PeerVanished), ATTACKERS as u64);
    honest.publish(64);
}

#[test]
fn floods_of_pings_by_those_who_read_the_pongs_hold_nobody_up() {
    const ATTACKERS: usize = 4;
    const WRITES: usize = 20;
    const PINGS_PER_WRITE: usize = 10_000;
    let server = TestServer::start();
    let mut honest = Honest::join(&server);
    let pings = masked(0x89, b"").repeat(PINGS_PER_WRITE);
    let pongs = AtomicU64::new(0);
    honest.publish_during(|| {
        std::thread::scope(|scope| {
            for _ in 0..ATTACKERS {
                let client = open(&server, "/echo");
                let mut reader = RawClient(client.0.try_clone().expect("a socket can be shared"));
                scope.spawn(|| pour(client, &pings, WRITES));
                let pongs = &pongs;
                scope.spawn(move || {
                    let answer = read_until_gone(&mut reader);
                    let (answers, close) = answer.split_at(answer.len() - 4);
                    assert_eq!(close, unmasked(0x88, &1000u16.to_be_bytes()));
                    pongs.fetch_add((answers.len() / 2) as u64, Ordering::Relaxed);
                });
            }
        });
    });
    wait_for_peace(&server);
    assert_eq!(server.closes(CloseReason::PeerClosed), ATTACKERS as u64);
    // Each is answered or skipped, but for one that may still wait when its sender closes.
    let (pings, pongs) = ((ATTACKERS * WRITES * PINGS_PER_WRITE) as u64, pongs.into_inner());
    let skipped = server.sum(|stats| &stats.pings_skipped);
    let known = pongs + skipped;
    assert!((pings - ATTACKERS as u64..=pings).contains(&known), "{pings} pings, {pongs} pongs, {skipped} skipped");
}

/// Sends the same bytes again and again, and then a Close.
fn pour(mut client: RawClient, bytes: &[u8], count: usize) {
    (0..count).for_each(|_| client.send(bytes));
    client.send(&masked(0x88, &1000u16.to_be_bytes()));
}
