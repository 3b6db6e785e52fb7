//! Queues that overflow, compared with a plain one that holds a list of frames.

use std::collections::VecDeque;
use std::rc::Rc;

use proptest::prelude::*;

use crate::buffer::Batch;
use crate::connection::tests::{open, send};
use crate::connection::{Connection, OutboundPool, QueueBounds};
use crate::id::ConnectionId;
use crate::policy::SlowConsumerPolicy;
use crate::proto::close::CloseCode;
use crate::proto::frame::{FrameHeader, MessageKind, OpCode};
use crate::stats::CloseReason;
use crate::time::Time;

/// Who is tested, as batches know it.
const SELF: ConnectionId = ConnectionId { slot: 3, generation: 1 };

/// A published message's number, and `len` bytes that follow from it.
fn message(number: u32, len: usize) -> Vec<u8> {
    let mut payload = number.to_be_bytes().to_vec();
    payload.resize(4 + len, number as u8);
    payload
}

/// The frames that a peer has received: opcode and payload. All bytes must be frames.
fn frames(mut bytes: &[u8]) -> Vec<(OpCode, Vec<u8>)> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let (header, len) = FrameHeader::decode(bytes).expect("valid").expect("whole");
        let end = len + header.payload_len as usize;
        assert!(end <= bytes.len(), "the last frame is whole");
        frames.push((header.opcode, bytes[len..end].to_vec()));
        bytes = &bytes[end..];
    }
    frames
}

/// The number in `{"gap":N}`.
fn gap(payload: &[u8]) -> u64 {
    let text = std::str::from_utf8(payload).expect("markers are text");
    let number = text.strip_prefix("{\"gap\":").and_then(|rest| rest.strip_suffix('}'));
    number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{text:?} is no marker"))
}

#[derive(Clone, Debug)]
enum Step {
    /// A batch of messages with payloads of so many bytes; those marked are not for us.
    Publish(Vec<(usize, bool)>),
    Reply(usize),
    Pong,
    /// The transport takes so many bytes.
    Send(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let batch = proptest::collection::vec((0usize..200, proptest::bool::weighted(0.15)), 1..8);
    prop_oneof![
        4 => batch.prop_map(Step::Publish),
        1 => (0usize..150).prop_map(Step::Reply),
        1 => Just(Step::Pong),
        3 => (0usize..600).prop_map(Step::Send),
    ]
}

/// What waits in the model.
#[derive(Clone, Debug)]
enum Item {
    Message(Vec<u8>),
    Own(Vec<u8>),
    Gap(u64),
}

impl Item {
    fn frame(&self) -> Vec<u8> {
        let marker;
        let (opcode, payload) = match self {
            Self::Message(payload) => (OpCode::Binary, payload.as_slice()),
            Self::Own(frame) => return frame.clone(),
            Self::Gap(lost) => {
                marker = format!("{{\"gap\":{lost}}}");
                (OpCode::Text, marker.as_bytes())
            }
        };
        frame(opcode, payload)
    }
}

fn frame(opcode: OpCode, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    crate::proto::frame::append_server(&mut frame, opcode, payload);
    frame
}

/// The plain queue: one item per frame.
#[derive(Default)]
struct Model {
    items: VecDeque<Item>,
    /// Bytes of the first item that have left.
    sent: usize,
    /// All bytes that have left.
    received: Vec<u8>,
}

impl Model {
    fn bytes(&self) -> usize {
        self.items.iter().map(|item| item.frame().len()).sum::<usize>() - self.sent
    }

    fn own_bytes(&self) -> usize {
        let own = self.items.iter().filter(|item| matches!(item, Item::Own(_)));
        let first_is_own = matches!(self.items.front(), Some(Item::Own(_)));
        own.map(|item| item.frame().len()).sum::<usize>() - if first_is_own { self.sent } else { 0 }
    }

    fn gap_bytes(&self) -> usize {
        self.items.iter().filter(|item| matches!(item, Item::Gap(_))).map(|item| item.frame().len()).sum()
    }

    fn send(&mut self, mut n: usize) {
        while let Some(first) = self.items.front() {
            let frame = first.frame();
            let taken = n.min(frame.len() - self.sent);
            self.received.extend_from_slice(&frame[self.sent..self.sent + taken]);
            n -= taken;
            self.sent += taken;
            if self.sent < frame.len() {
                return;
            }
            self.items.pop_front();
            self.sent = 0;
        }
    }

    /// Drops messages, the oldest first, down to a bound; how many, those of markers that
    /// were taken out with them, and where the first was.
    fn drop_oldest(&mut self, bytes_max: usize) -> (u64, u64, usize) {
        let (mut lost, mut told_before, mut place) = (0, 0, None);
        while self.bytes() > bytes_max {
            let newest = self.items.iter().rposition(|item| matches!(item, Item::Message(_)));
            let on_its_way = usize::from(self.sent > 0);
            let droppable =
                |(at, item): &(usize, &Item)| *at >= on_its_way && !matches!(item, Item::Own(_)) && Some(*at) != newest;
            let Some((at, _)) = self.items.iter().enumerate().find(droppable) else { break };
            match self.items.remove(at) {
                Some(Item::Gap(n)) => told_before += n,
                _ => lost += 1,
            }
            place.get_or_insert(at);
        }
        (lost, told_before, place.unwrap_or_default())
    }

