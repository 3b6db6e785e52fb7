//! permessage-deflate on the wire, against an implementation of DEFLATE that nobody here
//! uses otherwise (miniz_oxide).
//!
//! What iOS clients do with it is in `ios_clients.rs`; clients of other kinds are called
//! by `scripts/clients`, and the conformance suite has two groups for it.
#![allow(missing_docs, clippy::disallowed_methods)]

mod common;

use common::{RawClient, TestServer, masked};
use miniz_oxide::deflate::core::CompressorOxide;
use miniz_oxide::inflate::stream::{InflateState, MinReset};
use miniz_oxide::{DataFormat, MZFlush};
use proptest::prelude::*;
use wsgate::config::Config;
use wsgate::policy::TopicPolicies;
use wsgate::stats::CloseReason;

/// Context takeover of the server and of the client.
const BOTH: (bool, bool) = (true, true);
/// What browsers offer.
const OFFER: &str = "permessage-deflate; client_max_window_bits";
const KIB: usize = 1024;

fn gateway(change: impl FnOnce(&mut Config)) -> TestServer {
    TestServer::with(|config| {
        config.compression.enabled = true;
        config.compression.message_bytes_min = 64;
        change(config);
    })
}

fn keep(config: &mut Config, (server, client): (bool, bool)) {
    config.compression.server_context_takeover = server;
    config.compression.client_context_takeover = client;
}

fn keep_both(config: &mut Config) {
    keep(config, BOTH);
}

/// A client that compresses what it sends, and inflates what is compressed.
struct Peer {
    raw: RawClient,
    /// The value of the answer's header; empty without one.
    agreed: String,
    deflater: Box<CompressorOxide>,
    inflater: Box<InflateState>,
}

impl Peer {
    fn connect(server: &TestServer, path: &str, offer: &str) -> Self {
        let mut raw = server.raw();
        raw.send(&request(path, offer));
        let head = raw.read_head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        let agreed = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Extensions: "));
        let mut deflater = Box::<CompressorOxide>::default();
        deflater.set_format_and_level(DataFormat::Raw, 6);
        let inflater = InflateState::new_boxed(DataFormat::Raw);
        Self { raw, agreed: agreed.unwrap_or_default().to_owned(), deflater, inflater }
    }

    fn agreed_on(&self, parameter: &str) -> bool {
        self.agreed.split("; ").any(|part| part == parameter)
    }

    /// A message as it goes into frames.
    fn deflate(&mut self, message: &[u8]) -> Vec<u8> {
        if self.agreed_on("client_no_context_takeover") {
            self.deflater.reset();
        }
        let mut out = vec![0; message.len() + message.len() / 8 + 100];
        let done = miniz_oxide::deflate::stream::deflate(&mut self.deflater, message, &mut out, MZFlush::Sync);
        assert_eq!(done.bytes_consumed, message.len());
        out.truncate(done.bytes_written);
        assert!(out.ends_with(&[0, 0, 0xff, 0xff]));
        out.truncate(out.len() - 4);
        out
    }

    /// Sends a message, compressed if that was agreed on.
    fn send(&mut self, kind: u8, message: &[u8]) {
        if self.agreed.is_empty() {
            return self.raw.send(&masked(0x80 | kind, message));
        }
        let payload = self.deflate(message);
        self.raw.send(&masked(0xc0 | kind, &payload));
    }

    /// The next message: kind, payload, and whether it was compressed.
    #[track_caller]
    fn receive(&mut self) -> (u8, Vec<u8>, bool) {
        let (first, payload) = self.raw.read_frame();
        assert_eq!(first & 0xb0, 0x80, "whole messages, with no bit that means nothing: {first:#x} {payload:?}");
        let compressed = first & 0x40 != 0;
        let message = if compressed { self.inflate(&payload) } else { payload };
        (first & 0xf, message, compressed)
    }

