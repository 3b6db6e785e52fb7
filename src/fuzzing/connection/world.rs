//! The driver of both shards, with transports that do what they are told.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::peer::{Interest, Numbered, Peer, check_deliveries, numbered};
use super::{Ending, Operation, Path};
use crate::command::{Address, DrainStep, Envelope, SharedMessage};
use crate::connection::{Deadlines, Output, QueueBounds};
use crate::dialect::{Routes, ServiceLimits};
use crate::hub::{HubSettings, owner_of};
use crate::id::ShardId;
use crate::policy::{TopicPattern, TopicPolicies};
use crate::proto::compression::CompressionSettings;
use crate::proto::frame::{self, MessageKind, OpCode};
use crate::shard::{ListenerTask, Shard, ShardSettings};
use crate::stats::ShardStats;
use crate::time::Time;

const SHARDS: usize = 2;
const SEED: u64 = 7;
/// From the first connection that is told to go to the last.
const SPREAD: Duration = Duration::from_secs(2);
/// Peers in all; a shard's table has room for fewer.
const PEERS_MAX: usize = 24;
const CONNECTIONS_MAX: usize = 8;
const TOPICS: u8 = 4;
/// Rounds after which what should come to rest has not.
const ROUNDS_MAX: usize = 10_000;

pub(super) struct World {
    shards: Vec<Shard>,
    stats: Vec<Arc<ShardStats>>,
    /// All that ever came, in that order.
    peers: Vec<Peer>,
    /// By receiver.
    mail: [VecDeque<Envelope>; SHARDS],
    now: Time,
    /// Bytes of a piece of what peers send; 0 is no bound.
    piece: usize,
    messages: Vec<Numbered>,
    /// Peers have sent bytes that may say anything, numbered messages too.
    wild: bool,
}

impl World {
    pub(super) fn new() -> Self {
        let stats: Vec<Arc<ShardStats>> = (0..SHARDS).map(|_| Arc::default()).collect();
        let now = Time(3_600_000_000_000);
        let shards = stats.iter().enumerate().map(|(shard, stats)| Shard::new(settings(shard), stats.clone(), now));
        Self {
            shards: shards.collect(),
            stats,
            peers: Vec::new(),
            mail: Default::default(),
            now,
            piece: 0,
            messages: Vec::new(),
            wild: false,
        }
    }

    pub(super) fn apply(&mut self, operation: &Operation<'_>) {
        match *operation {
            Operation::Accept { shard } => self.accept(usize::from(shard) % SHARDS),
            Operation::Request { peer, path } => self.request(peer, path),
            Operation::Frame { peer, first, payload } => self.frame(peer, first, payload),
            Operation::Say { peer, bytes } => self.say(peer, usize::from(bytes % 3000)),
            Operation::Bytes { peer, bytes } => {
                self.wild = true;
                self.send(peer, bytes);
            }
            Operation::Pieces { bytes } => self.piece = usize::from(bytes),
            Operation::Room { peer, bytes } => self.with_peer(peer, |peer| peer.room = Some(usize::from(bytes))),
            Operation::Resume { peer } => {
                if let Some(at) = self.peer_at(peer) {
                    self.resume(at);
                }
            }
            Operation::PeerEnds { peer } => {
                if let Some(at) = self.peer_at(peer) {
                    self.end_peer(at);
                }
            }
            Operation::Fail { peer } => {
                if let Some(at) = self.peer_at(peer) {
                    let peer = &self.peers[at];
                    self.shards[peer.shard].transport_failed(peer.id);
                }
            }
            Operation::Pass { milliseconds } => self.pass(Duration::from_millis(u64::from(milliseconds))),
            Operation::Flush { shard, connections } => self.flush(usize::from(shard) % SHARDS, connections.into()),
            Operation::Carry { shard, envelopes } => self.carry(usize::from(shard) % SHARDS, envelopes.into()),
            Operation::Publish { topic, bytes } => self.publish(topic % TOPICS, usize::from(bytes % 3000)),
            Operation::Probe { shard } => {
                self.shards[usize::from(shard) % SHARDS].open_envelope(Envelope::Probe { token: 1 }, self.now);
            }
            Operation::PausePublishing { shard, pause } => {
                self.shards[usize::from(shard) % SHARDS].pause_publishing(pause);
            }
            Operation::ShedQueues { shard, bytes } => {
                self.shards[usize::from(shard) % SHARDS].shed_queues(bytes.into(), self.now);
            }
            Operation::Drain { shard } => {
                self.go_down(usize::from(shard) % SHARDS);
            }
        }
    }

