//! Clients that speak TLS, over real sockets.
#![allow(missing_docs)]

mod common;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use common::tls::{Authority, NAME, TlsClient, WssClient, certificate_in, read_until_gone, start};
use common::{RawClient, TestServer, masked, unmasked, wait_until};
use rustls::crypto::cipher::{AeadKey, Iv, OutboundChunks, OutboundPlainMessage};
use rustls::pki_types::ServerName;
use rustls::{
    CipherSuite, ClientConnection, ConnectionTrafficSecrets, ContentType, HandshakeKind, ProtocolVersion,
    SupportedCipherSuite, version,
};
use tungstenite::Message;
use wsgate::config::{CertificateFiles, Config};
use wsgate::server::{Server, StartError};
use wsgate::stats::CloseReason;

/// A ClientHello, as rustls makes it.
fn client_hello(authority: &Authority) -> Vec<u8> {
    let name = ServerName::try_from(NAME).unwrap();
    let mut connection = ClientConnection::new(Arc::new(authority.client()), name).unwrap();
    let mut hello = Vec::new();
    connection.write_tls(&mut hello).unwrap();
    hello
}

/// The certificate that a client gets which asks for `name`.
fn certificate_for(server: &TestServer, authority: &Authority, name: &str) -> Vec<u8> {
    let client = TlsClient::connect(server, authority.client(), name).expect("the certificate has the name");
    client.0.conn.peer_certificates().unwrap()[0].to_vec()
}

#[test]
fn messages_come_back_over_both_versions() {
    let authority = Authority::new();
    let server = start(&authority, |_| ());
    for (config, expected) in [
        (authority.client_of(&[&version::TLS12]), ProtocolVersion::TLSv1_2),
        (authority.client_of(&[&version::TLS13]), ProtocolVersion::TLSv1_3),
    ] {
        let mut client = WssClient::connect(&server, config, "/echo");
        assert_eq!(client.0.get_ref().conn.protocol_version(), Some(expected));
        for message in ["", "a", &"b".repeat(70_000)] {
            client.send(message);
            assert_eq!(client.receive_text(), message);
        }
        for bytes in [vec![0; 16 * 1024], vec![1; 16 * 1024 + 1], vec![2; 1 << 20]] {
            client.send(bytes.clone());
            assert_eq!(client.receive(), Message::Binary(bytes.into()));
        }
    }
    assert_eq!(server.sum(|stats| &stats.tls_handshakes), 2);
}

#[test]
fn only_the_configured_versions_are_spoken() {
    let authority = Authority::new();
    let server = start(&authority, |config| config.tls.only_version_1_3 = true);
    let error = TlsClient::connect(&server, authority.client_of(&[&version::TLS12]), NAME).err().unwrap();
    assert!(error.to_string().contains("ProtocolVersion"), "{error}");
    WssClient::connect(&server, authority.client_of(&[&version::TLS13]), "/echo");
}

