//! The plain dialect: `/topics/{topic}` is subscribed to by connecting, and what
//! is sent is published. No SDK, no envelope around messages.
//!
//! Parameters of the query: `echo=off` leaves the publisher's own messages out,
//! `subscribe=off` makes a connection that only publishes, `gaps=on` lets a subscriber
//! that is behind lose messages and be told how many, where the topic's policy is so.

use super::Action;
use crate::proto::close::CloseCode;
use crate::proto::frame::MessageKind;
use crate::proto::handshake::HandshakeError;
use crate::proto::http::Request;

/// The path before the topic's name.
pub(super) const PREFIX: &str = "/topics/";

/// What a connection of this dialect does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plain {
    /// Receives what is published.
    pub subscribes: bool,
    /// May publish.
    pub publishes: bool,
    /// Receives its own messages too.
    pub to_self: bool,
    /// Understands the marker of lost messages.
    pub gaps: bool,
}

impl Plain {
    pub(super) fn from_request(
        request: &Request<'_>,
        may_subscribe: bool,
        may_publish: bool,
    ) -> Result<Self, HandshakeError> {
        let subscribes = switch(request, "subscribe", true)?;
        let to_self = switch(request, "echo", true)?;
        let gaps = switch(request, "gaps", false)?;
        if subscribes && !may_subscribe {
            return Err(HandshakeError::Unauthorized("subscribe"));
        }
        if !subscribes && !may_publish {
            return Err(HandshakeError::Unauthorized("publish"));
        }
        Ok(Self { subscribes, publishes: may_publish, to_self, gaps })
    }

    pub(super) fn receive<'a>(&self, kind: MessageKind, payload: &'a [u8]) -> Action<'a> {
        if self.publishes {
            Action::Publish { kind, payload, to_self: self.to_self }
        } else {
            Action::Close(CloseCode::POLICY_VIOLATION, "anonymous clients may not publish here")
        }
    }
}

/// A parameter that is `on` or `off`.
fn switch(request: &Request<'_>, name: &'static str, default: bool) -> Result<bool, HandshakeError> {
    match request.query_parameter(name) {
        None => Ok(default),
        Some("on") => Ok(true),
        Some("off") => Ok(false),
        Some(other) => Err(HandshakeError::BadTarget(format!("parameter {name}={other:?}: write on or off"))),
    }
}
