//! A run second by second, put together from what the workers hand over.
//!
//! Owner: the main thread. Of each second it keeps counts and percentiles, and of
//! each phase a whole histogram; a second's own histograms are gone when the next
//! one is complete.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use wsgate::time::Time;

use crate::handover::Interval;
use crate::latency::Quantiles;
use crate::tally::Outcome;
use crate::timeline::{Phase, Timeline};

/// Seconds that wait for a worker that is late; then they are shown without it. What
/// it hands over later counts in the oldest one that is still open.
const SECONDS_OPEN_MAX: usize = 4;

/// One second of a run, or what a phase left of it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Second {
    /// When it began, in seconds after the first message; negative before it.
    pub at: f64,
    /// How long it was, in seconds.
    pub seconds: f64,
    /// Name of the phase that it belongs to.
    pub phase: String,
    /// The phase's messages are in the figures. Older reports do not say.
    #[serde(default)]
    pub measured: bool,
    /// Handshakes that were completed.
    pub opened: u64,
    /// Open connections that ended before the run did.
    pub dropped: u64,
    /// Connections that failed, before or after their handshake.
    pub errors: u64,
    /// Messages sent, measured or not; in a fan-out, published.
    pub sent: u64,
    /// Messages received intact, measured or not; in a fan-out, deliveries.
    pub received: u64,
    /// Messages found to be lost; most are found when their connection ends, or the run.
    pub lost: u64,
    /// Messages that arrived again.
    pub duplicated: u64,
    /// Messages that arrived after a later one of the same sender.
    pub reordered: u64,
    /// Messages that arrived changed.
    pub corrupted: u64,
    /// Messages that reached a subscriber of another topic.
    #[serde(default)]
    pub misdelivered: u64,
    /// Latency of the measured messages that arrived in this second.
    pub latency_us: Option<Quantiles>,
    /// The same from the actual send; open loop only.
    pub service_us: Option<Quantiles>,
}

impl Second {
    fn new(timeline: &Timeline, open: &Open) -> Self {
        let Outcome { tally, connections, .. } = &open.outcome;
        Self {
            at: timeline.seconds_at(open.from),
            seconds: open.until.since(open.from).as_secs_f64(),
            phase: open.phase.name.to_string(),
            measured: open.phase.measured,
            opened: connections.opened,
            dropped: connections.dropped,
            errors: connections.failures.total(),
            sent: tally.sent_total(),
            received: tally.received_total(),
            lost: tally.lost,
            duplicated: tally.duplicated,
            reordered: tally.reordered,
            corrupted: tally.corrupted,
            misdelivered: tally.misdelivered,
            latency_us: tally.latency.quantiles(),
            service_us: tally.service.quantiles(),
        }
    }

    /// The same second with nothing counted.
    pub fn empty(&self) -> Self {
        Self {
            at: self.at,
            seconds: 0.0,
            phase: self.phase.clone(),
            measured: self.measured,
            opened: 0,
            dropped: 0,
            errors: 0,
            sent: 0,
            received: 0,
            lost: 0,
            duplicated: 0,
            reordered: 0,
            corrupted: 0,
            misdelivered: 0,
            latency_us: None,
            service_us: None,
        }
    }

    /// Adds what another run counted in the same second; percentiles cannot be added.
    pub fn add(&mut self, other: &Self) {
        self.seconds = self.seconds.max(other.seconds);
        self.opened += other.opened;
        self.dropped += other.dropped;
        self.errors += other.errors;
        self.sent += other.sent;
        self.received += other.received;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.corrupted += other.corrupted;
        self.misdelivered += other.misdelivered;
    }

    /// What went wrong in it: messages and connections.
    pub fn faults(&self) -> u64 {
        self.lost + self.duplicated + self.reordered + self.corrupted + self.misdelivered + self.errors
    }
}

/// All that was counted in one phase.
#[derive(Debug)]
pub struct PhaseTotal {
    /// Which one.
    pub phase: Phase,
    /// How long it lasted, in seconds.
    pub seconds: f64,
    /// The sum of its seconds.
    pub outcome: Outcome,
}

