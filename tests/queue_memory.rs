//! What waits for all connections together is bounded: who has the most pays, nobody
//! else notices.
#![allow(missing_docs, clippy::disallowed_methods)]

mod common;

use std::time::Duration;

use common::{Client, PATIENCE, RawClient, TestServer, masked};
use tungstenite::Message;
use wsgate::stats::CloseReason;

const TOTAL_MAX: u64 = 1024 * 1024;
const MESSAGE_BYTES: usize = 4096;
/// A message with its header, and what a vector may have to spare.
const MESSAGE_MEMORY: u64 = 2 * (MESSAGE_BYTES as u64 + 4);

/// One shard, whose share of the bound is all of it.
fn server() -> TestServer {
    TestServer::with(|config| {
        config.shards = 1;
        config.limits.queue_bytes_total_max = TOTAL_MAX as usize;
        // Connections alone would be allowed much more.
        config.limits.queue_bytes_max = 16 * TOTAL_MAX as usize;
        config.limits.reply_bytes_watermark = 16 * TOTAL_MAX as usize;
        config.limits.kernel_unsent_bytes = 16 * 1024;
        config.timeouts.close = PATIENCE;
    })
}

/// The `n`th message of a publisher: its number, and bytes that follow from it.
fn message(n: u64, len: usize) -> Vec<u8> {
    let mut message = vec![n as u8; len];
    message[..8].copy_from_slice(&n.to_be_bytes());
    message
}

/// A topic with a subscriber that does not read and one that does.
struct Topic {
    publisher: Client,
    witness: Client,
    stalled: RawClient,
    published: u64,
}

impl Topic {
    fn open(server: &TestServer, name: usize) -> Self {
        let path = format!("/topics/{name}");
        Self {
            publisher: server.client(&format!("{path}?subscribe=off")),
            stalled: server.raw_small(&path),
            // Behind the stalled one: what this one has read, that one has been given.
            witness: server.client(&path),
            published: 0,
        }
    }

    fn publish(&mut self) {
        let message = Message::binary(message(self.published, MESSAGE_BYTES));
        self.publisher.send(message.clone());
        assert!(self.witness.receive() == message, "who reads misses nothing");
        self.published += 1;
    }

    /// Publishes until something waits for the stalled subscriber.
    fn stall(&mut self, server: &TestServer) {
        let waiting = || server.sum(|stats| &stats.queue_bytes);
        let before = waiting();
        while waiting() == before {
            self.publish();
        }
    }

    /// The stalled subscriber reads: messages from the first on, until a Close with 4008
    /// or until it has all. Returns how many there were.
    fn read(&mut self) -> u64 {
        let mut next = 0;
        while next < self.published {
            let (first, payload) = self.stalled.read_frame();
            if first == 0x88 {
                assert_eq!(payload[..2], 4008u16.to_be_bytes());
                break;
            }
            assert!(payload == message(next, MESSAGE_BYTES), "message {next} whole and in its place");
            next += 1;
        }
        next
    }
}

#[test]
fn those_for_whom_most_waits_are_closed_and_others_are_unharmed() {
    let server = server();
    let mut topics: Vec<_> = (0..12).map(|n| Topic::open(&server, n)).collect();
    for topic in &mut topics {
        topic.stall(&server);
    }
    let memory = || server.sum(|stats| &stats.queue_memory_bytes);
    assert!(memory() < TOTAL_MAX / 2, "{} bytes wait", memory());
    // Four of them get more and more. Together they would have 8 times the bound.
    let (heavy, light) = topics.split_at_mut(4);
    for _ in 0..2 * TOTAL_MAX / MESSAGE_BYTES as u64 {
        for topic in heavy.iter_mut() {
            topic.publish();
            assert!(memory() <= TOTAL_MAX + MESSAGE_MEMORY, "{} bytes wait", memory());
        }
    }
    for topic in heavy.iter_mut() {
        assert!(topic.read() < topic.published, "it has lost something, and was told");
        topic.stalled.send(&masked(0x88, &4008u16.to_be_bytes()));
        topic.stalled.expect_end();
    }
    for topic in light.iter_mut() {
        assert_eq!(topic.read(), topic.published, "it has everything");
        topic.publish();
        assert_eq!(topic.stalled.read_frame(), (0x82, message(topic.published - 1, MESSAGE_BYTES)));
    }
    server.wait_until("nothing waits", |_| memory() == 0 && server.sum(|stats| &stats.queue_bytes) == 0);
    drop(topics.drain(..4));
    server.wait_until("all are counted", |server| server.closes(CloseReason::QueueMemory) == 4);
    assert_eq!(server.closes(CloseReason::SlowConsumer), 0);
    assert_eq!(server.sum(|stats| &stats.subscriptions), 4 * 2 * 2);
}