#[test]
fn http_1_1_is_agreed_on_and_nothing_else() {
    let authority = Authority::new();
    let server = start(&authority, |_| ());
    let mut config = authority.client();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let client = TlsClient::connect(&server, config.clone(), NAME).unwrap();
    assert_eq!(client.0.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
    config.alpn_protocols = vec![b"h2".to_vec()];
    let error = TlsClient::connect(&server, config, NAME).err().unwrap();
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
}

#[test]
fn a_client_gets_the_certificate_with_the_name_that_it_asks_for() {
    let authority = Authority::new();
    let files = [
        authority.issue("default", &["default.example", "127.0.0.1"]),
        authority.issue("one", &["one.example", "www.one.example"]),
        authority.issue("wild", &["*.wild.example"]),
    ];
    let server = start(&authority, |config| config.tls.certificates = files.to_vec());
    let [default, one, wild] = files.map(|files| certificate_in(&files.certificates).to_vec());
    for (name, expected) in [
        ("default.example", &default),
        ("one.example", &one),
        ("www.one.example", &one),
        ("WWW.One.Example", &one),
        ("a.wild.example", &wild),
        // An address is no name that a client could ask for.
        ("127.0.0.1", &default),
    ] {
        assert!(certificate_for(&server, &authority, name) == *expected, "{name}");
    }
    // Whoever asks for another name gets the first, and refuses it.
    for name in ["unknown.example", "a.b.wild.example", "wild.example"] {
        let error = TlsClient::connect(&server, authority.client(), name).err().unwrap();
        assert!(error.to_string().contains("default.example"), "{name}: {error}");
    }
}

#[test]
fn new_certificates_are_for_new_connections_and_old_ones_stay_until_all_are_good() {
    let authority = Authority::new();
    let (first, second) = (authority.issue("first", &[NAME]), authority.issue("second", &["second.example"]));
    let config = Config {
        listen: vec![SocketAddr::from(([127, 0, 0, 1], 0)).into()],
        admin: ([127, 0, 0, 1], 0).into(),
        shards: 2,
        io: common::io(),
        ..Config::default()
    };
    let server = TestServer::start_with(Config {
        tls: wsgate::config::Tls { certificates: vec![first.clone(), second.clone()], ..config.tls.clone() },
        security: wsgate::config::Security { allowed_hosts: vec![NAME.to_owned()], ..config.security.clone() },
        ..config
    });
    let mut open = WssClient::connect(&server, authority.client(), "/echo");
    let old = certificate_in(&first.certificates).to_vec();
    assert!(certificate_for(&server, &authority, NAME) == old);

    // A new first certificate, and a second that is broken: neither is taken.
    authority.issue("first", &[NAME]);
    let new = certificate_in(&first.certificates).to_vec();
    let good = fs::read(&second.certificates).unwrap();
    for (broken, reason) in [(&b"nonsense"[..], "has no certificate"), (&good[..good.len() / 2], "is not PEM")] {
        fs::write(&second.certificates, broken).unwrap();
        let error = server.reload_certificates().unwrap_err().to_string();
        assert!(error.contains("second.pem") && error.contains(reason), "{error}");
        assert!(certificate_for(&server, &authority, NAME) == old);
    }

    fs::write(&second.certificates, &good).unwrap();
    server.reload_certificates().unwrap();
    assert!(certificate_for(&server, &authority, NAME) == new && new != old);
    open.send("still here");
    assert_eq!(open.receive_text(), "still here");
}

#[test]
fn what_cannot_be_served_is_refused_at_the_start_with_file_and_reason() {
    let authority = Authority::new();
    let good = authority.issue("good", &[NAME]);
    let other = authority.issue("other", &[NAME]);
    let certificates = fs::read_to_string(&good.certificates).unwrap();
    let key = fs::read_to_string(&good.key).unwrap();
    let missing = CertificateFiles { certificates: authority.folder.join("absent.pem"), ..good.clone() };
    for (files, words) in [
        (missing, &["absent.pem", "No such file"][..]),
        (CertificateFiles { key: other.key, ..good.clone() }, &["other.key", "good.pem", "does not belong"]),
        (authority.write("swapped", &key, &certificates), &["swapped.pem", "no certificate"]),
        (authority.write("keyless", &certificates, ""), &["keyless.key", "no private key"]),
    ] {
        let mut config = Config::default();
        (config.listen, config.admin) =
            (vec![SocketAddr::from(([127, 0, 0, 1], 0)).into()], ([127, 0, 0, 1], 0).into());
        config.tls.certificates = vec![good.clone(), files];
        let error = Server::start(&config).err().unwrap();
        assert!(matches!(error, StartError::Tls(_)), "{error}");
        let error = error.to_string();
        assert_eq!(Server::check_files(&config).unwrap_err().to_string(), error, "config check says the same");
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
        assert!(!error.contains(key.lines().nth(1).unwrap()), "{error}");
    }
}

#[test]
fn certificate_and_key_may_be_in_one_file() {
    let authority = Authority::new();
    let files = authority.issue("both", &[NAME]);
    let mut both = fs::read(&files.certificates).unwrap();
    both.extend(fs::read(&files.key).unwrap());
    fs::write(&files.certificates, both).unwrap();
    let files = CertificateFiles { key: files.certificates.clone(), ..files };
    let server = start(&authority, |config| config.tls.certificates = vec![files]);
    WssClient::connect(&server, authority.client(), "/echo");
}

#[test]
fn clients_resume_with_tickets() {
    let authority = Authority::new();
    let server = start(&authority, |_| ());
    for version in [&version::TLS12, &version::TLS13] {
        let config = authority.client_of(&[version]);
        for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let mut client = WssClient::connect(&server, config.clone(), "/echo");
            // The ticket comes with the first answer at the latest.
            client.send("a");
            client.receive();
            assert_eq!(client.0.get_ref().conn.handshake_kind(), Some(expected), "{version:?}");
        }
    }
}

