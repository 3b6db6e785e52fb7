//! TLS that is none, that stops, or that is cut off. The honest speak plainly on the
//! same port.

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use wsgate::config::Config;
use wsgate::stats::CloseReason;

use super::common::tls::{Authority, NAME, TlsClient, read_until_gone, start};
use super::common::{RawClient, TestServer};
use super::{Honest, SUBSCRIBERS, TOPIC, attacker, wait_for_peace};

/// The head of an encrypted record of 16 KiB, and a little of what it announces.
const RECORD_BEGUN: &[u8] = &[0x17, 3, 3, 0x40, 0, 0xe5, 0xe5, 0xe5];

fn gateway(authority: &Authority, change: impl FnOnce(&mut Config)) -> TestServer {
    start(authority, |config| {
        config.tls.allow_plaintext = true;
        change(config);
    })
}

/// A ClientHello, as rustls makes it.
fn client_hello(authority: &Authority) -> Vec<u8> {
    let name = ServerName::try_from(NAME).expect("a valid name");
    let mut connection = ClientConnection::new(Arc::new(authority.client()), name).expect("a client");
    let mut hello = Vec::new();
    connection.write_tls(&mut hello).expect("bytes in memory");
    hello
}

/// A connection whose ClientHello has been answered.
fn answered(server: &TestServer, hello: &[u8]) -> RawClient {
    let mut client = attacker(server, None);
    client.send(hello);
    assert_eq!(client.read_bytes(1), [0x16], "a handshake record");
    client
}

/// A connection with TLS, nothing said inside.
fn secured(server: &TestServer, authority: &Authority) -> TlsClient {
    TlsClient::over(attacker(server, None).0, authority.client(), NAME).expect("the handshake succeeds")
}

#[test]
fn garbage_gets_an_alert_at_once() {
    const ROUNDS: u64 = 50;
    let authority = Authority::new();
    // Nothing but the alert ends them.
    let server = gateway(&authority, |config| config.timeouts.handshake = Duration::from_secs(3600));
    let mut honest = Honest::join(&server);
    let hello = client_hello(&authority);
    let mut other_message = hello.clone();
    other_message[5] ^= 0xff;
    let nonsense = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3], &[0xe5; 506][..]].concat();
    // A record is longer than any may be; one is of no type that there is.
    let garbage = [&other_message[..], &nonsense, &[0x16, 3, 1, 0xff, 0xff], &[0xe5; 2048]];
    honest.publish_during(|| {
        for bytes in garbage.repeat(ROUNDS as usize) {
            let mut client = attacker(&server, None);
            client.send(bytes);
            // What has not been read at the end makes a reset of it.
            let answer = read_until_gone(&mut client);
            assert_eq!(answer.first(), Some(&0x15), "{answer:02x?} for {:02x?}", &bytes[..5]);
        }
    });
    wait_for_peace(&server);
    let count = ROUNDS * garbage.len() as u64;
    assert_eq!(server.sum(|stats| &stats.tls_handshakes_failed), count);
    assert_eq!(server.closes(CloseReason::TlsError), count);
}

/// Clients that do not go on where they should, or do not stop.
struct Stalling {
    /// Whose handshake stops.
    begun: Vec<RawClient>,
    /// Who have TLS and send no request.
    secured: Vec<TlsClient>,
    /// Who announce a longer handshake than may be.
    greedy: Vec<RawClient>,
    /// Bytes that the gateway has to hold for them.
    held_bytes: usize,
}

impl Stalling {
    const OF_EACH: usize = 200;
    const HANDSHAKE_BYTES_MAX: usize = 2048;
    /// Those whose handshake is complete may hold up to a record, its header included.
    const RECORD_BYTES_MAX: usize = 5 + (1 << 14) + 2048;

    fn connect(server: &TestServer, authority: &Authority) -> Self {
        let hello = client_hello(authority);
        let nearly_a_record = [RECORD_BEGUN, &[0xe5; 16_000]].concat();
        let long_hello = [&[0x16, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc], &[0xe5; 16_000][..]].concat();
        let (mut begun, mut greedy) = (Vec::new(), Vec::new());
        for _ in 0..Self::OF_EACH {
            let mut cut_hello = attacker(server, None);
            cut_hello.send(&hello[..hello.len() - 1]);
            let silent = answered(server, &hello);
            let mut cut = answered(server, &hello);
            cut.send(RECORD_BEGUN);
            begun.extend([cut_hello, silent, cut]);
            for _ in 0..2 {
                let mut client = attacker(server, None);
                client.send(&long_hello);
                greedy.push(client);
            }
        }
        // TLS is there, a request is not, and what might be one does not end.
        let secured: Vec<_> = (0..Self::OF_EACH / 10)
            .map(|_| {
                let mut client = secured(server, authority);
                std::io::Write::write_all(&mut client.0.sock, &nearly_a_record).expect("the gateway reads");
                client
            })
            .collect();
        let held_bytes = Self::OF_EACH * (hello.len() - 1 + RECORD_BEGUN.len()) + secured.len() * nearly_a_record.len();
        Self { begun, secured, greedy, held_bytes }
    }

