//! What a shard does, seen from its driver: bytes in, bytes out, time handed in.

mod drain;
mod flushes;
mod input;
pub(crate) mod pair;
mod reload;
mod slow;
mod unread;

use std::time::Duration;

use super::*;
use crate::command::{SharedMessage, TopicName};
use crate::connection::Output;
use crate::limits::TIMER_STEP_MS;
use crate::proto::frame::MessageKind;
use crate::stats::CloseReason;
use pair::{
    DEADLINES, OTHER, OWNER, Pair, Peer, QUEUE_BYTES_MAX, REPLY_BYTES_WATERMARK, close_code, delivered, masked, path,
    request, text, topic, unmasked,
};

/// Deadlines come a step of the timer wheel late at most.
const STEP: Duration = Duration::from_millis(TIMER_STEP_MS);

/// What a silent peer gets.
const PING: &[u8] = b"\x89\x06wsgate";

#[test]
fn the_upgrade_is_answered_once_the_owner_has_acknowledged_and_early_frames_are_read_then() {
    let mut pair = Pair::new();
    let peer = pair.accept(OTHER);
    pair.send(peer, &[request(&path("")), text("early")].concat());
    pair.flush();
    assert_eq!(pair.take(peer), b"", "the owner has not been heard");
    // What comes now is left in the kernel.
    pair.send(peer, &text("later"));
    pair.flush();
    assert_eq!(pair.stats[OTHER].messages_in.get(), 0);

    pair.carry(OTHER, OWNER);
    assert_eq!(pair.take(peer), b"", "the acknowledgement is on its way");
    pair.carry(OWNER, OTHER);
    let answer = pair.take(peer);
    assert!(answer.starts_with(b"HTTP/1.1 101 ") && answer.ends_with(b"\r\n\r\n"), "{answer:?}");
    assert_eq!(pair.stats[OTHER].messages_in.get(), 2, "the early one, and the later one out of the kernel");
    pair.settle();
    assert_eq!(pair.take(peer), [delivered("early"), delivered("later")].concat());
}

#[test]
fn echoes_keep_their_order_whatever_is_between_them_and_however_little_the_transport_takes() {
    let long = "x".repeat(5_000);
    let ping = masked(0x89, b"?");
    // A message in two frames is no slice of the input.
    let fragments = [masked(0x01, long.as_bytes()), masked(0x80, b"end")].concat();
    let input = [text("one"), text(&long), text("two"), ping, text("three"), fragments, text("four")].concat();
    let both = format!("{long}end");
    let expected = [
        delivered("one"),
        delivered(&long),
        delivered("two"),
        b"\x8a\x01?".to_vec(),
        delivered("three"),
        delivered(&both),
        delivered("four"),
    ]
    .concat();
    for room in [None, Some(0), Some(1), Some(4), Some(5), Some(3_000), Some(5_014), Some(expected.len() - 1)] {
        for cut in [0, 3, 9, 2_000, 5_020, input.len() - 1] {
            // Above this bound a pong would come behind all replies.
            let mut pair = Pair::with(|settings| settings.queue.pong_bytes_max = usize::MAX);
            let peer = pair.open(OWNER, "/echo");
            let before = pair.stats[OWNER].bytes_out.get();
            pair.transport(peer).room = room;
            pair.send(peer, &input[..cut]);
            pair.flush();
            pair.send(peer, &input[cut..]);
            pair.flush();
            pair.unblock(peer);
            pair.settle();
            assert!(pair.take(peer) == expected, "room {room:?}, cut at {cut}");
            assert_eq!(pair.stats[OWNER].queue_bytes.get(), 0);
            assert_eq!(pair.stats[OWNER].bytes_out.get(), before + expected.len() as u64);
        }
    }
}

#[test]
fn on_the_owners_shard_the_upgrade_is_answered_at_once() {
    let mut pair = Pair::new();
    let peer = pair.accept(OWNER);
    pair.send(peer, &[request(&path("")), text("early")].concat());
    pair.flush();
    let answer = pair.take(peer);
    assert!(answer.starts_with(b"HTTP/1.1 101 ") && answer.ends_with(&delivered("early")), "{answer:?}");
}

