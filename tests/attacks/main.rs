//! Hostile peers, each by one means: honest subscribers beside them miss nothing, what is
//! held for the hostile stays within what is configured, and each is answered and counted
//! as it deserves. What attacks cost in time is measured by `bench attack`.
#![allow(missing_docs, clippy::disallowed_methods)]

#[path = "../common/mod.rs"]
mod common;
mod crowds;
mod floods;
mod messages;
mod tls;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Condvar, Mutex};

use common::{RawClient, TestServer, masked};
use socket2::{Domain, Socket, Type};
use wsgate::proto::handshake::Status;

const TOPIC: &str = "/topics/room";
const SUBSCRIBERS: usize = 1_000;
/// Tests that have subscribers at the same time, however many threads there are: each takes
/// two descriptors for a subscriber and up to 10,000 for attackers, and 20,000 are to do.
const AT_ONCE_MAX: usize = 2;
/// Beside the honest, there is their publisher.
const HONEST: u64 = SUBSCRIBERS as u64 + 1;

/// Where [`TestServer`]'s own clients come from.
const HONEST_ADDRESS: &str = "127.0.0.1/32";
/// Attackers have another one.
const ATTACKER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Subscribers of a topic and who publishes there, as fast as all of them read: in a debug
/// build on two cores about a hundred messages in a second, and fewer beside what keeps the
/// gateway busy. `bench attack` has a steady hundred. They read frames themselves, since with
/// tungstenite, unoptimized, it were twenty.
struct Honest {
    publisher: RawClient,
    subscribers: Vec<RawClient>,
    published: u64,
    /// Behind the clients, so that they are gone before it is free.
    _place: Place,
}

/// The right to one of the [`AT_ONCE_MAX`] places.
struct Place;

static TAKEN: Mutex<usize> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

impl Place {
    fn wait_for() -> Self {
        let taken = TAKEN.lock().expect("nobody panics with it");
        *FREED.wait_while(taken, |taken| *taken == AT_ONCE_MAX).expect("nobody panics with it") += 1;
        Self
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *TAKEN.lock().expect("nobody panics with it") -= 1;
        FREED.notify_one();
    }
}

impl Honest {
    fn join(server: &TestServer) -> Self {
        let place = Place::wait_for();
        let publisher = server.raw_open(&format!("{TOPIC}?subscribe=off"));
        let subscribers = (0..SUBSCRIBERS).map(|_| server.raw_open(TOPIC)).collect();
        Self { publisher, subscribers, published: 0, _place: place }
    }

    /// Publishes one more message; every subscriber gets it, next after the last one.
    fn publish(&mut self, len: usize) {
        let mut message = self.published.to_be_bytes().to_vec();
        message.resize(len.max(message.len()), b'a');
        self.publisher.send(&masked(0x82, &message));
        for subscriber in &mut self.subscribers {
            assert!(next_message(subscriber) == message, "message {} is missing", self.published);
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

/// The payload of the next binary message; pings are answered on the way.
fn next_message(client: &mut RawClient) -> Vec<u8> {
    loop {
        match client.read_frame() {
            (0x82, payload) => return payload,
            (0x89, payload) => client.send(&masked(0x8a, &payload)),
            (first, payload) => panic!("neither a message nor a ping: {first:#x} {payload:02x?}"),
        }
    }
}

/// A connection of an attacker that has not said anything.
fn attacker(server: &TestServer, receive_buffer: Option<usize>) -> RawClient {
    try_attacker(server, receive_buffer).expect("the gateway accepts")
}

/// The same with a gateway that may reset it, before this side knows that it is connected.
fn try_attacker(server: &TestServer, receive_buffer: Option<usize>) -> io::Result<RawClient> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    if let Some(bytes) = receive_buffer {
        // Before connecting, since the window is agreed on then.
        socket.set_recv_buffer_size(bytes).expect("an option of every socket");
    }
    socket.bind(&SocketAddr::from((ATTACKER, 0)).into()).expect("an address of this machine");
    socket.connect(&server.clients.into())?;
    Ok(RawClient::new(socket.into()))
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
        server.sum(|stats| &stats.queue_bytes) == 0
            && server.sum(|stats| &stats.queue_memory_bytes) == 0
            && server.sum(|stats| &stats.input_memory_bytes) == 0
    });
}
