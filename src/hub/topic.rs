//! The table of topics: made when first used, forgotten when nobody uses them.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use slab::Slab;

use super::log::{DeliveryLog, Variant};
use super::{Hub, Outbox, owner_of_hash};
use crate::command::{Address, Envelope, Position, TopicName, TopicsFull};
use crate::id::{ConnectionId, ShardId, TopicId};
use crate::policy::{SlowConsumerPolicy, TopicPolicies};

/// Stale entries of the idle list that are not worth a sweep.
const IDLE_SLACK: usize = 64;

/// A topic's place in the table of one shard.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TopicIndex(pub(super) u32);

/// A local subscriber of a topic.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    /// The subscriber.
    pub connection: ConnectionId,
    pub(super) subscription: u32,
    pub(super) variant: Variant,
}

/// One topic as one shard sees it.
pub(super) struct Topic {
    pub(super) name: TopicName,
    /// See [`TopicId`].
    pub(super) generation: u32,
    /// Confirmed local subscribers, dense for the walk.
    pub(super) members: Vec<Member>,
    /// Members that get what is published compressed.
    pub(super) members_deflate: u32,
    /// Connections that keep the topic in the table: members, those that wait, and
    /// those that only publish.
    pub(super) users: u32,
    /// What is done with members that read too slowly.
    pub(super) policy: SlowConsumerPolicy,
    /// Which of the hub's policies said so.
    pub(super) policy_edition: u16,
    /// Frames on their way to the members.
    pub(super) log: Option<Box<DeliveryLog>>,
    pub(super) place: Place,
}

/// Where the topic is put in order.
pub(super) enum Place {
    /// Here.
    Owned {
        /// The last message's place.
        position: Position,
        /// Other shards that have subscribers, and what they call the topic.
        interested: Vec<(ShardId, TopicId)>,
        /// Set while nobody uses the topic; the topic's entry in the idle list is the
        /// one with the same stamp.
        idle_stamp: Option<u64>,
    },
    /// On another shard.
    Remote {
        owner: ShardId,
        /// What the owner calls the topic, while it has acknowledged our interest.
        place: Option<TopicId>,
        /// Number of the last request; answers to older ones are void.
        sequence: u32,
        interest: Interest,
        /// Subscriptions that wait for the owner's acknowledgement. May name ones that
        /// are gone.
        waiting: Vec<u32>,
    },
}

/// Whether the owner sends us the topic's messages.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Interest {
    None,
    Asked,
    Acknowledged,
}

fn follow(topic: &mut Topic, policies: &TopicPolicies, edition: u16) {
    topic.policy = policies.of(&topic.name);
    topic.policy_edition = edition;
}

fn idle_stamp(topics: &Slab<Topic>, index: TopicIndex) -> Option<u64> {
    match topics.get(index.0 as usize)?.place {
        Place::Owned { idle_stamp, .. } => idle_stamp,
        Place::Remote { .. } => None,
    }
}

impl Hub {
    /// The topic of that name, made if need be, with one more user. Every call is
    /// paired with one of [`Hub::close_topic`].
    pub fn open_topic(&mut self, name: &str) -> Result<TopicIndex, TopicsFull> {
        let index = self.find_or_make(name)?;
        self.use_topic(index)?;
        Ok(index)
    }

    /// One more user of a topic that is in the table.
    pub(super) fn use_topic(&mut self, index: TopicIndex) -> Result<(), TopicsFull> {
        if idle_stamp(&self.topics, index).is_some() {
            self.begin_use()?;
            self.idle_count -= 1;
        }
        let topic = self.topic_mut(index);
        topic.users += 1;
        if let Place::Owned { idle_stamp, .. } = &mut topic.place {
            *idle_stamp = None;
        }
        Ok(())
    }

    /// Counts one more topic in use, of all that the process owns.
    fn begin_use(&self) -> Result<(), TopicsFull> {
        let limit = self.settings.topics_max;
        let more = |used| (used < limit).then_some(used + 1);
        let counted = self.settings.topics_in_use.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        counted.map(|_| ()).map_err(|_| TopicsFull { limit })
    }

    /// One user less.
    pub fn close_topic(&mut self, index: TopicIndex, out: &mut Outbox) {
        let topic = self.topic_mut(index);
        assert!(topic.users > 0, "a topic is closed once for each time it is opened");
        topic.users -= 1;
        self.retire_if_unused(index, out);
    }

    /// Other policies for slow consumers. Each topic follows with its next message, since
    /// to ask for a million topics now would hold all others up.
    pub fn follow_policies(&mut self, policies: Arc<TopicPolicies>) {
        self.settings.policies = policies;
        self.policies_edition = self.policies_edition.wrapping_add(1);
        if self.policies_edition == 0 {
            // The numbers begin again: no topic may be left with an old one.
            self.topics.iter_mut().for_each(|(_, topic)| follow(topic, &self.settings.policies, 0));
        }
    }

    /// Sees to it that a topic has the policy that is in force.
    pub(super) fn refresh_policy(&mut self, index: TopicIndex) {
        let topic = &mut self.topics[index.0 as usize];
        if topic.policy_edition != self.policies_edition {
            follow(topic, &self.settings.policies, self.policies_edition);
        }
    }

