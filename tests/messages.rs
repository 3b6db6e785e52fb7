//! Messages, control frames and ends of connections, on the wire: whatever the demo
//! server that this project began from got wrong, and what else peers get wrong.
//!
//! Many clients at once are in `fanout.rs`, split and long handshakes in `handshake.rs`.
#![allow(missing_docs)]

mod common;

use std::io::{ErrorKind, Write as _};

use common::{RawClient, TestServer, hex, masked, unmasked};
use tungstenite::Message;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Message::Close};
use wsgate::limits::RECEIVE_BUFFER_BYTES;
use wsgate::stats::CloseReason;

const MIB: usize = 1024 * 1024;

/// Bytes that do not repeat with any power of two.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n % 251) as u8).collect()
}

/// The beginning of a masked frame of more than 125 bytes.
fn long_head(first: u8, len: usize) -> Vec<u8> {
    let mut head = vec![first];
    match u16::try_from(len) {
        Ok(len) => {
            head.push(0xfe);
            head.extend_from_slice(&len.to_be_bytes());
        }
        Err(_) => {
            head.push(0xff);
            head.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    head.extend_from_slice(&[0; 4]);
    head
}

/// Sends what is refused: Close with this code, and the gateway ends the connection.
#[track_caller]
fn refused(path: &str, bytes: &[u8], code: u16) -> String {
    let server = TestServer::start();
    let mut client = server.raw_open(path);
    client.send(bytes);
    let words = client.expect_close(code);
    assert!(!words.is_empty(), "the words say what was wrong");
    client.expect_end();
    drop(client);
    let reason = if code == 1009 { CloseReason::MessageTooLong } else { CloseReason::ProtocolError };
    server.expect_closes(&[(reason, 1)]);
    words
}

#[test]
fn messages_of_every_length_are_echoed_as_they_came() {
    let server = TestServer::start();
    let mut client = server.raw_open("/echo");
    for len in [0, 1, 125, 126, 127, 65_535, 65_536, 65_537, RECEIVE_BUFFER_BYTES - 14, RECEIVE_BUFFER_BYTES, MIB] {
        for first in [0x82, 0x81] {
            let payload = if first == 0x82 { pattern(len) } else { vec![b'a'; len] };
            client.send(&masked(first, &payload));
            let (got_first, got) = client.read_frame();
            assert!((got_first, &got) == (first, &payload), "a message of {len} bytes");
        }
    }
}

#[test]
fn a_message_of_16_mib_is_echoed_and_one_more_byte_is_1009() {
    let server = TestServer::start();
    let mut client = server.raw_open("/echo");
    let payload = pattern(16 * MIB);
    client.send(&masked(0x82, &payload));
    let (first, got) = client.read_frame();
    assert!(first == 0x82 && got == payload);
    // The length alone is enough; nothing of the message has to come.
    client.send(&long_head(0x82, 16 * MIB + 1));
    let words = client.expect_close(1009);
    assert!(words.contains("16777217") && words.contains("16777216"), "{words}");
    client.expect_end();
}

#[test]
fn each_path_has_its_limit_for_messages_and_for_their_fragments() {
    for (path, limit) in [("/chat", 64 * 1024), ("/topics/limit", MIB), ("/echo", 16 * MIB)] {
        refused(path, &long_head(0x82, limit + 1), 1009);
        // The second fragment is over the limit together with the first.
        let mut bytes = masked(0x02, b"0123456789");
        bytes.extend(long_head(0x80, limit - 9));
        refused(path, &bytes, 1009);
    }
    let server = TestServer::start();
    for (path, limit, answer) in [("/chat", 64 * 1024, &b"good"[..]), ("/topics/limit", MIB, &[b'x'; MIB])] {
        let mut client = server.raw_open(path);
        client.send(&masked(0x81, &vec![b'x'; limit]));
        let (first, got) = client.read_frame();
        assert!(first == 0x81 && got == answer, "exactly the limit on {path}");
    }
}

#[test]
fn the_greeting_answers_text_and_binary_alike() {
    let server = TestServer::start();
    let mut client = server.raw_open("/chat");
    for message in [masked(0x81, b"some message."), masked(0x82, &[0, 255]), masked(0x81, b""), masked(0x82, b"")] {
        client.send(&message);
        client.expect(b"\x81\x04good");
    }
}

#[test]
fn pings_are_answered_with_their_payload_in_order() {
    let server = TestServer::start();
    let mut client = server.raw_open("/echo");
    let longest = pattern(125);
    let mut bytes = masked(0x89, b"");
    bytes.extend(masked(0x81, b"between"));
    bytes.extend(masked(0x89, &longest));
    bytes.extend(masked(0x8a, b"a pong that nobody asked for"));
    bytes.extend(masked(0x89, b"last"));
    client.send(&bytes);
    client.expect(&unmasked(0x8a, b""));
    client.expect(&unmasked(0x81, b"between"));
    client.expect(&unmasked(0x8a, &longest));
    client.expect(&unmasked(0x8a, b"last"));
}

#[test]
fn fragments_are_joined_with_control_frames_between_them() {
    let server = TestServer::start();
    let mut client = server.raw_open("/echo");
    let mut bytes = masked(0x01, "h\u{e9}".as_bytes().split_last().unwrap().1);
    bytes.extend(masked(0x89, b"first"));
    bytes.extend(masked(0x00, &[0xa9]));
    bytes.extend(masked(0x00, b""));
    bytes.extend(masked(0x89, b"second"));
    bytes.extend(masked(0x80, b"llo"));
    client.send(&bytes);
    client.expect(&unmasked(0x8a, b"first"));
    client.expect(&unmasked(0x8a, b"second"));
    client.expect(&unmasked(0x81, "h\u{e9}llo".as_bytes()));
    // Many of one byte, as binary.
    let payload = pattern(1000);
    let mut bytes = masked(0x02, b"");
    for byte in &payload {
        bytes.extend(masked(0x00, &[*byte]));
    }
    bytes.extend(masked(0x80, b""));
    client.send(&bytes);
    client.expect(&unmasked(0x82, &payload));
}

#[test]
fn frames_may_be_split_at_any_byte() {
    let server = TestServer::start();
    let mut client = server.raw_open("/echo");
    let payload = "\u{20ac}".repeat(50);
    let frame = masked(0x81, payload.as_bytes());
    for at in 1..frame.len() {
        let before = server.sum(|stats| &stats.bytes_in);
        client.send(&frame[..at]);
        server
            .wait_until("the first part was read", |server| server.sum(|stats| &stats.bytes_in) == before + at as u64);
        client.send(&frame[at..]);
        client.expect(&unmasked(0x81, payload.as_bytes()));
    }
}

#[test]
fn a_close_is_answered_with_its_code_and_no_reason() {
    let server = TestServer::start();
    let bodies: [(&[u8], &[u8]); 5] = [
        (b"", b""),
        (b"\x03\xe8", b"\x03\xe8"),
        (b"\x03\xe9going", b"\x03\xe9"),
        (b"\x0b\xb8", b"\x0b\xb8"),
        (b"\x13\x87\xe2\x82\xac", b"\x13\x87"),
    ];
    for (body, answer) in bodies {
        let mut client = server.raw_open("/echo");
        // What follows a Close is not read as anything.
        let mut bytes = masked(0x88, body);
        bytes.extend(masked(0x81, b"too late"));
        client.send(&bytes);
        client.expect(&unmasked(0x88, answer));
        client.expect_end();
    }
    server.expect_closes(&[(CloseReason::PeerClosed, 5)]);
    assert_eq!(server.sum(|stats| &stats.messages_in), 0);
}

#[test]
fn answers_that_are_queued_leave_before_the_close() {
    let server = TestServer::start();
    let mut client = server.raw_open("/echo");
    let payload = pattern(300_000);
    let mut bytes = masked(0x82, &payload);
    bytes.extend(masked(0x88, b"\x03\xe8"));
    client.send(&bytes);
    client.end();
    client.expect(&unmasked(0x82, &payload));
    client.expect(b"\x88\x02\x03\xe8");
    client.expect_end();
}

#[test]
fn broken_frames_are_1002() {
    for (bytes, words) in [
        (unmasked(0x81, b"hello"), "not masked"),
        (masked(0xc1, b"x"), "reserved bits"),
        (masked(0xa1, b"x"), "reserved bits"),
        (masked(0x91, b"x"), "reserved bits"),
        (masked(0x83, b"x"), "0x3"),
        (masked(0x8b, b"x"), "0xb"),
        (masked(0x80, b"x"), "continue"),
        (masked(0x00, b"x"), "continue"),
        ([masked(0x01, b"x"), masked(0x81, b"y")].concat(), "continuation was due"),
        (masked(0x09, b"x"), "fragmented"),
        (masked(0x89, &[0; 126]), "126 bytes"),
        (hex("81fe 0005 00000000 6161616161"), "shortest"),
        (hex("81ff 000000000000ffff 00000000"), "shortest"),
        (hex("82ff 8000000000000000 00000000"), "highest bit"),
        (masked(0x88, b"\x03"), "one byte"),
        (masked(0x88, b"\x03\xe7"), "999"),
        (masked(0x88, b"\x03\xed"), "1005"),
        (masked(0x88, b"\x13\x88"), "5000"),
    ] {
        let got = refused("/echo", &bytes, 1002);
        assert!(got.contains(words), "{bytes:x?}: {got}");
    }
}

#[test]
fn invalid_text_is_1007_before_the_message_ends() {
    // A whole frame; a fragment with more to come; a frame whose rest never comes; a
    // character cut by the end of the message; words of a Close.
    refused("/echo", &masked(0x81, b"abc\xff"), 1007);
    refused("/echo", &masked(0x01, b"abc\xff"), 1007);
    refused("/echo", &masked(0x81, b"abc\xff and more that is not sent")[..10], 1007);
    refused("/echo", &[masked(0x01, b"\xe2\x82"), masked(0x80, b"")].concat(), 1007);
    refused("/echo", &[masked(0x01, b"\xe2"), masked(0x00, b"\x28")].concat(), 1007);
    refused("/echo", &masked(0x88, b"\x03\xe8\xff"), 1007);
    refused("/chat", &masked(0x81, b"\xc0\x80"), 1007);
    refused("/topics/text", &masked(0x81, b"\xed\xa0\x80"), 1007);
}

#[test]
fn an_offender_hurts_nobody_else() {
    let server = TestServer::start();
    let mut bystander = server.client("/topics/shared");
    let mut publisher = server.client("/topics/shared?subscribe=off");
    for bytes in [unmasked(0x81, b"x"), masked(0x81, b"\xff"), long_head(0x82, MIB + 1)] {
        let mut offender = server.raw_open("/topics/shared");
        offender.send(&bytes);
        let (first, _) = offender.read_frame();
        assert_eq!(first, 0x88);
        offender.expect_end();
    }
    publisher.send("still here");
    assert_eq!(bystander.receive_text(), "still here");
    assert_eq!(server.sum(|stats| &stats.subscriptions), 1);
}

#[test]
fn a_peer_that_vanishes_frees_its_slot_and_its_subscription() {
    let server = TestServer::start();
    let vanish: [fn(RawClient); 4] = [
        |client| client.reset(),
        |client| drop(client),
        // In the middle of a frame.
        |mut client| {
            client.send(&long_head(0x82, 1000));
            client.reset();
        },
        // Half: the gateway ends its side too.
        |mut client| {
            client.end();
            client.expect_end();
        },
    ];
    for vanish in vanish {
        let client = server.raw_open("/topics/room");
        assert_eq!(server.sum(|stats| &stats.subscriptions), 1);
        vanish(client);
        server.wait_until("the subscription is gone", |server| server.sum(|stats| &stats.subscriptions) == 0);
    }
    // Before and inside a request.
    drop(server.raw());
    let mut client = server.raw();
    client.send(b"GET /echo HT");
    client.reset();
    server.expect_closes(&[(CloseReason::PeerVanished, 6)]);
}

/// Sends messages without reading the answers until neither side moves; how many
/// bytes were sent. The queue of the gateway is within its bound all the time.
fn send_until_stuck(server: &TestServer, client: &mut RawClient, bytes: &[u8], bound: u64) -> usize {
    client.0.set_nonblocking(true).unwrap();
    let mut sent = 0;
    let mut unmoved = 0;
    let mut seen = 0;
    // Neither side has moved in so many looks at both.
    while unmoved < 20_000 {
        let queued = server.sum(|stats| &stats.queue_bytes);
        assert!(queued <= bound, "{queued} bytes are queued, {bound} may be");
        let read = server.sum(|stats| &stats.bytes_in);
        unmoved += 1;
        if read != seen {
            (seen, unmoved) = (read, 0);
        }
        match client.0.write(&bytes[sent..]) {
            Ok(n) => {
                (sent, unmoved) = (sent + n, 0);
                assert!(sent < bytes.len(), "the gateway read everything from a peer that read nothing");
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
    client.0.set_nonblocking(false).unwrap();
    sent
}

#[test]
fn a_client_that_does_not_read_its_answers_is_not_read_either() {
    const MESSAGES: usize = 64 * 1024;
    let server = TestServer::start();
    let mut client = server.raw_open("/echo");
    let payload = |n: usize| {
        let mut payload = vec![b'.'; 1000];
        payload[..8].copy_from_slice(&(n as u64).to_be_bytes());
        payload
    };
    // Each frame is the first one with its number put in; masking is an exclusive or.
    let first = masked(0x82, &payload(0));
    let mut bytes = first.repeat(MESSAGES);
    for (n, frame) in bytes.chunks_mut(first.len()).enumerate() {
        frame[8..16].iter_mut().zip((n as u64).to_be_bytes()).for_each(|(byte, digit)| *byte ^= digit);
    }
    // Answers up to the watermark, and those to one buffer full that was read then.
    let watermark = wsgate::config::Config::default().limits.reply_bytes_watermark;
    let bound = (watermark + RECEIVE_BUFFER_BYTES + 1004) as u64;
    let sent = send_until_stuck(&server, &mut client, &bytes, bound);
    assert!(server.sum(|stats| &stats.queue_bytes) > watermark as u64, "it was the watermark that stopped it");
    // Another connection of the same shards goes on.
    let mut other = server.raw_open("/echo");
    other.send(&masked(0x81, b"me too"));
    other.expect(&unmasked(0x81, b"me too"));
    // Once the client reads, everything comes.
    let mut writer = client.0.try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || writer.write_all(&bytes[sent..]).unwrap());
        for n in 0..MESSAGES {
            let (first, got) = client.read_frame();
            assert!(first == 0x82 && got == payload(n), "answer {n}");
        }
    });
    server.wait_until("nothing is queued", |server| server.sum(|stats| &stats.queue_bytes) == 0);
}

#[test]
fn a_client_that_vanishes_with_answers_waiting_frees_its_slot() {
    let server = TestServer::start();
    let mut client = server.raw_open("/echo");
    let bytes: Vec<u8> = masked(0x82, &pattern(1000)).repeat(64 * 1024);
    send_until_stuck(&server, &mut client, &bytes, u64::MAX);
    client.reset();
    server.expect_closes(&[(CloseReason::PeerVanished, 1)]);
}

#[test]
fn a_client_that_nobody_here_wrote_talks_to_every_path() {
    let server = TestServer::start();
    let mut echo = server.client("/echo");
    for message in [Message::text("h\u{e9}llo"), Message::binary(pattern(70_000)), Message::text("")] {
        echo.send(message.clone());
        assert_eq!(echo.receive(), message);
    }
    echo.0.send(Message::Ping(vec![1, 2].into())).unwrap();
    assert_eq!(echo.0.read().unwrap(), Message::Pong(vec![1, 2].into()));
    let frame = CloseFrame { code: CloseCode::from(3004), reason: "done".into() };
    echo.0.close(Some(frame)).unwrap();
    let answer = CloseFrame { code: CloseCode::from(3004), reason: "".into() };
    assert_eq!(echo.0.read().unwrap(), Close(Some(answer)));
    assert!(matches!(echo.0.read(), Err(tungstenite::Error::ConnectionClosed)));

    let mut greeting = server.client("/chat");
    greeting.send("some message.");
    assert_eq!(greeting.receive(), Message::text("good"));

    let mut topic = server.client("/topics/room");
    topic.send(Message::binary(vec![0]));
    assert_eq!(topic.receive(), Message::binary(vec![0]));
    drop((echo, greeting, topic));
    server.expect_closes(&[(CloseReason::PeerClosed, 1), (CloseReason::PeerVanished, 2)]);
}
