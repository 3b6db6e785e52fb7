//! Hubs of several shards against topics as plain lists.
//!
//! Input: a [`Plan`], as `arbitrary` reads it. What the owner orders is appended to the
//! topic's list; whoever is confirmed gets all of that from then on, once and in order,
//! but what it published without wanting it back. Mail and flushes come in any slices.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use arbitrary::{Arbitrary, Unstructured};

use crate::command::{Address, Envelope, Origin, Position, SharedMessage};
use crate::hub::{
    Delivery, Hub, HubSettings, Ordered, Outbox, Subscribed, SubscriptionId, TopicIndex, Variant, owner_of,
};
use crate::id::{ConnectionId, ShardId};
use crate::proto::compression::{CompressionPool, CompressionSettings};
use crate::proto::frame::MessageKind;
use crate::time::Time;

const SEED: u64 = 7;
const SHARDS_MAX: usize = 3;
const TOPICS_MAX: usize = 4;
const STEPS_MAX: usize = 300;
/// Bytes of a numbered message, and of its frame's header.
const MESSAGE_BYTES: usize = 8;
const HEADER_BYTES: usize = 2;

#[derive(Arbitrary, Debug)]
struct Plan {
    shards: u8,
    topics: u8,
    topics_max: u8,
    topics_idle_max: u8,
    steps: Vec<Step>,
}

/// Shards, topics and subscribers are chosen modulo how many there are.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Step {
    Subscribe {
        shard: u8,
        topic: u8,
    },
    Unsubscribe {
        who: u8,
        with_rest: bool,
    },
    /// Somebody who does not subscribe publishes.
    Publish {
        shard: u8,
        topic: u8,
    },
    /// A subscriber publishes, and does not get it back.
    Say {
        who: u8,
    },
    Carry {
        pair: u8,
        envelopes: u8,
    },
    Flush {
        shard: u8,
        deliveries: u8,
    },
}

pub(super) fn run(data: &[u8]) {
    let Ok(plan) = Plan::arbitrary_take_rest(Unstructured::new(data)) else { return };
    let mut world = World::new(&plan);
    for step in plan.steps.iter().take(STEPS_MAX) {
        world.apply(*step);
    }
    world.settle();
    world.check_caught_up();
    for topic in 0..world.topics.len() {
        world.publish(0, topic, None);
    }
    world.settle();
    world.check_caught_up();
    while let Some(id) = world.subscribers.keys().next().copied() {
        world.unsubscribe(id, false);
    }
    world.settle();
    for hub in &world.hubs {
        assert_eq!((hub.subscriptions_len(), hub.has_deliveries(), hub.log_bytes()), (0, false, 0));
        assert!(hub.topics_len() <= usize::from(plan.topics_idle_max), "what is left is remembered, not used");
    }
}

/// A message in its topic's order.
#[derive(Clone, Copy)]
struct Entry {
    number: u64,
    origin: Option<Key>,
}

/// Names a subscriber: a connection of a shard.
type Key = (usize, u32, u32);

struct Subscriber {
    topic: usize,
    index: TopicIndex,
    subscription: SubscriptionId,
    /// Length of the topic's list when it was confirmed.
    confirmed_at: Option<usize>,
    received: Vec<u64>,
}

struct World {
    hubs: Vec<Hub>,
    topics: Vec<String>,
    lists: Vec<Vec<Entry>>,
    positions: Vec<Option<Position>>,
    subscribers: BTreeMap<Key, Subscriber>,
    /// By sender and receiver.
    mail: BTreeMap<(usize, usize), VecDeque<Envelope>>,
    messages: u64,
    generation: u32,
    compression: CompressionPool,
}

