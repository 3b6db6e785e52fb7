//! What peers say on open connections, and where it goes.

use std::ops::Range;

use super::Shard;
use crate::command::Origin;
use crate::connection::{Connection, OutboundPool};
use crate::dialect::Action;
use crate::hub::{Ordered, TopicIndex};
use crate::id::ConnectionId;
use crate::proto::Role;
use crate::proto::close::CloseCode;
use crate::proto::error::ProtocolError;
use crate::proto::frame::MessageKind;
use crate::proto::in_place::InPlaceReplies;
use crate::proto::message::{Compressible, Event, ReaderRules};
use crate::stats::{CloseReason, ShardStats};
use crate::time::Time;

/// A message that was put together from pieces and has at least so many bytes becomes
/// its own reply, instead of being copied.
const REPLY_BY_MOVE_BYTES_MIN: usize = 4 * 1024;

impl Shard {
    /// Reads frames until the input is used up or the connection listens no more. What is
    /// to be sent before all else lies in the input then, as the range that is returned.
    pub(super) fn receive_frames(&mut self, id: ConnectionId, input: &mut [u8], now: Time) -> Range<usize> {
        let mut replies = InPlaceReplies::default();
        let Some(peer) = self.table.get_mut(id) else { return replies.into_range() };
        let Some(dialect) = peer.session.dialect else { return replies.into_range() };
        let message_bytes_max = self.settings.routes.message_bytes_max(dialect);
        let compressible = peer.compression.as_ref().map_or(Compressible::Nothing, |_| self.compression.compressible());
        let rules = ReaderRules {
            role: Role::Server,
            message_bytes_max,
            frame_bytes_max: self.settings.frame_bytes_max,
            fragments_max: self.settings.fragments_max,
            compressible,
        };
        let mut reader = peer.connection.take_reader();
        let held_before = reader.held_bytes();
        let mut inflated = self.compression.take_buffer();
        let input_len = input.len();
        let mut used = 0;
        let mut changed = false;
        if dialect.echoes() && reader.is_at_message() && peer.compression.is_none() && peer.connection.takes_directly()
        {
            used = self.echo_short(id, input, &rules, &mut replies, now);
        }
        let mut inflated_bytes = 0;
        while let Some(peer) = self.table.get_mut(id).filter(|peer| peer.connection.reads_frames()) {
            if peer.pauses_reading(inflated_bytes, &self.settings.queue) && used < input_len {
                self.stats.reading_pauses.add(u64::from(peer.connection.pauses_for_replies(&self.settings.queue)));
                self.keep_unread(id, &input[used..]);
                break;
            }
            let connection = &mut peer.connection;
            let before = connection.queue_bytes();
            let mut rest = &mut input[used..];
            let event = reader.next(&mut rest, &rules, &mut self.assembly_pool);
            let left = rest.len();
            used = input_len - left;
            let event = match (event, &mut peer.compression) {
                (Ok(Some(Event::Compressed { opcode, payload })), Some(compressed)) => {
                    let agreed = &mut compressed.agreed;
                    let result = self.compression.inflate(agreed, opcode, payload, message_bytes_max, &mut inflated);
                    inflated_bytes += inflated.len();
                    result.and_then(|()| Event::of(opcode, &inflated).map(Some))
                }
                (other, _) => other,
            };
            match event {
                Ok(Some(Event::Message { kind, payload, in_place })) => {
                    self.stats.messages_in.add(1);
                    if !connection.is_open() {
                        continue;
                    }
                    connection.spoke(now);
                    let action = dialect.receive(kind, payload);
                    match action {
                        Action::Echo if in_place && peer.compression.is_none() && connection.takes_directly() => {
                            let payload = used - payload.len()..used;
                            replies.append(input, kind, payload);
                            self.stats.messages_out.add(1);
                            continue;
                        }
                        // Neither in the input nor in what was inflated.
                        Action::Echo
                            if !in_place && peer.compression.is_none() && payload.len() >= REPLY_BY_MOVE_BYTES_MIN =>
                        {
                            let len = payload.len();
                            let message = reader.exchange_message(self.outbound_pool.take_buffer(len));
                            connection.reply_with(kind, message, &mut self.outbound_pool);
                        }
                        Action::Echo | Action::Reply(..) => {
                            let (kind, payload) = match action {
                                Action::Reply(kind, payload) => (kind, payload),
                                _ => (kind, payload),
                            };
                            let compressed = match &mut peer.compression {
                                Some(compressed) => self.compression.deflate(&mut compressed.agreed, payload),
                                None => None,
                            };
                            reply(connection, kind, payload, compressed, &mut self.outbound_pool, &self.stats);
                        }
                        Action::Publish { kind, payload, to_self } => {
                            self.publish(id, kind, payload, to_self, now);
                            continue;
                        }
                        Action::Close(code, words) => {
                            self.close(id, code, words, CloseReason::PolicyViolation, now);
                            continue;
                        }
                    }
                    self.stats.messages_out.add(1);
                }
                Ok(Some(Event::Ping(payload))) => {
                    let skipped = connection.pong(payload, &self.settings.queue, &mut self.outbound_pool);
                    self.stats.pings_skipped.add(u64::from(skipped));
                }
                Ok(Some(Event::Pong(_))) => continue,
                Ok(Some(Event::Compressed { .. })) => unreachable!("the reader refuses what was not agreed on"),
                Ok(Some(Event::Close(frame))) => {
                    connection.peer_closes(frame, now, &mut self.outbound_pool);
                    changed = true;
                }
                Ok(None) => break,
                Err(error) => {
                    self.fail(id, &error, now);
                    break;
                }
            }
            self.stats.queue_bytes.add((connection.queue_bytes() - before) as u64);
            self.mark_dirty(id);
        }
        self.compression.put_buffer(inflated);
        if compressible != Compressible::Nothing {
            self.count_compression();
        }
        let mut held = reader.held_bytes();
        match self.table.get_mut(id) {
            Some(peer) => peer.connection.put_reader(reader),
            None => {
                held = 0;
                reader.release(&mut self.assembly_pool);
            }
        }
        self.stats.assembly_memory_bytes.add((held as u64).wrapping_sub(held_before as u64));
        if changed {
            self.settle(id);
        }
        if !replies.is_empty() && self.table.get(id).is_some_and(|peer| peer.connection.queue_bytes() > 0) {
            // They leave with what was queued after them, in one send.
            self.keep_replies(id, &input[replies.into_range()]);
            return 0..0;
        }
        replies.into_range()
    }

