//! Hostile peers, each by one means: honest subscribers beside them miss nothing, what is
//! held for the hostile stays within what is configured, and each is answered and counted
//! as it deserves. What attacks cost in time is measured by `bench attack`.
#![allow(missing_docs, clippy::disallowed_methods)]

mod common;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use common::{Client, PATIENCE, RawClient, TestServer, masked};
use socket2::{Domain, Socket, Type};
use tungstenite::Message;
use wsgate::limits::RECEIVE_BUFFER_BYTES;
use wsgate::proto::handshake::Status;
use wsgate::stats::CloseReason;

const TOPIC: &str = "/topics/room";
const SUBSCRIBERS: usize = 50;
/// Beside the honest, there is their publisher.
const HONEST: u64 = SUBSCRIBERS as u64 + 1;

/// Attackers have addresses of their own.
const ATTACKER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Subscribers of a topic and who publishes there.
struct Honest {
    publisher: Client,
    subscribers: Vec<Client>,
    published: u64,
}

impl Honest {
    fn join(server: &TestServer) -> Self {
        let publisher = server.client(&format!("{TOPIC}?subscribe=off"));
        let subscribers = (0..SUBSCRIBERS).map(|_| server.client(TOPIC)).collect();
        Self { publisher, subscribers, published: 0 }
    }

    /// Publishes one more message; every subscriber gets it, next after the last one.
    fn publish(&mut self, len: usize) {
        let mut message = self.published.to_be_bytes().to_vec();
        message.resize(len.max(message.len()), b'a');
        let message = Message::binary(message);
        self.publisher.send(message.clone());
        for subscriber in &mut self.subscribers {
            assert!(subscriber.receive() == message, "message {} is missing", self.published);
        }
        self.published += 1;
    }

    /// Publishes as long as the attack lasts, and once more.
    fn publish_during(&mut self, attack: impl FnOnce() + Send) {
        std::thread::scope(|scope| {
            let attack = scope.spawn(attack);
            while !attack.is_finished() {
                self.publish(64);
            }
            attack.join().expect("the attack is carried out");
        });
        self.publish(64);
    }
}

/// A connection of an attacker that has not said anything.
fn attacker(server: &TestServer, receive_buffer: Option<usize>) -> RawClient {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    if let Some(bytes) = receive_buffer {
        // Before connecting, since the window is agreed on then.
        socket.set_recv_buffer_size(bytes).expect("an option of every socket");
    }
    socket.bind(&SocketAddr::from((ATTACKER, 0)).into()).expect("an address of this machine");
    socket.connect(&server.clients.into()).expect("the gateway accepts");
    RawClient::new(socket.into())
}

fn open(server: &TestServer, path: &str) -> RawClient {
    let mut client = attacker(server, None);
    client.upgrade(path, server.clients);
    client
}

fn answered(server: &TestServer, status: Status) -> u64 {
    server.sum(|stats| &stats.handshakes[status as usize])
}

/// Only the honest are left, and nothing waits for anybody.
fn wait_for_peace(server: &TestServer) {
    server.wait_until("the attackers are gone", |server| server.sum(|stats| &stats.connections) == HONEST);
    server.wait_until("nothing waits", |server| {
        server.sum(|stats| &stats.queue_bytes) == 0 && server.sum(|stats| &stats.queue_memory_bytes) == 0
    });
}

