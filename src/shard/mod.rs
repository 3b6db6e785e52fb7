//! One core's share of the gateway, without sockets, clock or threads.
//!
//! Owner: one thread. Callers: `driver` (events in, bytes out), tests and
//! simulations. A driver
//!
//! 1. tells what happened: [`Shard::accept_from`], [`Shard::receive`],
//!    [`Shard::peer_ended`], [`Shard::transport_failed`], [`Shard::open_envelope`],
//!    [`Shard::handle_timeouts`], and goes on with what was kept: [`Shard::receive_unread`];
//! 2. flushes: for each [`Shard::next_flush`] it does what [`Shard::output`] says;
//! 3. carries away what [`Shard::take_envelope`] gives, and says [`Shard::end_turn`].
//!
//! Each call is bounded in time by its input, none blocks.

#![forbid(unsafe_code)]

#[cfg(feature = "fuzzing")]
mod accounts;
mod arrival;
mod budget;
mod compression;
mod drain;
mod flush;
mod handshake;
mod mail;
mod messages;
mod reload;
mod secure;
mod session;
mod table;
mod timer_wheel;
mod unread;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use crate::admission::Admission;
use crate::command::{Address, Envelope};
use crate::connection::{Connection, Deadlines, Expired, OutboundPool, QueueBounds, TlsSettings};
use crate::dialect::Routes;
use crate::hub::{Hub, HubSettings, Outbox};
use crate::id::ConnectionId;
use crate::origin::OriginPolicy;
use crate::proto::close::CloseCode;
use crate::proto::compression::{CompressionPool, CompressionSettings};
use crate::proto::message::AssemblyPool;
use crate::stats::{CloseReason, ShardStats};
use crate::time::Time;
use arrival::Client;
pub use arrival::NotAccepted;
use drain::Drain;
pub use drain::{DrainPhase, ListenerTask};
use flush::InHand;
use secure::HandshakeTurns;
use session::Session;
use table::Table;
use timer_wheel::TimerWheel;
use unread::Compressed;

/// Everything that a shard is told about how to behave.
#[derive(Clone, Debug)]
pub struct ShardSettings {
    /// Topics and shards.
    pub hub: HubSettings,
    /// Connections in the table; memory for their entries is reserved at once.
    pub connections_max: usize,
    /// Bytes of a request head.
    pub handshake_bytes_max: usize,
    /// Bytes of a frame's payload.
    pub frame_bytes_max: usize,
    /// Frames of a message.
    pub fragments_max: usize,
    /// What may wait for a connection.
    pub queue: QueueBounds,
    /// How long a connection may take for what.
    pub deadlines: Deadlines,
    /// What is served.
    pub routes: Routes,
    /// To whom.
    pub origin: Arc<OriginPolicy>,
    /// From which addresses, and how many; shared by all shards.
    pub admission: Arc<Admission>,
    /// How TLS is spoken; without it, nobody speaks it.
    pub tls: Option<TlsSettings>,
    /// How messages are compressed.
    pub compression: CompressionSettings,
}

/// One core's share of the gateway. See the module.
pub struct Shard {
    settings: ShardSettings,
    stats: Arc<ShardStats>,
    table: Table<Peer>,
    timers: TimerWheel,
    hub: Hub,
    outbox: Outbox,
    /// Connections with something to flush, each once.
    dirty: VecDeque<ConnectionId>,
    /// The same for those whose end has begun.
    dirty_ending: VecDeque<ConnectionId>,
    /// Flushes since the last one of these.
    flushes_since_ending: usize,
    /// Whether the next flush is one of these rather than of a topic.
    dirty_next: bool,
    /// Connections whose reading had paused and may go on.
    resumed: VecDeque<ConnectionId>,
    /// Connections whose input was kept and may be read now.
    unread: VecDeque<ConnectionId>,
    /// Publishers whose reading pauses until mailboxes have room.
    paused_publishers: Vec<ConnectionId>,
    publishing_paused: bool,
    drain: Drain,
    outbound_pool: OutboundPool,
    assembly_pool: AssemblyPool,
    compression: CompressionPool,
    /// Published bytes that a transport is being offered.
    in_hand: Option<InHand>,
    handshake_turns: HandshakeTurns,
    /// What records say, while they are read or made. Empty in between.
    plaintext: Vec<u8>,
}

/// A table entry.
struct Peer {
    connection: Connection,
    session: Session,
    client: Client,
    /// Boxed, since few connections have agreed on it.
    compression: Option<Box<Compressed>>,
    /// Its transport has bytes that nobody has read since reading paused.
    read_pending: bool,
    /// Waits in `paused_publishers`.
    publisher_paused: bool,
}

