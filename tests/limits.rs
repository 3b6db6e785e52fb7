//! Bounds that an operator sets: what happens at each, and to whom.
#![allow(missing_docs, clippy::disallowed_methods)]

mod common;

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use common::{Client, PATIENCE, RawClient, TestServer, masked, unmasked};
use rustix::event::{PollFd, PollFlags, poll};
use wsgate::limits::RECEIVE_BUFFER_BYTES;
use wsgate::stats::CloseReason;

fn closes(server: &TestServer, reason: CloseReason) -> u64 {
    server.sum(|stats| &stats.closes[reason as usize])
}

/// The status of the answer to an upgrade request, and the rest of the answer.
fn refused(server: &TestServer, path: &str) -> (u16, String) {
    match server.try_client(path).err().expect("the upgrade is refused") {
        tungstenite::Error::Http(response) => {
            let body = response.body().clone().unwrap_or_default();
            (response.status().as_u16(), String::from_utf8(body).expect("bodies are text"))
        }
        other => panic!("{other}"),
    }
}

#[test]
fn a_topic_too_many_is_refused_until_another_is_gone() {
    let server = TestServer::with(|config| {
        config.shards = 1;
        (config.limits.topics_max, config.limits.topics_idle_max) = (2, 0);
    });
    let mut first = server.client("/topics/1");
    let second = server.client("/topics/2");
    let (status, words) = refused(&server, "/topics/3");
    assert_eq!(status, 503, "{words}");
    let (status, words) = server.publish("3", "text/plain", b"m");
    assert!(status == 503 && words.contains("limit 2"), "{status} {words}");
    // Topics that are there take more of everything.
    let mut another = server.client("/topics/1");
    assert_eq!(server.publish("1", "text/plain", b"m").0, 200);
    assert_eq!((first.receive_text(), another.receive_text()), ("m".into(), "m".into()));

    drop(second);
    server.wait_until("the topic is forgotten", |server| server.sum(|stats| &stats.topics) == 1);
    assert_eq!((server.scraped("topics_refused", ""), server.scraped("topics_forgotten", "")), (2, 1));
    assert_eq!(server.scraped("publishes_refused", "\"topics_full\""), 1);
    server.client("/topics/3");
}

/// Whichever shards own them.
#[test]
fn topics_of_all_shards_count_together() {
    let server = TestServer::with(|config| {
        config.shards = 4;
        (config.limits.topics_max, config.limits.topics_idle_max) = (5, 100);
    });
    let mut open: Vec<_> = (0..5).map(|n| server.client(&format!("/topics/{n}"))).collect();
    let (status, words) = refused(&server, "/topics/5");
    assert_eq!(status, 503, "{words}");
    // A topic that nobody uses any more is remembered, and in nobody's way.
    open.pop();
    server.wait_until("it is not in use", |server| server.sum(|stats| &stats.subscriptions) == 4);
    let mut next = server.try_client("/topics/5");
    let mut refused = 1;
    for _ in 0..1000 {
        // The owner may not have heard of it yet.
        if next.is_err() {
            refused += 1;
            next = server.try_client("/topics/5");
        }
    }
    next.expect("there is room");
    assert_eq!(server.scraped("topics_refused", ""), refused);
}

/// What may be remembered is all that is remembered, and what comes back is not forgotten.
#[test]
fn the_longest_idle_topic_is_forgotten_and_counted() {
    let server = TestServer::with(|config| (config.shards, config.limits.topics_idle_max) = (1, 2));
    let offset = |topic: &str| {
        let (_, answer) = server.publish(topic, "text/plain", b"m");
        answer.split("\"offset\":").nth(1).and_then(|rest| rest.split(',').next()?.parse::<u64>().ok()).expect(&answer)
    };
    assert_eq!(["a", "b", "a", "b"].map(offset), [1, 1, 2, 2]);
    assert_eq!(server.scraped("topics_forgotten", ""), 0);
    assert_eq!(["c", "b", "a"].map(offset), [1, 3, 1], "a was the longest idle");
    assert_eq!(server.scraped("topics_forgotten", ""), 2, "a, and c when a came back");
}

