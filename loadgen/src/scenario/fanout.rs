//! Publishers send to topics, and every subscriber of a topic expects every message.
//!
//! Subscriber `s` and publisher `p` of the run belong to topics `s % topics` and
//! `p % topics`; each topic has as many publishers as the others.
//! Members of a worker: its subscribers first, then its publishers. Publishers
//! ignore what they receive: many servers send it to them, some do not.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wsgate::time::Time;

use super::{Pace, Scenario};
use crate::course::Course;
use crate::failure::Failure;
use crate::limits::DELIVERY_PATIENCE;
use crate::order::{Arrival, Tracker};
use crate::payload::{Payload, Reading, SEQUENCE_MAX, Stamp};
use crate::schedule::{Arrivals, Schedule, Share, Window};
use crate::tally::Tally;

/// What the workers of a fan-out tell each other.
#[derive(Debug)]
pub struct Board {
    /// Messages published, by publisher.
    published: Box<[AtomicU64]>,
    /// By topic.
    subscribers_live: Box<[AtomicU64]>,
    /// Closed loop: `in_flight` slots per publisher. A slot holds the sequence number
    /// of a message in its upper half and its deliveries in the lower one.
    slots: Box<[AtomicU64]>,
    in_flight: usize,
}

impl Board {
    /// The board of a run with that many topics, and publishers over all of them.
    pub fn new(topics: usize, publishers: usize, pace: Pace) -> Self {
        assert!(topics > 0 && publishers.is_multiple_of(topics), "{publishers} publishers on {topics} topics");
        let in_flight = match pace {
            Pace::Open { .. } => 0,
            Pace::Closed { in_flight } => in_flight as usize,
        };
        let zeros = |count: usize| (0..count).map(|_| AtomicU64::new(0)).collect();
        Self {
            published: zeros(publishers),
            subscribers_live: zeros(topics),
            slots: zeros(publishers * in_flight),
            in_flight,
        }
    }

    fn topics(&self) -> usize {
        self.subscribers_live.len()
    }

    fn topic(&self, number: usize) -> usize {
        number % self.topics()
    }

    /// How many publishers a topic has.
    fn publishers_per_topic(&self) -> usize {
        self.published.len() / self.topics()
    }

    fn slot(&self, publisher: usize, sequence: u32) -> usize {
        publisher * self.in_flight + sequence as usize % self.in_flight
    }

    /// Counts deliveries; whether every subscriber now has the message.
    fn deliver(&self, slot: usize, sequence: u32, count: u32) -> bool {
        let topic = self.topic(slot / self.in_flight);
        let slot = &self.slots[slot];
        if slot.load(Ordering::Acquire) >> 32 != u64::from(sequence) {
            return false; // Its time was up: the slot is another message's.
        }
        let delivered = slot.fetch_add(u64::from(count), Ordering::AcqRel) + u64::from(count);
        self.is_complete(topic, delivered)
    }

    fn is_complete(&self, topic: usize, slot: u64) -> bool {
        slot & 0xffff_ffff >= self.subscribers_live[topic].load(Ordering::Acquire)
    }

    /// Messages published to a topic.
    fn published(&self, topic: usize) -> u64 {
        self.published[topic..].iter().step_by(self.topics()).map(|count| count.load(Ordering::Acquire)).sum()
    }
}

/// The fan-out scenario's part on one worker.
#[derive(Debug)]
pub struct Fanout {
    board: Arc<Board>,
    payload: Payload,
    pace: Pace,
    arrivals: Arrivals,
    course: Course,
    subscriber_share: Share,
    /// Subscribers of the run with lower numbers stall: they read nothing while messages
    /// are sent, and nothing is expected of them.
    stalled: usize,
    publisher_share: Share,
    subscribers: Vec<Subscriber>,
    /// One per subscriber and publisher of its topic.
    trackers: Vec<Tracker>,
    publishers: Vec<Publisher>,
    window: Option<Window>,
    schedule: Option<Schedule>,
    /// Closed loop: deliveries of this turn that are not on the board, by slot.
    deliveries: Vec<Delivery>,
    touched: Vec<usize>,
    /// A subscriber left: who waited for it need not any more.
    subscriber_left: bool,
    /// Of this worker, by topic.
    subscribers_live: Vec<u64>,
    publishers_live: usize,
    /// Readers that stall and are still connected.
    stalled_live: usize,
    /// Different messages that live subscribers received, summed up.
    received_by_live: u64,
    /// The publisher that is asked first: each has its turn.
    publisher_next: usize,
    tally: Tally,
}

