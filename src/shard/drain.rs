//! Going down in order, as one shard sees it.
//!
//! | Phase | What happens | Until |
//! | --- | --- | --- |
//! | `Serving` | | the gateway is told to stop |
//! | `Announced` | `/health` says 503, all else goes on | the grace is over |
//! | `Emptying` | the driver takes in all that wait at its listener | all shards have |
//! | `Delivering` | the listener is closed; upgrades get 503 | what was accepted has arrived everywhere |
//! | `Closing` | connections are told, a few at a time | the last one is gone |
//!
//! Two rounds of [`Envelope::Barrier`] tie the shards together. Mail keeps its order
//! from each thread to each other, so a barrier arrives behind all that its sender had
//! to say before it. The first round says that the sender's listener is empty: when all
//! have said it, all close theirs, within the time of one envelope, since what the
//! kernel queues at a listener that closes is reset. A shard that has the first round
//! has ordered all that others had accepted by then, and its second barrier arrives
//! behind those deliveries. With the second round complete nothing is on its way that
//! was accepted before, and nobody who is told to go misses any of it.

use std::time::Duration;

use super::Shard;
use crate::command::{Address, DrainStep, Envelope, Round};
use crate::id::{ConnectionId, ShardId};
use crate::limits::{DRAIN_BATCH_MAX, DRAIN_STEP_MS};
use crate::proto::close::CloseCode;
use crate::proto::handshake::HandshakeError;
use crate::stats::CloseReason;
use crate::time::Time;

/// What going down asks of the driver's listener. See [`Shard::listener_done`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ListenerTask {
    /// Nothing: connections are accepted as ever, or there is no listener any more.
    None,
    /// Accept until nobody waits.
    Empty,
    /// Accept until nobody waits, and close it at once.
    Close,
}

/// How far a shard is. The numbers are those of the metric `drain_phase`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Debug)]
pub enum DrainPhase {
    /// Not going down.
    Serving = 0,
    /// `/health` says so.
    Announced = 1,
    /// The listeners are emptied.
    Emptying = 2,
    /// The listeners are closed.
    Delivering = 3,
    /// Connections are told to go.
    Closing = 4,
}

/// A shard's way down. See the module.
pub(super) struct Drain {
    phase: DrainPhase,
    /// Our own listener has been emptied.
    emptied: bool,
    /// Barriers of other shards, by round. They may come before our own step.
    arrived: [usize; Round::ALL.len()],
    spread: Duration,
    random: Random,
    /// Connections that have not been told, in the order in which they will be, the last
    /// first. Some may be gone.
    left: Vec<ConnectionId>,
    /// When the last is told at the latest, and when the next ones are.
    until: Time,
    next: Time,
}

impl Drain {
    pub(super) fn new() -> Self {
        Self {
            phase: DrainPhase::Serving,
            emptied: false,
            arrived: [0; Round::ALL.len()],
            spread: Duration::ZERO,
            random: Random(0),
            left: Vec::new(),
            until: Time::ZERO,
            next: Time::ZERO,
        }
    }

    /// Whether `/health` says that clients should go elsewhere.
    pub(super) fn is_announced(&self) -> bool {
        self.phase >= DrainPhase::Announced
    }

    /// Whether nobody is taken in any more.
    pub(super) fn is_shut(&self) -> bool {
        self.phase >= DrainPhase::Delivering
    }

    /// When connections are to be told next.
    pub(super) fn next_due(&self) -> Option<Time> {
        (!self.left.is_empty()).then_some(self.next)
    }

    fn begin_closing(&mut self, mut ids: Vec<ConnectionId>, now: Time) {
        // Neighbours in the table came together; they go, and come back elsewhere, apart.
        for n in (1..ids.len()).rev() {
            ids.swap(n, self.random.below(n as u64 + 1) as usize);
        }
        (self.left, self.until, self.next) = (ids, now + self.spread, now);
    }

    /// Those who are told now. The pace is what the time that is left asks for; the waits
    /// between have random lengths, so that gateways which go down together do not send
    /// their clients away in time with each other.
    fn take_batch(&mut self, now: Time) -> Vec<ConnectionId> {
        if now < self.next {
            return Vec::new();
        }
        let (left, time_ms) = (self.left.len() as u64, self.until.since(now).as_millis() as u64);
        let due = if time_ms <= DRAIN_STEP_MS { left } else { (left * DRAIN_STEP_MS / time_ms).max(1) };
        if due <= DRAIN_BATCH_MAX as u64 {
            let wait_ms = due * time_ms / left;
            self.next = now + Duration::from_millis(wait_ms / 2 + self.random.below(wait_ms + 1));
        }
        let kept = self.left.len() - (due as usize).min(DRAIN_BATCH_MAX);
        self.left.split_off(kept)
    }
}