impl World {
    fn new(plan: &Plan) -> Self {
        let shards = 1 + usize::from(plan.shards) % SHARDS_MAX;
        let topics = 1 + usize::from(plan.topics) % TOPICS_MAX;
        let hubs = (0..shards).map(|shard| {
            Hub::new(HubSettings {
                shard: ShardId(shard as u16),
                shards,
                hash_seed: SEED,
                epoch_seed: 1000,
                topics_max: usize::from(plan.topics_max),
                topics_in_use: Arc::default(),
                topics_idle_max: usize::from(plan.topics_idle_max),
                policies: Arc::default(),
            })
        });
        Self {
            hubs: hubs.collect(),
            topics: (0..topics).map(|topic| format!("topic {topic}")).collect(),
            lists: vec![Vec::new(); topics],
            positions: vec![None; topics],
            subscribers: BTreeMap::new(),
            mail: BTreeMap::new(),
            messages: 0,
            generation: 0,
            compression: CompressionPool::new(CompressionSettings::default()),
        }
    }

    fn apply(&mut self, step: Step) {
        let (shards, topics) = (self.hubs.len(), self.topics.len());
        match step {
            Step::Subscribe { shard, topic } => {
                self.subscribe(usize::from(shard) % shards, usize::from(topic) % topics)
            }
            Step::Unsubscribe { who, with_rest } => {
                if let Some(key) = self.subscriber(who) {
                    self.unsubscribe(key, with_rest);
                }
            }
            Step::Publish { shard, topic } => {
                self.publish(usize::from(shard) % shards, usize::from(topic) % topics, None);
            }
            Step::Say { who } => {
                if let Some(key) = self.subscriber(who) {
                    self.publish(key.0, self.subscribers[&key].topic, Some(key));
                }
            }
            Step::Carry { pair, envelopes } => {
                let waiting: Vec<_> = self.mail.keys().copied().collect();
                if let Some(pair) = waiting.get(usize::from(pair) % waiting.len().max(1)) {
                    self.carry(*pair, envelopes.into());
                }
            }
            Step::Flush { shard, deliveries } => self.flush(usize::from(shard) % shards, deliveries.into()),
        }
    }

    fn subscriber(&self, who: u8) -> Option<Key> {
        self.subscribers.keys().nth(usize::from(who) % self.subscribers.len().max(1)).copied()
    }

    fn subscribe(&mut self, shard: usize, topic: usize) {
        let Ok(index) = self.hubs[shard].open_topic(&self.topics[topic]) else { return };
        // The lowest free slot, as a connection table gives it out.
        let slot = (0..).find(|slot| !self.subscribers.keys().any(|key| (key.0, key.1) == (shard, *slot)));
        let (slot, generation) = (slot.unwrap_or_default(), self.generation);
        self.generation += 1;
        let mut out = Outbox::new();
        let subscribed = self.hubs[shard].subscribe(index, ConnectionId { slot, generation }, Variant::Plain, &mut out);
        let (subscription, confirmed_at) = match subscribed {
            Subscribed::Confirmed(subscription) => (subscription, Some(self.lists[topic].len())),
            Subscribed::Waiting(subscription) => (subscription, None),
        };
        let subscriber = Subscriber { topic, index, subscription, confirmed_at, received: Vec::new() };
        self.subscribers.insert((shard, slot, generation), subscriber);
        self.post(shard, out);
    }

    fn unsubscribe(&mut self, key: Key, with_rest: bool) {
        self.note_confirmed(key.0);
        let Some(mut subscriber) = self.subscribers.remove(&key) else { return };
        let hub = &mut self.hubs[key.0];
        let (mut rest, mut out) = (Vec::new(), Outbox::new());
        if with_rest {
            hub.unsubscribe_with_rest(subscriber.subscription, &mut rest);
        } else {
            hub.unsubscribe(subscriber.subscription);
        }
        hub.close_topic(subscriber.index, &mut out);
        subscriber.received.extend(rest.iter().flat_map(numbers));
        self.post(key.0, out);
        let is_owner = owner_of(&self.topics[subscriber.topic], self.hubs.len(), SEED).index() == key.0;
        self.check(key, &subscriber, with_rest && is_owner);
        self.note_confirmed(key.0);
    }

