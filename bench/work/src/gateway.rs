//! A shard without sockets: its transports take whatever they are offered.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use wsgate::connection::{Deadlines, Output, QueueBounds};
use wsgate::dialect::{Routes, ServiceLimits};
use wsgate::hub::HubSettings;
use wsgate::id::{ConnectionId, ShardId};
use wsgate::proto::compression::CompressionSettings;
use wsgate::proto::frame::{self, OpCode};
use wsgate::shard::{Shard, ShardSettings};
use wsgate::time::Time;

/// Silence after which a peer is pinged.
pub(crate) const PING_INTERVAL: Duration = Duration::from_secs(25);

/// A shard and the time there.
pub(crate) struct Gateway {
    pub(crate) shard: Shard,
    pub(crate) now: Time,
    scratch: Vec<u8>,
    sent: usize,
}

impl Gateway {
    /// With room for so many connections.
    pub(crate) fn new(connections_max: usize, compression: CompressionSettings) -> Self {
        let shard = Shard::new(settings(connections_max, compression), Arc::default(), Time::ZERO);
        Self { shard, now: Time::ZERO, scratch: Vec::new(), sent: 0 }
    }

    /// Accepts clients that ask for the same, and answers them.
    pub(crate) fn open_all(&mut self, request: &str, count: usize) -> Vec<ConnectionId> {
        (0..count).map(|_| self.open(request)).collect()
    }

    /// Accepts a client and answers its request.
    pub(crate) fn open(&mut self, request: &str) -> ConnectionId {
        let id = self.shard.accept(self.now).expect("the table has room");
        self.receive(id, request.as_bytes());
        self.flush();
        id
    }

    /// The transport brings bytes.
    pub(crate) fn receive(&mut self, id: ConnectionId, bytes: &[u8]) {
        self.scratch.clear();
        self.scratch.extend_from_slice(bytes);
        let replies = self.shard.receive(id, &mut self.scratch, self.now).len();
        self.sent += replies;
        self.shard.replied(replies);
    }

    /// Sends all that waits, and ends the turn.
    pub(crate) fn flush(&mut self) {
        while let Some(id) = self.shard.next_flush(self.now) {
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
                self.sent += n;
                self.shard.sent(id, n);
            }
        }
        self.shard.end_turn(self.now, self.now);
    }

    /// Bytes sent since this was asked last.
    pub(crate) fn take_sent(&mut self) -> usize {
        std::mem::take(&mut self.sent)
    }
}

fn settings(connections_max: usize, compression: CompressionSettings) -> ShardSettings {
    ShardSettings {
        hub: HubSettings {
            shard: ShardId(0),
            shards: 1,
            hash_seed: 7,
            epoch_seed: 1,
            topics_max: 1 << 16,
            topics_in_use: Arc::default(),
            topics_idle_max: 1 << 16,
            policies: Arc::default(),
        },
        connections_max,
        handshake_bytes_max: 8192,
        frame_bytes_max: 1 << 20,
        fragments_max: 1000,
        queue: QueueBounds { queue_bytes_max: 1 << 20, reply_bytes_watermark: 64 * 1024, pong_bytes_max: 4096 },
        deadlines: Deadlines {
            handshake: Duration::from_secs(10),
            ping_interval: PING_INTERVAL,
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
        compression,
    }
}

/// A request as a browser sends it, with these further lines.
pub(crate) fn upgrade_request(path: &str, lines: &str) -> String {
    let mut request = String::new();
    write!(
        request,
        "GET {path} HTTP/1.1\r\nHost: gateway.example:8000\r\nConnection: keep-alive, Upgrade\r\n\
         Pragma: no-cache\r\nCache-Control: no-cache\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nAccept-Encoding: gzip, deflate, br\r\n\
         Accept-Language: en\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{lines}\r\n"
    )
    .expect("a string takes whatever is written");
    request
}

/// Messages as a client sends them, each with a mask of its own.
pub(crate) fn client_frames(opcode: OpCode, payload: &[u8], count: usize) -> Vec<u8> {
    let mut frames = Vec::new();
    for n in 0..count {
        frame::append_client(&mut frames, opcode, (n as u32 ^ 0x9e37_79b9).to_ne_bytes(), payload);
    }
    frames
}
