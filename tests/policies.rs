//! What becomes of a subscriber that reads too slowly, by the policy of its topic and by
//! what it said that it understands.
#![allow(missing_docs, clippy::disallowed_methods)]

mod common;

use common::{Client, PATIENCE, RawClient, TestServer, masked};
use tungstenite::Message;
use wsgate::policy::TopicPolicies;
use wsgate::stats::CloseReason;

const QUEUE_BYTES_MAX: usize = 64 * 1024;
const MESSAGE_BYTES: usize = 4096;
/// More than sockets and queues take.
const MESSAGES_MAX: u64 = 4096;

/// A gateway of one shard with these rules.
fn server(rules: &[&str]) -> TestServer {
    TestServer::with(|config| {
        config.shards = 1;
        config.limits.queue_bytes_max = QUEUE_BYTES_MAX;
        config.limits.kernel_unsent_bytes = 16 * 1024;
        config.timeouts.close = PATIENCE;
        let rule = |text: &&str| TopicPolicies::parse_rule(text).expect("a rule");
        config.slow_consumers = TopicPolicies::new(rules.iter().map(rule).collect());
    })
}

/// The `n`th message of a topic: its number, and bytes that follow from it.
fn message(n: u64) -> Vec<u8> {
    let mut message = vec![n as u8; MESSAGE_BYTES];
    message[..8].copy_from_slice(&n.to_be_bytes());
    message
}

/// A topic, who publishes to it, and who always reads.
struct Topic {
    publisher: Client,
    witness: Client,
    published: u64,
}

impl Topic {
    fn open(server: &TestServer, name: &str) -> Self {
        let publisher = server.client(&format!("/topics/{name}?subscribe=off"));
        Self { publisher, witness: server.client(&format!("/topics/{name}")), published: 0 }
    }

    /// Publishes one message; the witness has read it when this returns.
    fn publish(&mut self) {
        self.publisher.send(Message::binary(message(self.published)));
        assert!(self.witness.receive() == Message::binary(message(self.published)), "{}", self.published);
        self.published += 1;
    }

    fn publish_until(&mut self, what: &str, condition: impl Fn() -> bool) {
        let start = self.published;
        while !condition() {
            assert!(self.published - start < MESSAGES_MAX, "{MESSAGES_MAX} messages, and not yet: {what}");
            self.publish();
        }
    }
}

/// What a subscriber got.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Seen {
    Message(u64),
    Gap(u64),
    Close(u16),
}

