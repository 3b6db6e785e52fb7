//! The head of an HTTP/1.1 request, bounded (RFC 9112), on httparse.
//!
//! Sees a growing prefix of the connection's bytes and says "not yet", "here it
//! is", or "refuse with this status". Bytes after the head are not looked at.

use super::handshake::HandshakeError;

/// Header fields that a request may have.
pub const HEADERS_MAX: usize = 64;

/// A complete request head.
#[derive(Debug)]
pub struct Request<'a> {
    /// The method, as sent.
    pub method: &'a str,
    /// The path, percent-encoded as sent, without the query.
    pub path: &'a str,
    /// What stands after the first `?`, or nothing.
    pub query: &'a str,
    /// The minor version: 0 or 1.
    pub minor_version: u8,
    headers: Vec<(&'a str, &'a [u8])>,
}

impl<'a> Request<'a> {
    /// The values of all fields of that name, in the order in which they came.
    /// Names compare without case (RFC 9110, section 5.1).
    pub fn values(&self, name: &str) -> impl Iterator<Item = &'a [u8]> + Clone {
        self.headers.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }

    /// The value of a field that may stand once at most.
    pub fn single(&self, name: &'static str) -> Result<Option<&'a str>, HandshakeError> {
        let mut values = self.values(name);
        let Some(value) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(HandshakeError::HeaderRepeated(name));
        }
        match std::str::from_utf8(value) {
            Ok(text) => Ok(Some(text.trim_matches([' ', '\t']))),
            Err(_) => Err(HandshakeError::HeaderNotText(name)),
        }
    }

    /// Whether a list field (`Connection: keep-alive, Upgrade`) has that element.
    pub fn list_contains(&self, name: &str, element: &str) -> bool {
        self.list(name).any(|item| item.eq_ignore_ascii_case(element.as_bytes()))
    }

    /// The elements of all list fields of that name, without empty ones.
    pub fn list(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.values(name)
            .flat_map(|value| value.split(|&byte| byte == b','))
            .map(<[u8]>::trim_ascii)
            .filter(|item| !item.is_empty())
    }

    /// The value of a parameter of the query, percent-encoded as sent.
    pub fn query_parameter(&self, name: &str) -> Option<&'a str> {
        self.query.split('&').find_map(|pair| match pair.split_once('=') {
            Some((n, value)) if n == name => Some(value),
            None if pair == name => Some(""),
            _ => None,
        })
    }
}

/// Length in bytes of the request head at the start of `bytes`, its empty line
/// included. `seen` is how many of the bytes an earlier call has searched.
pub fn head_len(bytes: &[u8], seen: usize) -> Option<usize> {
    let from = seen.saturating_sub(3);
    bytes[from..].windows(4).position(|window| window == b"\r\n\r\n").map(|at| from + at + 4)
}

/// Whether an unfinished head can still become one that is served. Refuses early
/// what is no HTTP at all (a TLS client, say) and what is over the bound.
pub fn check_prefix(bytes: &[u8], bytes_max: usize) -> Result<(), HandshakeError> {
    check_first_byte(bytes)?;
    if bytes.len() < bytes_max {
        return Ok(());
    }
    if bytes.contains(&b'\n') {
        Err(HandshakeError::HeadTooLong { limit: bytes_max })
    } else {
        Err(HandshakeError::TargetTooLong { limit: bytes_max })
    }
}

fn check_first_byte(bytes: &[u8]) -> Result<(), HandshakeError> {
    match bytes.first() {
        Some(&first) if !first.is_ascii_alphabetic() => Err(HandshakeError::NotHttp(first)),
        _ => Ok(()),
    }
}