#[derive(Clone, Copy, Default, Debug)]
struct Subscriber {
    live: bool,
    received: u64,
}

#[derive(Default, Debug)]
struct Publisher {
    live: bool,
    sequence: u32,
    /// Closed loop: when the messages in flight were published, the oldest first.
    in_flight_since: VecDeque<Time>,
}

#[derive(Clone, Copy, Default, Debug)]
struct Delivery {
    sequence: u32,
    count: u32,
}

impl Fanout {
    /// The members of one worker.
    pub fn new(
        payload: Payload,
        pace: Pace,
        arrivals: Arrivals,
        subscriber_share: Share,
        publisher_share: Share,
        board: Arc<Board>,
    ) -> Self {
        let subscribers = vec![Subscriber::default(); subscriber_share.local_senders()];
        let trackers = (0..subscribers.len() * board.publishers_per_topic()).map(|_| Tracker::default()).collect();
        let publishers = (0..publisher_share.local_senders()).map(|_| Publisher::default()).collect();
        let deliveries = vec![Delivery::default(); board.slots.len()];
        Self {
            subscribers_live: vec![0; board.topics()],
            board,
            payload,
            pace,
            arrivals,
            course: Course::default(),
            subscriber_share,
            stalled: 0,
            publisher_share,
            subscribers,
            trackers,
            publishers,
            window: None,
            schedule: None,
            deliveries,
            touched: Vec::new(),
            subscriber_left: false,
            publishers_live: 0,
            stalled_live: 0,
            received_by_live: 0,
            publisher_next: 0,
            tally: Tally::default(),
        }
    }

    /// The same with the load of that course.
    pub fn over(mut self, course: Course) -> Self {
        self.course = course;
        self
    }

    /// The same with readers that stall: the first `count` subscribers of the run.
    pub fn with_stalled(mut self, count: usize) -> Self {
        self.stalled = count;
        self
    }

    fn stalls(&self, member: usize) -> bool {
        member < self.subscribers.len() && self.subscriber_share.sender(member) < self.stalled
    }

    /// The topic of a subscriber of this worker.
    fn topic(&self, member: usize) -> usize {
        self.board.topic(self.subscriber_share.sender(member))
    }

    /// The subscriber's account is closed: what was published and did not reach it is lost.
    fn settle(&mut self, member: usize) {
        let published = self.board.published(self.topic(member));
        let subscriber = &mut self.subscribers[member];
        subscriber.live = false;
        self.received_by_live -= subscriber.received;
        self.tally.lost += published.saturating_sub(subscriber.received);
    }

    /// Counts a delivery towards the closed loop's window.
    fn count_delivery(&mut self, stamp: Stamp) {
        if self.board.in_flight == 0 {
            return;
        }
        let slot = self.board.slot(stamp.sender as usize, stamp.sequence);
        let delivery = &mut self.deliveries[slot];
        if delivery.count == 0 {
            self.touched.push(slot);
        } else if delivery.sequence != stamp.sequence {
            // Two messages of one slot in a turn: the earlier one was given up.
            delivery.count = 0;
        }
        *delivery = Delivery { sequence: stamp.sequence, count: delivery.count + 1 };
    }

    /// Whether the publisher may send its next message, and if not, when it may at
    /// the latest.
    fn window_opens(&self, local: usize, now: Time) -> Result<(), Time> {
        let publisher = &self.publishers[local];
        if publisher.in_flight_since.len() < self.board.in_flight {
            return Ok(());
        }
        let patience_ends = publisher.in_flight_since[0] + DELIVERY_PATIENCE;
        let number = self.publisher_share.sender(local);
        let slot = self.board.slot(number, publisher.sequence);
        if self.board.is_complete(self.board.topic(number), self.board.slots[slot].load(Ordering::Acquire))
            || now >= patience_ends
        {
            Ok(())
        } else {
            Err(patience_ends)
        }
    }

