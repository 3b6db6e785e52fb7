//! The opening handshake: is this request an upgrade that we can accept, and what
//! is the answer (RFC 6455, section 4)?

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha1::{Digest, Sha1};

use super::http::Request;

/// The GUID that is hashed with the key (section 1.3).
const ACCEPT_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The only version there is (section 4.1).
const VERSION: &str = "13";

/// The HTTP statuses that this program sends.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Status {
    /// 101
    SwitchingProtocols,
    /// 200
    Ok,
    /// 400
    BadRequest,
    /// 403
    Forbidden,
    /// 404
    NotFound,
    /// 405
    MethodNotAllowed,
    /// 408
    RequestTimeout,
    /// 414
    UriTooLong,
    /// 426
    UpgradeRequired,
    /// 431
    HeadersTooLarge,
    /// 503
    ServiceUnavailable,
}

impl Status {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 11] = [
        Self::SwitchingProtocols,
        Self::Ok,
        Self::BadRequest,
        Self::Forbidden,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::RequestTimeout,
        Self::UriTooLong,
        Self::UpgradeRequired,
        Self::HeadersTooLarge,
        Self::ServiceUnavailable,
    ];

    /// The number.
    pub fn code(self) -> u16 {
        self.line().0
    }

    fn line(self) -> (u16, &'static str) {
        match self {
            Self::SwitchingProtocols => (101, "Switching Protocols"),
            Self::Ok => (200, "OK"),
            Self::BadRequest => (400, "Bad Request"),
            Self::Forbidden => (403, "Forbidden"),
            Self::NotFound => (404, "Not Found"),
            Self::MethodNotAllowed => (405, "Method Not Allowed"),
            Self::RequestTimeout => (408, "Request Timeout"),
            Self::UriTooLong => (414, "URI Too Long"),
            Self::UpgradeRequired => (426, "Upgrade Required"),
            Self::HeadersTooLarge => (431, "Request Header Fields Too Large"),
            Self::ServiceUnavailable => (503, "Service Unavailable"),
        }
    }
}

