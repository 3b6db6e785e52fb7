//! Whoever comes and goes, in whatever way, leaves nothing behind: no slot, no socket, no
//! buffer, no memory. Counted, with every backend that this machine has.
#![allow(missing_docs, clippy::disallowed_methods)]

mod common;

use std::fs;
use std::io::Write as _;
use std::time::Duration;

use common::tls::{Authority, NAME, TlsClient};
use common::{RawClient, TestServer, masked, unmasked, upgrade_request};
use wsgate::config::{Config, Io, Tls};
use wsgate::proto::close::CloseCode;
use wsgate::stats::CloseReason;

/// How often somebody comes.
const CYCLES: usize = 10_000;
/// Of a message that a socket does not take at once, nor one read brings.
const LONG: usize = 300_000;

/// A way of coming and going.
type Visit = fn(&TestServer);

/// All but those that end with TLS, of which each costs as much as many of these.
const VISITS: &[(&str, Visit)] = &[
    ("an orderly end", |server| {
        let mut client = talk(server);
        client.send(&masked(0x88, &1000u16.to_be_bytes()));
        client.expect_close(1000);
        client.expect_end();
    }),
    ("an end without a Close", |server| {
        let mut client = talk(server);
        client.end();
        client.expect_end();
    }),
    ("gone at once", |server| drop(talk(server))),
    ("a reset", |server| talk(server).reset()),
    ("a reset with a message on its way", |server| {
        let mut client = talk(server);
        client.send(&masked(0x82, &[1; 40_000])[..20_000]);
        client.reset();
    }),
    ("replies that nobody reads, and a reset", |server| {
        let mut client = server.raw_small("/echo");
        // Whatever is not taken is not the test's concern: some of it waits somewhere.
        client.0.set_nonblocking(true).expect("an option of every socket");
        let message = masked(0x82, &[1; LONG]);
        let _ = client.0.write(&message);
        client.reset();
    }),
    ("a long message, there and back", |server| {
        let mut client = server.raw_open("/echo");
        let message = [7; LONG];
        client.send(&masked(0x82, &message));
        client.expect(&unmasked(0x82, &message));
    }),
    ("an error of the protocol", |server| {
        let mut client = talk(server);
        client.send(&unmasked(0x81, b"not masked"));
        client.expect_close(CloseCode::PROTOCOL_ERROR.0);
        client.expect_gone();
    }),
    ("a subscriber", |server| {
        let mut client = server.raw_open("/topics/visits");
        client.send(&masked(0x81, b"to all"));
        // Others may be there, and say the same.
        client.expect(&unmasked(0x81, b"to all"));
        client.reset();
    }),
    ("no path", |server| {
        let mut client = server.raw();
        client.send(&upgrade_request("/nowhere", server.clients));
        assert_eq!(client.read_response().status, 404);
    }),
    ("half a handshake", |server| {
        let mut client = server.raw();
        client.send(&upgrade_request("/echo", server.clients)[..20]);
        client.end();
        client.expect_gone();
    }),
    ("half a handshake and a reset", |server| {
        let mut client = server.raw();
        client.send(&upgrade_request("/echo", server.clients)[..20]);
        client.reset();
    }),
    ("no word", |server| drop(server.raw())),
    ("no word and a reset", |server| server.raw().reset()),
];

/// An echo.
fn talk(server: &TestServer) -> RawClient {
    let mut client = server.raw_open("/echo");
    client.send(&masked(0x81, b"hello"));
    client.expect(&unmasked(0x81, b"hello"));
    client
}

/// Waits until everybody has left, and compares what is left of them.
#[track_caller]
fn expect_nothing_left(server: &TestServer) {
    type Gauge = fn(&wsgate::stats::ShardStats) -> &wsgate::stats::Cell;
    let gauges: [(&str, Gauge); 8] = [
        ("connections", |stats| &stats.connections),
        ("sockets", |stats| &stats.sockets),
        ("receive_chunks", |stats| &stats.receive_chunks),
        ("subscriptions", |stats| &stats.subscriptions),
        ("queue_bytes", |stats| &stats.queue_bytes),
        ("queue_memory_bytes", |stats| &stats.queue_memory_bytes),
        ("assembly_memory_bytes", |stats| &stats.assembly_memory_bytes),
        ("input_memory_bytes", |stats| &stats.input_memory_bytes),
    ];
    for (name, gauge) in gauges {
        server.wait_until(&format!("no {name}"), |server| server.sum(gauge) == 0);
    }
    common::wait_until("no direct descriptors", || direct_descriptors() == 0);
}