    fn publish(&mut self, shard: usize, topic: usize, from: Option<Key>) {
        let hub = &mut self.hubs[shard];
        let Ok(index) = hub.open_topic(&self.topics[topic]) else { return };
        let number = self.messages;
        self.messages += 1;
        let origin = from.map(|(shard, slot, generation)| Origin {
            shard: ShardId(shard as u16),
            connection: ConnectionId { slot, generation },
        });
        let mut out = Outbox::new();
        if let Ordered::Here(position) =
            hub.publish(index, MessageKind::Binary, &number.to_be_bytes(), origin, &mut out)
        {
            self.ordered(shard, topic, index, position, Entry { number, origin: from });
        }
        self.hubs[shard].close_topic(index, &mut out);
        self.post(shard, out);
    }

    /// The owner has ordered a message: it is in the list, and local members get it.
    fn ordered(&mut self, shard: usize, topic: usize, index: TopicIndex, position: Position, entry: Entry) {
        match self.positions[topic].replace(position) {
            Some(last) if last.epoch == position.epoch => assert_eq!(position.offset, last.offset + 1),
            _ => assert_eq!(position.offset, 1, "a new epoch counts from 1"),
        }
        self.note_confirmed(shard);
        self.lists[topic].push(entry);
        self.append(shard, index, entry);
    }

    fn append(&mut self, shard: usize, index: TopicIndex, entry: Entry) {
        let except = entry.origin.filter(|origin| origin.0 == shard);
        let except = except.map(|(_, slot, generation)| ConnectionId { slot, generation });
        self.hubs[shard].append(
            index,
            MessageKind::Binary,
            &entry.number.to_be_bytes(),
            except,
            &mut self.compression,
            Time::ZERO,
        );
    }

    fn post(&mut self, from: usize, out: Outbox) {
        for (to, envelope) in out {
            let Address::Shard(to) = to else { panic!("{to:?}") };
            assert_ne!(to.index(), from, "nothing is sent to oneself");
            self.mail.entry((from, to.index())).or_default().push_back(envelope);
        }
    }

    fn carry(&mut self, pair: (usize, usize), envelopes: usize) {
        for _ in 0..envelopes {
            let Some(envelope) = self.mail.get_mut(&pair).and_then(VecDeque::pop_front) else { break };
            self.open(pair.1, envelope);
        }
        self.mail.retain(|_, mail| !mail.is_empty());
    }

    fn open(&mut self, shard: usize, envelope: Envelope) {
        let mut out = Outbox::new();
        let hub = &mut self.hubs[shard];
        match envelope {
            Envelope::Interest { topic, from, place, sequence } => {
                hub.interest(&topic, from, place, sequence, &mut out);
            }
            Envelope::Disinterest { topic, from } => hub.disinterest(&topic, from, &mut out),
            Envelope::InterestAcknowledged { topic, place, sequence } => {
                hub.acknowledge(&topic, place, sequence);
                self.note_confirmed(shard);
            }
            Envelope::InterestRefused { topic, sequence } => {
                let mut refused = Vec::new();
                hub.refuse(&topic, sequence, &mut refused);
                for id in refused {
                    let key = (shard, id.slot, id.generation);
                    assert_eq!(self.subscribers[&key].confirmed_at, None);
                    self.unsubscribe(key, false);
                }
            }
            Envelope::Publish { topic, message, origin } => {
                if let Ok((index, position)) = hub.order(&topic, &message, origin, &mut out) {
                    let topic = self.topic_named(self.hubs[shard].topic_name(index));
                    self.ordered(shard, topic, index, position, entry(&message, origin));
                    self.hubs[shard].close_topic(index, &mut out);
                }
            }
            Envelope::Deliver { topic, message, origin } => {
                if let Some(index) = hub.find_id(topic) {
                    self.append(shard, index, entry(&message, origin));
                }
            }
            other => panic!("{other:?} is not for a hub"),
        }
        self.post(shard, out);
    }

