//! What one client address may have: connections at once, handshakes in a second.
#![allow(missing_docs, clippy::disallowed_methods)]

mod common;

use std::io::{ErrorKind, Read};
use std::net::{IpAddr, Shutdown};
use std::time::Instant;

use common::{RawClient, Response, TestServer, masked, unmasked};
use wsgate::address::Networks;
use wsgate::admission::{AddressBound, Admission, AdmissionSettings};
use wsgate::config::Config;
use wsgate::stats::CloseReason;
use wsgate::time::Time;

/// Addresses of this process alone: an address has 28,000 ports, and they come back slowly.
fn address(n: u8) -> [u8; 4] {
    let [.., high, low] = std::process::id().to_be_bytes();
    [127, high, low, n]
}

fn client() -> [u8; 4] {
    address(2)
}

fn other() -> [u8; 4] {
    address(3)
}

/// Loopback addresses are nothing special here.
fn server(change: impl FnOnce(&mut Config)) -> TestServer {
    TestServer::with(|config| {
        config.address_limits.exempt = Networks::default();
        change(config);
    })
}

fn open(server: &TestServer, source: [u8; 4]) -> RawClient {
    let mut client = RawClient::connect_from(source, server.clients);
    client.upgrade("/echo", server.clients);
    client
}

/// What became of a connection that said nothing.
enum Outcome {
    Admitted,
    /// With the answer, unless the reset behind it was faster.
    Refused(Option<Response>),
}

fn try_once(server: &TestServer, source: [u8; 4]) -> Outcome {
    let mut client = match RawClient::try_connect_from(source, server.clients) {
        Ok(client) => client,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => return Outcome::Refused(None),
        Err(error) => panic!("{error}"),
    };
    // Fails if it has been reset already.
    let _ = client.0.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    match client.0.read_to_end(&mut answer) {
        // Who is admitted and says nothing gets an orderly end.
        Ok(0) => Outcome::Admitted,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {
            Outcome::Refused((!answer.is_empty()).then(|| Response::parse(&answer)))
        }
        other => panic!("{other:?} after {answer:?}"),
    }
}

/// The answer to a client that is refused each time; several tries, since an answer may be
/// overtaken by the reset. Each is counted.
#[track_caller]
fn refused(server: &TestServer, source: [u8; 4]) -> Response {
    let before = AddressBound::ALL.map(|bound| refusals(server, bound)).iter().sum::<u64>();
    for tries in 1..=100 {
        let Outcome::Refused(response) = try_once(server, source) else { panic!("{source:?} was admitted") };
        let counted = || AddressBound::ALL.map(|bound| refusals(server, bound)).iter().sum::<u64>();
        server.wait_until("it is counted", |_| counted() == before + tries);
        if let Some(response) = response {
            return response;
        }
    }
    panic!("of 100 answers none has arrived");
}

fn refusals(server: &TestServer, bound: AddressBound) -> u64 {
    server.sum(|stats| &stats.address_refusals[bound as usize])
}

#[test]
fn an_address_has_so_many_connections_on_all_shards_together() {
    let server = server(|config| {
        config.shards = 3;
        config.address_limits.connections_max = 5;
    });
    let mut clients: Vec<_> = (0..5).map(|_| open(&server, client())).collect();
    for _ in 0..10 {
        let response = refused(&server, client());
        assert_eq!((response.status, response.header("Retry-After")), (429, Some("1")), "{response:?}");
        assert!(response.body.contains("too many connections from this address"), "{response:?}");
    }
    assert_eq!(refusals(&server, AddressBound::Handshakes), 0);
    // They have cost nothing that stays, and nobody else anything.
    assert_eq!(server.sum(|stats| &stats.connections), 5);
    assert_eq!(server.sum(|stats| &stats.accepted), 5);
    let _others: Vec<_> = (0..5).map(|_| open(&server, other())).collect();
    assert_eq!(refused(&server, other()).status, 429);
    for client in &mut clients {
        client.send(&masked(0x81, b"still"));
        client.expect(&unmasked(0x81, b"still"));
    }

    // However a connection ends, its place is free again.
    clients.pop().unwrap().reset();
    clients.pop();
    let left = |server: &TestServer| server.closes(CloseReason::PeerVanished) == 2;
    server.wait_until("two have left", left);
    clients.extend((0..2).map(|_| open(&server, client())));
    assert_eq!(refused(&server, client()).status, 429);
}

#[test]
fn an_address_begins_so_many_handshakes_in_a_second() {
    const RATE: usize = 20;
    let server = server(|config| config.address_limits.handshakes_per_second_max = RATE);
    let start = Instant::now();
    let mut admitted = 0;
    for _ in 0..200 {
        match try_once(&server, client()) {
            Outcome::Admitted => admitted += 1,
            Outcome::Refused(Some(response)) => {
                assert!(response.status == 429 && response.body.contains("too many handshakes"), "{response:?}");
            }
            Outcome::Refused(None) => {}
        }
    }
    let paid = RATE as f64 * (1.0 + start.elapsed().as_secs_f64());
    // The loops' clocks stand still during a turn, so the two are a moment apart.
    assert!(admitted + 1 >= RATE && admitted as f64 <= paid + 1.0, "{admitted} admitted, {paid} paid for");
    server.wait_until("all are counted", |server| refusals(server, AddressBound::Handshakes) == 200 - admitted as u64);
    open(&server, other());
}

#[test]
fn loopback_addresses_are_exempt_unless_somebody_says_otherwise() {
    let server = TestServer::with(|config| {
        config.address_limits.connections_max = 1;
        config.address_limits.handshakes_per_second_max = 1;
    });
    let _clients: Vec<_> = (0..10).map(|_| open(&server, client())).collect();
    let server = server_with_exempt(&IpAddr::from(other()).to_string());
    let _exempt: Vec<_> = (0..10).map(|_| open(&server, other())).collect();
    let _first = open(&server, client());
    assert_eq!(refused(&server, client()).status, 429);
}

fn server_with_exempt(block: &str) -> TestServer {
    server(|config| {
        config.address_limits.connections_max = 1;
        config.address_limits.exempt = Networks::new(vec![Networks::parse_block(block).unwrap()]);
    })
}

#[test]
fn zero_is_no_bound() {
    let server = server(|config| {
        config.address_limits.connections_max = 0;
        config.address_limits.handshakes_per_second_max = 0;
    });
    let _clients: Vec<_> = (0..300).map(|_| open(&server, client())).collect();
}

/// Shards share the table without a lock, so at the bound each may let in one more that
/// came at the same moment, and no more than that.
#[test]
fn shards_that_admit_at_the_same_moment_pass_the_bound_by_one_each_at_most() {
    const SHARDS: usize = 4;
    let settings = AdmissionSettings { connections_per_address_max: 100, ..AdmissionSettings::default() };
    let admission = Admission::new(settings, 1);
    let client = IpAddr::from([192, 0, 2, 1]);
    let admitted: usize = std::thread::scope(|scope| {
        let count = || (0..2000).filter(|_| admission.enter(client, Time::ZERO).is_ok()).count();
        let shards: Vec<_> = (0..SHARDS).map(|_| scope.spawn(count)).collect();
        shards.into_iter().map(|shard| shard.join().unwrap()).sum()
    });
    assert!((100..100 + SHARDS).contains(&admitted), "{admitted}");
    for _ in 0..admitted {
        admission.leave(client.into());
    }
    for _ in 0..100 {
        assert_eq!(admission.enter(client, Time::ZERO), Ok(true));
    }
    assert_eq!(admission.enter(client, Time::ZERO), Err(AddressBound::Connections));
}
