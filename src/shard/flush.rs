//! From what is queued to what a transport is offered.
//!
//! First connections with something of their own to say, then the members of topics
//! with published frames. A member that is not behind is offered the batch itself: if
//! its transport takes all, nothing was ever queued for it.

use std::rc::Rc;

use super::{Shard, mark_dirty};
use crate::buffer::Batch;
use crate::connection::{Connection, Output};
use crate::hub::Delivery;
use crate::id::ConnectionId;
use crate::policy::SlowConsumerPolicy;
use crate::stats::CloseReason;
use crate::time::Time;

/// More waits for a subscriber than may, and its topic's policy is to close it.
#[derive(Debug)]
pub(super) struct QueueFull;

/// Published bytes that go from a batch straight to a transport.
pub(super) struct InHand {
    connection: ConnectionId,
    batch: Rc<Batch>,
    /// Bytes of the batch that are sent.
    sent: usize,
}

impl Shard {
    /// The next connection to flush. The caller does what [`Shard::output`] says until
    /// that is [`Output::Idle`], or calls [`Shard::blocked`] when the transport takes no
    /// more.
    pub fn next_flush(&mut self, now: Time) -> Option<ConnectionId> {
        debug_assert!(self.in_hand.is_none(), "the last flush was finished");
        loop {
            while let Some(id) = self.hub.next_confirmed() {
                self.confirm(id, now);
            }
            if let Some(id) = self.dirty.pop_front() {
                if let Some(peer) = self.table.get_mut(id) {
                    peer.connection.dirty = false;
                    return Some(id);
                }
                continue;
            }
            let delivery = self.hub.next_delivery()?;
            if let Some(id) = self.hand_out(delivery, now) {
                return Some(id);
            }
        }
    }

    /// Whether anything waits for a flush.
    pub fn has_flushes(&self) -> bool {
        !self.dirty.is_empty() || self.hub.has_deliveries()
    }

    /// Gives a member its batch; the member, if its transport is to be offered it now.
    fn hand_out(&mut self, delivery: Delivery, now: Time) -> Option<ConnectionId> {
        let Delivery { connection: id, ref batch, .. } = delivery;
        let peer = self.table.get_mut(id)?;
        if batch.is_whole_for(id) && peer.connection.takes_directly() {
            self.count_deliveries(batch, id);
            self.in_hand = Some(InHand { connection: id, batch: delivery.batch, sent: 0 });
            return Some(id);
        }
        if self.queue_batch(&delivery).is_err() {
            self.close_slow_consumer(id, CloseReason::SlowConsumer, now);
        }
        None
    }

    /// Queues what a connection gets of a batch, as the topic's policy has it.
    pub(super) fn queue_batch(&mut self, delivery: &Delivery) -> Result<(), QueueFull> {
        let Delivery { connection: id, batch, policy } = delivery;
        let Some(peer) = self.table.get_mut(*id) else { return Ok(()) };
        let ranges = batch.ranges_for(*id);
        let tells_gaps = peer.session.dialect.is_some_and(|dialect| dialect.tells_gaps());
        let bounds = self.settings.queue;
        let result = self.with_queue_counted(*id, |connection, pool| {
            let is_behind = !connection.takes_directly();
            let closes =
                *policy == SlowConsumerPolicy::Disconnect || (*policy == SlowConsumerPolicy::DropOldest && !tells_gaps);
            let bytes = ranges.clone().map(|(start, end)| end - start).sum();
            if closes && !connection.has_room_for(bytes, &bounds) {
                return Err(QueueFull);
            }
            ranges.for_each(|range| connection.push(batch, range, pool));
            Ok(match policy {
                SlowConsumerPolicy::DropOldest if is_behind && tells_gaps => (connection.drop_oldest(&bounds), 0),
                SlowConsumerPolicy::LatestOnly if is_behind => (0, connection.keep_newest()),
                _ => (0, 0),
            })
        });
        self.mark_dirty(*id);
        if let Some((dropped, conflated)) = result.transpose()? {
            self.count_deliveries(batch, *id);
            self.stats.dropped.add(dropped);
            self.stats.conflated.add(conflated);
        }
        Ok(())
    }

    fn count_deliveries(&self, batch: &Batch, id: ConnectionId) {
        let messages = u64::from(batch.messages_for(id));
        self.stats.deliveries.add(messages);
        self.stats.messages_out.add(messages);
        self.stats.saved_bytes_out.add(batch.saved_bytes_for(id));
    }

    /// What the transport of a connection is to do next.
    pub fn output(&self, id: ConnectionId) -> Output<'_> {
        let Some(peer) = self.table.get(id) else { return Output::Idle };
        match &self.in_hand {
            Some(in_hand) if in_hand.connection == id && !peer.connection.is_closed() => {
                Output::Send(&in_hand.batch.as_bytes()[in_hand.sent..])
            }
            _ => peer.connection.output(),
        }
    }

    /// The transport took `n` bytes.
    pub fn sent(&mut self, id: ConnectionId, n: usize) {
        self.stats.bytes_out.add(n as u64);
        if let Some(in_hand) = self.in_hand.as_mut().filter(|in_hand| in_hand.connection == id) {
            in_hand.sent += n;
            if in_hand.sent == in_hand.batch.as_bytes().len() {
                self.in_hand = None;
            }
            return;
        }
        let Some(peer) = self.table.get_mut(id) else { return };
        peer.connection.sent(n, &mut self.outbound_pool);
        self.stats.queue_bytes.sub(n as u64);
        if peer.read_pending && !peer.publisher_paused && peer.connection.wants_read(&self.settings.queue) {
            peer.read_pending = false;
            self.resumed.push_back(id);
        }
    }

    /// The transport takes nothing more until [`Shard::writable`].
    pub fn blocked(&mut self, id: ConnectionId) {
        let Some(peer) = self.table.get_mut(id) else { return };
        peer.connection.blocked = true;
        if let Some(InHand { batch, sent, .. }) = self.in_hand.take_if(|in_hand| in_hand.connection == id) {
            let end = batch.as_bytes().len();
            peer.connection.keep_rest(batch, (sent, end), &mut self.outbound_pool);
            self.stats.queue_bytes.add((end - sent) as u64);
        }
    }

    /// The transport takes bytes again.
    pub fn writable(&mut self, id: ConnectionId) {
        if let Some(peer) = self.table.get_mut(id) {
            peer.connection.blocked = false;
            self.mark_dirty(id);
        }
    }

    /// What was offered to a transport that failed is nobody's.
    pub(super) fn drop_in_hand(&mut self, id: ConnectionId) {
        self.in_hand.take_if(|in_hand| in_hand.connection == id);
    }

    pub(super) fn mark_dirty(&mut self, id: ConnectionId) {
        let Some(peer) = self.table.get_mut(id) else { return };
        mark_dirty(&mut self.dirty, &mut peer.connection, id);
    }

    /// Adds to the gauge of queued bytes what a change has added to one connection, or
    /// takes off what it has removed.
    pub(super) fn with_queue_counted<T>(
        &mut self,
        id: ConnectionId,
        change: impl FnOnce(&mut Connection, &mut crate::connection::OutboundPool) -> T,
    ) -> Option<T> {
        let connection = &mut self.table.get_mut(id)?.connection;
        let before = connection.queue_bytes() as u64;
        let result = change(connection, &mut self.outbound_pool);
        self.stats.queue_bytes.sub(before);
        self.stats.queue_bytes.add(connection.queue_bytes() as u64);
        Some(result)
    }
}