    #[track_caller]
    fn inflate(&mut self, payload: &[u8]) -> Vec<u8> {
        if self.agreed_on("server_no_context_takeover") {
            self.inflater.reset_as(MinReset);
        }
        let mut input = [payload, &[0, 0, 0xff, 0xff]].concat();
        let mut message = Vec::new();
        let mut out = vec![0; 64 * KIB];
        loop {
            let done = miniz_oxide::inflate::stream::inflate(&mut self.inflater, &input, &mut out, MZFlush::Sync);
            message.extend_from_slice(&out[..done.bytes_written]);
            input.drain(..done.bytes_consumed);
            if input.is_empty() && done.bytes_written < out.len() {
                return message;
            }
            assert!(done.bytes_consumed + done.bytes_written > 0, "stuck: {:?}", done.status);
        }
    }
}

fn request(path: &str, offer: &str) -> Vec<u8> {
    let offer = if offer.is_empty() { String::new() } else { format!("Sec-WebSocket-Extensions: {offer}\r\n") };
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{offer}\r\n"
    )
    .into_bytes()
}

/// A text that compresses to about a third.
fn text(n: usize, len: usize) -> Vec<u8> {
    let words = (n..).flat_map(|n| format!("{{\"price\":{},\"n\":{n}}} ", n * 7919 % 10_007).into_bytes());
    words.take(len).collect()
}

