//! Hubs joined by a model of the mailboxes, and topics as plain lists to compare with.

use std::collections::{BTreeMap, VecDeque};

use super::*;
use crate::proto::compression::{CompressionPool, CompressionSettings};
use crate::time::Time;

pub(super) const SEED: u64 = 7;

pub(super) fn settings(shard: usize, shards: usize) -> HubSettings {
    let shard = ShardId(shard as u16);
    HubSettings {
        shard,
        shards,
        hash_seed: SEED,
        epoch_seed: 1000,
        topics_max: 100,
        topics_in_use: Arc::default(),
        topics_idle_max: 100,
        policies: Arc::default(),
    }
}

/// The `n`th name that the shard owns.
pub(super) fn name_owned_by(shard: usize, shards: usize, n: usize) -> String {
    let names = (0..).map(|number| format!("topic {number}"));
    names.filter(|name| owner_of(name, shards, SEED).index() == shard).nth(n).expect("the names have no end")
}

pub(super) fn message(number: usize) -> SharedMessage {
    SharedMessage { kind: MessageKind::Text, payload: number.to_string().into_bytes().into() }
}

pub(super) fn number_of(payload: &[u8]) -> usize {
    std::str::from_utf8(payload).unwrap().parse().unwrap()
}

/// One connection's subscription, and what became of it.
pub(super) struct Subscriber {
    pub(super) shard: usize,
    pub(super) topic: usize,
    pub(super) index: TopicIndex,
    pub(super) subscription: SubscriptionId,
    /// Length of the topic's log when the subscription was confirmed.
    pub(super) confirmed_at: Option<usize>,
    pub(super) received: Vec<usize>,
}

/// Hubs and what travels between them. The model of a topic is the list of its
/// messages in the order that the owner gave them.
pub(super) struct World {
    pub(super) hubs: Vec<Hub>,
    pub(super) topics: Vec<String>,
    pub(super) mail: BTreeMap<(usize, usize), VecDeque<Envelope>>,
    pub(super) logs: Vec<Vec<usize>>,
    pub(super) positions: Vec<Option<Position>>,
    pub(super) subscribers: BTreeMap<u32, Subscriber>,
    pub(super) refused: usize,
    pub(super) connections: u32,
    pub(super) messages: usize,
    compression: CompressionPool,
}

impl World {
    pub(super) fn new(shards: usize, topics: usize, change: impl Fn(&mut HubSettings)) -> Self {
        let hubs = (0..shards).map(|shard| {
            let mut settings = settings(shard, shards);
            change(&mut settings);
            Hub::new(settings)
        });
        Self {
            hubs: hubs.collect(),
            topics: (0..topics).map(|n| name_owned_by(n % shards, shards, n / shards)).collect(),
            mail: BTreeMap::new(),
            logs: vec![Vec::new(); topics],
            positions: vec![None; topics],
            subscribers: BTreeMap::new(),
            refused: 0,
            connections: 0,
            messages: 0,
            compression: CompressionPool::new(CompressionSettings::default()),
        }
    }

    pub(super) fn owner(&self, topic: usize) -> usize {
        owner_of(&self.topics[topic], self.hubs.len(), SEED).index()
    }

    /// The connection's number, unless its own shard has no room for the topic.
    pub(super) fn subscribe(&mut self, shard: usize, topic: usize) -> Option<u32> {
        let mut out = Outbox::new();
        let Ok(index) = self.hubs[shard].open_topic(&self.topics[topic]) else {
            self.refused += 1;
            return None;
        };
        let connection = self.connections;
        self.connections += 1;
        let id = ConnectionId { slot: connection, generation: 0 };
        let (subscription, confirmed_at) = match self.hubs[shard].subscribe(index, id, Variant::Plain, &mut out) {
            Subscribed::Confirmed(subscription) => (subscription, Some(self.logs[topic].len())),
            Subscribed::Waiting(subscription) => (subscription, None),
        };
        let subscriber = Subscriber { shard, topic, index, subscription, confirmed_at, received: Vec::new() };
        self.subscribers.insert(connection, subscriber);
        self.post(shard, out);
        Some(connection)
    }

    pub(super) fn unsubscribe(&mut self, connection: u32) -> Subscriber {
        let subscriber = self.subscribers.remove(&connection).unwrap();
        let mut out = Outbox::new();
        let hub = &mut self.hubs[subscriber.shard];
        hub.unsubscribe(subscriber.subscription);
        hub.close_topic(subscriber.index, &mut out);
        self.post(subscriber.shard, out);
        self.check(&subscriber);
        subscriber
    }

    /// A connection of that shard publishes; whether its shard had room for the topic.
    pub(super) fn publish(&mut self, shard: usize, topic: usize) -> bool {
        let mut out = Outbox::new();
        let Ok(index) = self.hubs[shard].open_topic(&self.topics[topic]) else { return false };
        let message = message(self.messages);
        self.messages += 1;
        match self.hubs[shard].publish(index, message.kind, &message.payload, None, &mut out) {
            Ordered::Here(position) => self.ordered(topic, &message, index, position),
            Ordered::Forwarded => assert_ne!(shard, self.owner(topic)),
        }
        self.hubs[shard].close_topic(index, &mut out);
        self.post(shard, out);
        true
    }

    /// The owner has ordered a message: it is in the log, and local members get it.
    pub(super) fn ordered(&mut self, topic: usize, message: &SharedMessage, index: TopicIndex, position: Position) {
        match self.positions[topic].replace(position) {
            Some(last) if last.epoch == position.epoch => assert_eq!(position.offset, last.offset + 1),
            _ => assert_eq!(position.offset, 1, "a new epoch counts from 1"),
        }
        self.logs[topic].push(number_of(&message.payload));
        self.deliver(self.owner(topic), index, message);
    }

