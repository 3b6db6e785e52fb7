//! The delivery log of a topic: encoded frames on their way to the members.
//!
//! Within a turn, published frames are appended to the topic's open batch: one copy,
//! whatever the number of subscribers. At the flush the batch is sealed and handed to
//! one member after the other. A member that takes it whole, as almost all do, leaves
//! no trace; one that does not keeps a reference to it in its own queue.
//!
//! Members that negotiated compression get a batch of their own, the same messages in the
//! same order, each compressed once. The batches of a topic are opened, sealed and handed
//! out together, so that a member's place in the order does not depend on which it gets.
//!
//! A large topic is flushed in slices over several turns. What is published meanwhile
//! waits in the next batch; the members that joined after a batch was sealed are beyond
//! its `end` and do not get it. If more is published than can be flushed, that grows:
//! [`Hub::log_bytes`] says by how much, and publishers are paused for it.

use std::collections::VecDeque;
use std::rc::Rc;

use super::topic::Member;
use super::{Hub, SubscriptionId, TopicIndex};
use crate::buffer::{Batch, BatchPool};
use crate::id::ConnectionId;
use crate::policy::SlowConsumerPolicy;
use crate::proto::compression::CompressionPool;
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

/// In which form a member gets what is published.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Variant {
    /// As it is.
    Plain,
    /// Compressed, each message alone, with a window of 15 bits.
    Deflate,
}

impl Variant {
    const COUNT: usize = 2;
}

/// The same messages in each form that a member gets them in.
#[derive(Default)]
struct Batches([Option<Rc<Batch>>; Variant::COUNT]);

impl Batches {
    fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    /// Bytes of the longest.
    fn len(&self) -> usize {
        self.0.iter().flatten().map(|batch| batch.as_bytes().len()).max().unwrap_or_default()
    }

    /// Bytes of all of them.
    fn bytes(&self) -> usize {
        self.0.iter().flatten().map(|batch| batch.as_bytes().len()).sum()
    }

    /// Messages in each of them.
    fn messages(&self) -> u32 {
        self.0.iter().flatten().map(|batch| batch.messages()).max().unwrap_or_default()
    }

    /// The one that is written; nobody else has it.
    fn open(&mut self, variant: Variant, pool: &mut BatchPool) -> &mut Batch {
        let batch = self.0[variant as usize].get_or_insert_with(|| pool.take());
        Rc::get_mut(batch).unwrap_or_else(|| panic!("an open batch is not shared"))
    }

    fn seal(&mut self) {
        self.0.iter_mut().flatten().filter_map(Rc::get_mut).for_each(Batch::seal);
    }

    /// There is one: a member is there before the first of its messages, or joins behind
    /// the last.
    fn of(&self, variant: Variant) -> Rc<Batch> {
        self.0[variant as usize].clone().unwrap_or_else(|| panic!("no {variant:?} batch was written for a member"))
    }
}

/// See the module. A topic has one only while something is on its way.
#[derive(Default)]
pub(super) struct DeliveryLog {
    /// Frames of this turn.
    open: Batches,
    /// When the first of them was taken in.
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
    batches: Batches,
    /// Members before this position get it.
    end: usize,
    /// When its first frame was taken in; taken when the last member gets the batch.
    since: Option<Time>,
}

impl Sealed {
    fn flushed(&mut self) -> Option<Flushed> {
        self.since.take().map(|since| Flushed { since, messages: self.batches.messages() })
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
    /// Bytes of frames that not all members have been given.
    pub(super) fn bytes(&self) -> usize {
        self.open.bytes() + self.sealed.iter().map(|sealed| sealed.batches.bytes()).sum::<usize>()
    }

    /// Whether a member that joined now would get frames that were ordered before it.
    pub(super) fn is_open(&self) -> bool {
        !self.open.is_empty()
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
        compression: &mut CompressionPool,
        now: Time,
    ) {
        let topic = &mut self.topics[index.0 as usize];
        if topic.members.is_empty() {
            return;
        }
        let log = topic.log.get_or_insert_with(|| self.free_logs.pop().unwrap_or_default());
        if log.open.is_empty() {
            log.open_since = now;
        }
        let before = log.open.bytes();
        if topic.members_deflate < topic.members.len() as u32 {
            log.open.open(Variant::Plain, &mut self.batches).append(kind.opcode(), payload, except);
        }
        if topic.members_deflate > 0 {
            let batch = log.open.open(Variant::Deflate, &mut self.batches);
            match compression.deflate_shared(payload) {
                Some(compressed) => batch.append_compressed(kind.opcode(), compressed, payload.len(), except),
                None => batch.append(kind.opcode(), payload, except),
            }
        }
        self.log_bytes += log.open.bytes() - before;
        if log.open.len() >= BATCH_BYTES_MAX {
            self.seal(index);
        }
        self.list(index);
    }

    /// Bytes of frames in the logs of all topics: published, and not yet given to the last
    /// member. Grows without a bound of its own; whoever publishes is to pause for it.
    pub fn log_bytes(&self) -> usize {
        self.log_bytes
    }

    /// Takes a batch back from somebody who has kept it, perhaps for longer than the log.
    pub fn put_batch(&mut self, batch: Rc<Batch>) {
        self.batches.put(batch);
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
            if log.is_open() {
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
                let (connection, batch) = (member.connection, first.batches.of(member.variant));
                return Some(Delivery { connection, batch, policy: topic.policy });
            }
            log.next = 0;
            if let Some(mut done) = log.sealed.pop_front() {
                // Not counted yet if the last member has left before its turn came.
                self.flushed.extend(done.flushed());
                self.log_bytes -= done.batches.bytes();
                done.batches.0.into_iter().flatten().for_each(|batch| self.batches.put(batch));
            }
        }
        None
    }

    /// Ends a subscription; what it would still get from its topic, in order, is
    /// appended to `rest`.
    pub fn unsubscribe_with_rest(&mut self, id: SubscriptionId, rest: &mut Vec<Delivery>) {
        if let Some((index, position)) = self.place_of(id) {
            self.seal(index);
            let Member { connection, variant, .. } = self.topic(index).members[position];
            let policy = self.topic(index).policy;
            if let Some(log) = &self.topic(index).log {
                for (n, sealed) in log.sealed.iter().enumerate() {
                    let had_it = n == 0 && position < log.next;
                    if position < sealed.end && !had_it {
                        rest.push(Delivery { connection, batch: sealed.batches.of(variant), policy });
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
        if !log.is_open() {
            return;
        }
        let mut batches = std::mem::take(&mut log.open);
        batches.seal();
        log.sealed.push_back(Sealed { batches, end: topic.members.len(), since: Some(log.open_since) });
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