/// Why a handshake was refused; the text goes into the response's body.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The first byte cannot begin an HTTP method.
    #[error("this port speaks HTTP without TLS; the first byte was {0:#04x}")]
    NotHttp(u8),
    /// Plain HTTP where only TLS is spoken.
    #[error("this port speaks TLS; use wss:// or https://")]
    PlaintextRefused,
    /// The bytes are no HTTP/1.1 request head.
    #[error("malformed request: {0}")]
    Malformed(&'static str),
    /// The request line alone is over the bound.
    #[error("the request target is over the limit; a head may have {limit} bytes")]
    TargetTooLong {
        /// Bytes that a head may have.
        limit: usize,
    },
    /// The head is over the bound.
    #[error("the request head is over the limit of {limit} bytes")]
    HeadTooLong {
        /// Bytes that a head may have.
        limit: usize,
    },
    /// More fields than [`super::http::HEADERS_MAX`].
    #[error("the request has more than {limit} header fields")]
    TooManyHeaders {
        /// Fields that a head may have.
        limit: usize,
    },
    /// A field stands twice that may stand once.
    #[error("the header {0} stands more than once")]
    HeaderRepeated(&'static str),
    /// A field that should be text is not.
    #[error("the header {0} is not text")]
    HeaderNotText(&'static str),
    /// A field that must be there is not.
    #[error("the header {0} is missing")]
    HeaderMissing(&'static str),
    /// Anything but GET.
    #[error("method {0:?} is not served here; use GET")]
    Method(String),
    /// The path leads nowhere.
    #[error("nothing is served at {0:?}")]
    UnknownPath(String),
    /// The path leads to a dialect, but its parameters do not fit.
    #[error("{0}")]
    BadTarget(String),
    /// No `Upgrade: websocket`, or no `Connection: Upgrade`.
    #[error(
        "this is a WebSocket endpoint; send Upgrade: websocket and Connection: Upgrade (a proxy may have removed them)"
    )]
    NotAnUpgrade,
    /// Another version than 13.
    #[error("Sec-WebSocket-Version {0:?} is not supported; use 13")]
    Version(String),
    /// Not the base64 of 16 bytes.
    #[error("Sec-WebSocket-Key {0:?} is not the base64 of 16 bytes")]
    Key(String),
    /// A body, which an upgrade cannot have.
    #[error("an upgrade request cannot have a body")]
    Body,
    /// The `Host` is not one that this server answers for.
    #[error("host {0:?} is not served here; add it to security.allowed_hosts")]
    HostForbidden(String),
    /// The `Origin` is neither the host itself nor allowed.
    #[error("origin {0:?} may not connect; add its host to security.allowed_origins")]
    OriginForbidden(String),
    /// Anonymous clients may not do this here.
    #[error("anonymous clients may not {0} here")]
    Unauthorized(&'static str),
    /// The head did not arrive in time.
    #[error("the request head did not arrive in time")]
    Timeout,
    /// No room for another topic.
    #[error("no room for another topic; try again later")]
    TopicsFull,
    /// The server goes down.
    #[error("the server is shutting down; connect again to reach another")]
    GoingAway,
}

impl HandshakeError {
    /// The status of the response.
    pub fn status(&self) -> Status {
        match self {
            Self::TargetTooLong { .. } => Status::UriTooLong,
            Self::HeadTooLong { .. } | Self::TooManyHeaders { .. } => Status::HeadersTooLarge,
            Self::Method(_) => Status::MethodNotAllowed,
            Self::UnknownPath(_) => Status::NotFound,
            Self::NotAnUpgrade | Self::Version(_) => Status::UpgradeRequired,
            Self::HostForbidden(_) | Self::OriginForbidden(_) | Self::Unauthorized(_) => Status::Forbidden,
            Self::Timeout => Status::RequestTimeout,
            Self::TopicsFull | Self::GoingAway => Status::ServiceUnavailable,
            _ => Status::BadRequest,
        }
    }

    /// Appends the whole response. The server closes the connection after it.
    pub fn append_response(&self, out: &mut Vec<u8>) {
        let extra: &[(&str, &str)] = match self.status() {
            Status::MethodNotAllowed => &[("Allow", "GET")],
            Status::UpgradeRequired => &[("Upgrade", "websocket"), ("Sec-WebSocket-Version", VERSION)],
            Status::ServiceUnavailable => &[("Retry-After", "1")],
            _ => &[],
        };
        append_response(out, self.status(), extra, &format!("{self}\n"));
    }
}

/// Appends a complete response that is the connection's last.
pub fn append_response(out: &mut Vec<u8>, status: Status, extra: &[(&str, &str)], body: &str) {
    let (code, words) = status.line();
    let mut head = format!("HTTP/1.1 {code} {words}\r\n");
    for (name, value) in extra {
        head += &format!("{name}: {value}\r\n");
    }
    // 426 must name the protocol as a hop-by-hop option too (RFC 9110, section 7.8).
    let connection = if status == Status::UpgradeRequired { "Upgrade, close" } else { "close" };
    head += &format!(
        "Content-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n",
        body.len()
    );
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(body.as_bytes());
}

/// What a valid upgrade request leads to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Upgrade {
    accept: [u8; 28],
    subprotocol: Option<&'static str>,
}

impl Upgrade {
    /// Checks the request line and the headers that make it an upgrade, in the order
    /// that gives the most helpful status.
    ///
    /// `subprotocols` are those that the path serves, the preferred one first; none
    /// of them in the request is no error: the answer then names none.
    pub fn validate(request: &Request<'_>, subprotocols: &[&'static str]) -> Result<Self, HandshakeError> {
        if request.method != "GET" {
            return Err(HandshakeError::Method(request.method.to_owned()));
        }
        // Before Upgrade is looked for, which HTTP/1.0 does not have (section 4.1).
        if request.minor_version == 0 {
            return Err(HandshakeError::Malformed("an upgrade needs HTTP/1.1"));
        }
        if !request.list_contains("Upgrade", "websocket") || !request.list_contains("Connection", "Upgrade") {
            return Err(HandshakeError::NotAnUpgrade);
        }
        if request.values("Transfer-Encoding").next().is_some()
            || request.single("Content-Length")?.is_some_and(|length| length != "0")
        {
            return Err(HandshakeError::Body);
        }
        match request.single("Sec-WebSocket-Version")? {
            Some(VERSION) => {}
            other => return Err(HandshakeError::Version(other.unwrap_or_default().to_owned())),
        }
        let key = request.single("Sec-WebSocket-Key")?.ok_or(HandshakeError::HeaderMissing("Sec-WebSocket-Key"))?;
        if BASE64.decode(key).map(|bytes| bytes.len()) != Ok(16) {
            return Err(HandshakeError::Key(key.to_owned()));
        }
        // The client's order is its preference (RFC 6455, section 4.1), but the set
        // served on one path has one element almost always; ours decides.
        let subprotocol = subprotocols
            .iter()
            .copied()
            .find(|name| request.list("Sec-WebSocket-Protocol").any(|offered| offered == name.as_bytes()));
        Ok(Self { accept: accept_key(key), subprotocol })
    }

    /// Appends the response head that switches protocols. Spelled exactly as in the
    /// RFC: widespread clients compare header names with their case.
    pub fn append_response(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ",
        );
        out.extend_from_slice(&self.accept);
        if let Some(subprotocol) = self.subprotocol {
            out.extend_from_slice(b"\r\nSec-WebSocket-Protocol: ");
            out.extend_from_slice(subprotocol.as_bytes());
        }
        out.extend_from_slice(b"\r\n\r\n");
    }
}

