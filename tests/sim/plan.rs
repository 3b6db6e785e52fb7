//! What a seed stands for: the bounds of its gateway, its topics, and how often what is
//! done to it.
//!
//! Swarm testing: each seed leaves some faults out and prefers some of the others. A
//! simulation in which everything happens all the time never gets far with anything.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use wsgate::connection::{Deadlines, QueueBounds};
use wsgate::dialect::{Routes, ServiceLimits};
use wsgate::hub::HubSettings;
use wsgate::id::ShardId;
use wsgate::policy::{SlowConsumerPolicy, TopicPolicies};
use wsgate::proto::compression::CompressionSettings;
use wsgate::proto::extension::Takeover;
use wsgate::shard::ShardSettings;

/// Events of a seed before its faults stop.
pub(crate) const EVENTS: u64 = 5_000;

const RULES: [&str; 2] = ["oldest/* = drop_oldest", "latest/* = latest_only"];

/// What a step may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Action {
    /// A shard that is awake turns.
    Turn,
    /// The control plane turns.
    Control,
    /// Bytes of a client arrive.
    Arrive,
    /// A client reads.
    Read,
    Connect,
    /// A client sends a message, a ping or a pong.
    Say,
    /// A client sends several messages at once.
    Burst,
    PublishOverHttp,
    /// A client sends Close.
    Close,
    /// Time passes until something is due.
    Deadline,
    /// Much more time passes than anything waits for.
    Leap,
    Reset,
    HalfClose,
    Stall,
    GoOn,
    /// A client stops to answer pings and Closes.
    Mute,
    Malformed,
    /// An event of a connection that is gone.
    LateEvent,
    /// A shard wakes without a reason.
    IdleWake,
    Drain,
}

/// Each action with its usual weight, and whether a seed may do without it.
const USUAL: [(Action, u32, bool); 20] = [
    (Action::Turn, 300, false),
    (Action::Control, 20, false),
    (Action::Arrive, 200, false),
    (Action::Read, 160, false),
    (Action::Connect, 30, false),
    (Action::Say, 160, false),
    (Action::Burst, 12, true),
    (Action::PublishOverHttp, 30, true),
    (Action::Close, 6, true),
    (Action::Deadline, 4, true),
    (Action::Leap, 1, true),
    (Action::Reset, 4, true),
    (Action::HalfClose, 4, true),
    (Action::Stall, 8, true),
    (Action::GoOn, 8, false),
    (Action::Mute, 1, true),
    (Action::Malformed, 3, true),
    (Action::LateEvent, 12, true),
    (Action::IdleWake, 10, true),
    (Action::Drain, 1, true),
];

/// See the module.
pub(crate) struct Plan {
    pub(crate) shards: usize,
    /// Names, and what is done with slow subscribers.
    pub(crate) topics: Vec<(String, SlowConsumerPolicy)>,
    /// Clients that are connected at once, at most.
    pub(crate) clients_max: usize,
    /// Bytes that a driver reads at once.
    pub(crate) receive_buffer_bytes: usize,
    /// Bytes that a client's kernel takes, by turns.
    pub(crate) windows: Vec<usize>,
    /// The bytes of a stream arrive in any pieces.
    pub(crate) splits: bool,
    /// A transport may take less than it has room for.
    pub(crate) partial_writes: bool,
    /// Hosts gather what is to be sent and offer it to the transports later, as completion
    /// loops do.
    pub(crate) lends: bool,
    /// Clients may send frames before their upgrade is answered.
    pub(crate) early_frames: bool,
    /// Requests that are no upgrades, and clients that never finish theirs.
    pub(crate) bad_requests: bool,
    /// Clients may offer permessage-deflate.
    pub(crate) offers: bool,
    pub(crate) mailbox_entries: usize,
    pub(crate) overflow_bytes_max: u64,
    pub(crate) queue_bytes_total_max: u64,
    /// Longest message that clients send; a few are longer than a frame's short lengths.
    pub(crate) large_message_bytes: usize,
    settings: ShardSettings,
    weights: Vec<(Action, u32)>,
    weight_sum: u32,
}

