//! One publisher over HTTP/1.1 without a socket: requests out, answers in, one at a
//! time on a connection that is kept.
//!
//! Owner: `connection`. A message that comes due while an answer is awaited waits
//! here; its latency counts from its intended time all the same. No pipelining: few
//! servers take it.

use std::collections::VecDeque;

use wsgate::proto::http;

use crate::failure::Failure;
use crate::target::{Header, Target};
use crate::template::{Table, Template, Values};

/// Bytes of an answer, with its head.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Header fields that an answer may have.
const ANSWER_HEADERS_MAX: usize = 64;
/// Bytes of a refusal's body that are quoted.
const BODY_QUOTE_BYTES_MAX: usize = 200;

/// Where and how a run publishes over HTTP.
#[derive(Clone, Debug)]
pub struct PublishRequest {
    /// The server.
    pub target: Target,
    head: Template,
}

impl PublishRequest {
    /// `POST` to the target. Path and headers are templates.
    ///
    /// # Errors
    /// In words: what is wrong with a template.
    pub fn new(target: &Target, headers: &[Header], table: &Table) -> Result<Self, String> {
        let head = format!("POST {} HTTP/1.1\r\n{}Content-Length: ", target.path(), target.header_lines(headers));
        Ok(Self { target: target.clone(), head: Template::parse(&head, table)? })
    }

    /// The whole request.
    pub fn with_body(&self, body: &[u8], values: Values, table: &Table) -> Vec<u8> {
        let mut request = Vec::with_capacity(256 + body.len());
        self.head.append(&mut request, values, table, |_| {});
        request.extend_from_slice(format!("{}\r\n\r\n", body.len()).as_bytes());
        request.extend_from_slice(body);
        request
    }
}

/// A connection that publishes.
#[derive(Default, Debug)]
pub struct Publisher {
    waiting: VecDeque<Vec<u8>>,
    waiting_bytes: usize,
    /// A request has left, its answer has not come.
    in_flight: bool,
    answer: Vec<u8>,
    answers: u64,
    /// The server said that it would end the connection.
    ends: bool,
}

/// The server's answer to one request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The first line of the body.
    pub words: String,
}

impl Answer {
    /// The failure that it is, if it is none of 200 to 299.
    pub fn failure(self) -> Option<Failure> {
        let refused = !(200..300).contains(&self.status);
        refused.then_some(Failure::PublishStatus { status: self.status, body: self.words })
    }
}

impl Publisher {
    /// Sends a request, now or when those before it are answered.
    pub fn send(&mut self, request: Vec<u8>, out: &mut Vec<u8>) {
        if self.in_flight || self.ends {
            self.waiting_bytes += request.len();
            self.waiting.push_back(request);
        } else {
            self.in_flight = true;
            out.extend_from_slice(&request);
        }
    }

