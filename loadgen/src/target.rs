//! The server under load: its URL, its address, and the upgrade request.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::str::FromStr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::deflate;
use crate::template::{Table, Template, Values};

/// How long each of several addresses of a name is tried before the run.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// A `ws://` or `wss://` URL.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    secure: bool,
    /// Host name or address, without brackets.
    host: String,
    port: u16,
    /// Path and query, as they stand in the request line.
    path: String,
}

impl Target {
    /// The same with `query` added to the path; nothing changes if it is empty.
    pub fn with_query(&self, query: &str) -> Self {
        let mut target = self.clone();
        if !query.is_empty() {
            let separator = if self.path.contains('?') { '&' } else { '?' };
            target.path = format!("{}{separator}{query}", self.path);
        }
        target
    }

    /// The same with another path, which may have a query.
    ///
    /// # Errors
    /// A byte that cannot stand in a URL.
    pub fn with_path(&self, path: &str) -> Result<Self, TargetError> {
        let scheme = if self.secure { "wss" } else { "ws" };
        let slash = if path.starts_with('/') { "" } else { "/" };
        format!("{scheme}://{}{slash}{path}", self.authority()).parse()
    }

    /// The address to connect to. A name with several (`localhost` is often both
    /// `::1` and `127.0.0.1`) gives the first at which somebody listens.
    pub fn resolve(&self) -> io::Result<SocketAddr> {
        let addresses: Vec<_> = (self.host.as_str(), self.port).to_socket_addrs()?.collect();
        let [first, _, ..] = addresses[..] else {
            return addresses.first().copied().ok_or_else(|| io::Error::other("the name has no address"));
        };
        let open = |address: &&SocketAddr| TcpStream::connect_timeout(address, PROBE_TIMEOUT).is_ok();
        Ok(addresses.iter().find(open).copied().unwrap_or(first))
    }

    /// A `http://` URL, to which back ends publish.
    ///
    /// # Errors
    /// In words.
    pub fn parse_http(url: &str) -> Result<Self, String> {
        let rest = url.strip_prefix("http://").ok_or_else(|| format!("{url:?} does not begin with http://"))?;
        format!("ws://{rest}").parse().map_err(|error: TargetError| error.to_string())
    }

    /// Path and query.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The lines of these headers, and of `Host` unless it is among them.
    pub fn header_lines(&self, headers: &[Header]) -> String {
        let mut lines = String::new();
        if !headers.iter().any(|header| header.name.eq_ignore_ascii_case("Host")) {
            lines += &format!("Host: {}\r\n", self.authority());
        }
        for Header { name, value } in headers {
            lines += &format!("{name}: {value}\r\n");
        }
        lines
    }

    /// Whether it is spoken to over TLS.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// Host name or address, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// This is where wsgate listens unless it is told otherwise.
    pub fn is_local_default(&self) -> bool {
        matches!(self.host.as_str(), "127.0.0.1" | "localhost") && self.port == 8000
    }

    /// `host:port` as it stands in the `Host` header.
    fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == default_port(self.secure) { host } else { format!("{host}:{}", self.port) }
    }
}

fn default_port(secure: bool) -> u16 {
    if secure { 443 } else { 80 }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "wss" } else { "ws" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

/// Why a URL is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TargetError {
    /// Neither `ws://` nor `wss://`.
    #[error("{0:?} does not begin with ws:// or wss://, such as ws://127.0.0.1:8000/echo")]
    Scheme(String),
    /// No host.
    #[error("{0:?} names no host")]
    Host(String),
    /// A port that is none.
    #[error("port {0:?} is not a number from 1 to 65535")]
    Port(String),
    /// Bytes that would break the request line.
    #[error("{0:?} has a byte that a URL cannot have; percent-encode it")]
    Byte(char),
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(url: &str) -> Result<Self, TargetError> {
        let scheme = |name: &str| url.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
        let secure = scheme("wss://");
        if !secure && !scheme("ws://") {
            return Err(TargetError::Scheme(url.to_owned()));
        }
        if let Some(odd) = url.chars().find(|c| !c.is_ascii_graphic()) {
            return Err(TargetError::Byte(odd));
        }
        let rest = url[if secure { 6 } else { 5 }..].split('#').next().unwrap_or_default();
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        // A bracketed IPv6 address has colons of its own.
        let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, rest)) => (host, rest.strip_prefix(':')),
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        if host.is_empty() || host.contains('@') {
            return Err(TargetError::Host(url.to_owned()));
        }
        let port = match port.map(|port| (port, port.parse())) {
            None => default_port(secure),
            Some((_, Ok(port))) if port != 0 => port,
            Some((port, _)) => return Err(TargetError::Port(port.to_owned())),
        };
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { secure, host: host.to_owned(), port, path })
    }
}

/// A header field to send with the upgrade request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    name: String,
    value: String,
}

impl FromStr for Header {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once(':').ok_or_else(|| format!("{text:?} is not 'Name: value'"))?;
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if name.is_empty() || !name.chars().all(is_token) {
            return Err(format!("{name:?} is not the name of a header"));
        }
        if let Some(odd) = value.chars().find(|c| c.is_control() && *c != '\t') {
            return Err(format!("the value of {name} has the control character {odd:?}"));
        }
        Ok(Self { name: name.to_owned(), value: value.trim().to_owned() })
    }
}

/// The upgrade request of a run: everything but the key is the same each time.
#[derive(Clone, Debug)]
pub struct Request {
    before_key: Template,
    /// The subprotocol that is asked for; the server must choose it or none.
    pub subprotocol: Option<String>,
    /// permessage-deflate is offered; the server may choose it.
    pub offers_deflate: bool,
}

