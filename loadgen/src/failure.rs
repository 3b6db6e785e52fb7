//! How a connection can fail, and how often each way was met.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use wsgate::proto::error::ProtocolError;

/// Why a connection ended, or never was.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Nobody listens there.
    #[error("nobody listens at the address")]
    ConnectRefused,
    /// No answer to the connect.
    #[error("no answer within {0:?}")]
    ConnectTimeout(Duration),
    /// Any other error of the operating system while connecting.
    #[error("{0}")]
    ConnectFailed(io::Error),
    /// An answer that is not 101.
    #[error("the server answered {status}: {body}")]
    HandshakeStatus {
        /// The HTTP status.
        status: u16,
        /// The beginning of the body, where servers say why.
        body: String,
    },
    /// An answer that is no WebSocket handshake.
    #[error("{0}")]
    HandshakeInvalid(String),
    /// Connected, but no complete answer to the upgrade.
    #[error("no answer to the upgrade within {0:?}")]
    HandshakeTimeout(Duration),
    /// Open, but the server did not confirm the subscription.
    #[error("no message with {text:?} after subscribing within {timeout:?}")]
    SubscribeTimeout {
        /// What the message had to contain.
        text: String,
        /// How long it was waited for, from the first SYN on.
        timeout: Duration,
    },
    /// A publish that was not accepted; its connection goes on.
    #[error("the server answered a publish with {status}: {body}")]
    PublishStatus {
        /// The HTTP status.
        status: u16,
        /// The first line of the body.
        body: String,
    },
    /// An answer to a publish that is no HTTP/1.1.
    #[error("{0}")]
    PublishInvalid(String),
    /// TLS failed: the certificate is refused, or the server broke the protocol.
    #[error("{0}")]
    Tls(#[from] rustls::Error),
    /// The server broke the protocol.
    #[error("{0}")]
    Protocol(#[from] ProtocolError),
    /// The server sent a Close frame that nobody had asked for.
    #[error("the server closed with code {}: {reason:?}", code.map_or("none".into(), |code| code.to_string()))]
    ClosedByServer {
        /// The code, if there was one.
        code: Option<u16>,
        /// The reason in words.
        reason: String,
    },
    /// The server ended the TCP connection without a Close frame.
    #[error("the server ended the connection without a Close frame")]
    Disconnected,
    /// The TCP connection failed.
    #[error("{0}")]
    ConnectionLost(io::Error),
    /// The server does not read.
    #[error("{bytes} bytes wait for a server that does not read")]
    NotReading {
        /// Bytes that waited.
        bytes: usize,
    },
}

impl Failure {
    /// An error of `connect`.
    pub fn connect(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::ConnectRefused,
            // The second where the port is chosen before it is known for which server.
            io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse => Self::ConnectFailed(io::Error::new(
                error.kind(),
                format!("{error}: this source address has no free port left, give more with --source"),
            )),
            _ => Self::ConnectFailed(error),
        }
    }

    /// The key under which the failure is counted.
    pub fn kind(&self) -> String {
        match self {
            Self::ConnectRefused => "connect refused".into(),
            Self::ConnectTimeout(_) => "connect timeout".into(),
            Self::ConnectFailed(_) => "connect failed".into(),
            Self::HandshakeStatus { status, .. } => format!("handshake status {status}"),
            Self::HandshakeInvalid(_) => "handshake invalid".into(),
            Self::HandshakeTimeout(_) => "handshake timeout".into(),
            Self::SubscribeTimeout { .. } => "subscribe timeout".into(),
            Self::PublishStatus { status, .. } => format!("publish status {status}"),
            Self::PublishInvalid(_) => "publish invalid".into(),
            Self::Tls(_) => "tls".into(),
            Self::Protocol(_) => "protocol error".into(),
            Self::ClosedByServer { code: Some(code), .. } => format!("closed by server {code}"),
            Self::ClosedByServer { code: None, .. } => "closed by server without code".into(),
            Self::Disconnected => "disconnected".into(),
            Self::ConnectionLost(_) => "connection lost".into(),
            Self::NotReading { .. } => "server not reading".into(),
        }
    }
}

/// Failures of one kind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Count {
    /// How many.
    pub count: u64,
    /// The first one in words.
    pub example: String,
}

/// Failures by kind. Kinds are few: fixed ones, HTTP statuses and close codes.
#[derive(Clone, Default, Debug)]
pub struct FailureCounts {
    counts: BTreeMap<String, Count>,
}

impl FailureCounts {
    /// Counts one.
    pub fn add(&mut self, failure: &Failure) {
        let new = || Count { count: 0, example: failure.to_string() };
        self.counts.entry(failure.kind()).or_insert_with(new).count += 1;
    }

    /// Adds what another thread counted.
    pub fn merge(&mut self, other: &Self) {
        for (kind, count) in &other.counts {
            let new = || Count { count: 0, example: count.example.clone() };
            self.counts.entry(kind.clone()).or_insert_with(new).count += count.count;
        }
    }

    /// Forgets all of them.
    pub fn reset(&mut self) {
        self.counts.clear();
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.counts.values().map(|count| count.count).sum()
    }

    /// By kind, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Count)> {
        self.counts.iter().map(|(kind, count)| (kind.as_str(), count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_kind_with_the_first_example() {
        let (mut a, mut b) = (FailureCounts::default(), FailureCounts::default());
        a.add(&Failure::ClosedByServer { code: Some(1001), reason: "bye".into() });
        b.add(&Failure::ClosedByServer { code: Some(1001), reason: "other".into() });
        b.add(&Failure::ConnectRefused);
        a.merge(&b);
        let kinds: Vec<_> = a.iter().map(|(kind, count)| (kind, count.count)).collect();
        assert_eq!(kinds, [("closed by server 1001", 2), ("connect refused", 1)]);
        assert!(a.iter().next().unwrap().1.example.contains("bye"));
        assert_eq!(a.total(), 3);
    }
}
