use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::*;
use crate::proto::handshake::Upgrade;
use crate::proto::http;

const BOUNDS: QueueBounds = QueueBounds { queue_bytes_max: 10_000, reply_bytes_watermark: 1_000, pong_bytes_max: 200 };
const DEADLINES: Deadlines = Deadlines {
    handshake: Duration::from_secs(1),
    ping_interval: Duration::from_secs(25),
    pong_timeout: Duration::from_secs(10),
    idle: None,
    close: Duration::from_secs(5),
};

fn at(seconds: u64) -> Time {
    Time::ZERO + Duration::from_secs(seconds)
}

fn upgrade() -> Upgrade {
    let head = b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    Upgrade::validate(&http::parse(head).unwrap(), &[]).unwrap()
}

/// Open, with the answer to the upgrade still queued.
fn just_opened(pool: &mut OutboundPool) -> Connection {
    let mut connection = Connection::new(Time::ZERO);
    connection.open(&upgrade(), pool);
    connection
}

pub(super) fn open(pool: &mut OutboundPool) -> Connection {
    let mut connection = just_opened(pool);
    send(&mut connection, usize::MAX, pool);
    connection
}

/// A transport that takes `n` bytes at most; what it took.
pub(super) fn send(connection: &mut Connection, n: usize, pool: &mut OutboundPool) -> Vec<u8> {
    let mut taken = Vec::new();
    loop {
        let before = taken.len();
        let mut take = |bytes: &[u8]| {
            let len = bytes.len().min(n - taken.len());
            taken.extend_from_slice(&bytes[..len]);
        };
        match connection.output() {
            Output::Send(bytes) => take(bytes),
            Output::SendSegments((slices, count)) => slices[..count].iter().for_each(|slice| take(slice)),
            _ => break,
        }
        let sent = taken.len() - before;
        connection.sent(sent, pool);
        if sent == 0 {
            break;
        }
    }
    taken
}

fn batch(payloads: &[&[u8]]) -> Rc<Batch> {
    let mut batch = Batch::default();
    for payload in payloads {
        batch.append(OpCode::Binary, payload, None);
    }
    batch.seal();
    Rc::new(batch)
}

/// The bound is reached.
#[derive(PartialEq, Debug)]
struct QueueFull;

/// One published message.
fn deliver(connection: &mut Connection, payload: &[u8], pool: &mut OutboundPool) -> Result<(), QueueFull> {
    deliver_batch(connection, &batch(&[payload]), pool)
}

fn deliver_batch(connection: &mut Connection, batch: &Rc<Batch>, pool: &mut OutboundPool) -> Result<(), QueueFull> {
    let len = batch.as_bytes().len();
    if !connection.has_room_for(len, &BOUNDS) {
        return Err(QueueFull);
    }
    connection.push(batch, (0, len), pool);
    Ok(())
}

fn is_close(frame: &[u8], code: CloseCode) -> bool {
    frame.len() >= 4 && frame[0] == 0x88 && frame[2..4] == code.0.to_be_bytes()
}

const STATES: [&str; 6] = ["handshake", "accepted", "open", "closing", "finishing", "closed"];

fn connection_in(state: &str) -> Connection {
    let pool = &mut OutboundPool::default();
    let mut connection = Connection::new(Time::ZERO);
    match state {
        "handshake" => {}
        "accepted" => connection.accept_later(upgrade(), Vec::new(), Time::ZERO),
        _ => {
            connection = open(pool);
            match state {
                "open" => {}
                "closing" => connection.close(CloseCode::NORMAL, "", CloseReason::Drain, Time::ZERO, pool),
                "finishing" => connection.peer_closes(None, Time::ZERO, pool),
                _ => connection.abort(CloseReason::Drain),
            }
        }
    }
    connection
}

#[test]
fn the_table_of_transitions() {
    // Rows: from; columns: to, in the order of `STATES`.
    let table = [
        ("handshake", [false, true, true, false, true, true]),
        ("accepted", [false, false, true, false, true, true]),
        ("open", [false, false, false, true, true, true]),
        ("closing", [false, false, false, false, true, true]),
        ("finishing", [false, false, false, false, false, true]),
        ("closed", [false, false, false, false, false, true]),
    ];
    for (from, row) in table {
        for (to, legal) in STATES.into_iter().zip(row) {
            let mut connection = connection_in(from);
            let next = std::mem::replace(&mut connection_in(to).state, State::Open);
            let entered = catch_unwind(AssertUnwindSafe(|| connection.enter(next)));
            assert_eq!(entered.is_ok(), legal, "from {from} to {to}");
        }
    }
}

