//! What travels between threads: from shard to shard, and between the control
//! plane and the shards. Values only; `driver::mailbox` carries them.

#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Duration;

use crate::buffer::SharedPayload;
use crate::id::{ConnectionId, ShardId, TopicId};
use crate::origin::OriginPolicy;
use crate::policy::TopicPolicies;
use crate::proto::frame::MessageKind;

/// A topic's name, shared by everything that refers to the topic.
pub type TopicName = Arc<str>;

/// Where a message is to be put in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Destination {
    /// The topic of this name.
    Named(TopicName),
    /// A topic that the owner has told its place of. It keeps it for as long as the shard
    /// that was told has not taken its interest back.
    Placed(TopicId),
}

/// A message that crosses threads. Its bytes are shared, not copied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SharedMessage {
    /// Text (valid UTF-8) or binary.
    pub kind: MessageKind,
    /// The payload.
    pub payload: SharedPayload,
}

/// A publisher that does not want its own message back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Origin {
    /// Where the publisher is connected.
    pub shard: ShardId,
    /// The publisher.
    pub connection: ConnectionId,
}

/// A thread that has a mailbox.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Address {
    /// A data-plane thread.
    Shard(ShardId),
    /// The control plane's thread.
    Control,
}

/// Names a request of the control plane in its answer.
pub type RequestToken = u64;

/// One message between threads. What one thread sends another arrives in order.
#[derive(Debug)]
pub enum Envelope {
    /// Shard to owner: `from` has a subscriber now.
    Interest {
        /// The topic.
        topic: TopicName,
        /// The shard that wants deliveries.
        from: ShardId,
        /// What it calls the topic: deliveries are to name it so.
        place: TopicId,
        /// Comes back in the answer; tells it from the answer to an older request.
        sequence: u32,
    },
    /// Owner to shard: everything ordered from here on will be delivered to you.
    InterestAcknowledged {
        /// The topic.
        topic: TopicName,
        /// What the owner calls the topic: what is published may name it so.
        place: TopicId,
        /// The request's number.
        sequence: u32,
    },
    /// Owner to shard: no room for another topic.
    InterestRefused {
        /// The topic.
        topic: TopicName,
        /// The request's number.
        sequence: u32,
    },
    /// Shard to owner: `from` has no subscriber any more.
    Disinterest {
        /// The topic.
        topic: TopicName,
        /// The shard that wants no more deliveries.
        from: ShardId,
    },
    /// Shard to owner: put this in order.
    Publish {
        /// The topic.
        topic: Destination,
        /// What to publish.
        message: SharedMessage,
        /// Who is left out.
        origin: Option<Origin>,
    },
    /// Owner to an interested shard: the next message of the topic.
    Deliver {
        /// The topic, as the receiver called it in [`Envelope::Interest`].
        topic: TopicId,
        /// What was published.
        message: SharedMessage,
        /// Who is left out.
        origin: Option<Origin>,
    },
    /// Control to owner: put this in order and say where it stands.
    PublishRequest {
        /// Names the request.
        token: RequestToken,
        /// The topic.
        topic: TopicName,
        /// What to publish.
        message: SharedMessage,
    },
    /// Owner to control: it has been ordered.
    Published {
        /// Names the request.
        token: RequestToken,
        /// Where it stands, or that there is no room for another topic.
        result: Result<Position, TopicsFull>,
    },
    /// Control to shard: answer, to show that your loop turns.
    Probe {
        /// Names the request.
        token: RequestToken,
    },
    /// Shard to control: it turns.
    ProbeAnswer {
        /// Names the request.
        token: RequestToken,
    },
    /// Control to shard: follow these from here on.
    Reload(Arc<LiveOptions>),
    /// Control to shard: the next step of going down.
    Drain(DrainStep),
    /// Shard to every other, while going down: all that I had to say before is on its way
    /// to you before this.
    Barrier(Round),
}

impl Envelope {
    /// Bytes that the envelope keeps alive beside itself.
    pub fn payload_bytes(&self) -> usize {
        match self {
            Self::Publish { message, .. } | Self::Deliver { message, .. } | Self::PublishRequest { message, .. } => {
                message.payload.len()
            }
            _ => 0,
        }
    }
}

/// Options that a shard follows as they change.
#[derive(Clone, Debug)]
pub struct LiveOptions {
    /// Which hosts and origins are answered.
    pub origin: Arc<OriginPolicy>,
    /// What is done with subscribers that read too slowly.
    pub policies: Arc<TopicPolicies>,
    /// Anonymous clients may subscribe.
    pub anonymous_subscribe: bool,
    /// Anonymous clients may publish.
    pub anonymous_publish: bool,
}

/// A step of going down; `shard::drain` tells the whole way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DrainStep {
    /// Tell those who ask for our health to go elsewhere; all else goes on.
    Announce,
    /// Take in those who wait, then nobody any more, and close all.
    Close {
        /// From the first connection that is told to the last.
        spread: Duration,
        /// Decides which connections go when; any number.
        seed: u64,
    },
}

/// What all shards tell each other while going down, one after the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Round {
    /// My listener is empty.
    Emptied,
    /// I have the first round from all: what was accepted before it has been delivered.
    Delivered,
}

impl Round {
    /// Both, in their order.
    pub const ALL: [Self; 2] = [Self::Emptied, Self::Delivered];
}

/// A message's place in its topic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Position {
    /// Which life of the topic: offsets of different epochs do not compare. A new one
    /// begins with the process, and when a topic that nobody used was forgotten.
    pub epoch: u64,
    /// Number of the message in this epoch, from 1, without holes.
    pub offset: u64,
}

/// The table of topics has no room; the limit is in the configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no room for another topic (limit {limit})")]
pub struct TopicsFull {
    /// Topics that may be in use in the whole process.
    pub limit: usize,
}