/// A second that not all workers are done with.
#[derive(Debug)]
struct Open {
    from: Time,
    until: Time,
    phase: Phase,
    reported: usize,
    outcome: Outcome,
}

/// The seconds of a run.
#[derive(Debug)]
pub struct Series {
    workers: usize,
    timeline: Timeline,
    /// In the order of their times.
    open: VecDeque<Open>,
    free: Vec<Outcome>,
    /// Where the last complete second began.
    closed: Option<Time>,
    seconds: Vec<Second>,
    phases: Vec<PhaseTotal>,
}

impl Series {
    /// A run with that many workers.
    pub fn new(workers: usize, timeline: Timeline) -> Self {
        Self {
            workers,
            timeline,
            open: VecDeque::new(),
            free: Vec::new(),
            closed: None,
            seconds: Vec::new(),
            phases: Vec::new(),
        }
    }

    /// From now on, workers cut there, and seconds count from there.
    pub fn follow(&mut self, timeline: Timeline) {
        let shift = timeline.seconds_at(Time::ZERO) - self.timeline.seconds_at(Time::ZERO);
        self.seconds.iter_mut().for_each(|second| second.at += shift);
        self.timeline = timeline;
    }

    /// Adds a worker's interval. `show` sees each second that this completes, with its histograms.
    pub fn add(&mut self, interval: &Interval, show: &mut dyn FnMut(&Second, &Outcome)) {
        let is_late = self.closed.is_some_and(|closed| interval.from <= closed);
        if let (true, Some(oldest)) = (is_late, self.open.front_mut()) {
            // Its second was shown without it: what was counted still counts.
            oldest.outcome.merge(&interval.outcome);
            return;
        }
        if self.open.iter().all(|open| open.from != interval.from) {
            let at = self.open.partition_point(|open| open.from < interval.from);
            let outcome = self.free.pop().unwrap_or_default();
            let phase = self.timeline.phase_at(interval.from).clone();
            let Interval { from, until, .. } = *interval;
            self.open.insert(at, Open { from, until, phase, reported: 0, outcome });
        }
        let mut same = self.open.iter_mut();
        let open = same.find(|open| open.from == interval.from).expect("it was just made");
        open.until = open.until.max(interval.until);
        open.reported += 1;
        open.outcome.merge(&interval.outcome);
        let complete = self.open.iter().rposition(|open| open.reported == self.workers).map_or(0, |last| last + 1);
        let overdue = self.open.len().saturating_sub(SECONDS_OPEN_MAX);
        for _ in 0..complete.max(overdue) {
            self.close_oldest(show);
        }
    }

    /// No worker has anything more to hand over.
    pub fn finish(&mut self, show: &mut dyn FnMut(&Second, &Outcome)) {
        while !self.open.is_empty() {
            self.close_oldest(show);
        }
    }

    /// The seconds that are complete, in the order of their times.
    pub fn seconds(&self) -> &[Second] {
        &self.seconds
    }

    /// The phases that have begun, in the order of their times.
    pub fn phases(&self) -> &[PhaseTotal] {
        &self.phases
    }

    /// The sum of all phases.
    pub fn total(&self) -> Outcome {
        let mut total = Outcome::default();
        self.phases.iter().for_each(|phase| total.merge(&phase.outcome));
        total
    }

    fn close_oldest(&mut self, show: &mut dyn FnMut(&Second, &Outcome)) {
        let Some(mut open) = self.open.pop_front() else { return };
        // A late worker's interval may reach into the next second.
        if let Some(next) = self.open.front() {
            open.until = open.until.min(next.from);
        }
        let second = Second::new(&self.timeline, &open);
        show(&second, &open.outcome);
        if self.phases.last().is_none_or(|last| last.phase != open.phase) {
            self.phases.push(PhaseTotal { phase: open.phase.clone(), seconds: 0.0, outcome: Outcome::default() });
        }
        let phase = self.phases.last_mut().expect("there is one now");
        phase.seconds += second.seconds;
        phase.outcome.merge(&open.outcome);
        self.seconds.push(second);
        self.closed = Some(open.from);
        open.outcome.reset();
        self.free.push(open.outcome);
    }
}

#[cfg(test)]
#[path = "series_tests.rs"]
mod tests;
