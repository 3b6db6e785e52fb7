//! Which connection has which topic, on both sides of a shard boundary.

use super::log::Variant;
use super::topic::{Interest, Member, Place};
use super::{Hub, Outbox, TopicIndex};
use crate::command::{Address, Envelope, TopicName};
use crate::id::{ConnectionId, ShardId, TopicId};

/// A subscription of one connection to one topic.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SubscriptionId(pub(super) u32);

/// What a subscribe call led to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Subscribed {
    /// Every message ordered from now on will be delivered.
    Confirmed(SubscriptionId),
    /// The owner, another shard, was asked, or frames that were ordered earlier are on
    /// their way: [`Hub::next_confirmed`] will name it.
    Waiting(SubscriptionId),
}

/// Position of a subscription that is not yet among its topic's members.
const WAITING: u32 = u32::MAX;

pub(super) struct Subscription {
    connection: ConnectionId,
    topic: TopicIndex,
    variant: Variant,
    /// Index in the topic's members, or [`WAITING`].
    position: u32,
}

impl Hub {
    /// Subscribes a connection to a topic that it has opened.
    pub fn subscribe(
        &mut self,
        topic: TopicIndex,
        connection: ConnectionId,
        variant: Variant,
        out: &mut Outbox,
    ) -> Subscribed {
        let entry = self.subscriptions.insert(Subscription { connection, topic, variant, position: WAITING });
        let id = SubscriptionId(entry as u32);
        let from = self.settings.shard;
        let request = self.requests.wrapping_add(1);
        let place = self.id_of(topic);
        let state = self.topic_mut(topic);
        match &mut state.place {
            Place::Owned { .. } | Place::Remote { interest: Interest::Acknowledged, .. } => {
                match state.log.as_mut().filter(|log| log.is_open()) {
                    Some(log) => {
                        log.joining.push(id.0);
                        Subscribed::Waiting(id)
                    }
                    None => {
                        self.enter(id);
                        Subscribed::Confirmed(id)
                    }
                }
            }
            Place::Remote { owner, sequence, interest, waiting, .. } => {
                waiting.push(id.0);
                if *interest == Interest::None {
                    *interest = Interest::Asked;
                    *sequence = request;
                    let ask = Envelope::Interest { topic: state.name.clone(), from, place, sequence: request };
                    out.push_back((Address::Shard(*owner), ask));
                    self.requests = request;
                }
                Subscribed::Waiting(id)
            }
        }
    }

    /// Ends a subscription; nothing is delivered to it after this call.
    pub fn unsubscribe(&mut self, id: SubscriptionId) {
        let subscription = self.subscriptions.remove(id.0 as usize);
        if subscription.position == WAITING {
            return;
        }
        let topic = &mut self.topics[subscription.topic.0 as usize];
        topic.members_deflate -= u32::from(subscription.variant == Variant::Deflate);
        let (position, len) = (subscription.position as usize, topic.members.len());
        let members = &mut topic.members;
        let mut swap = |hole: usize, filler: usize| {
            members.swap(hole, filler);
            self.subscriptions[members[hole].subscription as usize].position = hole as u32;
        };
        match &mut topic.log {
            Some(log) => log.close_gap(position, len, swap),
            None if position + 1 < len => swap(position, len - 1),
            None => {}
        }
        members.pop();
        // The vector of a topic that was large once must not stay large.
        if members.capacity() > 64 && members.len() < members.capacity() / 4 {
            members.shrink_to(members.len() * 2);
        }
    }

    /// Confirmed local subscribers.
    pub fn members(&self, topic: TopicIndex) -> &[Member] {
        &self.topic(topic).members
    }

    /// Owner: another shard has its first subscriber of the topic that it calls `its_place`.
    pub fn interest(&mut self, name: &TopicName, from: ShardId, its_place: TopicId, sequence: u32, out: &mut Outbox) {
        let Ok(index) = self.open_topic(name) else {
            let refusal = Envelope::InterestRefused { topic: name.clone(), sequence };
            out.push_back((Address::Shard(from), refusal));
            return;
        };
        let place = self.id_of(index);
        let topic = self.topic_mut(index);
        if let Place::Owned { interested, .. } = &mut topic.place {
            interested.retain(|(shard, _)| *shard != from);
            interested.push((from, its_place));
            let answer = Envelope::InterestAcknowledged { topic: topic.name.clone(), place, sequence };
            out.push_back((Address::Shard(from), answer));
        }
        self.close_topic(index, out);
    }