    fn can_send(&self, local: usize) -> bool {
        self.publishers[local].live && self.publishers[local].sequence <= SEQUENCE_MAX
    }

    /// The first publisher from `local` on, round and round, that `may` send.
    fn publisher_from(&self, local: usize, may: impl Fn(usize) -> bool) -> Option<usize> {
        let order = (local..self.publishers.len()).chain(0..local);
        order.into_iter().find(|&local| self.can_send(local) && may(local))
    }

    fn publish(&mut self, local: usize, intended: Time, now: Time) -> (usize, Stamp) {
        let sender = self.publisher_share.sender(local);
        let publisher = &mut self.publishers[local];
        let sequence = publisher.sequence;
        publisher.sequence += 1;
        if self.board.in_flight > 0 {
            if publisher.in_flight_since.len() == self.board.in_flight {
                publisher.in_flight_since.pop_front();
            }
            publisher.in_flight_since.push_back(now);
            self.board.slots[self.board.slot(sender, sequence)].store(u64::from(sequence) << 32, Ordering::Release);
        }
        self.board.published[sender].store(u64::from(publisher.sequence), Ordering::Release);
        if let Some(window) = &self.window {
            self.tally.count_sent(window, intended);
        }
        (self.subscribers.len() + local, Stamp { sender: sender as u32, sequence, intended, sent: now })
    }
}

impl Scenario for Fanout {
    fn opened(&mut self, member: usize, _now: Time) {
        if self.stalls(member) {
            self.tally.stalled.count += 1;
            self.stalled_live += 1;
        } else if member < self.subscribers.len() {
            let topic = self.topic(member);
            self.subscribers[member].live = true;
            self.subscribers_live[topic] += 1;
            self.board.subscribers_live[topic].fetch_add(1, Ordering::AcqRel);
        } else {
            self.publishers[member - self.subscribers.len()].live = true;
            self.publishers_live += 1;
        }
    }

    fn gone(&mut self, member: usize, _now: Time) {
        if self.stalls(member) {
            self.stalled_live -= 1;
            return;
        }
        if member < self.subscribers.len() {
            let topic = self.topic(member);
            self.settle(member);
            self.subscribers_live[topic] -= 1;
            self.board.subscribers_live[topic].fetch_sub(1, Ordering::AcqRel);
            self.subscriber_left = true;
        } else {
            self.publishers[member - self.subscribers.len()].live = false;
            self.publishers_live -= 1;
        }
    }

    fn reads(&self, member: usize) -> bool {
        self.window.is_none() || !self.stalls(member)
    }

    fn expects_end(&mut self, member: usize, failure: &Failure) -> bool {
        if self.stalls(member) {
            *self.tally.stalled.ended.entry(failure.kind()).or_default() += 1;
        }
        self.stalls(member)
    }

    fn start(&mut self, window: Window) {
        self.window = Some(window);
        if let Pace::Open { rate } = self.pace {
            let profile = self.course.profile(rate);
            self.schedule = Some(Schedule::new(window, profile, self.arrivals, self.publisher_share));
        }
    }

    fn stop(&mut self, now: Time) {
        self.window = self.window.map(|window| window.until(now));
        let due = self.schedule.as_mut().and_then(|schedule| schedule.stop(now));
        if let Some(due) = due.filter(|_| self.publishers_live > 0) {
            self.tally.count_abandoned(due, now);
        }
    }

