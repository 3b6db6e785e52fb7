//! Subscribers that stall, resume, leave and come at random, and what each may see.
//!
//! The reference is what the witnesses received: one subscriber of each topic that
//! always reads. Everybody else must have seen a piece of that, as the topic's policy
//! allows.

use std::sync::Arc;

use proptest::prelude::*;

use super::pair::{OTHER, OWNER, Pair, Peer, SHARDS, delivered, masked, path, text, topic};
use crate::policy::{SlowConsumerPolicy, TopicPattern, TopicPolicies};
use crate::proto::frame::{FrameHeader, OpCode};
use crate::stats::CloseReason;

const POLICIES: [SlowConsumerPolicy; 3] =
    [SlowConsumerPolicy::Disconnect, SlowConsumerPolicy::DropOldest, SlowConsumerPolicy::LatestOnly];

#[derive(Clone, Debug)]
enum Step {
    /// A subscriber of the `policy`th topic comes; `quiet`: while no message is on its way.
    Join { shard: usize, policy: usize, gaps: bool, echo: bool, quiet: bool },
    /// A connection that does not subscribe publishes messages of so many bytes.
    Publish { shard: usize, policy: usize, lens: Vec<usize> },
    /// A subscriber publishes to its own topic.
    Speak { who: usize, lens: Vec<usize> },
    /// A subscriber's transport takes so many bytes from now on, and then no more.
    Room { who: usize, bytes: usize },
    /// It takes all again.
    Resume { who: usize },
    /// It begins the closing handshake.
    Leave { who: usize },
    /// Its transport fails.
    Vanish { who: usize },
    /// So many flushes of one shard.
    Flush { shard: usize, count: usize },
    /// One shard's mail reaches the other.
    Carry { from: usize },
    /// All is flushed and carried.
    Settle,
    /// The queues of a shard must not keep more than this alive.
    Shed { shard: usize, bytes_max: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let lens = || proptest::collection::vec(0usize..100, 1..12);
    let who = || any::<usize>();
    prop_oneof![
        3 => (0..SHARDS, 0..POLICIES.len(), any::<bool>(), any::<bool>(), any::<bool>())
            .prop_map(|(shard, policy, gaps, echo, quiet)| Step::Join { shard, policy, gaps, echo, quiet }),
        8 => (0..SHARDS, 0..POLICIES.len(), lens())
            .prop_map(|(shard, policy, lens)| Step::Publish { shard, policy, lens }),
        3 => (who(), lens()).prop_map(|(who, lens)| Step::Speak { who, lens }),
        5 => (who(), 0usize..700).prop_map(|(who, bytes)| Step::Room { who, bytes }),
        2 => who().prop_map(|who| Step::Resume { who }),
        1 => who().prop_map(|who| Step::Leave { who }),
        1 => who().prop_map(|who| Step::Vanish { who }),
        4 => (0..SHARDS, 1usize..5).prop_map(|(shard, count)| Step::Flush { shard, count }),
        3 => (0..SHARDS).prop_map(|from| Step::Carry { from }),
        3 => Just(Step::Settle),
        1 => (0..SHARDS, 0u64..4000).prop_map(|(shard, bytes_max)| Step::Shed { shard, bytes_max }),
    ]
}

/// Bytes that may wait for a subscriber.
const QUEUE_BYTES_MAX: usize = 500;
/// Of a message, with its header.
const FRAME_BYTES_MAX: usize = 110;

/// A published message's number, and filling.
fn message(number: usize, len: usize) -> Vec<u8> {
    let mut payload = (number as u32).to_be_bytes().to_vec();
    payload.resize(4 + len, b'.');
    payload
}

/// One thing that a subscriber saw, or a frame that the end of its connection cut.
#[derive(PartialEq, Debug)]
enum Seen {
    Message(usize),
    Gap(u64),
    Close(u16),
    Cut,
}

fn seen(mut bytes: &[u8]) -> Vec<Seen> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let header = FrameHeader::decode(bytes).expect("valid");
        let Some((header, len)) = header.filter(|(header, len)| bytes.len() - len >= header.payload_len as usize)
        else {
            all.push(Seen::Cut);
            break;
        };
        let (frame, rest) = bytes.split_at(len + header.payload_len as usize);
        let payload = &frame[len..];
        all.push(match header.opcode {
            OpCode::Binary => {
                let number = u32::from_be_bytes(payload[..4].try_into().unwrap()) as usize;
                assert_eq!(payload, message(number, payload.len() - 4), "whole");
                Seen::Message(number)
            }
            OpCode::Text => {
                let text = std::str::from_utf8(payload).unwrap();
                let number = text.strip_prefix("{\"gap\":").and_then(|rest| rest.strip_suffix('}'));
                Seen::Gap(number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{text:?}")))
            }
            OpCode::Close if payload.is_empty() => Seen::Close(0),
            OpCode::Close => Seen::Close(u16::from_be_bytes([payload[0], payload[1]])),
            other => panic!("{other:?}"),
        });
        bytes = rest;
    }
    all
}

