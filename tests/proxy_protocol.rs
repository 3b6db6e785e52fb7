//! PROXY headers: from whom they are required, and what follows from them.
#![allow(missing_docs, clippy::disallowed_methods)]

mod common;

use std::io::Write as _;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use common::tls::{self, Authority, TlsClient};
use common::{RawClient, Response, TestServer, masked, unmasked, upgrade_request};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use wsgate::address::{ListenAddress, Networks};
use wsgate::admission::AddressBound;
use wsgate::config::Config;
use wsgate::proto::handshake::Status;
use wsgate::stats::CloseReason;

/// Proxies connect from here, and nobody else does.
const PROXY: [u8; 4] = [127, 0, 0, 9];
const HOST: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 80);

fn server(change: impl FnOnce(&mut Config)) -> TestServer {
    TestServer::with(|config| {
        config.proxy_protocol.trusted = Networks::new(vec![Networks::parse_block("127.0.0.9/32").unwrap()]);
        change(config);
    })
}

fn line(client: &str) -> Vec<u8> {
    let family = if client.contains(':') { "TCP6 {} ::1" } else { "TCP4 {} 127.0.0.1" };
    format!("PROXY {} 56324 443\r\n", family.replace("{}", client)).into_bytes()
}

/// Version 2, with entries behind the addresses.
fn binary(command: u8, source: Ipv6Addr, entries: &[u8]) -> Vec<u8> {
    let body = [source.octets().as_slice(), &Ipv6Addr::LOCALHOST.octets(), &[1, 2, 3, 4], entries].concat();
    let len = (body.len() as u16).to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &[command, 0x21], &len, &body].concat()
}

/// What the gateway answers to these bytes from the proxy's address.
fn answer(server: &TestServer, bytes: &[u8]) -> Response {
    let mut client = RawClient::connect_from(PROXY, server.clients);
    client.send(bytes);
    client.read_response()
}

/// An open connection on behalf of a client.
fn open(server: &TestServer, header: &[u8]) -> RawClient {
    let mut client = RawClient::connect_from(PROXY, server.clients);
    client.send(header);
    client.upgrade("/echo", HOST);
    client
}

#[track_caller]
fn expect_echo(client: &mut RawClient) {
    client.send(&masked(0x81, b"hello"));
    client.expect(&unmasked(0x81, b"hello"));
}

#[test]
fn behind_its_header_a_connection_is_like_any_other() {
    let server = server(|_| ());
    let headers = [
        line("192.0.2.7"),
        line("2001:db8::7"),
        b"PROXY UNKNOWN\r\n".to_vec(),
        binary(0x21, "2001:db8::7".parse().unwrap(), b"\x01\x00\x02h2"),
        binary(0x20, Ipv6Addr::UNSPECIFIED, b""),
    ];
    for header in &headers {
        expect_echo(&mut open(&server, header));
        // In one piece with everything else.
        let mut client = RawClient::connect_from(PROXY, server.clients);
        let request = upgrade_request("/echo", HOST);
        client.send(&[header.as_slice(), &request, &masked(0x81, b"early")].concat());
        assert!(client.read_head().starts_with("HTTP/1.1 101 "));
        client.expect(&unmasked(0x81, b"early"));
        // And byte by byte.
        let mut client = RawClient::connect_from(PROXY, server.clients);
        for byte in header.iter().chain(&request) {
            client.send(&[*byte]);
        }
        assert!(client.read_head().starts_with("HTTP/1.1 101 "));
    }
}

#[test]
fn who_must_send_a_header_and_does_not_is_told_so() {
    let server = server(|config| config.proxy_protocol.header_bytes_max = 300);
    let bad_sum = binary(0x21, Ipv6Addr::LOCALHOST, b"\x03\x00\x04abcd");
    let long = binary(0x21, Ipv6Addr::LOCALHOST, &[0; 300]);
    for (bytes, words) in [
        (upgrade_request("/echo", HOST).as_slice(), "byte 0 is 0x47"),
        (b"PROXY TCP4 nonsense\r\n", "address"),
        (&bad_sum, "checksum"),
        (&long[..16], "above the limit of 300"),
    ] {
        let response = answer(&server, bytes);
        assert_eq!(response.status, 400, "{response:?}");
        assert!(response.body.contains("proxy_protocol.trusted") && response.body.contains(words), "{response:?}");
    }
    server.expect_closes(&[(CloseReason::NotUpgraded, 4)]);
    assert_eq!(server.scraped("proxy_headers_too_long", ""), 1);
}

#[test]
fn from_anybody_else_a_header_is_no_request() {
    let server = server(|_| ());
    for header in [line("192.0.2.7"), binary(0x21, Ipv6Addr::LOCALHOST, b"")] {
        let mut client = server.raw();
        client.send(&[header.as_slice(), b"\r\n\r\n"].concat());
        assert_eq!(client.read_response().status, 400);
    }
    server.raw_open("/echo");
}

#[test]
fn a_header_has_the_time_that_a_request_has() {
    let server = server(|config| config.timeouts.handshake = Duration::from_millis(50));
    for start in [b"".as_slice(), b"PROXY TCP4 192.0.2.7 1", &line("192.0.2.7")] {
        assert_eq!(answer(&server, start).status, 408, "{start:?}");
    }
    server.wait_until("all are counted", |server| server.closes(CloseReason::HandshakeTimeout) == 3);
}