#[test]
fn garbage_gets_an_alert_and_hurts_nobody_else() {
    let authority = Authority::new();
    let server = start(&authority, |_| ());
    let mut honest = WssClient::connect(&server, authority.client(), "/echo");
    let hello = client_hello(&authority);
    let mut flipped = hello.clone();
    // The type of the handshake message.
    flipped[5] ^= 0xff;
    let too_long = [0x16, 3, 1, 0xff, 0xff];
    let alert = [0x15, 3, 3, 0, 2, 2, 40];
    let garbage = [&[0; 100][..], &[0x16; 50], &[0xff; 300], &alert, &flipped, &too_long];
    for bytes in garbage {
        let mut client = server.raw();
        client.send(bytes);
        let answer = read_until_gone(&mut client);
        // An alert of the client's own is not answered.
        let expected = (bytes != alert).then_some(&0x15);
        assert_eq!(answer.first(), expected, "{answer:02x?} for {:02x?}", &bytes[..bytes.len().min(8)]);
    }
    honest.send("unharmed");
    assert_eq!(honest.receive_text(), "unharmed");
    let failed = server.sum(|stats| &stats.tls_handshakes_failed);
    assert_eq!(failed, garbage.len() as u64);
    // Counted after the client sees the end.
    server.wait_until("the last is counted", |server| server.closes(CloseReason::TlsError) == failed);
}

#[test]
fn a_changed_record_ends_its_connection() {
    let authority = Authority::new();
    let server = start(&authority, |_| ());
    let mut client = TlsClient::connect(&server, authority.client(), NAME).unwrap();
    client.upgrade("/echo");
    let mut record = Vec::new();
    client.0.conn.writer().write_all(&masked(0x81, b"a")).unwrap();
    client.0.conn.write_tls(&mut record).unwrap();
    *record.last_mut().unwrap() ^= 1;
    client.0.sock.write_all(&record).unwrap();
    let error = client.0.read_to_end(&mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("BadRecordMac"), "{error}");
    drop(client);
    server.expect_closes(&[(CloseReason::TlsError, 1)]);
}

