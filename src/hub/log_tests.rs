use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::super::{HubSettings, Subscribed};
use super::*;
use crate::hub::Outbox;
use crate::id::ShardId;
use crate::proto::compression::CompressionSettings;
use crate::proto::frame::{COMPRESSED, FrameHeader};
use crate::proto::inflate::Inflater;

/// A hub with one topic of its own.
fn hub() -> (Hub, TopicIndex) {
    let settings = HubSettings {
        shard: ShardId(0),
        shards: 1,
        hash_seed: 1,
        epoch_seed: 0,
        topics_max: 10,
        topics_in_use: Arc::default(),
        topics_idle_max: 10,
        policies: Arc::default(),
    };
    let mut hub = Hub::new(settings);
    let topic = hub.open_topic("topic").unwrap();
    (hub, topic)
}

#[derive(Clone, Debug)]
enum Operation {
    Subscribe(Variant),
    Leave { who: usize, with_rest: bool },
    Publish { except: Option<usize>, len: usize },
    Flush { steps: usize },
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        2 => prop_oneof![Just(Variant::Plain), Just(Variant::Deflate)].prop_map(Operation::Subscribe),
        1 => (any::<usize>(), any::<bool>()).prop_map(|(who, with_rest)| Operation::Leave { who, with_rest }),
        3 => (proptest::option::weighted(0.2, any::<usize>()), 1usize..3)
            .prop_map(|(except, repeat)| Operation::Publish { except, len: 4 * if repeat == 1 { 1 } else { 50 } }),
        4 => (0usize..8).prop_map(|steps| Operation::Flush { steps }),
    ]
}

/// What the model knows of a subscriber.
struct Subscriber {
    id: SubscriptionId,
    variant: Variant,
    /// Messages that it is to get, from its confirmation on.
    expected: Vec<u32>,
    got: Vec<u32>,
    confirmed: bool,
}

/// A message: its number, repeated up to a length.
fn message(number: u32, len: usize) -> Vec<u8> {
    number.to_be_bytes().into_iter().cycle().take(len).collect()
}

/// Message numbers out of the frames that a connection gets of a batch. The long ones are
/// compressed for those that can take it, and for nobody else.
fn numbers(batch: &Batch, connection: ConnectionId, variant: Variant) -> Vec<u32> {
    let (mut numbers, mut saved) = (Vec::new(), 0);
    let (mut inflater, mut text) = (Inflater::default(), Vec::new());
    for (start, end) in batch.ranges_for(connection) {
        let mut rest = &batch.as_bytes()[start..end];
        while let Some((header, len)) = FrameHeader::decode(rest).unwrap() {
            let payload = &rest[len..len + header.payload_len as usize];
            rest = &rest[len + payload.len()..];
            if header.reserved == COMPRESSED {
                assert_eq!(variant, Variant::Deflate);
                inflater.inflate(payload, 1000, &mut text).unwrap();
                saved += (text.len() - payload.len()) as u64;
            } else {
                assert!(variant == Variant::Plain || payload.len() == 4, "a long message is compressed");
                text = payload.to_vec();
            }
            let number = u32::from_be_bytes(*text.first_chunk().unwrap());
            assert_eq!(text, message(number, text.len()));
            numbers.push(number);
        }
    }
    assert_eq!(numbers.len(), batch.messages_for(connection) as usize);
    assert_eq!(saved, batch.saved_bytes_for(connection));
    numbers
}

struct World {
    compression: CompressionPool,
    subscribers: BTreeMap<u32, Subscriber>,
    next_connection: u32,
    next_message: u32,
}

impl World {
    fn new() -> Self {
        let settings = CompressionSettings { enabled: true, message_bytes_min: 5, ..CompressionSettings::default() };
        let compression = CompressionPool::new(settings);
        Self { compression, subscribers: BTreeMap::new(), next_connection: 0, next_message: 0 }
    }

    fn id(slot: u32) -> ConnectionId {
        ConnectionId { slot, generation: 0 }
    }

    fn pick(&self, n: usize) -> Option<u32> {
        self.subscribers.keys().nth(n % self.subscribers.len().max(1)).copied()
    }

    fn note_confirmed(&mut self, hub: &mut Hub) {
        while let Some(connection) = hub.next_confirmed() {
            let subscriber = self.subscribers.get_mut(&connection.slot).expect("a gone subscription is not confirmed");
            assert!(!subscriber.confirmed, "confirmed once");
            subscriber.confirmed = true;
        }
    }