#[test]
fn a_message_that_waits_for_many_counts_once() {
    let server = server();
    let mut topic = Topic::open(&server, 0);
    let mut others: Vec<_> = (0..9).map(|_| server.raw_small("/topics/0")).collect();
    topic.stall(&server);
    let memory = || server.sum(|stats| &stats.queue_memory_bytes);
    // Each alone is far below the bound, all together far above.
    while memory() < TOTAL_MAX / 2 {
        topic.publish();
    }
    let waiting = server.sum(|stats| &stats.queue_bytes);
    assert!(waiting > 4 * memory(), "{waiting} bytes wait, {} are kept", memory());
    assert_eq!(topic.read(), topic.published);
    for stalled in &mut others {
        for n in 0..topic.published {
            assert!(stalled.read_frame() == (0x82, message(n, MESSAGE_BYTES)), "message {n} whole and in its place");
        }
    }
    assert_eq!(server.sum(|stats| &stats.subscriptions), 11);
    server.wait_until("nothing waits", |_| memory() == 0);
}

#[test]
fn who_does_not_read_its_replies_is_reset_when_they_are_the_largest() {
    let server = server();
    let mut bystander = server.client("/echo");
    let frame = masked(0x82, &message(7, MESSAGE_BYTES));
    let memory = || server.sum(|stats| &stats.queue_memory_bytes);
    let mut largest = server.raw_small("/echo");
    let mut messages = 0;
    while memory() < TOTAL_MAX * 2 / 3 {
        largest.send(&frame);
        messages += 1;
        server.wait_until("it is read", |server| server.sum(|stats| &stats.messages_in) == messages);
    }
    let mut other = server.raw_small("/echo");
    let mut sent = 0;
    while server.closes(CloseReason::QueueMemory) == 0 {
        other.send(&frame);
        sent += 1;
        bystander.send("turn");
        assert_eq!(bystander.receive_text(), "turn");
        assert!(memory() <= TOTAL_MAX + 2 * 64 * 1024, "a buffer full is read at once: {} bytes", memory());
    }
    largest.read_to_reset();
    for _ in 0..sent {
        assert!(other.read_frame() == (0x82, message(7, MESSAGE_BYTES)));
    }
    bystander.send("still here");
    assert_eq!(bystander.receive_text(), "still here");
    assert_eq!(server.closes(CloseReason::QueueMemory), 1);
    server.wait_until("nothing waits", |server| memory() == 0 && server.sum(|stats| &stats.queue_bytes) == 0);
}

/// 180 that read and 20 that never do, 3 MiB to each. `close` is how long those who are
/// closed may take to notice.
fn one_in_ten_never_reads(close: Duration, end: impl Fn(&mut RawClient)) {
    const READERS: usize = 180;
    const STALLED: u64 = 20;
    const QUEUE_MAX: u64 = 256 * 1024;
    const LEN: usize = 16 * 1024;
    const MESSAGES: u64 = 192;
    let server = TestServer::with(|config| {
        config.limits.queue_bytes_total_max = 2 * TOTAL_MAX as usize;
        config.limits.queue_bytes_max = QUEUE_MAX as usize;
        config.limits.kernel_unsent_bytes = 16 * 1024;
        config.timeouts.close = close;
    });
    let mut stalled: Vec<_> = (0..STALLED).map(|_| server.raw_small("/topics/a")).collect();
    let mut readers: Vec<_> = (0..READERS).map(|_| server.raw_open("/topics/a")).collect();
    let mut publisher = server.client("/topics/a?subscribe=off");
    for n in 0..MESSAGES {
        let expected = message(n, LEN);
        publisher.send(Message::binary(expected.clone()));
        for reader in &mut readers {
            assert!(reader.read_frame() == (0x82, expected.clone()), "message {n} whole and in its place");
        }
        let memory = server.sum(|stats| &stats.queue_memory_bytes);
        assert!(memory <= 2 * TOTAL_MAX + 2 * LEN as u64, "{memory} bytes are kept");
        let waiting = server.sum(|stats| &stats.queue_bytes);
        assert!(waiting <= STALLED * QUEUE_MAX, "{waiting} bytes wait");
    }
    server.wait_until("the stalled ones are cut off", |server| {
        server.sum(|stats| &stats.subscriptions) == READERS as u64
    });
    stalled.iter_mut().for_each(end);
    drop(stalled);
    server.wait_until("all are counted", |server| server.closes(CloseReason::SlowConsumer) == STALLED);
    server.wait_until("nothing waits", |server| {
        server.sum(|stats| &stats.queue_bytes) == 0 && server.sum(|stats| &stats.queue_memory_bytes) == 0
    });
    assert_eq!(server.sum(|stats| &stats.connections), READERS as u64 + 1);
    assert_eq!(server.closes(CloseReason::QueueMemory), 0, "the bound of each was enough");
}

#[test]
fn one_in_ten_that_stalls_is_told_and_costs_the_others_nothing() {
    one_in_ten_never_reads(PATIENCE, |client| {
        for n in 0.. {
            let (first, payload) = client.read_frame();
            if first == 0x88 {
                assert_eq!(payload[..2], 4008u16.to_be_bytes());
                return;
            }
            assert!(payload == message(n, 16 * 1024), "message {n} whole and in its place");
        }
    });
}

#[test]
fn one_in_ten_that_never_reads_is_reset_and_costs_the_others_nothing() {
    one_in_ten_never_reads(Duration::from_millis(50), |client| {
        client.read_to_reset();
    });
}
