//! Topics: who subscribes, who orders, who is to receive.
//!
//! Owner: the shard's thread. Caller: `shard` only. Sans-IO: what other shards must
//! know leaves as [`Envelope`]s through the [`Outbox`].
//!
//! Each topic is owned by one shard, the same on all shards since it follows from
//! the name's hash. The owner gives every message its offset and sends it to each
//! shard that has declared an interest; there it goes to the local subscribers. The
//! path from owner to shard keeps order, so all subscribers see one order.
//!
//! Knows no connection's state and no dialect; a connection is only an id here.

#![forbid(unsafe_code)]

mod fanout;
mod log;
mod subscription;
mod topic;

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use foldhash::SharedSeed;
use foldhash::fast::SeedableRandomState;
use hashbrown::HashTable;
use slab::Slab;

pub use fanout::Ordered;
pub use log::{Delivery, Flushed, Variant};
pub use subscription::{Subscribed, SubscriptionId};
pub use topic::TopicIndex;

use crate::buffer::{BatchPool, SharedPayloadPool};
use crate::command::{Address, Envelope};
use crate::id::{ConnectionId, ShardId};
use crate::policy::TopicPolicies;
use log::DeliveryLog;
use subscription::Subscription;
use topic::{Member, Topic};

/// Envelopes on their way out, in order.
pub type Outbox = VecDeque<(Address, Envelope)>;

/// What the hub of every shard of a process must agree on, and its bounds.
#[derive(Clone, Debug)]
pub struct HubSettings {
    /// Which shard this is.
    pub shard: ShardId,
    /// How many there are.
    pub shards: usize,
    /// Secret seed of the name hash, the same on all shards: peers choose names and
    /// must not be able to choose collisions.
    pub hash_seed: u64,
    /// Differs in each run of the process, so that offsets of two runs are told apart.
    pub epoch_seed: u64,
    /// Topics in use in the whole process, each counted by its owner; and topics in this
    /// shard's table, idle ones included.
    pub topics_max: usize,
    /// Those in use now, on all shards.
    pub topics_in_use: Arc<AtomicUsize>,
    /// Owned topics without any user whose offset is remembered.
    pub topics_idle_max: usize,
    /// What is done with subscribers that read too slowly.
    pub policies: Arc<TopicPolicies>,
}

/// The topics that a shard owns or has subscribers of.
pub struct Hub {
    settings: HubSettings,
    hasher: SeedableRandomState,
    names: HashTable<TopicIndex>,
    /// Grows with each change of the policies, modulo 2¹⁶.
    policies_edition: u16,
    topics: Slab<Topic>,
    subscriptions: Slab<Subscription>,
    /// Topics with something to flush, each once; entries of forgotten topics are skipped.
    dirty: VecDeque<TopicIndex>,
    /// Deliveries until the next of these has its turn.
    turn_left: u32,
    /// Connections whose subscription was confirmed after they had waited.
    confirmed: VecDeque<ConnectionId>,
    batches: BatchPool,
    /// What was published to topics of others.
    payloads: SharedPayloadPool,
    /// Batches that the last member has been given in this turn.
    flushed: Vec<Flushed>,
    // Boxed so that a topic holds a pointer and not the log itself.
    #[expect(clippy::vec_box)]
    free_logs: Vec<Box<DeliveryLog>>,
    /// Topics that became idle, oldest first, with their idle stamp; stale entries
    /// are skipped.
    idle: VecDeque<(TopicIndex, u64)>,
    idle_count: usize,
    /// See [`Hub::topics_forgotten`].
    forgotten: u64,
    /// Bytes of all names.
    name_bytes: usize,
    /// See [`Hub::log_bytes`].
    log_bytes: usize,
    /// Counts topics made and topics that became idle: epochs and idle stamps.
    serial: u64,
    /// Number of the last interest asked for, in any topic. A topic is forgotten with
    /// its last user, so numbers of its own would begin again, and a late answer to its
    /// former life would fit the present one.
    requests: u32,
}

impl Hub {
    /// An empty hub.
    pub fn new(settings: HubSettings) -> Self {
        Self {
            hasher: hasher(settings.hash_seed),
            settings,
            names: HashTable::new(),
            policies_edition: 0,
            topics: Slab::new(),
            subscriptions: Slab::new(),
            dirty: VecDeque::new(),
            turn_left: 0,
            confirmed: VecDeque::new(),
            batches: BatchPool::default(),
            payloads: SharedPayloadPool::default(),
            flushed: Vec::new(),
            free_logs: Vec::new(),
            idle: VecDeque::new(),
            idle_count: 0,
            forgotten: 0,
            name_bytes: 0,
            log_bytes: 0,
            serial: 0,
            requests: 0,
        }
    }

    /// What a topic is called.
    pub fn topic_name(&self, index: TopicIndex) -> &str {
        &self.topic(index).name
    }

    /// Topics in the table, idle ones included.
    pub fn topics_len(&self) -> usize {
        self.topics.len()
    }

    /// Idle topics that were forgotten with their offset, to stay within the bounds.
    pub fn topics_forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Bytes of topics, their names, members and subscriptions. What is on its way counts
    /// with the queues.
    pub fn memory_bytes(&self) -> usize {
        self.topics.len() * (size_of::<Topic>() + size_of::<TopicIndex>())
            + self.name_bytes
            + self.subscriptions.len() * (size_of::<Subscription>() + size_of::<Member>())
    }

    /// Subscriptions of connections of this shard.
    pub fn subscriptions_len(&self) -> usize {
        self.subscriptions.len()
    }
}

/// The shard that owns a topic. The control plane asks too.
pub fn owner_of(name: &str, shards: usize, hash_seed: u64) -> ShardId {
    owner_of_hash(hasher(hash_seed).hash_one(name), shards)
}

fn owner_of_hash(hash: u64, shards: usize) -> ShardId {
    // The table uses the lowest and highest bits; these are from the middle.
    ShardId(((hash >> 24 & 0xffff_ffff) % shards as u64) as u16)
}

/// Seeded by the caller alone, so that a simulation with the same seed replays.
fn hasher(seed: u64) -> SeedableRandomState {
    SeedableRandomState::with_seed(seed, SharedSeed::global_fixed())
}

#[cfg(test)]
mod tests;
