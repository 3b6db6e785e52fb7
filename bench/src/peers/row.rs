//! The rows of the table: what work is measured, and what is asked of it.
//!
//! Another row is another entry of [`ROWS`].

use serde::Serialize;

use crate::rig::frames;
use crate::rig::pattern::matches;

/// Connections of the idle rows: near what the usual limit of 20,000 descriptors
/// leaves, since more of them make the bytes per connection more exact.
const IDLE_CONNECTIONS: usize = 16_000;
/// The same over TLS, where a handshake takes about a millisecond and a connection more
/// bytes.
const SECURE_IDLE_CONNECTIONS: usize = 4_000;

/// A row.
#[derive(Debug)]
pub(super) struct Row {
    /// As `--rows` selects it.
    pub(super) name: &'static str,
    /// As the table shows it.
    pub(super) title: &'static str,
    pub(super) work: Work,
    pub(super) budgets: &'static [Budget],
}

/// What a server is made to do.
#[derive(Clone, Copy, Debug)]
pub(super) enum Work {
    /// Every connection keeps `in_flight` messages of `bytes` bytes under way.
    Echo { connections: usize, bytes: usize, in_flight: usize },
    /// One connection publishes to a topic that all others subscribe to. A message
    /// counts as under way until every subscriber has it.
    FanOut { subscribers: usize, bytes: usize, in_flight: usize },
    /// Each connection subscribes to a topic of its own, and publishes to it. The next
    /// to publish is drawn at random when a message has arrived.
    OwnTopics { topics: usize, bytes: usize, in_flight: usize, owner: Owner },
    /// The same with subscribers that speak TLS. The publisher does not.
    SecureFanOut { subscribers: usize, bytes: usize, in_flight: usize },
    /// Connections over TLS that are open, and nothing else.
    SecureIdle { connections: usize },
    /// Connections that are open, and nothing else.
    Idle { connections: usize, topics: IdleTopics },
}

/// Where topics are put in order, seen from their subscribers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Owner {
    /// There is one shard.
    SameShard,
    /// There are two, and only such topics are used as belong to the one that their
    /// subscriber is not on.
    OtherShard,
}

/// What idle connections subscribe to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum IdleTopics {
    /// Nothing: they are connections of the echo.
    None,
    /// All to one topic.
    Shared,
    /// Each to a topic of its own with a name of 32 bytes.
    Own,
}

/// What is asked of wsgate in a row.
#[derive(Clone, Copy, Debug)]
pub(super) enum Budget {
    /// CPU per message is at most this many times that of the best peer.
    OfBestPeer(f64),
    /// CPU per message is at most this many times the floor's.
    OfFloor(f64),
    /// An idle connection takes at most this many bytes.
    Bytes(f64),
}

/// Equal but for noise: what is asked where one send for each message is inherent.
const NO_WORSE: Budget = Budget::OfBestPeer(1.03);
/// What is asked where batching and copies decide.
const NO_PEER_AHEAD: Budget = Budget::OfBestPeer(1.0);

/// All rows, in the order of the table.
pub(super) const ROWS: &[Row] = &[
    Row {
        name: "echo-100",
        title: "echo, 100 connections, 20 B, one in flight",
        work: Work::Echo { connections: 100, bytes: 20, in_flight: 1 },
        budgets: &[NO_WORSE],
    },
    Row {
        name: "echo-1000",
        title: "echo, 1,000 connections, 20 B, one in flight",
        work: Work::Echo { connections: 1_000, bytes: 20, in_flight: 1 },
        budgets: &[NO_WORSE],
    },
    Row {
        name: "echo-100-x16",
        title: "echo, 100 connections, 20 B, 16 in flight",
        work: Work::Echo { connections: 100, bytes: 20, in_flight: 16 },
        budgets: &[Budget::OfFloor(1.15), NO_PEER_AHEAD],
    },
    Row {
        name: "echo-10-64k",
        title: "echo, 10 connections, 64 KiB, one in flight",
        work: Work::Echo { connections: 10, bytes: 64 * 1024, in_flight: 1 },
        budgets: &[NO_WORSE, Budget::OfFloor(1.2)],
    },
    Row {
        name: "fanout-1000",
        title: "fan-out to 1,000, 64 B, one at a time",
        work: Work::FanOut { subscribers: 1_000, bytes: 64, in_flight: 1 },
        budgets: &[NO_WORSE],
    },
    Row {
        name: "fanout-1000-x64",
        title: "fan-out to 1,000, 64 B, 64 in flight",
        work: Work::FanOut { subscribers: 1_000, bytes: 64, in_flight: 64 },
        budgets: &[Budget::OfFloor(1.4), NO_PEER_AHEAD],
    },
    Row {
        name: "fanout-1000-1k-x64",
        title: "fan-out to 1,000, 1 KiB, 64 in flight",
        work: Work::FanOut { subscribers: 1_000, bytes: 1024, in_flight: 64 },
        budgets: &[Budget::OfFloor(1.3), NO_PEER_AHEAD],
    },
    Row {
        name: "fanout-10000",
        title: "fan-out to 10,000, 64 B, one at a time",
        work: Work::FanOut { subscribers: 10_000, bytes: 64, in_flight: 1 },
        budgets: &[NO_WORSE],
    },
    Row {
        name: "fanout-10000-x64",
        title: "fan-out to 10,000, 64 B, 64 in flight",
        work: Work::FanOut { subscribers: 10_000, bytes: 64, in_flight: 64 },
        budgets: &[Budget::OfFloor(1.4), NO_PEER_AHEAD],
    },
    Row {
        name: "topics-10000",
        title: "10,000 topics with one subscriber each, 64 B, published at random, 64 in flight",
        work: Work::OwnTopics { topics: 10_000, bytes: 64, in_flight: 64, owner: Owner::SameShard },
        budgets: &[Budget::OfFloor(1.1)],
    },
    Row {
        name: "topics-10000-other-shard",
        title: "the same with two shards, each topic owned by the other one",
        work: Work::OwnTopics { topics: 10_000, bytes: 64, in_flight: 64, owner: Owner::OtherShard },
        budgets: &[Budget::OfFloor(1.5)],
    },
    Row {
        name: "idle-bare",
        title: "idle connection without a topic",
        work: Work::Idle { connections: IDLE_CONNECTIONS, topics: IdleTopics::None },
        budgets: &[Budget::Bytes(256.0)],
    },
    Row {
        name: "idle-one-topic",
        title: "idle connection, all on one topic",
        work: Work::Idle { connections: IDLE_CONNECTIONS, topics: IdleTopics::Shared },
        budgets: &[Budget::Bytes(320.0)],
    },
    Row {
        name: "idle-own-topic",
        title: "idle connection, each on a topic of its own with a name of 32 bytes",
        work: Work::Idle { connections: IDLE_CONNECTIONS, topics: IdleTopics::Own },
        budgets: &[Budget::Bytes(600.0)],
    },
    Row {
        name: "wss-fanout-1000",
        title: "fan-out over TLS to 1,000, 64 B, one at a time",
        work: Work::SecureFanOut { subscribers: 1_000, bytes: 64, in_flight: 1 },
        budgets: &[Budget::OfFloor(1.15)],
    },
    Row {
        name: "wss-fanout-1000-x64",
        title: "fan-out over TLS to 1,000, 64 B, 64 in flight",
        work: Work::SecureFanOut { subscribers: 1_000, bytes: 64, in_flight: 64 },
        budgets: &[Budget::OfFloor(1.15)],
    },
    Row {
        name: "wss-idle",
        title: "idle connection over TLS without a topic",
        work: Work::SecureIdle { connections: SECURE_IDLE_CONNECTIONS },
        budgets: &[Budget::OfFloor(1.15)],
    },
];

