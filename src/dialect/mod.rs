//! What clients speak: from the path of the request to what a message means.
//!
//! Sans-IO and stateless beyond a few bytes per connection. Caller: `shard`, which
//! carries out the [`Action`]s. Knows neither the hub nor the connection.

#![forbid(unsafe_code)]

mod plain;
mod route;

pub use plain::Plain;
pub use route::{Route, Routes, ServiceLimits};

use crate::proto::close::CloseCode;
use crate::proto::frame::MessageKind;

/// What the greeting dialect answers.
const GREETING: &[u8] = b"good";

/// The dialect of an open connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dialect {
    /// Every message back, as it came.
    Echo,
    /// Every message is answered with the text `good`.
    Greeting,
    /// Messages are published to the connection's topic.
    Plain(Plain),
}

/// What a message asks for.
#[derive(PartialEq, Eq, Debug)]
pub enum Action<'a> {
    /// Send the message back to the peer as it came.
    Echo,
    /// Send this to the peer itself.
    Reply(MessageKind, &'a [u8]),
    /// Publish this to the connection's topic.
    Publish {
        /// As it came.
        kind: MessageKind,
        /// As it came.
        payload: &'a [u8],
        /// Whether the publisher gets it too, if it subscribes.
        to_self: bool,
    },
    /// The peer may not do this.
    Close(CloseCode, &'static str),
}

impl Dialect {
    /// Whether a subscriber can be told that it lost messages and go on.
    pub fn tells_gaps(&self) -> bool {
        matches!(self, Self::Plain(Plain { gaps: true, .. }))
    }

    /// Whether the peer is sent messages that nobody else gets.
    pub fn replies(&self) -> bool {
        matches!(self, Self::Echo | Self::Greeting)
    }

    /// Whether each message is answered by itself, so that nobody needs to ask.
    pub fn echoes(&self) -> bool {
        matches!(self, Self::Echo)
    }

    /// What to do about a message of the peer.
    pub fn receive<'a>(&self, kind: MessageKind, payload: &'a [u8]) -> Action<'a> {
        match self {
            Self::Echo => Action::Echo,
            Self::Greeting => Action::Reply(MessageKind::Text, GREETING),
            Self::Plain(plain) => plain.receive(kind, payload),
        }
    }
}
