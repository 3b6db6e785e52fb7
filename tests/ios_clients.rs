//! What iOS client libraries put on the wire, replayed: Starscream 4, SocketRocket
//! and SwiftWebSocket, with their headers, masks, close codes and habits at the end.
//!
//! V1 to V26 are the numbers of the project's collection of replay vectors. Not here:
//!
//! * V11: no dialect speaks first yet; the length of the head is checked in V1
//! * V12: needs TLS; it is in `tls.rs`, plain requests where TLS is spoken
//! * V13, first half: needs a path with a subprotocol
//! * V27 to V31 (Socket.IO) and V32 to V37 (raw TCP): dialects to come
//!
//! Where a vector says `S>`, the bytes are compared as they are. Closes that the
//! gateway begins have the codes that it has reasons for: 1001, 1008 and 4008.
#![allow(missing_docs)]

mod common;

use std::time::Duration;

use common::{RawClient, Response, TestServer, hex, unmasked};
use sha1::{Digest, Sha1};
use wsgate::config::Config;
use wsgate::proto::deflate::Deflater;
use wsgate::proto::inflate::Inflater;
use wsgate::stats::CloseReason;

/// V1: what Starscream 4.0.0 sends for the demo, its headers in one of their orders.
const STARSCREAM: [&str; 11] = [
    "GET /chat HTTP/1.1",
    "Host: 127.0.0.1:8000",
    "Origin: ws://127.0.0.1:8000",
    "Qi-WebSocket-Header: some message",
    "Qi-WebSocket-Protocol: some message",
    "Qi-WebSocket-Protocol-2: some message",
    "Qi-WebSocket-Version: 0.0.1",
    "Sec-WebSocket-Version: 13",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Key: aGFjb2hlYW9rd2JtdmV5eA==",
];
const STARSCREAM_ACCEPT: &str = "NO+pj7z0cvnNj//mlwRuAnCYqCE=";

/// V2: Starscream 4.0.8 with a cookie, a query and an offer to compress.
const STARSCREAM_OFFER: [&str; 9] = [
    "GET /chat?room=1 HTTP/1.1",
    "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits; server_max_window_bits=15",
    "Sec-WebSocket-Key: YWJjZGVmZ2hpamtsbW5vcA==",
    "Cookie: sid=abc; theme=dark",
    "Upgrade: websocket",
    "Host: gw.example:443",
    "Sec-WebSocket-Version: 13",
    "Origin: wss://gw.example",
    "Connection: Upgrade",
];
const STARSCREAM_OFFER_ACCEPT: &str = "en5EY9fYIrPHGucGLD6Dk/EXON4=";

/// V13 without its subprotocols, to a path that has none.
const SOCKETROCKET: [&str; 8] = [
    "GET /echo?v=1 HTTP/1.1",
    "Host: gw.example:8080",
    "Cookie: sid=abc",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Key: AAECAwQFBgcICQoLDA0ODw==",
    "Sec-WebSocket-Version: 13",
    "Origin: http://gw.example:8080",
];
const SOCKETROCKET_ACCEPT: &str = "Bz3qJYTGdOe8gUSpLosEdiLKDrk=";

/// V21: the key last, the whole URL as origin.
const SWIFTWEBSOCKET: [&str; 9] = [
    "GET /chat?room=1 HTTP/1.1",
    "Sec-WebSocket-Protocol: chat,superchat",
    "Origin: ws://gw.example:8000/chat?room=1",
    "User-Agent: SwiftWebSocket",
    "Upgrade: websocket",
    "Host: gw.example:8000",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: 8PHy8/T19vf4+fr7/P3+/w==",
];
const SWIFTWEBSOCKET_ACCEPT: &str = "o1HBjBrgy9KLkiDEDur3dyqqLEs=";

/// The three requests as they come, each with the key that answers it.
const EACH: [(&[&str], &str); 3] =
    [(&STARSCREAM, STARSCREAM_ACCEPT), (&SOCKETROCKET, SOCKETROCKET_ACCEPT), (&SWIFTWEBSOCKET, SWIFTWEBSOCKET_ACCEPT)];

/// A gateway that answers for the host of the vectors.
fn gateway() -> TestServer {
    gateway_with(|_| ())
}

