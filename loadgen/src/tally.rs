//! What a worker counted, of messages and of connections.

use wsgate::time::Time;

use crate::failure::FailureCounts;
use crate::latency::Latency;

/// Counters of messages, and their latencies.
#[derive(Default, Debug)]
pub struct Tally {
    /// Messages sent; in a fan-out, published.
    pub sent: u64,
    /// Different messages received as they were sent; in a fan-out, deliveries.
    pub received: u64,
    /// Messages that should have arrived and had not by the end of the grace time.
    pub lost: u64,
    /// Messages that arrived again.
    pub duplicated: u64,
    /// Messages that arrived after one that was sent later.
    pub reordered: u64,
    /// Messages that arrived changed.
    pub corrupted: u64,
    /// Messages that are not of this run: ignored, but told.
    pub foreign: u64,
    /// From the intended send (open loop) or the actual one (closed loop) to the receipt.
    pub latency: Latency,
    /// From the intended send to the actual one; open loop only.
    pub schedule_lag: Latency,
}

impl Tally {
    /// Adds what another worker counted.
    pub fn merge(&mut self, other: &Self) {
        self.sent += other.sent;
        self.received += other.received;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.corrupted += other.corrupted;
        self.foreign += other.foreign;
        self.latency.merge(&other.latency);
        self.schedule_lag.merge(&other.schedule_lag);
    }

    /// Every message arrived once, in order, unchanged.
    pub fn is_faultless(&self) -> bool {
        self.lost == 0 && self.duplicated == 0 && self.reordered == 0 && self.corrupted == 0
    }
}

/// What a worker brings home.
#[derive(Default, Debug)]
pub struct Outcome {
    /// About messages.
    pub tally: Tally,
    /// About connections.
    pub connections: Connections,
    /// When sending was done.
    pub sent_at: Option<Time>,
}

/// Counters of connections.
#[derive(Default, Debug)]
pub struct Connections {
    /// Handshakes that were completed.
    pub opened: u64,
    /// Open connections that ended before we closed them.
    pub dropped: u64,
    /// Connections whose Close the server did not answer in time.
    pub close_unanswered: u64,
    /// What went wrong.
    pub failures: FailureCounts,
    /// From the first SYN to the 101.
    pub handshakes: Latency,
}

impl Outcome {
    /// Adds another worker's.
    pub fn merge(&mut self, other: &Self) {
        self.tally.merge(&other.tally);
        self.connections.opened += other.connections.opened;
        self.connections.dropped += other.connections.dropped;
        self.connections.close_unanswered += other.connections.close_unanswered;
        self.connections.failures.merge(&other.connections.failures);
        self.connections.handshakes.merge(&other.connections.handshakes);
        self.sent_at = self.sent_at.max(other.sent_at);
    }
}
