//! What a shard counts. Written by the shard's thread alone, read by any other.
//!
//! A single writer needs no atomic addition: a relaxed load and store cost what
//! plain memory costs, and a reader sees each number whole.

#![forbid(unsafe_code)]

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::admission::AddressBound;
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
    /// The kernel gave the transport up: the peer took and acknowledged nothing for too long.
    Unacknowledged,
    /// The upgrade was refused, or answered with a plain HTTP response.
    NotUpgraded,
    /// No complete request in time.
    HandshakeTimeout,
    /// The peer broke the protocol (1002, 1007).
    ProtocolError,
    /// A message over the limit (1009).
    MessageTooLong,
    /// A frame over the limit (1009).
    FrameTooLong,
    /// A message in more frames than are allowed (1009).
    TooManyFragments,
    /// The peer broke TLS, or its handshake was refused.
    TlsError,
    /// The peer did what it has no right to (1008).
    PolicyViolation,
    /// The peer read too slowly and would have lost messages (4008).
    SlowConsumer,
    /// All queues together were over their bound, and this one was among the largest (4008).
    QueueMemory,
    /// No sign of life after a ping.
    PongTimeout,
    /// No message for longer than is allowed (4009).
    Idle,
    /// This server is going down (1001).
    Drain,
}

impl CloseReason {
    /// All reasons, in the order of their numbers.
    pub const ALL: [Self; 16] = [
        Self::PeerClosed,
        Self::PeerVanished,
        Self::Unacknowledged,
        Self::NotUpgraded,
        Self::HandshakeTimeout,
        Self::ProtocolError,
        Self::MessageTooLong,
        Self::FrameTooLong,
        Self::TooManyFragments,
        Self::TlsError,
        Self::PolicyViolation,
        Self::SlowConsumer,
        Self::QueueMemory,
        Self::PongTimeout,
        Self::Idle,
        Self::Drain,
    ];

    /// The metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Self::PeerClosed => "peer_closed",
            Self::PeerVanished => "peer_vanished",
            Self::Unacknowledged => "unacknowledged",
            Self::NotUpgraded => "not_upgraded",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::ProtocolError => "protocol_error",
            Self::MessageTooLong => "message_too_long",
            Self::FrameTooLong => "frame_too_long",
            Self::TooManyFragments => "too_many_fragments",
            Self::TlsError => "tls_error",
            Self::PolicyViolation => "policy_violation",
            Self::SlowConsumer => "slow_consumer",
            Self::QueueMemory => "queue_memory",
            Self::PongTimeout => "pong_timeout",
            Self::Idle => "idle",
            Self::Drain => "drain",
        }
    }
}

/// What became of a changed configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReloadResult {
    /// It is in force.
    Taken,
    /// It was wrong, and nothing has changed.
    Refused,
}

impl ReloadResult {
    /// The metric's labels, in the order of the variants.
    pub const LABELS: [&'static str; 2] = ["taken", "refused"];
}

/// Why a message over HTTP was not taken although nothing is wrong with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PublishRefusal {
    /// It is larger than a body may be.
    BodyTooLong,
    /// The mailbox of the topic's shard is full, or too many requests wait for theirs.
    MailboxFull,
    /// Too many published bytes wait in the process.
    Overflow,
    /// As many topics are in use as may be.
    TopicsFull,
    /// This server is going down.
    Drain,
}

