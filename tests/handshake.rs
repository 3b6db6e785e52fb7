//! The opening handshake on the wire: what is accepted, and how the rest is refused.
#![allow(missing_docs)]

mod common;

use std::time::Duration;

use common::{RawClient, Response, TestServer, masked};
use wsgate::proto::handshake::Status;
use wsgate::stats::CloseReason;

/// The demo's request, as Starscream sent it.
const DEMO: &str = "GET /chat HTTP/1.1\r\n\
    Host: 127.0.0.1:8000\r\n\
    Origin: ws://127.0.0.1:8000\r\n\
    Qi-WebSocket-Header: some message\r\n\
    Qi-WebSocket-Protocol: some message\r\n\
    Qi-WebSocket-Protocol-2: some message\r\n\
    Qi-WebSocket-Version: 0.0.1\r\n\
    Sec-WebSocket-Version: 13\r\n\
    Upgrade: websocket\r\n\
    Connection: Upgrade\r\n\
    Sec-WebSocket-Key: aGFjb2hlYW9rd2JtdmV5eA==\r\n\r\n";

const DEMO_ANSWER: &str = "HTTP/1.1 101 Switching Protocols\r\n\
    Upgrade: websocket\r\n\
    Connection: Upgrade\r\n\
    Sec-WebSocket-Accept: NO+pj7z0cvnNj//mlwRuAnCYqCE=\r\n\r\n";

/// The example of RFC 6455, section 1.3, from a page of another host.
const OTHER_HOST: &str = "GET /chat HTTP/1.1\r\n\
    Host: server.qishare.org\r\n\
    Upgrade: websocket\r\n\
    Connection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Origin: http://qishare.org\r\n\
    Sec-WebSocket-Protocol: chat, superchat\r\n\
    Sec-WebSocket-Version: 13\r\n\r\n";

const RFC_ANSWER: &str = "HTTP/1.1 101 Switching Protocols\r\n\
    Upgrade: websocket\r\n\
    Connection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// What `/chat` answers to any message.
const GOOD: &[u8] = b"\x81\x04good";

