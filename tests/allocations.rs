//! What the core allocates: nothing per message once it is warm, and a fixed number of
//! bytes for whatever stays. Counted, not measured, so the figures are the same on
//! every machine with words of 64 bits.
#![allow(missing_docs)]

use std::sync::Arc;
use std::time::Duration;

use allocation_counter::{AllocationInfo, measure};
use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::server::{NoServerSessionStorage, UnbufferedServerConnection};
use rustls::unbuffered::ConnectionState;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use wsgate::buffer::BufferPool;
use wsgate::command::Address;
use wsgate::connection::{Deadlines, Output, QueueBounds, TlsSettings};
use wsgate::dialect::{Routes, ServiceLimits};
use wsgate::hub::HubSettings;
use wsgate::hub::owner_of;
use wsgate::id::{ConnectionId, ShardId};
use wsgate::proto::compression::CompressionSettings;
use wsgate::proto::deflate::{DEFLATER_BYTES, Deflater};
use wsgate::proto::extension::Takeover;
use wsgate::proto::inflate::{INFLATER_BYTES, Inflater};
use wsgate::shard::{Shard, ShardSettings};
use wsgate::stats::ShardStats;
use wsgate::time::Time;
use wsgate::tls::ClientStream;

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
            topics_in_use: Arc::default(),
            topics_idle_max: 2 * MANY,
            policies: Arc::default(),
        },
        connections_max,
        handshake_bytes_max: 8192,
        frame_bytes_max: 1 << 20,
        fragments_max: 1000,
        queue: QueueBounds { queue_bytes_max: 1 << 20, reply_bytes_watermark: 64 * 1024, pong_bytes_max: 4096 },
        deadlines: Deadlines {
            handshake: Duration::from_secs(10),
            ping_interval: Duration::from_secs(25),
            pong_timeout: Duration::from_secs(10),
            idle: None,
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
        admission: Arc::default(),
        tls: None,
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
        let replies = self.shard.receive(id, &mut self.scratch, Time::ZERO).len();
        self.sent += replies as u64;
        self.shard.replied(replies);
    }

    /// The same, and the transport takes no reply.
    fn receive_kept(&mut self, id: ConnectionId, bytes: &[u8]) {
        self.scratch.clear();
        self.scratch.extend_from_slice(bytes);
        let replies = self.shard.receive(id, &mut self.scratch, Time::ZERO);
        assert!(replies.is_empty(), "nothing is offered to a transport that is full");
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
        self.shard.end_turn(Time::ZERO, Time::ZERO);
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
    for len in [1000, 64 * 1024] {
        let frame = masked(len);
        assert_allocates_nothing(&format!("a message of {len} bytes in three reads"), || {
            for part in [&frame[..3], &frame[3..500], &frame[500..]] {
                connections.iter().for_each(|id| driver.receive(*id, part));
                driver.flush();
            }
        });
    }
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
fn messages_that_cross_shards_allocate_nothing() {
    const MEMBERS: usize = 50;
    for owner in 0..2 {
        let mut shards = [0, 1].map(|shard| {
            let mut driver = Driver::new(200);
            let mut settings = settings(200);
            settings.hub = HubSettings { shard: ShardId(shard), shards: 2, ..settings.hub };
            driver.shard = Shard::new(settings, Arc::default(), Time::ZERO);
            driver
        });
        let name = (0..).map(|n| format!("room-{n}")).find(|name| owner_of(name, 2, 7) == ShardId(owner)).expect("one");
        let mut publishers = Vec::new();
        for shard in 0..2 {
            publishers.push(shards[shard].open(&format!("/topics/{name}?subscribe=off")));
            for _ in 0..MEMBERS {
                shards[shard].open(&format!("/topics/{name}"));
            }
            carry(&mut shards);
        }
        for burst in [1, 64] {
            let frames = masked(64).repeat(burst);
            let before = shards[0].sent + shards[1].sent;
            assert_allocates_nothing(&format!("{burst} messages from each shard to both"), || {
                (0..2).for_each(|shard| shards[shard].receive(publishers[shard], &frames));
                carry(&mut shards);
            });
            let messages = (WARM_UP + ROUNDS) * 2 * burst as u64;
            assert_eq!(shards[0].sent + shards[1].sent - before, messages * 2 * MEMBERS as u64 * frame_len(64));
        }
    }
}

/// Delivers mail and flushes until nothing is left to do.
fn carry(shards: &mut [Driver; 2]) {
    loop {
        let mut idle = true;
        for from in 0..2 {
            shards[from].flush();
            while let Some((to, envelope)) = shards[from].shard.take_envelope() {
                let Address::Shard(to) = to else { panic!("nobody asked for the control plane") };
                shards[to.index()].shard.open_envelope(envelope, Time::ZERO);
                idle = false;
            }
        }
        if idle {
            return;
        }
    }
}

#[test]
fn what_waits_is_counted_with_all_the_memory_that_it_keeps() {
    const WAITING: usize = 60;
    let mut driver = Driver::new(300);
    // Long replies leave long buffers in the pool, and short ones come after them.
    let before: Vec<_> = (0..70).map(|_| driver.open("/echo")).collect();
    let (long, short) = (masked(60_000).repeat(2), masked(20));
    for id in &before {
        driver.shard.blocked(*id);
        driver.receive_kept(*id, &long);
    }
    before.iter().for_each(|id| driver.shard.writable(*id));
    driver.flush();
    let waiting: Vec<_> = (0..WAITING).map(|_| driver.open("/echo")).collect();
    assert_eq!(driver.shard.queue_memory_bytes(), 0);
    let info = measure(|| {
        for id in &waiting {
            driver.shard.blocked(*id);
            driver.receive_kept(*id, &short);
        }
    });
    let counted = driver.shard.queue_memory_bytes();
    assert!((22..=200).contains(&(counted / WAITING as u64)), "{counted} bytes");
    assert!(info.bytes_current <= counted as i64 + WAITING as i64 * 300, "{} bytes held", info.bytes_current);
}

#[test]
fn what_has_arrived_in_part_is_counted_with_all_the_memory_that_it_keeps() {
    const WAITING: usize = 60;
    let mut driver = Driver::new(300);
    let waiting: Vec<_> = (0..WAITING).map(|_| driver.shard.accept(Time::ZERO).expect("the table has room")).collect();
    let info = measure(|| {
        for part in ["GET /echo HTTP/1.1\r\nX: ", &"a".repeat(700)] {
            waiting.iter().for_each(|id| driver.receive(*id, part.as_bytes()));
        }
    });
    let counted = driver.shard.stats().input_memory_bytes.get();
    assert!(counted >= 700 * WAITING as u64, "{counted} bytes");
    // Beside that there is the driver's scratch.
    let held = info.bytes_current - counted as i64;
    assert!((0..=1024).contains(&held), "{} bytes held, {counted} counted", info.bytes_current);
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
    assert_about("an idle connection that agreed on compression", agreed(Takeover::default()), 252);
    let takeover = agreed(Takeover { server: true, client: true });
    assert_about("the same with context takeover, before its first message", takeover, 252);
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
    assert_about("a bare connection", bare, 180);
    let one_topic = bytes_each(|driver| (0..MANY).for_each(|_| open(driver, "/topics/room")));
    assert_about("a subscriber of a topic that all share", one_topic, 220);
    let own_topic = bytes_each(|driver| {
        (0..MANY).for_each(|n| open(driver, &format!("/topics/{}", name(n))));
    });
    assert_about("a subscriber of a topic of its own, 32 bytes of name included", own_topic, 398);
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

/// Connections over TLS that are counted; each takes a handshake.
const SECURE: usize = 1 << 8;
const NAME: &str = "gateway.example";

/// Both ends' settings, as the gateway makes its own.
fn tls() -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let rcgen::CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
    let provider = Arc::new(ring::default_provider());
    let mut server = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap())
        .unwrap();
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.ticketer = ring::Ticketer::new().unwrap();
    server.send_tls13_tickets = 1;
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    // It would keep tickets.
    client.resumption = Resumption::disabled();
    (Arc::new(server), Arc::new(client))
}