    /// Appends to the delivery log and flushes it at once; what waits and flushes in
    /// slices is tested with the log itself.
    pub(super) fn deliver(&mut self, shard: usize, index: TopicIndex, message: &SharedMessage) {
        self.hubs[shard].append(index, message.kind, &message.payload, None, &mut self.compression, Time::ZERO);
        while let Some(Delivery { connection, batch, .. }) = self.hubs[shard].next_delivery() {
            let subscriber = self.subscribers.get_mut(&connection.slot).expect("members are subscribers");
            assert_eq!((subscriber.shard, subscriber.index), (shard, index));
            assert!(subscriber.confirmed_at.is_some(), "nothing comes before the confirmation");
            let frame = batch.as_bytes();
            let (header, len) = FrameHeader::decode(frame).unwrap().unwrap();
            assert_eq!(len + header.payload_len as usize, frame.len(), "one message at a time");
            subscriber.received.push(number_of(&frame[len..]));
        }
    }

    pub(super) fn post(&mut self, from: usize, out: Outbox) {
        for (to, envelope) in out {
            let Address::Shard(to) = to else { panic!("{to:?}") };
            assert_ne!(to.index(), from, "nothing is sent to oneself");
            self.mail.entry((from, to.index())).or_default().push_back(envelope);
        }
    }

    /// Carries the oldest envelope of one pair; `pair` counts those that have any.
    pub(super) fn carry(&mut self, pair: usize) -> bool {
        let waiting: Vec<_> = self.mail.iter().filter(|(_, mail)| !mail.is_empty()).map(|(pair, _)| *pair).collect();
        if waiting.is_empty() {
            return false;
        }
        let (from, to) = waiting[pair % waiting.len()];
        let envelope = self.mail.get_mut(&(from, to)).unwrap().pop_front().unwrap();
        self.open(to, envelope);
        true
    }

    pub(super) fn carry_all(&mut self) {
        while self.carry(0) {}
    }

    pub(super) fn topic_named(&self, name: &str) -> usize {
        self.topics.iter().position(|topic| topic == name).unwrap()
    }

    pub(super) fn open(&mut self, shard: usize, envelope: Envelope) {
        let mut out = Outbox::new();
        let hub = &mut self.hubs[shard];
        match envelope {
            Envelope::Interest { topic, from, place, sequence } => {
                hub.interest(&topic, from, place, sequence, &mut out);
            }
            Envelope::Disinterest { topic, from } => hub.disinterest(&topic, from, &mut out),
            Envelope::InterestAcknowledged { topic, place, sequence } => {
                hub.acknowledge(&topic, place, sequence);
                let confirmed: Vec<_> = std::iter::from_fn(|| hub.next_confirmed()).collect();
                let len = self.logs[self.topic_named(&topic)].len();
                for id in confirmed {
                    let subscriber = self.subscribers.get_mut(&id.slot).expect("only living ones are confirmed");
                    assert_eq!(subscriber.confirmed_at.replace(len), None, "confirmed once");
                }
            }
            Envelope::InterestRefused { topic, sequence } => {
                let mut refused = Vec::new();
                hub.refuse(&topic, sequence, &mut refused);
                for id in refused {
                    self.refused += 1;
                    let subscriber = self.unsubscribe(id.slot);
                    assert_eq!(subscriber.confirmed_at, None);
                }
            }
            Envelope::Publish { topic, message, origin } => {
                if let Ok((index, position)) = hub.order(&topic, &message, origin, &mut out) {
                    let topic = self.topic_named(self.hubs[shard].topic_name(index));
                    self.ordered(topic, &message, index, position);
                    self.hubs[shard].close_topic(index, &mut out);
                }
            }
            Envelope::Deliver { topic, message, .. } => {
                if let Some(index) = hub.find_id(topic) {
                    self.deliver(shard, index, &message);
                }
            }
            other => panic!("{other:?} is not for a hub"),
        }
        self.post(shard, out);
    }

    /// What one got is a run of the topic's log without a hole, and begins no later
    /// than at its confirmation; on the owner's own shard it is all that was ordered
    /// in between.
    pub(super) fn check(&self, subscriber: &Subscriber) {
        let log = &self.logs[subscriber.topic];
        let Some(confirmed_at) = subscriber.confirmed_at else {
            assert!(subscriber.received.is_empty());
            return;
        };
        let start = match subscriber.received.first() {
            Some(first) => log.iter().position(|number| number == first).unwrap(),
            None => return,
        };
        assert!(start <= confirmed_at, "the first one after the confirmation is missing");
        let end = start + subscriber.received.len();
        assert_eq!(log.get(start..end), Some(subscriber.received.as_slice()));
        if subscriber.shard == self.owner(subscriber.topic) {
            assert_eq!((start, end), (confirmed_at, log.len()));
        }
    }

    /// Once nothing travels any more, everybody who is subscribed has the newest.
    pub(super) fn check_caught_up(&self) {
        for subscriber in self.subscribers.values() {
            self.check(subscriber);
            let confirmed_at = subscriber.confirmed_at.expect("the owner has answered");
            let due = &self.logs[subscriber.topic][confirmed_at..];
            assert!(subscriber.received.ends_with(due), "{:?} instead of {due:?}", subscriber.received);
        }
    }

    pub(super) fn leave_all(&mut self) {
        for connection in self.subscribers.keys().copied().collect::<Vec<_>>() {
            self.unsubscribe(connection);
        }
        self.carry_all();
    }
}