impl PublishRefusal {
    /// The metric's labels, in the order of the variants.
    pub const LABELS: [&'static str; 5] = ["body_too_long", "mailbox_full", "overflow", "topics_full", "drain"];
}

/// What counts for the whole process.
#[derive(Default, Debug)]
pub struct ProcessStats {
    /// Configurations that were read again, by [`ReloadResult`]. Written by the thread that
    /// has the server.
    pub reloads: [Cell; ReloadResult::LABELS.len()],
    /// Messages over HTTP that were refused, by [`PublishRefusal`]. Written by the control
    /// plane's thread.
    pub publishes_refused: [Cell; PublishRefusal::LABELS.len()],
    /// Threads that have a table of descriptors of their own, by their numbers in the system.
    pub own_tables: OnceLock<Vec<u32>>,
}

/// Upper bounds of the turn-time buckets, in microseconds; one more bucket has none.
pub const TURN_BUCKETS_US: [u64; 9] = [50, 200, 500, 1_000, 2_000, 5_000, 20_000, 100_000, 500_000];

/// The same of the publish-to-flush times. Fine enough for a quantile to be told within a
/// third: targets are set for it.
pub const FLUSH_BUCKETS_US: [u64; 24] = [
    50, 100, 200, 300, 500, 700, 1_000, 1_500, 2_000, 3_000, 4_000, 5_000, 7_000, 10_000, 15_000, 20_000, 30_000,
    50_000, 70_000, 100_000, 200_000, 500_000, 1_000_000, 5_000_000,
];

/// A histogram of durations, with one bucket more than it has bounds.
#[derive(Debug)]
pub struct Durations<const BUCKETS: usize> {
    bounds_us: &'static [u64],
    buckets: [Cell; BUCKETS],
    sum_ns: Cell,
}

/// How long turns took. What happens at the start of a turn waits for its end, so
/// this is the delay that the loop adds: its lag.
pub type TurnTimes = Durations<{ TURN_BUCKETS_US.len() + 1 }>;

/// How long published messages took: from the start of the turn that took one in, from a
/// client or from another thread, to the end of the turn in which the last local subscriber
/// was offered it. A batch counts once for each of its messages, all with the age of the
/// oldest, so that a pause weighs as much as what came in during it.
pub type FlushTimes = Durations<{ FLUSH_BUCKETS_US.len() + 1 }>;

impl Default for TurnTimes {
    fn default() -> Self {
        Self::new(&TURN_BUCKETS_US)
    }
}

impl Default for FlushTimes {
    fn default() -> Self {
        Self::new(&FLUSH_BUCKETS_US)
    }
}

impl<const BUCKETS: usize> Durations<BUCKETS> {
    fn new(bounds_us: &'static [u64]) -> Self {
        assert_eq!(bounds_us.len() + 1, BUCKETS);
        Self { bounds_us, buckets: std::array::from_fn(|_| Cell::default()), sum_ns: Cell::default() }
    }

    /// Counts `count` events that took that long each.
    pub fn record(&self, duration: Duration, count: u64) {
        let micros = duration.as_micros() as u64;
        let bucket = self.bounds_us.partition_point(|&bound| bound < micros);
        self.buckets[bucket].add(count);
        self.sum_ns.add((duration.as_nanos() as u64).saturating_mul(count));
    }

    /// Events counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(Cell::get).sum()
    }

    /// Sum of all durations, in seconds.
    pub fn sum_seconds(&self) -> f64 {
        self.sum_ns.get() as f64 / 1e9
    }