/// Lets a client and a server talk until the client's handshake is complete and what it
/// says is read. `serve` gets what came and returns what the server sends.
fn secure(client: &mut ClientStream, words: &[u8], mut serve: impl FnMut(&mut [u8]) -> Vec<u8>) {
    let mut pool = BufferPool::default();
    client.begin(&mut pool).unwrap();
    let mut said = false;
    while !said || !client.unsent().is_empty() {
        if !client.is_handshaking() && !said {
            client.encrypt(words, &mut pool).unwrap();
            said = true;
        }
        let mut bytes = client.unsent().to_vec();
        client.sent(bytes.len(), &mut pool);
        client.receive(&mut serve(&mut bytes), &mut Vec::new(), &mut pool).unwrap();
    }
}

/// Bytes that rustls alone keeps for an open connection: the least that TLS takes.
fn bytes_of_bare_rustls(server: &Arc<ServerConfig>, client: &Arc<ClientConfig>) -> u64 {
    let mut kept = Vec::with_capacity(SECURE);
    let info = measure(|| {
        for _ in 0..SECURE {
            let mut connection = Box::new(UnbufferedServerConnection::new(server.clone()).unwrap());
            secure(&mut new_client(client), b"request", |bytes| serve_bare(&mut connection, bytes));
            kept.push(connection);
        }
    });
    (info.bytes_current / SECURE as i64) as u64
}

