//! Request heads: in any pieces the same outcome, and an answer that is HTTP.
//!
//! Input: a byte with the size of the pieces less one, then what the peer sends.

use crate::connection::Connection;
use crate::dialect::{Route, Routes, ServiceLimits};
use crate::proto::handshake::{HandshakeError, Upgrade};
use crate::proto::http;
use crate::time::Time;

/// Small, so that it is reached.
const HEAD_BYTES_MAX: usize = 512;

/// What has become of the bytes.
#[derive(PartialEq, Debug)]
enum Outcome {
    Waits,
    /// A whole head, and what came behind it.
    Head(Vec<u8>, Vec<u8>),
    Refused(HandshakeError),
}

pub(super) fn run(data: &[u8]) {
    let Some((&size, bytes)) = data.split_first() else { return };
    let outcome = judge(bytes, bytes.len());
    let size = 1 + usize::from(size);
    assert_eq!(outcome, judge(bytes, size), "in pieces of {size} bytes");
    match outcome {
        Outcome::Waits => {}
        Outcome::Head(head, _) => check_answer(&answer(&head)),
        Outcome::Refused(error) => check_answer(&response_to(&error)),
    }
}

/// What is whole must be a head, too.
fn judge(bytes: &[u8], size: usize) -> Outcome {
    let outcome = receive(bytes, size);
    match &outcome {
        Outcome::Head(head, _) => http::parse(head).err().map_or(outcome, Outcome::Refused),
        Outcome::Waits | Outcome::Refused(_) => outcome,
    }
}

fn receive(bytes: &[u8], size: usize) -> Outcome {
    let mut connection = Connection::new(Time::ZERO);
    let mut bytes = bytes.to_vec();
    let mut rest = bytes.as_mut_slice();
    while !rest.is_empty() {
        let (mut piece, behind) = rest.split_at_mut(size.min(rest.len()));
        match connection.receive_head(&mut piece, HEAD_BYTES_MAX) {
            Ok(None) => assert!(piece.is_empty(), "what is no whole head is kept"),
            Ok(Some((head, len))) if head.is_empty() => {
                let (head, early) = piece.split_at(len);
                return Outcome::Head(head.to_vec(), [early, behind].concat());
            }
            Ok(Some((head, len))) => {
                assert_eq!(head.len(), len);
                return Outcome::Head(head, [piece, behind].concat());
            }
            Err(error) => return Outcome::Refused(error),
        }
        rest = behind;
    }
    Outcome::Waits
}

/// What the peer is answered; any answer will do, if it is one.
fn answer(head: &[u8]) -> Vec<u8> {
    assert!(head.len() <= HEAD_BYTES_MAX && http::head_len(head, 0) == Some(head.len()));
    admit(head).unwrap_or_else(|error| response_to(&error))
}

fn admit(head: &[u8]) -> Result<Vec<u8>, HandshakeError> {
    let request = http::parse(head)?;
    assert!(!request.path.contains('?'));
    request.single("Host")?;
    request.single("Origin")?;
    let limits = ServiceLimits { echo: 1, greeting: 1, plain: 1 };
    let routes = Routes { echo: true, greeting: true, anonymous_subscribe: true, anonymous_publish: true, limits };
    let Route::Dialect { .. } = routes.route(&request)? else { return Ok(b"HTTP/1.1 200 OK\r\n\r\n".to_vec()) };
    let mut response = Vec::new();
    Upgrade::validate(&request, &["first", "second"])?.append_response(&mut response);
    Ok(response)
}

fn response_to(error: &HandshakeError) -> Vec<u8> {
    let mut response = Vec::new();
    error.append_response(&mut response);
    response
}

/// One response and nothing behind it, with header fields that we send and no others: the
/// peer's words must not become fields.
fn check_answer(bytes: &[u8]) {
    let mut fields = [httparse::EMPTY_HEADER; 16];
    let mut response = httparse::Response::new(&mut fields);
    let Ok(httparse::Status::Complete(len)) = response.parse(bytes) else { panic!("no whole response head") };
    let mut body_len = 0;
    for field in response.headers.iter() {
        match field.name {
            "Content-Length" => body_len = std::str::from_utf8(field.value).unwrap().parse().unwrap(),
            "Connection" | "Content-Type" | "Upgrade" | "Allow" | "Retry-After" => {}
            "Sec-WebSocket-Accept" | "Sec-WebSocket-Protocol" | "Sec-WebSocket-Version" => {}
            other => panic!("the field {other} is not ours"),
        }
    }
    assert_eq!(bytes.len() - len, body_len);
}