/// Open files of this process.
fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("a system with /proc").count()
}

/// Entries in the tables of all rings of this process, as the kernel tells them.
fn direct_descriptors() -> usize {
    let infos = fs::read_dir("/proc/self/fdinfo").expect("a system with /proc");
    let texts = infos.filter_map(|info| fs::read_to_string(info.ok()?.path()).ok());
    texts.map(|text| table_of(&text).filter(|line| !line.ends_with("<none>")).count()).sum()
}

/// The lines about the table in what the kernel says of a ring.
fn table_of(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.lines().skip_while(|line| !line.starts_with("UserFiles:"));
    lines.skip(1).take_while(|line| line.contains(": "))
}

fn visit_and_leave(io: Io) {
    let server = TestServer::with(|config| config.io = io);
    // What is opened once, with the first of them.
    VISITS.iter().for_each(|(_, visit)| visit(&server));
    expect_nothing_left(&server);
    let before = descriptors();
    for n in 0..CYCLES {
        let (_, visit) = VISITS[n % VISITS.len()];
        visit(&server);
    }
    expect_nothing_left(&server);
    assert_eq!(descriptors(), before, "open files, with {io:?}");
    assert!(server.sum(|stats| &stats.accepted) >= CYCLES as u64);
    let mut open = talk(&server);
    if io == Io::IoUring {
        // What is counted above is what there is.
        common::wait_until("one direct descriptor", || direct_descriptors() == 1);
    }
    open.end();
    open.expect_end();
}

fn visit_with_tls_and_leave(io: Io) {
    const VISITS_EACH: usize = 30;
    let authority = Authority::new();
    let server = TestServer::with(|config| {
        config.io = io;
        config.tls = Tls { certificates: vec![authority.issue("server", &[NAME])], ..config.tls.clone() };
        config.security.allowed_hosts = vec![NAME.to_owned()];
    });
    for _ in 0..VISITS_EACH {
        let client = || TlsClient::connect(&server, authority.client(), NAME).expect("a certificate that is known");
        drop(client());
        // A handshake that stops.
        let mut raw = server.raw();
        raw.send(&[0x16, 3, 1, 2, 0, 1]);
        raw.reset();
    }
    expect_nothing_left(&server);
}

/// A way in which the gateway ends connections by itself.
struct Cut {
    reason: CloseReason,
    config: fn(&mut Config),
    /// Has one more connection that is to end so.
    come: fn(&TestServer) -> RawClient,
    /// What ends them, beside time.
    push: fn(&TestServer),
}