fn see(client: &mut RawClient) -> Seen {
    let (first, payload) = client.read_frame();
    match first {
        0x82 => {
            let n = u64::from_be_bytes(*payload.first_chunk().expect("a number"));
            assert!(payload == message(n), "message {n} is whole");
            Seen::Message(n)
        }
        0x81 => {
            let text = String::from_utf8(payload).expect("markers are text");
            let number = text.strip_prefix("{\"gap\":").and_then(|rest| rest.strip_suffix('}'));
            Seen::Gap(number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no marker: {text}")))
        }
        0x88 => Seen::Close(u16::from_be_bytes([payload[0], payload[1]])),
        other => panic!("{other:#x} {payload:?}"),
    }
}

/// Reads to the newest message, or to a Close.
fn see_all(client: &mut RawClient, published: u64) -> Vec<Seen> {
    let mut all = Vec::new();
    loop {
        let seen = see(client);
        all.push(seen);
        if matches!(seen, Seen::Close(_)) || seen == Seen::Message(published - 1) {
            return all;
        }
    }
}

/// Messages from `next` on came without a hole until the Close with 4008.
#[track_caller]
fn assert_whole_until_4008(all: &[Seen], published: u64) {
    let (last, messages) = all.split_last().expect("something");
    assert_eq!(*last, Seen::Close(4008));
    let expected: Vec<_> = (0..messages.len() as u64).map(Seen::Message).collect();
    assert_eq!(messages, expected);
    assert!((messages.len() as u64) < published, "something was lost");
}

/// Each message in its place or counted by a marker there; how many were counted.
#[track_caller]
fn assert_whole_or_counted(all: &[Seen], mut next: u64, published: u64) -> u64 {
    let mut lost = 0;
    for seen in all {
        match seen {
            Seen::Message(n) => {
                assert_eq!(*n, next, "nothing is missing without a marker: {all:?}");
                next += 1;
            }
            Seen::Gap(n) => {
                assert!(*n > 0);
                (lost, next) = (lost + n, next + n);
            }
            Seen::Close(code) => panic!("closed with {code}"),
        }
    }
    assert_eq!(next, published, "received and lost are all that was published");
    lost
}

/// Messages are in order and end with the newest; how many are missing.
#[track_caller]
fn assert_newest(all: &[Seen], mut next: u64, published: u64) -> u64 {
    let mut missing = 0;
    for seen in all {
        let Seen::Message(n) = seen else { panic!("{seen:?} among messages") };
        assert!(*n >= next, "never out of order: {all:?}");
        missing += n - next;
        next = n + 1;
    }
    assert_eq!(next, published, "the newest is the last");
    missing
}

/// It was closed once, and has answered.
fn expect_one_slow_consumer(server: &TestServer, mut client: RawClient) {
    client.send(&masked(0x88, &4008u16.to_be_bytes()));
    client.expect_end();
    drop(client);
    server.wait_until("it is counted", |server| server.closes(CloseReason::SlowConsumer) == 1);
    assert_eq!(server.sum(|stats| &stats.dropped), 0, "nobody was told a number");
}

fn assert_nothing_waits(server: &TestServer) {
    server.wait_until("nothing waits", |server| {
        server.sum(|stats| &stats.queue_bytes) == 0 && server.sum(|stats| &stats.queue_memory_bytes) == 0
    });
}

#[test]
fn disconnect_closes_with_4008_whatever_the_subscriber_understands() {
    for (rules, query) in [(&[][..], ""), (&["*=disconnect"][..], ""), (&["*=disconnect"][..], "?gaps=on")] {
        let server = server(rules);
        let mut topic = Topic::open(&server, "prices");
        let mut stalled = server.raw_small(&format!("/topics/prices{query}"));
        topic.publish_until("it is closed", || server.sum(|stats| &stats.subscriptions) == 1);
        assert_whole_until_4008(&see_all(&mut stalled, topic.published), topic.published);
        expect_one_slow_consumer(&server, stalled);
        topic.publish();
        assert_nothing_waits(&server);
    }
}

#[test]
fn drop_oldest_closes_with_4008_who_does_not_understand_gaps() {
    for query in ["", "?gaps=off"] {
        let server = server(&["*=drop_oldest"]);
        let mut topic = Topic::open(&server, "prices");
        let mut stalled = server.raw_small(&format!("/topics/prices{query}"));
        topic.publish_until("it is closed", || server.sum(|stats| &stats.subscriptions) == 1);
        assert_whole_until_4008(&see_all(&mut stalled, topic.published), topic.published);
        expect_one_slow_consumer(&server, stalled);
        topic.publish();
        assert_nothing_waits(&server);
    }
}

#[test]
fn drop_oldest_tells_who_understands_gaps_how_many_are_missing_and_where() {
    let server = server(&["*=drop_oldest"]);
    let mut topic = Topic::open(&server, "prices");
    let mut stalled = server.raw_small("/topics/prices?gaps=on");
    let mut told = 0;
    // It stalls, reads on, stalls again.
    for _ in 0..3 {
        let start = topic.published;
        topic.publish_until("much is lost", || server.sum(|stats| &stats.dropped) >= told + 20);
        let waiting = server.sum(|stats| &stats.queue_bytes) as usize;
        assert!(waiting <= QUEUE_BYTES_MAX + MESSAGE_BYTES, "{waiting} bytes wait");
        let all = see_all(&mut stalled, topic.published);
        let lost = assert_whole_or_counted(&all, start, topic.published);
        assert!(lost >= 20);
        assert!(all.iter().any(|seen| matches!(seen, Seen::Message(_))), "what fits was kept");
        told += lost;
        assert_eq!(server.sum(|stats| &stats.dropped), told);
    }
    // It is a subscriber like the others.
    topic.publish();
    assert_eq!(see(&mut stalled), Seen::Message(topic.published - 1));
    assert_eq!(server.sum(|stats| &stats.subscriptions), 2);
    assert_nothing_waits(&server);
}

#[test]
fn latest_only_gives_who_reads_again_the_newest() {
    for query in ["", "?gaps=on"] {
        let server = server(&["*=latest_only"]);
        let mut topic = Topic::open(&server, "prices");
        let mut stalled = server.raw_small(&format!("/topics/prices{query}"));
        let mut missing = 0;
        for _ in 0..3 {
            let start = topic.published;
            topic.publish_until("much is replaced", || server.sum(|stats| &stats.conflated) >= missing + 20);
            // The frame on its way, and the newest.
            let waiting = server.sum(|stats| &stats.queue_bytes) as usize;
            assert!(waiting <= 2 * (MESSAGE_BYTES + 4), "{waiting} bytes wait");
            let all = see_all(&mut stalled, topic.published);
            missing += assert_newest(&all, start, topic.published);
            assert_eq!(server.sum(|stats| &stats.conflated), missing);
        }
        topic.publish();
        assert_eq!(see(&mut stalled), Seen::Message(topic.published - 1));
        assert_eq!(server.sum(|stats| &stats.dropped), 0, "that is for who is told");
        assert_eq!(server.sum(|stats| &stats.subscriptions), 2);
        assert_nothing_waits(&server);
    }
}

#[test]
fn the_first_pattern_that_matches_decides() {
    let server = server(&["feed/slow=disconnect", "feed/*=latest_only", "*=drop_oldest"]);
    let mut topics = ["feed/slow", "feed/a/b", "other"].map(|name| Topic::open(&server, name));
    let [mut closed, mut newest, mut told] =
        ["feed/slow", "feed/a/b", "other"].map(|name| server.raw_small(&format!("/topics/{name}?gaps=on")));

    topics[0].publish_until("it is closed", || server.sum(|stats| &stats.subscriptions) == 5);
    assert_whole_until_4008(&see_all(&mut closed, topics[0].published), topics[0].published);

    topics[1].publish_until("messages are replaced", || server.sum(|stats| &stats.conflated) > 0);
    assert!(assert_newest(&see_all(&mut newest, topics[1].published), 0, topics[1].published) > 0);

    topics[2].publish_until("messages are dropped", || server.sum(|stats| &stats.dropped) > 0);
    assert!(assert_whole_or_counted(&see_all(&mut told, topics[2].published), 0, topics[2].published) > 0);

    assert_eq!(server.sum(|stats| &stats.subscriptions), 5);
}