    /// Owner: another shard has lost its last subscriber.
    pub fn disinterest(&mut self, name: &str, from: ShardId, out: &mut Outbox) {
        let Some(index) = self.find(name) else { return };
        if let Place::Owned { interested, .. } = &mut self.topic_mut(index).place {
            interested.retain(|(shard, _)| *shard != from);
        }
        self.retire_if_unused(index, out);
    }

    /// The owner has acknowledged our interest: those that waited are subscribed now, or
    /// when the frames that are on their way have left. [`Hub::next_confirmed`] names them.
    pub fn acknowledge(&mut self, name: &str, owners_place: TopicId, sequence: u32) {
        let waited = self.answer_interest(name, sequence, Some(owners_place));
        let Some(index) = self.find(name) else { return };
        match self.topic_mut(index).log.as_mut().filter(|log| log.is_open()) {
            Some(log) => log.joining.extend(waited),
            None => waited.into_iter().for_each(|entry| self.join(SubscriptionId(entry))),
        }
    }

    /// A connection whose subscription was confirmed while it waited.
    pub fn next_confirmed(&mut self) -> Option<ConnectionId> {
        self.confirmed.pop_front()
    }

    /// The owner has no room for the topic: the connections that waited are appended to
    /// `refused`; their subscriptions are still to be ended.
    pub fn refuse(&mut self, name: &str, sequence: u32, refused: &mut Vec<ConnectionId>) {
        for entry in self.answer_interest(name, sequence, None) {
            refused.push(self.subscriptions[entry as usize].connection);
        }
    }

    /// The subscriptions that waited for this answer; none if it answers an older
    /// request than the last.
    fn answer_interest(&mut self, name: &str, sequence: u32, owners_place: Option<TopicId>) -> Vec<u32> {
        let Some(index) = self.find(name) else { return Vec::new() };
        let Place::Remote { sequence: current, interest, waiting, place, .. } = &mut self.topic_mut(index).place else {
            return Vec::new();
        };
        if *current != sequence || *interest != Interest::Asked {
            return Vec::new();
        }
        *interest = if owners_place.is_some() { Interest::Acknowledged } else { Interest::None };
        *place = owners_place;
        let mut waiting = std::mem::take(waiting);
        self.keep_waiting(index, &mut waiting);
        waiting
    }

    /// Drops entries of subscriptions that ended meanwhile. Their place in the slab may
    /// have a new tenant, even one that waits for the same topic: it is named once.
    pub(super) fn keep_waiting(&self, topic: TopicIndex, entries: &mut Vec<u32>) {
        entries.sort_unstable();
        entries.dedup();
        entries.retain(|entry| {
            self.subscriptions.get(*entry as usize).is_some_and(|s| s.topic == topic && s.position == WAITING)
        });
    }

    /// A subscription that waited becomes a member.
    pub(super) fn join(&mut self, id: SubscriptionId) {
        self.enter(id);
        self.confirmed.push_back(self.subscriptions[id.0 as usize].connection);
    }

    /// Topic and position of a member; nothing while it waits.
    pub(super) fn place_of(&self, id: SubscriptionId) -> Option<(TopicIndex, usize)> {
        let subscription = &self.subscriptions[id.0 as usize];
        (subscription.position != WAITING).then_some((subscription.topic, subscription.position as usize))
    }

    fn enter(&mut self, id: SubscriptionId) {
        let subscription = &mut self.subscriptions[id.0 as usize];
        let topic = &mut self.topics[subscription.topic.0 as usize];
        topic.members_deflate += u32::from(subscription.variant == Variant::Deflate);
        let members = &mut topic.members;
        subscription.position = members.len() as u32;
        if members.is_empty() {
            // Many topics have one subscriber and never another.
            members.reserve_exact(1);
        }
        let Subscription { connection, variant, .. } = *subscription;
        members.push(Member { connection, subscription: id.0, variant });
    }
}
