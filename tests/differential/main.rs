//! Our frame and message reader beside tungstenite's, which nobody here wrote: for 10,000
//! sequences of frames, most with one mistake, both give the same events and refuse at the
//! same place for the same reason.
//!
//! Where tungstenite is known to be lenient, or to look at things in another order, is said
//! in [`agree`] and nowhere else.
#![allow(missing_docs)]

mod frames;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};

use frames::{Sequence, sequences};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use tungstenite::protocol::{Role as TheirRole, WebSocketConfig};
use tungstenite::{Error, Message, WebSocket};
use wsgate::proto::Role;
use wsgate::proto::error::ProtocolError;
use wsgate::proto::frame::MessageKind;
use wsgate::proto::message::{AssemblyPool, Event, MessageReader, ReaderRules};

const SEQUENCES: u32 = 10_000;
/// Bytes of a frame above which tungstenite refuses before it looks at anything else.
const THEIR_FRAME_BYTES_MAX: usize = 1 << 20;
/// Registered with IANA ("bad gateway"), which tungstenite does not know.
const BAD_GATEWAY: u16 = 1014;

#[derive(Clone, PartialEq, Debug)]
enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
}

/// Why the rest was refused: what the peer would be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Refusal {
    /// 1002
    Protocol,
    /// 1007
    Utf8,
    /// 1009
    TooLong,
}

/// What a reader made of a sequence.
#[derive(Clone, PartialEq, Debug)]
struct Outcome {
    seen: Vec<Seen>,
    refusal: Option<Refusal>,
}

impl Outcome {
    /// Whether what follows does not matter any more.
    fn is_over(&self) -> bool {
        self.refusal.is_some() || matches!(self.seen.last(), Some(Seen::Close(_)))
    }
}

/// Ours, and the error as it is.
fn read_ours(bytes: &[u8], sequence: &Sequence) -> (Outcome, Option<ProtocolError>) {
    let rules = ReaderRules::new(sequence.role, sequence.limit);
    let (mut reader, mut pool) = (MessageReader::default(), AssemblyPool::default());
    let (mut bytes, mut seen) = (bytes.to_vec(), Vec::new());
    for mut piece in bytes.chunks_mut(sequence.piece) {
        loop {
            match reader.next(&mut piece, &rules, &mut pool) {
                Ok(Some(event)) => seen.push(match event {
                    Event::Message { kind: MessageKind::Text, payload, .. } => {
                        Seen::Text(String::from_utf8(payload.to_vec()).expect("text is UTF-8"))
                    }
                    Event::Message { kind: MessageKind::Binary, payload, .. } => Seen::Binary(payload.to_vec()),
                    Event::Compressed { .. } => unreachable!("nobody agreed on compression"),
                    Event::Ping(payload) => Seen::Ping(payload.to_vec()),
                    Event::Pong(payload) => Seen::Pong(payload.to_vec()),
                    Event::Close(close) => Seen::Close(close.map(|close| (close.code.0, close.reason.to_owned()))),
                }),
                Ok(None) => break,
                Err(error) => {
                    let refusal = match error.close_code().0 {
                        1002 => Refusal::Protocol,
                        1007 => Refusal::Utf8,
                        1009 => Refusal::TooLong,
                        other => panic!("{error} has the code {other}"),
                    };
                    return (Outcome { seen, refusal: Some(refusal) }, Some(error));
                }
            }
            if let Some(Seen::Close(_)) = seen.last() {
                return (Outcome { seen, refusal: None }, None);
            }
        }
    }
    (Outcome { seen, refusal: None }, None)
}

/// A transport that brings bytes in pieces and takes everything.
struct Transport<'a> {
    rest: &'a [u8],
    piece: usize,
}

impl Read for Transport<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.piece.min(self.rest.len()).min(buffer.len());
        if len == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        let (piece, rest) = self.rest.split_at(len);
        buffer[..len].copy_from_slice(piece);
        self.rest = rest;
        Ok(len)
    }
}