impl Work {
    /// Shards that wsgate is started with.
    pub(super) fn shards(&self) -> usize {
        match self {
            Self::OwnTopics { owner: Owner::OtherShard, .. } => 2,
            _ => 1,
        }
    }

    /// Payload bytes of a message; 0 where none is sent.
    pub(super) fn bytes(&self) -> usize {
        match *self {
            Self::Echo { bytes, .. }
            | Self::FanOut { bytes, .. }
            | Self::SecureFanOut { bytes, .. }
            | Self::OwnTopics { bytes, .. } => bytes,
            Self::Idle { .. } | Self::SecureIdle { .. } => 0,
        }
    }

    /// Messages that are under way at once: of each connection in an echo, of the one
    /// topic in a fan-out. A server that coalesces all it can makes one send of them.
    pub(super) fn window(&self) -> usize {
        match *self {
            Self::Echo { in_flight, .. } | Self::FanOut { in_flight, .. } | Self::SecureFanOut { in_flight, .. } => {
                in_flight
            }
            Self::OwnTopics { .. } | Self::Idle { .. } | Self::SecureIdle { .. } => 1,
        }
    }

    pub(super) fn measures(&self) -> Measures {
        match self {
            Self::Idle { .. } | Self::SecureIdle { .. } => Measures::ConnectionBytes,
            _ => Measures::MessageCpu,
        }
    }

    /// Whether clients speak TLS.
    pub(super) fn is_secure(&self) -> bool {
        matches!(self, Self::SecureFanOut { .. } | Self::SecureIdle { .. })
    }

    /// A message as clients send it.
    pub(super) fn client_frame(&self) -> Vec<u8> {
        frames::client_frame(self.bytes())
    }

    /// A message as clients get it.
    pub(super) fn server_frame(&self) -> Vec<u8> {
        frames::server_frame(self.bytes())
    }
}

/// The figure of a row.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Debug)]
#[serde(rename_all = "snake_case")]
pub(super) enum Measures {
    /// Server CPU for each message, in nanoseconds. A message is a reply of an echo, or
    /// a delivery to one subscriber.
    MessageCpu,
    /// Resident memory of the server for each connection, in bytes.
    ConnectionBytes,
}

/// The rows whose names match any of the patterns, in which `*` is any text.
pub(super) fn select(patterns: &[String]) -> Result<Vec<&'static Row>, String> {
    for pattern in patterns {
        if !ROWS.iter().any(|row| matches(pattern, row.name)) {
            let names: Vec<_> = ROWS.iter().map(|row| row.name).collect();
            return Err(format!("no row is called {pattern:?}; there are {}", names.join(", ")));
        }
    }
    Ok(ROWS.iter().filter(|row| patterns.iter().any(|pattern| matches(pattern, row.name))).collect())
}

#[cfg(test)]
mod tests {
    use bench::IN_FLIGHT_MAX;

    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, name) in [("*", "echo"), ("echo-*", "echo-100"), ("*x64", "a-x64"), ("f*-x*4", "fan-x64")] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("echo", "echo-100"), ("*x64", "x64-a"), ("e*o-1", "echo-100")] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn an_unknown_row_is_refused_with_the_names_of_all() {
        let error = select(&["echo-*".to_owned(), "fan".to_owned()]).unwrap_err();
        assert!(error.contains("\"fan\"") && error.contains("fanout-1000-x64"), "{error}");
    }

    #[test]
    fn names_are_unique_and_no_window_is_larger_than_the_backlogs() {
        for (index, row) in ROWS.iter().enumerate() {
            assert!(ROWS[..index].iter().all(|other| other.name != row.name), "{}", row.name);
            assert!(row.work.window() <= IN_FLIGHT_MAX, "{}", row.name);
        }
    }
}
