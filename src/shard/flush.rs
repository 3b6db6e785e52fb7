//! From what is queued to what a transport is offered.
//!
//! Connections with something of their own to say and the members of topics with
//! published frames take turns: who asks for replies without end does not hold up what is
//! published, and a large topic does not hold up replies. A member that is not behind is offered the batch itself: if
//! its transport takes all, nothing was ever queued for it.

use std::rc::Rc;

use super::Shard;
use crate::buffer::Batch;
use crate::connection::{Connection, Output};
use crate::hub::{Delivery, Flushed};
use crate::id::ConnectionId;
use crate::limits::FLUSHES_PER_ENDING;
use crate::policy::SlowConsumerPolicy;
use crate::stats::CloseReason;
use crate::time::Time;

/// More waits for a subscriber than may, and its topic's policy is to close it.
#[derive(Debug)]
pub(super) struct QueueFull;

/// Published bytes that go from a batch straight to a transport.
pub(super) struct InHand {
    pub(super) connection: ConnectionId,
    batch: Rc<Batch>,
    /// Bytes of the batch that are sent.
    sent: usize,
}

impl InHand {
    pub(super) fn rest(&self) -> &[u8] {
        &self.batch.as_bytes()[self.sent..]
    }

    pub(super) fn take(&mut self, n: usize) {
        self.sent += n;
    }
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
            if !self.has_flushes() {
                return None;
            }
            if self.is_ending_next() {
                self.flushes_since_ending = 0;
                match self.dirty_ending.pop_front().and_then(|id| self.take_dirty(id)) {
                    Some(id) => return Some(id),
                    None => continue,
                }
            }
            self.flushes_since_ending += 1;
            let is_dirty_next = !self.dirty.is_empty() && (self.dirty_next || !self.hub.has_deliveries());
            // Who could not take a batch from the hand gets it from its queue at once if nobody
            // else waits: then the batch is free again when the last member has it.
            self.dirty_next = !is_dirty_next;
            let next = if is_dirty_next {
                self.dirty.pop_front().and_then(|id| self.take_dirty(id))
            } else {
                self.hub.next_delivery().and_then(|delivery| self.hand_out(delivery, now))
            };
            if next.is_some() {
                return next;
            }
        }
    }

    /// Whether one of those that end has its turn.
    fn is_ending_next(&self) -> bool {
        let others_wait = !self.dirty.is_empty() || self.hub.has_deliveries();
        !self.dirty_ending.is_empty() && (!others_wait || self.flushes_since_ending >= FLUSHES_PER_ENDING)
    }

    /// A connection from the front of a list, if its transport is to be offered something.
    fn take_dirty(&mut self, id: ConnectionId) -> Option<ConnectionId> {
        // Its slot may have another tenant by now.
        let connection = &mut self.table.get_mut(id)?.connection;
        connection.dirty = false;
        // What has filled up since is flushed when its transport takes bytes again.
        (!connection.blocked || connection.is_closed()).then_some(id)
    }

    /// Whether anything waits for a flush.
    pub fn has_flushes(&self) -> bool {
        !self.dirty.is_empty() || !self.dirty_ending.is_empty() || self.hub.has_deliveries()
    }

    /// A turn that began then ends, and what [`Shard::next_flush`] named in it has been
    /// carried out: counts how long it took, and how long the messages took that the last
    /// subscriber was offered in it.
    pub fn end_turn(&mut self, began: Time, now: Time) {
        self.stats.turns.record(now.since(began), 1);
        while let Some(Flushed { since, messages }) = self.hub.next_flushed() {
            self.stats.publish_to_flush.record(now.since(since), messages.into());
        }
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
            return None;
        }
        // Over the bound, and only because its flush has not come yet: it comes now, so that
        // no second batch is added to that.
        let connection = &self.table.get(id)?.connection;
        let is_overdue = !connection.blocked && connection.queue_bytes() > self.settings.queue.queue_bytes_max;
        is_overdue.then_some(id)
    }

    /// Queues what a connection gets of a batch, as the topic's policy has it. Who has
    /// replies waiting for the flush reads as fast as it is asked to: only of those whose
    /// transport is full anything is dropped, or they are closed.
    pub(super) fn queue_batch(&mut self, delivery: &Delivery) -> Result<(), QueueFull> {
        let Delivery { connection: id, batch, policy } = delivery;
        let Some(peer) = self.table.get_mut(*id) else { return Ok(()) };
        let ranges = batch.ranges_for(*id);
        let tells_gaps = peer.session.dialect.is_some_and(|dialect| dialect.tells_gaps());
        let bounds = self.settings.queue;
        let result = self.with_queue_counted(*id, |connection, pool| {
            let is_behind = !connection.takes_directly();
            let is_slow = connection.blocked;
            let closes =
                *policy == SlowConsumerPolicy::Disconnect || (*policy == SlowConsumerPolicy::DropOldest && !tells_gaps);
            let bytes = ranges.clone().map(|(start, end)| end - start).sum();
            if closes && is_slow && !connection.has_room_for(bytes, &bounds) {
                return Err(QueueFull);
            }
            ranges.for_each(|range| connection.push(batch, range, pool));
            Ok(match policy {
                SlowConsumerPolicy::DropOldest if is_slow && tells_gaps => (connection.drop_oldest(&bounds), 0),
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
    pub fn output(&mut self, id: ConnectionId) -> Output<'_> {
        let secured = self.is_secured(id);
        if secured {
            self.encrypt_next(id);
        }
        let Some(peer) = self.table.get(id) else { return Output::Idle };
        match &self.in_hand {
            Some(in_hand) if !secured && in_hand.connection == id && !peer.connection.is_closed() => {
                Output::Send(in_hand.rest())
            }
            _ => peer.connection.output(),
        }
    }

    /// The transport took `n` bytes.
    pub fn sent(&mut self, id: ConnectionId, n: usize) {
        self.stats.bytes_out.add(n as u64);
        self.lend(id, n);
    }

    /// The batch that is offered to a transport straight from the log, and how much of it is
    /// sent. The caller keeps it until the transport has it, as with [`Shard::lend`], and
    /// then gives it to [`Shard::put_batch`] or [`Shard::give_back_batch`].
    pub fn lend_batch(&mut self, id: ConnectionId) -> Option<(Rc<Batch>, usize)> {
        if self.in_hand.as_ref()?.connection != id || self.is_secured(id) {
            return None;
        }
        self.table.get(id).filter(|peer| !peer.connection.is_closed())?;
        self.in_hand.take().map(|in_hand| (in_hand.batch, in_hand.sent))
    }

    /// The caller has a copy of the `n` bytes that come next and gives them to the transport
    /// later, before anything else of this connection: tells [`Shard::replied`] how much
    /// that took, and if not all, [`Shard::give_back`] the rest.
    // Else it would be 2 % of the instructions for a delivery to call it from `sent`.
    #[inline(always)]
    pub fn lend(&mut self, id: ConnectionId, n: usize) {
        if self.is_secured(id) {
            // What it stands for was counted when it was encrypted.
            if let Some(peer) = self.table.get_mut(id) {
                peer.connection.sent_ciphertext(n, &mut self.outbound_pool);
            }
            return;
        }
        if let Some(in_hand) = self.in_hand.as_mut().filter(|in_hand| in_hand.connection == id) {
            in_hand.take(n);
            if in_hand.rest().is_empty() {
                self.in_hand = None;
            }
            return;
        }
        let Some(peer) = self.table.get_mut(id) else { return };
        let before = peer.connection.queue_bytes();
        peer.connection.sent(n, &mut self.outbound_pool);
        self.left_queue(id, before);
    }

    /// Of a queue that had so many bytes, some have left, for the transport or to be
    /// encrypted.
    pub(super) fn left_queue(&mut self, id: ConnectionId, before: usize) {
        let Some(peer) = self.table.get_mut(id) else { return };
        // A pong that was held may have joined the queue. One store, so that nobody reads
        // what is between two.
        self.stats.queue_bytes.add((peer.connection.queue_bytes() as u64).wrapping_sub(before as u64));
        if peer.has_unread() {
            self.list_unread(id);
        } else if peer.read_pending && !peer.publisher_paused && peer.connection.wants_read(&self.settings.queue) {
            peer.read_pending = false;
            self.resumed.push_back(id);
        }
    }

    /// The transport took `n` bytes that the caller had: of the replies that
    /// [`Shard::receive`] returned, or of what was lent.
    pub fn replied(&mut self, n: usize) {
        self.stats.bytes_out.add(n as u64);
    }

    /// Queues the rest of such replies, before all that is queued. What the transport takes
    /// no more of at the moment is for [`Shard::blocked`] to say first.
    pub fn keep_replies(&mut self, id: ConnectionId, rest: &[u8]) {
        self.with_queue_counted(id, |connection, pool| connection.keep_replies(rest, pool));
        self.mark_dirty(id);
    }

    /// Takes back what was lent and has not left: it comes before all that is queued. What
    /// the transport takes no more of at the moment is for [`Shard::blocked`] to say first.
    pub fn give_back(&mut self, id: ConnectionId, bytes: &[u8]) {
        if self.table.get(id).is_none_or(|peer| peer.connection.is_closed()) {
            return;
        }
        if !self.is_secured(id) {
            return self.keep_replies(id, bytes);
        }
        if let Some(peer) = self.table.get_mut(id) {
            peer.connection.give_back_ciphertext(bytes, &mut self.outbound_pool);
            self.mark_dirty(id);
        }
    }

    /// The same with a batch of which the transport took the bytes before `start`.
    pub fn give_back_batch(&mut self, id: ConnectionId, batch: Rc<Batch>, start: usize) {
        if self.table.get(id).is_some_and(|peer| !peer.connection.is_closed()) {
            self.with_queue_counted(id, |connection, pool| connection.give_back_batch(batch, start, pool));
            self.mark_dirty(id);
        }
    }

    /// Takes back a batch that was lent and has left.
    pub fn put_batch(&mut self, batch: Rc<Batch>) {
        self.hub.put_batch(batch);
    }

    /// Whether published bytes wait for a connection: it is behind.
    pub fn is_behind(&self, id: ConnectionId) -> bool {
        self.table.get(id).is_some_and(|peer| peer.connection.published_bytes() > 0)
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

    /// Puts a connection on its flush list unless it is on one or its transport is full.
    /// What is over is flushed in any case: its transport is closed then.
    pub(super) fn mark_dirty(&mut self, id: ConnectionId) {
        let Some(peer) = self.table.get_mut(id) else { return };
        let connection = &mut peer.connection;
        if !connection.dirty && (!connection.blocked || connection.is_closed()) {
            connection.dirty = true;
            let list = if connection.is_ending() { &mut self.dirty_ending } else { &mut self.dirty };
            list.push_back(id);
        }
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
