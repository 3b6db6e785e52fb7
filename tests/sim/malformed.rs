//! Frames, and all that can be wrong with them.

use fastrand::Rng;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use wsgate::shard::ShardSettings;
use wsgate::stats::CloseReason;

use crate::deflate::Deflate;
use crate::plan::pick;

pub(crate) const CONTINUATION: u8 = 0x0;
pub(crate) const TEXT: u8 = 0x1;
pub(crate) const BINARY: u8 = 0x2;
pub(crate) const CLOSE: u8 = 0x8;
pub(crate) const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xa;
/// What marks a compressed message in its first byte.
pub(crate) const COMPRESSED: u8 = 0x40;

/// What follows from something that a client must not do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Offence {
    pub(crate) name: &'static str,
    pub(crate) code: u16,
    pub(crate) reason: CloseReason,
}

/// A client's frame, masked by a key that follows from the seed.
pub(crate) fn frame(rng: &mut Rng, fin: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
    let key = rng.u32(..).to_be_bytes();
    let header = FrameHeader { is_final: fin, opcode: OpCode::from(opcode), mask: Some(key), ..FrameHeader::default() };
    let mut bytes = Vec::with_capacity(payload.len() + 14);
    header.format(payload.len() as u64, &mut bytes).expect("memory takes everything");
    bytes.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}

/// A client publishes where it may not.
pub(crate) const NO_RIGHT: Offence =
    Offence { name: "no right to publish", code: 1008, reason: CloseReason::PolicyViolation };

/// Bytes that break the protocol, which rule they break, and how the connection ends.
/// `offered`: whether a message may be a compressed one.
pub(crate) fn malformed(rng: &mut Rng, settings: &ShardSettings, offered: bool) -> (Vec<u8>, Offence) {
    let message_bytes_max = settings.routes.limits.plain;
    let error = |name, bytes: Vec<u8>| (bytes, Offence { name, code: 1002, reason: CloseReason::ProtocolError });
    let not_text = |name, bytes: Vec<u8>| (bytes, Offence { name, code: 1007, reason: CloseReason::ProtocolError });
    let too_long = |name, bytes: Vec<u8>| (bytes, Offence { name, code: 1009, reason: CloseReason::MessageTooLong });
    let announced = |opcode: u8, len: u64| {
        let mut bytes = Vec::new();
        let data = OpCode::Data(if opcode == TEXT { Data::Text } else { Data::Continue });
        let header = FrameHeader { opcode: data, mask: Some([1, 2, 3, 4]), ..FrameHeader::default() };
        header.format(len, &mut bytes).expect("memory takes everything");
        bytes
    };
    match rng.u32(0..20) {
        0 => {
            let mut bytes = frame(rng, true, TEXT, b"reserved");
            bytes[0] |= if offered { *pick(rng, &[0x10, 0x20]) } else { *pick(rng, &[0x10, 0x20, COMPRESSED]) };
            error("reserved bit", bytes)
        }
        1 => {
            let opcode = *pick(rng, &[3, 7, 0xb, 0xf]);
            let mut bytes = frame(rng, true, TEXT, b"opcode");
            bytes[0] = 0x80 | opcode;
            error("unknown opcode", bytes)
        }
        2 => error("fragmented control frame", frame(rng, false, PING, b"ping")),
        3 => error("long control frame", frame(rng, true, PING, &[7; 126])),
        4 => error("no mask", vec![0x81, 2, b'h', b'i']),
        5 => error("length in two bytes too many", vec![0x81, 0x80 | 126, 0, 5, 0, 0, 0, 0, 1, 2, 3, 4, 5]),
        6 => error("length in eight bytes too many", vec![0x82, 0x80 | 127, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0]),
        7 => error("length with its highest bit", vec![0x82, 0x80 | 127, 0x80, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]),
        8 => error("nothing to continue", frame(rng, true, CONTINUATION, b"more")),
        9 => {
            error("message inside a message", [frame(rng, false, TEXT, b"a"), frame(rng, true, BINARY, b"b")].concat())
        }
        10 => error("close body of one byte", frame(rng, true, CLOSE, &[3])),
        11 => {
            let code: u16 = *pick(rng, &[0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000]);
            error("close code", frame(rng, true, CLOSE, &code.to_be_bytes()))
        }
        12 => not_text("text", frame(rng, true, TEXT, b"not \xff text")),
        13 => not_text(
            "text cut inside a character",
            [frame(rng, false, TEXT, b"\xf0\x9d"), frame(rng, true, CONTINUATION, b"\x84")].concat(),
        ),
        14 => not_text(
            "text over fragments",
            [frame(rng, false, TEXT, b"\xe6"), frame(rng, true, CONTINUATION, b"!")].concat(),
        ),
        15 => not_text("close reason", frame(rng, true, CLOSE, b"\x03\xe8\xff")),
        16 if settings.fragments_max != usize::MAX => {
            let start = frame(rng, false, TEXT, b"a");
            let more = (0..settings.fragments_max).flat_map(|_| frame(rng, false, CONTINUATION, b"b"));
            let bytes = start.into_iter().chain(more).collect();
            let reason = CloseReason::TooManyFragments;
            (bytes, Offence { name: "fragments over their bound", code: 1009, reason })
        }
        17 if settings.frame_bytes_max < message_bytes_max => {
            let bytes = announced(TEXT, settings.frame_bytes_max as u64 + 1);
            let reason = CloseReason::FrameTooLong;
            (bytes, Offence { name: "frame over its bound", code: 1009, reason })
        }
        18 => too_long("announced length", announced(TEXT, message_bytes_max as u64 + 1)),
        _ => too_long(
            "length over fragments",
            [frame(rng, false, TEXT, &[b'a'; 100]), announced(CONTINUATION, message_bytes_max as u64 - 99)].concat(),
        ),
    }
}

/// The same for what can be wrong only where compression was agreed on.
pub(crate) fn malformed_deflate(rng: &mut Rng, deflate: &mut Deflate, settings: &ShardSettings) -> (Vec<u8>, Offence) {
    let marked = |mut frame: Vec<u8>| {
        frame[0] |= COMPRESSED;
        frame
    };
    let bomb = deflate.deflate(&vec![0; settings.routes.limits.plain + 1]);
    let (name, code, bytes) = match rng.u32(0..6) {
        0..=1 if bomb.len() <= settings.frame_bytes_max => {
            ("length that it inflates to", 1009, marked(frame(rng, true, BINARY, &bomb)))
        }
        2 => ("compressed control frame", 1002, marked(frame(rng, true, PING, b"ping"))),
        3 => {
            let start = frame(rng, false, TEXT, b"a");
            ("compressed continuation", 1002, [start, marked(frame(rng, true, CONTINUATION, b"b"))].concat())
        }
        4 => ("compressed text", 1007, marked(frame(rng, true, TEXT, &deflate.deflate(b"not \xff text")))),
        _ => ("no DEFLATE data", 1007, marked(frame(rng, true, BINARY, &[0xff; 20]))),
    };
    let reason = if code == 1009 { CloseReason::MessageTooLong } else { CloseReason::ProtocolError };
    (bytes, Offence { name, code, reason })
}