fn serve_bare(connection: &mut UnbufferedServerConnection, bytes: &mut [u8]) -> Vec<u8> {
    let mut answer = Vec::new();
    let mut used = 0;
    loop {
        let status = connection.process_tls_records(&mut bytes[used..]);
        used += status.discard;
        match status.state.unwrap() {
            ConnectionState::ReadTraffic(mut traffic) => while traffic.next_record().is_some() {},
            ConnectionState::EncodeTlsData(mut data) => {
                let start = answer.len();
                answer.resize(start + 4096, 0);
                let len = data.encode(&mut answer[start..]).unwrap();
                answer.truncate(start + len);
            }
            ConnectionState::TransmitTlsData(data) => data.done(),
            _ => return answer,
        }
    }
}

/// A driver whose clients may speak TLS.
fn secure_driver(server: &Arc<ServerConfig>) -> Driver {
    let tls = Some(TlsSettings { config: server.clone(), allow_plaintext: true });
    let settings = ShardSettings { tls, ..settings(2 * SECURE) };
    Driver { shard: Shard::new(settings, Arc::default(), Time::ZERO), scratch: Vec::new(), sent: 0 }
}

/// What the shard offers a connection, and nobody else.
fn take_output(shard: &mut Shard, id: ConnectionId) -> Vec<u8> {
    let mut taken = Vec::new();
    while let Some(other) = shard.next_flush(Time::ZERO) {
        assert_eq!(other, id);
        loop {
            match shard.output(id) {
                Output::Send(bytes) => {
                    let n = bytes.len();
                    taken.extend_from_slice(bytes);
                    shard.sent(id, n);
                }
                Output::Idle => break,
                _ => panic!("the connection is open, and TLS has one piece at a time"),
            }
        }
    }
    taken
}

fn open_secure(driver: &mut Driver, client: &mut ClientStream, path: &str) -> ConnectionId {
    let id = driver.shard.accept(Time::ZERO).expect("the table has room");
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    secure(client, request.as_bytes(), |bytes| {
        driver.shard.begin_turn();
        assert!(driver.shard.wants_read(id));
        assert!(driver.shard.receive(id, bytes, Time::ZERO).is_empty());
        take_output(&mut driver.shard, id)
    });
    id
}

fn new_client(config: &Arc<ClientConfig>) -> ClientStream {
    ClientStream::client(config.clone(), ServerName::try_from(NAME).unwrap()).unwrap()
}

#[test]
fn an_idle_connection_over_tls_holds_what_rustls_holds_and_a_table_entry() {
    let (server, client) = tls();
    // What is allocated once is not charged to the connections that are counted.
    bytes_of_bare_rustls(&server, &client);
    let bare = bytes_of_bare_rustls(&server, &client);

    let mut driver = secure_driver(&server);
    let mut open = || {
        (0..SECURE).for_each(|_| {
            open_secure(&mut driver, &mut new_client(&client), "/echo");
        })
    };
    open();
    let info = measure(open);
    // The table was there; `an_idle_connection_holds_few_bytes` counts it. What is left is
    // two empty buffers, two numbers and a timer.
    let ours = (info.bytes_current / SECURE as i64) as u64;
    println!("an idle TLS connection: {ours} bytes beside its table entry, {bare} of bare rustls");
    assert!(ours <= bare + 96, "{ours} bytes, and rustls alone holds {bare}");
}