    /// The control plane tells a shard to go down; more than once does nothing.
    fn go_down(&mut self, shard: usize) {
        let close = DrainStep::Close { spread: SPREAD, seed: SEED };
        self.shards[shard].open_envelope(Envelope::Drain(DrainStep::Announce), self.now);
        self.shards[shard].open_envelope(Envelope::Drain(close), self.now);
        self.tend_listener(shard);
    }

    /// Nobody waits in the kernel's queue here, so a listener is empty at once.
    fn tend_listener(&mut self, shard: usize) {
        while self.shards[shard].listener_task() != ListenerTask::None {
            self.shards[shard].listener_done(self.now);
        }
    }

    /// What holds after every operation.
    pub(super) fn check(&self) {
        for shard in &self.shards {
            shard.check_accounts();
        }
    }

    /// Ends everything, and nothing may be left.
    pub(super) fn end(mut self, ending: Ending) {
        for shard in 0..SHARDS {
            self.shards[shard].pause_publishing(false);
            match ending {
                Ending::PeersEnd | Ending::TransportsFail => {}
                Ending::Drain => self.go_down(shard),
                Ending::Abort => self.shards[shard].abort_all(),
            }
        }
        self.settle();
        if ending == Ending::PeersEnd {
            (0..self.peers.len()).for_each(|at| self.resume(at));
            self.settle();
        }
        for at in 0..self.peers.len() {
            match ending {
                Ending::PeersEnd => self.end_peer(at),
                Ending::TransportsFail => self.shards[self.peers[at].shard].transport_failed(self.peers[at].id),
                Ending::Drain | Ending::Abort => {}
            }
        }
        self.settle();
        // Whoever is left is patient, or does not read: deadlines end it.
        self.pass(Duration::from_secs(600));
        self.settle();
        self.check();
        for (shard, stats) in self.shards.iter().zip(&self.stats) {
            assert_eq!((shard.connections_len(), stats.connections.get()), (0, 0));
            assert_eq!((stats.subscriptions.get(), stats.queue_bytes.get()), (0, 0));
            assert_eq!(stats.input_memory_bytes.get(), 0);
            assert_eq!((shard.queue_memory_bytes(), shard.next_timeout()), (0, None));
            assert!(!shard.has_flushes() && !shard.has_paused_publishers());
            let ended: u64 = stats.closes.iter().map(|count| count.get()).sum();
            assert_eq!(stats.accepted.get(), ended, "each connection ends once and for a reason");
        }
        assert!(self.peers.iter().all(|peer| peer.closed.is_some()));
        if self.wild {
            self.peers.iter().for_each(|peer| _ = peer.check_sent());
        } else {
            check_deliveries(&self.peers, &self.messages);
        }
    }

    /// A living peer by its number, modulo how many there are.
    fn peer_at(&self, number: u8) -> Option<usize> {
        let living = || self.peers.iter().enumerate().filter(|(_, peer)| peer.closed.is_none());
        living().nth(usize::from(number) % living().count().max(1)).map(|(at, _)| at)
    }

    fn with_peer(&mut self, number: u8, change: impl FnOnce(&mut Peer)) {
        if let Some(at) = self.peer_at(number) {
            change(&mut self.peers[at]);
        }
    }

    fn accept(&mut self, shard: usize) {
        if self.peers.len() == PEERS_MAX {
            return;
        }
        let had_room = self.shards[shard].has_room();
        let id = self.shards[shard].accept(self.now);
        assert_eq!(id.is_some(), had_room);
        self.peers.extend(id.map(|id| Peer::new(shard, id)));
    }