/// A kernel without room for more acknowledges nothing more, and that is all that a machine
/// which is gone does too.
#[test]
fn a_peer_that_acknowledges_nothing_for_too_long_is_cut_and_counted_as_such() {
    let server = TestServer::with(|config| {
        config.timeouts.unacknowledged = Duration::from_millis(300);
        config.limits.queue_bytes_max = 64 << 20;
    });
    let stalled = server.raw_small("/topics/a");
    let mut reader = server.client("/topics/a");
    let message = vec![b'm'; 200_000];
    for _ in 0..20 {
        server.publish("a", "text/plain", &message);
        assert_eq!(reader.receive_text().len(), message.len());
    }
    server.wait_until("the kernel gives up", |server| server.sum(|stats| &stats.connections) == 1);
    assert_eq!(server.scraped("closes", "\"unacknowledged\""), 1);
    assert_eq!(server.scraped("closes", ""), 1);
    drop(stalled);
}

#[test]
fn a_request_that_does_not_come_in_time_is_answered_408() {
    let server = TestServer::with(|config| config.timeouts.handshake = Duration::from_millis(50));
    let mut silent = server.raw();
    let mut half = server.raw();
    half.send(b"GET /echo HTTP/1.1\r\nHost: localhost\r\n");
    for client in [&mut silent, &mut half] {
        let answer = String::from_utf8(client.read_to_end()).unwrap();
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    }
    drop((silent, half));
    server.wait_until("both are counted", |server| closes(server, CloseReason::HandshakeTimeout) == 2);
}

#[test]
fn a_head_over_the_limit_is_refused_and_one_of_exactly_the_limit_is_not() {
    const LIMIT: usize = 1024;
    let server = TestServer::with(|config| config.limits.handshake_bytes_max = LIMIT);
    let head = |len: usize| {
        let start = "GET /echo HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nX: ";
        format!("{start}{}\r\n\r\n", "x".repeat(len - start.len() - 4))
    };
    for (len, answer) in [(LIMIT, "HTTP/1.1 101 "), (LIMIT + 1, "HTTP/1.1 431 "), (20 * LIMIT, "HTTP/1.1 431 ")] {
        let mut client = server.raw();
        client.send(head(len).as_bytes());
        assert!(client.read_head().starts_with(answer), "{len} bytes");
    }
}

#[test]
fn a_silent_peer_is_pinged_and_cut_if_it_does_not_answer() {
    let server = TestServer::with(|config| {
        (config.timeouts.ping_interval, config.timeouts.pong_timeout) =
            (Duration::from_millis(20), Duration::from_millis(50));
    });
    let mut client = server.raw_open("/echo");
    assert_eq!(client.read_to_reset(), unmasked(0x89, b"wsgate"), "one ping, and no word to a peer that is gone");
    server.wait_until("it is counted", |server| closes(server, CloseReason::PongTimeout) == 1);
    server.wait_until("nothing waits", |server| server.sum(|stats| &stats.queue_bytes) == 0);
}

#[test]
fn a_silent_peer_that_answers_pings_stays() {
    let server = TestServer::with(|config| {
        (config.timeouts.ping_interval, config.timeouts.pong_timeout) = (Duration::from_millis(20), PATIENCE);
    });
    let mut client = server.raw_open("/echo");
    for _ in 0..5 {
        client.expect(&unmasked(0x89, b"wsgate"));
        client.send(&masked(0x8a, b"wsgate"));
    }
    assert_eq!(server.sum(|stats| &stats.connections), 1);
}

