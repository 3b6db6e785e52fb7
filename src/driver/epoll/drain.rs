//! Going down: the part that needs the listeners, the clock and the other shards' numbers.
//! What happens in which order is decided in `shard::drain`.

use std::time::Duration;

use super::EventLoop;
use crate::limits::{ACCEPTS_PER_TURN_MAX, DRAIN_RETRY_MS, HASTE, LISTEN_BACKLOG};
use crate::shard::{DrainPhase, ListenerTask};
use crate::time::Time;

/// Rounds of accepting that empty any listener, as far as nobody joins the queue: what the
/// kernel keeps for it, and the error that says that there is no more.
const ACCEPT_ROUNDS_PER_LISTENER_MAX: u64 = (LISTEN_BACKLOG as u64).div_ceil(ACCEPTS_PER_TURN_MAX / HASTE) + 1;

impl EventLoop {
    /// The gateway goes down; from the first word on, the time runs.
    pub(super) fn begin_drain(&mut self, now: Time) {
        self.drain_until.get_or_insert(now + self.settings.drain);
    }

    /// Empties the listeners, or closes them, when going down asks for it.
    pub(super) fn tend_listeners(&mut self, now: Time) {
        loop {
            let task = self.shard.listener_task();
            if task == ListenerTask::None {
                return;
            }
            self.accept_all(now);
            if task == ListenerTask::Close {
                self.close_listeners();
            }
            self.shard.listener_done(now);
        }
    }

    /// What is left when the time is over is reset.
    pub(super) fn enforce_drain(&mut self, now: Time) {
        if self.is_late(now) {
            self.close_listeners();
            let connections = self.shard.abort_all();
            if connections > 0 {
                tracing::warn!(connections, "reset, since the time for going down is over (drain.deadline_ms)");
            }
        }
    }

    /// When a shard that has drained looks whether the others have, or when the time is
    /// over.
    pub(super) fn next_drain_look(&self, now: Time) -> Option<Time> {
        let drain_until = self.drain_until?;
        let waits = self.shard.connections_len() == 0 && self.shard.drain_phase() == DrainPhase::Closing;
        Some(if waits { now + Duration::from_millis(DRAIN_RETRY_MS) } else { drain_until })
    }

    /// No connection is left anywhere, and none can come: until then this shard may own
    /// topics of others, and they may wait for its mail.
    pub(super) fn is_drained(&self) -> bool {
        if self.drain_until.is_none() || self.shard.connections_len() > 0 {
            return false;
        }
        let closing = |phase: u64| phase == DrainPhase::Closing as u64;
        let all_closing = self.process.iter().all(|stats| closing(stats.drain_phase.get()));
        self.is_late(self.clock.now()) || (all_closing && self.sum_of_process(|stats| &stats.connections) == 0)
    }

    fn is_late(&self, now: Time) -> bool {
        self.drain_until.is_some_and(|until| now >= until)
    }

    /// Takes in whoever waits in the kernel's queues: all of them, or as many as there is
    /// room for.
    fn accept_all(&mut self, now: Time) {
        for _ in 0..ACCEPT_ROUNDS_PER_LISTENER_MAX * self.acceptor.len() {
            self.acceptor.hurry();
            self.accept(now);
            if !self.acceptor.may_have_more() {
                return;
            }
        }
    }

    /// What the kernel has queued for the listeners is reset by this, unless a socket is
    /// open elsewhere too.
    fn close_listeners(&mut self) {
        self.acceptor.close(self.poll.registry());
        self.shard.stats().accept_paused.set(0);
    }
}