/// A log that several wait for is as large as what the last of them has not had.
#[test]
fn the_largest_log_goes_first_and_private_queues_go_last() {
    let mut pair = Pair::new();
    let reader = |pair: &mut Pair, n: usize| {
        let peer = pair.open(OWNER, &format!("/topics/{}", topic(n)));
        pair.transport(peer).room = Some(0);
        peer
    };
    let large = reader(&mut pair, 0);
    let small = [reader(&mut pair, 1), reader(&mut pair, 1)];
    let private = pair.open(OWNER, "/echo");
    pair.transport(private).room = Some(0);
    for (n, messages) in [(0, 18), (1, 9)] {
        let publisher = pair.open(OWNER, &format!("/topics/{}?subscribe=off", topic(n)));
        for _ in 0..messages {
            pair.send(publisher, &text(&"m".repeat(100)));
            pair.settle();
        }
    }
    for _ in 0..8 {
        pair.send(private, &text(&"r".repeat(100)));
    }
    pair.settle();
    let mut closed = Vec::new();
    // Each step asks for a little less than there is.
    while pair.shards[OWNER].queue_memory_bytes() > 0 {
        let memory = pair.shards[OWNER].queue_memory_bytes();
        pair.shards[OWNER].shed_queues(memory - 1, pair.now);
        for peer in [large, small[0], small[1], private] {
            let reason = |peer: Peer| pair.shards[OWNER].table.get(peer.id).map(|peer| peer.connection.close_reason());
            if reason(peer) == Some(CloseReason::QueueMemory) && !closed.contains(&peer) {
                closed.push(peer);
                // The Close that waits for it is not to be counted.
                pair.shards[OWNER].transport_failed(peer.id);
            }
        }
        pair.flush();
    }
    assert_eq!((closed[0], closed[3]), (large, private), "{closed:?}");
    assert_eq!(closed.len(), 4);
}

#[test]
fn an_owner_that_does_not_answer_in_time_costs_a_timeout_and_its_late_answer_nothing() {
    let mut pair = Pair::new();
    let peer = pair.accept(OTHER);
    pair.send(peer, &request(&path("")));
    pair.flush();
    let asked = std::mem::take(&mut pair.mail[OTHER][OWNER]);
    pair.now = pair.now + DEADLINES.handshake + STEP;
    pair.shards[OTHER].handle_timeouts(pair.now);
    pair.flush();
    assert!(pair.take(peer).starts_with(b"HTTP/1.1 408 "));

    for envelope in asked {
        pair.shards[OWNER].open_envelope(envelope, pair.now);
    }
    pair.settle();
    assert_eq!(pair.take(peer), b"");
    pair.shards[OTHER].peer_ended(peer.id, pair.now);
    pair.settle();
    assert_eq!(pair.transport(peer).closed, Some(false));
    assert_eq!(pair.closes(CloseReason::HandshakeTimeout), 1);
    pair.assert_empty();
}

#[test]
fn a_subscriber_that_the_owner_has_no_room_for_is_answered_503() {
    let mut pair = Pair::with(|settings| {
        if settings.hub.shard.index() == OWNER {
            settings.hub.topics_max = 1;
        }
    });
    pair.open(OWNER, &path(""));
    let refused = pair.accept(OTHER);
    pair.send(refused, &request(&format!("/topics/{}", topic(1))));
    pair.settle();
    let answer = pair.take(refused);
    assert!(answer.starts_with(b"HTTP/1.1 503 "), "{answer:?}");
    assert!(pair.transport(refused).ended);
    // The topic that is there takes more subscribers.
    pair.open(OTHER, &path(""));
}