fn gateway_with(change: impl FnOnce(&mut Config)) -> TestServer {
    TestServer::with(|config| {
        config.security.allowed_hosts = vec!["gw.example".to_owned()];
        change(config);
    })
}

fn head(lines: &[&str]) -> Vec<u8> {
    (lines.join("\r\n") + "\r\n\r\n").into_bytes()
}

/// The lines with one of them replaced, which is found by its beginning.
fn with<'a>(lines: &[&'a str], beginning: &str, by: &'a str) -> Vec<&'a str> {
    assert!(lines.iter().any(|line| line.starts_with(beginning)), "{beginning}");
    lines.iter().map(|line| if line.starts_with(beginning) { by } else { line }).collect()
}

/// Reads a 101 with this key, and checks what all of these clients are sensitive to. What
/// it says about extensions.
#[track_caller]
fn expect_101_with(client: &mut RawClient, accept: &str) -> String {
    let head = client.read_head();
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    for line in ["Upgrade: websocket", "Connection: Upgrade", &format!("Sec-WebSocket-Accept: {accept}")] {
        assert!(head.contains(&format!("\r\n{line}\r\n")), "{line} is not in {head}");
    }
    // None was served, so none is named: neither in full nor empty.
    assert!(!head.to_ascii_lowercase().contains("sec-websocket-protocol"), "{head}");
    assert!(head.len() < 4096, "Starscream reads 4,096 bytes at once: {head}");
    let lines = head.lines().filter(|line| line.to_ascii_lowercase().starts_with("sec-websocket-extensions"));
    let agreed: Vec<_> = lines.map(|line| line.strip_prefix("Sec-WebSocket-Extensions: ").expect(line)).collect();
    assert!(agreed.len() <= 1 && !agreed.contains(&""), "{head}");
    agreed.concat()
}

/// The same where no compression is to be agreed on.
#[track_caller]
fn expect_101(client: &mut RawClient, accept: &str) {
    assert_eq!(expect_101_with(client, accept), "");
}

#[track_caller]
fn connect(server: &TestServer, lines: &[&str], accept: &str) -> RawClient {
    let mut client = server.raw();
    client.send(&head(lines));
    expect_101(&mut client, accept);
    client
}

fn starscream(server: &TestServer) -> RawClient {
    connect(server, &STARSCREAM, STARSCREAM_ACCEPT)
}

fn socketrocket(server: &TestServer) -> RawClient {
    connect(server, &SOCKETROCKET, SOCKETROCKET_ACCEPT)
}

fn swiftwebsocket(server: &TestServer) -> RawClient {
    connect(server, &SWIFTWEBSOCKET, SWIFTWEBSOCKET_ACCEPT)
}

/// The gateway has read something sent after its Close without having ended its
/// direction, which it would have done in the turn of the Close or in this one.
#[track_caller]
fn expect_close_is_awaited(server: &TestServer, client: &mut RawClient) {
    let before = server.sum(|stats| &stats.messages_in);
    client.send(&hex("8180 0badf00d"));
    server.wait_until("a message behind the Close was read", |server| server.sum(|stats| &stats.messages_in) > before);
    client.expect_nothing_yet();
}

#[test]
fn v1_starscream_in_every_order_of_its_headers() {
    let server = gateway();
    let (request_line, headers) = STARSCREAM.split_first().unwrap();
    for rotation in 0..headers.len() {
        let mut lines = headers.to_vec();
        lines.rotate_left(rotation);
        lines.insert(0, request_line);
        let mut client = connect(&server, &lines, STARSCREAM_ACCEPT);
        client.send(&hex("818d37fa213d44954c581797444e449b465819"));
        client.expect(&hex("8104676f6f64"));
        client.send(&hex("888237fa213d3412"));
        // Every second one is gone before the gateway can answer.
        if rotation % 2 == 0 {
            client.expect(&hex("880203e8"));
            client.expect_end();
        }
    }
    server.expect_closes(&[(CloseReason::PeerClosed, headers.len() as u64)]);
}

