//! Frames and messages: in any pieces the same events, for both roles.
//!
//! Input: a byte that chooses role and message limit, a byte with the size of the pieces
//! less one, then what the peer sends.

use crate::proto::Role;
use crate::proto::close::CloseCode;
use crate::proto::error::ProtocolError;
use crate::proto::frame::{self, MessageKind, OpCode};
use crate::proto::message::{AssemblyPool, Event, MessageReader, ReaderRules};

/// Message limits in bytes; the first ones are reached soon.
const LIMITS: [usize; 4] = [0, 130, 1000, 1 << 20];
/// Memory that a reader may hold beside the message: what a pool's buffer has kept, and its
/// own fields.
const HELD_BESIDE_BYTES_MAX: usize = 64 * 1024 + 1024;

/// An [`Event`] that can be kept.
#[derive(PartialEq, Debug)]
enum Seen {
    Message(MessageKind, Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(CloseCode, String)>),
}

impl Seen {
    fn of(event: Event<'_>) -> Self {
        match event {
            Event::Message { kind, payload, .. } => {
                assert!(kind == MessageKind::Binary || std::str::from_utf8(payload).is_ok());
                Self::Message(kind, payload.to_vec())
            }
            Event::Compressed { .. } => unreachable!("nobody agreed on compression"),
            Event::Ping(payload) => Self::Ping(payload.to_vec()),
            Event::Pong(payload) => Self::Pong(payload.to_vec()),
            Event::Close(close) => Self::Close(close.map(|close| (close.code, close.reason.to_owned()))),
        }
    }
}

pub(super) fn run(data: &[u8]) {
    let [setup, size, bytes @ ..] = data else { return };
    let role = if setup & 1 == 0 { Role::Server } else { Role::Client };
    let rules = rules(role, LIMITS[usize::from(setup >> 1) % LIMITS.len()]);
    let whole = read(bytes, bytes.len(), &rules);
    let size = 1 + usize::from(*size);
    assert_eq!(whole, read(bytes, size, &rules), "in pieces of {size} bytes");
    check_round_trip(&whole.0, &rules);
}

fn rules(role: Role, message_bytes_max: usize) -> ReaderRules {
    ReaderRules::new(role, message_bytes_max)
}

/// All events, and the error that ended them.
fn read(bytes: &[u8], size: usize, rules: &ReaderRules) -> (Vec<Seen>, Option<ProtocolError>) {
    let (mut reader, mut pool) = (MessageReader::default(), AssemblyPool::default());
    let mut bytes = bytes.to_vec();
    let mut seen = Vec::new();
    for mut piece in bytes.chunks_mut(size.max(1)) {
        loop {
            match reader.next(&mut piece, rules, &mut pool) {
                Ok(Some(event)) => seen.push(Seen::of(event)),
                Ok(None) => break,
                Err(error) => return (seen, Some(error)),
            }
            if let Some(Seen::Close(_)) = seen.last() {
                return (seen, None);
            }
        }
        assert!(piece.is_empty(), "the input is used up");
        // A vector that grows doubles.
        let held = reader.held_bytes();
        assert!(held <= 2 * rules.message_bytes_max + HELD_BESIDE_BYTES_MAX, "{held} bytes held");
    }
    reader.release(&mut pool);
    assert_eq!(reader.held_bytes(), 0);
    (seen, None)
}

/// What was read and is sent again by an honest peer is read as the same.
fn check_round_trip(seen: &[Seen], rules: &ReaderRules) {
    let mut bytes = Vec::new();
    for event in seen {
        let (opcode, payload) = match event {
            Seen::Message(kind, payload) => (kind.opcode(), payload.clone()),
            Seen::Ping(payload) => (OpCode::Ping, payload.clone()),
            Seen::Pong(payload) => (OpCode::Pong, payload.clone()),
            Seen::Close(None) => (OpCode::Close, Vec::new()),
            Seen::Close(Some((code, reason))) => (OpCode::Close, [&code.0.to_be_bytes(), reason.as_bytes()].concat()),
        };
        match rules.role {
            Role::Server => frame::append_client(&mut bytes, opcode, [0xa5, 0x5a, 0x0f, 0xf0], &payload),
            Role::Client => frame::append_server(&mut bytes, opcode, &payload),
        }
    }
    let (again, error) = read(&bytes, bytes.len(), rules);
    assert_eq!((again.as_slice(), error), (seen, None));
}