#[test]
fn plain_requests_are_refused_unless_allowed() {
    let authority = Authority::new();
    let server = start(&authority, |_| ());
    let mut client = server.raw();
    client.send(b"GET /echo HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let response = client.read_response();
    assert_eq!(response.status, 400);
    assert!(response.body.contains("wss://"), "{}", response.body);
    assert_eq!(server.sum(|stats| &stats.tls_plaintext_refused), 1);

    let server = start(&authority, |config| config.tls.allow_plaintext = true);
    let mut client = server.client("/echo");
    client.send("plain");
    assert_eq!(client.receive_text(), "plain");
    let mut client = WssClient::connect(&server, authority.client(), "/echo");
    client.send("secret");
    assert_eq!(client.receive_text(), "secret");
}

#[test]
fn an_end_without_close_notify_is_counted_as_truncation() {
    let authority = Authority::new();
    let server = start(&authority, |_| ());
    let mut client = TlsClient::connect(&server, authority.client(), NAME).unwrap();
    client.upgrade("/echo");
    client.cut();
    client.read_to_end();
    assert_eq!(server.sum(|stats| &stats.tls_truncated), 1);

    // With close_notify it is an end like any other.
    let mut client = TlsClient::connect(&server, authority.client(), NAME).unwrap();
    client.upgrade("/echo");
    client.end();
    client.read_to_end();
    // After the closing handshake of the WebSocket nothing can be cut any more.
    let mut client = TlsClient::connect(&server, authority.client(), NAME).unwrap();
    client.upgrade("/echo");
    client.send(&masked(0x88, &1000u16.to_be_bytes()));
    assert_eq!(client.read_to_end(), unmasked(0x88, &1000u16.to_be_bytes()));
    client.cut();
    server.expect_closes(&[(CloseReason::PeerClosed, 1), (CloseReason::PeerVanished, 2)]);
    assert_eq!(server.sum(|stats| &stats.tls_truncated), 1);
}

#[test]
fn close_notify_comes_before_the_end() {
    let authority = Authority::new();
    let server = start(&authority, |_| ());
    // Whoever ends it: the peer, a refused upgrade, a plain answer, or the gateway.
    let mut client = TlsClient::connect(&server, authority.client(), NAME).unwrap();
    client.send(b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(client.read_to_end().starts_with(b"HTTP/1.1 404 "));
    let mut client = TlsClient::connect(&server, authority.client(), NAME).unwrap();
    client.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(client.read_to_end().starts_with(b"HTTP/1.1 200 "));
    let mut client = TlsClient::connect(&server, authority.client(), NAME).unwrap();
    client.upgrade("/echo");
    server.drain();
    let close = client.read_bytes(4);
    assert_eq!(close[..1], [0x88]);
    client.read_bytes(usize::from(close[1]) - 2);
    client.send(&masked(0x88, &1001u16.to_be_bytes()));
    assert_eq!(client.read_to_end(), b"");
}

#[test]
fn handshakes_have_the_time_and_the_bytes_that_others_have() {
    let authority = Authority::new();
    let server = start(&authority, |config| {
        config.timeouts.handshake = std::time::Duration::from_millis(200);
        config.limits.handshake_bytes_max = 1024;
    });
    let hello = client_hello(&authority);
    // Nothing, a part, and all but the last byte: cut without a word, which nobody would understand.
    for len in [0, 1, 5, hello.len() - 1] {
        let mut client = server.raw();
        client.send(&hello[..len]);
        assert_eq!(read_until_gone(&mut client), b"", "{len} bytes");
    }
    // TLS is there, a request is not: now there is a language.
    let mut client = TlsClient::connect(&server, authority.client(), NAME).unwrap();
    assert!(client.read_to_end().starts_with(b"HTTP/1.1 408 "));
    drop(client);
    wait_until("all are counted", || server.closes(CloseReason::HandshakeTimeout) == 5);

    // A ClientHello that announces more than is allowed, and goes on.
    let mut client = server.raw();
    client.send(&[0x16, 3, 1, 0x20, 0, 1, 0, 0x1f, 0xfc]);
    client.send(&[0; 1100]);
    assert_eq!(read_until_gone(&mut client), b"");
    wait_until("it is counted", || server.closes(CloseReason::TlsError) == 1);
    assert_eq!(server.sum(|stats| &stats.tls_handshakes_failed), 4);
}

#[test]
fn a_handshake_byte_by_byte_is_understood() {
    let authority = Authority::new();
    let server = start(&authority, |_| ());
    for version in [&version::TLS12, &version::TLS13] {
        let name = ServerName::try_from(NAME).unwrap();
        let mut connection = ClientConnection::new(Arc::new(authority.client_of(&[version])), name).unwrap();
        let mut stream = server.raw().0;
        let send = |connection: &mut ClientConnection, stream: &mut TcpStream| {
            let mut bytes = Vec::new();
            while connection.wants_write() {
                connection.write_tls(&mut bytes).unwrap();
            }
            bytes.iter().for_each(|&byte| stream.write_all(&[byte]).unwrap());
        };
        while connection.is_handshaking() {
            send(&mut connection, &mut stream);
            if connection.wants_read() && connection.is_handshaking() {
                connection.read_tls(&mut stream).unwrap();
                connection.process_new_packets().unwrap();
            }
        }
        send(&mut connection, &mut stream);
        let mut client = TlsClient(rustls::StreamOwned::new(connection, stream));
        client.upgrade("/echo");
        // Two messages in two records, cut everywhere.
        for text in [&b"first"[..], b"second"] {
            client.0.conn.writer().write_all(&masked(0x81, text)).unwrap();
        }
        send(&mut client.0.conn, &mut client.0.sock);
        assert_eq!(client.read_bytes(15), [unmasked(0x81, b"first"), unmasked(0x81, b"second")].concat());
    }
}

#[test]
fn everybody_gets_everything_whatever_the_transport() {
    let authority = Authority::new();
    let server = start(&authority, |config| config.tls.allow_plaintext = true);
    let mut secured: Vec<_> =
        (0..10).map(|_| WssClient::connect(&server, authority.client(), "/topics/room")).collect();
    let mut plain: Vec<_> = (0..3).map(|_| server.client("/topics/room")).collect();
    for n in 0..100 {
        secured[n % 10].send(format!("{n}"));
        server.publish("room", "text/plain", format!("http {n}").as_bytes());
    }
    let mut first = Vec::new();
    for client in &mut secured {
        let seen: Vec<_> = (0..200).map(|_| client.receive_text()).collect();
        if first.is_empty() {
            first = seen.clone();
        }
        assert_eq!(seen, first);
    }
    for client in &mut plain {
        let seen: Vec<_> = (0..200).map(|_| client.receive_text()).collect();
        assert_eq!(seen, first);
    }
}

/// A connection whose kernel takes a few KB and no more.
fn small_stream(server: &TestServer) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&server.clients.into()).unwrap();
    RawClient::new(socket.into()).0
}