#[test]
fn v2_compression_is_declined_and_a_compressed_frame_refused() {
    let server = gateway();
    let mut client = connect(&server, &STARSCREAM_OFFER, STARSCREAM_OFFER_ACCEPT);
    client.send(&hex("c18f37fa213d1d34ee7062326c1019b46d72e2f921"));
    let words = client.expect_close(1002);
    assert!(words.contains("reserved bits"), "{words}");
    client.expect_end();
    drop(client);
    server.expect_closes(&[(CloseReason::ProtocolError, 1)]);
}

/// A gateway that compresses whatever it can.
fn compressing(client_takeover: bool, control_frames: bool) -> TestServer {
    gateway_with(|config| {
        config.compression.enabled = true;
        config.compression.message_bytes_min = 0;
        config.compression.client_context_takeover = client_takeover;
        config.compression.control_frames = control_frames;
    })
}

/// V3 and V4: the request of V2, accepted.
#[track_caller]
fn starscream_compressing(server: &TestServer) -> (RawClient, String) {
    let mut client = server.raw();
    client.send(&head(&STARSCREAM_OFFER));
    let agreed = expect_101_with(&mut client, STARSCREAM_OFFER_ACCEPT);
    // Before 4.0.6 it makes its contexts out of these.
    for parameter in ["server_max_window_bits=15", "client_max_window_bits=15"] {
        assert!(agreed.split("; ").any(|part| part == parameter), "{agreed}");
    }
    (client, agreed)
}

const COMPRESSED_TEXT: &str = "c18f37fa213d1d34ee7062326c1019b46d72e2f921";
const COMPRESSED_PONG: &str = "ca8437fa213dfdb2233d";
const COMPRESSED_GOOD: &str = "c1064acfcf4f0100";

#[test]
fn v3_with_context_takeover_a_compressed_pong_ends_the_connection() {
    let server = compressing(true, false);
    let (mut client, agreed) = starscream_compressing(&server);
    assert!(!agreed.contains("client_no_context_takeover"), "{agreed}");
    client.send(&hex(COMPRESSED_TEXT));
    client.expect(&hex(COMPRESSED_GOOD));
    client.send(&hex(COMPRESSED_PONG));
    client.expect_close(1002);
    client.expect_end();
    drop(client);
    server.expect_closes(&[(CloseReason::ProtocolError, 1)]);
}

#[test]
fn v3_with_context_takeover_control_frames_are_inflated_in_order_where_that_is_allowed() {
    let server = compressing(true, true);
    // On the path that shows what was understood.
    let lines = with(&STARSCREAM_OFFER, "GET", "GET /echo HTTP/1.1");
    let mut client = server.raw();
    client.send(&head(&lines));
    expect_101_with(&mut client, STARSCREAM_OFFER_ACCEPT);
    let echoed = |client: &mut RawClient| {
        let (first, payload) = client.read_frame();
        let mut text = Vec::new();
        match first {
            0xc1 => Inflater::default().inflate(&payload, 100, &mut text).expect("each stands alone"),
            0x81 => text = payload,
            other => panic!("{other:#x}"),
        }
        assert_eq!(text, b"some message.");
    };
    client.send(&hex(COMPRESSED_TEXT));
    echoed(&mut client);
    client.send(&hex(COMPRESSED_PONG));
    client.send(&hex("c18537fa213d1dbcc73f37"));
    echoed(&mut client);
    client.send(&hex("c88437fa213d5584203d"));
    client.expect(&hex("880203e8"));
    client.expect_end();
    drop(client);
    server.expect_closes(&[(CloseReason::PeerClosed, 1)]);
}

#[test]
fn v4_without_context_takeover_every_frame_stands_alone() {
    let server = compressing(false, true);
    let (mut client, agreed) = starscream_compressing(&server);
    assert!(agreed.contains("client_no_context_takeover"), "{agreed}");
    client.send(&hex(COMPRESSED_TEXT));
    client.expect(&hex(COMPRESSED_GOOD));
    client.send(&hex(COMPRESSED_PONG));
    client.send(&hex(COMPRESSED_TEXT));
    client.expect(&hex(COMPRESSED_GOOD));
    // Its own close, compressed with a context of its own: 1000.
    let mut close = Vec::new();
    Deflater::new(6, 15).deflate(&[3, 0xe8], &mut close);
    client.send(&common::masked(0xc8, &close));
    client.expect(&hex("880203e8"));
    client.expect_end();
    drop(client);
    server.expect_closes(&[(CloseReason::PeerClosed, 1)]);
}