#[test]
fn fan_out_over_tls_allocates_what_rustls_does_and_nothing_else() {
    const MEMBERS: u64 = 100;
    let (server, client) = tls();
    let mut driver = secure_driver(&server);
    for _ in 0..MEMBERS {
        open_secure(&mut driver, &mut new_client(&client), "/topics/room");
    }
    let publisher = driver.open("/topics/room?subscribe=off");
    for (len, burst) in [(64, 1), (64, 64), (1024, 64)] {
        let frames = masked(len).repeat(burst);
        let mut round = || {
            driver.receive(publisher, &frames);
            driver.flush();
        };
        (0..WARM_UP).for_each(|_| round());
        let info = measure(|| (0..ROUNDS).for_each(|_| round()));
        // rustls makes each record in memory of its own.
        let records = (burst as u64 * frame_len(len)).div_ceil(16 * 1024);
        assert_eq!(info.count_total, ROUNDS * MEMBERS * records, "{burst} messages of {len} bytes");
    }
}

#[test]
fn tls_handshakes_of_one_turn_are_few_and_all_have_theirs() {
    const MANY: usize = 50;
    let (server, client) = tls();
    let mut driver = secure_driver(&server);
    let mut pool = BufferPool::default();
    let mut hellos: Vec<_> = (0..MANY)
        .map(|_| {
            let mut client = new_client(&client);
            client.begin(&mut pool).unwrap();
            (driver.shard.accept(Time::ZERO).unwrap(), client.unsent().to_vec())
        })
        .collect();
    // One that does not speak TLS is not held up, once it is known for that.
    driver.shard.begin_turn();
    let plain = driver.open("/echo");
    let mut turns = Vec::new();
    let mut ready: Vec<_> = hellos.iter().map(|(id, _)| *id).collect();
    while !ready.is_empty() {
        let before = driver.sent;
        for id in ready.drain(..) {
            if driver.shard.wants_read(id) {
                let (_, hello) = hellos.iter_mut().find(|(other, _)| *other == id).unwrap();
                assert!(driver.shard.receive(id, hello, Time::ZERO).is_empty());
            }
        }
        assert!(driver.shard.wants_read(plain));
        let mut answered = 0;
        while let Some(id) = driver.shard.next_flush(Time::ZERO) {
            answered += 1;
            while let Output::Send(bytes) = driver.shard.output(id) {
                let n = bytes.len();
                driver.sent += n as u64;
                driver.shard.sent(id, n);
            }
        }
        assert!(driver.sent > before);
        turns.push(answered);
        // Whoever left meanwhile takes nobody's turn.
        driver.shard.begin_turn();
        ready.extend(std::iter::from_fn(|| driver.shard.next_resumed()));
    }
    assert_eq!(turns, [8, 8, 8, 8, 8, 8, 2]);
    assert_eq!(driver.shard.stats().tls_handshakes_deferred.get(), 42);
}

#[test]
fn tls_handshakes_of_a_turn_are_fewer_while_flushes_of_the_last_one_are_left() {
    const MANY: usize = 10;
    let (server, client) = tls();
    let mut driver = secure_driver(&server);
    let mut pool = BufferPool::default();
    driver.open("/topics/room");
    let publisher = driver.open("/topics/room?subscribe=off");
    driver.receive(publisher, &masked(64));
    // The next turn begins, and the message has not left.
    driver.shard.begin_turn();
    for _ in 0..MANY {
        let mut client = new_client(&client);
        client.begin(&mut pool).unwrap();
        let id = driver.shard.accept(Time::ZERO).unwrap();
        if driver.shard.wants_read(id) {
            let replies = driver.shard.receive(id, &mut client.unsent().to_vec(), Time::ZERO);
            assert!(replies.is_empty());
        }
    }
    assert_eq!(driver.shard.stats().tls_handshakes_deferred.get(), 8, "of ten, a quarter of eight have theirs");
    driver.flush();
    driver.shard.begin_turn();
    assert_eq!(std::iter::from_fn(|| driver.shard.next_resumed()).count(), 8);
}