#[test]
fn a_transition_that_is_not_in_the_table_names_both_states() {
    let error = catch_unwind(|| connection_in("closing").enter(State::Open)).unwrap_err();
    let message = error.downcast_ref::<String>().unwrap();
    assert!(message.contains("Closing") && message.contains("Open"), "{message}");
}

#[test]
fn messages_count_only_while_open_and_frames_also_while_closing() {
    for state in STATES {
        let connection = connection_in(state);
        assert_eq!(connection.is_open(), state == "open", "{state}");
        assert_eq!(connection.reads_frames(), ["open", "closing"].contains(&state), "{state}");
        assert_eq!(connection.is_ending(), ["closing", "finishing", "closed"].contains(&state), "{state}");
        assert_eq!(connection.wants_read(&BOUNDS), state != "accepted", "{state}");
    }
}

#[test]
fn a_slow_consumer_gets_the_frame_on_its_way_whole_and_then_is_told() {
    let pool = &mut OutboundPool::default();
    let mut connection = open(pool);
    let payloads = [[1; 4000], [2; 4000], [3; 4000]];
    deliver(&mut connection, &payloads[0], pool).unwrap();
    deliver(&mut connection, &payloads[1], pool).unwrap();
    let mut received = send(&mut connection, 100, pool);
    assert_eq!(deliver(&mut connection, &payloads[2], pool), Err(QueueFull));
    connection.close_slow_consumer(CloseReason::SlowConsumer, at(1), pool);
    received.extend(send(&mut connection, usize::MAX, pool));
    let frame = batch(&[&payloads[0]]);
    let close = received.strip_prefix(frame.as_bytes()).expect("the frame is whole");
    assert!(is_close(close, CloseCode::SLOW_CONSUMER), "{close:?}");
    assert_eq!(close.len(), 2 + close[1] as usize, "nothing behind it");
    assert_eq!(connection.queue_bytes(), 0);
    assert_eq!(connection.close_reason(), CloseReason::SlowConsumer);
    assert!(connection.reads_frames(), "the peer's answer is awaited");
}

#[test]
fn a_batch_that_is_on_its_way_is_cut_between_frames_only() {
    let payloads: [&[u8]; 3] = [&[1; 100], &[2; 200], &[3; 300]];
    let all = batch(&payloads);
    let ends = [0, 102, 306, 610];
    for sent in 0..all.as_bytes().len() {
        let end = *ends.iter().find(|end| **end >= sent).unwrap();
        let pool = &mut OutboundPool::default();
        let mut queued = open(pool);
        deliver_batch(&mut queued, &all, pool).unwrap();
        send(&mut queued, sent, pool);
        // The same with the beginning sent past the queue.
        let mut kept = open(pool);
        kept.keep_rest(all.clone(), (sent, all.as_bytes().len()), pool);
        for mut connection in [queued, kept] {
            deliver(&mut connection, b"later", pool).unwrap();
            connection.close_slow_consumer(CloseReason::SlowConsumer, at(1), pool);
            let left = connection.queue_bytes();
            let received = send(&mut connection, usize::MAX, pool);
            assert_eq!(received.len(), left, "the count of bytes fits what is there");
            let close = received.strip_prefix(&all.as_bytes()[sent..end]);
            let close = close.unwrap_or_else(|| panic!("{sent} bytes were sent, the frame ends at {end}"));
            assert!(is_close(close, CloseCode::SLOW_CONSUMER), "{sent} bytes were sent: {close:?}");
        }
    }
}

#[test]
fn a_slow_consumer_that_has_begun_no_frame_is_told_at_once() {
    let pool = &mut OutboundPool::default();
    let mut connection = open(pool);
    deliver(&mut connection, &[1; 6000], pool).unwrap();
    assert_eq!(deliver(&mut connection, &[2; 6000], pool), Err(QueueFull));
    connection.close_slow_consumer(CloseReason::SlowConsumer, at(1), pool);
    let received = send(&mut connection, usize::MAX, pool);
    assert!(is_close(&received, CloseCode::SLOW_CONSUMER), "{received:?}");
}