#[test]
fn a_message_over_its_dialects_limit_is_answered_1009() {
    let server = TestServer::with(|config| {
        config.limits.echo_message_bytes_max = 1000;
        config.limits.greeting_message_bytes_max = 2000;
        config.limits.plain_message_bytes_max = 3000;
    });
    let paths = [("/echo", 1000), ("/chat", 2000), ("/topics/a", 3000)];
    for (path, limit) in paths {
        let mut client = server.raw_open(path);
        client.send(&masked(0x82, &vec![7; limit]));
        let (first, payload) = client.read_frame();
        if path == "/chat" {
            assert_eq!((first, payload.as_slice()), (0x81, b"good".as_slice()));
        } else {
            assert_eq!((first, payload), (0x82, vec![7; limit]));
        }
        // The header alone is enough; the gateway does not wait for the payload.
        client.send(&masked(0x82, &vec![7; limit + 1])[..8]);
        client.expect_close(1009);
    }
    for (path, limit) in paths {
        let mut client = server.raw_open(path);
        client.send(&masked(0x02, &vec![7; limit]));
        client.send(&masked(0x80, &[7]));
        client.expect_close(1009);
    }
    server.wait_until("all are counted", |server| closes(server, CloseReason::MessageTooLong) == 6);
}

#[test]
fn a_message_in_too_many_frames_is_answered_1009_and_costs_little_before() {
    const FRAMES: usize = 1000;
    let server = TestServer::with(|config| (config.shards, config.limits.fragments_max) = (1, FRAMES));
    let mut good = server.raw_open("/echo");
    let mut exact = server.raw_open("/echo");
    let between = masked(0x00, b"");
    exact.send(&[masked(0x02, b"a"), between.repeat(FRAMES - 2), masked(0x80, b"z")].concat());
    exact.expect(&unmasked(0x82, b"az"));
    let mut attacker = server.raw_open("/echo");
    attacker.send(&[masked(0x01, b"a"), masked(0x00, b"x").repeat(100_000)].concat());
    let words = attacker.expect_close(1009);
    assert!(words.contains("1000 frames"), "{words}");
    good.send(&masked(0x81, b"nothing noticed"));
    good.expect(&unmasked(0x81, b"nothing noticed"));
    server.wait_until("it is counted", |server| closes(server, CloseReason::TooManyFragments) == 1);
}

#[test]
fn a_frame_over_its_own_limit_is_answered_1009() {
    let server = TestServer::with(|config| config.limits.frame_bytes_max = 1000);
    let mut client = server.raw_open("/echo");
    // The message may be longer, in more frames.
    client.send(&[masked(0x02, &[7; 1000]), masked(0x80, &[7; 1000])].concat());
    client.expect(&unmasked(0x82, &[7; 2000]));
    client.send(&masked(0x82, &[7; 1001])[..8]);
    assert!(client.expect_close(1009).contains("frame of 1001 bytes is over the limit of 1000"));
    server.wait_until("it is counted", |server| closes(server, CloseReason::FrameTooLong) == 1);
}

/// A client that asks for pongs and does not read them makes nothing grow, and gets the
/// answer to its last ping when it reads again.
#[test]
fn of_pings_whose_answers_wait_the_newest_is_answered() {
    const PINGS: u32 = 200_000;
    const PONG_BYTES_MAX: usize = 2000;
    let server = TestServer::with(|config| {
        config.limits.pong_bytes_max = PONG_BYTES_MAX;
        // Far away, so that reading never stops.
        config.limits.reply_bytes_watermark = 1 << 20;
    });
    let mut client = server.raw_small("/echo");
    for first in (0..PINGS).step_by(1000) {
        let pings: Vec<u8> = (first..first + 1000).flat_map(|n| masked(0x89, &n.to_be_bytes())).collect();
        client.send(&pings);
        let waiting = server.sum(|stats| &stats.queue_bytes);
        assert!(waiting <= (PONG_BYTES_MAX + 2 * 127) as u64, "{waiting} bytes wait");
    }
    let (mut last, mut pongs) = (None, 0);
    while last != Some(PINGS - 1) {
        let (first, payload) = client.read_frame();
        let n = u32::from_be_bytes(payload.try_into().expect("a ping's payload"));
        assert!(first == 0x8a && last < Some(n), "{first:#x} {n} after {last:?}");
        (last, pongs) = (Some(n), pongs + 1);
    }
    // Counted when the next one comes, so one may be on its way.
    let skipped = server.sum(|stats| &stats.pings_skipped);
    assert_eq!(u64::from(PINGS), pongs + skipped);
    assert!(skipped > 0, "all of them fitted into the kernel's buffers");
    // Nothing is owed any more.
    client.send(&masked(0x89, b"one more"));
    client.expect(&unmasked(0x8a, b"one more"));
}