/// Every reason but those that [`VISITS`] and the tests of TLS have, and the drain.
const CUTS: &[Cut] = &[
    Cut {
        reason: CloseReason::MessageTooLong,
        config: |config| config.limits.echo_message_bytes_max = 1000,
        come: |server| say(server, &[masked(0x02, &[7; 1000]), masked(0x80, &[7])].concat()),
        push: |_| (),
    },
    Cut {
        reason: CloseReason::FrameTooLong,
        config: |config| config.limits.frame_bytes_max = 1000,
        come: |server| say(server, &masked(0x82, &[7; 1001])),
        push: |_| (),
    },
    Cut {
        reason: CloseReason::TooManyFragments,
        config: |config| config.limits.fragments_max = 4,
        come: |server| say(server, &[masked(0x02, b"a"), masked(0x00, b"x").repeat(100)].concat()),
        push: |_| (),
    },
    Cut {
        // Bytes are on their way when its transport is closed.
        reason: CloseReason::ProtocolError,
        config: |_| (),
        come: |server| {
            let client = say(server, &unmasked(0x81, b"not masked"));
            let mut more = client.0.try_clone().expect("a socket can be shared");
            std::thread::spawn(move || while more.write(&[0; 1000]).is_ok() {});
            client
        },
        push: |_| (),
    },
    Cut {
        reason: CloseReason::PolicyViolation,
        config: |config| config.security.anonymous_publish = false,
        come: |server| {
            let mut client = server.raw_open("/topics/a");
            client.send(&masked(0x81, b"mine"));
            client
        },
        push: |_| (),
    },
    Cut {
        reason: CloseReason::HandshakeTimeout,
        config: |config| config.timeouts.handshake = SOON,
        come: |server| {
            let mut client = server.raw();
            client.send(&upgrade_request("/echo", server.clients)[..20]);
            client
        },
        push: |_| (),
    },
    Cut {
        reason: CloseReason::PongTimeout,
        config: |config| (config.timeouts.ping_interval, config.timeouts.pong_timeout) = (SOON, SOON),
        come: talk,
        push: |_| (),
    },
    Cut { reason: CloseReason::Idle, config: |config| config.timeouts.idle = Some(SOON), come: talk, push: |_| () },
    Cut {
        reason: CloseReason::SlowConsumer,
        config: |config| {
            config.limits.queue_bytes_max = 64 * 1024;
            config.limits.kernel_unsent_bytes = 16 * 1024;
        },
        come: |server| server.raw_small("/topics/a"),
        push: |server| publish(server, "a", 16_000),
    },
    Cut {
        reason: CloseReason::QueueMemory,
        config: |config| {
            config.limits.queue_bytes_total_max = 1 << 20;
            config.limits.queue_bytes_max = 64 << 20;
            config.limits.kernel_unsent_bytes = 16 * 1024;
        },
        // What waits for several waits once: so each has a topic of its own.
        come: |server| server.raw_small(&format!("/topics/{}", server.sum(|stats| &stats.subscriptions))),
        push: |server| (0..CUT_EACH).for_each(|n| publish(server, &n.to_string(), 50_000)),
    },
    Cut {
        reason: CloseReason::Unacknowledged,
        config: |config| {
            config.timeouts.unacknowledged = SOON;
            config.limits.queue_bytes_max = 64 << 20;
        },
        come: |server| server.raw_small("/topics/a"),
        // More than the kernels take, and far from the bound of a queue.
        push: |server| {
            if server.sum(|stats| &stats.queue_bytes) < 4 << 20 {
                publish(server, "a", 200_000);
            }
        },
    },
];

/// How many are cut in each way.
const CUT_EACH: usize = 50;
/// Long enough that a connection gets so far, and short enough to wait for.
const SOON: Duration = Duration::from_millis(300);

/// A client that has said this, and does not read what it is answered.
fn say(server: &TestServer, bytes: &[u8]) -> RawClient {
    let mut client = talk(server);
    client.send(bytes);
    client
}

/// One message of so many bytes.
fn publish(server: &TestServer, topic: &str, bytes: usize) {
    server.publish(topic, "text/plain", &vec![b'm'; bytes]);
}

fn cut_and_leave(io: Io, cut: &Cut) {
    let server = TestServer::with(|config| {
        (config.io, config.shards, config.timeouts.close) = (io, 1, SOON);
        (cut.config)(config);
    });
    // What is opened once, with the first of them.
    talk(&server).end();
    expect_nothing_left(&server);
    let before = descriptors();
    let clients: Vec<_> = (0..CUT_EACH).map(|_| (cut.come)(&server)).collect();
    let words = format!("{:?} with {io:?}", cut.reason);
    server.wait_until(&words, |server| {
        let is_over = server.sum(|stats| &stats.connections) == 0;
        if !is_over {
            (cut.push)(server);
        }
        is_over
    });
    assert_eq!(server.closes(cut.reason), CUT_EACH as u64, "{words}");
    drop(clients);
    expect_nothing_left(&server);
    common::wait_until("no open files", || descriptors() <= before);
}

fn drain_and_leave(io: Io) {
    let before = descriptors();
    let server = TestServer::with(|config| config.io = io);
    let mut clients: Vec<_> = (0..CUT_EACH).map(|_| talk(&server)).collect();
    server.drain();
    for client in &mut clients {
        client.expect_close(CloseCode::GOING_AWAY.0);
        client.send(&masked(0x88, &CloseCode::GOING_AWAY.0.to_be_bytes()));
        client.expect_end();
    }
    drop(clients);
    server.wait();
    common::wait_until("no open files", || descriptors() <= before && direct_descriptors() == 0);
}

/// One after the other, since the descriptors of the process are counted.
#[test]
fn ten_thousand_visits_leave_nothing_behind() {
    for io in common::backends() {
        visit_and_leave(io);
        visit_with_tls_and_leave(io);
        CUTS.iter().for_each(|cut| cut_and_leave(io, cut));
        drain_and_leave(io);
    }
}
