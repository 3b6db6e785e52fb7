//! How often the gateway calls the kernel to send: once for each connection and turn,
//! whatever it has to say.

#![allow(clippy::disallowed_methods)]

mod common;

use common::{TestServer, masked};
use tungstenite::Message;

#[track_caller]
fn assert_one_send_per_turn(server: &TestServer) {
    let (sends, flushes) = (server.sum(|stats| &stats.sends), server.sum(|stats| &stats.flushes));
    assert!(flushes > 0 && sends == flushes, "{sends} sends for {flushes} connections and turns");
}

#[test]
fn whatever_one_read_brings_is_answered_with_one_send() {
    let server = TestServer::with(|config| config.shards = 1);
    let (one, two, ping) = (masked(0x81, b"one"), masked(0x81, b"two"), masked(0x89, b"?"));
    let fragments = [masked(0x01, b"frag"), masked(0x80, b"ments")].concat();
    let cases = [
        vec![&one],
        vec![&one, &two, &one],
        vec![&one, &ping],
        vec![&ping, &one],
        vec![&one, &fragments, &two],
        vec![&one, &ping, &fragments, &two, &ping],
    ];
    for frames in cases {
        let mut client = server.raw_open("/echo");
        let input: Vec<u8> = frames.iter().copied().flatten().copied().collect();
        for _ in 0..20 {
            client.send(&input);
            for _ in &frames {
                client.read_frame();
            }
        }
    }
    assert_one_send_per_turn(&server);
}

#[test]
fn who_takes_a_part_is_not_sent_to_again_before_it_takes_more() {
    let server = TestServer::with(|config| config.shards = 1);
    let mut client = server.raw_small("/echo");
    let message = masked(0x82, &[7; 120_000]);
    for _ in 0..20 {
        client.send(&message);
        assert_eq!(client.read_frame().1.len(), 120_000);
    }
    assert!(server.sum(|stats| &stats.sends_short) > 0, "the buffers are too small for a message");
    assert_one_send_per_turn(&server);
}

#[test]
fn published_messages_leave_with_one_send_for_each_subscriber_and_turn() {
    let server = TestServer::start();
    let mut subscribers: Vec<_> = (0..20).map(|_| server.client("/topics/room")).collect();
    let mut publisher = server.client("/topics/room?subscribe=off");
    for burst in [1, 3, 100] {
        (0..burst).for_each(|n| publisher.send(Message::text(n.to_string())));
        for subscriber in &mut subscribers {
            (0..burst).for_each(|n| assert_eq!(subscriber.receive_text(), n.to_string()));
        }
    }
    assert_one_send_per_turn(&server);
}