/// Bytes that do not compress, different for each `n`.
fn noise(n: usize, len: usize) -> Vec<u8> {
    let mut state = n as u64 ^ 0x9e37_79b9_7f4a_7c15;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

#[test]
fn compression_is_off_unless_switched_on() {
    let server = TestServer::start();
    assert_eq!(Peer::connect(&server, "/echo", OFFER).agreed, "");
}

#[test]
fn a_malformed_offer_is_400_and_an_unknown_one_is_declined() {
    let server = gateway(|_| ());
    let mut raw = server.raw();
    raw.send(&request("/echo", "permessage-deflate;;"));
    assert_eq!(raw.read_response().status, 400);
    assert_eq!(Peer::connect(&server, "/echo", "permessage-bzip2").agreed, "");
    assert_eq!(Peer::connect(&server, "/echo", "").agreed, "");
}

#[test]
fn messages_are_echoed_whole_with_every_agreement() {
    let server = gateway(keep_both);
    let mut offers = vec![OFFER.to_owned(), "permessage-deflate; unknown, permessage-deflate".to_owned()];
    for bits in 8..=15 {
        offers.push(format!("{OFFER}; server_max_window_bits={bits}"));
        offers.push(format!("permessage-deflate; server_no_context_takeover; server_max_window_bits={bits}"));
    }
    offers.push("permessage-deflate; client_no_context_takeover".to_owned());
    for offer in offers {
        let mut peer = Peer::connect(&server, "/echo", &offer);
        assert!(!peer.agreed.is_empty(), "{offer}");
        for n in 0..5 {
            let messages = [text(n, 1), text(n, 63), text(n, 100), text(n, 100 * KIB), noise(n, 5 * KIB), vec![]];
            for message in messages {
                peer.send(2, &message);
                let (kind, echoed, compressed) = peer.receive();
                assert!((kind, &echoed) == (2, &message), "{offer}: {} bytes", message.len());
                // Short ones are not, nor is anything for a window that zlib cannot do.
                assert!(!compressed || (message.len() >= 64 && !offer.ends_with("bits=8")), "{offer}");
                assert!(compressed || message.len() < 100 * KIB || offer.ends_with("bits=8"), "{offer}");
                // Clients hold a frame to their limit for messages, so none may grow.
                assert!(!compressed || message != noise(n, 5 * KIB), "{offer}");
            }
        }
    }
}

#[test]
fn a_window_that_is_kept_makes_the_second_message_small() {
    let frame_len = |takeover, offer| {
        let server = gateway(|config| keep(config, takeover));
        let mut peer = Peer::connect(&server, "/echo", offer);
        let message = text(1, KIB);
        for _ in 0..2 {
            peer.send(2, &message);
            let (_, payload) = peer.raw.read_frame();
            if payload != message {
                assert_eq!(peer.inflate(&payload), message);
            }
            let len = payload.len();
            if len < 40 {
                return (len, peer.agreed);
            }
        }
        (KIB, peer.agreed)
    };
    assert!(frame_len(BOTH, OFFER).0 < 40);
    assert_eq!(frame_len(BOTH, "permessage-deflate; server_no_context_takeover").0, KIB);
    let (len, agreed) = frame_len((false, false), OFFER);
    assert_eq!(len, KIB);
    assert!(agreed.contains("server_no_context_takeover; client_no_context_takeover"), "{agreed}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whatever the messages, their fragments, and where the bytes are cut on the way.
    #[test]
    fn messages_come_back_whatever_their_fragments_and_splits(
        takeover in (any::<bool>(), any::<bool>()),
        messages in proptest::collection::vec((0usize..3000, any::<bool>(), any::<bool>(), 1usize..800), 1..12),
        splits in proptest::collection::vec(1usize..2000, 1..20),
    ) {
        let (server, client) = takeover;
        let gateway = gateway(|config| keep(config, (server, client)));
        let mut peer = Peer::connect(&gateway, "/echo", OFFER);
        let mut bytes = Vec::new();
        for (n, (len, random, compressed, fragment)) in messages.iter().enumerate() {
            let message = if *random { noise(n, *len) } else { text(n, *len) };
            let payload = if *compressed { peer.deflate(&message) } else { message };
            let mut parts = payload.chunks(*fragment).peekable();
            if parts.peek().is_none() {
                bytes.extend(masked(0x82, b""));
            }
            for (at, part) in payload.chunks(*fragment).enumerate() {
                let last = (at + 1) * fragment >= payload.len();
                let first = if at == 0 { 0x02 | u8::from(*compressed) << 6 } else { 0 };
                bytes.extend(masked(first | u8::from(last) << 7, part));
                if !last {
                    bytes.extend(masked(0x89, b"between"));
                }
            }
        }
        let (mut rest, mut sizes) = (&bytes[..], splits.iter().cycle());
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
            peer.raw.send(piece);
            rest = behind;
        }
        for (n, (len, random, ..)) in messages.iter().enumerate() {
            let message = if *random { noise(n, *len) } else { text(n, *len) };
            let (mut kind, mut echoed) = (0xa, vec![]);
            while kind == 0xa {
                (kind, echoed, _) = peer.receive();
            }
            prop_assert!(echoed == message, "message {} of {} bytes", n, len);
        }
    }
}

/// Subscribers of all kinds.
fn subscribers(server: &TestServer, path: &str, each: usize) -> Vec<Peer> {
    let offers =
        ["", OFFER, "permessage-deflate; server_max_window_bits=10", "permessage-deflate; server_max_window_bits=15"];
    let offers = offers.iter().cycle().take(4 * each);
    offers.map(|offer| Peer::connect(server, path, offer)).collect()
}

fn takes_shared(peer: &Peer) -> bool {
    !peer.agreed.is_empty() && !peer.agreed.contains("server_max_window_bits=10")
}

#[test]
fn a_message_is_compressed_once_for_all_who_take_it_and_whole_for_everybody() {
    let server = gateway(|config| {
        config.shards = 1;
        // Replies might have contexts; what is published never does.
        keep_both(config);
    });
    let mut peers = subscribers(&server, "/topics/room", 3);
    assert!(peers.iter().all(|peer| peer.agreed.is_empty() || peer.agreed_on("server_no_context_takeover")));
    let mut sender = Peer::connect(&server, "/topics/room?subscribe=off", OFFER);
    let messages: Vec<_> = (0..20).map(|n| if n % 3 == 0 { text(n, 20) } else { text(n, 200 * n) }).collect();
    for (n, message) in messages.iter().enumerate() {
        match n % 2 {
            0 => sender.send(1, message),
            _ => assert_eq!(server.publish("room", "text/plain", message).0, 200),
        }
        for peer in &mut peers {
            let (kind, received, compressed) = peer.receive();
            assert!((kind, &received) == (1, message), "message {n} for {:?}", peer.agreed);
            assert_eq!(compressed, takes_shared(peer) && message.len() >= 64, "message {n} for {:?}", peer.agreed);
        }
    }
    let long = messages.iter().filter(|message| message.len() >= 64).count() as u64;
    assert_eq!(server.sum(|stats| &stats.deflated), long, "once, for six of them");
    assert_eq!(server.sum(|stats| &stats.inflated), 10);
    assert!(server.sum(|stats| &stats.saved_bytes_in) > 5 * KIB as u64);
    let published: u64 =
        messages.iter().filter(|message| message.len() >= 64).map(|message| message.len() as u64).sum();
    let saved = server.sum(|stats| &stats.saved_bytes_out);
    assert!((3 * published..6 * published).contains(&saved), "{saved} of 6 x {published}");
}

#[test]
fn nothing_is_compressed_where_nobody_takes_it() {
    let server = gateway(|_| ());
    let mut plain = Peer::connect(&server, "/topics/room", "");
    let mut other_window = Peer::connect(&server, "/topics/room", "permessage-deflate; server_max_window_bits=14");
    server.publish("room", "text/plain", &text(0, KIB));
    assert_eq!(plain.receive(), (1, text(0, KIB), false));
    assert_eq!(other_window.receive(), (1, text(0, KIB), false));
    assert_eq!(server.sum(|stats| &stats.deflated), 0);
    assert_eq!(server.sum(|stats| &stats.compression_memory_bytes), 0);
}

#[test]
fn who_leaves_its_own_messages_out_gets_the_others_compressed_or_not() {
    let server = gateway(|_| ());
    let mut speakers = subscribers(&server, "/topics/room?echo=off", 2);
    for n in 0..speakers.len() {
        speakers[n].send(2, &text(n, 500));
        for (other, speaker) in speakers.iter_mut().enumerate() {
            if other != n {
                assert_eq!(speaker.receive(), (2, text(n, 500), takes_shared(speaker)), "{n} to {other}");
            }
        }
    }
    server.publish("room", "text/plain", b"the last");
    for speaker in &mut speakers {
        assert_eq!(speaker.receive().1, b"the last");
    }
}

#[test]
fn subscribers_on_all_shards_come_and_go_in_both_forms() {
    let server = gateway(|config| config.shards = 3);
    let mut peers = subscribers(&server, "/topics/room", 4);
    for n in 0..60 {
        let message = text(n, 100 + 10 * n);
        assert_eq!(server.publish("room", "application/octet-stream", &message).0, 200);
        for peer in &mut peers {
            assert_eq!(peer.receive().1, message);
        }
        peers.swap_remove(n * 7 % peers.len());
        let offer = if n % 2 == 0 { OFFER } else { "" };
        peers.push(Peer::connect(&server, "/topics/room", offer));
    }
}

/// A subscriber whose kernel takes little, with compression.
fn small_subscriber(server: &TestServer, path: &str) -> Peer {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4096).expect("an option of every socket");
    socket.connect(&server.clients.into()).expect("the gateway accepts");
    let mut raw = RawClient::new(socket.into());
    raw.send(&request(path, OFFER));
    let head = raw.read_head();
    assert!(head.contains("Sec-WebSocket-Extensions: permessage-deflate"), "{head}");
    let inflater = InflateState::new_boxed(DataFormat::Raw);
    let agreed = "permessage-deflate; server_no_context_takeover".to_owned();
    Peer { raw, agreed, deflater: Box::default(), inflater }
}

