//! A subscriber that does not read is told, or cut; the others notice nothing.
#![allow(missing_docs, clippy::disallowed_methods)]

mod common;

use std::time::Duration;

use common::{Client, PATIENCE, RawClient, TestServer, masked};
use tungstenite::Message;
use wsgate::stats::CloseReason;

const TOPIC: &str = "/topics/busy";
const QUEUE_BYTES_MAX: usize = 64 * 1024;
const MESSAGE_BYTES: usize = 16 * 1024;
/// A kernel takes about 4 MB for a connection, whatever the receiver says.
const MESSAGES_MAX: usize = 2048;

fn server(close: Duration) -> TestServer {
    TestServer::with(|config| {
        config.limits.queue_bytes_max = QUEUE_BYTES_MAX;
        config.timeouts.close = close;
    })
}

/// The `n`th message: its number, and bytes that follow from it.
fn message(n: usize) -> Vec<u8> {
    let mut message = vec![n as u8; MESSAGE_BYTES];
    message[..8].copy_from_slice(&n.to_be_bytes());
    message
}

/// Publishes until all `stalled` subscribers have lost their subscription. Each message
/// is read by the healthy ones before the next is sent, so that they are never behind.
/// Returns how many it took.
fn publish_until_cut(server: &TestServer, healthy: &mut [Client], stalled: usize) -> usize {
    let mut publisher = server.client(&format!("{TOPIC}?subscribe=off"));
    let subscribers = healthy.len() + stalled;
    assert_eq!(server.sum(|stats| &stats.subscriptions), subscribers as u64);
    for n in 0..MESSAGES_MAX {
        publisher.send(Message::binary(message(n)));
        for client in healthy.iter_mut() {
            assert!(client.receive() == Message::binary(message(n)), "message {n} whole and in its place");
        }
        let waiting = server.sum(|stats| &stats.queue_bytes);
        assert!(waiting <= (subscribers * QUEUE_BYTES_MAX) as u64, "{waiting} bytes wait");
        if server.sum(|stats| &stats.subscriptions) == healthy.len() as u64 {
            return n + 1;
        }
    }
    panic!("{MESSAGES_MAX} messages have reached nobody's bound");
}

fn slow_consumers(server: &TestServer) -> u64 {
    server.sum(|stats| &stats.closes[CloseReason::SlowConsumer as usize])
}

#[test]
fn who_reads_again_gets_whole_messages_in_order_and_then_4008() {
    let server = server(PATIENCE);
    let mut healthy: Vec<_> = (0..4).map(|_| server.client(TOPIC)).collect();
    let mut stalled: Vec<_> = (0..3).map(|_| server.raw_small(TOPIC)).collect();
    let published = publish_until_cut(&server, &mut healthy, stalled.len());
    assert_eq!(slow_consumers(&server), 0, "the connections are still there");
    for client in &mut stalled {
        let mut received = 0;
        loop {
            let (first, payload) = client.read_frame();
            if first == 0x88 {
                assert_eq!(payload[..2], 4008u16.to_be_bytes());
                assert_eq!(&payload[2..], b"messages were lost: the connection did not read fast enough");
                break;
            }
            assert_eq!(first, 0x82);
            assert!(payload == message(received), "message {received} whole and in its place");
            received += 1;
        }
        assert!(received < published, "{received} of {published} messages: nothing was lost");
        client.send(&masked(0x88, &4008u16.to_be_bytes()));
        client.expect_end();
    }
    let told = stalled.len() as u64;
    drop(stalled);
    server.wait_until("all are counted", |server| slow_consumers(server) == told);
    server.wait_until("nothing waits any more", |server| server.sum(|stats| &stats.queue_bytes) == 0);
    assert_healthy(&mut healthy);
}

#[test]
fn who_never_reads_again_is_reset_after_the_close_timeout() {
    let server = server(Duration::from_millis(50));
    let mut healthy: Vec<_> = (0..2).map(|_| server.client(TOPIC)).collect();
    let mut stalled: Vec<RawClient> = (0..2).map(|_| server.raw_small(TOPIC)).collect();
    publish_until_cut(&server, &mut healthy, stalled.len());
    server.wait_until("the stalled ones are cut", |server| slow_consumers(server) == 2);
    for client in &mut stalled {
        client.read_to_reset();
    }
    server.wait_until("only the healthy ones are left", |server| server.sum(|stats| &stats.connections) == 2);
    server.wait_until("nothing waits any more", |server| server.sum(|stats| &stats.queue_bytes) == 0);
    assert_eq!(server.scraped("close_timeouts", ""), 2);
    assert_healthy(&mut healthy);
}

/// They are still subscribed and have missed nothing.
fn assert_healthy(healthy: &mut [Client]) {
    healthy[0].send("still here");
    for client in healthy {
        assert_eq!(client.receive_text(), "still here");
    }
}

#[test]
fn who_does_not_read_its_echoes_is_not_read_either_and_loses_nothing() {
    const WATERMARK: usize = 16 * 1024;
    let server = TestServer::with(|config| {
        config.limits.reply_bytes_watermark = WATERMARK;
        config.shards = 1;
    });
    let client = server.raw_small("/echo");
    let mut bystander = server.client("/echo");
    assert_eq!(server.scraped("reading_pauses", ""), 0);
    let frame = masked(0x82, &message(7));
    // A writer of its own sends until all buffers in between are full, and then some.
    let mut writer = RawClient::new(client.0.try_clone().expect("a socket can be shared"));
    const MESSAGES: usize = 1024;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for _ in 0..MESSAGES {
                writer.send(&frame);
            }
        });
        // It stalls once the gateway has stopped reading: what waits is above the watermark,
        // and what came in does not grow any more while another connection takes its turns.
        server.wait_until("replies wait", |server| server.sum(|stats| &stats.queue_bytes) > WATERMARK as u64);
        let messages_in = || server.sum(|stats| &stats.messages_in);
        let mut last = 0;
        while last != messages_in() {
            last = messages_in();
            for n in 0..50 {
                bystander.send(format!("turn {n}"));
                assert_eq!(bystander.receive_text(), format!("turn {n}"));
            }
            // The bystander's own.
            last += 50;
        }
        assert!((last as usize) < MESSAGES, "the gateway took everything");
        // One buffer full of messages at most is read beyond the watermark.
        let waiting = server.sum(|stats| &stats.queue_bytes) as usize;
        assert!(waiting <= WATERMARK + 2 * 64 * 1024, "{waiting} bytes wait");
        assert!(server.scraped("reading_pauses", "") > 0);

        let mut client = client;
        for _ in 0..MESSAGES {
            let (first, payload) = client.read_frame();
            assert!(first == 0x82 && payload == message(7));
        }
    });
    server.wait_until("everything is sent", |server| server.sum(|stats| &stats.queue_bytes) == 0);
}