/// The value of `Sec-WebSocket-Accept` for a key (section 4.2.2).
pub fn accept_key(key: &str) -> [u8; 28] {
    let digest = Sha1::new().chain_update(key).chain_update(ACCEPT_GUID).finalize();
    let mut accept = [0; 28];
    let written = BASE64.encode_slice(digest, &mut accept);
    assert_eq!(written, Ok(accept.len()), "20 bytes of SHA-1 are 28 of base64");
    accept
}

#[cfg(test)]
mod tests {
    use super::super::http;
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    fn validate(lines: &[&str]) -> Result<Upgrade, HandshakeError> {
        let head = format!("{}\r\n\r\n", lines.join("\r\n"));
        Upgrade::validate(&http::parse(head.as_bytes())?, &["chat", "mqtt"])
    }

    fn with(replaced: &str, by: &str) -> Result<Upgrade, HandshakeError> {
        let lines = [
            "GET /chat HTTP/1.1",
            "Host: a",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            &format!("Sec-WebSocket-Key: {KEY}"),
        ]
        .map(|line| if line.starts_with(replaced) { by.to_owned() } else { line.to_owned() });
        let lines: Vec<&str> = lines.iter().map(String::as_str).filter(|line| !line.is_empty()).collect();
        validate(&lines)
    }

    #[test]
    fn accept_keys_of_the_rfc_and_of_the_demo() {
        assert_eq!(&accept_key(KEY), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(&accept_key("aGFjb2hlYW9rd2JtdmV5eA=="), b"NO+pj7z0cvnNj//mlwRuAnCYqCE=");
    }

    #[test]
    fn each_requirement_has_its_status() {
        for (replaced, by, status) in [
            ("GET", "POST /chat HTTP/1.1", 405),
            ("GET", "GET /chat HTTP/1.0", 400),
            ("Upgrade", "", 426),
            ("Upgrade", "Upgrade: h2c", 426),
            ("Connection", "Connection: keep-alive", 426),
            ("Sec-WebSocket-Version", "", 426),
            ("Sec-WebSocket-Version", "Sec-WebSocket-Version: 8", 426),
            ("Sec-WebSocket-Key", "", 400),
            ("Sec-WebSocket-Key", "Sec-WebSocket-Key: c2hvcnQ=", 400),
            ("Sec-WebSocket-Key", "Sec-WebSocket-Key: !", 400),
            ("Host", "Content-Length: 3", 400),
        ] {
            assert_eq!(with(replaced, by).unwrap_err().status().code(), status, "{replaced} -> {by:?}");
        }
    }

    #[test]
    fn upgrade_and_connection_are_lists_in_any_case() {
        assert!(with("Upgrade", "upgrade: h2c, WebSocket").is_ok());
        assert!(with("Connection", "connection: keep-alive, upgrade").is_ok());
    }

    #[test]
    fn a_refused_version_names_the_right_one() {
        let mut out = Vec::new();
        with("Sec-WebSocket-Version", "Sec-WebSocket-Version: 8").unwrap_err().append_response(&mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("HTTP/1.1 426 Upgrade Required\r\n"), "{text}");
        assert!(text.contains("\r\nSec-WebSocket-Version: 13\r\n"), "{text}");
        assert!(text.contains("\r\nUpgrade: websocket\r\n"), "{text}");
    }

    #[test]
    fn subprotocol_is_answered_only_if_offered_and_served() {
        for (offer, answer) in [("Sec-WebSocket-Protocol: x, mqtt", Some("mqtt")), ("Sec-WebSocket-Protocol: x", None)]
        {
            let mut out = Vec::new();
            with("Host", offer).unwrap().append_response(&mut out);
            let text = String::from_utf8(out).unwrap();
            assert_eq!(text.contains("Sec-WebSocket-Protocol"), answer.is_some(), "{text}");
            assert!(answer.is_none_or(|name| text.contains(&format!("Sec-WebSocket-Protocol: {name}\r\n"))), "{text}");
        }
    }
}