    /// The buckets: upper bounds in seconds, with the events in each alone.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        let bounds = self.bounds_us.iter().map(|&us| us as f64 / 1e6).chain([f64::INFINITY]);
        bounds.zip(self.buckets.iter().map(Cell::get))
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
    /// Connections refused for what their address has already, see [`AddressBound::ALL`].
    pub address_refusals: [Cell; AddressBound::ALL.len()],
    /// Connections refused since what their proxy said of them was too long.
    pub proxy_headers_too_long: Cell,
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
    /// Pings that were not answered, since a newer one was.
    pub pings_skipped: Cell,
    /// Times that a connection was not read any more, since too many replies waited for it.
    pub reading_pauses: Cell,
    /// Times that a publisher was not read any more, since too much that was published waited.
    pub publisher_pauses: Cell,
    /// Messages of `latest_only` topics that a newer one replaced for a subscriber.
    pub conflated: Cell,
    /// Messages compressed; one for many subscribers counts once.
    pub deflated: Cell,
    /// Compressed messages received.
    pub inflated: Cell,
    /// Bytes that compression has taken off messages queued for one connection each.
    pub saved_bytes_out: Cell,
    /// Bytes that compression has taken off messages received.
    pub saved_bytes_in: Cell,
    /// Messages cut while inflating, since they were over the limit.
    pub bombs_cut: Cell,
    /// Connections that were granted less context takeover than they offered, since its
    /// memory was taken.
    pub contexts_refused: Cell,
    /// Gauge: bytes of what compresses and inflates, that of connections included.
    pub compression_memory_bytes: Cell,
    /// Gauge: bytes waiting in the queues of connections.
    pub queue_bytes: Cell,
    /// Gauge: bytes of memory that queues keep alive; what waits in several counts once.
    pub queue_memory_bytes: Cell,
    /// Gauge: memory of messages that have arrived in part, in bytes.
    pub assembly_memory_bytes: Cell,
    /// Gauge: memory of other input that has arrived in part, or before the upgrade was
    /// confirmed, in bytes: request heads, PROXY headers, TLS records, early frames.
    pub input_memory_bytes: Cell,
    /// Gauge: bytes of the connection table, its generations and timers; its slots stay
    /// when connections leave.
    pub connection_memory_bytes: Cell,
    /// Gauge: bytes of topics, their names, members and subscriptions.
    pub topic_memory_bytes: Cell,
    /// Gauge: topics in the table, those without subscribers included.
    pub topics: Cell,
    /// Upgrades and messages refused, since as many topics were in use as may be.
    pub topics_refused: Cell,
    /// Idle topics whose offset was forgotten before anybody came back.
    pub topics_forgotten: Cell,
    /// Gauge: subscriptions of connections of this shard.
    pub subscriptions: Cell,
    /// Send calls.
    pub sends: Cell,
    /// Connections that a turn sent something to, each once for each turn: what `sends`
    /// would be if one call took everything.
    pub flushes: Cell,
    /// Times that a socket took less than it was given.
    pub sends_short: Cell,
    /// TLS handshakes completed.
    pub tls_handshakes: Cell,
    /// TLS handshakes that failed, took too long or were left.
    pub tls_handshakes_failed: Cell,
    /// Times that a TLS handshake had to wait for the next turn.
    pub tls_handshakes_deferred: Cell,
    /// Plain HTTP requests where only TLS is spoken.
    pub tls_plaintext_refused: Cell,
    /// TLS streams that ended without close_notify: what the peer said may be cut.
    pub tls_truncated: Cell,
    /// Gauge: sockets of connections that are open, those included that wait for what is
    /// under way in the kernel before they close.
    pub sockets: Cell,
    /// Gauge: parts of the buffers that the kernel fills which hold something unread
    /// (io_uring).
    pub receive_chunks: Cell,
    /// Times that bytes came for a connection and no buffer was free, so that they had to wait
    /// (io_uring).
    pub receives_starved: Cell,
    /// Times that so much had been received which was not wanted yet that connections were
    /// asked for one buffer at a time (io_uring).
    pub receives_narrowed: Cell,
    /// Gauge: 1 while accepting pauses, since descriptors or slots ran out.
    pub accept_paused: Cell,
    /// Times that accepting was paused.
    pub accept_pauses: Cell,
    /// Gauge: how far going down is, 0 to 4 as `shard::DrainPhase` has them.
    pub drain_phase: Cell,
    /// Gauge: connections that have not been told to go, once that has begun; some may
    /// have left by themselves.
    pub drain_left: Cell,
    /// Connections that were reset since the time for going down was over.
    pub drain_resets: Cell,
    /// Connections that were reset since the peer did not end them in time after a Close.
    pub close_timeouts: Cell,
    /// Envelopes sent to other shards and to the control plane.
    pub envelopes_out: Cell,
    /// Times that another thread had to be woken for them.
    pub wakes: Cell,
    /// Gauge: bytes published that not all subscribers here have been offered.
    pub log_bytes: Cell,
    /// Gauge: bytes that wait because another shard's mailbox is full.
    pub overflow_bytes: Cell,
    /// Turns of the loop, by the time they took.
    pub turns: TurnTimes,
    /// Published messages, by the time until the last subscriber here was offered them.
    pub publish_to_flush: FlushTimes,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_lie_in_the_bucket_whose_bound_they_do_not_pass() {
        let times = TurnTimes::default();
        for (us, count) in [(0, 1), (50, 1), (51, 3), (500_000, 1), (500_001, 2), (u64::MAX / 1_000_000, 1)] {
            times.record(Duration::from_micros(us), count);
        }
        let filled: Vec<_> = times.buckets().filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, [(0.000_05, 2), (0.000_2, 3), (0.5, 1), (f64::INFINITY, 3)]);
        assert_eq!(times.count(), 9);
    }
}