#[test]
fn echo_off_leaves_out_the_sender_and_nobody_else_on_either_shard() {
    for (sender_shard, listener_shard) in [(OWNER, OTHER), (OTHER, OWNER), (OWNER, OWNER), (OTHER, OTHER)] {
        let mut pair = Pair::new();
        // A connection with the sender's slot on the other shard: it is not the sender.
        let double = pair.open(1 - sender_shard, &path(""));
        let sender = pair.open(sender_shard, &path("?echo=off"));
        let listener = pair.open(listener_shard, &path(""));
        assert_eq!(double.id, sender.id);
        pair.send(sender, &text("mine"));
        pair.settle();
        assert_eq!(pair.take(sender), b"", "sent from shard {sender_shard}");
        assert_eq!(pair.take(listener), delivered("mine"));
        assert_eq!(pair.take(double), delivered("mine"));
        pair.send(listener, &text("theirs"));
        pair.settle();
        assert_eq!(pair.take(sender), delivered("theirs"));
    }
}

#[test]
fn an_http_publish_is_answered_with_its_place() {
    let mut pair = Pair::new();
    let peer = pair.open(OTHER, &path(""));
    let name: TopicName = topic(0).into();
    for (token, offset) in [(5, 1), (6, 2)] {
        let message = SharedMessage { kind: MessageKind::Binary, payload: vec![7].into() };
        pair.shards[OWNER]
            .open_envelope(Envelope::PublishRequest { token, topic: name.clone(), message }, Time::default());
        pair.settle();
        let answers = std::mem::take(&mut pair.control);
        let [Envelope::Published { token: answered, result: Ok(position) }] = answers.as_slice() else {
            panic!("{answers:?}")
        };
        assert_eq!((*answered, position.offset), (token, offset));
        assert_eq!(pair.take(peer), unmasked(0x82, &[7]));
    }
}

#[test]
fn publishers_are_not_read_while_publishing_is_paused() {
    let mut pair = Pair::new();
    let publisher = pair.open(OTHER, &path("?subscribe=off"));
    let subscriber = pair.open(OWNER, &path(""));
    let bystander = pair.open(OTHER, "/echo");

    pair.shards[OTHER].pause_publishing(true);
    assert!(!pair.shards[OTHER].has_paused_publishers(), "nobody has published since");
    // What was read already is still accepted.
    pair.send(publisher, &[text("1"), text("2")].concat());
    pair.settle();
    assert_eq!(pair.take(subscriber), [delivered("1"), delivered("2")].concat());
    assert!(pair.shards[OTHER].has_paused_publishers());
    assert!(!pair.shards[OTHER].wants_read(publisher.id));

    pair.send(publisher, &text("3"));
    pair.send(bystander, &text("not a publisher"));
    pair.settle();
    assert_eq!(pair.take(subscriber), b"");
    assert_eq!(pair.take(bystander), delivered("not a publisher"));

    pair.shards[OTHER].pause_publishing(false);
    assert!(!pair.shards[OTHER].has_paused_publishers());
    pair.settle();
    assert_eq!(pair.take(subscriber), delivered("3"), "read without a new event");
}

#[test]
fn a_paused_publisher_that_leaves_does_not_hold_its_slots_next_tenant() {
    let mut pair = Pair::new();
    let publisher = pair.open(OTHER, &path(""));
    pair.shards[OTHER].pause_publishing(true);
    pair.send(publisher, &text("1"));
    pair.shards[OTHER].transport_failed(publisher.id);
    pair.settle();
    let next = pair.open(OTHER, "/echo");
    assert_eq!(next.id.slot, publisher.id.slot);
    assert!(pair.shards[OTHER].wants_read(next.id));
    pair.shards[OTHER].pause_publishing(false);
    assert_eq!(pair.shards[OTHER].next_resumed(), None);
}