    fn drop_all(&mut self) {
        let on_its_way = usize::from(self.sent > 0);
        let mut at = 0;
        self.items.retain(|item| {
            at += 1;
            at <= on_its_way || matches!(item, Item::Own(_))
        });
    }
}

/// A connection and the plain queue, which get the same.
struct World {
    pool: OutboundPool,
    connection: Connection,
    model: Model,
    policy: SlowConsumerPolicy,
    bounds: QueueBounds,
    /// Messages published to it so far; their numbers are 0, 1, 2, ...
    published: u32,
    dropped: u64,
    received: Vec<u8>,
    closed: bool,
}

impl World {
    fn new(policy: SlowConsumerPolicy, queue_bytes_max: usize) -> Self {
        let mut pool = OutboundPool::default();
        let connection = open(&mut pool);
        let bounds = QueueBounds { queue_bytes_max, reply_bytes_watermark: usize::MAX, pong_bytes_max: usize::MAX };
        let (model, received) = (Model::default(), Vec::new());
        Self { pool, connection, model, policy, bounds, published: 0, dropped: 0, received, closed: false }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Send(n) => {
                let taken = send(&mut self.connection, n, &mut self.pool);
                assert_eq!(taken.len(), n.min(self.model.bytes()), "the transport is offered all there is");
                self.received.extend(taken);
                self.model.send(n);
            }
            _ if self.closed => {}
            Step::Publish(messages) => self.publish(&messages),
            Step::Reply(len) => {
                let payload = vec![b'r'; len];
                self.connection.reply(MessageKind::Text, &payload, &mut self.pool);
                self.model.items.push_back(Item::Own(frame(OpCode::Text, &payload)));
            }
            Step::Pong => {
                self.connection.pong(b"pong", &self.bounds, &mut self.pool);
                self.model.items.push_back(Item::Own(frame(OpCode::Pong, b"pong")));
            }
        }
        assert_eq!(self.connection.queue_bytes(), self.model.bytes());
        assert_eq!(self.connection.published_bytes(), self.model.bytes() - self.model.own_bytes());
        // Markers are not counted as memory: there is one for each time that the peer caught up.
        let told = self.model.gap_bytes() as u64;
        assert!(self.pool.waiting_bytes() + told >= self.connection.queue_bytes() as u64);
    }

    /// What a shard does with a batch that is not sent directly.
    fn publish(&mut self, messages: &[(usize, bool)]) {
        let mut batch = Batch::default();
        let mut items = Vec::new();
        for (len, excluded) in messages {
            if *excluded {
                batch.append(OpCode::Binary, b"not for us", Some(SELF));
                continue;
            }
            let payload = message(self.published, *len);
            batch.append(OpCode::Binary, &payload, None);
            items.push(Item::Message(payload));
            self.published += 1;
        }
        batch.seal();
        let batch = Rc::new(batch);
        let ranges = batch.ranges_for(SELF);
        assert_eq!(batch.messages_for(SELF) as usize, items.len());
        let bytes: usize = ranges.clone().map(|(start, end)| end - start).sum();
        let has_room = self.connection.has_room_for(bytes, &self.bounds);
        assert_eq!(has_room, self.model.bytes() == 0 || self.model.bytes() + bytes <= self.bounds.queue_bytes_max);
        if self.policy == SlowConsumerPolicy::Disconnect && !has_room {
            self.close();
            return;
        }
        for range in ranges {
            self.connection.push(&batch, range, &mut self.pool);
        }
        self.model.items.extend(items);
        match self.policy {
            SlowConsumerPolicy::Disconnect => {}
            SlowConsumerPolicy::DropOldest => {
                let dropped = self.connection.drop_oldest(&self.bounds);
                let (lost, told_before, place) = self.model.drop_oldest(self.bounds.queue_bytes_max);
                if lost + told_before > 0 {
                    self.model.items.insert(place, Item::Gap(lost + told_before));
                }
                assert_eq!(dropped, lost);
                self.dropped += dropped;
            }
            SlowConsumerPolicy::LatestOnly => {
                let dropped = self.connection.keep_newest();
                assert_eq!(dropped, self.model.drop_oldest(0).0);
                self.dropped += dropped;
            }
        }
    }

    fn close(&mut self) {
        self.closed = true;
        self.connection.close_slow_consumer(CloseReason::SlowConsumer, Time::ZERO, &mut self.pool);
        self.model.drop_all();
        let words = "messages were lost: the connection did not read fast enough";
        let body = [&CloseCode::SLOW_CONSUMER.0.to_be_bytes(), words.as_bytes()].concat();
        self.model.items.push_back(Item::Own(frame(OpCode::Close, &body)));
    }