impl Request {
    /// A request to `target`. A `Host` among the headers replaces the URL's. The path and
    /// the headers are templates.
    ///
    /// # Errors
    /// In words: what is wrong with a template.
    pub fn new(target: &Target, headers: &[Header], subprotocol: Option<&str>, table: &Table) -> Result<Self, String> {
        let mut before_key = format!("GET {} HTTP/1.1\r\n{}", target.path, target.header_lines(headers));
        before_key += "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n";
        if let Some(subprotocol) = subprotocol {
            before_key += &format!("Sec-WebSocket-Protocol: {subprotocol}\r\n");
        }
        before_key += "Sec-WebSocket-Key: ";
        Ok(Self {
            before_key: Template::parse(&before_key, table)?,
            subprotocol: subprotocol.map(str::to_owned),
            offers_deflate: false,
        })
    }

    /// The same, offering permessage-deflate.
    pub fn with_deflate(mut self) -> Self {
        self.offers_deflate = true;
        self
    }

    /// Appends the request with a key made of `nonce`, and returns the key.
    pub fn append(&self, out: &mut Vec<u8>, nonce: [u8; 16], values: Values, table: &Table) -> String {
        let key = BASE64.encode(nonce);
        self.before_key.append(out, values, table, |_| {});
        out.extend_from_slice(key.as_bytes());
        if self.offers_deflate {
            out.extend_from_slice(b"\r\nSec-WebSocket-Extensions: ");
            out.extend_from_slice(deflate::OFFER.as_bytes());
        }
        out.extend_from_slice(b"\r\n\r\n");
        key
    }
}

#[cfg(test)]
mod tests {
    use wsgate::proto::handshake::Upgrade;
    use wsgate::proto::http;

    use super::*;

    const VALUES: Values = Values { client: 7, topic: 3 };

    fn request(target: &Target, headers: &[Header], subprotocol: Option<&str>) -> Request {
        Request::new(target, headers, subprotocol, &Table::default()).unwrap()
    }

    #[test]
    fn path_and_headers_are_filled_in_for_each_client() {
        let target: Target = "ws://a/room/{topic}?id={client}".parse().unwrap();
        let mut bytes = Vec::new();
        let request = request(&target, &["X-Id: {client}".parse().unwrap()], None);
        request.append(&mut bytes, [0; 16], VALUES, &Table::default());
        let head = http::parse(&bytes).unwrap();
        assert_eq!((head.path, head.query), ("/room/3", "id=7"));
        assert_eq!(head.single("X-Id").unwrap(), Some("7"));
    }

    #[test]
    fn urls_are_read() {
        for (url, shown) in [
            ("ws://127.0.0.1:8000/echo", "ws://127.0.0.1:8000/echo"),
            ("WS://example.org", "ws://example.org/"),
            ("ws://example.org:80?a=b", "ws://example.org/?a=b"),
            ("WSS://example.org:443/a", "wss://example.org/a"),
            ("wss://example.org:80", "wss://example.org:80/"),
            ("ws://[::1]:9001/a/b?c#d", "ws://[::1]:9001/a/b?c"),
        ] {
            assert_eq!(url.parse::<Target>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn odd_urls_are_refused_with_the_reason() {
        for (url, error) in [
            ("http://a/", TargetError::Scheme("http://a/".into())),
            ("wss:/a/", TargetError::Scheme("wss:/a/".into())),
            ("ws://:80/", TargetError::Host("ws://:80/".into())),
            ("ws://a:0/", TargetError::Port("0".into())),
            ("ws://a:x/", TargetError::Port("x".into())),
            ("ws://a/ b", TargetError::Byte(' ')),
        ] {
            assert_eq!(url.parse::<Target>(), Err(error));
        }
    }

    #[test]
    fn queries_are_added_to_paths_with_and_without_one() {
        let target: Target = "ws://a/t".parse().unwrap();
        assert_eq!(target.with_query("x=1").with_query("y").to_string(), "ws://a/t?x=1&y");
        assert_eq!(target.with_query(""), target);
    }

    #[test]
    fn request_is_an_upgrade_that_a_server_accepts() {
        let target: Target = "ws://127.0.0.1:8000/chat?a".parse().unwrap();
        let headers = ["Origin: http://a".parse().unwrap(), "X-Key: b: c".parse().unwrap()];
        let mut bytes = Vec::new();
        let key = request(&target, &headers, Some("mqtt")).append(&mut bytes, [7; 16], VALUES, &Table::default());
        let request = http::parse(&bytes).unwrap();
        assert_eq!((request.path, request.query), ("/chat", "a"));
        assert_eq!(request.single("Host").unwrap(), Some("127.0.0.1:8000"));
        assert_eq!(request.single("x-key").unwrap(), Some("b: c"));
        assert_eq!(request.single("Sec-WebSocket-Key").unwrap(), Some(key.as_str()));
        Upgrade::validate(&request, &["mqtt"]).unwrap();
    }

    #[test]
    fn a_given_host_header_replaces_the_urls() {
        let mut bytes = Vec::new();
        let target = "ws://127.0.0.1:1/".parse().unwrap();
        let headers = ["host: other".parse().unwrap()];
        request(&target, &headers, None).append(&mut bytes, [0; 16], VALUES, &Table::default());
        assert_eq!(http::parse(&bytes).unwrap().single("Host").unwrap(), Some("other"));
    }

    #[test]
    fn headers_that_would_break_the_request_are_refused() {
        for text in ["no colon", ": empty", "a b: c", "a: b\r\nc: d"] {
            assert!(text.parse::<Header>().is_err(), "{text:?}");
        }
    }
}