#[test]
fn a_late_id_does_nothing_to_the_slots_next_tenant() {
    let mut pair = Pair::new();
    let gone = pair.open(OWNER, &path(""));
    pair.shards[OWNER].transport_failed(gone.id);
    pair.settle();
    let tenant = pair.open(OWNER, &path(""));
    assert_eq!(gone.id.slot, tenant.id.slot);
    assert_ne!(gone.id, tenant.id);

    let now = pair.now;
    let shard = &mut pair.shards[OWNER];
    assert!(!shard.wants_read(gone.id));
    assert!(shard.receive(gone.id, &mut text("not from the tenant"), now).is_empty());
    shard.peer_ended(gone.id, now);
    shard.transport_failed(gone.id);
    shard.blocked(gone.id);
    shard.writable(gone.id);
    shard.sent(gone.id, 0);
    shard.ended_writing(gone.id);
    shard.remove(gone.id);
    assert!(matches!(shard.output(gone.id), Output::Idle));
    assert!(!shard.has_flushes());
    assert_eq!((shard.connections_len(), shard.hub.subscriptions_len()), (1, 1));

    pair.send(tenant, &text("mine"));
    pair.settle();
    assert_eq!(pair.take(tenant), delivered("mine"));
}

#[test]
fn a_peer_that_says_nothing_is_answered_408_and_then_closed() {
    let mut pair = Pair::new();
    let silent = pair.accept(OWNER);
    let slow = pair.accept(OWNER);
    pair.pass(DEADLINES.handshake / 2);
    // A byte now and then is no request.
    pair.send(slow, b"GET /echo HTTP/1.1\r\n");
    pair.pass(DEADLINES.handshake / 2 - Duration::from_millis(1));
    assert_eq!((pair.take(silent), pair.take(slow)), (vec![], vec![]), "not yet");
    pair.pass(STEP + Duration::from_millis(1));
    for peer in [silent, slow] {
        assert!(pair.take(peer).starts_with(b"HTTP/1.1 408 "));
        assert!(pair.transport(peer).ended);
    }
    assert_eq!(pair.closes(CloseReason::HandshakeTimeout), 0, "the peers have not ended");
    pair.pass(DEADLINES.close + STEP);
    assert_eq!(pair.transport(silent).closed, Some(true));
    assert_eq!(pair.closes(CloseReason::HandshakeTimeout), 2);
    pair.assert_empty();
}

#[test]
fn a_silent_peer_is_pinged_and_cut_when_it_does_not_answer() {
    let mut pair = Pair::new();
    let peer = pair.open(OWNER, "/echo");
    pair.pass(DEADLINES.ping_interval - Duration::from_millis(1));
    assert_eq!(pair.take(peer), b"", "not yet");
    pair.pass(STEP + Duration::from_millis(1));
    assert_eq!(pair.take(peer), PING);
    assert_eq!(pair.sum(|stats| &stats.queue_bytes), 0, "the ping has been counted in and out");
    pair.pass(DEADLINES.pong_timeout - STEP - Duration::from_millis(1));
    assert_eq!(pair.transport(peer).closed, None, "not yet");
    pair.pass(2 * STEP + Duration::from_millis(1));
    assert_eq!(pair.take(peer), b"", "no word to a peer that is gone");
    assert_eq!(pair.transport(peer).closed, Some(true));
    assert_eq!(pair.closes(CloseReason::PongTimeout), 1);
    pair.assert_empty();
}

#[test]
fn any_sign_of_life_puts_the_ping_off_and_counts_as_its_answer() {
    let mut pair = Pair::new();
    let peer = pair.open(OWNER, "/echo");
    for sign in [text("x"), masked(0x8a, b""), vec![0x81]] {
        pair.take(peer);
        pair.pass(DEADLINES.ping_interval - Duration::from_secs(1));
        pair.send(peer, &sign);
        pair.settle();
        pair.take(peer);
        pair.pass(DEADLINES.ping_interval - Duration::from_secs(1));
        assert_eq!(pair.take(peer), b"", "heard of not long ago");
        pair.pass(Duration::from_secs(1) + STEP);
        assert_eq!(pair.take(peer), PING);
        pair.pass(DEADLINES.pong_timeout - Duration::from_secs(1));
        // The last sign is the first byte of a message, which this one completes.
        let answer = if sign.len() == 1 { vec![0x80, 0, 0, 0, 0] } else { masked(0x8a, b"wsgate") };
        pair.send(peer, &answer);
    }
    assert_eq!(pair.transport(peer).closed, None);
}