#[test]
fn a_client_that_says_nothing_is_closed_with_4009_if_so_configured() {
    let server = TestServer::with(|config| {
        config.timeouts.idle = Some(Duration::from_millis(100));
        config.timeouts.ping_interval = Duration::from_millis(20);
    });
    // It answers pings and gets messages: both are no message of its own.
    let mut client = server.raw_open("/topics/a");
    let mut pings = 0;
    let words = loop {
        let (first, payload) = client.read_frame();
        match first {
            0x89 => {
                pings += 1;
                client.send(&masked(0x8a, &payload));
                server.publish("a", "text/plain", b"m");
            }
            0x81 => assert_eq!(payload, b"m"),
            0x88 => break payload,
            other => panic!("{other:#x}"),
        }
    };
    assert!(pings > 0 && words[..2] == 4009u16.to_be_bytes(), "{pings} pings, {words:?}");
    client.send(&masked(0x88, &4009u16.to_be_bytes()));
    server.wait_until("it is counted", |server| closes(server, CloseReason::Idle) == 1);
}

#[test]
fn a_client_that_speaks_is_not_idle() {
    let server = TestServer::with(|config| config.timeouts.idle = Some(Duration::from_millis(300)));
    let mut client = server.raw_open("/echo");
    let start = std::time::Instant::now();
    while start.elapsed() < Duration::from_millis(1000) {
        client.send(&masked(0x81, b"still here"));
        client.expect(&unmasked(0x81, b"still here"));
    }
    client.expect_close(4009);
}

/// Connects subscribers until every shard holds at least one.
fn subscribers_on_all_shards(server: &TestServer, path: &str) -> Vec<Client> {
    let mut clients = Vec::new();
    while clients.len() < 4 || server.stats().iter().any(|stats| stats.subscriptions.get() == 0) {
        clients.push(server.client(path));
        assert!(clients.len() < 200, "the kernel spreads connections over the shards");
    }
    clients
}

/// With one entry per mailbox, and no overflow before publishers pause, everything that
/// crosses shards has to wait for its turn.
#[test]
fn mailboxes_that_are_always_full_delay_and_lose_nothing() {
    const PUBLISHERS: usize = 6;
    const EACH: usize = 300;
    let server = TestServer::with(|config| {
        config.shards = 3;
        (config.limits.mailbox_entries, config.limits.overflow_bytes_max) = (1, 0);
        config.limits.queue_bytes_max = 64 << 20;
    });
    let mut subscribers = subscribers_on_all_shards(&server, "/topics/narrow");
    std::thread::scope(|scope| {
        for publisher in 0..PUBLISHERS {
            let mut client = server.raw_open("/topics/narrow?subscribe=off");
            scope.spawn(move || {
                let frames: Vec<u8> =
                    (0..EACH).flat_map(|n| masked(0x81, format!("{publisher}:{n}").as_bytes())).collect();
                client.send(&frames);
                // Answered once everything before it has been read.
                client.send(&masked(0x88, &1000u16.to_be_bytes()));
                client.expect_close(1000);
            });
        }
    });
    let mut orders = subscribers
        .iter_mut()
        .map(|subscriber| (0..PUBLISHERS * EACH).map(|_| subscriber.receive_text()).collect::<Vec<_>>());
    let first = orders.next().expect("there are subscribers");
    for publisher in 0..PUBLISHERS {
        let prefix = format!("{publisher}:");
        let own: Vec<_> = first.iter().filter_map(|message| message.strip_prefix(&prefix)).collect();
        assert_eq!(own, (0..EACH).map(|n| n.to_string()).collect::<Vec<_>>());
    }
    for order in orders {
        assert!(order == first, "two subscribers saw different orders");
    }
    server.wait_until("no overflow is left", |server| server.sum(|stats| &stats.overflow_bytes) == 0);
}