#[test]
fn a_slow_consumer_keeps_what_was_for_it_alone() {
    let pool = &mut OutboundPool::default();
    let mut connection = just_opened(pool);
    deliver(&mut connection, &[1; 6000], pool).unwrap();
    connection.pong(b"answer", &BOUNDS, pool);
    connection.close_slow_consumer(CloseReason::SlowConsumer, at(1), pool);
    let queued = connection.queue_bytes();
    let received = send(&mut connection, usize::MAX, pool);
    assert_eq!(received.len(), queued, "the count of bytes fits what is there");
    assert!(received.starts_with(b"HTTP/1.1 101 "));
    let frames = received.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
    let close = received[frames..].strip_prefix(b"\x8a\x06answer").unwrap();
    assert!(is_close(close, CloseCode::SLOW_CONSUMER), "{close:?}");
}

#[test]
fn a_batch_above_the_bound_reaches_a_peer_that_is_not_behind() {
    let pool = &mut OutboundPool::default();
    let mut connection = open(pool);
    assert_eq!(deliver(&mut connection, &vec![7; BOUNDS.queue_bytes_max + 1], pool), Ok(()));
    assert_eq!(deliver(&mut connection, b"x", pool), Err(QueueFull), "now it is behind");
}

#[test]
fn deliveries_fill_the_queue_exactly_to_its_bound() {
    let pool = &mut OutboundPool::default();
    let mut connection = open(pool);
    // With a header of 4 bytes each.
    deliver(&mut connection, &[0; 4996], pool).unwrap();
    deliver(&mut connection, &[0; 4996], pool).unwrap();
    assert_eq!(connection.queue_bytes(), BOUNDS.queue_bytes_max);
    assert_eq!(deliver(&mut connection, b"", pool), Err(QueueFull));
}

#[test]
fn replies_above_the_watermark_stop_reading_until_they_are_sent() {
    let pool = &mut OutboundPool::default();
    let mut connection = open(pool);
    // Headers of 2 bytes: exactly the watermark, then one more.
    for _ in 0..10 {
        connection.reply(MessageKind::Binary, &[0; 98], pool);
    }
    assert_eq!(connection.queue_bytes(), BOUNDS.reply_bytes_watermark);
    assert!(connection.wants_read(&BOUNDS));
    connection.reply(MessageKind::Text, b"", pool);
    assert!(!connection.wants_read(&BOUNDS));
    send(&mut connection, 1, pool);
    assert!(!connection.wants_read(&BOUNDS));
    send(&mut connection, 1, pool);
    assert!(connection.wants_read(&BOUNDS));
}

#[test]
fn deliveries_do_not_stop_reading() {
    let pool = &mut OutboundPool::default();
    let mut connection = open(pool);
    deliver(&mut connection, &[0; 9000], pool).unwrap();
    assert!(connection.wants_read(&BOUNDS), "a subscriber that is behind may still answer pings and close");
}

#[test]
fn frames_leave_in_order_however_little_the_transport_takes() {
    let pool = &mut OutboundPool::default();
    let mut expected = Vec::new();
    let mut connection = open(pool);
    for n in 0..200_u8 {
        let payload = vec![n; usize::from(n)];
        let frame = batch(&[&payload]);
        if n % 3 == 0 {
            connection.reply(MessageKind::Binary, &payload, pool);
        } else {
            connection.push(&frame, (0, frame.as_bytes().len()), pool);
        }
        expected.extend_from_slice(frame.as_bytes());
    }
    assert_eq!(connection.queue_bytes(), expected.len());
    let mut received = Vec::new();
    for n in (1..50).cycle() {
        let piece = send(&mut connection, n, pool);
        if piece.is_empty() {
            break;
        }
        received.extend(piece);
    }
    assert_eq!(received, expected);
    assert!(matches!(connection.output(), Output::Idle));
}