    fn held_bytes_max(&self) -> usize {
        // Twice, since a vector that grows may have as much again to spare.
        2 * (self.begun.len() * Self::HANDSHAKE_BYTES_MAX + self.secured.len() * Self::RECORD_BYTES_MAX)
    }
}

#[test]
fn handshakes_that_stall_are_counted_and_those_that_are_too_long_refused() {
    let authority = Authority::new();
    // However long it takes until all of them are there.
    let server = gateway(&authority, |config| {
        config.timeouts.handshake = Duration::from_secs(3600);
        config.limits.handshake_bytes_max = Stalling::HANDSHAKE_BYTES_MAX;
    });
    let mut honest = Honest::join(&server);
    let mut stalling = None;
    honest.publish_during(|| stalling = Some(Stalling::connect(&server, &authority)));
    let stalling = stalling.expect("the attack is carried out");
    let (least, most) = (stalling.held_bytes as u64, stalling.held_bytes_max() as u64);
    let refused = stalling.greedy.len() as u64;
    server.wait_until("what stalls is counted, and what is too long refused", |server| {
        let held = server.sum(|stats| &stats.input_memory_bytes);
        assert!(held <= most, "{held} bytes, of at most {most}");
        held >= least && server.sum(|stats| &stats.tls_handshakes_failed) == refused
    });
    for mut client in stalling.greedy {
        assert_eq!(read_until_gone(&mut client), b"");
    }
    drop((stalling.begun, stalling.secured));
    wait_for_peace(&server);
    assert_eq!(server.closes(CloseReason::TlsError), refused);
}

#[test]
fn handshakes_that_stall_end_in_time_wherever_they_do() {
    let authority = Authority::new();
    let server = gateway(&authority, |config| {
        config.timeouts.handshake = Duration::from_secs(5);
        config.limits.handshake_bytes_max = Stalling::HANDSHAKE_BYTES_MAX;
    });
    let mut honest = Honest::join(&server);
    let (mut timed_out, mut begun, mut refused) = (0, 0, 0);
    honest.publish_during(|| {
        let stalling = Stalling::connect(&server, &authority);
        begun = stalling.begun.len() as u64;
        timed_out = begun + stalling.secured.len() as u64;
        refused = stalling.greedy.len() as u64;
        for mut client in stalling.greedy {
            assert_eq!(read_until_gone(&mut client), b"");
        }
        for mut client in stalling.begun {
            let rest = read_until_gone(&mut client);
            assert!(!rest.ends_with(b"\r\n\r\n"), "nothing of HTTP can be said");
        }
        for mut client in stalling.secured {
            assert!(client.read_to_end().starts_with(b"HTTP/1.1 408 "));
        }
    });
    wait_for_peace(&server);
    assert_eq!(server.closes(CloseReason::HandshakeTimeout), timed_out);
    assert_eq!(server.closes(CloseReason::TlsError), refused);
    assert_eq!(server.sum(|stats| &stats.tls_handshakes_failed), refused + begun);
}

#[test]
fn what_is_cut_off_is_counted_and_leaves_nothing_behind() {
    const OF_EACH: u64 = 50;
    let authority = Authority::new();
    let server = gateway(&authority, |_| ());
    let mut honest = Honest::join(&server);
    let hello = client_hello(&authority);
    honest.publish_during(|| {
        for _ in 0..OF_EACH {
            // In the handshake, by a reset and by an end.
            answered(&server, &hello).reset();
            let mut client = answered(&server, &hello);
            client.end();
            read_until_gone(&mut client);
            // In a record, before and after the upgrade.
            for upgrades in [false, true] {
                let mut client = secured(&server, &authority);
                if upgrades {
                    client.upgrade(TOPIC);
                }
                std::io::Write::write_all(&mut client.0.sock, RECORD_BEGUN).expect("the gateway reads");
                client.cut();
                read_until_gone(&mut RawClient(client.0.sock));
            }
        }
    });
    wait_for_peace(&server);
    assert_eq!(server.sum(|stats| &stats.tls_handshakes), 2 * OF_EACH);
    assert_eq!(server.sum(|stats| &stats.tls_handshakes_failed), 2 * OF_EACH);
    assert_eq!(server.sum(|stats| &stats.tls_truncated), 2 * OF_EACH);
    assert_eq!(server.closes(CloseReason::PeerVanished), 4 * OF_EACH);
    assert_eq!(server.sum(|stats| &stats.subscriptions), SUBSCRIBERS as u64);
}
