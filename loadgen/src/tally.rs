//! What a worker counted, of messages and of connections.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use wsgate::time::Time;

use crate::failure::FailureCounts;
use crate::latency::Latency;
use crate::numbers::decimal;
use crate::payload::Stamp;
use crate::schedule::Window;
use crate::self_check::WorkerLoad;

/// Counters of messages, and their latencies.
#[derive(Default, Debug)]
pub struct Tally {
    /// Messages sent; in a fan-out, published.
    pub sent: u64,
    /// Different messages received as they were sent; in a fan-out, deliveries.
    pub received: u64,
    /// Messages sent in warm-up and cool-down, which are in no figure but the faults.
    pub unmeasured_sent: u64,
    /// Different messages of these that were received.
    pub unmeasured_received: u64,
    /// Messages that should have arrived and had not by the end of the grace time.
    pub lost: u64,
    /// Messages that arrived again.
    pub duplicated: u64,
    /// Messages that arrived after one that was sent later.
    pub reordered: u64,
    /// Messages that arrived changed.
    pub corrupted: u64,
    /// Messages that reached a subscriber of another topic.
    pub misdelivered: u64,
    /// Messages that are not of this run: ignored, but told.
    pub foreign: u64,
    /// Storms: how long each took until all connections were served again.
    pub recoveries: Vec<Duration>,
    /// Readers that stall.
    pub stalled: Stalled,
    /// From the intended send (open loop) or the actual one (closed loop) to the receipt.
    pub latency: Latency,
    /// From the actual send to the receipt; open loop only, where the two differ.
    pub service: Latency,
    /// From the intended send to the actual one; open loop only.
    pub schedule_lag: Latency,
    /// When the last of them left; open loop only, where that may be behind the time for it.
    pub last_left: Time,
    /// How far behind the end of its time sending was when it ended, as far as the server
    /// has nothing to do with that; open loop only.
    pub behind: Duration,
}

impl Tally {
    /// A message left that was meant for `intended`.
    pub fn count_sent(&mut self, window: &Window, intended: Time) {
        if window.measures(intended) {
            self.sent += 1;
        } else {
            self.unmeasured_sent += 1;
        }
    }

    /// A message arrived as it was sent, for the first time.
    pub fn count_received(&mut self, window: &Window, stamp: Stamp, is_open_loop: bool, now: Time) {
        if !window.measures(stamp.intended) {
            self.unmeasured_received += 1;
            return;
        }
        self.received += 1;
        self.latency.record(now.0.saturating_sub(stamp.intended.0));
        if is_open_loop {
            self.service.record(now.0.saturating_sub(stamp.sent.0));
        }
    }

    /// All connections are served again after that storm, counted from 0.
    pub fn count_recovery(&mut self, storm: usize, took: Duration) {
        self.recoveries.resize(self.recoveries.len().max(storm + 1), Duration::ZERO);
        self.recoveries[storm] = self.recoveries[storm].max(took);
    }

    /// How late a message left. Warm-up and cool-down are not in it.
    pub fn count_lag(&mut self, window: &Window, intended: Time, now: Time) {
        self.count_own_lag(window, intended, intended, now);
    }

    /// The same of one that could not leave before `able`, for reasons of the server.
    pub fn count_own_lag(&mut self, window: &Window, intended: Time, able: Time, now: Time) {
        if window.measures(intended) {
            let due = intended.max(able);
            self.schedule_lag.record(now.0.saturating_sub(due.0));
            self.last_left = now;
            self.behind = self.behind.max(now.since(due.max(window.measured_to)));
        }
    }

    /// Sending is to end, and a message that could have left at `due` has not.
    pub fn count_abandoned(&mut self, due: Time, now: Time) {
        self.behind = self.behind.max(now.since(due));
    }

    /// Adds what another worker counted.
    pub fn merge(&mut self, other: &Self) {
        self.sent += other.sent;
        self.received += other.received;
        self.unmeasured_sent += other.unmeasured_sent;
        self.unmeasured_received += other.unmeasured_received;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.corrupted += other.corrupted;
        self.misdelivered += other.misdelivered;
        self.foreign += other.foreign;
        other.recoveries.iter().enumerate().for_each(|(storm, &took)| self.count_recovery(storm, took));
        self.stalled.merge(&other.stalled);
        self.latency.merge(&other.latency);
        self.service.merge(&other.service);
        self.schedule_lag.merge(&other.schedule_lag);
        self.last_left = self.last_left.max(other.last_left);
        self.behind = self.behind.max(other.behind);
    }

    /// Forgets everything; keeps the memory.
    pub fn reset(&mut self) {
        let Self { sent, received, unmeasured_sent, unmeasured_received, .. } = self;
        for counter in [sent, received, unmeasured_sent, unmeasured_received] {
            *counter = 0;
        }
        let Self { lost, duplicated, reordered, corrupted, misdelivered, foreign, .. } = self;
        for counter in [lost, duplicated, reordered, corrupted, misdelivered, foreign] {
            *counter = 0;
        }
        self.recoveries.clear();
        self.stalled = Stalled::default();
        self.latency.reset();
        self.service.reset();
        self.schedule_lag.reset();
        self.last_left = Time::ZERO;
        self.behind = Duration::ZERO;
    }

    /// Messages sent, warm-up and cool-down included.
    pub fn sent_total(&self) -> u64 {
        self.sent + self.unmeasured_sent
    }

    /// Different messages received, warm-up and cool-down included.
    pub fn received_total(&self) -> u64 {
        self.received + self.unmeasured_received
    }