#[test]
fn v4_in_the_strict_setting_the_pong_ends_the_connection() {
    let server = compressing(false, false);
    let (mut client, _) = starscream_compressing(&server);
    client.send(&hex(COMPRESSED_TEXT));
    client.expect(&hex(COMPRESSED_GOOD));
    client.send(&hex(COMPRESSED_PONG));
    client.expect_close(1002);
}

#[test]
fn v5_empty_payloads_with_the_bit_of_compression_are_empty() {
    for control_frames in [false, true] {
        let server = compressing(true, control_frames);
        let (mut client, _) = starscream_compressing(&server);
        client.send(&hex(COMPRESSED_TEXT));
        client.expect(&hex(COMPRESSED_GOOD));
        client.send(&hex("c18037fa213d"));
        client.expect(&hex(COMPRESSED_GOOD));
        client.send(&hex("ca8037fa213d"));
        if control_frames {
            client.send(&hex("c18537fa213d1dbcc73d37"));
            client.expect(&hex(COMPRESSED_GOOD));
        } else {
            client.expect_close(1002);
        }
    }
}

#[test]
fn v6_the_gateway_closes_and_waits_for_the_answer() {
    // 1008: a publish without the right to.
    let server = gateway_with(|config| config.security.anonymous_publish = false);
    for answer in ["888237fa213d3413", "888237fa213d3c46", "888237fa213d3412"] {
        let lines = with(&STARSCREAM, "GET", "GET /topics/room HTTP/1.1");
        let mut client = connect(&server, &lines, STARSCREAM_ACCEPT);
        client.send(&hex("8180 37fa213d"));
        client.expect_close(1008);
        expect_close_is_awaited(&server, &mut client);
        client.send(&hex(answer));
        client.expect_end();
    }
    server.expect_closes(&[(CloseReason::PolicyViolation, 3)]);
}

#[test]
fn v6_an_end_without_an_answer_is_enough() {
    let server = gateway_with(|config| config.security.anonymous_publish = false);
    let lines = with(&STARSCREAM, "GET", "GET /topics/room HTTP/1.1");
    let mut client = connect(&server, &lines, STARSCREAM_ACCEPT);
    client.send(&hex("8180 37fa213d"));
    client.expect_close(1008);
    client.end();
    client.expect_end();
    server.expect_closes(&[(CloseReason::PolicyViolation, 1)]);
}

#[test]
fn v6_a_client_that_never_answers_is_dropped_after_the_close_timeout() {
    let server = gateway_with(|config| {
        config.security.anonymous_publish = false;
        config.timeouts.close = Duration::from_millis(50);
    });
    let lines = with(&STARSCREAM, "GET", "GET /topics/room HTTP/1.1");
    let mut client = connect(&server, &lines, STARSCREAM_ACCEPT);
    client.send(&hex("8180 37fa213d"));
    client.expect_close(1008);
    client.expect_gone();
    server.expect_closes(&[(CloseReason::PolicyViolation, 1)]);
}

#[test]
fn v7_an_answered_ping_keeps_the_connection() {
    let server = gateway_with(|config| {
        config.timeouts.ping_interval = Duration::from_millis(100);
        config.timeouts.pong_timeout = Duration::from_millis(400);
    });
    let mut client = starscream(&server);
    for _ in 0..3 {
        let (first, payload) = client.read_frame();
        assert_eq!(first, 0x89, "a ping");
        assert!((1..=125).contains(&payload.len()), "Starscream's inflater mishandles empty pings");
        client.send(&common::masked(0x8a, &payload));
    }
    client.send(&hex("888237fa213d3412"));
    client.expect(&hex("880203e8"));
    drop(client);
    server.expect_closes(&[(CloseReason::PeerClosed, 1)]);
}

#[test]
fn v7_other_traffic_is_a_sign_of_life_where_pongs_are_switched_off() {
    let server = gateway_with(|config| {
        config.timeouts.ping_interval = Duration::from_millis(100);
        config.timeouts.pong_timeout = Duration::from_millis(400);
    });
    let mut client = starscream(&server);
    // A ping comes after 100 ms of silence, so these take longer than the pong's timeout.
    for _ in 0..5 {
        assert_eq!(client.read_frame().0, 0x89, "a ping");
        client.send(&hex("818d37fa213d44954c581797444e449b465819"));
        client.expect(&hex("8104676f6f64"));
    }
}