/// Everybody reads, so nobody is slow; but one message in is 300 out, and eight publishers
/// send as fast as they can.
#[test]
fn publishers_wait_for_the_flush_of_what_was_published() {
    const BOUND: usize = 64 * 1024;
    const PUBLISHERS: usize = 8;
    const MESSAGES: u64 = 1_000;
    let server = TestServer::with(|config| {
        config.shards = 1;
        config.limits.overflow_bytes_max = BOUND;
        config.limits.queue_bytes_max = 64 << 20;
    });
    let subscribers: Vec<_> = (0..300).map(|_| server.raw_open("/topics/busy").0).collect();
    let publishers: Vec<_> = (0..PUBLISHERS).map(|_| server.raw_open("/topics/busy?subscribe=off").0).collect();
    let frame = masked(0x82, &[0; 20_000]);
    let most = std::cell::Cell::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| read_all(&subscribers));
        for mut publisher in &publishers {
            let frame = &frame;
            // Until the end of the test closes it.
            scope.spawn(move || while publisher.write_all(frame).is_ok() {});
        }
        server.wait_until("many are published", |server| {
            most.set(most.get().max(server.sum(|stats| &stats.log_bytes) as usize));
            server.sum(|stats| &stats.published) >= MESSAGES
        });
        publishers.iter().chain(&subscribers).for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
    });
    // Each has one read accepted before it pauses, and one in the turn that went over the bound.
    let allowed = BOUND + 2 * PUBLISHERS * RECEIVE_BUFFER_BYTES;
    assert!(server.scraped("publisher_pauses", "") >= PUBLISHERS as u64);
    let most = most.get();
    assert!(most <= allowed, "{most} bytes wait for their flush, {allowed} may");
    assert_eq!(closes(&server, CloseReason::SlowConsumer), 0);
}

/// Reads whatever comes until all have ended.
fn read_all(streams: &[TcpStream]) {
    let mut buffer = vec![0; 256 * 1024];
    let mut open: Vec<_> = streams.iter().collect();
    while !open.is_empty() {
        let mut polled: Vec<_> = open.iter().map(|stream| PollFd::new(*stream, PollFlags::IN)).collect();
        poll(&mut polled, None).expect("polling works");
        let ready: Vec<_> = polled.iter().map(|polled| !polled.revents().is_empty()).collect();
        let mut ready = ready.into_iter();
        open.retain(|stream| {
            let mut stream: &TcpStream = stream;
            !ready.next().unwrap_or(false) || stream.read(&mut buffer).is_ok_and(|n| n > 0)
        });
    }
}

/// The limit on what waits for a connection does not forbid one message that is larger.
#[test]
fn one_message_over_the_queues_limit_reaches_everybody() {
    let server = TestServer::with(|config| {
        (config.limits.queue_bytes_max, config.limits.reply_bytes_watermark) = (1000, 1000);
    });
    let mut clients: Vec<_> = (0..4).map(|_| server.client("/topics/a")).collect();
    let large = "l".repeat(500_000);
    for _ in 0..3 {
        assert_eq!(server.publish("a", "text/plain", large.as_bytes()).0, 200);
        for client in &mut clients {
            assert!(client.receive_text() == large);
        }
        server.wait_until("nothing waits", |server| server.sum(|stats| &stats.queue_bytes) == 0);
    }
}

/// What one client does wrong at a limit is nothing to the others.
#[test]
fn offenders_hurt_nobody_else() {
    let server = TestServer::with(|config| {
        config.shards = 1;
        config.limits.echo_message_bytes_max = 100;
    });
    let mut good = server.raw_open("/echo");
    for n in 0..50u8 {
        let mut bad: RawClient = server.raw_open("/echo");
        bad.send(&masked(0x82, &[n; 101]));
        good.send(&masked(0x82, &[n; 100]));
        good.expect(&unmasked(0x82, &[n; 100]));
        bad.expect_close(1009);
        bad.expect_end();
    }
}
