//! From a request's path to the dialect that serves it.

use super::Dialect;
use super::plain::{self, Plain};
use crate::proto::handshake::HandshakeError;
use crate::proto::http::Request;
use crate::topic_name;

/// Message limits of the dialects, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct ServiceLimits {
    /// Of `/echo`.
    pub echo: usize,
    /// Of `/chat`.
    pub greeting: usize,
    /// Of `/topics/`.
    pub plain: usize,
}

/// Which paths are served, and what anonymous clients may do there.
#[derive(Clone, Copy, Debug)]
pub struct Routes {
    /// `/echo` and `/ws`.
    pub echo: bool,
    /// `/chat`.
    pub greeting: bool,
    /// Anonymous clients may subscribe.
    pub anonymous_subscribe: bool,
    /// Anonymous clients may publish.
    pub anonymous_publish: bool,
    /// Longest messages.
    pub limits: ServiceLimits,
}

/// Where a request leads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Route {
    /// `/health`: a plain answer, no upgrade.
    Health,
    /// A WebSocket.
    Dialect {
        /// What is spoken on it.
        dialect: Dialect,
        /// Subprotocols that may be chosen.
        subprotocols: &'static [&'static str],
        /// The topic that the connection opens.
        topic: Option<String>,
    },
}

impl Route {
    fn dialect(dialect: Dialect) -> Self {
        Self::Dialect { dialect, subprotocols: &[], topic: None }
    }
}

impl Routes {
    /// Finds where a request leads.
    pub fn route(&self, request: &Request<'_>) -> Result<Route, HandshakeError> {
        match request.path {
            "/health" => Ok(Route::Health),
            "/echo" | "/ws" if self.echo => Ok(Route::dialect(Dialect::Echo)),
            "/chat" if self.greeting => Ok(Route::dialect(Dialect::Greeting)),
            path => match path.strip_prefix(plain::PREFIX) {
                Some(encoded) => {
                    let topic =
                        topic_name::from_path(encoded).map_err(|error| HandshakeError::BadTarget(error.to_string()))?;
                    let plain = Plain::from_request(request, self.anonymous_subscribe, self.anonymous_publish)?;
                    let dialect = Dialect::Plain(plain);
                    Ok(Route::Dialect { dialect, subprotocols: &[], topic: Some(topic) })
                }
                None => Err(HandshakeError::UnknownPath(path.to_owned())),
            },
        }
    }

    /// Longest message in bytes that a connection may send.
    pub fn message_bytes_max(&self, dialect: Dialect) -> usize {
        match dialect {
            Dialect::Echo => self.limits.echo,
            Dialect::Greeting => self.limits.greeting,
            Dialect::Plain(_) => self.limits.plain,
        }
    }
}