#[test]
fn v7_without_any_traffic_the_connection_ends() {
    let server = gateway_with(|config| {
        config.timeouts.ping_interval = Duration::from_millis(50);
        config.timeouts.pong_timeout = Duration::from_millis(50);
    });
    let mut client = starscream(&server);
    assert_eq!(client.read_frame().0, 0x89, "a ping");
    client.expect_gone();
    server.expect_closes(&[(CloseReason::PongTimeout, 1)]);
}

#[test]
fn v8_a_refusal_is_complete_and_the_gateway_ends_the_connection() {
    // Not a host of this gateway. Starscream stays silent and open, whoever refuses.
    let server = TestServer::start();
    let mut client = server.raw();
    client.send(&head(&STARSCREAM_OFFER));
    let response = client.read_response();
    assert_eq!(response.status, 403);
    for name in ["Upgrade", "Sec-WebSocket-Accept", "Sec-WebSocket-Version"] {
        assert_eq!(response.header(name), None, "{response:?}");
    }
}

#[test]
fn v9_hosts_without_brackets_and_origins_with_passwords() {
    let server = gateway();
    let ipv6 = with(&STARSCREAM, "Host", "Host: ::1:8000");
    connect(&server, &with(&ipv6, "Origin", "Origin: ws://::1:8000"), STARSCREAM_ACCEPT);
    connect(&server, &with(&STARSCREAM, "Origin", "Origin: ws://user:pw@127.0.0.1:8000"), STARSCREAM_ACCEPT);
}

#[test]
fn v10_a_cookie_with_name_and_value_swapped_is_refused() {
    let server = gateway();
    let mut client = server.raw();
    let mut lines = STARSCREAM.to_vec();
    lines.push("sid=abc; theme=dark: Cookie");
    client.send(&head(&lines));
    assert_eq!(client.read_response().status, 400);
}

#[test]
fn v13_no_subprotocol_is_named_where_none_is_served() {
    let server = gateway();
    socketrocket(&server);
    let mut lines = SOCKETROCKET.to_vec();
    lines.push("Sec-WebSocket-Protocol: chat, mqtt");
    connect(&server, &lines, SOCKETROCKET_ACCEPT);
}

#[test]
fn v14_a_second_handshake_is_no_frame() {
    let server = gateway();
    let mut bytes = head(&SOCKETROCKET);
    bytes.extend(head(&with(&SOCKETROCKET, "Sec-WebSocket-Key", "Sec-WebSocket-Key: EBESExQVFhcYGRobHB0eHw==")));
    let mut client = server.raw();
    client.send(&bytes);
    expect_101(&mut client, SOCKETROCKET_ACCEPT);
    client.expect_close(1002);
    client.expect_end();
    drop(client);
    server.expect_closes(&[(CloseReason::ProtocolError, 1)]);
}

#[test]
fn v15_lengths_at_their_boundaries_are_echoed() {
    let server = gateway();
    let mut client = socketrocket(&server);
    for (frame_head, byte, count, sha1) in [
        ("81fd0badf00d", b'a', 125, "283c63e397af673a7c455e27d269742eab42f6d1"),
        ("81fe007e0badf00d", b'a', 126, "9e3ffdcd3779026ab0f69670ab12d30e9038e057"),
        ("82ff00000000000100000badf00d", b'Z', 65536, "2fc3d5a64b0578ec5bba939a85e2bf85c864e787"),
        ("81800badf00d", b'a', 0, ""),
    ] {
        let mut frame = hex(frame_head);
        let key = [0x0b, 0xad, 0xf0, 0x0d];
        frame.extend(key.iter().cycle().take(count).map(|key| key ^ byte));
        if !sha1.is_empty() {
            assert_eq!(Sha1::digest(&frame).as_slice(), hex(sha1), "the vector itself");
        }
        client.send(&frame);
        client.expect(&unmasked(frame[0], &vec![byte; count]));
    }
}

