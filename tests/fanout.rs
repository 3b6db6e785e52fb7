//! Publish to subscribers, on one shard and across shards.
#![allow(missing_docs, clippy::disallowed_methods)]

mod common;

use common::{TestServer, wait_until};
use tungstenite::Message;

/// Connects subscribers until every shard holds at least one.
fn subscribers_on_all_shards(server: &TestServer, path: &str, at_least: usize) -> Vec<common::Client> {
    let mut clients = Vec::new();
    while clients.len() < at_least || server.stats().iter().any(|stats| stats.subscriptions.get() == 0) {
        clients.push(server.client(path));
        assert!(clients.len() < 200, "the kernel spreads connections over the shards");
    }
    clients
}

#[test]
fn a_message_reaches_all_subscribers_on_all_shards_and_its_sender() {
    let server = TestServer::start();
    let mut clients = subscribers_on_all_shards(&server, "/topics/room", 8);
    clients[0].send("to all");
    clients[1].send(Message::binary(vec![0, 255]));
    for client in &mut clients {
        let mut got = [client.receive(), client.receive()];
        got.sort_by_key(|message| message.is_binary());
        assert_eq!(got, [Message::text("to all"), Message::binary(vec![0, 255])]);
    }
}

#[test]
fn a_message_over_http_reaches_all_subscribers_with_its_offset() {
    let server = TestServer::start();
    let mut clients = subscribers_on_all_shards(&server, "/topics/a%2Fb", 4);
    for offset in 1..=3 {
        let (status, body) = server.publish("a/b", "text/plain", format!("number {offset}").as_bytes());
        assert_eq!(status, 200, "{body}");
        assert!(body.contains(&format!("\"offset\":{offset}")), "{body}");
    }
    for client in &mut clients {
        for offset in 1..=3 {
            assert_eq!(client.receive_text(), format!("number {offset}"));
        }
    }
}

#[test]
fn subscribers_of_all_shards_see_one_order_while_four_publishers_write() {
    const PUBLISHERS: usize = 4;
    const EACH: usize = 500;
    let server = TestServer::start();
    let mut subscribers = subscribers_on_all_shards(&server, "/topics/order", 8);
    std::thread::scope(|scope| {
        for publisher in 0..PUBLISHERS {
            let mut client = server.client("/topics/order?subscribe=off");
            scope.spawn(move || {
                for n in 0..EACH {
                    client.send(format!("{publisher}:{n}"));
                }
                // Keeps the connection until everything was read.
                client.0.close(None).unwrap();
                while client.0.read().is_ok() {}
            });
        }
    });
    let mut orders = subscribers
        .iter_mut()
        .map(|subscriber| (0..PUBLISHERS * EACH).map(|_| subscriber.receive_text()).collect::<Vec<_>>());
    let first = orders.next().unwrap();
    for publisher in 0..PUBLISHERS {
        let prefix = format!("{publisher}:");
        let own: Vec<_> = first.iter().filter(|message| message.starts_with(&prefix)).collect();
        assert!(own.iter().enumerate().all(|(n, message)| **message == format!("{publisher}:{n}")));
    }
    for order in orders {
        assert!(order == first, "two subscribers saw different orders");
    }
}

#[test]
fn a_confirmed_subscriber_misses_nothing_published_after_its_answer() {
    let server = TestServer::start();
    for round in 0..50 {
        let path = format!("/topics/fresh{round}");
        let mut publisher = server.client(&format!("{path}?subscribe=off"));
        let mut subscriber = server.client(&path);
        publisher.send("first");
        assert_eq!(subscriber.receive_text(), "first");
    }
}

#[test]
fn echo_off_leaves_out_the_publishers_own_messages() {
    let server = TestServer::start();
    let mut others = subscribers_on_all_shards(&server, "/topics/quiet", 4);
    let mut quiet = server.client("/topics/quiet?echo=off");
    quiet.send("mine");
    for other in &mut others {
        assert_eq!(other.receive_text(), "mine");
    }
    others[0].send("theirs");
    assert_eq!(quiet.receive_text(), "theirs", "its own message would have come first");
}

#[test]
fn subscribe_off_only_publishes() {
    let server = TestServer::start();
    let mut subscriber = server.client("/topics/one-way");
    let mut publisher = server.client("/topics/one-way?subscribe=off");
    publisher.send("a");
    assert_eq!(subscriber.receive_text(), "a");
    assert_eq!(server.sum(|stats| &stats.deliveries), 1);
}

#[test]
fn topics_do_not_mix_and_end_with_their_last_subscriber() {
    let server = TestServer::start();
    let mut a = server.client("/topics/a");
    let mut b = server.client("/topics/b");
    a.send("for a");
    b.send("for b");
    assert_eq!(a.receive_text(), "for a");
    assert_eq!(b.receive_text(), "for b");
    drop((a, b));
    server.wait_until("both subscriptions are gone", |server| server.sum(|stats| &stats.subscriptions) == 0);
}

#[test]
fn offsets_go_on_while_nobody_subscribes() {
    let server = TestServer::start();
    let epoch = |body: &str| body.split("epoch\":\"").nth(1).unwrap()[..16].to_owned();
    let (_, first) = server.publish("idle", "text/plain", b"1");
    let (_, second) = server.publish("idle", "text/plain", b"2");
    assert!(first.contains("\"offset\":1") && second.contains("\"offset\":2"), "{first} {second}");
    assert_eq!(epoch(&first), epoch(&second));
}

#[test]
fn many_clients_at_once() {
    let server = TestServer::start();
    let mut clients: Vec<_> = (0..300).map(|_| server.client("/topics/many")).collect();
    assert_eq!(server.sum(|stats| &stats.connections), 300);
    clients[17].send("hello, all");
    for client in &mut clients {
        assert_eq!(client.receive_text(), "hello, all");
    }
    drop(clients);
    wait_until("all have left", || server.sum(|stats| &stats.connections) == 0);
}

#[test]
fn a_fan_out_larger_than_one_slice_of_a_flush_reaches_everybody() {
    let server = TestServer::with(|config| config.shards = 1);
    let count = 2 * wsgate::limits::FLUSHES_PER_TURN_MAX + 10;
    let mut clients: Vec<_> = (0..count).map(|_| server.client("/topics/large")).collect();
    assert_eq!(server.publish("large", "text/plain", b"to all").0, 200);
    for client in &mut clients {
        assert_eq!(client.receive_text(), "to all");
    }
}