struct Subscriber {
    peer: Peer,
    policy: usize,
    gaps: bool,
    echo: bool,
    /// Messages published, to any topic, before it had its answer.
    joined_after: usize,
    /// None of them was on its way any more.
    quiet: bool,
    /// It has left by itself, one way or the other.
    left: bool,
    /// Bytes that it had been sent, and that waited for it, when its transport was last seen
    /// full and neither had changed for the better.
    blocked_with: Option<(usize, usize)>,
}

/// A message by its number.
struct Published {
    /// The subscriber that does not get it.
    except: Option<usize>,
}

struct World {
    pair: Pair,
    publishers: Vec<Vec<Peer>>,
    witnesses: Vec<Peer>,
    subscribers: Vec<Subscriber>,
    published: Vec<Published>,
    shed: bool,
}

impl World {
    fn new() -> Self {
        let rules =
            POLICIES.into_iter().enumerate().map(|(n, policy)| (TopicPattern::new(&topic(n)), policy)).collect();
        let policies = Arc::new(TopicPolicies::new(rules));
        let mut pair = Pair::with(|settings| {
            settings.hub.policies = policies.clone();
            settings.queue.queue_bytes_max = QUEUE_BYTES_MAX;
        });
        let path = |n: usize, query: &str| format!("/topics/{}{query}", topic(n));
        let publishers = (0..SHARDS)
            .map(|shard| (0..POLICIES.len()).map(|n| pair.open(shard, &path(n, "?subscribe=off"))).collect())
            .collect();
        let witnesses = (0..POLICIES.len()).map(|n| pair.open([OWNER, OTHER][n % 2], &path(n, ""))).collect();
        Self { pair, publishers, witnesses, subscribers: Vec::new(), published: Vec::new(), shed: false }
    }

    /// A subscriber by any number; nobody if there is none.
    fn pick(&self, who: usize) -> Option<usize> {
        (!self.subscribers.is_empty()).then(|| who % self.subscribers.len())
    }

    fn is_open(&self, who: usize) -> bool {
        let Peer { shard, id } = self.subscribers[who].peer;
        self.pair.shards[shard].table.get(id).is_some_and(|peer| peer.connection.is_open())
    }

    fn is_there(&self, who: usize) -> bool {
        let Peer { shard, id } = self.subscribers[who].peer;
        self.pair.shards[shard].table.get(id).is_some()
    }