#[test]
fn v16_the_answer_to_an_application_code_may_be_1000() {
    // 4008 is the gateway's own application code: a subscriber does not read.
    let server = gateway_with(|config| config.limits.queue_bytes_max = 64 * 1024);
    let lines = with(&SOCKETROCKET, "GET", "GET /topics/room HTTP/1.1");
    let mut client = connect(&server, &lines, SOCKETROCKET_ACCEPT);
    let message = vec![b'm'; 60_000];
    while server.sum(|stats| &stats.subscriptions) > 0 {
        assert_eq!(server.publish("room", "application/octet-stream", &message).0, 200);
    }
    let mut received = 0;
    loop {
        match client.read_frame() {
            (0x82, payload) if payload == message => received += 1,
            (0x88, body) => {
                assert_eq!(body[..2], 4008_u16.to_be_bytes());
                break;
            }
            (first, _) => panic!("a frame that begins with {first:#x}"),
        }
    }
    assert!(received > 0);
    expect_close_is_awaited(&server, &mut client);
    client.send(&hex("88820badf00d0845"));
    client.expect_end();
    drop(client);
    server.expect_closes(&[(CloseReason::SlowConsumer, 1)]);
}

#[test]
fn v17_a_shutdown_says_1001_and_takes_any_answer() {
    let server = gateway();
    // What each of them answers, and SocketRocket's answer to codes that it does not know.
    let answers = [
        "888237fa213d3413",
        "88820badf00d0845",
        "888001020304",
        "88a00badf00d0847b36c65c39f792bc5917b6e8d936164de952d68c294682bc2962d3a9dc13f",
    ];
    let mut clients: Vec<_> = answers
        .iter()
        .zip(EACH.iter().cycle())
        .map(|(answer, (lines, accept))| (connect(&server, lines, accept), answer))
        .collect();
    server.drain();
    for (client, answer) in &mut clients {
        client.expect_close(1001);
        expect_close_is_awaited(&server, client);
        client.send(&hex(answer));
        client.expect_end();
    }
    drop(clients);
    server.expect_closes(&[(CloseReason::Drain, answers.len() as u64)]);
}

#[test]
fn v18_a_client_that_waits_for_the_end_gets_it_from_the_gateway() {
    let server = gateway();
    let mut client = socketrocket(&server);
    client.send(&hex("88820badf00d0845"));
    client.expect(&hex("880203e8"));
    client.expect_end();
    drop(client);
    server.expect_closes(&[(CloseReason::PeerClosed, 1)]);
}

#[test]
fn v19_v26_pings_are_answered_and_pongs_are_welcome() {
    let server = gateway();
    let mut client = socketrocket(&server);
    client.send(&hex("89850badf00d63c89c6164"));
    client.expect(&hex("8a0568656c6c6f"));
    client.send(&hex("8a800badf00d"));
    client.send(&hex("898001020304"));
    client.expect(&hex("8a00"));
    client.send(&hex("8a82010203040000"));
    client.send(&hex("81800badf00d"));
    client.expect(&hex("8100"));
}

#[test]
fn v20_an_upgrade_that_a_proxy_stripped_is_told_so() {
    let server = gateway();
    let mut lines = with(&SOCKETROCKET, "Connection", "Connection: keep-alive");
    lines.retain(|line| !line.starts_with("Upgrade"));
    lines.push("Via: 1.1 proxy");
    let mut client = server.raw();
    client.send(&head(&lines));
    let response: Response = client.read_response();
    assert_eq!(response.status, 426);
    assert_eq!(response.header("Upgrade"), Some("websocket"));
    assert!(response.body.contains("proxy"), "{response:?}");
}

#[test]
fn v21_an_origin_with_path_and_query_is_the_same_host() {
    swiftwebsocket(&gateway());
}

#[test]
fn v22_an_offer_with_every_parameter_is_declined() {
    let server = gateway();
    let mut lines = SWIFTWEBSOCKET.to_vec();
    lines.insert(
        2,
        "Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover; server_no_context_takeover; \
         client_max_window_bits; server_max_window_bits=15",
    );
    let mut client = connect(&server, &lines, SWIFTWEBSOCKET_ACCEPT);
    client.send(&hex("818b0102030469c1aa686d6d23f49e9a83"));
    client.expect(&hex("8104676f6f64"));
}