#[test]
fn pings_keep_their_interval_although_a_pong_may_take_longer() {
    let interval = Duration::from_secs(2);
    let mut pair = Pair::with(|settings| settings.deadlines.ping_interval = interval);
    let peer = pair.open(OWNER, "/echo");
    for _ in 0..10 {
        pair.pass(interval + STEP);
        assert_eq!(pair.take(peer), PING);
        pair.send(peer, &masked(0x8a, b"wsgate"));
    }
    // Without an answer there is one ping, and the pong's own time.
    pair.pass(interval + STEP);
    assert_eq!(pair.take(peer), PING);
    pair.pass(DEADLINES.pong_timeout - STEP - Duration::from_millis(1));
    assert_eq!((pair.take(peer), pair.transport(peer).closed), (vec![], None), "not yet");
    pair.pass(2 * STEP + Duration::from_millis(1));
    assert_eq!(pair.transport(peer).closed, Some(true));
}

#[test]
fn a_close_that_is_not_answered_ends_in_a_reset_after_the_close_timeout() {
    let mut pair = Pair::new();
    let peer = pair.open(OTHER, &path(""));
    pair.go_down(Duration::ZERO);
    assert_eq!(close_code(&pair.take(peer)), 1001);
    assert!(!pair.transport(peer).ended, "the answer is awaited");
    // Data is no answer.
    pair.send(peer, &text("still here"));
    pair.pass(DEADLINES.close - Duration::from_millis(1));
    assert_eq!(pair.transport(peer).closed, None, "not yet");
    pair.pass(STEP + Duration::from_millis(1));
    assert_eq!(pair.transport(peer).closed, Some(true));
    assert_eq!(pair.closes(CloseReason::Drain), 1);
    pair.assert_empty();
}

#[test]
fn a_close_that_is_answered_ends_after_the_peers_end() {
    let mut pair = Pair::new();
    let peer = pair.open(OWNER, "/echo");
    let now = pair.now;
    pair.go_down(Duration::ZERO);
    pair.take(peer);
    pair.send(peer, &masked(0x88, &1001u16.to_be_bytes()));
    pair.settle();
    assert_eq!(pair.take(peer), b"", "one Close is enough");
    assert!(pair.transport(peer).ended);
    assert_eq!(pair.transport(peer).closed, None);
    pair.shards[OWNER].peer_ended(peer.id, now);
    pair.settle();
    assert_eq!(pair.transport(peer).closed, Some(false));
    pair.assert_empty();
}

#[test]
fn a_full_table_takes_in_nobody_until_one_leaves() {
    let mut pair = Pair::with(|settings| settings.connections_max = 2);
    let first = pair.accept(OWNER);
    pair.accept(OWNER);
    assert!(!pair.shards[OWNER].has_room());
    assert_eq!(pair.shards[OWNER].accept(pair.now), None);
    pair.shards[OWNER].transport_failed(first.id);
    pair.settle();
    assert!(pair.shards[OWNER].has_room());
    pair.accept(OWNER);
}

