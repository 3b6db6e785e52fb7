//! Going down: the part that needs the listeners, the clock and the other shards' numbers.
//! What happens in which order is decided in `shard::drain`.

use std::time::Duration;

use super::event_loop::LoopCore;
use crate::limits::{ACCEPTS_PER_TURN_MAX, DRAIN_RETRY_MS, HASTE, LISTEN_BACKLOG};
use crate::shard::DrainPhase;
use crate::time::Time;

/// Rounds of accepting that empty any listener, as far as nobody joins the queue: what the
/// kernel keeps for it, and the error that says that there is no more.
const ACCEPT_ROUNDS_PER_LISTENER_MAX: u64 = (LISTEN_BACKLOG as u64).div_ceil(ACCEPTS_PER_TURN_MAX / HASTE) + 1;

impl LoopCore {
    /// The gateway goes down; from the first word on, the time runs.
    pub(super) fn begin_drain(&mut self, now: Time) {
        self.drain_until.get_or_insert(now + self.settings.drain);
    }

    /// Rounds of accepting that leave nobody in a listener's queue.
    pub(super) fn accept_rounds_max(&self) -> u64 {
        ACCEPT_ROUNDS_PER_LISTENER_MAX * self.acceptor.len()
    }

    /// Resets whoever is left.
    pub(super) fn abort_all(&mut self) {
        let connections = self.shard.abort_all();
        if connections > 0 {
            tracing::warn!(connections, "reset, since the time for going down is over (drain.deadline_ms)");
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

    pub(super) fn is_late(&self, now: Time) -> bool {
        self.drain_until.is_some_and(|until| now >= until)
    }
}