#[test]
fn v22_an_offer_with_every_parameter_is_accepted_with_what_it_asks_for() {
    // Whatever might be kept, it asks for nothing to be kept.
    let server = gateway_with(|config| {
        config.compression.enabled = true;
        config.compression.message_bytes_min = 0;
        config.compression.server_context_takeover = true;
        config.compression.client_context_takeover = true;
    });
    let mut lines = SWIFTWEBSOCKET.to_vec();
    lines.insert(
        2,
        "Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover; server_no_context_takeover; \
         client_max_window_bits; server_max_window_bits=15",
    );
    let mut client = server.raw();
    client.send(&head(&lines));
    let agreed = expect_101_with(&mut client, SWIFTWEBSOCKET_ACCEPT);
    assert!(agreed.contains("; server_no_context_takeover;"), "{agreed}");
    // It never compresses what it sends.
    client.send(&hex("818b0102030469c1aa686d6d23f49e9a83"));
    client.expect(&hex(COMPRESSED_GOOD));
}

#[test]
fn v22_its_text_with_characters_of_all_lengths_is_echoed() {
    let server = gateway();
    let lines = with(&SWIFTWEBSOCKET, "GET", "GET /echo HTTP/1.1");
    let mut client = connect(&server, &lines, SWIFTWEBSOCKET_ACCEPT);
    client.send(&hex("818b0102030469c1aa686d6d23f49e9a83"));
    client.expect(&unmasked(0x81, "h\u{e9}llo \u{1f600}".as_bytes()));
}

#[test]
fn v23_a_close_with_the_end_right_behind_it_is_clean() {
    let server = gateway();
    let mut client = swiftwebsocket(&server);
    client.send(&hex("88900102030402ea4d6b736f626821416f6b72777161"));
    client.end();
    client.expect(&hex("880203e8"));
    client.expect_end();
    // And gone for good before it is answered.
    let mut client = swiftwebsocket(&server);
    client.send(&hex("88900102030402ea4d6b736f626821416f6b72777161"));
    drop(client);
    server.expect_closes(&[(CloseReason::PeerClosed, 2)]);
}

#[test]
fn v24_an_answer_may_be_empty_or_echo_code_and_reason() {
    let server = gateway_with(|config| config.security.anonymous_publish = false);
    for answer in ["888001020304", "8886010203040ea1686d6269"] {
        let lines = with(&SWIFTWEBSOCKET, "GET", "GET /topics/room HTTP/1.1");
        let mut client = connect(&server, &lines, SWIFTWEBSOCKET_ACCEPT);
        client.send(&hex("8180 01020304"));
        client.expect_close(1008);
        expect_close_is_awaited(&server, &mut client);
        client.send(&hex(answer));
        client.end();
        client.expect_end();
    }
    server.expect_closes(&[(CloseReason::PolicyViolation, 2)]);
}

#[test]
fn v25_what_swiftwebsocket_sends_after_an_error_of_its_own() {
    let server = gateway();
    // 1002 is a code as any other.
    let mut client = swiftwebsocket(&server);
    client.send(&hex("88900102030402e853766e766c676e6e236173706c76"));
    client.expect(&hex("880203ea"));
    client.expect_end();
    drop(client);
    // 1006 must not be on the wire; the words of the answer name it.
    let mut client = swiftwebsocket(&server);
    client.send(&hex("88920102030402ec42666f6d7169606e23476d6d70717367"));
    let words = client.expect_close(1002);
    assert!(words.contains("1006"), "{words}");
    client.expect_end();
    drop(client);
    server.expect_closes(&[(CloseReason::PeerClosed, 1), (CloseReason::ProtocolError, 1)]);
}

#[test]
fn vectors_with_every_header_and_frame_one_byte_at_a_time() {
    let server = gateway();
    for (lines, accept) in EACH {
        let mut client = server.raw();
        let mut bytes = head(lines);
        bytes.extend(hex("89850badf00d63c89c6164"));
        bytes.extend(hex("88820badf00d0845"));
        for byte in bytes {
            client.send(&[byte]);
        }
        expect_101(&mut client, accept);
        client.expect(&hex("8a0568656c6c6f"));
        client.expect(&hex("880203e8"));
        client.expect_end();
    }
    server.expect_closes(&[(CloseReason::PeerClosed, 3)]);
}
