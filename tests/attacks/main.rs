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

use common::{Client, RawClient, TestServer};
use socket2::{Domain, Socket, Type};
use tungstenite::Message;
use wsgate::proto::handshake::Status;

const TOPIC: &str = "/topics/room";
const SUBSCRIBERS: usize = 50;
/// Beside the honest, there is their publisher.
const HONEST: u64 = SUBSCRIBERS as u64 + 1;

/// Where [`TestServer`]'s own clients come from.
const HONEST_ADDRESS: &str = "127.0.0.1/32";
/// Attackers have another one.
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