#[test]
fn a_peers_close_is_answered_with_its_code_and_ends_after_the_queue() {
    let pool = &mut OutboundPool::default();
    let mut connection = open(pool);
    connection.reply(MessageKind::Text, b"last", pool);
    connection.peer_closes(Some(CloseFrame { code: CloseCode(3004), reason: "done" }), at(1), pool);
    assert_eq!(send(&mut connection, usize::MAX, pool), b"\x81\x04last\x88\x02\x0b\xbc");
    assert!(matches!(connection.output(), Output::EndWriting));
    connection.ended_writing();
    assert!(matches!(connection.output(), Output::Idle), "the peer's end is awaited");
    connection.peer_ended(at(2));
    assert!(matches!(connection.output(), Output::Close { abort: false }));
    assert_eq!(connection.close_reason(), CloseReason::PeerClosed);
}

#[test]
fn an_end_that_came_first_needs_no_waiting() {
    let pool = &mut OutboundPool::default();
    let mut connection = open(pool);
    connection.peer_closes(None, at(1), pool);
    connection.peer_ended(at(1));
    assert_eq!(send(&mut connection, usize::MAX, pool), b"\x88\x00");
    connection.ended_writing();
    assert!(matches!(connection.output(), Output::Close { abort: false }));
}

#[test]
fn the_first_cause_stays_the_reason() {
    let pool = &mut OutboundPool::default();
    let mut connection = open(pool);
    connection.close(CloseCode::GOING_AWAY, "", CloseReason::Drain, at(1), pool);
    connection.close_slow_consumer(CloseReason::SlowConsumer, at(2), pool);
    connection.fail(&ProtocolError::Unmasked, at(2), pool);
    connection.abort(CloseReason::PeerVanished);
    assert_eq!(connection.close_reason(), CloseReason::Drain);
    assert!(matches!(connection.output(), Output::Close { abort: true }));
}

#[test]
fn while_replies_wait_the_newest_ping_is_answered_behind_them() {
    let pool = &mut OutboundPool::default();
    let mut connection = open(pool);
    connection.reply(MessageKind::Text, &[b'r'; 250], pool);
    let replies = connection.queue_bytes();
    assert!(!connection.pong(b"first", &BOUNDS, pool), "it waits, and took nobody's place");
    assert!(connection.pong(b"a longer one", &BOUNDS, pool));
    assert!(connection.pong(b"newest", &BOUNDS, pool));
    assert_eq!(connection.queue_bytes(), replies, "nothing grows");
    let received = send(&mut connection, usize::MAX, pool);
    assert_eq!(&received[replies..], b"\x8a\x06newest");
    assert_eq!((connection.queue_bytes(), pool.waiting_bytes()), (0, 0));

    // Below the bound each is answered.
    assert!(!connection.pong(b"1", &BOUNDS, pool) && !connection.pong(b"2", &BOUNDS, pool));
    assert_eq!(send(&mut connection, usize::MAX, pool), b"\x8a\x011\x8a\x012");

    // Behind a Close comes nothing.
    connection.reply(MessageKind::Text, &[b'r'; 250], pool);
    connection.pong(b"late", &BOUNDS, pool);
    connection.close(CloseCode::GOING_AWAY, "", CloseReason::Drain, at(1), pool);
    assert!(send(&mut connection, usize::MAX, pool).ends_with(b"\x88\x02\x03\xe9"));
    assert_eq!(pool.waiting_bytes(), 0);
}

#[test]
fn an_older_ping_is_never_answered_behind_a_newer_one() {
    let pool = &mut OutboundPool::default();
    let mut connection = open(pool);
    connection.reply(MessageKind::Text, &[b'r'; 250], pool);
    assert!(!connection.pong(b"held", &BOUNDS, pool));
    let sent = send(&mut connection, 200, pool);
    assert!(connection.pong(b"newer", &BOUNDS, pool), "it is answered among the replies, in the place of the other");
    let rest = send(&mut connection, usize::MAX, pool);
    assert_eq!(sent.len() + rest.len(), 4 + 250 + 7);
    assert!(rest.ends_with(b"\x8a\x05newer"));
    assert_eq!((connection.queue_bytes(), pool.waiting_bytes()), (0, 0));
}

#[test]
fn an_orderly_end_stays_one_if_a_timer_comes_before_the_flush() {
    let pool = &mut OutboundPool::default();
    let mut connection = Connection::new(Time::ZERO);
    connection.peer_ended(at(0));
    assert_eq!(connection.expire(at(100), &DEADLINES, pool), Expired::Closed);
    assert!(matches!(connection.output(), Output::Close { abort: false }));
}

