//! What a scenario counted: the part of a report that is about messages.

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