#[test]
fn subscribers_that_do_not_read_are_closed_and_the_others_get_all() {
    const MESSAGES: usize = 300;
    let authority = Authority::new();
    let server = start(&authority, |config| {
        config.shards = 1;
        config.limits.queue_bytes_max = 64 * 1024;
        config.limits.kernel_unsent_bytes = 4096;
    });
    let mut stalled = WssClient::over(small_stream(&server), authority.client(), "/topics/room");
    let mut reader = WssClient::connect(&server, authority.client(), "/topics/room");
    let message = |n: usize| format!("{n:06} {}", "x".repeat(2000));
    for n in 0..MESSAGES {
        server.publish("room", "text/plain", message(n).as_bytes());
        assert_eq!(reader.receive_text(), message(n));
    }
    server.wait_until("the one that is behind is told to go", |server| server.sum(|stats| &stats.subscriptions) == 1);
    // Plaintext that was not encrypted is dropped; what was encrypted arrives whole, then
    // the code. What waits in the meantime is within the bound and one record.
    for n in 0.. {
        match stalled.0.read().unwrap() {
            Message::Text(text) => assert_eq!(text.as_str(), message(n)),
            Message::Close(frame) => {
                assert_eq!(u16::from(frame.unwrap().code), 4008);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    drop((stalled, reader));
    server.expect_closes(&[(CloseReason::PeerVanished, 1), (CloseReason::SlowConsumer, 1)]);
    assert_eq!(server.sum(|stats| &stats.queue_memory_bytes), 0);
}

#[test]
fn large_messages_pass_through_small_buffers() {
    let authority = Authority::new();
    let server = start(&authority, |config| config.limits.kernel_unsent_bytes = 4096);
    for version in [&version::TLS12, &version::TLS13] {
        let mut client = WssClient::over(small_stream(&server), authority.client_of(&[version]), "/echo");
        let bytes: Vec<u8> = (0..2_000_000u32).map(|n| (n * 7 / 3) as u8).collect();
        client.send(bytes.clone());
        assert!(client.receive() == Message::Binary(bytes.into()));
    }
}

#[test]
fn many_handshakes_at_once_all_succeed() {
    let authority = Authority::new();
    let server = start(&authority, |config| config.shards = 1);
    let hello = client_hello(&authority);
    // Their ClientHellos are there when the loop looks; their handshakes never end.
    let waiting: Vec<_> = (0..50)
        .map(|_| {
            let mut client = server.raw();
            client.send(&hello);
            client
        })
        .collect();
    let clients: Vec<_> = (0..10).map(|_| WssClient::connect(&server, authority.client(), "/echo")).collect();
    for mut client in waiting {
        assert_eq!(client.read_bytes(1), [0x16]);
    }
    for mut client in clients {
        client.send("a");
        assert_eq!(client.receive_text(), "a");
    }
}

/// A message of the handshake that is cut into records is held until it is whole. What is
/// said to the peer meanwhile must not depend on it.
#[test]
fn a_key_update_in_pieces_does_not_hold_up_what_is_said() {
    let authority = Authority::new();
    let server = start(&authority, |config| config.shards = 1);
    let mut config = authority.client_of(&[&version::TLS13]);
    config.enable_secret_extraction = true;
    let mut client = TlsClient::connect(&server, config, NAME).unwrap();
    client.upgrade("/topics/room");
    let rustls::StreamOwned { conn, mut sock } = client.0;
    let suite = conn.negotiated_cipher_suite().unwrap();
    let secrets = conn.dangerous_extract_secrets().unwrap();
    let (seq, key, iv) = match secrets.tx {
        (seq, ConnectionTrafficSecrets::Aes256Gcm { key, iv } | ConnectionTrafficSecrets::Aes128Gcm { key, iv }) => {
            (seq, key, iv)
        }
        _ => panic!("another suite than {:?}", CipherSuite::TLS13_AES_256_GCM_SHA384),
    };
    let mut encrypter = encrypter(suite, key, iv);
    let mut record = |seq: u64, bytes: &[u8]| {
        let message = OutboundPlainMessage {
            typ: ContentType::Handshake,
            version: ProtocolVersion::TLSv1_2,
            payload: OutboundChunks::Single(bytes),
        };
        encrypter.encrypt(message, seq).unwrap().encode()
    };
    // The header of a KeyUpdate that asks for nothing in return, and not its body.
    let header = record(seq, &[24, 0, 0]);
    let received = server.sum(|stats| &stats.bytes_in);
    sock.write_all(&header).unwrap();
    server.wait_until("the header was read", |server| {
        server.sum(|stats| &stats.bytes_in) == received + header.len() as u64
    });
    for _ in 0..2 {
        server.publish("room", "text/plain", b"meanwhile");
        let mut head = [0; 5];
        sock.read_exact(&mut head).unwrap();
        assert_eq!(head[0], 0x17, "application data");
        let mut body = vec![0; u16::from_be_bytes([head[3], head[4]]).into()];
        sock.read_exact(&mut body).unwrap();
        assert_eq!(body.len(), unmasked(0x81, b"meanwhile").len() + 17);
    }
    // The rest, and with it the keys change: old ones are no good any more.
    sock.write_all(&record(seq + 1, &[1, 0])).unwrap();
    sock.write_all(&record(seq + 2, &[24, 0, 0, 1, 0])).unwrap();
    let mut rest = Vec::new();
    sock.read_to_end(&mut rest).unwrap();
    assert_eq!(rest[0], 0x17, "an alert, encrypted");
    drop(sock);
    server.expect_closes(&[(CloseReason::TlsError, 1)]);
}

fn encrypter(suite: SupportedCipherSuite, key: AeadKey, iv: Iv) -> Box<dyn rustls::crypto::cipher::MessageEncrypter> {
    suite.tls13().expect("TLS 1.3").aead_alg.encrypter(key, iv)
}