/// What a slow subscriber with compression got: numbers of messages, and gaps.
fn read_until(peer: &mut Peer, last: u64) -> (Vec<u64>, u64) {
    let (mut numbers, mut lost) = (Vec::new(), 0);
    loop {
        let (kind, payload, compressed) = peer.receive();
        match kind {
            2 => {
                assert!(compressed);
                let number = u64::from_be_bytes(*payload.first_chunk().unwrap());
                assert_eq!(payload, numbered(number), "message {number} is whole");
                numbers.push(number);
                if number == last {
                    return (numbers, lost);
                }
            }
            1 => {
                assert!(!compressed, "a marker is short");
                let marker = String::from_utf8(payload).unwrap();
                let gap = marker.strip_prefix("{\"gap\":").and_then(|rest| rest.strip_suffix('}'));
                lost += gap.and_then(|gap| gap.parse::<u64>().ok()).unwrap_or_else(|| panic!("{marker}"));
            }
            8 => {
                assert_eq!(payload[..2], 4008u16.to_be_bytes());
                return (numbers, lost);
            }
            other => panic!("opcode {other}"),
        }
    }
}

/// A message that compresses to a half.
fn numbered(n: u64) -> Vec<u8> {
    let noise = noise(n as usize, 4 * KIB);
    [&n.to_be_bytes()[..], &noise, &noise].concat()
}