    fn flush(&mut self, hub: &mut Hub, steps: usize) {
        for _ in 0..steps {
            self.note_confirmed(hub);
            let Some(Delivery { connection, batch, .. }) = hub.next_delivery() else { break };
            let subscriber = self.subscribers.get_mut(&connection.slot).expect("nothing comes after the end");
            subscriber.got.extend(numbers(&batch, connection, subscriber.variant));
        }
        self.note_confirmed(hub);
    }

    fn apply(&mut self, hub: &mut Hub, topic: TopicIndex, operation: Operation) {
        match operation {
            Operation::Subscribe(variant) => {
                let connection = Self::id(self.next_connection);
                self.next_connection += 1;
                let (id, confirmed) = match hub.subscribe(topic, connection, variant, &mut Outbox::new()) {
                    Subscribed::Confirmed(id) => (id, true),
                    Subscribed::Waiting(id) => (id, false),
                };
                let subscriber = Subscriber { id, variant, expected: Vec::new(), got: Vec::new(), confirmed };
                self.subscribers.insert(connection.slot, subscriber);
            }
            Operation::Leave { who, with_rest } => {
                let Some(slot) = self.pick(who) else { return };
                self.note_confirmed(hub);
                let mut subscriber = self.subscribers.remove(&slot).unwrap();
                let mut rest = Vec::new();
                if with_rest {
                    hub.unsubscribe_with_rest(subscriber.id, &mut rest);
                    for Delivery { connection, batch, .. } in &rest {
                        assert_eq!(*connection, Self::id(slot));
                        subscriber.got.extend(numbers(batch, *connection, subscriber.variant));
                    }
                    assert_eq!(subscriber.got, subscriber.expected, "all that was published before the end");
                } else {
                    hub.unsubscribe(subscriber.id);
                    assert!(subscriber.expected.starts_with(&subscriber.got), "in order, without a hole");
                }
            }
            Operation::Publish { except, len } => {
                self.note_confirmed(hub);
                let number = self.next_message;
                self.next_message += 1;
                let except = except.and_then(|n| self.pick(n));
                let before = self.compression.counts().deflated;
                let payload = message(number, len);
                hub.append(
                    topic,
                    MessageKind::Binary,
                    &payload,
                    except.map(Self::id),
                    &mut self.compression,
                    Time::ZERO,
                );
                let deflated = self.compression.counts().deflated - before;
                let takers = self.subscribers.values().filter(|s| s.confirmed && s.variant == Variant::Deflate);
                assert_eq!(deflated, u64::from(takers.count() > 0 && len > 4), "once for all that take it");
                for (slot, subscriber) in &mut self.subscribers {
                    if subscriber.confirmed && Some(*slot) != except {
                        subscriber.expected.push(number);
                    }
                }
            }
            Operation::Flush { steps } => self.flush(hub, steps),
        }
    }
}

proptest! {
    /// Against a plain model: whoever is confirmed gets every message from then on, once
    /// and in order, whatever joins, leaves and partial flushes happen in between.
    #[test]
    fn every_member_gets_what_was_published_while_it_was_one(operations in proptest::collection::vec(operation(), 1..120)) {
        let (mut hub, topic) = hub();
        let mut world = World::new();
        for operation in operations {
            world.apply(&mut hub, topic, operation);
        }
        world.flush(&mut hub, usize::MAX);
        for (slot, subscriber) in &world.subscribers {
            prop_assert!(subscriber.confirmed, "connection {} still waits", slot);
            prop_assert_eq!(&subscriber.got, &subscriber.expected, "connection {}", slot);
        }
        prop_assert!(!hub.has_deliveries());
        prop_assert_eq!(hub.log_bytes(), 0);
        prop_assert!(hub.topic(topic).log.is_none(), "an idle topic holds no log");
    }
}

#[test]
fn a_large_batch_is_sealed_within_the_turn() {
    let (mut hub, topic) = hub();
    hub.subscribe(topic, World::id(0), Variant::Plain, &mut Outbox::new());
    let mut compression = CompressionPool::new(CompressionSettings::default());
    let payload = vec![0; 300 * 1024];
    for _ in 0..8 {
        hub.append(topic, MessageKind::Binary, &payload, None, &mut compression, Time::ZERO);
    }
    assert_eq!(hub.log_bytes(), 8 * (10 + payload.len()));
    let sizes: Vec<_> = std::iter::from_fn(|| hub.next_delivery()).map(|d| d.batch.messages()).collect();
    assert_eq!(sizes, [4, 4]);
    assert_eq!(hub.log_bytes(), 0);
}
