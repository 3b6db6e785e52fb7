//! What a shard counts. Written by the shard's thread alone, read by any other.
//!
//! A single writer needs no atomic addition: a relaxed load and store cost what
//! plain memory costs, and a reader sees each number whole.

#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::proto::handshake::Status;

/// A number with one writing thread: a counter that grows, or a gauge.
#[derive(Default, Debug)]
pub struct Cell(AtomicU64);

impl Cell {
    /// Adds; only the owner thread may.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Subtracts; only the owner thread may.
    pub fn sub(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_sub(n), Ordering::Relaxed);
    }

    /// Replaces; only the owner thread may.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// Reads, from any thread.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Why a connection ended: the first cause, as an operator wants it counted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CloseReason {
    /// The peer began the closing handshake.
    PeerClosed,
    /// The transport ended or was reset without a closing handshake.
    PeerVanished,
    /// The upgrade was refused, or answered with a plain HTTP response.
    NotUpgraded,
    /// No complete request in time.
    HandshakeTimeout,
    /// The peer broke the protocol (1002, 1007).
    ProtocolError,
    /// A message over the limit (1009).
    MessageTooLong,
    /// The peer did what it has no right to (1008).
    PolicyViolation,
    /// The peer read too slowly and would have lost messages (4008).
    SlowConsumer,
    /// All queues together were over their bound, and this one was among the largest (4008).
    QueueMemory,
    /// No sign of life after a ping.
    PongTimeout,
    /// This server is going down (1001).
    Drain,
}

impl CloseReason {
    /// All reasons, in the order of their numbers.
    pub const ALL: [Self; 11] = [
        Self::PeerClosed,
        Self::PeerVanished,
        Self::NotUpgraded,
        Self::HandshakeTimeout,
        Self::ProtocolError,
        Self::MessageTooLong,
        Self::PolicyViolation,
        Self::SlowConsumer,
        Self::QueueMemory,
        Self::PongTimeout,
        Self::Drain,
    ];

    /// The metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Self::PeerClosed => "peer_closed",
            Self::PeerVanished => "peer_vanished",
            Self::NotUpgraded => "not_upgraded",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::ProtocolError => "protocol_error",
            Self::MessageTooLong => "message_too_long",
            Self::PolicyViolation => "policy_violation",
            Self::SlowConsumer => "slow_consumer",
            Self::QueueMemory => "queue_memory",
            Self::PongTimeout => "pong_timeout",
            Self::Drain => "drain",
        }
    }
}

/// Upper bounds of the turn-time buckets, in microseconds; one more bucket has none.
pub const TURN_BUCKETS_US: [u64; 9] = [50, 200, 500, 1_000, 2_000, 5_000, 20_000, 100_000, 500_000];

/// How long turns took. What happens at the start of a turn waits for its end, so
/// this is the delay that the loop adds: its lag.
#[derive(Default, Debug)]
pub struct TurnTimes {
    /// Turns per bucket of [`TURN_BUCKETS_US`], the unbounded one last.
    pub buckets: [Cell; TURN_BUCKETS_US.len() + 1],
    /// Sum of all in nanoseconds.
    pub sum_ns: Cell,
}

impl TurnTimes {
    /// Counts one turn.
    pub fn record(&self, busy: Duration) {
        let micros = busy.as_micros() as u64;
        let bucket = TURN_BUCKETS_US.iter().position(|&bound| micros <= bound).unwrap_or(TURN_BUCKETS_US.len());
        self.buckets[bucket].add(1);
        self.sum_ns.add(busy.as_nanos() as u64);
    }

    /// Turns counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(Cell::get).sum()
    }
}

/// The numbers of one shard. Fields ending in `_bytes` are bytes; those marked as
/// gauges go up and down, all others only grow.
#[derive(Default, Debug)]
pub struct ShardStats {
    /// Gauge: connections in the table, in any state.
    pub connections: Cell,
    /// Connections accepted.
    pub accepted: Cell,
    /// Handshakes by the status that answered them, see [`Status::ALL`].
    pub handshakes: [Cell; Status::ALL.len()],
    /// Connections ended, by reason, see [`CloseReason::ALL`].
    pub closes: [Cell; CloseReason::ALL.len()],
    /// Whole messages received.
    pub messages_in: Cell,
    /// Bytes read from sockets.
    pub bytes_in: Cell,
    /// Messages queued for one connection each: replies and deliveries.
    pub messages_out: Cell,
    /// Bytes written to sockets.
    pub bytes_out: Cell,
    /// Published messages queued for one subscriber each.
    pub deliveries: Cell,
    /// Messages that this shard put in order as the owner of their topic.
    pub published: Cell,
    /// Messages dropped for a subscriber that was told how many.
    pub dropped: Cell,
    /// Messages of `latest_only` topics that a newer one replaced for a subscriber.
    pub conflated: Cell,
    /// Gauge: bytes waiting in the queues of connections.
    pub queue_bytes: Cell,
    /// Gauge: bytes of memory that queues keep alive; what waits in several counts once.
    pub queue_memory_bytes: Cell,
    /// Gauge: bytes of the connection table, its generations and timers; its slots stay
    /// when connections leave.
    pub connection_memory_bytes: Cell,
    /// Gauge: bytes of topics, their names, members and subscriptions.
    pub topic_memory_bytes: Cell,
    /// Gauge: topics in the table, those without subscribers included.
    pub topics: Cell,
    /// Gauge: subscriptions of connections of this shard.
    pub subscriptions: Cell,
    /// Send calls.
    pub sends: Cell,
    /// Connections that a turn sent something to, each once for each turn: what `sends`
    /// would be if one call took everything.
    pub flushes: Cell,
    /// Times that a socket took less than it was given.
    pub sends_short: Cell,
    /// Gauge: 1 while accepting pauses, since descriptors or slots ran out.
    pub accept_paused: Cell,
    /// Times that accepting was paused.
    pub accept_pauses: Cell,
    /// Envelopes sent to other shards and to the control plane.
    pub envelopes_out: Cell,
    /// Times that another thread had to be woken for them.
    pub wakes: Cell,
    /// Gauge: bytes that wait because another shard's mailbox is full.
    pub overflow_bytes: Cell,
    /// Turns of the loop, by the time they took.
    pub turns: TurnTimes,
}