impl Shard {
    /// An empty shard.
    pub fn new(settings: ShardSettings, stats: Arc<ShardStats>, now: Time) -> Self {
        Self {
            table: Table::with_capacity(settings.connections_max),
            timers: TimerWheel::new(now),
            hub: Hub::new(settings.hub.clone()),
            outbox: Outbox::new(),
            dirty: VecDeque::new(),
            dirty_ending: VecDeque::new(),
            flushes_since_ending: 0,
            dirty_next: true,
            resumed: VecDeque::new(),
            unread: VecDeque::new(),
            paused_publishers: Vec::new(),
            publishing_paused: false,
            drain: Drain::new(),
            outbound_pool: OutboundPool::default(),
            assembly_pool: AssemblyPool::default(),
            compression: CompressionPool::new(settings.compression),
            in_hand: None,
            handshake_turns: HandshakeTurns::default(),
            plaintext: Vec::new(),
            settings,
            stats,
        }
    }

    /// What the shard counts.
    pub fn stats(&self) -> &ShardStats {
        &self.stats
    }

    /// Whether another transport can be taken in.
    pub fn has_room(&self) -> bool {
        !self.drain.is_shut() && self.table.len() < self.settings.connections_max
    }

    /// Connections in the table.
    pub fn connections_len(&self) -> usize {
        self.table.len()
    }

    /// Whether the handshake of a connection is still to be completed, by TLS or by HTTP.
    pub fn is_newcomer(&self, id: ConnectionId) -> bool {
        self.table.get(id).is_some_and(|peer| peer.session.dialect.is_none())
    }

    /// Whether the transport may be read now. If not, the caller leaves the bytes where
    /// they are until [`Shard::next_resumed`] names the connection.
    pub fn wants_read(&mut self, id: ConnectionId) -> bool {
        if self.defers_handshake(id) {
            return false;
        }
        let Some(peer) = self.table.get_mut(id) else { return false };
        let wanted = !peer.publisher_paused && !peer.has_unread() && peer.connection.wants_read(&self.settings.queue);
        peer.read_pending = !wanted;
        wanted
    }

    /// A connection whose transport is to be read again.
    pub fn next_resumed(&mut self) -> Option<ConnectionId> {
        self.resumed.pop_front()
    }

    /// The transport brought bytes, which are used up; their memory is scratch.
    ///
    /// What is to be sent first of all may lie there then, as the range that is returned.
    /// The caller offers it to the transport at once, tells [`Shard::replied`] how much
    /// that took, and if not all, [`Shard::keep_replies`] the rest.
    #[must_use]
    pub fn receive(&mut self, id: ConnectionId, bytes: &mut [u8], now: Time) -> Range<usize> {
        let Some(peer) = self.table.get_mut(id) else { return 0..0 };
        peer.connection.heard(now);
        self.stats.bytes_in.add(bytes.len() as u64);
        if !peer.client.awaits_proxy_header() {
            return self.receive_from_client(id, bytes, now);
        }
        let mut input = &mut *bytes;
        let complete = self.receive_proxy_header(id, &mut input, now);
        self.count_input(id);
        if !complete {
            return 0..0;
        }
        let (left, all) = (input.len(), bytes.len());
        let replies = self.receive_from_client(id, &mut bytes[all - left..], now);
        all - left + replies.start..all - left + replies.end
    }

    /// What comes after a PROXY header, if any. Returns the replies that lie in it.
    fn receive_from_client(&mut self, id: ConnectionId, bytes: &mut [u8], now: Time) -> Range<usize> {
        if let Some(&first) = bytes.first()
            && self.settings.tls.is_some()
            && self.table.get(id).is_some_and(Peer::awaits_first_byte)
            && !self.choose_transport(id, first, now)
        {
            return 0..0;
        }
        if self.is_secured(id) {
            self.receive_ciphertext(id, bytes, now);
            return 0..0;
        }
        self.receive_plaintext(id, bytes, now)
    }

    /// What a peer says, whatever its transport is. Returns the replies that lie in it.
    fn receive_plaintext(&mut self, id: ConnectionId, bytes: &mut [u8], now: Time) -> Range<usize> {
        let Some(peer) = self.table.get(id) else { return 0..0 };
        let mut head = 0;
        if peer.session.dialect.is_none() {
            let len = bytes.len();
            let mut input = &mut *bytes;
            let opened = self.receive_head(id, &mut input, now);
            self.count_input(id);
            if !opened {
                return 0..0;
            }
            head = len - input.len();
        } else if peer.has_unread() {
            self.keep_unread(id, bytes);
            return 0..0;
        }
        let replies = self.receive_frames(id, &mut bytes[head..], now);
        head + replies.start..head + replies.end
    }

    /// The peer ended its direction of the transport.
    pub fn peer_ended(&mut self, id: ConnectionId, now: Time) {
        self.count_cut(id);
        self.end_of_input(id, now);
    }