impl Write for Transport<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn read_theirs(bytes: &[u8], sequence: &Sequence) -> Outcome {
    let role = match sequence.role {
        Role::Server => TheirRole::Server,
        Role::Client => TheirRole::Client,
    };
    let config = WebSocketConfig::default()
        .read_buffer_size(4096)
        .max_message_size(Some(sequence.limit))
        .max_frame_size(Some(THEIR_FRAME_BYTES_MAX));
    let transport = Transport { rest: bytes, piece: sequence.piece };
    let mut socket = WebSocket::from_raw_socket(transport, role, Some(config));
    let mut seen = Vec::new();
    let refusal = loop {
        match socket.read() {
            Ok(Message::Text(text)) => seen.push(Seen::Text(text.to_string())),
            Ok(Message::Binary(payload)) => seen.push(Seen::Binary(payload.to_vec())),
            Ok(Message::Ping(payload)) => seen.push(Seen::Ping(payload.to_vec())),
            Ok(Message::Pong(payload)) => seen.push(Seen::Pong(payload.to_vec())),
            // What it makes of a code that must not be sent.
            Ok(Message::Close(Some(close))) if close.reason.as_str() == "Protocol violation" => {
                break Some(Refusal::Protocol);
            }
            Ok(Message::Close(close)) => {
                seen.push(Seen::Close(close.map(|close| (close.code.into(), close.reason.to_string()))));
                break None;
            }
            Ok(other) => panic!("{other:?} is not read"),
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => break None,
            Err(Error::Protocol(_)) => break Some(Refusal::Protocol),
            Err(Error::Utf8(_)) => break Some(Refusal::Utf8),
            Err(Error::Capacity(_)) => break Some(Refusal::TooLong),
            Err(other) => panic!("{other:?} on bytes in memory"),
        }
    };
    Outcome { seen, refusal }
}

/// Compares both on one sequence; what we made of it.
fn agree(sequence: &Sequence) -> (Outcome, Option<ProtocolError>) {
    let bytes = sequence.bytes();
    let (ours, error) = read_ours(&bytes, sequence);
    let mut theirs = match sequence.bytes_before_long_form() {
        None => read_theirs(&bytes, sequence),
        // It takes lengths in any form. We must refuse, and there.
        Some(before) => {
            let theirs = read_theirs(&before, sequence);
            let refusal = if theirs.is_over() { theirs.refusal } else { Some(Refusal::Protocol) };
            Outcome { refusal, ..theirs }
        }
    };
    match (&error, theirs.refusal) {
        // It looks at a frame's length before anything else of the frame.
        (Some(_), Some(Refusal::TooLong)) if sequence.announces_too_much() => theirs.refusal = ours.refusal,
        // It looks at the reason before the code.
        (Some(ProtocolError::CloseCodeInvalid(_)), Some(Refusal::Utf8)) => theirs.refusal = ours.refusal,
        // It takes this code for one that must not be sent.
        (None, Some(Refusal::Protocol)) if matches!(ours.seen.last(), Some(Seen::Close(Some((BAD_GATEWAY, _))))) => {
            theirs.refusal = None;
            theirs.seen.extend(ours.seen.last().cloned());
        }
        _ => {}
    }
    assert_eq!(ours, theirs, "ours, theirs; our error: {error:?}");
    if let Some(beginning) = sequence.cut(&bytes) {
        agree_on_beginning(&beginning, sequence, &ours);
    }
    (ours, error)
}

/// Of a sequence that ends early both have seen the same. We may have refused already, at
/// the first byte that cannot be, where tungstenite waits for the frame to be complete; but
/// only what we refuse when all is there.
fn agree_on_beginning(beginning: &[u8], sequence: &Sequence, all: &Outcome) {
    let (ours, _) = read_ours(beginning, sequence);
    assert!(all.seen.starts_with(&ours.seen), "{ours:?} is no beginning of {all:?}");
    if ours.refusal.is_some() {
        assert_eq!(&ours, all, "refused for another reason than when all is there");
    } else if sequence.bytes_before_long_form().is_none() && !all.is_over() {
        assert_eq!(ours, read_theirs(beginning, sequence));
    }
}

#[test]
fn ten_thousand_sequences_are_read_alike() {
    let config = Config { cases: SEQUENCES, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]));
    let counts: RefCell<BTreeMap<String, u32>> = RefCell::default();
    let result = runner.run(&sequences(), |sequence| {
        let (outcome, error) = agree(&sequence);
        let name = |debug: String| debug.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_owned();
        let errors = error.iter().map(|error| name(format!("{error:?}")));
        for name in outcome.seen.iter().map(|seen| name(format!("{seen:?}"))).chain(errors) {
            *counts.borrow_mut().entry(name).or_default() += 1;
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    // That there was enough of everything to compare.
    let counts = counts.into_inner();
    for (name, least) in [
        ("Text", 1000),
        ("Binary", 1000),
        ("Ping", 500),
        ("Pong", 500),
        ("Close", 500),
        ("ReservedBits", 50),
        ("UnknownOpCode", 50),
        ("FragmentedControl", 50),
        ("ControlTooLong", 50),
        ("Unmasked", 50),
        ("Masked", 50),
        ("LengthNotMinimal", 50),
        ("LengthTooLarge", 50),
        ("NothingToContinue", 50),
        ("ContinuationExpected", 50),
        ("InvalidUtf8", 50),
        ("MessageTooLong", 50),
        ("CloseBodyTooShort", 50),
        ("CloseCodeInvalid", 50),
    ] {
        assert!(counts.get(name).is_some_and(|count| *count >= least), "too little of {name}: {counts:?}");
    }
}