#[test]
fn half_open_handshakes_that_dribble_are_answered_408_however_many_there_are() {
    const ATTACKERS: usize = 5_000;
    let server = TestServer::with(|config| {
        config.timeouts.handshake = Duration::from_secs(3);
        config.limits.handshake_bytes_max = 1024;
    });
    let mut honest = Honest::join(&server);
    let held = || server.sum(|stats| &stats.connection_memory_bytes);
    let before = held();
    let mut attackers = Vec::with_capacity(ATTACKERS);
    honest.publish_during(|| {
        for _ in 0..ATTACKERS {
            let mut client = attacker(&server, None);
            client.send(b"GET /topics/room HTTP/1.1\r\nX-Dribble: ");
            attackers.push(client);
        }
    });
    assert!(held() - before <= 1024 * ATTACKERS as u64, "{} bytes for {ATTACKERS} connections", held() - before);
    // A byte now and then is no reason to wait longer.
    let began = Instant::now();
    while answered(&server, Status::RequestTimeout) == 0 {
        assert!(began.elapsed() < PATIENCE, "nobody was told that it took too long");
        for client in &mut attackers {
            if client.0.write_all(b"a").is_err() {
                break;
            }
        }
        honest.publish(64);
    }
    server.wait_until("all are answered", |server| answered(server, Status::RequestTimeout) == ATTACKERS as u64);
    // Who dribbles on behind the answer may find a reset in its place.
    let read = |client: &mut RawClient| {
        let mut answer = Vec::new();
        let _ = client.0.read_to_end(&mut answer);
        answer.starts_with(b"HTTP/1.1 408 ")
    };
    let told = attackers.iter_mut().map(read).filter(|told| *told).count();
    assert!(told > ATTACKERS / 2, "{told} of {ATTACKERS} have read their answer");
    drop(attackers);
    wait_for_peace(&server);
    assert_eq!(server.closes(CloseReason::HandshakeTimeout), ATTACKERS as u64);
    honest.publish(64);
}

#[test]
fn thousands_that_never_read_are_cut_and_queues_stay_within_their_bound() {
    const ATTACKERS: usize = 2_000;
    const QUEUE_BYTES_MAX: usize = 64 * 1024;
    const MESSAGE_BYTES: usize = 4 * 1024;
    let server = TestServer::with(|config| {
        config.limits.queue_bytes_max = QUEUE_BYTES_MAX;
        config.limits.kernel_unsent_bytes = 16 * 1024;
        config.timeouts.close = Duration::from_millis(100);
    });
    let mut honest = Honest::join(&server);
    let mut attackers: Vec<_> = (0..ATTACKERS).map(|_| attacker(&server, Some(4096))).collect();
    attackers.iter_mut().for_each(|client| {
        client.upgrade(TOPIC, server.clients);
    });
    let cut = || server.closes(CloseReason::SlowConsumer);
    while cut() < ATTACKERS as u64 {
        honest.publish(MESSAGE_BYTES);
        // They wait for the same messages, which are kept once on each of the two shards. A
        // batch counts with what its vector may have to spare.
        let held = server.sum(|stats| &stats.queue_memory_bytes);
        assert!(held <= (2 * 2 * (QUEUE_BYTES_MAX + MESSAGE_BYTES)) as u64, "{held} bytes are kept");
    }
    // A Close cannot reach who does not read.
    for client in &mut attackers {
        client.expect_gone();
    }
    drop(attackers);
    wait_for_peace(&server);
    assert_eq!(cut(), ATTACKERS as u64);
    honest.publish(64);
}

#[test]
fn an_announced_length_of_4_gib_is_answered_1009_before_any_of_it_comes() {
    const ATTACKERS: u64 = 100;
    let server = TestServer::start();
    let mut honest = Honest::join(&server);
    honest.publish_during(|| {
        for n in 0..ATTACKERS {
            let mut client = open(&server, if n % 2 == 0 { "/topics/a" } else { "/echo" });
            let mut frame = vec![0x82, 0xff];
            frame.extend((4u64 << 30).to_be_bytes());
            frame.extend([1, 2, 3, 4]);
            client.send(&frame);
            let words = client.expect_close(1009);
            assert!(words.contains("4294967296"), "{words}");
            client.expect_end();
        }
    });
    wait_for_peace(&server);
    assert_eq!(server.closes(CloseReason::MessageTooLong), ATTACKERS);
}