/// Publishes to subscribers of both forms that do not read, until a condition holds.
fn publish_until(server: &TestServer, topic: &str, condition: impl Fn() -> bool) -> u64 {
    let mut witness = Peer::connect(server, &format!("/topics/{topic}"), OFFER);
    for n in 0..4096 {
        assert_eq!(server.publish(topic, "application/octet-stream", &numbered(n)).0, 200);
        assert_eq!(witness.receive(), (2, numbered(n), true));
        if condition() {
            return n;
        }
    }
    panic!("4096 messages, and not yet");
}

fn slow_gateway() -> TestServer {
    gateway(|config| {
        config.shards = 1;
        config.limits.queue_bytes_max = 64 * KIB;
        config.limits.kernel_unsent_bytes = 16 * KIB;
        config.timeouts.close = common::PATIENCE;
        let rules = ["gaps = drop_oldest", "latest = latest_only"];
        let rules = rules.iter().map(|rule| TopicPolicies::parse_rule(rule).expect("a rule"));
        config.slow_consumers = TopicPolicies::new(rules.collect());
    })
}

#[test]
fn a_slow_subscriber_with_compression_is_closed_with_4008() {
    let server = slow_gateway();
    let mut slow = small_subscriber(&server, "/topics/room");
    let last = publish_until(&server, "room", || server.sum(|stats| &stats.subscriptions) == 1);
    let (numbers, _) = read_until(&mut slow, u64::MAX);
    assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>());
    assert!((numbers.len() as u64) <= last);
}

#[test]
fn a_slow_subscriber_with_compression_is_told_its_gaps() {
    let server = slow_gateway();
    let mut slow = small_subscriber(&server, "/topics/gaps?gaps=on");
    let last = publish_until(&server, "gaps", || server.sum(|stats| &stats.dropped) > 100);
    let (numbers, lost) = read_until(&mut slow, last);
    assert!(numbers.is_sorted() && lost > 100);
    assert_eq!(numbers.len() as u64 + lost, last + 1, "each message came or was counted");
    assert_eq!(server.sum(|stats| &stats.dropped), lost);
}

#[test]
fn a_slow_subscriber_with_compression_gets_the_newest() {
    let server = slow_gateway();
    let mut slow = small_subscriber(&server, "/topics/latest");
    let last = publish_until(&server, "latest", || server.sum(|stats| &stats.conflated) > 100);
    let (numbers, lost) = read_until(&mut slow, last);
    assert!(numbers.is_sorted() && lost == 0);
    assert_eq!(numbers.len() as u64 + server.sum(|stats| &stats.conflated), last + 1);
}

/// A message of zeros, compressed.
fn bomb(len: usize) -> Vec<u8> {
    let mut deflater = CompressorOxide::default();
    deflater.set_format_and_level(DataFormat::Raw, 9);
    let mut out = vec![0; len / 500 + 100];
    let done = miniz_oxide::deflate::stream::deflate(&mut deflater, &vec![0; len], &mut out, MZFlush::Sync);
    assert_eq!(done.bytes_consumed, len);
    out.truncate(done.bytes_written - 4);
    out
}