#[test]
fn the_address_in_the_header_is_the_one_that_counts() {
    let server = server(|config| {
        config.address_limits.connections_max = 2;
        config.address_limits.exempt = Networks::default();
    });
    let refusals =
        |server: &TestServer| server.sum(|stats| &stats.address_refusals[AddressBound::Connections as usize]);
    let mut first = open(&server, &line("192.0.2.1"));
    let second = open(&server, &line("192.0.2.1"));
    let refused = answer(&server, &line("192.0.2.1"));
    assert_eq!((refused.status, refused.header("Retry-After")), (429, Some("1")), "{refused:?}");
    assert!(refused.body.contains("too many connections"), "{refused:?}");
    assert_eq!(refusals(&server), 1);
    assert_eq!(server.sum(|stats| &stats.handshakes[Status::TooManyRequests as usize]), 1);

    // Other clients of the same proxy, and the proxy itself.
    let _other = open(&server, &line("192.0.2.2"));
    let _itself: Vec<_> = (0..5).map(|_| open(&server, b"PROXY UNKNOWN\r\n")).collect();
    // Addresses of one network of IPv6 are one client, whichever version says so.
    let _network = open(&server, &line("2001:db8::1"));
    let _same = open(&server, &binary(0x21, "2001:db8::ffff".parse().unwrap(), b""));
    assert_eq!(answer(&server, &line("2001:db8::2")).status, 429);
    let _beside = open(&server, &line("2001:db8:0:1::2"));

    drop(second);
    let left = |server: &TestServer| server.closes(CloseReason::PeerVanished) == 1;
    server.wait_until("one has left", left);
    let _third = open(&server, &line("192.0.2.1"));
    expect_echo(&mut first);
    assert_eq!(refusals(&server), 2);
}

#[test]
fn proxies_at_unix_sockets_are_trusted_by_that_word() {
    let path = PathBuf::from(format!("/tmp/wsgate-proxy-{}.sock", std::process::id()));
    let server = TestServer::with(|config| {
        config.listen.push(ListenAddress::Unix { path: path.clone(), mode: 0o600 });
        config.proxy_protocol.trusts_unix = true;
        config.address_limits.connections_max = 1;
    });
    let open = || {
        let mut client = RawClient::connect_unix(&path);
        client.send(&[line("192.0.2.1"), upgrade_request("/echo", HOST)].concat());
        client
    };
    let mut first = open();
    assert!(first.read_head().starts_with("HTTP/1.1 101 "));
    assert_eq!(open().read_response().status, 429);
    expect_echo(&mut first);
    expect_echo(&mut server.raw_open("/echo"));
    drop(server);
    // The lock's file stays, as the gateway leaves it.
    let _ = std::fs::remove_file(path.with_added_extension("lock"));
}

/// A TLS gateway behind the proxy; its clients' own addresses are not exempt.
fn tls_server(authority: &Authority) -> TestServer {
    tls::start(authority, |config| {
        config.proxy_protocol.trusted = Networks::new(vec![Networks::parse_block("127.0.0.9/32").unwrap()]);
        config.address_limits.connections_max = 1;
        config.address_limits.exempt = Networks::default();
    })
}

/// TLS behind a header, which comes in pieces: after so many bytes, and then with the
/// client's first record.
fn secure_behind(server: &TestServer, authority: &Authority, header: &[u8], cut: usize) -> TlsClient {
    let name = ServerName::try_from(tls::NAME).unwrap();
    let mut connection = ClientConnection::new(Arc::new(authority.client()), name).unwrap();
    let mut rest = header[cut..].to_vec();
    connection.write_tls(&mut rest).unwrap();
    let mut client = RawClient::connect_from(PROXY, server.clients);
    client.0.set_nodelay(true).unwrap();
    client.send(&header[..cut]);
    client.send(&rest);
    while connection.is_handshaking() {
        connection.complete_io(&mut client.0).unwrap();
    }
    TlsClient(StreamOwned::new(connection, client.0))
}

#[test]
fn behind_its_header_a_client_speaks_tls() {
    let authority = Authority::new();
    let server = tls_server(&authority);
    let headers = [line("192.0.2.7"), binary(0x21, "2001:db8::7".parse().unwrap(), b"")];
    for header in headers {
        for cut in [0, 1, 20, header.len()] {
            let mut client = secure_behind(&server, &authority, &header, cut);
            client.upgrade("/echo");
            client.send(&masked(0x81, b"hello"));
            let expected = unmasked(0x81, b"hello");
            assert_eq!(client.read_bytes(expected.len()), expected, "cut at {cut}");
            drop(client);
            server.wait_until("it is gone", |server| server.sum(|stats| &stats.connections) == 0);
        }
    }
}

#[test]
fn who_may_speak_tls_is_refused_without_a_word_in_the_clear() {
    let authority = Authority::new();
    let server = tls_server(&authority);
    let refusals =
        |server: &TestServer| server.sum(|stats| &stats.address_refusals[AddressBound::Connections as usize]);
    let refused = |source: [u8; 4], bytes: &[u8]| {
        let mut client = RawClient::connect_from(source, server.clients);
        // It may be gone already.
        let _ = client.0.write_all(bytes);
        assert_eq!(tls::read_until_gone(&mut client), b"");
    };
    refused(PROXY, b"GET / HTTP/1.1\r\n\r\n");
    let _behind = secure_behind(&server, &authority, &line("192.0.2.7"), 0);
    refused(PROXY, &line("192.0.2.7"));
    assert_eq!(refusals(&server), 1);
    let direct = RawClient::connect_from([127, 0, 0, 5], server.clients);
    let _direct = TlsClient::over(direct.0, authority.client(), tls::NAME).unwrap();
    refused([127, 0, 0, 5], b"");
    assert_eq!(refusals(&server), 2);
}