#[test]
fn a_subscriber_that_stalls_is_told_what_happened_when_it_reads_again() {
    let mut pair = Pair::new();
    let stalled = pair.open(OTHER, &path(""));
    let healthy = pair.open(OTHER, &path(""));
    let publisher = pair.open(OWNER, &path("?subscribe=off"));
    // Two messages and a part of the third.
    let frame = delivered(&"m".repeat(100));
    pair.transport(stalled).room = Some(2 * frame.len() + 10);
    let mut published = 0;
    while pair.sum(|stats| &stats.subscriptions) == 2 {
        pair.send(publisher, &text(&"m".repeat(100)));
        pair.settle();
        published += 1;
        assert!(pair.sum(|stats| &stats.queue_bytes) <= QUEUE_BYTES_MAX as u64);
        assert!(published < 1000, "the bound is reached some time");
    }
    assert!(published > QUEUE_BYTES_MAX / frame.len());
    assert_eq!(pair.take(healthy), frame.repeat(published));
    assert_eq!(pair.take(stalled), [frame.repeat(2), frame[..10].to_vec()].concat());

    pair.unblock(stalled);
    let rest = pair.take(stalled);
    assert_eq!(rest[..frame.len() - 10], frame[10..], "the frame on its way is whole");
    assert_eq!(close_code(&rest[frame.len() - 10..]), 4008);
    assert_eq!(pair.sum(|stats| &stats.queue_bytes), 0);
    pair.send(stalled, &masked(0x88, &4008u16.to_be_bytes()));
    pair.shards[OTHER].peer_ended(stalled.id, pair.now);
    pair.settle();
    assert_eq!(pair.closes(CloseReason::SlowConsumer), 1);
    pair.send(publisher, &text("on and on"));
    pair.settle();
    assert_eq!(pair.take(healthy), delivered("on and on"));
}

#[test]
fn a_subscriber_that_stalls_for_good_is_reset_after_the_close_timeout() {
    let mut pair = Pair::new();
    let stalled = pair.open(OWNER, &path(""));
    let publisher = pair.open(OWNER, &path("?subscribe=off"));
    pair.transport(stalled).room = Some(0);
    for n in 0.. {
        assert!(n < 100_000, "what is too much for the queue closes the subscriber");
        if pair.sum(|stats| &stats.subscriptions) == 0 {
            break;
        }
        pair.send(publisher, &text(&"m".repeat(100)));
        pair.settle();
    }
    pair.pass(DEADLINES.close + STEP);
    assert_eq!(pair.transport(stalled).closed, Some(true));
    assert_eq!(pair.closes(CloseReason::SlowConsumer), 1);
    assert_eq!(pair.sum(|stats| &stats.queue_bytes), 0);
}

#[test]
fn one_message_over_the_bound_still_reaches_who_is_not_behind() {
    let mut pair = Pair::new();
    let subscriber = pair.open(OWNER, &path(""));
    let message = SharedMessage { kind: MessageKind::Binary, payload: vec![1; 2 * QUEUE_BYTES_MAX].into() };
    let request = Envelope::PublishRequest { token: 1, topic: topic(0).into(), message };
    let now = pair.now;
    pair.shards[OWNER].open_envelope(request, now);
    pair.settle();
    assert_eq!(pair.take(subscriber).len(), 4 + 2 * QUEUE_BYTES_MAX);
    assert_eq!(pair.closes(CloseReason::SlowConsumer), 0);
}

#[test]
fn who_does_not_read_its_replies_is_not_read_either() {
    let mut pair = Pair::new();
    let peer = pair.open(OWNER, "/echo");
    pair.transport(peer).room = Some(0);
    let message = text(&"r".repeat(100));
    let reply = delivered(&"r".repeat(100));
    let mut sent = 0;
    while pair.shards[OWNER].wants_read(peer.id) {
        pair.send(peer, &message);
        pair.settle();
        sent += 1;
        assert!(sent < 1000, "reading pauses some time");
    }
    assert_eq!(sent, REPLY_BYTES_WATERMARK / reply.len() + 1);
    pair.send(peer, &message);
    assert_eq!(pair.stats[OWNER].messages_in.get() as usize, sent, "left in the kernel");
    pair.unblock(peer);
    assert_eq!(pair.take(peer), reply.repeat(sent + 1), "read without a new event");
    assert_eq!(pair.closes(CloseReason::SlowConsumer), 0);
}

#[test]
fn a_probe_is_answered() {
    let mut pair = Pair::new();
    let now = pair.now;
    pair.shards[OTHER].open_envelope(Envelope::Probe { token: 9 }, now);
    pair.settle();
    assert!(matches!(pair.control.as_slice(), [Envelope::ProbeAnswer { token: 9 }]), "{:?}", pair.control);
}
