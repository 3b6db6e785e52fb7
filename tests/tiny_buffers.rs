//! The event loop under what the simulator cannot show: real sockets that take and give a
//! few KB at a time, so that nearly every send is short and nearly every frame is cut.
//!
//! The same script runs with such sockets and with the system's own; what each client
//! receives must be what the script says, with both.
#![allow(missing_docs, clippy::disallowed_methods)]

mod common;

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;

use common::{PATIENCE, TestServer, masked};
use fastrand::Rng;
use socket2::{Domain, Socket, Type};
use tungstenite::protocol::Role;
use tungstenite::{Message, WebSocket};
use wsgate::stats::CloseReason;

const TOPICS: usize = 3;
const SUBSCRIBERS: usize = 3;
const MESSAGES: usize = 150;
const ECHOES: usize = 2;

/// Bytes that a kernel holds in each direction; nothing is what it likes.
type Buffers = Option<usize>;

fn server(buffers: Buffers, queue_bytes_max: usize) -> TestServer {
    TestServer::with(|config| {
        config.limits.queue_bytes_max = queue_bytes_max;
        config.limits.reply_bytes_watermark = 4 * 1024;
        config.limits.kernel_send_bytes = buffers;
        config.limits.kernel_receive_bytes = buffers;
        if let Some(bytes) = buffers {
            config.limits.kernel_unsent_bytes = bytes;
        }
        config.slow_consumers = wsgate::policy::TopicPolicies::new(
            ["oldest = drop_oldest", "latest = latest_only"]
                .map(|rule| wsgate::policy::TopicPolicies::parse_rule(rule).expect("a rule"))
                .to_vec(),
        );
    })
}

/// The messages of one publisher: of all lengths that a frame can have.
fn script(seed: u64) -> Vec<Message> {
    let mut rng = Rng::with_seed(seed);
    let messages = (0..MESSAGES).map(|n| {
        let len = match rng.u32(0..30) {
            0 => rng.usize(65_000..100_000),
            1..=4 => rng.usize(1_000..9_000),
            _ => rng.usize(0..300),
        };
        let start = format!("{n}:");
        if rng.bool() {
            Message::text(start + &"é".repeat(len / 2))
        } else {
            Message::binary([start.into_bytes(), vec![n as u8; len]].concat())
        }
    });
    messages.collect()
}

/// A script as bytes: some messages in several frames, with pings between them.
fn bytes(script: &[Message], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = Vec::new();
    for message in script {
        let opcode = if message.is_text() { 1 } else { 2 };
        let payload = message.clone().into_data();
        if rng.bool() {
            bytes.extend(masked(0x80 | opcode, &payload));
            continue;
        }
        let cut = rng.usize(0..=payload.len());
        bytes.extend(masked(opcode, &payload[..cut]));
        bytes.extend(masked(0x89, b"between"));
        bytes.extend(masked(0x80, &payload[cut..]));
    }
    bytes
}

/// A stream that gives a few bytes at a time.
struct Sips {
    stream: TcpStream,
    rng: Rng,
}

impl Read for Sips {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = self.rng.usize(1..=900).min(buffer.len());
        if self.rng.u8(0..4) == 0 {
            thread::yield_now();
        }
        self.stream.read(&mut buffer[..most])
    }
}

impl Write for Sips {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn connect(address: SocketAddr, buffers: Buffers) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    if let Some(bytes) = buffers {
        // Before connecting, since the window is agreed on then.
        socket.set_recv_buffer_size(bytes).expect("an option of every socket");
        socket.set_send_buffer_size(bytes).expect("an option of every socket");
    }
    socket.connect(&address.into()).expect("the gateway accepts");
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true).expect("an option of every TCP socket");
    stream.set_read_timeout(Some(PATIENCE)).expect("an option of every socket");
    stream.set_write_timeout(Some(PATIENCE)).expect("an option of every socket");
    stream
}

/// An upgraded connection, and its two halves.
fn open(server: &TestServer, path: &str, buffers: Buffers, seed: u64) -> (TcpStream, WebSocket<Sips>) {
    let mut raw = common::RawClient::new(connect(server.clients, buffers));
    raw.upgrade(path, server.clients);
    let sips = Sips { stream: raw.0.try_clone().expect("a descriptor is free"), rng: Rng::with_seed(seed) };
    (raw.0, WebSocket::from_raw_socket(sips, Role::Client, None))
}

/// The next message; a pong is a sign of life and no message.
fn next(reader: &mut WebSocket<Sips>) -> Message {
    loop {
        match reader.read().expect("a message arrives in time") {
            Message::Ping(_) | Message::Pong(_) => {}
            message => return message,
        }
    }
}

