//! The delivery log of a topic: encoded frames on their way to the members.
//!
//! Within a turn, published frames are appended to the topic's open batch: one copy,
//! whatever the number of subscribers. At the flush the batch is sealed and handed to
//! one member after the other. A member that takes it whole, as almost all do, leaves
//! no trace; one that does not keeps a reference to it in its own queue.
//!
//! A large topic is flushed in slices over several turns. What is published meanwhile
//! waits in the next batch; the members that joined after a batch was sealed are beyond
//! its `end` and do not get it.

use std::collections::VecDeque;
use std::rc::Rc;

use super::{Hub, SubscriptionId, TopicIndex};
use crate::buffer::Batch;
use crate::id::ConnectionId;
use crate::policy::SlowConsumerPolicy;
use crate::proto::frame::MessageKind;
use crate::time::Time;

/// A batch of this many bytes is sealed before the turn ends, so that its memory can be
/// used again.
const BATCH_BYTES_MAX: usize = 1024 * 1024;
/// Members of a topic that get its batch before the next topic has its turn: a large topic
/// does not hold up a small one.
const MEMBERS_PER_TURN: u32 = 32;
/// Free logs kept by a hub.
const LOGS_KEEP_MAX: usize = 1024;

/// See the module. A topic has one only while something is on its way.
#[derive(Default)]
pub(super) struct DeliveryLog {
    /// Frames of this turn; nobody else has it.
    open: Option<Rc<Batch>>,
    /// When the first frame of the open batch was taken in.
    open_since: Time,
    /// Batches being flushed, the oldest first.
    sealed: VecDeque<Sealed>,
    /// The next member to get the first sealed batch.
    next: usize,
    /// Subscriptions that join when the open batch is sealed: what it holds was ordered
    /// before them.
    pub(super) joining: Vec<u32>,
    /// The topic is in the hub's list of topics to flush.
    listed: bool,
}

struct Sealed {
    batch: Rc<Batch>,
    /// Members before this position get it.
    end: usize,
    /// When its first frame was taken in; taken when the last member gets the batch.
    since: Option<Time>,
}

impl Sealed {
    fn flushed(&mut self) -> Option<Flushed> {
        self.since.take().map(|since| Flushed { since, messages: self.batch.messages() })
    }
}

/// A batch that the last member has been given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flushed {
    /// When the first of its messages was taken in.
    pub since: Time,
    /// How many there are.
    pub messages: u32,
}

impl DeliveryLog {
    /// Whether a member that joined now would get frames that were ordered before it.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// A member leaves: fills its place so that every batch still has exactly its
    /// members before its `end`, and those that have the first one already, before
    /// `next`. Calls `swap` for each pair of positions to exchange; the member is the
    /// last one then.
    pub(super) fn close_gap(&mut self, position: usize, len: usize, mut swap: impl FnMut(usize, usize)) {
        let mut gap = position;
        let mut fill = |boundary: &mut usize| {
            if gap < *boundary {
                *boundary -= 1;
                if gap != *boundary {
                    swap(gap, *boundary);
                }
                gap = *boundary;
            }
        };
        fill(&mut self.next);
        for sealed in &mut self.sealed {
            fill(&mut sealed.end);
        }
        fill(&mut { len });
    }
}

/// A batch for one member.
pub struct Delivery {
    /// Who gets it.
    pub connection: ConnectionId,
    /// What; by [`Batch::ranges_for`] unless it is whole for this connection.
    pub batch: Rc<Batch>,
    /// What to do if that is too much for it.
    pub policy: SlowConsumerPolicy,
}

impl Hub {
    /// Appends a message for all members that the topic has now, but `except`.
    pub fn append(
        &mut self,
        index: TopicIndex,
        kind: MessageKind,
        payload: &[u8],
        except: Option<ConnectionId>,
        now: Time,
    ) {
        let topic = &mut self.topics[index.0 as usize];
        if topic.members.is_empty() {
            return;
        }
        let log = topic.log.get_or_insert_with(|| self.free_logs.pop().unwrap_or_default());
        let open = log.open.get_or_insert_with(|| {
            log.open_since = now;
            self.batches.take()
        });
        let Some(batch) = Rc::get_mut(open) else { panic!("an open batch is not shared") };
        batch.append(kind.opcode(), payload, except);
        if batch.as_bytes().len() >= BATCH_BYTES_MAX {
            self.seal(index);
        }
        self.list(index);
    }

