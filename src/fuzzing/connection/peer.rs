//! A peer and its transport, and what it must have been sent.

use std::collections::{BTreeSet, VecDeque};

use crate::id::ConnectionId;
use crate::proto::Role;
use crate::proto::message::{AssemblyPool, Event, MessageReader, ReaderRules};

/// What a numbered message begins with.
const NUMBERED: &str = "number ";

/// The topic that a peer connected to, and what it asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Interest {
    pub(super) topic: u8,
    pub(super) subscribes: bool,
    pub(super) to_self: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) shard: usize,
    pub(super) id: ConnectionId,
    /// What it sent and nobody has read.
    pub(super) unread: VecDeque<u8>,
    /// Bytes that its transport still takes; nothing is no bound.
    pub(super) room: Option<usize>,
    /// All that it was sent.
    pub(super) sent: Vec<u8>,
    /// The server ended its direction.
    pub(super) ended: bool,
    /// The peer ended its own.
    pub(super) has_ended: bool,
    /// The server has read that.
    pub(super) end_is_read: bool,
    /// The peer has sent a request.
    pub(super) has_asked: bool,
    /// The transport is closed; whether by reset.
    pub(super) closed: Option<bool>,
    pub(super) interest: Option<Interest>,
}

/// A message with a number, by whom and on which topic.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbered {
    pub(super) topic: u8,
    /// Position of the peer that said it.
    pub(super) from: Option<usize>,
}

/// The text of a numbered message.
pub(super) fn numbered(number: usize, bytes: usize) -> String {
    format!("{NUMBERED}{number} {}", "x".repeat(bytes))
}

impl Peer {
    pub(super) fn new(shard: usize, id: ConnectionId) -> Self {
        Self {
            shard,
            id,
            unread: VecDeque::new(),
            room: None,
            sent: Vec::new(),
            ended: false,
            has_ended: false,
            end_is_read: false,
            has_asked: false,
            closed: None,
            interest: None,
        }
    }

    /// Checks all that the server sent: one HTTP response, then frames as a server sends
    /// them, none behind a Close, whole unless the transport was reset. Returns the numbers
    /// of the numbered messages in the order in which they came.
    pub(super) fn check_sent(&self) -> Vec<usize> {
        let whole = self.closed == Some(false);
        let mut frames = match head_len(&self.sent) {
            Some(len) if self.sent.starts_with(b"HTTP/1.1 101 ") => self.sent[len..].to_vec(),
            Some(len) => {
                check_response(&self.sent, len, whole);
                return Vec::new();
            }
            None => {
                assert!(!whole || self.sent.is_empty(), "a cut response: {self:?}");
                return Vec::new();
            }
        };
        let rules = reader_rules();
        let (mut reader, mut pool) = (MessageReader::default(), AssemblyPool::default());
        let mut input = frames.as_mut_slice();
        let mut numbers = Vec::new();
        loop {
            match reader.next(&mut input, &rules, &mut pool) {
                Ok(Some(Event::Close(_))) => {
                    assert!(input.is_empty(), "something follows the Close");
                    break;
                }
                Ok(Some(Event::Message { payload, .. })) => numbers.extend(number_of(payload)),
                Ok(Some(Event::Ping(_) | Event::Pong(_))) => {}
                Ok(Some(Event::Compressed { .. })) => unreachable!("nobody agreed on compression"),
                Ok(None) => {
                    assert!(!whole || reader.held_bytes() == 0, "the end cuts a frame");
                    break;
                }
                Err(error) => panic!("{error} in what the server sent"),
            }
        }
        numbers
    }
}

fn reader_rules() -> ReaderRules {
    ReaderRules::new(Role::Client, 1 << 24)
}

fn head_len(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

/// A response that is no upgrade: the head, the body that it announces, and nothing more.
fn check_response(bytes: &[u8], head_len: usize, whole: bool) {
    let head = std::str::from_utf8(&bytes[..head_len]).expect("our heads are text");
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).expect("a body has a length");
    let (body_len, sent) = (length.parse::<usize>().expect("a number"), bytes.len() - head_len);
    assert!(sent == body_len || (!whole && sent < body_len), "{sent} of {body_len} bytes");
}

fn number_of(payload: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(payload).ok()?;
    text.strip_prefix(NUMBERED)?.split(' ').next()?.parse().ok()
}

/// Nobody got a message twice or of another topic, or its own without asking for it; and
/// all who got the same messages got them in the same order.
pub(super) fn check_deliveries(peers: &[Peer], messages: &[Numbered]) {
    let mut received: Vec<(u8, Vec<usize>)> = Vec::new();
    for (position, peer) in peers.iter().enumerate() {
        let numbers = peer.check_sent();
        let Some(interest) = peer.interest else { continue };
        assert!(numbers.is_empty() || interest.subscribes, "{peer:?}");
        assert_eq!(numbers.iter().collect::<BTreeSet<_>>().len(), numbers.len(), "twice: {numbers:?}");
        for number in &numbers {
            let message = messages[*number];
            assert_eq!(message.topic, interest.topic);
            assert!(interest.to_self || message.from != Some(position), "its own message");
        }
        for (topic, others) in &received {
            if *topic == interest.topic {
                let common = |of: &[usize], and: &[usize]| -> Vec<usize> {
                    of.iter().copied().filter(|number| and.contains(number)).collect()
                };
                assert_eq!(common(&numbers, others), common(others, &numbers), "one order");
            }
        }
        received.push((interest.topic, numbers));
    }
}
