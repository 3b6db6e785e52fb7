//! Two shards joined in memory: no sockets, and a clock that tests set.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::command::{Address, DrainStep, Envelope};
use crate::connection::{Deadlines, Output, QueueBounds};
use crate::dialect::{Routes, ServiceLimits};
use crate::hub::{HubSettings, owner_of};
use crate::id::{ConnectionId, ShardId};
use crate::proto::compression::CompressionSettings;
use crate::shard::{ListenerTask, Shard, ShardSettings};
use crate::stats::{Cell, CloseReason, ShardStats};
use crate::time::Time;

pub(super) const SEED: u64 = 7;
pub(crate) const SHARDS: usize = 2;
/// Where the topics of these tests are owned, and where they are not.
pub(super) const OWNER: usize = 0;
pub(super) const OTHER: usize = 1;

pub(super) const DEADLINES: Deadlines = Deadlines {
    handshake: Duration::from_secs(10),
    ping_interval: Duration::from_secs(25),
    pong_timeout: Duration::from_secs(11),
    idle: None,
    close: Duration::from_secs(5),
};
pub(super) const QUEUE_BYTES_MAX: usize = 4096;
pub(super) const REPLY_BYTES_WATERMARK: usize = 1024;

/// What a shard's peer has seen of it, and what it said that nobody has read.
#[derive(Default)]
pub(super) struct Transport {
    pub(super) sent: Vec<u8>,
    pub(super) unread: VecDeque<u8>,
    pub(super) ended: bool,
    /// Set when closed; whether by reset.
    pub(super) closed: Option<bool>,
    /// Bytes that it still takes; nothing is no bound.
    pub(super) room: Option<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Peer {
    pub(super) shard: usize,
    pub(super) id: ConnectionId,
}

/// The driver of both shards.
pub(super) struct Pair {
    pub(super) shards: Vec<Shard>,
    pub(super) stats: Vec<Arc<ShardStats>>,
    pub(super) transports: Vec<(Peer, Transport)>,
    /// By sender and receiver.
    pub(super) mail: [[VecDeque<Envelope>; SHARDS]; SHARDS],
    pub(super) control: Vec<Envelope>,
    pub(super) now: Time,
}

impl Pair {
    pub(super) fn new() -> Self {
        Self::with(|_| ())
    }

    pub(super) fn with(change: impl Fn(&mut ShardSettings)) -> Self {
        let stats: Vec<Arc<ShardStats>> = (0..SHARDS).map(|_| Arc::default()).collect();
        let now = Time(3_600_000_000_000);
        let shards = stats.iter().enumerate().map(|(shard, stats)| {
            let mut settings = settings(shard);
            change(&mut settings);
            Shard::new(settings, stats.clone(), now)
        });
        let shards = shards.collect();
        Self { shards, stats, transports: Vec::new(), mail: Default::default(), control: Vec::new(), now }
    }

    pub(super) fn accept(&mut self, shard: usize) -> Peer {
        let id = self.shards[shard].accept(self.now).expect("the table has room");
        let peer = Peer { shard, id };
        self.transports.push((peer, Transport::default()));
        peer
    }

    /// Accepts a peer and carries out its upgrade.
    pub(super) fn open(&mut self, shard: usize, path: &str) -> Peer {
        let peer = self.accept(shard);
        self.send(peer, &request(path));
        self.settle();
        assert!(self.take(peer).starts_with(b"HTTP/1.1 101 "));
        peer
    }

    pub(super) fn transport(&mut self, peer: Peer) -> &mut Transport {
        &mut self.transports.iter_mut().find(|(other, _)| *other == peer).expect("was accepted").1
    }

    /// What the peer has received since the last look.
    pub(super) fn take(&mut self, peer: Peer) -> Vec<u8> {
        std::mem::take(&mut self.transport(peer).sent)
    }

    /// The peer sends; read at once unless the shard does not want to.
    pub(super) fn send(&mut self, peer: Peer, bytes: &[u8]) {
        self.transport(peer).unread.extend(bytes);
        self.read(peer);
    }

    pub(super) fn read(&mut self, peer: Peer) {
        if self.shards[peer.shard].wants_read(peer.id) {
            let mut bytes: Vec<u8> = self.transport(peer).unread.drain(..).collect();
            if !bytes.is_empty() {
                let replies = self.shards[peer.shard].receive(peer.id, &mut bytes, self.now);
                self.reply(peer, &bytes[replies]);
            }
        }
    }

