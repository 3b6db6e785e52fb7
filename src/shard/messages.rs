//! What peers say on open connections, and where it goes.

use super::{Shard, mark_dirty};
use crate::command::Origin;
use crate::dialect::Action;
use crate::hub::{Ordered, TopicIndex};
use crate::id::ConnectionId;
use crate::proto::Role;
use crate::proto::close::CloseCode;
use crate::proto::frame::MessageKind;
use crate::proto::message::{Compressible, Event, ReaderRules};
use crate::stats::CloseReason;
use crate::time::Time;

impl Shard {
    /// Reads frames until the input is used up or the connection listens no more.
    pub(super) fn receive_frames(&mut self, id: ConnectionId, input: &mut &mut [u8], now: Time) {
        let Some(peer) = self.table.get_mut(id) else { return };
        let Some(dialect) = peer.session.dialect else { return };
        let message_bytes_max = self.settings.routes.message_bytes_max(dialect);
        let compressible = peer.compression.as_ref().map_or(Compressible::Nothing, |_| self.compression.compressible());
        let rules = ReaderRules { role: Role::Server, message_bytes_max, compressible };
        let mut reader = peer.connection.take_reader();
        let mut inflated = self.compression.take_buffer();
        let mut input = std::mem::take(input);
        let mut changed = false;
        while let Some(peer) = self.table.get_mut(id).filter(|peer| peer.connection.reads_frames()) {
            let connection = &mut peer.connection;
            let before = connection.queue_bytes();
            let event = match (reader.next(&mut input, &rules, &mut self.assembly_pool), &mut peer.compression) {
                (Ok(Some(Event::Compressed { opcode, payload })), Some(compression)) => self
                    .compression
                    .inflate(compression, opcode, payload, message_bytes_max, &mut inflated)
                    .and_then(|()| Event::of(opcode, &inflated).map(Some)),
                (other, _) => other,
            };
            match event {
                Ok(Some(Event::Message { kind, payload })) => {
                    self.stats.messages_in.add(1);
                    if !connection.is_open() {
                        continue;
                    }
                    match dialect.receive(kind, payload) {
                        Action::Reply(kind, payload) => {
                            let compressed = match &mut peer.compression {
                                Some(compression) => self.compression.deflate(compression, payload),
                                None => None,
                            };
                            match compressed {
                                Some(compressed) => {
                                    let saved = payload.len().saturating_sub(compressed.len());
                                    connection.reply_compressed(kind, compressed, &mut self.outbound_pool);
                                    self.stats.saved_bytes_out.add(saved as u64);
                                }
                                None => connection.reply(kind, payload, &mut self.outbound_pool),
                            }
                            self.stats.messages_out.add(1);
                            self.stats.queue_bytes.add((connection.queue_bytes() - before) as u64);
                            mark_dirty(&mut self.dirty, connection, id);
                        }
                        Action::Publish { kind, payload, to_self } => self.publish(id, kind, payload, to_self),
                        Action::Close(code, words) => self.close(id, code, words, CloseReason::PolicyViolation, now),
                    }
                    continue;
                }
                Ok(Some(Event::Ping(payload))) => connection.pong(payload, &mut self.outbound_pool),
                Ok(Some(Event::Pong(_))) => continue,
                Ok(Some(Event::Compressed { .. })) => unreachable!("the reader refuses what was not agreed on"),
                Ok(Some(Event::Close(frame))) => {
                    connection.peer_closes(frame, now, &mut self.outbound_pool);
                    changed = true;
                }
                Ok(None) => break,
                Err(error) => {
                    tracing::debug!(%error, "connection failed");
                    connection.fail(&error, now, &mut self.outbound_pool);
                    changed = true;
                }
            }
            self.stats.queue_bytes.add((connection.queue_bytes() - before) as u64);
            mark_dirty(&mut self.dirty, connection, id);
        }
        self.compression.put_buffer(inflated);
        if compressible != Compressible::Nothing {
            self.count_compression();
        }
        match self.table.get_mut(id) {
            Some(peer) => peer.connection.put_reader(reader),
            None => reader.release(&mut self.assembly_pool),
        }
        if changed {
            self.settle(id);
        }
    }

    /// Publishes a peer's message to its topic.
    fn publish(&mut self, id: ConnectionId, kind: MessageKind, payload: &[u8], to_self: bool) {
        let Some(topic) = self.table.get(id).and_then(|peer| peer.session.topic) else { return };
        let shard = self.settings.hub.shard;
        let origin = (!to_self).then_some(Origin { shard, connection: id });
        match self.hub.publish(topic, kind, payload, origin, &mut self.outbox) {
            Ordered::Here(_) => {
                self.stats.published.add(1);
                self.deliver(topic, kind, payload, origin);
            }
            Ordered::Forwarded => {}
        }
        if self.publishing_paused
            && let Some(peer) = self.table.get_mut(id)
            && !peer.publisher_paused
        {
            peer.publisher_paused = true;
            self.paused_publishers.push(id);
        }
    }

    /// Appends a message for all local subscribers; they get it at the flush.
    pub(super) fn deliver(&mut self, topic: TopicIndex, kind: MessageKind, payload: &[u8], origin: Option<Origin>) {
        let left_out = origin.filter(|origin| origin.shard == self.settings.hub.shard).map(|origin| origin.connection);
        self.hub.append(topic, kind, payload, left_out, &mut self.compression);
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