#[test]
fn a_bomb_is_cut_at_the_limit_with_1009() {
    let server = gateway(keep_both);
    let bomb = bomb(256 << 20);
    assert!(bomb.len() < 300 * KIB);
    for (path, limit) in [("/topics/room", 1 << 20), ("/chat", 64 * KIB)] {
        let mut peer = Peer::connect(&server, path, OFFER);
        peer.raw.send(&masked(0xc2, if path == "/chat" { &bomb[..60 * KIB] } else { &bomb }));
        let words = peer.raw.expect_close(1009);
        assert!(words.contains(&limit.to_string()), "{words}");
        peer.raw.expect_end();
    }
    server.expect_closes(&[(CloseReason::MessageTooLong, 2)]);
    assert_eq!(server.sum(|stats| &stats.bombs_cut), 2);
    // What is left is a context for all, and no buffer of the size of a message.
    let memory = server.sum(|stats| &stats.compression_memory_bytes);
    assert!(memory < 2 * 400 * KIB as u64, "{memory}");
}

#[test]
fn messages_up_to_the_limit_pass_though_they_are_longer_on_the_wire() {
    let server = gateway(|config| config.limits.plain_message_bytes_max = 10 * KIB);
    let mut peer = Peer::connect(&server, "/topics/room", OFFER);
    let message = noise(0, 10 * KIB);
    let payload = peer.deflate(&message);
    assert!(payload.len() > message.len());
    peer.raw.send(&masked(0xc2, &payload));
    assert_eq!(peer.receive().1, message);
    // An announced length that no message can have is refused before it comes.
    let mut head = masked(0xc2, &vec![0; 12 * KIB]);
    head.truncate(8);
    peer.raw.send(&head);
    peer.raw.expect_close(1009);
}

#[track_caller]
fn refused(offer: &str, bytes: &[u8], code: u16) -> String {
    let server = gateway(|_| ());
    let mut peer = Peer::connect(&server, "/echo", offer);
    peer.raw.send(bytes);
    let words = peer.raw.expect_close(code);
    peer.raw.expect_end();
    drop(peer);
    server.expect_closes(&[(CloseReason::ProtocolError, 1)]);
    words
}

#[test]
fn the_bit_of_compression_stands_on_the_first_frame_of_a_message_alone() {
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    for (frames, what) in [
        (masked(0xc9, b""), "a ping"),
        (masked(0xca, &hello), "a pong"),
        (masked(0xc8, b""), "a close"),
        ([masked(0x41, &hello[..3]), masked(0xc0, &hello[3..])].concat(), "a continuation"),
        ([masked(0x01, b"a"), masked(0xc0, b"b")].concat(), "a continuation of a plain message"),
        (masked(0xe1, &hello), "another bit"),
        (masked(0xd1, &hello), "another bit"),
        (masked(0xa1, b"a"), "another bit alone"),
    ] {
        let words = refused(OFFER, &frames, 1002);
        assert!(words.contains("reserved bits"), "{what}: {words}");
        // And where it comes in two reads.
        refused(OFFER, &[frames, vec![0x89]].concat(), 1002);
    }
    assert!(refused("", &masked(0xc1, &hello), 1002).contains("reserved bits"));
}

#[test]
fn what_cannot_be_inflated_is_1007() {
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    for (payload, what) in [
        (&hello[..4], "it is cut"),
        (b"no deflate data", "it is nothing"),
        (&[0xff; 30], "an impossible block"),
        (&[0xf2, 0x00, 0x11, 0x00, 0x00], "a reference to nothing"),
    ] {
        let words = refused(OFFER, &masked(0xc1, payload), 1007);
        assert!(words.contains("cannot be inflated"), "{what}: {words}");
    }
}