    /// Bytes of requests that wait for their turn.
    pub fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// Takes what arrived; the answer that it completes. Another request may follow in `out`.
    ///
    /// # Errors
    /// An answer that is no HTTP/1.1, or too long.
    pub fn receive(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<Option<Answer>, Failure> {
        self.answer.extend_from_slice(input);
        if self.answer.len() > ANSWER_BYTES_MAX {
            return Err(invalid(format!("the answer is over {ANSWER_BYTES_MAX} bytes")));
        }
        match complete(&self.answer)? {
            Some(answer) if self.in_flight => Ok(Some(self.take(answer, out))),
            Some(_) => Err(invalid("an answer that no request asked for".to_owned())),
            None => Ok(None),
        }
    }

    /// The server ended the connection: the publisher for the next one, if that may be
    /// better, and whether a request was left without an answer.
    pub fn ended(mut self) -> (Option<Self>, bool) {
        let (may_go_on, unanswered) = (self.answers > 0, self.in_flight);
        self.answer.clear();
        (self.answers, self.in_flight, self.ends) = (0, false, false);
        (may_go_on.then_some(self), unanswered)
    }

    /// On a new connection: what waited goes on.
    pub fn resume(&mut self, out: &mut Vec<u8>) {
        if let Some(next) = self.waiting.pop_front() {
            self.waiting_bytes -= next.len();
            self.send(next, out);
        }
    }

    /// The server will end the connection, and nothing is under way.
    pub fn is_ending(&self) -> bool {
        self.ends && !self.in_flight
    }

    fn take(&mut self, (len, answer, ends): (usize, Answer, bool), out: &mut Vec<u8>) -> Answer {
        self.answer.drain(..len);
        self.answers += 1;
        self.in_flight = false;
        self.ends = ends;
        if !ends {
            self.resume(out);
        }
        answer
    }
}

/// The answer at the beginning of `bytes` if it is whole: its length, and whether the
/// server ends the connection behind it.
fn complete(bytes: &[u8]) -> Result<Option<(usize, Answer, bool)>, Failure> {
    let Some(head_len) = http::head_len(bytes, 0) else {
        return match bytes.first() {
            Some(b'H') | None => Ok(None),
            Some(other) => Err(invalid(format!("the answer begins with byte {other:#04x}; this is no HTTP"))),
        };
    };
    let mut fields = [httparse::EMPTY_HEADER; ANSWER_HEADERS_MAX];
    let mut response = httparse::Response::new(&mut fields);
    response.parse(&bytes[..head_len]).map_err(|error| invalid(format!("the answer is malformed: {error}")))?;
    let field = |name: &str| {
        response.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    };
    let status = response.code.unwrap_or_default();
    let is = |name: &str, value: &str| field(name).is_some_and(|got| got.eq_ignore_ascii_case(value.as_bytes()));
    let end = if matches!(status, 204 | 304) {
        Some(head_len)
    } else if is("Transfer-Encoding", "chunked") {
        end_of_chunks(bytes, head_len)?
    } else {
        let len = field("Content-Length").and_then(|value| std::str::from_utf8(value).ok()?.trim().parse().ok());
        let Some(len) = len else {
            return Err(invalid("the answer has neither Content-Length nor chunks".to_owned()));
        };
        Some(head_len.saturating_add(len)).filter(|&end| end <= bytes.len())
    };
    let Some(end) = end else { return Ok(None) };
    let body = String::from_utf8_lossy(&bytes[head_len..end.min(head_len + BODY_QUOTE_BYTES_MAX)]);
    let words = body.lines().next().unwrap_or_default().trim().to_owned();
    Ok(Some((end, Answer { status, words }, is("Connection", "close"))))
}

fn end_of_chunks(bytes: &[u8], mut at: usize) -> Result<Option<usize>, Failure> {
    loop {
        match httparse::parse_chunk_size(&bytes[at.min(bytes.len())..]) {
            Ok(httparse::Status::Partial) => return Ok(None),
            Ok(httparse::Status::Complete((used, size))) => {
                // A line end follows each chunk, and the last one, which is empty.
                at = at.saturating_add(used).saturating_add(size as usize).saturating_add(2);
                if size == 0 {
                    return Ok(Some(at).filter(|&end| end <= bytes.len()));
                }
            }
            Err(_) => return Err(invalid("a chunk of the answer has no size".to_owned())),
        }
    }
}

fn invalid(text: String) -> Failure {
    Failure::PublishInvalid(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";

    fn sent(publisher: &mut Publisher, names: &[&str]) -> String {
        let mut out = Vec::new();
        names.iter().for_each(|name| publisher.send(name.as_bytes().to_vec(), &mut out));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn requests_go_one_at_a_time_and_in_order() {
        let mut publisher = Publisher::default();
        assert_eq!(sent(&mut publisher, &["a", "b", "c"]), "a");
        assert_eq!(publisher.waiting_bytes(), 2);
        for next in [&b"b"[..], b"c", b""] {
            let mut out = Vec::new();
            let answer = publisher.receive(OK, &mut out).unwrap().unwrap();
            assert_eq!((answer.status, out.as_slice()), (200, next));
            assert!(answer.failure().is_none());
        }
        assert_eq!(publisher.waiting_bytes(), 0);
    }

    #[test]
    fn answers_are_read_wherever_they_are_cut() {
        let chunked =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n";
        let empty = b"HTTP/1.1 204 No Content\r\nConnection: keep-alive\r\n\r\n";
        for whole in [OK, &chunked[..], &empty[..]] {
            let mut publisher = Publisher::default();
            sent(&mut publisher, &["a"]);
            for (i, byte) in whole.iter().enumerate() {
                let answer = publisher.receive(&[*byte], &mut Vec::new()).unwrap();
                assert_eq!(answer.is_some(), i + 1 == whole.len(), "byte {i}");
            }
        }
    }

    #[test]
    fn a_refusal_is_a_failure_with_the_servers_words() {
        let mut publisher = Publisher::default();
        sent(&mut publisher, &["a"]);
        let refusal = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 9\r\n\r\nno access";
        let failure = publisher.receive(refusal, &mut Vec::new()).unwrap().unwrap().failure().unwrap();
        assert_eq!(failure.to_string(), "the server answered a publish with 403: no access");
    }

    #[test]
    fn a_connection_that_ends_is_followed_by_another_with_what_waits() {
        let mut publisher = Publisher::default();
        sent(&mut publisher, &["a", "b"]);
        let last = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        let mut out = Vec::new();
        publisher.receive(last, &mut out).unwrap().unwrap();
        assert!(out.is_empty() && publisher.is_ending());
        let (Some(mut next), false) = publisher.ended() else { panic!() };
        next.resume(&mut out);
        assert_eq!(out, b"b");
        // This one never answered: another would fare no better.
        assert!(matches!(next.ended(), (None, true)));
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for (bytes, part) in [
            (&b"220 smtp"[..], "no HTTP"),
            (b"HTTP/1.1 200 OK\r\n\r\n", "neither Content-Length"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", "no size"),
        ] {
            let mut publisher = Publisher::default();
            sent(&mut publisher, &["a"]);
            let error = publisher.receive(bytes, &mut Vec::new()).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        let unasked = Publisher::default().receive(OK, &mut Vec::new()).unwrap_err();
        assert!(unasked.to_string().contains("no request"));
    }
}
