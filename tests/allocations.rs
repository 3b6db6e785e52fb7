//! What the core allocates: nothing per message once it is warm, and a fixed number of
//! bytes for whatever stays. Counted, not measured, so the figures are the same on
//! every machine with words of 64 bits.
#![allow(missing_docs)]

use std::sync::Arc;
use std::time::Duration;

use allocation_counter::{AllocationInfo, measure};
use wsgate::connection::{Deadlines, Output, QueueBounds};
use wsgate::dialect::{Routes, ServiceLimits};
use wsgate::hub::HubSettings;
use wsgate::id::{ConnectionId, ShardId};
use wsgate::proto::compression::CompressionSettings;
use wsgate::proto::deflate::{DEFLATER_BYTES, Deflater};
use wsgate::proto::extension::Takeover;
use wsgate::proto::inflate::{INFLATER_BYTES, Inflater};
use wsgate::shard::{Shard, ShardSettings};
use wsgate::stats::ShardStats;
use wsgate::time::Time;

/// A power of two, so that vectors that double fit exactly.
const MANY: usize = 1 << 14;

fn settings(connections_max: usize) -> ShardSettings {
    ShardSettings {
        hub: HubSettings {
            shard: ShardId(0),
            shards: 1,
            hash_seed: 7,
            epoch_seed: 1,
            topics_max: 2 * MANY,
            topics_idle_max: 2 * MANY,
            policies: Arc::default(),
        },
        connections_max,
        handshake_bytes_max: 8192,
        queue: QueueBounds { queue_bytes_max: 1 << 20, reply_bytes_watermark: 64 * 1024 },
        deadlines: Deadlines {
            handshake: Duration::from_secs(10),
            ping_interval: Duration::from_secs(25),
            pong_timeout: Duration::from_secs(10),
            close: Duration::from_secs(5),
        },
        routes: Routes {
            echo: true,
            greeting: true,
            anonymous_subscribe: true,
            anonymous_publish: true,
            limits: ServiceLimits { echo: 1 << 20, greeting: 1 << 20, plain: 1 << 20 },
        },
        origin: Arc::default(),
        compression: CompressionSettings::default(),
    }
}

/// A shard whose transports take what they are offered and count it.
struct Driver {
    shard: Shard,
    scratch: Vec<u8>,
    sent: u64,
}

impl Driver {
    fn new(connections_max: usize) -> Self {
        Self::with(settings(connections_max))
    }

    fn with(settings: ShardSettings) -> Self {
        let stats = Arc::<ShardStats>::default();
        Self { shard: Shard::new(settings, stats, Time::ZERO), scratch: Vec::new(), sent: 0 }
    }

    fn open(&mut self, path: &str) -> ConnectionId {
        self.open_with(path, "")
    }

    /// With a further header line.
    fn open_with(&mut self, path: &str, line: &str) -> ConnectionId {
        let id = self.shard.accept(Time::ZERO).expect("the table has room");
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{line}\r\n"
        );
        self.receive(id, request.as_bytes());
        self.flush();
        id
    }

    /// The transport brings bytes.
    fn receive(&mut self, id: ConnectionId, bytes: &[u8]) {
        self.scratch.clear();
        self.scratch.extend_from_slice(bytes);
        assert!(self.shard.wants_read(id));
        self.shard.receive(id, &mut self.scratch, Time::ZERO);
    }

    fn flush(&mut self) {
        while let Some(id) = self.shard.next_flush(Time::ZERO) {
            loop {
                let n = match self.shard.output(id) {
                    Output::Send(bytes) => bytes.len(),
                    Output::SendSegments((slices, count)) => slices[..count].iter().map(|slice| slice.len()).sum(),
                    Output::Idle => break,
                    Output::EndWriting => {
                        self.shard.ended_writing(id);
                        continue;
                    }
                    Output::Close { .. } => {
                        self.shard.remove(id);
                        break;
                    }
                };
                self.sent += n as u64;
                self.shard.sent(id, n);
            }
        }
    }

    fn leave(&mut self, id: ConnectionId) {
        self.shard.transport_failed(id);
        self.flush();
    }
}