    /// Answers the short messages that a read begins with, where they lie. Returns the
    /// bytes used.
    fn echo_short(
        &mut self,
        id: ConnectionId,
        input: &mut [u8],
        rules: &ReaderRules,
        replies: &mut InPlaceReplies,
        now: Time,
    ) -> usize {
        let echoed = replies.echo_short(input, 0, rules);
        let Some(peer) = self.table.get_mut(id) else { return echoed.end };
        if echoed.messages > 0 {
            peer.connection.spoke(now);
            self.stats.messages_in.add(echoed.messages);
            self.stats.messages_out.add(echoed.messages);
        }
        if let Some(error) = echoed.error {
            self.fail(id, &error, now);
        }
        echoed.end
    }

    /// The peer broke the protocol.
    fn fail(&mut self, id: ConnectionId, error: &ProtocolError, now: Time) {
        let Some(peer) = self.table.get_mut(id) else { return };
        tracing::debug!(%error, client = ?peer.client.address, "connection failed");
        self.with_queue_counted(id, |connection, pool| connection.fail(error, now, pool));
        self.settle(id);
    }

    /// Publishes a peer's message to its topic.
    fn publish(&mut self, id: ConnectionId, kind: MessageKind, payload: &[u8], to_self: bool, now: Time) {
        let Some(topic) = self.table.get(id).and_then(|peer| peer.session.topic) else { return };
        let shard = self.settings.hub.shard;
        let origin = (!to_self).then_some(Origin { shard, connection: id });
        match self.hub.publish(topic, kind, payload, origin, &mut self.outbox) {
            Ordered::Here(_) => {
                self.stats.published.add(1);
                self.deliver(topic, kind, payload, origin, now);
            }
            Ordered::Forwarded => {}
        }
        if self.publishing_paused
            && let Some(peer) = self.table.get_mut(id)
            && !peer.publisher_paused
        {
            peer.publisher_paused = true;
            self.paused_publishers.push(id);
            self.stats.publisher_pauses.add(1);
        }
    }

    /// Appends a message for all local subscribers; they get it at the flush.
    pub(super) fn deliver(
        &mut self,
        topic: TopicIndex,
        kind: MessageKind,
        payload: &[u8],
        origin: Option<Origin>,
        now: Time,
    ) {
        let left_out = origin.filter(|origin| origin.shard == self.settings.hub.shard).map(|origin| origin.connection);
        self.hub.append(topic, kind, payload, left_out, &mut self.compression, now);
        self.count_compression();
    }

    pub(super) fn close_slow_consumer(&mut self, id: ConnectionId, reason: CloseReason, now: Time) {
        self.with_queue_counted(id, |connection, pool| connection.close_slow_consumer(reason, now, pool));
        self.settle(id);
    }

    /// Begins the closing handshake with one peer. What was published to it before leaves
    /// before the Close.
    pub(super) fn close(&mut self, id: ConnectionId, code: CloseCode, words: &str, reason: CloseReason, now: Time) {
        let Some(peer) = self.table.get_mut(id) else { return };
        if let Some(subscription) = peer.session.subscription.take() {
            let mut rest = Vec::new();
            self.hub.unsubscribe_with_rest(subscription, &mut rest);
            if rest.iter().any(|delivery| self.queue_batch(delivery).is_err()) {
                self.close_slow_consumer(id, CloseReason::SlowConsumer, now);
                return;
            }
        }
        self.with_queue_counted(id, |connection, pool| connection.close(code, words, reason, now, pool));
        self.settle(id);
    }

    /// Reading of a connection goes on if it had stopped.
    pub(super) fn resume_reading(&mut self, id: ConnectionId) {
        if let Some(peer) = self.table.get_mut(id)
            && peer.read_pending
        {
            peer.read_pending = false;
            self.resumed.push_back(id);
        }
    }

    /// Whether publishers' reading is to pause, since a mailbox somewhere is over its
    /// bound. What they have sent already is still accepted.
    pub fn pause_publishing(&mut self, pause: bool) {
        self.publishing_paused = pause;
        if pause {
            return;
        }
        for id in std::mem::take(&mut self.paused_publishers) {
            if let Some(peer) = self.table.get_mut(id) {
                peer.publisher_paused = false;
            }
            self.resume_reading(id);
        }
    }

    /// Whether publishers wait for [`Shard::pause_publishing`] to be called with `false`.
    pub fn has_paused_publishers(&self) -> bool {
        !self.paused_publishers.is_empty()
    }
}

/// Queues a reply, in its compressed form if there is one.
fn reply(
    connection: &mut Connection,
    kind: MessageKind,
    payload: &[u8],
    compressed: Option<&[u8]>,
    pool: &mut OutboundPool,
    stats: &ShardStats,
) {
    match compressed {
        Some(compressed) => {
            connection.reply_compressed(kind, compressed, pool);
            stats.saved_bytes_out.add(payload.len().saturating_sub(compressed.len()) as u64);
        }
        None => connection.reply(kind, payload, pool),
    }
}
