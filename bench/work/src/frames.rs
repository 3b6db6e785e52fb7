//! The frame engine and the handshake alone.

use std::hint::black_box;

use wsgate::proto::Role;
use wsgate::proto::frame::{self, HEADER_BYTES_MAX, OpCode};
use wsgate::proto::handshake::Upgrade;
use wsgate::proto::message::{AssemblyPool, Event, MessageReader, ReaderRules};
use wsgate::proto::{http, mask, utf8};

use crate::counted::Counted;
use crate::gateway::{client_frames, upgrade_request};

const RULES: ReaderRules = ReaderRules::new(Role::Server, 1 << 24);
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// Reads whole binary messages that lie in one buffer.
pub(crate) fn decode(bytes: usize, count: usize) -> Counted {
    read(client_frames(OpCode::Binary, &vec![b'a'; bytes], count), usize::MAX, count)
}

/// The same with text, a third of it beyond ASCII.
pub(crate) fn decode_text(bytes: usize, count: usize) -> Counted {
    read(client_frames(OpCode::Text, text(bytes).as_bytes(), count), usize::MAX, count)
}

/// Messages that come in pieces.
pub(crate) fn decode_pieces(bytes: usize, piece: usize, count: usize) -> Counted {
    read(client_frames(OpCode::Text, &vec![b'a'; bytes], count), piece, count)
}

fn read(frames: Vec<u8>, piece: usize, count: usize) -> Counted {
    let mut pool = AssemblyPool::default();
    let mut reader = MessageReader::default();
    let mut read = |frames: &mut [u8]| {
        let mut messages = 0;
        for piece in frames.chunks_mut(piece) {
            let mut input = piece;
            while let Ok(Some(event)) = reader.next(&mut input, &RULES, &mut pool) {
                messages += usize::from(matches!(event, Event::Message { .. }));
            }
        }
        messages
    };
    // Reading unmasks in place, so each time has frames of its own. After the first, pools
    // have their size.
    read(&mut frames.clone());
    let (mut frames, mut messages) = (frames, 0);
    let counted = Counted::of(count, || messages = read(&mut frames));
    assert_eq!(messages, count);
    counted
}

/// Writes a server's frames.
pub(crate) fn encode(bytes: usize, count: usize) -> Counted {
    let payload = vec![b'a'; bytes];
    let mut out = Vec::with_capacity(bytes + HEADER_BYTES_MAX);
    Counted::of(count, || {
        for _ in 0..count {
            out.clear();
            frame::append_server(&mut out, OpCode::Text, black_box(&payload));
        }
    })
}

/// Takes a client's mask away.
pub(crate) fn unmask(bytes: usize, count: usize) -> Counted {
    let mut payload = vec![0x5a; bytes];
    Counted::of(count, || (0..count).for_each(|_| mask::apply(black_box(&mut payload), KEY, 0)))
}

/// Looks whether a text is one.
pub(crate) fn validate(bytes: usize, count: usize) -> Counted {
    let text = text(bytes);
    Counted::of(count, || (0..count).for_each(|_| assert!(utf8::is_valid(black_box(text.as_bytes())))))
}

/// Reads a request and answers it.
pub(crate) fn handshake(count: usize) -> Counted {
    let request = upgrade_request("/echo", "");
    let mut out = Vec::with_capacity(256);
    Counted::of(count, || {
        for _ in 0..count {
            let head = black_box(request.as_bytes());
            let len = http::head_len(head, 0).expect("the request is whole");
            let request = http::parse(&head[..len]).expect("it is well-formed");
            out.clear();
            Upgrade::validate(&request, &[]).expect("it asks for an upgrade").append_response(&mut out);
        }
    })
}

fn text(bytes: usize) -> String {
    let mut text: String = "aé漢😀bcdef".chars().cycle().take(bytes / 2).collect();
    while text.len() > bytes {
        text.pop();
    }
    text
}