    /// Every message arrived once, in order, unchanged, and nowhere else.
    pub fn is_faultless(&self) -> bool {
        let Self { lost, duplicated, reordered, corrupted, misdelivered, .. } = *self;
        [lost, duplicated, reordered, corrupted, misdelivered] == [0; 5]
    }
}

/// What became of readers that stall.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Stalled {
    /// How many there were.
    pub count: u64,
    /// Those whose connection the server ended, by the kind of the end.
    pub ended: BTreeMap<String, u64>,
}

impl Stalled {
    fn merge(&mut self, other: &Self) {
        self.count += other.count;
        for (kind, count) in &other.ended {
            *self.ended.entry(kind.clone()).or_default() += count;
        }
    }
}

/// What a worker hands over: of an interval, or of the whole run.
#[derive(Default, Debug)]
pub struct Outcome {
    /// About messages.
    pub tally: Tally,
    /// About connections.
    pub connections: Connections,
    /// When sending was done.
    pub sent_at: Option<Time>,
    /// What each worker's thread had to do.
    pub loads: Vec<WorkerLoad>,
    /// Where loadgen itself was the limit. Workers add what they find out about
    /// themselves; `Report` adds what follows from the schedule lag of all.
    pub limits: Vec<Limit>,
}

/// How loadgen itself held the run up: one is enough to make it say nothing about
/// the server.
#[derive(Clone, PartialEq, Debug)]
pub enum Limit {
    /// Messages left late.
    ScheduleLag {
        /// 99th percentile of actual minus intended send time.
        p99: Duration,
        /// What it may be in this run.
        allowed: Duration,
    },
    /// Messages left so late that there were fewer in a second than asked for.
    Rate {
        /// Per second, until the last one had left.
        held: f64,
        /// Per second, as asked for.
        asked: f64,
    },
    /// A worker's thread had no processor time left.
    Cpu {
        /// Number of the worker.
        worker: usize,
        /// The busiest window's processor time by its length, 0 to 1.
        busiest: f64,
        /// Windows in which it was busier than allowed.
        windows: u32,
    },
    /// Messages waited for room in the sockets' buffers.
    BackPressure {
        /// Messages that could not be written at once.
        messages: u64,
        /// Their part of all messages, 0 to 1.
        part: f64,
    },
}

impl Limit {
    /// The name in the JSON object.
    pub fn name(&self) -> &'static str {
        match self {
            Self::ScheduleLag { .. } => "schedule_lag",
            Self::Rate { .. } => "rate",
            Self::Cpu { .. } => "cpu",
            Self::BackPressure { .. } => "back_pressure",
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ScheduleLag { p99, allowed } => write!(
                f,
                "1 % of the messages left more than {} ms after their time, {} ms are allowed",
                millis(*p99),
                millis(*allowed)
            ),
            Self::Rate { held, asked } => {
                let [held, asked] = [held, asked].map(|&rate| decimal(rate));
                write!(f, "{held} per second left, {asked} were asked for")
            }
            Self::Cpu { worker, busiest, windows } => {
                let percent = busiest * 100.0;
                let windows = if *windows == 1 { "one window".to_owned() } else { format!("{windows} windows") };
                write!(f, "worker {worker} had its processor busy for up to {percent:.0} % of the time, in {windows}")
            }
            Self::BackPressure { messages, part } => {
                let percent = part * 100.0;
                write!(f, "{messages} messages ({percent:.1} %) waited for room in a socket's buffer")
            }
        }
    }
}

fn millis(duration: Duration) -> String {
    format!("{:.2}", duration.as_secs_f64() * 1e3)
}

/// Counters of connections.
#[derive(Default, Debug)]
pub struct Connections {
    /// Handshakes that were completed.
    pub opened: u64,
    /// Open connections that ended before we closed them.
    pub dropped: u64,
    /// When the first and the last of them ended.
    pub dropped_between: Option<(Time, Time)>,
    /// Connections whose Close the server did not answer in time.
    pub close_unanswered: u64,
    /// What went wrong.
    pub failures: FailureCounts,
    /// From the first SYN to the 101.
    pub handshakes: Latency,
}

impl Connections {
    /// An open connection ended before we closed it.
    pub fn count_drop(&mut self, now: Time) {
        self.dropped += 1;
        let (first, _) = self.dropped_between.unwrap_or((now, now));
        self.dropped_between = Some((first, now));
    }
}

impl Outcome {
    /// Adds another worker's, or another interval's.
    pub fn merge(&mut self, other: &Self) {
        self.tally.merge(&other.tally);
        self.connections.opened += other.connections.opened;
        self.connections.dropped += other.connections.dropped;
        for (first, last) in [self.connections.dropped_between, other.connections.dropped_between].into_iter().flatten()
        {
            let (earliest, latest) = self.connections.dropped_between.unwrap_or((first, last));
            self.connections.dropped_between = Some((earliest.min(first), latest.max(last)));
        }
        self.connections.close_unanswered += other.connections.close_unanswered;
        self.connections.failures.merge(&other.connections.failures);
        self.connections.handshakes.merge(&other.connections.handshakes);
        self.sent_at = self.sent_at.max(other.sent_at);
        self.loads.extend_from_slice(&other.loads);
        self.limits.extend_from_slice(&other.limits);
    }

    /// Forgets everything; keeps the memory.
    pub fn reset(&mut self) {
        self.tally.reset();
        let Connections { opened, dropped, dropped_between, close_unanswered, failures, handshakes } =
            &mut self.connections;
        *dropped_between = None;
        (*opened, *dropped, *close_unanswered) = (0, 0, 0);
        failures.reset();
        handshakes.reset();
        self.sent_at = None;
        self.loads.clear();
        self.limits.clear();
    }
}