/// Parses a complete head, as [`head_len`] measured it.
pub fn parse(head: &[u8]) -> Result<Request<'_>, HandshakeError> {
    // As if the head had come in pieces: the answer must not depend on it.
    check_first_byte(head)?;
    let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(head) {
        // An empty line of a bare LF ended the head early. Where it ends must not be a
        // matter of opinion between us and a proxy.
        Ok(httparse::Status::Complete(len)) if len < head.len() => {
            Err(HandshakeError::Malformed("a line ends without CRLF"))
        }
        Ok(httparse::Status::Complete(_)) => {
            let target = origin_form(request.path.unwrap_or_default());
            let (path, query) = target.split_once('?').unwrap_or((target, ""));
            Ok(Request {
                method: request.method.unwrap_or_default(),
                path,
                query,
                minor_version: request.version.unwrap_or_default(),
                headers: request.headers.iter().map(|field| (field.name, field.value)).collect(),
            })
        }
        Ok(httparse::Status::Partial) => Err(HandshakeError::Malformed("the head is cut")),
        Err(httparse::Error::TooManyHeaders) => Err(HandshakeError::TooManyHeaders { limit: HEADERS_MAX }),
        Err(httparse::Error::Version) => Err(HandshakeError::Malformed("not HTTP/1.1")),
        Err(httparse::Error::HeaderName) => Err(HandshakeError::Malformed("a header's name is not a token")),
        Err(httparse::Error::HeaderValue) => Err(HandshakeError::Malformed("a header's value has a control character")),
        Err(httparse::Error::Token) => Err(HandshakeError::Malformed("the request line has a byte that none may have")),
        Err(httparse::Error::NewLine) => Err(HandshakeError::Malformed("a line ends without CRLF")),
        Err(httparse::Error::Status) => Err(HandshakeError::Malformed("not a request")),
    }
}

/// A target without its scheme and authority: servers must accept the absolute form
/// too, which clients use towards proxies (RFC 9112, section 3.2.2).
fn origin_form(target: &str) -> &str {
    match target.split_once("://") {
        Some((scheme, rest)) if scheme.bytes().all(|byte| byte.is_ascii_alphabetic()) => {
            rest.find('/').map_or("/", |at| &rest[at..])
        }
        _ => target,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &[u8] =
        b"GET /chat?a=1&b HTTP/1.1\r\nhOST: [::1]:8000\r\nX-Odd: a: b: c\r\nConnection: keep-alive, Upgrade\r\n\r\n";

    #[test]
    fn the_end_of_the_head_is_found_at_any_split() {
        for seen in 0..HEAD.len() {
            assert_eq!(head_len(&HEAD[..seen], 0), None);
            assert_eq!(head_len(HEAD, seen), Some(HEAD.len()));
        }
    }

    #[test]
    fn names_in_any_case_and_values_with_colons() {
        let request = parse(HEAD).unwrap();
        assert_eq!(request.single("Host").unwrap(), Some("[::1]:8000"));
        assert_eq!(request.single("x-odd").unwrap(), Some("a: b: c"));
        assert!(request.list_contains("connection", "upgrade"));
        assert_eq!((request.path, request.query), ("/chat", "a=1&b"));
        assert_eq!(request.query_parameter("a"), Some("1"));
        assert_eq!(request.query_parameter("b"), Some(""));
        assert_eq!(request.query_parameter("c"), None);
    }

    #[test]
    fn the_absolute_form_of_a_target_is_accepted() {
        for (target, path) in [("http://a:80/chat", "/chat"), ("ws://a", "/"), ("/a://b/c", "/a://b/c")] {
            let head = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(parse(head.as_bytes()).unwrap().path, path, "{target}");
        }
    }

    #[test]
    fn a_repeated_single_header_is_refused() {
        let request = parse(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").unwrap();
        assert_eq!(request.single("Host").unwrap_err(), HandshakeError::HeaderRepeated("Host"));
    }

    #[test]
    fn a_header_name_with_spaces_is_refused() {
        // Starscream 4.0.2 swaps a cookie's name and value.
        let error = parse(b"GET / HTTP/1.1\r\nsid=abc; theme=dark: Cookie\r\n\r\n").unwrap_err();
        assert_eq!(error.status().code(), 400);
    }

    #[test]
    fn bounds_answer_414_and_431() {
        let long = [b"GET /".as_slice(), &[b'a'; 100]].concat();
        assert_eq!(check_prefix(&long, 100).unwrap_err().status().code(), 414);
        assert_eq!(check_prefix(HEAD, 50).unwrap_err().status().code(), 431);
        let many = [b"GET / HTTP/1.1\r\n".as_slice(), &b"a: b\r\n".repeat(HEADERS_MAX + 1), b"\r\n"].concat();
        assert_eq!(parse(&many).unwrap_err().status().code(), 431);
    }

    #[test]
    fn a_tls_client_is_refused_at_its_first_byte() {
        assert_eq!(check_prefix(&[0x16], 8192), Err(HandshakeError::NotHttp(0x16)));
    }
}