/// A binary frame of a client, masked with zeros.
fn masked(len: usize) -> Vec<u8> {
    let mut frame = vec![0x82];
    match len {
        0..126 => frame.push(0x80 | len as u8),
        126..65_536 => {
            frame.push(0xfe);
            frame.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            frame.push(0xff);
            frame.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    frame.resize(frame.len() + 4 + len, 0);
    frame
}

/// Bytes of a server's frame.
fn frame_len(payload: usize) -> u64 {
    let header = match payload {
        0..126 => 2,
        126..65_536 => 4,
        _ => 10,
    };
    header + payload as u64
}

const WARM_UP: u64 = 4;
const ROUNDS: u64 = 16;

/// Runs rounds until they are warm, then some more, which must not allocate.
#[track_caller]
fn assert_allocates_nothing(what: &str, mut round: impl FnMut()) {
    for _ in 0..WARM_UP {
        round();
    }
    let info = measure(|| (0..ROUNDS).for_each(|_| round()));
    assert_eq!((info.count_total, info.bytes_total), (0, 0), "{what}");
}

#[test]
fn echo_allocates_nothing_per_message() {
    const CONNECTIONS: u64 = 10;
    for len in [0, 20, 1000, 64 * 1024] {
        for in_flight in [1, 16] {
            let mut driver = Driver::new(100);
            let connections: Vec<_> = (0..CONNECTIONS).map(|_| driver.open("/echo")).collect();
            let frames = masked(len).repeat(in_flight);
            let before = driver.sent;
            assert_allocates_nothing(&format!("{in_flight} messages of {len} bytes"), || {
                for id in &connections {
                    driver.receive(*id, &frames);
                    driver.flush();
                }
            });
            assert_eq!(driver.sent - before, (WARM_UP + ROUNDS) * CONNECTIONS * in_flight as u64 * frame_len(len));
        }
    }
}

#[test]
fn messages_that_reads_cut_allocate_nothing() {
    let mut driver = Driver::new(10);
    let connections: Vec<_> = (0..10).map(|_| driver.open("/echo")).collect();
    let frame = masked(1000);
    assert_allocates_nothing("a message in three reads", || {
        for part in [&frame[..3], &frame[3..500], &frame[500..]] {
            connections.iter().for_each(|id| driver.receive(*id, part));
            driver.flush();
        }
    });
}

#[test]
fn fan_out_allocates_nothing_per_message() {
    const MEMBERS: u64 = 1000;
    for len in [64, 1024] {
        for burst in [1, 2, 64] {
            let mut driver = Driver::new(2000);
            for _ in 0..MEMBERS {
                driver.open("/topics/room");
            }
            let publisher = driver.open("/topics/room?subscribe=off");
            let frames = masked(len).repeat(burst);
            let before = driver.sent;
            assert_allocates_nothing(&format!("{burst} messages of {len} bytes"), || {
                driver.receive(publisher, &frames);
                driver.flush();
            });
            assert_eq!(driver.sent - before, (WARM_UP + ROUNDS) * MEMBERS * burst as u64 * frame_len(len));
        }
    }
}

#[test]
fn who_leaves_its_own_messages_out_costs_no_allocation() {
    const SPEAKERS: u64 = 50;
    let mut driver = Driver::new(100);
    let speakers: Vec<_> = (0..SPEAKERS).map(|_| driver.open("/topics/room?echo=off")).collect();
    let frame = masked(100);
    let before = driver.sent;
    assert_allocates_nothing("everybody speaks in one turn", || {
        speakers.iter().for_each(|id| driver.receive(*id, &frame));
        driver.flush();
    });
    assert_eq!(driver.sent - before, (WARM_UP + ROUNDS) * SPEAKERS * (SPEAKERS - 1) * frame_len(100));
}

#[test]
fn publishing_to_many_topics_in_turn_allocates_nothing() {
    let mut driver = Driver::new(1000);
    let members: Vec<_> = (0..500).map(|n| driver.open(&format!("/topics/{n}"))).collect();
    let frame = masked(64);
    assert_allocates_nothing("each publishes to its own topic", || {
        members.iter().for_each(|id| driver.receive(*id, &frame));
        driver.flush();
    });
}

/// What a client offers that can compress.
const OFFER: &str = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";

fn compressing(takeover: Takeover) -> Driver {
    let mut settings = settings(MANY);
    settings.compression = CompressionSettings {
        enabled: true,
        message_bytes_min: 64,
        takeover,
        context_bytes_max: 1 << 30,
        ..CompressionSettings::default()
    };
    Driver::with(settings)
}

#[test]
fn compressing_allocates_nothing_per_message() {
    // Zeros behind the mask, which is zero too: the frame is what the client compressed.
    let mut compressed = Vec::new();
    Deflater::new(6, 15).deflate(&[b'a'; 1000], &mut compressed);
    let frame = [&[0xc2, 0x80 | compressed.len() as u8, 0, 0, 0, 0], &compressed[..]].concat();
    let mut driver = compressing(Takeover::default());
    for _ in 0..100 {
        driver.open("/topics/room");
        driver.open_with("/topics/room", OFFER);
    }
    let publisher = driver.open_with("/topics/room?subscribe=off", OFFER);
    let echoes: Vec<_> = (0..10).map(|_| driver.open_with("/echo", OFFER)).collect();
    let before = driver.sent;
    assert_allocates_nothing("a compressed message to plain and compressing subscribers, and echoes", || {
        driver.receive(publisher, &frame);
        driver.flush();
        echoes.iter().for_each(|id| driver.receive(*id, &frame));
        driver.flush();
    });
    let sent = (driver.sent - before) / (WARM_UP + ROUNDS);
    assert_eq!(sent, 100 * frame_len(1000) + 110 * frame_len(compressed.len()));
}

#[test]
fn contexts_hold_what_their_metric_says() {
    let held = |make: &mut dyn FnMut()| measure(make).bytes_current;
    let (mut deflater, mut inflater) = (None, Inflater::default());
    let bytes = held(&mut || deflater = Some(Deflater::new(6, 15)));
    assert!(bytes > 0 && bytes.unsigned_abs().abs_diff(DEFLATER_BYTES as u64) < 16 * 1024, "a deflater: {bytes} bytes");
    let mut out = Vec::with_capacity(100);
    let bytes = held(&mut || inflater.inflate(&[0x4a, 0xcf, 0xcf, 0x4f, 1, 0], 10, &mut out).expect("good"));
    assert!(
        bytes > 0 && bytes.unsigned_abs().abs_diff(INFLATER_BYTES as u64) < 16 * 1024,
        "an inflater: {bytes} bytes"
    );
}

#[test]
fn an_idle_connection_with_compression_holds_few_bytes() {
    let agreed = |takeover| {
        let mut kept = None;
        let info = measure(|| {
            let mut driver = compressing(takeover);
            for _ in 0..MANY {
                driver.open_with("/echo", OFFER);
            }
            driver.scratch = Vec::new();
            kept = Some(driver);
        });
        u64::try_from(info.bytes_current).expect("more is allocated than before") / MANY as u64
    };
    assert_about("an idle connection that agreed on compression", agreed(Takeover::default()), 204);
    let takeover = agreed(Takeover { server: true, client: true });
    assert_about("the same with context takeover, before its first message", takeover, 204);
}

/// Bytes that stay allocated for each of [`MANY`], which `make` makes.
fn bytes_each(make: impl FnOnce(&mut Driver)) -> u64 {
    let mut kept = None;
    let info: AllocationInfo = measure(|| {
        let mut driver = Driver::new(MANY);
        make(&mut driver);
        driver.scratch = Vec::new();
        kept = Some(driver);
    });
    assert!(kept.is_some_and(|driver| !driver.shard.has_flushes()), "idle");
    u64::try_from(info.bytes_current).expect("more is allocated than before") / MANY as u64
}

fn open(driver: &mut Driver, path: &str) {
    driver.open(path);
}

/// Names of 32 bytes.
fn name(n: usize) -> String {
    format!("{n:032}")
}

/// Prints what was counted and holds it to what it was when this was written, and a
/// little more.
#[track_caller]
fn assert_about(what: &str, bytes: u64, was: u64) {
    println!("{what}: {bytes} bytes");
    assert!(bytes <= was + 8, "{what}: {bytes} bytes, not {was}");
}

#[test]
fn an_idle_connection_holds_few_bytes() {
    let bare = bytes_each(|driver| (0..MANY).for_each(|_| open(driver, "/echo")));
    assert_about("a bare connection", bare, 156);
    let one_topic = bytes_each(|driver| (0..MANY).for_each(|_| open(driver, "/topics/room")));
    assert_about("a subscriber of a topic that all share", one_topic, 196);
    let own_topic = bytes_each(|driver| {
        (0..MANY).for_each(|n| open(driver, &format!("/topics/{}", name(n))));
    });
    assert_about("a subscriber of a topic of its own, 32 bytes of name included", own_topic, 374);
}

#[test]
fn an_idle_topic_holds_few_bytes() {
    let empty = bytes_each(|_| ());
    let topics = bytes_each(|driver| {
        for n in 0..MANY {
            let id = driver.open(&format!("/topics/{}", name(n)));
            driver.leave(id);
        }
    });
    assert_about("an idle topic beside its name", topics - empty - 32, 154);
}

#[test]
fn what_was_busy_holds_no_more_than_what_never_was() {
    let quiet = bytes_each(|driver| (0..MANY).for_each(|_| open(driver, "/echo")));
    let busy = bytes_each(|driver| {
        let connections: Vec<_> = (0..MANY).map(|_| driver.open("/echo")).collect();
        let frame = masked(1000);
        for id in connections {
            // Cut, so that the reader needs a buffer for a while.
            driver.receive(id, &frame[..500]);
            driver.receive(id, &frame[500..]);
            driver.flush();
        }
    });
    assert_eq!(busy, quiet);
}