    fn request(&mut self, number: u8, path: Path) {
        let Some(at) = self.peer_at(number) else { return };
        // A second request on a connection is bytes like any other.
        self.wild |= std::mem::replace(&mut self.peers[at].has_asked, true);
        let target = match path {
            Path::Echo => "/echo".to_owned(),
            Path::Greeting => "/chat".to_owned(),
            Path::Health => "/health".to_owned(),
            Path::Nowhere => "/nowhere".to_owned(),
            Path::Topic { number, subscribes, to_self, gaps } => {
                let topic = number % TOPICS;
                self.peers[at].interest.get_or_insert(Interest { topic, subscribes, to_self });
                let switch = |on| if on { "on" } else { "off" };
                let (subscribes, to_self, gaps) = (switch(subscribes), switch(to_self), switch(gaps));
                format!("/topics/t{topic}?subscribe={subscribes}&echo={to_self}&gaps={gaps}")
            }
        };
        let head = format!(
            "GET {target} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        self.send(number, head.as_bytes());
    }

    fn frame(&mut self, number: u8, first: u8, payload: &[u8]) {
        let key = [first, 1, 2, 3];
        let mut bytes = Vec::new();
        frame::append_client(&mut bytes, OpCode::Text, key, payload);
        bytes[0] = first;
        // Nothing is taken for a numbered message that has not its first letter.
        self.wild |= payload.contains(&b'n');
        self.send(number, &bytes);
    }

    fn say(&mut self, number: u8, bytes: usize) {
        let Some(at) = self.peer_at(number) else { return };
        let Some(Interest { topic, .. }) = self.peers[at].interest else { return };
        let text = numbered(self.messages.len(), bytes);
        self.messages.push(Numbered { topic, from: Some(at) });
        let mut bytes = Vec::new();
        frame::append_client(&mut bytes, OpCode::Text, [9, 8, 7, 6], text.as_bytes());
        self.send(number, &bytes);
    }

    fn publish(&mut self, topic: u8, bytes: usize) {
        let payload = numbered(self.messages.len(), bytes).into_bytes().into();
        self.messages.push(Numbered { topic, from: None });
        let name = format!("t{topic}");
        let owner = owner_of(&name, SHARDS, SEED).index();
        let message = SharedMessage { kind: MessageKind::Text, payload };
        let request = Envelope::PublishRequest { token: 1, topic: name.into(), message };
        self.shards[owner].open_envelope(request, self.now);
    }

    fn send(&mut self, number: u8, bytes: &[u8]) {
        let Some(at) = self.peer_at(number) else { return };
        if !self.peers[at].has_ended {
            self.peers[at].unread.extend(bytes);
            self.read(at);
        }
    }

    /// Reads what a peer sent, as long as the shard wants to, and then its end.
    fn read(&mut self, at: usize) {
        loop {
            let peer = &mut self.peers[at];
            let shard = &mut self.shards[peer.shard];
            if peer.closed.is_some() || !shard.wants_read(peer.id) {
                return;
            }
            if peer.unread.is_empty() {
                if peer.has_ended && !std::mem::replace(&mut peer.end_is_read, true) {
                    shard.peer_ended(peer.id, self.now);
                }
                return;
            }
            let len = if self.piece == 0 { peer.unread.len() } else { self.piece.min(peer.unread.len()) };
            let mut bytes: Vec<u8> = peer.unread.drain(..len).collect();
            let replies = shard.receive(peer.id, &mut bytes, self.now);
            let bytes = &bytes[replies];
            assert!(!peer.ended || bytes.is_empty(), "nothing is sent after the end");
            let taken = peer.room.unwrap_or(bytes.len()).min(bytes.len());
            peer.sent.extend_from_slice(&bytes[..taken]);
            peer.room.iter_mut().for_each(|room| *room -= taken);
            shard.replied(taken);
            if taken < bytes.len() {
                shard.blocked(peer.id);
                shard.keep_replies(peer.id, &bytes[taken..]);
            }
        }
    }

    fn end_peer(&mut self, at: usize) {
        self.peers[at].has_ended = true;
        self.read(at);
    }

    fn resume(&mut self, at: usize) {
        let peer = &mut self.peers[at];
        if peer.room.take().is_some() {
            self.shards[peer.shard].writable(peer.id);
        }
    }

    /// A slice of flushes, then what a turn does at its end.
    fn flush(&mut self, shard: usize, connections: usize) {
        for _ in 0..connections {
            let Some(id) = self.shards[shard].next_flush(self.now) else { break };
            let at = self.peers.iter().position(|peer| (peer.shard, peer.id) == (shard, id));
            self.flush_one(at.expect("only what was accepted is flushed"));
        }
        while let Some(id) = self.shards[shard].next_resumed() {
            let at = self.peers.iter().position(|peer| (peer.shard, peer.id) == (shard, id));
            self.read(at.expect("only what was accepted is read"));
        }
        while let Some((to, envelope)) = self.shards[shard].take_envelope() {
            match to {
                Address::Shard(to) => self.mail[to.index()].push_back(envelope),
                Address::Control => {
                    assert!(matches!(envelope, Envelope::Published { .. } | Envelope::ProbeAnswer { .. }));
                }
            }
        }
    }

    fn flush_one(&mut self, at: usize) {
        let peer = &mut self.peers[at];
        let shard = &mut self.shards[peer.shard];
        assert_eq!(peer.closed, None, "nothing is flushed after the end");
        loop {
            let bytes = match shard.output(peer.id) {
                Output::Idle => return,
                Output::Send(bytes) => bytes.to_vec(),
                Output::SendSegments((slices, count)) => {
                    slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect()
                }
                Output::EndWriting => {
                    peer.ended = true;
                    shard.ended_writing(peer.id);
                    continue;
                }
                Output::Close { abort } => {
                    peer.closed = Some(abort);
                    shard.remove(peer.id);
                    return;
                }
            };
            assert!(!peer.ended && !bytes.is_empty(), "nothing is sent after the end");
            let taken = peer.room.unwrap_or(bytes.len()).min(bytes.len());
            peer.sent.extend_from_slice(&bytes[..taken]);
            peer.room.iter_mut().for_each(|room| *room -= taken);
            shard.sent(peer.id, taken);
            if taken < bytes.len() {
                return shard.blocked(peer.id);
            }
        }
    }

    fn carry(&mut self, shard: usize, envelopes: usize) {
        for _ in 0..envelopes {
            let Some(envelope) = self.mail[shard].pop_front() else { break };
            self.shards[shard].open_envelope(envelope, self.now);
            self.tend_listener(shard);
        }
    }

    /// Flushes and carries until all is quiet.
    fn settle(&mut self) {
        for _ in 0..ROUNDS_MAX {
            for shard in 0..SHARDS {
                self.flush(shard, usize::MAX);
                self.carry(shard, usize::MAX);
            }
            if self.mail.iter().all(VecDeque::is_empty) && self.shards.iter().all(|shard| !shard.has_flushes()) {
                return;
            }
        }
        panic!("no rest after {ROUNDS_MAX} rounds");
    }

    /// Time passes; both shards look at their deadlines as a driver would.
    fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        for _ in 0..ROUNDS_MAX {
            let next = self.shards.iter().filter_map(Shard::next_timeout).min().filter(|next| *next <= end);
            self.now = next.unwrap_or(end).max(self.now);
            self.shards.iter_mut().for_each(|shard| shard.handle_timeouts(self.now));
            if next.is_none() {
                return;
            }
            // What is over has a deadline until its transport is closed.
            (0..SHARDS).for_each(|shard| self.flush(shard, usize::MAX));
        }
        panic!("{ROUNDS_MAX} deadlines in {duration:?}");
    }
}