/// Runs the script; what each client received.
fn run(buffers: Buffers) -> Vec<Vec<Message>> {
    let server = server(buffers, 64 * 1024 * 1024);
    let scripts: Vec<_> = (0..TOPICS.max(ECHOES)).map(|n| script(n as u64)).collect();
    let mut readers = Vec::new();
    let mut writers = Vec::new();
    for topic in 0..TOPICS {
        for n in 0..SUBSCRIBERS {
            readers.push(open(&server, &format!("/topics/{topic}"), buffers, n as u64).1);
        }
    }
    for (topic, script) in scripts.iter().enumerate().take(TOPICS) {
        let (stream, pongs) = open(&server, &format!("/topics/{topic}?subscribe=off"), buffers, 9);
        writers.push((stream, bytes(script, &mut Rng::with_seed(topic as u64)), Some(pongs)));
    }
    for (n, script) in scripts.iter().enumerate().take(ECHOES) {
        let (stream, reader) = open(&server, "/echo", buffers, n as u64);
        writers.push((stream, bytes(script, &mut Rng::with_seed(n as u64)), None));
        readers.push(reader);
    }
    let mut streams = Vec::new();
    thread::scope(|scope| {
        for (stream, bytes, pongs) in writers {
            streams.push(stream.try_clone().expect("a descriptor is free"));
            let mut stream = stream;
            scope.spawn(move || stream.write_all(&bytes).expect("the gateway reads"));
            if let Some(mut pongs) = pongs {
                // Its pongs are read, or it would not be read either.
                scope.spawn(move || while pongs.read().is_ok() {});
            }
        }
        let received: Vec<_> = readers
            .iter_mut()
            .map(|reader| scope.spawn(move || (0..MESSAGES).map(|_| next(reader)).collect::<Vec<_>>()))
            .collect();
        let received = received.into_iter().map(|reader| reader.join().expect("a reader")).collect();
        for stream in streams {
            stream.shutdown(Shutdown::Both).expect("the connection is there");
        }
        assert_eq!(server.closes(CloseReason::SlowConsumer), 0);
        assert!(buffers.is_none() || server.sum(|stats| &stats.sends_short) > 100, "sends are short");
        received
    })
}

#[test]
fn tiny_buffers_change_nothing_for_anybody() {
    let scripts: Vec<_> = (0..TOPICS.max(ECHOES)).map(|n| script(n as u64)).collect();
    let subscribers = scripts.iter().take(TOPICS).flat_map(|script| vec![script; SUBSCRIBERS]);
    let expected: Vec<_> = subscribers.chain(&scripts[..ECHOES]).collect();
    for buffers in [Some(4 * 1024), None] {
        let received = run(buffers);
        assert_eq!(received.len(), expected.len());
        for (n, (received, expected)) in received.iter().zip(&expected).enumerate() {
            for (at, (received, expected)) in received.iter().zip(*expected).enumerate() {
                assert!(received == expected, "{buffers:?}: message {at} of client {n} is another");
            }
        }
    }
}

/// The number of a marker of lost messages.
fn gap(text: &str) -> Option<usize> {
    text.strip_prefix("{\"gap\":")?.strip_suffix('}')?.parse().ok()
}

/// The number that a message begins with.
fn number(message: &Message) -> usize {
    let data = message.clone().into_data();
    let digits = data.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&data[..digits]).expect("digits").parse().expect("a message of the script")
}

#[test]
fn who_is_behind_is_told_exactly_what_it_has_lost_through_tiny_buffers() {
    let buffers = Some(4 * 1024);
    let server = server(buffers, 64 * 1024);
    let script = script(7);
    for (topic, tells) in [("oldest", true), ("latest", false)] {
        let (_stream, mut reader) = open(&server, &format!("/topics/{topic}?gaps=on"), buffers, 1);
        let (mut publisher, _pongs) = open(&server, &format!("/topics/{topic}?subscribe=off"), None, 2);
        // Whole messages: pings would be answered to nobody who reads.
        for message in &script {
            let opcode = if message.is_text() { 0x81 } else { 0x82 };
            publisher.write_all(&masked(opcode, &message.clone().into_data())).expect("the gateway reads");
        }
        let lost = |server: &TestServer| server.sum(|stats| if tells { &stats.dropped } else { &stats.conflated });
        let mut expected = 0;
        let mut missing = 0;
        while expected < MESSAGES {
            let message = next(&mut reader);
            let gap = message.to_text().ok().and_then(gap);
            if let Some(gap) = gap {
                assert!(tells, "this topic tells nothing");
                expected += gap;
                missing += gap;
                continue;
            }
            let at = number(&message);
            assert!(at >= expected && (at == expected || !tells), "{topic}: {at} instead of {expected}");
            missing += at - expected;
            assert!(message == script[at], "{topic}: message {at} is another");
            expected = at + 1;
        }
        assert!(missing > 0, "{topic}: nobody was behind");
        assert_eq!(lost(&server), missing as u64, "{topic}: every loss is counted");
    }
}
