//! Going down: in which order, at which pace, and what nobody may miss.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::Envelope;
use super::pair::{DEADLINES, OTHER, OWNER, Pair, Peer, SHARDS, close_code, delivered, path, request, text, unmasked};
use crate::command::DrainStep;
use crate::limits::{DRAIN_BATCH_MAX, DRAIN_STEP_MS};
use crate::shard::{DrainPhase, ListenerTask};
use crate::stats::CloseReason;

const CLOSE: Envelope = Envelope::Drain(DrainStep::Close { spread: Duration::ZERO, seed: 1 });

fn going_away() -> Vec<u8> {
    unmasked(0x88, &[&1001u16.to_be_bytes(), b"the server is shutting down".as_slice()].concat())
}

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes()
}

/// Peers that have been told to go, of these.
fn told(pair: &mut Pair, peers: &[Peer]) -> Vec<usize> {
    (0..peers.len()).filter(|n| pair.transport(peers[*n]).sent == going_away()).collect()
}

#[test]
fn while_it_is_only_announced_health_says_so_and_all_else_goes_on() {
    let mut pair = Pair::new();
    let subscriber = pair.open(OWNER, &path(""));
    pair.tell(OTHER, Envelope::Drain(DrainStep::Announce));
    pair.tell(OWNER, Envelope::Drain(DrainStep::Announce));
    assert_eq!(pair.shards[OTHER].drain_phase(), DrainPhase::Announced);
    assert_eq!(pair.shards[OTHER].listener_task(), ListenerTask::None);
    let prober = pair.accept(OTHER);
    pair.send(prober, &get("/health"));
    pair.settle();
    let answer = pair.take(prober);
    assert!(answer.starts_with(b"HTTP/1.1 503 ") && answer.ends_with(b"\r\n\r\ndraining\n"), "{answer:?}");
    let late = pair.open(OTHER, &path(""));
    pair.send(late, &text("still served"));
    pair.settle();
    for peer in [subscriber, late] {
        assert_eq!(pair.take(peer), delivered("still served"));
    }
    pair.go_down(Duration::ZERO);
    assert_eq!(pair.take(subscriber), going_away());
}

#[test]
fn a_listener_closes_once_all_are_empty_and_connections_are_told_once_all_are_closed() {
    let mut pair = Pair::new();
    let peer = pair.open(OTHER, "/echo");
    pair.tell(OTHER, CLOSE);
    assert_eq!(pair.shards[OTHER].listener_task(), ListenerTask::Empty);
    pair.shards[OTHER].listener_done(pair.now);
    assert_eq!(pair.shards[OTHER].listener_task(), ListenerTask::None, "the other one may not have been told");
    pair.settle();
    assert!(pair.shards[OTHER].has_room(), "who comes until then is taken in");
    pair.tell(OWNER, CLOSE);
    assert_eq!(pair.shards[OWNER].listener_task(), ListenerTask::Empty);
    pair.tend_listener(OWNER);
    assert!(!pair.shards[OWNER].has_room(), "it has heard of the other's already");
    assert_eq!(pair.shards[OWNER].accept(pair.now), None);
    pair.carry(OWNER, OTHER);
    assert_eq!(pair.shards[OTHER].listener_task(), ListenerTask::Close);
    assert_eq!(pair.take(peer), b"", "its own listener is open");
    pair.tend_listener(OTHER);
    assert_eq!(pair.take(peer), going_away());
    assert_eq!(pair.shards[OWNER].drain_phase(), DrainPhase::Delivering);
    pair.settle();
    assert_eq!(pair.shards[OWNER].drain_phase(), DrainPhase::Closing);
}

/// What the owner ordered in the first round's time arrives before the second round ends.
#[test]
fn nobody_is_told_before_deliveries_that_are_on_their_way() {
    let mut pair = Pair::new();
    let subscriber = pair.open(OTHER, &path(""));
    let publisher = pair.open(OWNER, &path("?subscribe=off"));
    for shard in [OWNER, OTHER] {
        pair.tell(shard, CLOSE);
        pair.tend_listener(shard);
    }
    // The owner has said that its listener is empty; what it takes from now on is behind that.
    pair.send(publisher, &text("just in time"));
    pair.flush();
    pair.carry_one(OWNER, OTHER);
    pair.tend_listener(OTHER);
    pair.go_on_down();
    assert_eq!(pair.take(subscriber), [delivered("just in time"), going_away()].concat());
}

#[test]
fn who_has_not_asked_yet_or_asks_too_late_is_answered_503() {
    let mut pair = Pair::new();
    let (silent, half, late) = (pair.accept(OTHER), pair.accept(OTHER), pair.accept(OTHER));
    pair.send(half, b"GET /echo HTTP/1.1\r\nHost: ");
    for shard in [OWNER, OTHER] {
        pair.tell(shard, CLOSE);
    }
    pair.tend_listener(OWNER);
    pair.carry(OWNER, OTHER);
    pair.tend_listener(OTHER);
    // Its listener is closed; the other one's is not.
    pair.send(late, &request("/echo"));
    pair.go_on_down();
    for peer in [silent, half, late] {
        let answer = String::from_utf8(pair.take(peer)).unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("shutting down"), "{answer:?}");
        assert!(pair.transport(peer).ended && pair.transport(peer).closed.is_none());
        pair.shards[OTHER].peer_ended(peer.id, pair.now);
    }
    pair.settle();
    assert_eq!(pair.closes(CloseReason::Drain) + pair.closes(CloseReason::NotUpgraded), 3);
    pair.assert_empty();
}