    /// Nothing more will come from a peer.
    fn end_of_input(&mut self, id: ConnectionId, now: Time) {
        if self.end_waits(id) {
            return;
        }
        let Some(peer) = self.table.get_mut(id) else { return };
        peer.connection.peer_ended(now);
        self.settle(id);
    }

    /// The transport is broken.
    pub fn transport_failed(&mut self, id: ConnectionId) {
        let Some(peer) = self.table.get_mut(id) else { return };
        // What fails after that has been counted.
        if peer.connection.is_securing() && !peer.connection.is_closed() {
            self.stats.tls_handshakes_failed.add(1);
        }
        peer.connection.transport_failed();
        self.drop_in_hand(id);
        self.settle(id);
    }

    /// Pings, closes what has run out of time, and those whose turn it is while going down.
    pub fn handle_timeouts(&mut self, now: Time) {
        while let Some(slot) = self.timers.pop_due(now) {
            let Some(id) = self.table.id_at(slot) else { continue };
            let Some(peer) = self.table.get_mut(id) else { continue };
            let before = peer.connection.queue_bytes();
            let expired = peer.connection.expire(now, &self.settings.deadlines, &mut self.outbound_pool);
            // A ping, if anything.
            self.stats.queue_bytes.add((peer.connection.queue_bytes() - before) as u64);
            match expired {
                Expired::Again(at) => {
                    self.timers.set(slot, at);
                    self.mark_dirty(id);
                }
                Expired::Handshake => self.refuse_late(id, now),
                Expired::Idle => {
                    self.close(id, CloseCode::IDLE, "no message came for too long", CloseReason::Idle, now);
                }
                Expired::Closed => self.settle(id),
            }
        }
        self.close_next(now);
    }

    /// When [`Shard::handle_timeouts`] and [`Shard::receive_unread`] are to be called at the
    /// latest.
    pub fn next_timeout(&self) -> Option<Time> {
        if !self.unread.is_empty() {
            return Some(Time::ZERO);
        }
        [self.timers.next_due(), self.drain.next_due()].into_iter().flatten().min()
    }

    /// The transport has ended our direction, as [`crate::connection::Output::EndWriting`] asked.
    pub fn ended_writing(&mut self, id: ConnectionId) {
        if let Some(peer) = self.table.get_mut(id) {
            peer.connection.ended_writing();
            self.settle(id);
        }
    }

    /// The transport is closed, as [`crate::connection::Output::Close`] asked: the slot is free.
    pub fn remove(&mut self, id: ConnectionId) {
        let Some(mut peer) = self.table.remove(id) else { return };
        self.timers.cancel(id.slot);
        let (topic, subscription) = peer.session.take_from_hub();
        self.leave_topic(topic, subscription);
        self.depart(&peer.client);
        self.stats.closes[peer.connection.close_reason() as usize].add(1);
        self.stats.connections.set(self.table.len() as u64);
        self.stats.queue_bytes.sub(peer.connection.queue_bytes() as u64);
        self.stats.input_memory_bytes.sub(peer.connection.input_counted());
        let mut reader = peer.connection.release(&mut self.outbound_pool);
        self.stats.assembly_memory_bytes.sub(reader.held_bytes() as u64);
        reader.release(&mut self.assembly_pool);
        if let Some(compressed) = peer.compression {
            self.stats.assembly_memory_bytes.sub(compressed.unread_bytes() as u64);
            self.compression.release(compressed.agreed);
            self.count_compression();
        }
    }

    /// The next envelope for another thread.
    pub fn take_envelope(&mut self) -> Option<(Address, Envelope)> {
        self.outbox.pop_front()
    }

    /// Brings the gauge of input in part up to date with one connection. To be called after
    /// whatever may have changed it; a change of state does, by [`Shard::settle`].
    fn count_input(&mut self, id: ConnectionId) {
        let Some(peer) = self.table.get_mut(id) else { return };
        let (before, now) = peer.connection.count_input();
        if now != before {
            self.stats.input_memory_bytes.sub(before);
            self.stats.input_memory_bytes.add(now);
        }
    }

    /// Brings the timer, the flush list, the hub and a gauge up to date with a connection
    /// that may have changed its state: nothing is delivered to one that is ending.
    fn settle(&mut self, id: ConnectionId) {
        let Some(peer) = self.table.get_mut(id) else { return };
        if peer.connection.is_ending() {
            let (topic, subscription) = peer.session.take_from_hub();
            self.leave_topic(topic, subscription);
        }
        let Some(peer) = self.table.get_mut(id) else { return };
        self.timers.set(id.slot, peer.connection.deadline(&self.settings.deadlines));
        self.count_input(id);
        self.mark_dirty(id);
    }
}

#[cfg(test)]
pub(crate) mod tests;