    fn flush(&mut self, shard: usize, deliveries: usize) {
        for _ in 0..deliveries {
            self.note_confirmed(shard);
            let Some(delivery) = self.hubs[shard].next_delivery() else { break };
            let ConnectionId { slot, generation } = delivery.connection;
            let subscriber = self.subscribers.get_mut(&(shard, slot, generation)).expect("nothing after the end");
            assert!(subscriber.confirmed_at.is_some(), "nothing before the confirmation");
            subscriber.received.extend(numbers(&delivery));
        }
        self.note_confirmed(shard);
    }

    fn note_confirmed(&mut self, shard: usize) {
        while let Some(ConnectionId { slot, generation }) = self.hubs[shard].next_confirmed() {
            // One that has left meanwhile is named all the same.
            let Some(subscriber) = self.subscribers.get_mut(&(shard, slot, generation)) else { continue };
            let len = self.lists[subscriber.topic].len();
            assert_eq!(subscriber.confirmed_at.replace(len), None, "confirmed once");
        }
    }

    fn settle(&mut self) {
        loop {
            (0..self.hubs.len()).for_each(|shard| self.flush(shard, usize::MAX));
            let Some(pair) = self.mail.keys().next().copied() else { return };
            self.carry(pair, usize::MAX);
        }
    }

    fn topic_named(&self, name: &str) -> usize {
        self.topics.iter().position(|topic| topic == name).expect("there are no others")
    }

    /// What one has received is a piece of what it is to get, without a hole, that begins
    /// no later than at its confirmation; with `all` it goes on to the end.
    fn check(&self, key: Key, subscriber: &Subscriber, all: bool) {
        let Some(confirmed_at) = subscriber.confirmed_at else {
            assert!(subscriber.received.is_empty());
            return;
        };
        let list = &self.lists[subscriber.topic];
        let due = |entries: &[Entry]| -> Vec<u64> {
            entries.iter().filter(|entry| entry.origin != Some(key)).map(|entry| entry.number).collect()
        };
        let (before, after) = (due(&list[..confirmed_at]).len(), due(list));
        let received = &subscriber.received;
        if let Some(first) = received.first() {
            let start = after.iter().position(|number| number == first).expect("it was ordered");
            assert!(start <= before, "the first one after the confirmation is missing");
            assert_eq!(after.get(start..start + received.len()), Some(received.as_slice()));
        }
        assert!(!all || received.ends_with(&after[before..]), "{received:?} instead of {:?}", &after[before..]);
    }

    fn check_caught_up(&self) {
        for (key, subscriber) in &self.subscribers {
            assert!(subscriber.confirmed_at.is_some(), "the owner has answered");
            self.check(*key, subscriber, true);
        }
    }
}

fn entry(message: &SharedMessage, origin: Option<Origin>) -> Entry {
    let number = u64::from_be_bytes((*message.payload).try_into().expect("a number"));
    let key = |origin: Origin| (origin.shard.index(), origin.connection.slot, origin.connection.generation);
    Entry { number, origin: origin.map(key) }
}

/// The numbers in what one connection gets of a batch.
fn numbers(delivery: &Delivery) -> Vec<u64> {
    let Delivery { connection, batch, .. } = delivery;
    let frames = batch
        .ranges_for(*connection)
        .flat_map(|(start, end)| batch.as_bytes()[start..end].chunks(HEADER_BYTES + MESSAGE_BYTES).map(<[u8]>::to_vec));
    let numbers: Vec<u64> =
        frames.map(|frame| u64::from_be_bytes(frame[HEADER_BYTES..].try_into().expect("a number"))).collect();
    assert_eq!(numbers.len(), batch.messages_for(*connection) as usize);
    numbers
}