    pub(super) fn topic(&self, index: TopicIndex) -> &Topic {
        &self.topics[index.0 as usize]
    }

    pub(super) fn topic_mut(&mut self, index: TopicIndex) -> &mut Topic {
        &mut self.topics[index.0 as usize]
    }

    /// What other shards are to call a topic of this table.
    pub(super) fn id_of(&self, index: TopicIndex) -> TopicId {
        TopicId { slot: index.0, generation: self.topic(index).generation }
    }

    /// The topic that another shard means, unless it has been forgotten.
    pub fn find_id(&self, id: TopicId) -> Option<TopicIndex> {
        let topic = self.topics.get(id.slot as usize)?;
        (topic.generation == id.generation).then_some(TopicIndex(id.slot))
    }

    pub(super) fn find(&self, name: &str) -> Option<TopicIndex> {
        let hash = self.hasher.hash_one(name);
        self.names.find(hash, |index| &*self.topics[index.0 as usize].name == name).copied()
    }

    pub(super) fn find_or_make(&mut self, name: &str) -> Result<TopicIndex, TopicsFull> {
        if let Some(index) = self.find(name) {
            return Ok(index);
        }
        if self.topics.len() >= self.settings.topics_max {
            self.forget_oldest_idle();
            if self.topics.len() >= self.settings.topics_max {
                return Err(TopicsFull { limit: self.settings.topics_max });
            }
        }
        let hash = self.hasher.hash_one(name);
        let owner = owner_of_hash(hash, self.settings.shards);
        if owner == self.settings.shard {
            self.begin_use()?;
        }
        self.serial += 1;
        let place = if owner == self.settings.shard {
            let epoch = self.settings.epoch_seed.wrapping_add(self.serial);
            let position = Position { epoch, offset: 0 };
            Place::Owned { position, interested: Vec::new(), idle_stamp: None }
        } else {
            Place::Remote { owner, place: None, sequence: 0, interest: Interest::None, waiting: Vec::new() }
        };
        let (policy, policy_edition) = (self.settings.policies.of(name), self.policies_edition);
        self.name_bytes += name.len();
        let topic = Topic {
            name: name.into(),
            generation: self.serial as u32,
            members: Vec::new(),
            members_deflate: 0,
            users: 0,
            policy,
            policy_edition,
            log: None,
            place,
        };
        let index = TopicIndex(self.topics.insert(topic) as u32);
        let (hasher, topics) = (&self.hasher, &self.topics);
        self.names.insert_unique(hash, index, |i| hasher.hash_one(&*topics[i.0 as usize].name));
        Ok(index)
    }

    /// Called whenever a user or an interested shard has left.
    pub(super) fn retire_if_unused(&mut self, index: TopicIndex, out: &mut Outbox) {
        let stamp = self.serial + 1;
        let shard = self.settings.shard;
        let topic = self.topic_mut(index);
        if topic.users > 0 {
            return;
        }
        match &mut topic.place {
            Place::Owned { interested, .. } if !interested.is_empty() => {}
            Place::Owned { idle_stamp: Some(_), .. } => {}
            Place::Owned { idle_stamp, .. } => {
                *idle_stamp = Some(stamp);
                topic.members = Vec::new();
                self.serial = stamp;
                self.settings.topics_in_use.fetch_sub(1, Ordering::Relaxed);
                self.idle.push_back((index, stamp));
                self.idle_count += 1;
                self.drop_stale_idle_entries();
                if self.idle_count > self.settings.topics_idle_max {
                    self.forget_oldest_idle();
                }
            }
            Place::Remote { owner, interest, .. } => {
                if *interest != Interest::None {
                    let leave = Envelope::Disinterest { topic: topic.name.clone(), from: shard };
                    out.push_back((Address::Shard(*owner), leave));
                }
                self.forget(index);
            }
        }
    }

    /// A topic that is used and left again and again leaves an entry each time. They
    /// are swept when they are the greater part, so that each costs a constant.
    fn drop_stale_idle_entries(&mut self) {
        if self.idle.len() > 2 * self.idle_count + IDLE_SLACK {
            let topics = &self.topics;
            self.idle.retain(|(index, stamp)| idle_stamp(topics, *index) == Some(*stamp));
        }
    }

    fn forget_oldest_idle(&mut self) {
        while let Some((index, stamp)) = self.idle.pop_front() {
            if idle_stamp(&self.topics, index) == Some(stamp) {
                self.idle_count -= 1;
                self.forgotten += 1;
                self.forget(index);
                return;
            }
        }
    }

    fn forget(&mut self, index: TopicIndex) {
        let topic = self.topics.remove(index.0 as usize);
        assert!(topic.members.is_empty(), "a topic with members is in use");
        self.name_bytes -= topic.name.len();
        self.log_bytes -= topic.log.as_ref().map_or(0, |log| log.bytes());
        let hash = self.hasher.hash_one(&*topic.name);
        if let Ok(entry) = self.names.find_entry(hash, |i| *i == index) {
            entry.remove();
        }
    }
}
