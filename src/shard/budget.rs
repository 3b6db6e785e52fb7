//! What waits for all connections together is bounded, too.

use super::Shard;
use crate::id::ConnectionId;
use crate::stats::CloseReason;
use crate::time::Time;

impl Shard {
    /// Bytes of memory that the queues of this shard keep alive. A batch that waits for
    /// several connections counts once.
    pub fn queue_memory_bytes(&self) -> u64 {
        self.outbound_pool.waiting_bytes()
    }

    /// Bytes of frames that were published and not yet offered to the last subscriber here.
    pub fn log_bytes(&self) -> usize {
        self.hub.log_bytes()
    }

    /// Of those whose transport is full, closes those for which most waits until at most
    /// `bytes_max` bytes of memory are kept alive: the largest delivery logs first, then
    /// the largest private queues. What is about to be flushed is nobody's fault: a batch
    /// that is being handed out stays until all have had it, whoever is closed.
    ///
    /// What a topic's log keeps is what its member that is furthest behind has not had:
    /// the others wait for an end of the same. So who is furthest behind in what was
    /// published, over all topics, is behind in the largest log, and closing it makes that
    /// log as small as the next one's share of it.
    pub fn shed_queues(&mut self, bytes_max: u64, now: Time) {
        for (id, _) in self.largest_first(|connection| connection.published_bytes()) {
            if self.queue_memory_bytes() <= bytes_max {
                return;
            }
            self.close_slow_consumer(id, CloseReason::QueueMemory, now);
        }
        for (id, _) in self.largest_first(|connection| connection.queue_bytes()) {
            if self.queue_memory_bytes() <= bytes_max {
                return;
            }
            // It does not read, so a Close would not reach it.
            if let Some(peer) = self.table.get_mut(id) {
                peer.connection.abort(CloseReason::QueueMemory);
            }
            self.with_queue_counted(id, |connection, pool| connection.drop_queue(pool));
            self.settle(id);
        }
    }

    fn largest_first(&self, size: impl Fn(&crate::connection::Connection) -> usize) -> Vec<(ConnectionId, usize)> {
        let connections = self.table.ids().filter_map(|id| Some((id, &self.table.get(id)?.connection)));
        let blocked = connections.filter(|(_, connection)| connection.blocked);
        let sized = blocked.map(|(id, connection)| (id, size(connection)));
        let mut largest: Vec<_> = sized.filter(|(_, size)| *size > 0).collect();
        largest.sort_unstable_by_key(|(_, size)| std::cmp::Reverse(*size));
        largest
    }
}