    /// Whether [`Hub::next_delivery`] has something to do.
    pub fn has_deliveries(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// The next member to get a batch. Topics take turns of some members each; a topic's
    /// members follow each other. Subscriptions may be confirmed by this, see [`Hub::next_confirmed`].
    pub fn next_delivery(&mut self) -> Option<Delivery> {
        loop {
            if self.turn_left == 0 {
                self.dirty.rotate_left(usize::from(self.dirty.len() > 1));
                self.turn_left = MEMBERS_PER_TURN;
            }
            let index = *self.dirty.front()?;
            if let Some(delivery) = self.next_of_topic(index) {
                self.turn_left -= 1;
                return Some(delivery);
            }
            self.turn_left = MEMBERS_PER_TURN;
            self.dirty.pop_front();
            let Some(topic) = self.topics.get_mut(index.0 as usize) else { continue };
            let Some(log) = &mut topic.log else { continue };
            log.listed = false;
            if log.open.is_some() {
                // Sealed and flushed next time, after the other topics.
                self.list(index);
                continue;
            }
            debug_assert!(log.sealed.is_empty() && log.joining.is_empty());
            if let Some(log) = topic.log.take()
                && self.free_logs.len() < LOGS_KEEP_MAX
            {
                self.free_logs.push(log);
            }
        }
    }

    /// A batch that [`Hub::next_delivery`] has given its last member. The caller takes all
    /// of them at the end of a turn, when transports have been offered what they are to get.
    pub fn next_flushed(&mut self) -> Option<Flushed> {
        self.flushed.pop()
    }

    /// One step of a topic's flush; `None` when a batch has been handed to all.
    fn next_of_topic(&mut self, index: TopicIndex) -> Option<Delivery> {
        if self.topics.get(index.0 as usize)?.log.as_ref()?.sealed.is_empty() {
            self.seal(index);
        }
        let topic = self.topics.get_mut(index.0 as usize)?;
        let log = topic.log.as_mut()?;
        while let Some(first) = log.sealed.front_mut() {
            if log.next < first.end {
                let member = topic.members[log.next];
                log.next += 1;
                if log.next == first.end {
                    self.flushed.extend(first.flushed());
                }
                let (connection, batch) = (member.connection, first.batch.clone());
                return Some(Delivery { connection, batch, policy: topic.policy });
            }
            log.next = 0;
            if let Some(mut done) = log.sealed.pop_front() {
                // Not counted yet if the last member has left before its turn came.
                self.flushed.extend(done.flushed());
                self.batches.put(done.batch);
            }
        }
        None
    }

    /// Ends a subscription; what it would still get from its topic, in order, is
    /// appended to `rest`.
    pub fn unsubscribe_with_rest(&mut self, id: SubscriptionId, rest: &mut Vec<Delivery>) {
        if let Some((index, position)) = self.place_of(id) {
            self.seal(index);
            let connection = self.topic(index).members[position].connection;
            let policy = self.topic(index).policy;
            if let Some(log) = &self.topic(index).log {
                for (n, sealed) in log.sealed.iter().enumerate() {
                    let had_it = n == 0 && position < log.next;
                    if position < sealed.end && !had_it {
                        rest.push(Delivery { connection, batch: sealed.batch.clone(), policy });
                    }
                }
            }
        }
        self.unsubscribe(id);
    }

    /// The open batch gets no more frames and belongs to the members of this moment;
    /// those that waited for that join behind it.
    fn seal(&mut self, index: TopicIndex) {
        self.refresh_policy(index);
        let topic = &mut self.topics[index.0 as usize];
        let Some(log) = &mut topic.log else { return };
        let Some(mut batch) = log.open.take() else { return };
        if let Some(batch) = Rc::get_mut(&mut batch) {
            batch.seal();
        }
        log.sealed.push_back(Sealed { batch, end: topic.members.len(), since: Some(log.open_since) });
        if !log.joining.is_empty() {
            let mut joining = std::mem::take(&mut log.joining);
            self.keep_waiting(index, &mut joining);
            for entry in joining {
                self.join(SubscriptionId(entry));
            }
        }
    }

    pub(super) fn list(&mut self, index: TopicIndex) {
        if let Some(log) = &mut self.topics[index.0 as usize].log
            && !log.listed
        {
            log.listed = true;
            self.dirty.push_back(index);
        }
    }
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