    fn messages(&mut self, lens: &[usize], except: Option<usize>) -> Vec<u8> {
        let mut frames = Vec::new();
        for len in lens {
            frames.extend(masked(0x82, &message(self.published.len(), *len)));
            self.published.push(Published { except });
        }
        frames
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Join { shard, policy, gaps, echo, quiet } => {
                if quiet {
                    self.pair.settle();
                }
                let [gaps_word, echo_word] = [gaps, echo].map(|on| if on { "on" } else { "off" });
                let path = format!("/topics/{}?gaps={gaps_word}&echo={echo_word}", topic(policy));
                let peer = self.pair.open(shard, &path);
                let joined_after = self.published.len();
                self.subscribers.push(Subscriber { peer, policy, gaps, echo, joined_after, quiet, left: false, blocked_with: None });
            }
            Step::Publish { shard, policy, lens } => {
                let frames = self.messages(&lens, None);
                self.pair.send(self.publishers[shard][policy], &frames);
            }
            Step::Speak { who, lens } => {
                let Some(who) = self.pick(who).filter(|who| self.is_open(*who)) else { return };
                let except = (!self.subscribers[who].echo).then_some(who);
                let frames = self.messages(&lens, except);
                self.pair.send(self.subscribers[who].peer, &frames);
            }
            Step::Room { who, bytes } => {
                let Some(who) = self.pick(who).filter(|who| self.is_there(*who)) else { return };
                let peer = self.subscribers[who].peer;
                self.pair.transport(peer).room = Some(bytes);
                self.pair.shards[peer.shard].writable(peer.id);
            }
            Step::Resume { who } => {
                let Some(who) = self.pick(who).filter(|who| self.is_there(*who)) else { return };
                let peer = self.subscribers[who].peer;
                self.pair.transport(peer).room = None;
                self.pair.shards[peer.shard].writable(peer.id);
            }
            Step::Leave { who } => {
                let Some(who) = self.pick(who).filter(|who| self.is_open(*who)) else { return };
                self.pair.send(self.subscribers[who].peer, &masked(0x88, &1000u16.to_be_bytes()));
                self.subscribers[who].left = true;
            }
            Step::Vanish { who } => {
                let Some(who) = self.pick(who) else { return };
                let peer = self.subscribers[who].peer;
                self.subscribers[who].left |= self.is_open(who);
                self.pair.shards[peer.shard].transport_failed(peer.id);
            }
            Step::Flush { shard, count } => {
                for _ in 0..count {
                    if let Some(id) = self.pair.shards[shard].next_flush(self.pair.now) {
                        self.pair.flush_one(Peer { shard, id });
                    }
                }
            }
            Step::Carry { from } => {
                self.pair.flush();
                self.pair.carry(from, 1 - from);
            }
            Step::Settle => self.pair.settle(),
            Step::Shed { shard, bytes_max } => {
                let now = self.pair.now;
                self.pair.shards[shard].shed_queues(bytes_max, now);
                // Batches that are being handed out are the hub's, too; other queues that are
                // about to be flushed are of peers that read.
                let shard = &self.pair.shards[shard];
                assert!(shard.queue_memory_bytes() <= bytes_max || shard.has_flushes());
                self.shed = true;
            }
        }
        (0..self.subscribers.len()).for_each(|who| self.keeps_its_bound(who));
        for shard in 0..SHARDS {
            let table = &self.pair.shards[shard].table;
            let waiting: usize = table.ids().map(|id| table.get(id).unwrap().connection.queue_bytes()).sum();
            assert_eq!(self.pair.stats[shard].queue_bytes.get(), waiting as u64, "the gauge is the sum");
        }
    }

    /// What waits for a subscriber whose transport takes nothing stays within what its policy
    /// allows, or does not grow if it was more when that began.
    fn keeps_its_bound(&mut self, who: usize) {
        let is_open = self.is_open(who);
        let Subscriber { peer, policy, blocked_with, .. } = &mut self.subscribers[who];
        let connection = self.pair.shards[peer.shard].table.get(peer.id).map(|entry| &entry.connection);
        let Some(connection) = connection.filter(|connection| is_open && connection.blocked) else {
            *blocked_with = None;
            return;
        };
        let (waits, sent) = (connection.queue_bytes(), self.pair.transport(*peer).sent.len());
        let allowed = match POLICIES[*policy] {
            // The rest of a frame, the newest, and a marker.
            SlowConsumerPolicy::LatestOnly => 3 * FRAME_BYTES_MAX,
            SlowConsumerPolicy::DropOldest => QUEUE_BYTES_MAX + FRAME_BYTES_MAX,
            SlowConsumerPolicy::Disconnect => QUEUE_BYTES_MAX,
        };
        let before = blocked_with.filter(|(before, _)| *before == sent).map_or(waits, |(_, waits)| waits);
        assert!(waits <= allowed.max(before), "{waits} bytes wait, {before} before: {:?}", POLICIES[*policy]);
        *blocked_with = Some((sent, waits.min(before)));
    }

    /// Everybody reads all, and what they saw is judged.
    fn finish(mut self) {
        self.pair.settle();
        for who in 0..self.subscribers.len() {
            let peer = self.subscribers[who].peer;
            self.pair.transport(peer).room = None;
            self.pair.shards[peer.shard].writable(peer.id);
        }
        self.pair.settle();
        let orders: Vec<Vec<usize>> = (0..POLICIES.len())
            .map(|n| {
                let all = seen(&self.pair.take(self.witnesses[n]));
                let numbers = all.iter().map(|seen| match seen {
                    Seen::Message(number) => *number,
                    other => panic!("a witness saw {other:?}"),
                });
                numbers.collect()
            })
            .collect();
        assert_eq!(orders.iter().map(Vec::len).sum::<usize>(), self.published.len(), "witnesses miss nothing");

        let (mut told, mut skipped) = (0, 0);
        for who in 0..self.subscribers.len() {
            let missed = self.judge(who, &orders[self.subscribers[who].policy]);
            match POLICIES[self.subscribers[who].policy] {
                SlowConsumerPolicy::LatestOnly => skipped += missed,
                _ => told += missed,
            }
        }
        // What was dropped for those that are gone, or before the first message of those
        // that came amid others, was counted too.
        let known = (0..self.subscribers.len()).all(|who| self.is_open(who) && self.subscribers[who].quiet);
        let [dropped, conflated] = [self.pair.sum(|stats| &stats.dropped), self.pair.sum(|stats| &stats.conflated)];
        assert!(told <= dropped && skipped <= conflated, "{told} of {dropped}, {skipped} of {conflated}");
        if known {
            assert_eq!((told, skipped), (dropped, conflated));
        }
        self.end();
    }

    /// Compares what one subscriber saw with its topic's order; how many it missed and is
    /// still there.
    fn judge(&mut self, who: usize, order: &[usize]) -> u64 {
        let (open, there) = (self.is_open(who), self.is_there(who));
        let subscriber = &self.subscribers[who];
        let policy = POLICIES[subscriber.policy];
        let saw = seen(&std::mem::take(&mut self.pair.transport(subscriber.peer).sent));
        let for_it: Vec<usize> =
            order.iter().copied().filter(|number| self.published[*number].except != Some(who)).collect();
        let place = |number: usize| for_it.iter().position(|n| *n == number).expect("a message for it");

        // It got everything from some message on, which is not later than its answer.
        let first_due = for_it.iter().position(|number| *number >= subscriber.joined_after).unwrap_or(for_it.len());
        let mut next = subscriber.quiet.then_some(first_due);
        let (mut missed, mut close) = (0, None);
        let mut lead = 0;
        for seen in &saw {
            assert!(close.is_none(), "nothing follows the end: {saw:?}");
            match seen {
                Seen::Message(number) => {
                    let at = place(*number);
                    let expected = next.unwrap_or_else(|| {
                        let first = at.checked_sub(lead).expect("not more are missing than there were");
                        assert!(first <= first_due || policy == SlowConsumerPolicy::LatestOnly, "{first} {first_due}");
                        first + lead
                    });
                    if policy == SlowConsumerPolicy::LatestOnly {
                        assert!(at >= expected, "never out of order: {saw:?}");
                        missed += at - expected;
                    } else {
                        assert_eq!(at, expected, "{policy:?}: nothing is missing without a word: {saw:?}");
                    }
                    next = Some(at + 1);
                }
                Seen::Gap(lost) => {
                    assert!(policy == SlowConsumerPolicy::DropOldest && subscriber.gaps);
                    missed += *lost as usize;
                    match &mut next {
                        Some(next) => *next += *lost as usize,
                        None => lead += *lost as usize,
                    }
                }
                Seen::Close(code) => close = Some(*code),
                Seen::Cut => assert!(!there, "only a reset cuts a frame"),
            }
        }
        match close {
            Some(4008) => {
                let bears = policy == SlowConsumerPolicy::LatestOnly
                    || (policy == SlowConsumerPolicy::DropOldest && subscriber.gaps);
                assert!(!bears || self.shed, "only the bound of all queues closes it");
                assert!(!open);
            }
            Some(code) => assert!(subscriber.left && (code == 1000 || code == 0), "{code}"),
            None if !there => {}
            None => {
                assert!(open, "who is closed is told");
                assert_eq!(next.unwrap_or(first_due), for_it.len(), "the newest has arrived: {saw:?}");
            }
        }
        if open { missed as u64 } else { 0 }
    }

    /// All go, and nothing is left behind.
    fn end(mut self) {
        let everybody = self.pair.transports.iter().map(|(peer, _)| *peer).collect::<Vec<_>>();
        for peer in everybody {
            self.pair.shards[peer.shard].transport_failed(peer.id);
        }
        self.pair.assert_empty();
        assert!(self.pair.shards.iter().all(|shard| shard.queue_memory_bytes() == 0));
        assert_eq!(self.pair.closes(CloseReason::ProtocolError), 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn each_subscriber_sees_its_topic_in_order_or_is_told(steps in proptest::collection::vec(step(), 1..80)) {
        let mut world = World::new();
        for step in steps {
            world.take(step);
        }
        world.finish();
    }
}

#[test]
fn who_is_not_behind_gets_every_message_of_a_topic_that_keeps_the_newest() {
    let mut world = World::new();
    let latest = POLICIES.iter().position(|policy| *policy == SlowConsumerPolicy::LatestOnly).unwrap();
    world.take(Step::Join { shard: OWNER, policy: latest, gaps: false, echo: false, quiet: true });
    // Its own message stands between others, so that it does not get their batch whole.
    for step in [
        Step::Publish { shard: OWNER, policy: latest, lens: vec![1, 2] },
        Step::Speak { who: 0, lens: vec![3] },
        Step::Publish { shard: OWNER, policy: latest, lens: vec![4] },
        Step::Settle,
    ] {
        world.take(step);
    }
    let peer = world.subscribers[0].peer;
    assert_eq!(seen(&world.pair.transport(peer).sent), [0, 1, 3].map(Seen::Message));
    assert_eq!(world.pair.sum(|stats| &stats.conflated), 0);
}

#[test]
fn who_reads_is_not_closed_for_the_queues_of_others() {
    let mut pair = Pair::new();
    let [slow, publisher, _last] = [(); 3].map(|()| pair.open(OWNER, &path("")));
    let reader = pair.open(OWNER, "/echo");
    pair.transport(slow).room = Some(0);
    pair.send(publisher, &text("first"));
    pair.flush();
    // The second batch waits for the slow one, and stays until the last one has had it.
    pair.send(publisher, &text("second"));
    assert_eq!(pair.shards[OWNER].next_flush(pair.now), Some(publisher.id));
    pair.flush_one(publisher);
    pair.send(reader, &text("hello"));
    pair.shards[OWNER].shed_queues(0, pair.now);
    pair.flush();
    assert_eq!(pair.closes(CloseReason::QueueMemory), 1, "the slow one");
    assert_eq!(pair.take(reader), delivered("hello"));
    assert_eq!(pair.transport(reader).closed, None);
}