impl Shard {
    /// The next step of going down.
    pub(super) fn drain(&mut self, step: DrainStep) {
        let phase = match step {
            DrainStep::Announce => DrainPhase::Announced,
            DrainStep::Close { spread, seed } => {
                self.drain.spread = spread;
                self.drain.random = Random(seed.wrapping_add(u64::from(self.settings.hub.shard.0)));
                DrainPhase::Emptying
            }
        };
        // Said twice is said once.
        if phase > self.drain.phase {
            self.enter_drain(phase);
        }
    }

    /// Another shard has come to a round's end.
    pub(super) fn pass_barrier(&mut self, round: Round, now: Time) {
        self.drain.arrived[round as usize] += 1;
        self.close_if_all_has_arrived(now);
    }

    /// How far going down is.
    pub fn drain_phase(&self) -> DrainPhase {
        self.drain.phase
    }

    /// What going down asks of the listener now. Asked once per turn, after the mail.
    pub fn listener_task(&self) -> ListenerTask {
        match self.drain.phase {
            DrainPhase::Emptying if !self.drain.emptied => ListenerTask::Empty,
            DrainPhase::Emptying if self.is_complete(Round::Emptied) => ListenerTask::Close,
            _ => ListenerTask::None,
        }
    }

    /// What [`Shard::listener_task`] asked for has been done.
    pub fn listener_done(&mut self, now: Time) {
        match self.listener_task() {
            ListenerTask::None => {}
            ListenerTask::Empty => {
                self.drain.emptied = true;
                self.send_barrier(Round::Emptied);
            }
            ListenerTask::Close => {
                self.enter_drain(DrainPhase::Delivering);
                self.send_barrier(Round::Delivered);
                self.close_if_all_has_arrived(now);
            }
        }
    }

    /// Tells those whose turn it is.
    pub(super) fn close_next(&mut self, now: Time) {
        if self.drain.left.is_empty() {
            return;
        }
        for id in self.drain.take_batch(now) {
            self.send_away(id, now);
        }
        self.stats.drain_left.set(self.drain.left.len() as u64);
    }

    /// Closes every connection at once, whatever the peers do. Returns how many were left.
    pub fn abort_all(&mut self) -> u64 {
        self.drain.left = Vec::new();
        self.stats.drain_left.set(0);
        let mut reset = 0;
        let ids: Vec<ConnectionId> = self.table.ids().collect();
        for id in ids {
            if let Some(peer) = self.table.get_mut(id) {
                reset += u64::from(!peer.connection.is_closed());
                peer.connection.abort(CloseReason::Drain);
                self.settle(id);
            }
        }
        self.stats.drain_resets.add(reset);
        reset
    }

    fn close_if_all_has_arrived(&mut self, now: Time) {
        if self.drain.phase == DrainPhase::Delivering && self.is_complete(Round::Delivered) {
            let ids = self.table.ids().collect();
            self.drain.begin_closing(ids, now);
            self.enter_drain(DrainPhase::Closing);
            self.close_next(now);
        }
    }

    fn is_complete(&self, round: Round) -> bool {
        self.drain.arrived[round as usize] >= self.settings.hub.shards - 1
    }

    fn send_barrier(&mut self, round: Round) {
        let own = self.settings.hub.shard;
        let all = (0..self.settings.hub.shards).map(|index| ShardId(index as u16));
        self.outbox.extend(all.filter(|to| *to != own).map(|to| (Address::Shard(to), Envelope::Barrier(round))));
    }

    fn enter_drain(&mut self, phase: DrainPhase) {
        debug_assert!(phase > self.drain.phase, "there is no way back up");
        self.drain.phase = phase;
        self.stats.drain_phase.set(phase as u64);
    }

    /// Tells one peer that the server goes down. Of what is not upgraded, nothing more can
    /// come: it would be refused.
    fn send_away(&mut self, id: ConnectionId, now: Time) {
        let Some(peer) = self.table.get(id) else { return };
        if peer.connection.is_open() {
            self.close(id, CloseCode::GOING_AWAY, "the server is shutting down", CloseReason::Drain, now);
        } else if self.has_no_language(id) {
            self.abort_handshake(id, CloseReason::Drain);
        } else if peer.connection.awaits_upgrade() {
            self.refuse(id, &HandshakeError::GoingAway, CloseReason::Drain, now);
        }
    }
}

/// SplitMix64: numbers that spread well enough to part connections, from a seed that is
/// handed in.
struct Random(u64);

impl Random {
    /// A number from 0 to `bound` - 1.
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}
