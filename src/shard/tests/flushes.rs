//! The order and the timing of flushes.

use super::pair::Peer;
use super::*;
use crate::limits::FLUSHES_PER_ENDING;

const MS: Duration = Duration::from_millis(1);

/// Published messages by milliseconds from publish to flush, as far as buckets tell.
fn flush_times(pair: &Pair) -> Vec<(f64, u64)> {
    let buckets = pair.stats[OWNER].publish_to_flush.buckets();
    buckets.filter(|(_, count)| *count > 0).map(|(bound, count)| (bound * 1000.0, count)).collect()
}

/// Carries out this many flushes of the owner.
fn flush_some(pair: &mut Pair, count: usize) {
    for _ in 0..count {
        let id = pair.shards[OWNER].next_flush(pair.now).expect("there is more to flush");
        pair.flush_one(Peer { shard: OWNER, id });
    }
}

#[test]
fn a_message_counts_from_its_turn_to_the_end_of_the_one_that_reached_the_last_subscriber() {
    let mut pair = Pair::new();
    let publisher = pair.open(OWNER, &path("?subscribe=off"));
    let subscribers: Vec<_> = (0..3).map(|_| pair.open(OWNER, &path(""))).collect();
    pair.send(publisher, &text("first"));
    flush_some(&mut pair, 2);
    pair.now = pair.now + 4 * MS;
    pair.shards[OWNER].end_turn(pair.now, pair.now);
    assert_eq!(flush_times(&pair), [], "one subscriber is left");

    // These wait in one batch, and are as old as the older one.
    pair.send(publisher, &text("second"));
    pair.now = pair.now + 3 * MS;
    pair.send(publisher, &text("third"));
    flush_some(&mut pair, 1);
    pair.shards[OWNER].end_turn(pair.now, pair.now);
    assert_eq!(flush_times(&pair), [(7.0, 1)]);
    pair.now = pair.now + 20 * MS;
    flush_some(&mut pair, 3);
    pair.shards[OWNER].end_turn(pair.now, pair.now);
    assert_eq!(flush_times(&pair), [(7.0, 1), (30.0, 2)]);
    for subscriber in subscribers {
        assert_eq!(pair.take(subscriber), ["first", "second", "third"].map(delivered).concat());
    }
}

#[test]
fn a_message_counts_when_the_last_subscriber_leaves_instead() {
    let mut pair = Pair::new();
    let publisher = pair.open(OWNER, &path("?subscribe=off"));
    let subscribers: Vec<_> = (0..2).map(|_| pair.open(OWNER, &path(""))).collect();
    pair.send(publisher, &text("message"));
    flush_some(&mut pair, 1);
    let last =
        *subscribers.iter().find(|peer| pair.transports.iter().any(|(p, t)| p == *peer && t.sent.is_empty())).unwrap();
    pair.shards[OWNER].transport_failed(last.id);
    pair.now = pair.now + MS;
    pair.flush();
    assert_eq!(flush_times(&pair), [(1.0, 1)]);
    pair.now = pair.now + MS;
    pair.flush();
    assert_eq!(flush_times(&pair), [(1.0, 1)], "it counts once");
}

#[test]
fn those_who_ask_for_replies_without_end_do_not_hold_up_what_is_published() {
    const TALKERS: usize = 10;
    let mut pair = Pair::new();
    let talkers: Vec<_> = (0..TALKERS).map(|_| pair.open(OWNER, "/chat")).collect();
    let publisher = pair.open(OWNER, &path("?subscribe=off"));
    let subscribers: Vec<_> = (0..TALKERS).map(|_| pair.open(OWNER, &path(""))).collect();
    pair.send(publisher, &text("message"));
    // Each turn brings more of them than it has time to flush.
    for _ in 0..4 {
        talkers.iter().for_each(|talker| pair.send(*talker, &text("again")));
        flush_some(&mut pair, TALKERS / 2);
    }
    for subscriber in subscribers {
        assert_eq!(pair.take(subscriber), delivered("message"));
    }
    assert!(talkers.iter().any(|talker| !pair.take(*talker).is_empty()), "nor the other way round");
}

#[test]
fn many_that_end_at_once_do_not_hold_up_what_is_published() {
    const SUBSCRIBERS: usize = 100;
    const LATE: usize = 200;
    let mut pair = Pair::with(|settings| settings.connections_max = 400);
    let publisher = pair.open(OWNER, &path("?subscribe=off"));
    let subscribers: Vec<_> = (0..SUBSCRIBERS).map(|_| pair.open(OWNER, &path(""))).collect();
    let late: Vec<_> = (0..LATE).map(|_| pair.accept(OWNER)).collect();
    pair.send(publisher, &text("message"));
    late.iter().for_each(|peer| pair.shards[OWNER].peer_ended(peer.id, pair.now));
    // The first of them has waited for its turn already.
    let ended = 1 + SUBSCRIBERS / FLUSHES_PER_ENDING;
    flush_some(&mut pair, SUBSCRIBERS + ended);
    for subscriber in subscribers {
        assert_eq!(pair.take(subscriber), delivered("message"));
    }
    // Who ends has a turn all the same, and all of it when nobody else waits.
    let left = pair.shards[OWNER].connections_len();
    assert_eq!(left, 1 + SUBSCRIBERS + LATE - ended);
    pair.flush();
    assert_eq!(pair.shards[OWNER].connections_len(), 1 + SUBSCRIBERS);
}

#[test]
fn a_large_topic_does_not_hold_up_a_small_one() {
    let mut pair = Pair::with(|settings| settings.connections_max = 600);
    let names: Vec<_> = (0..2).map(|n| format!("/topics/{}", topic(n))).collect();
    let publishers: Vec<_> = names.iter().map(|name| pair.open(OWNER, &format!("{name}?subscribe=off"))).collect();
    let large: Vec<_> = (0..500).map(|_| pair.open(OWNER, &names[0])).collect();
    let small = pair.open(OWNER, &names[1]);
    pair.send(publishers[0], &text("to many"));
    pair.send(publishers[1], &text("to one"));
    flush_some(&mut pair, 50);
    assert_eq!(pair.take(small), delivered("to one"));
    pair.flush();
    for subscriber in large {
        assert_eq!(pair.take(subscriber), delivered("to many"));
    }
}

#[test]
fn a_subscriber_whose_replies_wait_for_the_flush_is_not_slow() {
    let mut pair = Pair::new();
    let talkers: Vec<_> = (0..10).map(|_| pair.open(OWNER, "/chat")).collect();
    let publisher = pair.open(OWNER, &path("?subscribe=off"));
    let subscriber = pair.open(OWNER, &path(""));
    // Its pong stands behind the replies of others when its topic's turn comes.
    talkers.iter().for_each(|talker| pair.send(*talker, &text("again")));
    pair.send(subscriber, &masked(0x89, b"ping"));
    let messages: Vec<_> = (0..6).map(|n| n.to_string().repeat(QUEUE_BYTES_MAX / 4)).collect();
    messages.iter().for_each(|message| pair.send(publisher, &text(message)));
    pair.settle();
    let messages: Vec<_> = messages.iter().map(|message| delivered(message)).collect();
    assert_eq!(pair.take(subscriber), [unmasked(0x8a, b"ping"), messages.concat()].concat());
    assert_eq!(pair.closes(CloseReason::SlowConsumer), 0);
}
