//! A run, checked: what `cli` read, with every bound held.

use std::net::IpAddr;
use std::time::Duration;

use wsgate::proto::frame::MessageKind;

use crate::course::Course;
use crate::publisher::PublishRequest;
use crate::scenario::Pace;
use crate::schedule::{Arrivals, Share};
use crate::sockets::Io;
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
    /// See [`crate::scenario::churn`].
    Churn {
        /// How long each connection stays.
        stay: Duration,
    },
    /// See [`crate::scenario::storm`].
    Storm {
        /// How often all connections drop.
        times: u32,
    },
    /// A fan-out in which some subscribers do not read.
    Slow {
        /// Connections that publish, beside the subscribers.
        publishers: usize,
        /// Subscribers that stall.
        stalled: usize,
    },
}

impl Kind {
    /// The name on the command line and in the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Fanout { .. } => "fanout",
            Self::Idle => "idle",
            Self::Churn { .. } => "churn",
            Self::Storm { .. } => "storm",
            Self::Slow { .. } => "slow",
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
    /// How publishers without a WebSocket publish.
    pub publish: Option<PublishRequest>,
    /// Publishers of each topic that are WebSocket clients; the others use `publish`.
    pub client_publishers: usize,
    /// How, for `wss://`.
    pub tls: Option<TlsPlan>,
    /// Topics over which subscribers and publishers are spread, by their numbers.
    pub topics: usize,
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
    /// What is sent when, and what of it is measured.
    pub course: Course,
    /// How long answers are waited for after that.
    pub grace: Duration,
    /// Worker threads.
    pub threads: usize,
    /// Each worker keeps to a processor of its own.
    pub pin: bool,
    /// How workers wait for their sockets.
    pub io: Io,
    /// Addresses to connect from, in turn; empty leaves it to the system.
    pub sources: Vec<IpAddr>,
    /// Nobody said what to do: the report adds what to try next.
    pub is_default: bool,
}

impl Plan {
    /// Messages per second that are asked for, in the mean over what is measured; open
    /// loop only.
    pub fn target_rate(&self) -> Option<f64> {
        match self.pace {
            Some(Pace::Open { rate }) => Some(rate * self.course.load_measured()),
            _ => None,
        }
    }

    /// Messages per second that are asked for at the beginning and at the end of a phase.
    pub fn asked_in(&self, phase: &str) -> Option<(f64, f64)> {
        let Some(Pace::Open { rate }) = self.pace else { return None };
        let phase = self.course.phases().iter().find(|known| &*known.name == phase)?;
        Some((rate * phase.load.0, rate * phase.load.1))
    }

    /// Members of one worker that connect before the run; others do in it.
    pub fn members_at_first(&self, worker: usize) -> usize {
        let members = self.members(worker);
        match self.kind {
            Kind::Churn { .. } => 0,
            Kind::Idle => self.course.members_at_first(members),
            _ => members,
        }
    }

    /// Whether that client of the run is a subscriber that stalls.
    pub fn stalls(&self, number: usize) -> bool {
        matches!(self.kind, Kind::Slow { stalled, .. } if number < stalled)
    }

    /// Publishing connections beside the others.
    pub fn publishers(&self) -> usize {
        match self.kind {
            Kind::Fanout { publishers } | Kind::Slow { publishers, .. } => publishers,
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

    /// Whether that client of the run publishes over HTTP.
    pub fn publishes_over_http(&self, number: usize) -> bool {
        number.checked_sub(self.connections).is_some_and(|publisher| publisher / self.topics >= self.client_publishers)
    }

    /// What a client fills into templates.
    pub fn values(&self, worker: usize, member: usize) -> Values {
        let (client, publishes) = self.client(worker, member);
        // Publishers are numbered behind the subscribers, topics from 0 for both.
        let number = if publishes { client - self.connections } else { client };
        Values { client: client as u32, topic: (number % self.topics) as u32 }
    }

    /// Members of one worker: its connections, then its publishers.
    pub fn members(&self, worker: usize) -> usize {
        self.connection_share(worker).local_senders() + self.publisher_share(worker).local_senders()
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
