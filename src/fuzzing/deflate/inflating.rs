//! What clients send: inflated as another implementation does it, however it is split,
//! and never to more than the limit.
//!
//! Input: a byte that chooses the limit, one for the window and whether it is kept, the
//! sizes of fragments and of reads less one, then messages.

use super::{messages, peer};
use crate::proto::Role;
use crate::proto::compression::{BUFFER_KEEP_BYTES_MAX, Compression, CompressionPool, CompressionSettings};
use crate::proto::error::ProtocolError;
use crate::proto::extension::{Takeover, WINDOW_BITS_MIN};
use crate::proto::frame::{self, OpCode};
use crate::proto::inflate::{BYTES_PER_STREAM, Inflater, STEP_BYTES_MIN, STREAMS_MAX, Window};
use crate::proto::message::{AssemblyPool, Compressible, Event, MessageReader, ReaderRules};
use peer::Inflated;

/// Message limits in bytes.
const LIMITS: [usize; 6] = [0, 125, 1_000, 5_000, 70_000, 300_000];
/// Of the bytes on the wire; the limit is that of the text.
const WIRE_BYTES_MAX: usize = 1 << 20;
const KEY: [u8; 4] = [0xa5, 0x5a, 0x0f, 0xf0];

pub(super) fn run(data: &[u8]) {
    let [limit, window, fragment, piece, data @ ..] = data else { return };
    let limit = LIMITS[usize::from(*limit) % LIMITS.len()];
    let window_bits = WINDOW_BITS_MIN + window % 8;
    let kept = window & 8 != 0;
    let mut client = Client::new(window_bits, kept, 1 + usize::from(*fragment), 1 + usize::from(*piece));
    let (mut inflater, mut window) = (Inflater::default(), Window::default());
    let mut said = Vec::new();
    for message in messages(data) {
        let streams_max = 1 + STREAMS_MAX + message.len() / BYTES_PER_STREAM;
        let expected = peer::inflate(&said, message, limit, streams_max);
        let mut out = Vec::new();
        let result = if kept {
            inflater.inflate_with(&mut window, window_bits, message, limit, &mut out)
        } else {
            inflater.inflate(message, limit, &mut out)
        };
        assert!(out.capacity() <= limit + STEP_BYTES_MIN, "{} bytes for a limit of {limit}", out.capacity());
        assert!(window.memory_bytes() <= 1 << window_bits);
        let result = result.map(|()| out);
        check(&result, &expected, limit);
        assert_eq!(client.send(message, limit), result, "in pieces, and into a buffer that is used again");
        let Ok(text) = result else { return };
        if kept {
            said.extend_from_slice(&text);
            said.drain(..said.len().saturating_sub(1 << window_bits));
        }
    }
}

fn check(result: &Result<Vec<u8>, ProtocolError>, expected: &Inflated, limit: usize) {
    match (result, expected) {
        (Ok(text), Inflated::Text(expected)) => assert!(text == expected && text.len() <= limit),
        (Err(ProtocolError::InflatesTooLong { limit: named }), Inflated::TooLong) => assert_eq!(*named, limit),
        // The other one looks at a code that has no end of block when it needs one.
        (Err(ProtocolError::InvalidDeflate(_)), Inflated::Refused | Inflated::TooLong) => {}
        _ => panic!("{result:?}, but the other says {expected:?}"),
    }
}

/// A connection, from the wire to the text.
struct Client {
    pool: CompressionPool,
    compression: Compression,
    reader: MessageReader,
    assemblies: AssemblyPool,
    /// With the room that a shard's has at most, from earlier messages.
    buffer: Vec<u8>,
    fragment: usize,
    piece: usize,
}

impl Client {
    fn new(window_bits: u8, kept: bool, fragment: usize, piece: usize) -> Self {
        let takeover = Takeover { server: false, client: kept };
        let settings = CompressionSettings {
            enabled: true,
            takeover,
            context_bytes_max: 1 << 20,
            ..CompressionSettings::default()
        };
        let mut pool = CompressionPool::new(settings);
        let offer = format!("permessage-deflate; client_max_window_bits={window_bits}");
        let agreed = pool.negotiate([offer.as_bytes()].into_iter(), true);
        let compression = pool.connect(agreed.ok().flatten().expect("the offer is legal"));
        let (reader, assemblies) = Default::default();
        let buffer = Vec::with_capacity(BUFFER_KEEP_BYTES_MAX);
        Self { pool, compression, reader, assemblies, buffer, fragment, piece }
    }

    fn send(&mut self, message: &[u8], limit: usize) -> Result<Vec<u8>, ProtocolError> {
        let mut bytes = Vec::new();
        let mut fragments = message.chunks(self.fragment).peekable();
        let mut append = |fragment: &[u8], is_first: bool, is_last: bool| {
            let start = bytes.len();
            let opcode = if is_first { OpCode::Binary } else { OpCode::Continuation };
            frame::append_client(&mut bytes, opcode, KEY, fragment);
            bytes[start] = u8::from(is_last) << 7 | u8::from(is_first) << 6 | bytes[start] & 0x0f;
        };
        if message.is_empty() {
            append(&[], true, true);
        }
        let mut is_first = true;
        while let Some(fragment) = fragments.next() {
            append(fragment, is_first, fragments.peek().is_none());
            is_first = false;
        }
        let rules =
            ReaderRules { compressible: Compressible::Messages, ..ReaderRules::new(Role::Server, WIRE_BYTES_MAX) };
        let mut inflated = None;
        for mut piece in bytes.chunks_mut(self.piece) {
            while let Some(event) = self.reader.next(&mut piece, &rules, &mut self.assemblies)? {
                let Event::Compressed { opcode: OpCode::Binary, payload } = event else { panic!("{event:?}") };
                assert_eq!((payload, &inflated), (message, &None));
                let result = self.pool.inflate(&mut self.compression, OpCode::Binary, payload, limit, &mut self.buffer);
                inflated = Some(result.map(|()| self.buffer.clone()));
            }
        }
        inflated.expect("a whole message came")
    }
}
