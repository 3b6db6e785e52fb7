//! A run, checked: what `cli` read, with every bound held.

use std::net::IpAddr;
use std::time::Duration;

use wsgate::proto::frame::MessageKind;

use crate::scenario::Pace;
use crate::schedule::{Arrivals, Share};
use crate::speech::Speech;
use crate::target::{Request, Target};
use crate::template::Values;
use crate::tls::TlsPlan;

/// Which scenario.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Every message comes back.
    Echo,
    /// Every subscriber gets every published message.
    Fanout {
        /// Connections that publish, beside the subscribers.
        publishers: usize,
    },
    /// Connections are held.
    Idle,
}

impl Kind {
    /// The name on the command line and in the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Fanout { .. } => "fanout",
            Self::Idle => "idle",
        }
    }
}

/// Everything that a run needs to know.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What is done.
    pub kind: Kind,
    /// Where.
    pub target: Target,
    /// The upgrade request of echo and idle connections and of subscribers.
    pub request: Request,
    /// The upgrade request of publishers.
    pub publisher_request: Request,
    /// What clients say beside the payloads.
    pub speech: Speech,
    /// How, for `wss://`.
    pub tls: Option<TlsPlan>,
    /// Connections; in a fan-out, subscribers.
    pub connections: usize,
    /// How fast messages are sent; idle connections send none.
    pub pace: Option<Pace>,
    /// Bytes of each message.
    pub payload_bytes: usize,
    /// Text or binary.
    pub message_kind: MessageKind,
    /// Connects per second.
    pub ramp: f64,
    /// How long a connection may take from the first SYN to the 101.
    pub handshake_timeout: Duration,
    /// How messages follow each other in an open loop.
    pub arrivals: Arrivals,
    /// How long messages are sent before the figures begin.
    pub warm_up: Duration,
    /// How long messages are sent that are in the figures.
    pub duration: Duration,
    /// How long messages are sent after that.
    pub cool_down: Duration,
    /// How long answers are waited for after that.
    pub grace: Duration,
    /// Worker threads.
    pub threads: usize,
    /// Addresses to connect from, in turn; empty leaves it to the system.
    pub sources: Vec<IpAddr>,
    /// Nobody said what to do: the report adds what to try next.
    pub is_default: bool,
}

impl Plan {
    /// How long messages are sent in all.
    pub fn sending(&self) -> Duration {
        self.warm_up + self.duration + self.cool_down
    }

    /// Publishing connections beside the others.
    pub fn publishers(&self) -> usize {
        match self.kind {
            Kind::Fanout { publishers } => publishers,
            _ => 0,
        }
    }

    /// All connections.
    pub fn connections_total(&self) -> usize {
        self.connections + self.publishers()
    }

    /// Who a worker's member is: its number within the run, and whether it publishes.
    pub fn client(&self, worker: usize, member: usize) -> (usize, bool) {
        let share = self.connection_share(worker);
        match member.checked_sub(share.local_senders()) {
            None => (share.sender(member), false),
            Some(publisher) => (self.connections + self.publisher_share(worker).sender(publisher), true),
        }
    }

    /// What a client fills into templates.
    pub fn values(&self, worker: usize, member: usize) -> Values {
        let (client, _) = self.client(worker, member);
        Values { client: client as u32, topic: 0 }
    }

    /// The connections (subscribers, in a fan-out) of one worker.
    pub fn connection_share(&self, worker: usize) -> Share {
        Share { senders: self.connections, workers: self.threads, worker }
    }

    /// The publishers of one worker.
    pub fn publisher_share(&self, worker: usize) -> Share {
        Share { senders: self.publishers(), workers: self.threads, worker }
    }
}