    fn reply(&mut self, peer: Peer, bytes: &[u8]) {
        let transport = self.transport(peer);
        let taken = transport.room.map_or(bytes.len(), |room| room.min(bytes.len()));
        transport.sent.extend_from_slice(&bytes[..taken]);
        if let Some(room) = &mut transport.room {
            *room -= taken;
        }
        let shard = &mut self.shards[peer.shard];
        shard.replied(taken);
        if taken < bytes.len() {
            shard.blocked(peer.id);
            shard.keep_replies(peer.id, &bytes[taken..]);
        }
    }

    /// Flushes, and reads what is wanted again, until nothing is left to do; mail is
    /// collected, not delivered.
    pub(super) fn flush(&mut self) {
        for shard in 0..SHARDS {
            loop {
                while let Some(id) = self.shards[shard].next_flush(self.now) {
                    self.flush_one(Peer { shard, id });
                }
                match self.shards[shard].next_resumed() {
                    Some(id) => self.read(Peer { shard, id }),
                    None => break,
                }
            }
            while let Some((to, envelope)) = self.shards[shard].take_envelope() {
                match to {
                    Address::Shard(to) => self.mail[shard][to.index()].push_back(envelope),
                    Address::Control => self.control.push(envelope),
                }
            }
            self.shards[shard].end_turn(self.now, self.now);
        }
    }

    pub(super) fn flush_one(&mut self, peer: Peer) {
        loop {
            let shard = &mut self.shards[peer.shard];
            let transport = &mut self.transports.iter_mut().find(|(other, _)| *other == peer).expect("was accepted").1;
            assert_eq!(transport.closed, None, "nothing is flushed after the end");
            match shard.output(peer.id) {
                Output::Idle => return,
                output @ (Output::Send(_) | Output::SendSegments(_)) => {
                    assert!(!transport.ended, "nothing is sent after the end");
                    let bytes: Vec<u8> = match output {
                        Output::Send(bytes) => bytes.to_vec(),
                        Output::SendSegments((slices, count)) => {
                            slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect()
                        }
                        _ => Vec::new(),
                    };
                    let taken = transport.room.map_or(bytes.len(), |room| room.min(bytes.len()));
                    transport.sent.extend_from_slice(&bytes[..taken]);
                    if let Some(room) = &mut transport.room {
                        *room -= taken;
                    }
                    shard.sent(peer.id, taken);
                    if taken < bytes.len() {
                        shard.blocked(peer.id);
                        return;
                    }
                }
                Output::EndWriting => {
                    transport.ended = true;
                    shard.ended_writing(peer.id);
                }
                Output::Close { abort } => {
                    transport.closed = Some(abort);
                    shard.remove(peer.id);
                    return;
                }
            }
        }
    }

    /// The peer takes bytes again, without end.
    pub(super) fn unblock(&mut self, peer: Peer) {
        self.transport(peer).room = None;
        self.shards[peer.shard].writable(peer.id);
        self.flush();
    }

    /// Delivers what one shard has sent the other.
    pub(super) fn carry(&mut self, from: usize, to: usize) {
        for envelope in std::mem::take(&mut self.mail[from][to]) {
            self.shards[to].open_envelope(envelope, self.now);
        }
        self.flush();
    }

    /// Delivers the oldest of what one shard has sent the other, if there is any.
    pub(super) fn carry_one(&mut self, from: usize, to: usize) {
        if let Some(envelope) = self.mail[from][to].pop_front() {
            self.tell(to, envelope);
        }
    }

    pub(super) fn tell(&mut self, shard: usize, envelope: Envelope) {
        self.shards[shard].open_envelope(envelope, self.now);
        self.flush();
    }

    /// Does what going down asks of a listener at which nobody waits.
    pub(super) fn tend_listener(&mut self, shard: usize) {
        while self.shards[shard].listener_task() != ListenerTask::None {
            self.shards[shard].listener_done(self.now);
        }
        self.flush();
    }

    /// Both shards are told to go down, and come as far as they do without time passing.
    pub(super) fn go_down(&mut self, spread: Duration) {
        for shard in 0..SHARDS {
            self.tell(shard, Envelope::Drain(DrainStep::Announce));
            self.tell(shard, Envelope::Drain(DrainStep::Close { spread, seed: SEED }));
        }
        self.go_on_down();
    }