#[test]
fn text_is_checked_when_it_is_inflated() {
    let mut deflater = Peer::connect(&gateway(|_| ()), "/echo", OFFER);
    let invalid = deflater.deflate(b"caf\xe9");
    assert!(refused(OFFER, &masked(0xc1, &invalid), 1007).contains("UTF-8"));
    let server = gateway(|_| ());
    let mut peer = Peer::connect(&server, "/echo", OFFER);
    peer.send(2, b"caf\xe9");
    assert_eq!(peer.receive().1, b"caf\xe9", "binary may be anything");
    // Compressed, it is text only by chance.
    peer.send(1, "漢字 😀".as_bytes());
    assert_eq!(peer.receive(), (1, "漢字 😀".into(), false));
}

#[test]
fn contexts_are_counted_bounded_and_given_back() {
    let server = gateway(|config| {
        config.shards = 1;
        keep_both(config);
        config.compression.context_bytes_max = 800 * KIB;
    });
    let memory = || server.sum(|stats| &stats.compression_memory_bytes);
    let mut peers: Vec<_> = (0..4).map(|_| Peer::connect(&server, "/echo", OFFER)).collect();
    let granted: Vec<_> = peers.iter().map(|peer| !peer.agreed_on("server_no_context_takeover")).collect();
    assert_eq!(granted, [true, true, false, false]);
    let none = format!("{OFFER}; server_no_context_takeover; client_no_context_takeover");
    Peer::connect(&server, "/echo", &none);
    assert_eq!(server.scraped("contexts_refused", ""), 3, "the second one's client keeps none");
    assert_eq!(memory(), 0, "an idle connection holds nothing");
    for peer in &mut peers {
        for n in 0..3 {
            peer.send(1, &text(n, 50 * KIB));
            assert_eq!(peer.receive(), (1, text(n, 50 * KIB), true));
        }
    }
    server.wait_until("it is counted", |_| memory() > 3 * 300 * KIB as u64);
    let before = memory();
    assert!(before < 1700 * KIB as u64, "{before}");
    peers.drain(..2);
    server.wait_until("two contexts are gone", |_| memory() < before - 600 * KIB as u64);
    let again = Peer::connect(&server, "/echo", OFFER);
    assert!(!again.agreed_on("server_no_context_takeover"), "there is memory again");
    assert_eq!(server.scraped("contexts_refused", ""), 3);
}

/// What one read brings has more answers than may wait.
#[test]
fn a_read_is_worked_on_in_parts_when_its_answers_pile_up_and_that_is_counted() {
    const MESSAGES: usize = 10;
    let server = gateway(|config| config.limits.reply_bytes_watermark = KIB);
    let mut peer = Peer::connect(&server, "/echo", OFFER);
    let frames: Vec<u8> = (0..MESSAGES)
        .flat_map(|n| {
            let payload = peer.deflate(&noise(n, 2 * KIB));
            masked(0xc2, &payload)
        })
        .collect();
    assert_eq!(server.scraped("reading_pauses", ""), 0);
    // Unless the network hands each message over alone.
    for _ in 0..100 {
        peer.raw.send(&frames);
        for n in 0..MESSAGES {
            assert_eq!(peer.receive().1, noise(n, 2 * KIB));
        }
        if server.scraped("reading_pauses", "") > 0 {
            return;
        }
    }
    panic!("reading never paused");
}

#[test]
fn a_compressed_message_that_stalls_holds_what_was_sent_and_no_more() {
    let server = gateway(|config| config.shards = 1);
    let bomb = bomb(900 * KIB);
    let mut stalled: Vec<_> = (0..50).map(|_| Peer::connect(&server, "/topics/room", OFFER)).collect();
    let before = server.sum(|stats| &stats.bytes_in);
    for peer in &mut stalled {
        let frame = masked(0xc2, &bomb);
        peer.raw.send(&frame[..frame.len() - 1]);
    }
    let sent = 50 * (masked(0xc2, &bomb).len() as u64 - 1);
    server.wait_until("all is read", |server| server.sum(|stats| &stats.bytes_in) == before + sent);
    assert_eq!(server.sum(|stats| &stats.compression_memory_bytes), 0, "nothing was inflated");
}