impl Plan {
    pub(crate) fn new(seed: u64, rng: &mut Rng) -> Self {
        let shards = rng.usize(1..=4);
        let topics = (0..rng.usize(1..=8)).map(|n| match rng.u32(0..4) {
            0 => (format!("oldest/{n}"), SlowConsumerPolicy::DropOldest),
            1 => (format!("latest/{n}"), SlowConsumerPolicy::LatestOnly),
            _ => (format!("any {n}"), SlowConsumerPolicy::Disconnect),
        });
        let topics: Vec<_> = topics.collect();
        let clients_max = rng.usize(4..=24);
        let small_windows = rng.bool();
        let windows = if small_windows { vec![1, 40, 300, 1_500] } else { vec![300, 4_000, 64_000, 1_000_000] };
        let leave_out = |rng: &mut Rng, share: u32| rng.u32(0..100) < share;
        let mut weights = Vec::new();
        for (action, usual, optional) in USUAL {
            if !(optional && leave_out(rng, 35)) {
                weights.push((action, usual * rng.u32(1..=4)));
            }
        }
        Self {
            shards,
            clients_max,
            receive_buffer_bytes: *pick(rng, &[64, 1_000, 16_000]),
            windows,
            splits: !leave_out(rng, 20),
            partial_writes: !leave_out(rng, 30),
            early_frames: !leave_out(rng, 30),
            bad_requests: !leave_out(rng, 30),
            offers: !leave_out(rng, 50),
            mailbox_entries: *pick(rng, &[1, 2, 7, 64]),
            overflow_bytes_max: *pick(rng, &[0, 2_000, 100_000]),
            queue_bytes_total_max: *pick(rng, &[6_000, 1 << 30, 1 << 30]),
            large_message_bytes: *pick(rng, &[300, 3_000, 70_000]),
            // By the seed itself, so that it draws nothing.
            lends: seed % 3 == 2,
            settings: settings(seed, shards, topics.len(), clients_max, rng),
            topics,
            weight_sum: weights.iter().map(|(_, weight)| weight).sum(),
            weights,
        }
    }

    /// What to do next.
    pub(crate) fn action(&self, rng: &mut Rng) -> Action {
        let mut left = rng.u32(0..self.weight_sum);
        for (action, weight) in &self.weights {
            match left.checked_sub(*weight) {
                Some(rest) => left = rest,
                None => return *action,
            }
        }
        unreachable!("the weights add up to their sum")
    }

    pub(crate) fn settings(&self, shard: usize) -> ShardSettings {
        let hub = HubSettings { shard: ShardId(shard as u16), ..self.settings.hub.clone() };
        ShardSettings { hub, ..self.settings.clone() }
    }

    /// What all shards are told alike.
    pub(crate) fn common(&self) -> &ShardSettings {
        &self.settings
    }

    pub(crate) fn may_publish(&self) -> bool {
        self.settings.routes.anonymous_publish
    }
}

fn settings(seed: u64, shards: usize, topics: usize, clients_max: usize, rng: &mut Rng) -> ShardSettings {
    let rules = RULES.iter().map(|rule| TopicPolicies::parse_rule(rule).expect("a rule"));
    let queue_bytes_max = *pick(rng, &[600, 4_000, 30_000]);
    let message_bytes_max = *pick(rng, &[4_000, 80_000]);
    let few = rng.u32(0..4) == 0;
    ShardSettings {
        hub: HubSettings {
            shard: ShardId(0),
            shards,
            hash_seed: seed,
            epoch_seed: seed,
            topics_max: if few { topics.div_ceil(2) } else { 100 },
            topics_in_use: Arc::default(),
            topics_idle_max: *pick(rng, &[0, 1, 100]),
            policies: Arc::new(TopicPolicies::new(rules.collect())),
        },
        connections_max: if rng.u32(0..4) == 0 { (clients_max / shards / 2).max(1) } else { 100 },
        handshake_bytes_max: 1_024,
        frame_bytes_max: *pick(rng, &[usize::MAX, usize::MAX, 200, 2_000]),
        fragments_max: *pick(rng, &[usize::MAX, usize::MAX, 3, 6]),
        queue: QueueBounds {
            queue_bytes_max,
            reply_bytes_watermark: rng.usize(50..=queue_bytes_max),
            pong_bytes_max: *pick(rng, &[usize::MAX, usize::MAX, 0, 300]),
        },
        deadlines: Deadlines {
            handshake: Duration::from_secs(10),
            ping_interval: Duration::from_secs(25),
            pong_timeout: Duration::from_secs(11),
            idle: pick(rng, &[None, None, None, Some(20), Some(60)]).map(Duration::from_secs),
            close: Duration::from_secs(5),
        },
        routes: Routes {
            echo: true,
            greeting: true,
            anonymous_subscribe: true,
            anonymous_publish: rng.u32(0..10) > 0,
            limits: ServiceLimits { echo: message_bytes_max, greeting: message_bytes_max, plain: message_bytes_max },
        },
        origin: Arc::default(),
        admission: Arc::default(),
        tls: None,
        compression: compression(rng),
    }
}

fn compression(rng: &mut Rng) -> CompressionSettings {
    CompressionSettings {
        enabled: rng.u32(0..3) > 0,
        message_bytes_min: *pick(rng, &[0, 30, 200]),
        level: *pick(rng, &[1, 6]),
        takeover: Takeover { server: rng.bool(), client: rng.bool() },
        context_bytes_max: *pick(rng, &[0, 500_000, 1 << 30]),
        control_frames: false,
    }
}

/// One of several.
pub(crate) fn pick<'a, T>(rng: &mut Rng, from: &'a [T]) -> &'a T {
    &from[rng.usize(0..from.len())]
}