#[test]
fn connections_are_told_at_an_even_pace_in_an_order_that_the_seed_decides() {
    const COUNT: usize = 90;
    let spread = Duration::from_secs(10);
    let mut orders = Vec::new();
    for seed in [1, 1, 2] {
        let mut pair = Pair::new();
        let peers: Vec<Peer> = (0..COUNT).map(|_| pair.open(OTHER, "/echo")).collect();
        for shard in [OWNER, OTHER] {
            pair.tell(shard, Envelope::Drain(DrainStep::Close { spread, seed }));
        }
        pair.go_on_down();
        let mut order = Vec::new();
        let (start, mut largest) = (pair.now, 0);
        while order.len() < COUNT {
            let due = pair.shards[OTHER].next_timeout().expect("somebody is left");
            pair.now = due.max(pair.now);
            pair.shards[OTHER].handle_timeouts(pair.now);
            pair.flush();
            let new: Vec<usize> = told(&mut pair, &peers).into_iter().filter(|n| !order.contains(n)).collect();
            largest = largest.max(new.len());
            order.extend(new);
            assert_eq!(pair.stats[OTHER].drain_left.get(), (COUNT - order.len()) as u64);
            let even = COUNT as f64 * pair.now.since(start).as_secs_f64() / spread.as_secs_f64();
            assert!((order.len() as f64 - even).abs() < 0.1 * COUNT as f64, "{} told, not {even}", order.len());
        }
        let took = pair.now.since(start);
        assert!(took <= spread + 2 * Duration::from_millis(DRAIN_STEP_MS) && took > spread / 2, "{took:?}");
        assert!(largest <= 3, "{largest} at once");
        assert!(!order.is_sorted(), "neighbours go apart");
        orders.push(order);
    }
    assert_eq!(orders[0], orders[1]);
    assert_ne!(orders[0], orders[2]);
}

#[test]
fn without_a_spread_all_are_told_at_once_but_no_more_than_a_turn_bears() {
    const COUNT: usize = 2 * DRAIN_BATCH_MAX + 10;
    let mut pair = Pair::with(|settings| settings.connections_max = 2 * COUNT);
    let peers: Vec<Peer> = (0..COUNT).map(|_| pair.open(OTHER, "/echo")).collect();
    pair.go_down(Duration::ZERO);
    for expected in [DRAIN_BATCH_MAX, 2 * DRAIN_BATCH_MAX, COUNT] {
        assert_eq!(told(&mut pair, &peers).len(), expected);
        if expected < COUNT {
            assert!(pair.shards[OTHER].next_timeout() <= Some(pair.now), "at the next turn");
        }
        pair.shards[OTHER].handle_timeouts(pair.now);
        pair.flush();
    }
}

#[test]
fn those_who_are_left_are_served_until_their_own_turn_and_the_owner_stays_for_them() {
    let mut pair = Pair::new();
    let peers: Vec<Peer> = (0..20).map(|_| pair.open(OTHER, &path(""))).collect();
    pair.go_down(Duration::from_secs(10));
    pair.pass(Duration::from_secs(5));
    let gone = told(&mut pair, &peers);
    assert!((5..=15).contains(&gone.len()), "{gone:?}");
    let left: Vec<Peer> = (0..peers.len()).filter(|n| !gone.contains(n)).map(|n| peers[n]).collect();
    pair.send(left[0], &text("among us"));
    pair.settle();
    for peer in left {
        assert_eq!(pair.take(peer), delivered("among us"));
    }
    assert_eq!(told(&mut pair, &peers), gone, "who was told gets nothing more");
    pair.pass(Duration::from_secs(6) + DEADLINES.close);
    assert_eq!(pair.closes(CloseReason::Drain), 20);
    pair.assert_empty();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the order in which two shards hear of the end and of each other.
    #[test]
    fn nobody_misses_what_was_accepted_before(steps in vec(0..6usize, 0..40), publishers in vec(0..SHARDS, 1..4)) {
        let mut pair = Pair::new();
        let subscribers: Vec<Peer> = (0..SHARDS).flat_map(|shard| [shard, shard]).map(|shard| pair.open(shard, &path(""))).collect();
        let publishers: Vec<Peer> =
            publishers.iter().map(|shard| pair.open(*shard, &path("?subscribe=off"))).collect();
        for (n, publisher) in publishers.iter().enumerate() {
            pair.send(*publisher, &text(&n.to_string()));
        }
        pair.flush();
        let mut untold: Vec<usize> = vec![OTHER, OWNER];
        for step in steps {
            match step {
                0 => pair.carry_one(OWNER, OTHER),
                1 => pair.carry_one(OTHER, OWNER),
                shard @ (2 | 3) => pair.tend_listener(shard - 2),
                shard => if let Some(at) = untold.iter().position(|other| *other == shard - 4) {
                    pair.tell(untold.swap_remove(at), CLOSE);
                },
            }
        }
        for shard in untold {
            pair.tell(shard, CLOSE);
        }
        pair.go_on_down();
        for peer in subscribers {
            let got = pair.take(peer);
            let messages = got.strip_suffix(&*going_away()).expect("the Close is the last word");
            let mut each: Vec<&[u8]> = messages.chunks(3).collect();
            each.sort_unstable();
            let all: Vec<Vec<u8>> = (0..publishers.len()).map(|n| delivered(&n.to_string())).collect();
            prop_assert_eq!(each, all);
        }
        for peer in publishers {
            prop_assert_eq!(close_code(&pair.take(peer)), 1001);
        }
    }
}