#[test]
fn only_one_close_is_ever_sent() {
    let pool = &mut OutboundPool::default();
    let mut connection = open(pool);
    connection.close(CloseCode::GOING_AWAY, "", CloseReason::Drain, at(1), pool);
    connection.close(CloseCode::POLICY_VIOLATION, "", CloseReason::PolicyViolation, at(1), pool);
    connection.pong(b"late", &BOUNDS, pool);
    connection.peer_closes(Some(CloseFrame { code: CloseCode::NORMAL, reason: "" }), at(2), pool);
    assert_eq!(send(&mut connection, usize::MAX, pool), b"\x88\x02\x03\xe9");
}

#[test]
fn words_that_do_not_fit_are_cut_between_characters() {
    let pool = &mut OutboundPool::default();
    let mut connection = open(pool);
    connection.close(CloseCode::NORMAL, &"\u{20ac}".repeat(50), CloseReason::Drain, at(1), pool);
    let frame = send(&mut connection, usize::MAX, pool);
    assert_eq!(frame[1], 125, "2 bytes of code and 41 characters of 3 bytes");
    assert!(std::str::from_utf8(&frame[4..]).is_ok());
}

#[test]
fn silence_is_met_with_one_ping_and_then_an_end() {
    let pool = &mut OutboundPool::default();
    let mut connection = open(pool);
    assert_eq!(connection.expire(at(24), &DEADLINES, pool), Expired::Again(at(25)));
    assert_eq!(connection.expire(at(25), &DEADLINES, pool), Expired::Again(at(35)));
    let ping = send(&mut connection, usize::MAX, pool);
    assert!(ping[0] == 0x89 && ping[1] > 0, "a ping that is not empty: {ping:?}");
    assert_eq!(connection.expire(at(35), &DEADLINES, pool), Expired::Closed);
    assert_eq!(connection.close_reason(), CloseReason::PongTimeout);
}

#[test]
fn any_byte_is_a_sign_of_life() {
    let pool = &mut OutboundPool::default();
    let mut connection = open(pool);
    connection.expire(at(25), &DEADLINES, pool);
    connection.heard(at(34));
    assert_eq!(connection.expire(at(35), &DEADLINES, pool), Expired::Again(at(59)));
    assert!(connection.is_open());
}

#[test]
fn each_state_has_its_patience() {
    for (state, deadline) in [
        ("handshake", at(1)),
        ("accepted", at(1)),
        ("open", at(25)),
        ("closing", at(5)),
        ("finishing", at(5)),
        ("closed", at(0)),
    ] {
        assert_eq!(connection_in(state).deadline(&DEADLINES), deadline, "{state}");
    }
    let pool = &mut OutboundPool::default();
    for state in ["handshake", "accepted"] {
        assert_eq!(connection_in(state).expire(at(1), &DEADLINES, pool), Expired::Handshake, "{state}");
    }
    for state in ["closing", "finishing"] {
        let mut connection = connection_in(state);
        assert_eq!(connection.expire(at(5), &DEADLINES, pool), Expired::Closed, "{state}");
        assert!(connection.is_closed());
    }
}

#[test]
fn a_head_is_found_at_any_split_and_what_follows_is_left_alone() {
    let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let all = [head.as_slice(), b"frames"].concat();
    for at in 0..=all.len() {
        let mut connection = Connection::new(Time::ZERO);
        let (mut first, mut second) = (all[..at].to_vec(), all[at..].to_vec());
        let mut input = first.as_mut_slice();
        let mut found = connection.receive_head(&mut input, 100).unwrap();
        let mut rest = input.to_vec();
        if found.is_none() {
            assert!(rest.is_empty(), "what is no head yet is kept");
            let mut input = second.as_mut_slice();
            found = connection.receive_head(&mut input, 100).unwrap();
            rest = input.to_vec();
        } else {
            rest.extend_from_slice(&second);
        }
        let (buffered, len) = found.unwrap();
        assert_eq!(len, head.len());
        if buffered.is_empty() {
            assert_eq!(rest, all, "the head lies where it came");
        } else {
            assert_eq!((buffered.as_slice(), rest.as_slice()), (head.as_slice(), b"frames".as_slice()));
        }
    }
}