fn settings(shard: usize) -> ShardSettings {
    let rules = ["t1=drop_oldest", "t2=latest_only"].map(|rule| TopicPolicies::parse_rule(rule).expect("a rule"));
    let policies: Vec<(TopicPattern, _)> = rules.into();
    ShardSettings {
        hub: HubSettings {
            shard: ShardId(shard as u16),
            shards: SHARDS,
            hash_seed: SEED,
            epoch_seed: 1,
            // One less than there are names, so that topics are refused and forgotten.
            topics_max: usize::from(TOPICS) - 1,
            topics_in_use: Arc::default(),
            topics_idle_max: 1,
            policies: Arc::new(TopicPolicies::new(policies)),
        },
        connections_max: CONNECTIONS_MAX,
        handshake_bytes_max: 512,
        frame_bytes_max: usize::MAX,
        fragments_max: usize::MAX,
        queue: QueueBounds { queue_bytes_max: 4096, reply_bytes_watermark: 1024, pong_bytes_max: 512 },
        deadlines: Deadlines {
            handshake: Duration::from_secs(10),
            ping_interval: Duration::from_secs(25),
            pong_timeout: Duration::from_secs(11),
            idle: None,
            close: Duration::from_secs(5),
        },
        routes: Routes {
            echo: true,
            greeting: true,
            anonymous_subscribe: true,
            anonymous_publish: true,
            limits: ServiceLimits { echo: 70_000, greeting: 100, plain: 4000 },
        },
        origin: Arc::default(),
        admission: Arc::default(),
        tls: None,
        compression: CompressionSettings::default(),
    }
}