    /// The same for shards that have been told.
    pub(super) fn go_on_down(&mut self) {
        self.settle();
        while self.shards.iter().any(|shard| shard.listener_task() != ListenerTask::None) {
            (0..SHARDS).for_each(|shard| self.tend_listener(shard));
            self.settle();
        }
    }

    /// Flushes and carries until all is quiet.
    pub(super) fn settle(&mut self) {
        self.flush();
        while self.mail.iter().flatten().any(|mail| !mail.is_empty()) {
            self.carry(0, 1);
            self.carry(1, 0);
        }
    }

    /// Time passes; both shards look at their deadlines as a driver would.
    pub(super) fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            let next = self.shards.iter().filter_map(Shard::next_timeout).min().filter(|next| *next <= end);
            self.now = next.unwrap_or(end).max(self.now);
            for shard in &mut self.shards {
                shard.handle_timeouts(self.now);
                shard.receive_unread(self.now);
            }
            self.settle();
            if next.is_none() {
                return;
            }
        }
    }

    pub(super) fn closes(&self, reason: CloseReason) -> u64 {
        self.stats.iter().map(|stats| stats.closes[reason as usize].get()).sum()
    }

    pub(super) fn sum(&self, cell: impl Fn(&ShardStats) -> &Cell) -> u64 {
        self.stats.iter().map(|stats| cell(stats).get()).sum()
    }

    /// Nobody is left, and neither is anything that they had.
    pub(super) fn assert_empty(&mut self) {
        self.settle();
        for shard in &self.shards {
            assert_eq!(shard.connections_len(), 0);
            assert_eq!(shard.hub.subscriptions_len(), 0);
            assert_eq!(shard.next_timeout(), None);
        }
        assert_eq!(self.sum(|stats| &stats.connections), 0);
        assert_eq!(self.sum(|stats| &stats.subscriptions), 0);
        assert_eq!(self.sum(|stats| &stats.queue_bytes), 0);
    }
}

pub(crate) fn settings(shard: usize) -> ShardSettings {
    ShardSettings {
        hub: HubSettings {
            shard: ShardId(shard as u16),
            shards: SHARDS,
            hash_seed: SEED,
            epoch_seed: 1,
            topics_max: 100,
            topics_in_use: Arc::default(),
            topics_idle_max: 100,
            policies: Arc::default(),
        },
        connections_max: 100,
        handshake_bytes_max: 8192,
        frame_bytes_max: 1 << 20,
        fragments_max: 1000,
        queue: QueueBounds {
            queue_bytes_max: QUEUE_BYTES_MAX,
            reply_bytes_watermark: REPLY_BYTES_WATERMARK,
            pong_bytes_max: REPLY_BYTES_WATERMARK / 2,
        },
        deadlines: DEADLINES,
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

/// The `n`th topic that [`OWNER`] owns.
pub(super) fn topic(n: usize) -> String {
    let names = (0..).map(|number| format!("t{number}"));
    names.filter(|name| owner_of(name, SHARDS, SEED).index() == OWNER).nth(n).expect("the names have no end")
}

pub(super) fn path(query: &str) -> String {
    format!("/topics/{}{query}", topic(0))
}

pub(super) fn request(path: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .into_bytes()
}

/// A frame of a client, masked with zeros; up to 64 KiB.
pub(super) fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = [vec![first], length(payload), vec![0; 4], payload.to_vec()].concat();
    frame[1] |= 0x80;
    frame
}

fn length(payload: &[u8]) -> Vec<u8> {
    match u16::try_from(payload.len()).expect("up to 64 KiB") {
        len @ 0..126 => vec![len as u8],
        len => [&[126], len.to_be_bytes().as_slice()].concat(),
    }
}

pub(super) fn text(words: &str) -> Vec<u8> {
    masked(0x81, words.as_bytes())
}

/// A frame of a server; up to 64 KiB.
pub(super) fn unmasked(first: u8, payload: &[u8]) -> Vec<u8> {
    [vec![first], length(payload), payload.to_vec()].concat()
}

pub(super) fn delivered(words: &str) -> Vec<u8> {
    unmasked(0x81, words.as_bytes())
}

/// The code of a Close frame that is all of `bytes`.
pub(super) fn close_code(bytes: &[u8]) -> u16 {
    assert!(bytes[0] == 0x88 && usize::from(bytes[1]) == bytes.len() - 2, "no Close frame: {bytes:?}");
    u16::from_be_bytes([bytes[2], bytes[3]])
}