#[test]
fn fragments_of_a_byte_add_up_to_a_message_that_is_too_long() {
    const ATTACKERS: u64 = 4;
    const FRAGMENTS: usize = 100_000;
    let server = TestServer::with(|config| config.limits.plain_message_bytes_max = FRAGMENTS - 1);
    let mut honest = Honest::join(&server);
    // A ping between two fragments is no way around the bound.
    let rest = [masked(0x00, b"a"), masked(0x89, b"")].concat().repeat(FRAGMENTS - 1);
    let message = [masked(0x02, b"a"), rest].concat();
    honest.publish_during(|| {
        for _ in 0..ATTACKERS {
            let client = open(&server, "/topics/a?subscribe=off");
            let mut writer = RawClient::new(client.0.try_clone().expect("a socket can be shared"));
            std::thread::scope(|scope| {
                // The gateway may reset it before it has read all.
                scope.spawn(|| writer.0.write_all(&message));
                read_until_close(client, 1009);
            });
        }
    });
    wait_for_peace(&server);
    assert_eq!(server.closes(CloseReason::MessageTooLong), ATTACKERS);
    assert_eq!(server.sum(|stats| &stats.published), honest.published, "none of it was published");
}

/// Reads pongs, then a Close with this code, then the end.
fn read_until_close(mut client: RawClient, code: u16) {
    loop {
        let (first, payload) = client.read_frame();
        match first {
            0x8a => {}
            0x88 => return assert_eq!(payload[..2], code.to_be_bytes()),
            other => panic!("neither a pong nor a Close: {other:#x}"),
        }
    }
}

#[test]
fn floods_of_pings_by_those_who_do_not_read_the_pongs_end_in_their_own_kernel() {
    const ATTACKERS: usize = 10;
    const WATERMARK: usize = 16 * 1024;
    let server = TestServer::with(|config| config.limits.reply_bytes_watermark = WATERMARK);
    let mut honest = Honest::join(&server);
    let pings = masked(0x89, b"").repeat(10_000);
    // Each with where it is in the bytes.
    let mut attackers: Vec<_> = (0..ATTACKERS).map(|_| (open(&server, "/echo"), 0)).collect();
    for (client, _) in &attackers {
        client.0.set_nonblocking(true).expect("an option of every socket");
    }
    // What is read beyond the watermark is a buffer full at most, and no pong is longer
    // than its ping.
    let queued_max = (ATTACKERS * (WATERMARK + RECEIVE_BUFFER_BYTES)) as u64;
    for _ in 0..200 {
        for (client, position) in &mut attackers {
            match client.0.write(&pings[*position..]) {
                Ok(n) => *position = (*position + n) % pings.len(),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        honest.publish(64);
        let queued = server.sum(|stats| &stats.queue_bytes);
        assert!(queued <= queued_max, "{queued} bytes of pongs wait");
    }
    drop(attackers);
    wait_for_peace(&server);
    assert_eq!(server.closes(CloseReason::PeerVanished), ATTACKERS as u64);
    honest.publish(64);
}

#[test]
fn floods_of_pings_by_those_who_read_the_pongs_hold_nobody_up() {
    const ATTACKERS: usize = 4;
    const WRITES: usize = 20;
    let server = TestServer::start();
    let mut honest = Honest::join(&server);
    let pings = masked(0x89, b"").repeat(10_000);
    honest.publish_during(|| {
        std::thread::scope(|scope| {
            for _ in 0..ATTACKERS {
                let client = open(&server, "/echo");
                let mut reader = client.0.try_clone().expect("a socket can be shared");
                scope.spawn(|| pour(client, &pings, WRITES));
                scope.spawn(move || while reader.read(&mut [0; 64 * 1024]).is_ok_and(|n| n > 0) {});
            }
        });
    });
    wait_for_peace(&server);
    assert_eq!(server.closes(CloseReason::PeerClosed), ATTACKERS as u64);
}

/// Sends the same bytes again and again, and then a Close.
fn pour(mut client: RawClient, bytes: &[u8], count: usize) {
    (0..count).for_each(|_| client.send(bytes));
    client.send(&masked(0x88, &1000u16.to_be_bytes()));
}

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