    fn message(&mut self, member: usize, payload: &[u8], now: Time) -> bool {
        if member >= self.subscribers.len() || self.stalls(member) {
            return false;
        }
        let reading = self.payload.read(payload);
        let stamp = match reading {
            Reading::Ours(stamp) | Reading::Corrupted(Some(stamp)) => stamp,
            Reading::Corrupted(None) => {
                self.tally.corrupted += 1;
                return false;
            }
            Reading::Foreign => {
                self.tally.foreign += 1;
                return false;
            }
        };
        let publisher = stamp.sender as usize;
        if publisher >= self.publisher_share.senders {
            self.tally.foreign += 1;
            return false;
        }
        if self.board.topic(publisher) != self.topic(member) {
            self.tally.misdelivered += 1;
            return false;
        }
        let tracker = member * self.board.publishers_per_topic() + publisher / self.board.topics();
        let arrival = self.trackers[tracker].arrived(stamp.sequence);
        if arrival == Arrival::Duplicate {
            self.tally.duplicated += 1;
            return false;
        }
        self.tally.reordered += u64::from(arrival == Arrival::Late);
        self.subscribers[member].received += 1;
        self.received_by_live += 1;
        match (reading, &self.window) {
            (Reading::Ours(_), Some(window)) => self.tally.count_received(window, stamp, self.pace.is_open(), now),
            // Another worker heard of the start before this one did.
            (Reading::Ours(_), None) => self.tally.unmeasured_received += 1,
            _ => self.tally.corrupted += 1,
        }
        self.count_delivery(stamp);
        false
    }

    fn turn_done(&mut self, wake: &mut dyn FnMut(usize)) {
        let workers = self.publisher_share.workers;
        for slot in self.touched.drain(..) {
            let Delivery { sequence, count } = std::mem::take(&mut self.deliveries[slot]);
            if self.board.deliver(slot, sequence, count) {
                let publisher = slot / self.board.in_flight;
                wake(publisher % workers);
            }
        }
        if std::mem::take(&mut self.subscriber_left) {
            (0..workers.min(self.publisher_share.senders)).for_each(wake);
        }
    }

    fn next_send(&mut self, now: Time) -> Option<(usize, Stamp)> {
        let window = self.window.filter(|window| now >= window.start)?;
        if let Some(schedule) = &mut self.schedule {
            let (local, intended) = schedule.take(now)?;
            let local = self.publisher_from(local, |_| true)?;
            self.tally.count_lag(&window, intended, now);
            return Some(self.publish(local, intended, now));
        }
        if now >= window.end || self.publishers.is_empty() {
            return None;
        }
        let local = self.publisher_from(self.publisher_next, |local| self.window_opens(local, now).is_ok())?;
        self.publisher_next = (local + 1) % self.publishers.len();
        Some(self.publish(local, now, now))
    }

    fn wake_at(&self) -> Option<Time> {
        if self.publishers_live == 0 {
            return None;
        }
        if let Some(schedule) = &self.schedule {
            return schedule.next_at();
        }
        let window = self.window?;
        let waiting = (0..self.publishers.len()).filter(|&local| self.can_send(local));
        waiting.filter_map(|local| self.window_opens(local, window.start).err().or(Some(window.start))).min()
    }

    fn sending_done(&self, now: Time) -> bool {
        let Some(window) = self.window else {
            return self.publishers_live == 0 && self.subscribers_live.iter().all(|&live| live == 0);
        };
        let nobody = || self.board.subscribers_live.iter().all(|live| live.load(Ordering::Acquire) == 0);
        if self.publishers_live == 0 || nobody() {
            return true;
        }
        let all_taken = self.schedule.as_ref().is_none_or(|schedule| schedule.next_at().is_none());
        all_taken && now >= window.end
    }

    fn drained(&self) -> bool {
        if self.stalled_live > 0 {
            return false; // They read now, and may hear what became of them.
        }
        let expected = self.subscribers_live.iter().enumerate().filter(|(_, live)| **live > 0);
        self.received_by_live == expected.map(|(topic, live)| live * self.board.published(topic)).sum::<u64>()
    }

    fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }

    fn finish(mut self: Box<Self>) -> Tally {
        for member in 0..self.subscribers.len() {
            if self.subscribers[member].live {
                self.settle(member);
            }
        }
        self.tally
    }
}

#[cfg(test)]
#[path = "fanout_tests.rs"]
mod tests;