    /// The transport takes all that waits, and what the peer has got is judged.
    fn finish(mut self) {
        self.received.extend(send(&mut self.connection, usize::MAX, &mut self.pool));
        self.model.send(usize::MAX);
        assert_eq!(self.received, self.model.received);
        assert_eq!(self.connection.queue_bytes(), 0);
        assert_eq!(self.connection.published_bytes(), 0);
        assert_eq!(self.pool.waiting_bytes(), 0);

        let (mut next, mut lost, mut told) = (0, 0, false);
        for (opcode, payload) in frames(&self.received) {
            assert!(!told, "nothing follows a Close");
            match opcode {
                OpCode::Binary => {
                    let number = u32::from_be_bytes(payload[..4].try_into().unwrap());
                    match self.policy {
                        SlowConsumerPolicy::LatestOnly => {
                            assert!(number >= next, "never out of order");
                            lost += u64::from(number - next);
                        }
                        _ => assert_eq!(number, next, "nothing follows a gap without its marker"),
                    }
                    assert_eq!(payload, message(number, payload.len() - 4), "whole");
                    next = number + 1;
                }
                OpCode::Text if payload.starts_with(b"{") => {
                    assert_eq!(self.policy, SlowConsumerPolicy::DropOldest);
                    lost += gap(&payload);
                    next += gap(&payload) as u32;
                }
                OpCode::Close => told = true,
                OpCode::Text | OpCode::Pong => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(told, self.closed);
        if !told {
            assert_eq!(next, self.published, "the newest message was received");
            assert_eq!(lost, self.dropped);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_published_message_is_received_or_told_where_it_is_missing(
        policy in prop_oneof![
            Just(SlowConsumerPolicy::Disconnect),
            Just(SlowConsumerPolicy::DropOldest),
            Just(SlowConsumerPolicy::LatestOnly),
        ],
        queue_bytes_max in 0usize..3000,
        steps in proptest::collection::vec(step(), 1..60),
        close_at in proptest::option::weighted(0.3, 0usize..60),
    ) {
        let mut world = World::new(policy, queue_bytes_max);
        for (n, step) in steps.into_iter().enumerate() {
            if close_at == Some(n) && !world.closed {
                world.close();
            }
            world.take(step);
        }
        world.finish();
    }

    /// However much the transport took of a batch that went past the queue.
    #[test]
    fn the_rest_of_a_batch_that_was_sent_in_part_is_dropped_by_whole_frames(
        lens in proptest::collection::vec(0usize..200, 1..20),
        taken in any::<prop::sample::Index>(),
        later in proptest::collection::vec(0usize..200, 1..20),
        queue_bytes_max in 0usize..3000,
    ) {
        let mut world = World::new(SlowConsumerPolicy::DropOldest, queue_bytes_max);
        let mut batch = Batch::default();
        for len in lens {
            let payload = message(world.published, len);
            batch.append(OpCode::Binary, &payload, None);
            world.model.items.push_back(Item::Message(payload));
            world.published += 1;
        }
        batch.seal();
        let end = batch.as_bytes().len();
        let taken = taken.index(end);
        world.received.extend_from_slice(&batch.as_bytes()[..taken]);
        world.model.send(taken);
        world.connection.keep_rest(Rc::new(batch), (taken, end), &mut world.pool);
        for len in later {
            world.take(Step::Publish(vec![(len, false)]));
        }
        world.finish();
    }
}

#[test]
fn markers_that_meet_add_up() {
    // One frame of 14 bytes at a time; two and a marker fit.
    let mut world = World::new(SlowConsumerPolicy::DropOldest, 2 * 14);
    for _ in 0..50 {
        world.take(Step::Publish(vec![(8, false)]));
    }
    let gaps: Vec<_> = world.model.items.iter().filter(|item| matches!(item, Item::Gap(_))).collect();
    assert!(matches!(gaps.as_slice(), [Item::Gap(48..)]), "{gaps:?}");
    assert!(world.connection.queue_bytes() <= 2 * 14 + frame(OpCode::Text, b"{\"gap\":49}").len());
    world.finish();
}

#[test]
fn a_queue_that_is_dropped_lets_go_of_all_memory() {
    let mut world = World::new(SlowConsumerPolicy::DropOldest, 300);
    for _ in 0..20 {
        world.take(Step::Publish(vec![(50, false); 3]));
        world.take(Step::Reply(20));
        world.take(Step::Send(70));
    }
    assert!(world.pool.waiting_bytes() > 0);
    world.connection.abort(CloseReason::QueueMemory);
    world.connection.drop_queue(&mut world.pool);
    assert_eq!((world.connection.queue_bytes(), world.pool.waiting_bytes()), (0, 0));
}
