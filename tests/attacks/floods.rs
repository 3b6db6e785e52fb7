//! Connections that come and go as fast as they can.

use std::io::{ErrorKind, Write as _};
use std::time::Instant;

use wsgate::address::Networks;
use wsgate::admission::AddressBound;
use wsgate::proto::handshake::Status;
use wsgate::stats::CloseReason;

use super::common::tls::read_until_gone;
use super::common::{Response, TestServer, upgrade_request};
use super::{
    HONEST, HONEST_ADDRESS, Honest, SUBSCRIBERS, TOPIC, answered, attacker, open, try_attacker, wait_for_peace,
};

#[test]
fn handshakes_in_floods_leave_nothing_behind() {
    const ATTACKS: u64 = 2_000;
    let server = TestServer::start();
    let mut honest = Honest::join(&server);
    honest.publish_during(|| (0..ATTACKS).for_each(|_| open(&server, TOPIC).reset()));
    wait_for_peace(&server);
    assert_eq!(answered(&server, Status::SwitchingProtocols), HONEST + ATTACKS);
    assert_eq!(server.closes(CloseReason::PeerVanished), ATTACKS);
    assert_eq!(server.sum(|stats| &stats.subscriptions), SUBSCRIBERS as u64);
}

#[test]
fn a_flood_of_handshakes_from_one_address_gets_429_above_its_rate() {
    const ATTACKS: u64 = 2_000;
    const RATE: usize = 50;
    let server = TestServer::with(|config| {
        config.address_limits.handshakes_per_second_max = RATE;
        let honest = Networks::parse_block(HONEST_ADDRESS).expect("a block");
        config.address_limits.exempt = Networks::new(vec![honest]);
    });
    let mut honest = Honest::join(&server);
    let began = Instant::now();
    let (mut admitted, mut told) = (0, 0);
    honest.publish_during(|| {
        for _ in 0..ATTACKS {
            // Who is refused finds an answer, or the reset that has overtaken it.
            let mut client = match try_attacker(&server, None) {
                Ok(client) => client,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => continue,
                Err(error) => panic!("the gateway accepts: {error}"),
            };
            let _ = client.0.write_all(&upgrade_request(TOPIC, server.clients));
            let _ = client.0.shutdown(std::net::Shutdown::Write);
            let answer = read_until_gone(&mut client);
            if answer.starts_with(b"HTTP/1.1 101 ") {
                admitted += 1;
            } else if !answer.is_empty() {
                let response = Response::parse(&answer);
                assert!(response.status == 429 && response.body.contains("too many handshakes"), "{response:?}");
                told += 1;
            }
        }
    });
    // A second's worth at once, and the clocks of loops stand still during a turn.
    let paid = RATE as f64 * (1.0 + began.elapsed().as_secs_f64());
    assert!(admitted as f64 <= paid + 1.0 && admitted + 1 >= RATE as u64, "{admitted} admitted, {paid} paid for");
    assert!(told > 0, "nobody was told why");
    let refused = || server.sum(|stats| &stats.address_refusals[AddressBound::Handshakes as usize]);
    server.wait_until("all are counted", |_| refused() == ATTACKS - admitted);
    wait_for_peace(&server);
    assert_eq!(answered(&server, Status::SwitchingProtocols), HONEST + admitted);
    assert_eq!(server.sum(|stats| &stats.accepted), HONEST + admitted, "a refusal takes no place in the table");
    assert_eq!(server.closes(CloseReason::PeerVanished), admitted);
}

#[test]
fn connects_and_resets_leave_nothing_behind() {
    const ATTACKS: u64 = 5_000;
    let server = TestServer::start();
    let mut honest = Honest::join(&server);
    honest.publish_during(|| (0..ATTACKS).for_each(|_| attacker(&server, None).reset()));
    server.wait_until("all were accepted", |server| server.sum(|stats| &stats.accepted) == HONEST + ATTACKS);
    wait_for_peace(&server);
    assert_eq!(server.closes(CloseReason::PeerVanished), ATTACKS);
    assert_eq!(server.sum(|stats| &stats.accept_pauses), 0);
}

#[test]
fn what_is_no_http_is_answered_400_at_once() {
    /// A TLS record with a ClientHello, cut, and bytes that are nothing at all.
    const BYTES: [&[u8]; 3] = [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", &[0xe5; 9000], b"\0\r\n\r\n"];
    const ATTACKERS: u64 = 50;
    let server = TestServer::start();
    let mut honest = Honest::join(&server);
    honest.publish_during(|| {
        for _ in 0..ATTACKERS {
            for bytes in BYTES {
                let mut client = attacker(&server, None);
                client.send(bytes);
                assert_eq!(client.read_response().status, 400, "{bytes:?}");
            }
        }
    });
    wait_for_peace(&server);
    assert_eq!(answered(&server, Status::BadRequest), 3 * ATTACKERS);
    assert_eq!(server.closes(CloseReason::NotUpgraded), 3 * ATTACKERS);
}