/// A good request for `/echo` with lines left out (by their beginning) and added.
fn request(without: &str, added: &str) -> String {
    let lines = [
        "GET /echo HTTP/1.1",
        "Host: localhost",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    let mut lines: Vec<&str> =
        lines.into_iter().filter(|line| without.is_empty() || !line.starts_with(without)).collect();
    if added.contains("HTTP/") {
        lines.insert(0, added);
    } else if !added.is_empty() {
        lines.push(added);
    }
    lines.join("\r\n") + "\r\n\r\n"
}

fn request_to(target: &str) -> String {
    request("GET", &format!("GET {target} HTTP/1.1"))
}

/// Sends a request that is refused; the answer, after which the gateway ended the
/// connection while the client kept its side open.
#[track_caller]
fn refused(server: &TestServer, request: impl AsRef<[u8]>) -> Response {
    let mut client = server.raw();
    client.send(request.as_ref());
    client.read_response()
}

#[track_caller]
fn accepted(server: &TestServer, request: &str) -> RawClient {
    let mut client = server.raw();
    client.send(request.as_bytes());
    client.expect(RFC_ANSWER.as_bytes());
    client
}

#[test]
fn the_demos_request_is_answered_byte_for_byte() {
    let server = TestServer::start();
    let mut client = server.raw();
    client.send(DEMO.as_bytes());
    client.expect(DEMO_ANSWER.as_bytes());
    client.send(&masked(0x81, b"some message."));
    client.expect(GOOD);
}

#[test]
fn a_page_of_another_host_needs_the_allow_lists() {
    let open = TestServer::with(|config| {
        config.security.allowed_hosts = vec!["server.qishare.org".to_owned()];
        config.security.allowed_origins = vec!["qishare.org".to_owned()];
    });
    accepted(&open, OTHER_HOST);

    let response = refused(&TestServer::start(), OTHER_HOST);
    assert_eq!(response.status, 403);
    assert!(response.body.contains("server.qishare.org"), "{response:?}");

    let host_only = TestServer::with(|config| {
        config.security.allowed_hosts = vec!["server.qishare.org".to_owned()];
    });
    let response = refused(&host_only, OTHER_HOST);
    assert_eq!(response.status, 403);
    assert!(response.body.contains("http://qishare.org"), "{response:?}");
}

#[test]
fn each_mistake_has_its_status_and_says_what_is_wrong() {
    let server = TestServer::start();
    for (request, status, words) in [
        (request("Sec-WebSocket-Key", ""), 400, "Sec-WebSocket-Key is missing"),
        (request("Sec-WebSocket-Key", "Sec-WebSocket-Key: c2hvcnQ="), 400, "c2hvcnQ="),
        (request("", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), 400, "more than once"),
        (request("Host", ""), 400, "Host is missing"),
        (request("", "Host: localhost"), 400, "more than once"),
        (request("", "Content-Length: 3"), 400, "body"),
        (request("", "Transfer-Encoding: chunked"), 400, "body"),
        (request("", "no colon"), 400, "malformed"),
        (request("", "two words: value"), 400, "not a token"),
        (request("", "Control: \u{1}"), 400, "control character"),
        (request("GET", "GET /echo HTTP/2.0"), 400, "HTTP/1.1"),
        (request("GET", "GET /echo HTTP/1.0"), 400, "HTTP/1.1"),
        (request("Host", "Host: evil.example"), 403, "evil.example"),
        (request("", "Origin: http://evil.example"), 403, "http://evil.example"),
        (request("", "Origin: null"), 403, "null"),
        (request_to("/nowhere"), 404, "/nowhere"),
        (request_to("/"), 404, "\"/\""),
        (request("GET", "POST /echo HTTP/1.1"), 405, "POST"),
        (request("Upgrade", ""), 426, "Upgrade: websocket"),
        (request("Upgrade", "Upgrade: h2c"), 426, "Upgrade: websocket"),
        (request("Connection", "Connection: keep-alive"), 426, "Connection: Upgrade"),
        (request("Sec-WebSocket-Version", ""), 426, "use 13"),
        (request("Sec-WebSocket-Version", "Sec-WebSocket-Version: 8"), 426, "\"8\""),
    ] {
        let response = refused(&server, &request);
        assert_eq!(response.status, status, "{request}{response:?}");
        assert!(response.body.contains(words), "{request}{response:?}");
        assert_eq!(response.header("Allow"), (status == 405).then_some("GET"), "{response:?}");
        assert_eq!(response.header("Sec-WebSocket-Version"), (status == 426).then_some("13"), "{response:?}");
        assert_eq!(response.header("Upgrade"), (status == 426).then_some("websocket"), "{response:?}");
        assert_eq!(response.header("Sec-WebSocket-Accept"), None, "{response:?}");
    }
}

#[test]
fn a_head_over_the_bound_is_refused_without_waiting_for_its_end() {
    let server = TestServer::with(|config| config.limits.handshake_bytes_max = 2048);
    let target = format!("GET /{}", "a".repeat(4000));
    let line = format!("GET /echo HTTP/1.1\r\nCookie: {}", "a".repeat(4000));
    let fields = format!("GET /echo HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(65));
    for (head, status) in [(&target, 414), (&line, 431), (&fields, 431)] {
        let response = refused(&server, head);
        assert_eq!(response.status, status, "{response:?}");
    }
    // In pieces, and with the end of the head in the last one.
    let mut client = server.raw();
    for piece in format!("{line}\r\n\r\n").as_bytes().chunks(100) {
        client.send(piece);
    }
    assert_eq!(client.read_response().status, 431);
}

#[test]
fn a_head_of_exactly_the_bound_is_accepted() {
    let server = TestServer::with(|config| config.limits.handshake_bytes_max = 2048);
    let padding = 2048 - request("", "Cookie: ").len();
    let exact = request("", &format!("Cookie: {}", "c".repeat(padding)));
    assert_eq!(exact.len(), 2048);
    accepted(&server, &exact);
    let mut client = server.raw();
    let (first, rest) = exact.as_bytes().split_at(1000);
    client.send(first);
    server.wait_until("the first piece was read", |server| server.sum(|stats| &stats.bytes_in) >= 2048 + 1000);
    client.send(rest);
    client.expect(RFC_ANSWER.as_bytes());
    let over = request("", &format!("Cookie: {}", "c".repeat(padding + 1)));
    assert_eq!(refused(&server, over).status, 431);
}

#[test]
fn heads_longer_than_1024_bytes_are_accepted() {
    let server = TestServer::start();
    for len in [1024, 1025, 2000, 7000] {
        let cookie = "c".repeat(len - request("", "Cookie: ").len());
        let mut client = accepted(&server, &request("", &format!("Cookie: {cookie}")));
        client.send(&masked(0x81, b"hello"));
        client.expect(b"\x81\x05hello");
    }
}

#[test]
fn a_request_split_at_any_byte_is_understood_with_the_frames_behind_it() {
    let server = TestServer::start();
    let mut bytes = DEMO.as_bytes().to_vec();
    bytes.extend(masked(0x81, b"first"));
    bytes.extend(masked(0x82, b"second"));
    for at in 1..bytes.len() {
        let before = server.sum(|stats| &stats.bytes_in);
        let mut client = server.raw();
        client.send(&bytes[..at]);
        // The second part is a read of its own.
        server
            .wait_until("the first part was read", |server| server.sum(|stats| &stats.bytes_in) >= before + at as u64);
        client.send(&bytes[at..]);
        client.expect(DEMO_ANSWER.as_bytes());
        client.expect(GOOD);
        client.expect(GOOD);
    }
}

#[test]
fn a_request_may_come_one_byte_at_a_time() {
    let server = TestServer::start();
    let mut client = server.raw();
    let mut bytes = DEMO.as_bytes().to_vec();
    bytes.extend(masked(0x81, b"x"));
    for (at, byte) in bytes.iter().enumerate() {
        client.send(&[*byte]);
        server.wait_until("the byte was read", |server| server.sum(|stats| &stats.bytes_in) > at as u64);
    }
    client.expect(DEMO_ANSWER.as_bytes());
    client.expect(GOOD);
}

#[test]
fn a_refusal_does_not_depend_on_how_the_request_was_split() {
    let server = TestServer::start();
    for request in
        [request("Upgrade", ""), "9GET / HTTP/1.1\r\n\r\n".to_owned(), "\r\nGET / HTTP/1.1\r\n\r\n".to_owned()]
    {
        let whole = refused(&server, &request);
        for at in [1, 2, 5, request.len() - 1] {
            let before = server.sum(|stats| &stats.bytes_in);
            let mut client = server.raw();
            client.send(&request.as_bytes()[..at]);
            server.wait_until("the first part was read", |server| {
                server.sum(|stats| &stats.bytes_in) >= before + at as u64
            });
            client.send(&request.as_bytes()[at..]);
            let split = client.read_response();
            assert_eq!((split.status, &split.body), (whole.status, &whole.body), "{request:?} split at {at}");
        }
    }
}

#[test]
fn frames_right_behind_the_request_wait_for_an_owner_on_another_shard() {
    let server = TestServer::start();
    // Fresh topics, so that about half belong to the shard that the client is not on.
    for n in 0..40 {
        let mut bytes = request_to(&format!("/topics/early-{n}")).into_bytes();
        bytes.extend(masked(0x81, b"one"));
        bytes.extend(masked(0x89, b"ping"));
        bytes.extend(masked(0x82, b"two"));
        // Cut inside the last frame: its rest comes after the answer.
        let (now, later) = bytes.split_at(bytes.len() - 1);
        let mut client = server.raw();
        client.send(now);
        client.expect(RFC_ANSWER.as_bytes());
        client.send(later);
        let mut frames: Vec<_> = (0..3).map(|_| client.read_frame()).collect();
        // The pong does not take the way over the owner.
        frames.sort_by_key(|(first, _)| *first != 0x8a);
        let expected: [(u8, &[u8]); 3] = [(0x8a, b"ping"), (0x81, b"one"), (0x82, b"two")];
        assert_eq!(frames, expected.map(|(first, payload)| (first, payload.to_vec())), "topic early-{n}");
    }
    let crossed = server.sum(|stats| &stats.envelopes_out);
    assert!(crossed > 0, "no topic belonged to another shard");
}

#[test]
fn header_names_in_any_case_colons_in_values_and_unknown_headers() {
    let server = TestServer::start();
    accepted(
        &server,
        "GET /echo HTTP/1.1\r\n\
         hOsT:localhost:8000\r\n\
         uPGRADE:\tWebSocket \r\n\
         CONNECTION: keep-alive, UPGRADE\r\n\
         sec-websocket-version:13\r\n\
         SEC-WEBSOCKET-KEY:   dGhlIHNhbXBsZSBub25jZQ==   \r\n\
         x-odd: a: b:: c\r\n\
         X-Empty:\r\n\
         X-Bytes: \u{e9}\r\n\r\n",
    );
}

#[test]
fn query_parameters_that_are_unknown_are_harmless() {
    let server = TestServer::start();
    for target in ["/echo?", "/echo?a=1&b", "/ws?room=1", "/chat?x=/topics/", "/topics/a?token=x"] {
        accepted(&server, &request_to(target));
    }
}

#[test]
fn topic_names_are_bounded_and_refusals_say_why() {
    let server = TestServer::start();
    for (name, words) in [
        (String::new(), "empty"),
        ("a".repeat(256), "256 bytes"),
        ("%41".repeat(256), "256 bytes"),
        ("%c3%a9".repeat(128), "256 bytes"),
        ("a%00b".to_owned(), "U+0000"),
        ("%1F".to_owned(), "U+001F"),
        ("%7f".to_owned(), "U+007F"),
        ("%C2%85".to_owned(), "U+0085"),
        ("%".to_owned(), "hexadecimal"),
        ("a%2".to_owned(), "hexadecimal"),
        ("%+1".to_owned(), "hexadecimal"),
        ("%ff".to_owned(), "UTF-8"),
        ("%ed%a0%80".to_owned(), "UTF-8"),
    ] {
        let response = refused(&server, request_to(&format!("/topics/{name}")));
        assert_eq!(response.status, 400, "{name}: {response:?}");
        assert!(response.body.contains(words), "{name}: {response:?}");
    }
    for query in ["echo=maybe", "subscribe=", "echo"] {
        let response = refused(&server, request_to(&format!("/topics/a?{query}")));
        assert_eq!(response.status, 400, "{query}: {response:?}");
        assert!(response.body.contains("write on or off"), "{query}: {response:?}");
    }
    for name in ["a".repeat(255), "%c3%a9".repeat(127), "a/b/c".to_owned(), "%20".to_owned()] {
        let mut client = accepted(&server, &request_to(&format!("/topics/{name}")));
        client.send(&masked(0x81, b"here"));
        client.expect(b"\x81\x04here");
    }
}

#[test]
fn a_topic_is_the_same_however_its_name_is_written() {
    let server = TestServer::start();
    let mut subscriber = accepted(&server, &request_to("/topics/a%2fb%20c"));
    let mut publisher = accepted(&server, &request_to("/topics/%61/b%20%63?subscribe=off"));
    publisher.send(&masked(0x81, b"hello"));
    subscriber.expect(b"\x81\x05hello");
}

#[test]
fn rights_that_anonymous_clients_do_not_have_are_403() {
    let server = TestServer::with(|config| {
        config.security.anonymous_subscribe = false;
        config.security.anonymous_publish = false;
    });
    for (target, words) in [("/topics/a", "subscribe"), ("/topics/a?subscribe=off", "publish")] {
        let response = refused(&server, request_to(target));
        assert_eq!(response.status, 403, "{response:?}");
        assert!(response.body.contains(words), "{response:?}");
    }
}

#[test]
fn paths_that_are_switched_off_are_404() {
    let server = TestServer::with(|config| {
        config.echo = false;
        config.greeting = false;
    });
    for path in ["/echo", "/ws", "/chat"] {
        assert_eq!(refused(&server, request_to(path)).status, 404);
    }
    accepted(&server, &request_to("/topics/a"));
}

#[test]
fn health_is_answered_on_the_client_port() {
    let server = TestServer::start();
    let response = refused(&server, "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!((response.status, response.body.as_str()), (200, "ok\n"));
    // Load balancers ask in HTTP/1.0 too.
    let response = refused(&server, "GET /health HTTP/1.0\r\nHost: localhost\r\n\r\n");
    assert_eq!(response.status, 200);
}

#[test]
fn a_head_that_does_not_end_in_time_is_408() {
    let server = TestServer::with(|config| config.timeouts.handshake = Duration::from_millis(50));
    let response = refused(&server, "GET /echo HTTP/1.1\r\n");
    assert_eq!(response.status, 408);
    // Nothing at all is not an offence worth an exception: the answer is the same.
    let mut silent = server.raw();
    assert_eq!(silent.read_response().status, 408);
    drop(silent);
    server.expect_closes(&[(CloseReason::HandshakeTimeout, 2)]);
}

#[test]
fn a_head_that_trickles_does_not_gain_time() {
    let server = TestServer::with(|config| {
        config.timeouts.handshake = Duration::from_millis(50);
        // So that the bound of the head is not met first.
        config.limits.handshake_bytes_max = 64 << 20;
    });
    let mut client = server.raw();
    client.send(b"GET /echo HTTP/1.1\r\nX-Slow: ");
    while server.sum(|stats| &stats.handshakes[Status::RequestTimeout as usize]) == 0 {
        let before = server.sum(|stats| &stats.bytes_in);
        client.send(b"z");
        server.wait_until("the byte was read, or the time is over", |server| {
            server.sum(|stats| &stats.bytes_in) > before
                || server.sum(|stats| &stats.handshakes[Status::RequestTimeout as usize]) == 1
        });
    }
    assert_eq!(client.read_response().status, 408);
}

#[test]
fn bytes_of_another_protocol_are_refused_at_once() {
    // None of these would ever become a request, so nothing is waited for.
    let server = TestServer::with(|config| config.timeouts.handshake = Duration::from_secs(600));
    let tls_client_hello = common::hex("16 03 01 02 00 01 00 01 fc 03 03");
    let mqtt_connect = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00";
    let cases: [(&[u8], &str); 5] = [
        (&tls_client_hello, "0x16"),
        (&tls_client_hello[..1], "0x16"),
        (mqtt_connect, "0x10"),
        (b"{\"id\":1}\n", "0x7b"),
        (b"\0", "0x00"),
    ];
    for (bytes, words) in cases {
        let response = refused(&server, bytes);
        assert_eq!(response.status, 400, "{response:?}");
        assert!(response.body.contains(words), "{response:?}");
    }
    server.expect_closes(&[(CloseReason::NotUpgraded, 5)]);
}

#[test]
fn a_head_that_ends_before_its_last_line_is_refused() {
    // An empty line of bare line feeds would end the head for one reader and not for
    // another.
    let server = TestServer::start();
    let response = refused(&server, request("", "X: y\n\nhidden"));
    assert_eq!(response.status, 400);
    assert!(response.body.contains("CRLF"), "{response:?}");
}

#[test]
fn every_handshake_is_counted_by_its_status() {
    let server = TestServer::start();
    let client = accepted(&server, &request("", ""));
    refused(&server, request_to("/nowhere"));
    refused(&server, request("Upgrade", ""));
    let count = |status| server.sum(|stats| &stats.handshakes[status as usize]);
    assert_eq!(count(Status::SwitchingProtocols), 1);
    assert_eq!(count(Status::NotFound), 1);
    assert_eq!(count(Status::UpgradeRequired), 1);
    assert_eq!(Status::ALL.into_iter().map(count).sum::<u64>(), 3);
    drop(client);
    server.expect_closes(&[(CloseReason::PeerVanished, 1), (CloseReason::NotUpgraded, 2)]);
}
