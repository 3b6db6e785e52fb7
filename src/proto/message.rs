//! Messages and control frames out of any split of the bytes.
//!
//! A frame that lies whole in the input is unmasked where it lies and handed out
//! as a slice of it: no copy. Only what is cut, by the end of the input or by
//! fragmentation, is copied, into an assembly that comes from a pool and goes
//! back to it when the message is complete. An idle reader holds none.

use std::mem;

use super::Role;
use super::close::{self, CloseFrame};
use super::copy;
use super::error::ProtocolError;
use super::frame::{COMPRESSED, CONTROL_PAYLOAD_BYTES_MAX, FrameHeader, HEADER_BYTES_MAX, MessageKind, OpCode};
use super::mask;
use super::utf8::{self, Utf8Validator};

/// A message buffer with more capacity than this is not kept for later use: one
/// message of 16 MiB must not hold 16 MiB for the life of the process.
const ASSEMBLY_KEEP_BYTES_MAX: usize = 128 * 1024;
/// What a compressed message of few bytes may have more than those.
const COMPRESSED_SLACK_BYTES: u64 = 64;
/// Free assemblies that a pool keeps.
const POOL_KEEP_MAX: usize = 64;

/// Something that the peer said.
#[derive(PartialEq, Eq, Debug)]
pub enum Event<'a> {
    /// A whole message; text has been validated.
    Message {
        /// Text or binary.
        kind: MessageKind,
        /// The payload, unmasked.
        payload: &'a [u8],
        /// Whether it is a slice of the input, the last that was used of it. If not, it
        /// was put together in a buffer of the reader.
        in_place: bool,
    },
    /// To be answered by a pong with this payload.
    Ping(&'a [u8]),
    /// A sign of life.
    Pong(&'a [u8]),
    /// The closing handshake; nothing that follows is to be read.
    Close(Option<CloseFrame<'a>>),
    /// What permessage-deflate has compressed: the payload is to be inflated, which
    /// [`Event::of`] then makes an event of.
    Compressed {
        /// What it is.
        opcode: OpCode,
        /// The payload, unmasked, of all fragments.
        payload: &'a [u8],
    },
}

impl<'a> Event<'a> {
    /// A whole message or control frame with this payload, which is not in the input.
    pub fn of(opcode: OpCode, payload: &'a [u8]) -> Result<Self, ProtocolError> {
        match opcode {
            OpCode::Text if !utf8::is_valid(payload) => Err(ProtocolError::InvalidUtf8),
            OpCode::Text => Ok(Self::Message { kind: MessageKind::Text, payload, in_place: false }),
            OpCode::Binary => Ok(Self::Message { kind: MessageKind::Binary, payload, in_place: false }),
            OpCode::Ping => Ok(Self::Ping(payload)),
            OpCode::Pong => Ok(Self::Pong(payload)),
            OpCode::Close => Ok(Self::Close(close::parse(payload)?)),
            OpCode::Continuation => Err(ProtocolError::NothingToContinue),
        }
    }
}

/// What of a peer's frames may be compressed.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Compressible {
    /// Nothing: permessage-deflate was not agreed on.
    #[default]
    Nothing,
    /// Messages (RFC 7692, section 6).
    Messages,
    /// Control frames too, which the RFC forbids and Starscream 4 does.
    ControlFramesToo,
}

/// What a reader holds the peer to.
#[derive(Clone, Copy, Debug)]
pub struct ReaderRules {
    /// Which end we are; decides who must mask.
    pub role: Role,
    /// Longest message in bytes, all fragments together.
    pub message_bytes_max: usize,
    /// Longest payload of one frame in bytes.
    pub frame_bytes_max: usize,
    /// Frames that a message may come in.
    pub fragments_max: usize,
    /// What may be compressed.
    pub compressible: Compressible,
}

impl ReaderRules {
    /// No other bound than that of whole messages, and nothing compressed.
    pub const fn new(role: Role, message_bytes_max: usize) -> Self {
        Self {
            role,
            message_bytes_max,
            frame_bytes_max: usize::MAX,
            fragments_max: usize::MAX,
            compressible: Compressible::Nothing,
        }
    }

    /// Bytes that a message may have on the wire. Compression makes one longer that has
    /// nothing to compress, by an eighth if all of it is coded as the rarest bytes are.
    fn wire_bytes_max(&self, compressed: bool) -> u64 {
        let bytes_max = self.message_bytes_max as u64;
        if compressed { bytes_max + bytes_max / 8 + COMPRESSED_SLACK_BYTES } else { bytes_max }
    }
}

/// Reads the events of one connection. Eight bytes while nothing is cut.
#[derive(Default, Debug)]
pub struct MessageReader {
    assembly: Option<Box<Assembly>>,
}

/// Free assemblies, shared by all readers of an event loop.
#[derive(Default, Debug)]
pub struct AssemblyPool {
    // Boxed so that a reader moves a pointer and not the assembly itself.
    #[expect(clippy::vec_box)]
    free: Vec<Box<Assembly>>,
}

impl AssemblyPool {
    fn take(&mut self) -> Box<Assembly> {
        self.free.pop().unwrap_or_default()
    }

    fn put(&mut self, mut assembly: Box<Assembly>) {
        if self.free.len() < POOL_KEEP_MAX {
            assembly.reset();
            self.free.push(assembly);
        }
    }
}

/// A cut frame and the message that it belongs to.
#[derive(Default, Debug)]
struct Assembly {
    /// Bytes of a header that is not complete.
    header: [u8; HEADER_BYTES_MAX],
    header_len: usize,
    /// The frame whose payload is under way.
    frame: Option<FrameUnderWay>,
    /// Type of the open message; stays set between its fragments.
    kind: Option<MessageKind>,
    /// Frames of the open message whose headers have come.
    fragments: usize,
    /// The open message is compressed; its first frame said so.
    compressed: bool,
    /// The open message so far. Grows with what arrived, never with what was announced.
    message: Vec<u8>,
    text: Utf8Validator,
    /// Payload of a control frame, which may stand between fragments.
    control: Vec<u8>,
    /// The last event was the message: forget it on the next call.
    handed_out: bool,
}

#[derive(Clone, Copy, Debug)]
struct FrameUnderWay {
    header: FrameHeader,
    received: u64,
}

impl Assembly {
    fn reset(&mut self) {
        self.header_len = 0;
        self.frame = None;
        self.control.clear();
        self.forget_message();
    }

    fn forget_message(&mut self) {
        self.kind = None;
        self.fragments = 0;
        self.compressed = false;
        self.text = Utf8Validator::default();
        self.handed_out = false;
        if self.message.capacity() > ASSEMBLY_KEEP_BYTES_MAX {
            self.message = Vec::new();
        } else {
            self.message.clear();
        }
    }

    fn is_idle(&self) -> bool {
        self.header_len == 0 && self.frame.is_none() && self.kind.is_none()
    }
}

impl MessageReader {
    /// The next event in `input`, which is advanced past the bytes that were used.
    /// `None`: the input is used up, and what it cut has been kept.
    ///
    /// After an error or a [`Event::Close`] the rest of the input has no meaning.
    pub fn next<'a, 'b: 'a>(
        &'a mut self,
        input: &mut &'b mut [u8],
        rules: &ReaderRules,
        pool: &mut AssemblyPool,
    ) -> Result<Option<Event<'a>>, ProtocolError> {
        if let Some(assembly) = &mut self.assembly {
            if assembly.handed_out {
                assembly.forget_message();
            }
            if assembly.is_idle() {
                pool.put(self.assembly.take().unwrap_or_default());
            }
        }
        if self.assembly.is_none() {
            if input.is_empty() {
                return Ok(None);
            }
            if let Some(event) = whole_frame(input, rules)? {
                return Ok(Some(event));
            }
        }
        self.assembly.get_or_insert_with(|| pool.take()).next(input, rules)
    }

    /// Gives away the message that the last event handed out, if it was not a slice of
    /// the input, and takes an empty buffer for the next one.
    pub fn exchange_message(&mut self, buffer: Vec<u8>) -> Vec<u8> {
        debug_assert!(buffer.is_empty());
        match &mut self.assembly {
            Some(assembly) if assembly.handed_out => mem::replace(&mut assembly.message, buffer),
            _ => buffer,
        }
    }

    /// Whether the input's next byte begins a frame, and that a message.
    pub fn is_at_message(&self) -> bool {
        self.assembly.is_none()
    }

    /// Bytes of memory held for cut frames and open messages.
    pub fn held_bytes(&self) -> usize {
        self.assembly.as_ref().map_or(0, |assembly| {
            mem::size_of::<Assembly>() + assembly.message.capacity() + assembly.control.capacity()
        })
    }

    /// Gives back what is held; the connection is over.
    pub fn release(&mut self, pool: &mut AssemblyPool) {
        if let Some(assembly) = self.assembly.take() {
            pool.put(assembly);
        }
    }
}

/// The fast path: a frame that is whole, unfragmented and entirely in the input.
/// `None` leaves the input alone.
fn whole_frame<'b>(input: &mut &'b mut [u8], rules: &ReaderRules) -> Result<Option<Event<'b>>, ProtocolError> {
    if let Some((kind, payload)) = short_message(input, rules) {
        return whole_message(kind, payload).map(Some);
    }
    let Some((header, header_len)) = FrameHeader::decode(input)? else { return Ok(None) };
    check_header(&header, None, rules)?;
    if !header.fin || header.payload_len > (input.len() - header_len) as u64 {
        return Ok(None);
    }
    let (frame, rest) = mem::take(input).split_at_mut(header_len + header.payload_len as usize);
    *input = rest;
    let payload = &mut frame[header_len..];
    if let Some(key) = header.mask {
        mask::apply(payload, key, 0);
    }
    if header.reserved == COMPRESSED {
        return Ok(Some(Event::Compressed { opcode: header.opcode, payload }));
    }
    match header.opcode {
        OpCode::Text => whole_message(MessageKind::Text, payload).map(Some),
        OpCode::Binary => whole_message(MessageKind::Binary, payload).map(Some),
        opcode => Event::of(opcode, payload).map(Some),
    }
}

/// What most messages are: of a client, unfragmented, with a length of seven bits. To look
/// for just that first takes a third off what reading such a message costs.
#[inline]
fn short_message<'b>(input: &mut &'b mut [u8], rules: &ReaderRules) -> Option<(MessageKind, &'b mut [u8])> {
    let &[first, second @ 0x80..=0xfd, k0, k1, k2, k3, ref rest @ ..] = &**input else { return None };
    let kind = match first {
        0x81 => MessageKind::Text,
        0x82 => MessageKind::Binary,
        _ => return None,
    };
    let len = usize::from(second & 0x7f);
    if rules.role != Role::Server || len > rest.len().min(rules.message_bytes_max).min(rules.frame_bytes_max) {
        return None;
    }
    let (frame, rest) = mem::take(input).split_at_mut(2 + 4 + len);
    *input = rest;
    let payload = &mut frame[2 + 4..];
    mask::apply(payload, [k0, k1, k2, k3], 0);
    Some((kind, payload))
}

fn whole_message(kind: MessageKind, payload: &[u8]) -> Result<Event<'_>, ProtocolError> {
    if kind == MessageKind::Text && !utf8::is_valid(payload) {
        return Err(ProtocolError::InvalidUtf8);
    }
    Ok(Event::Message { kind, payload, in_place: true })
}

impl Assembly {
    /// The slow path: takes what there is, piece by piece.
    fn next<'a>(&'a mut self, input: &mut &mut [u8], rules: &ReaderRules) -> Result<Option<Event<'a>>, ProtocolError> {
        loop {
            let mut frame = match self.frame {
                Some(frame) => frame,
                None => match self.read_header(input, rules)? {
                    Some(frame) => frame,
                    None => return Ok(None),
                },
            };
            let complete = self.read_payload(&mut frame, input)?;
            self.frame = if complete { None } else { Some(frame) };
            if !complete {
                return Ok(None);
            }
            let opcode = frame.header.opcode;
            if opcode.is_control() {
                return match frame.header.reserved {
                    COMPRESSED => Ok(Some(Event::Compressed { opcode, payload: &self.control })),
                    _ => Event::of(opcode, &self.control).map(Some),
                };
            }
            if let (true, Some(kind)) = (frame.header.fin, self.kind) {
                self.handed_out = true;
                if self.compressed {
                    return Ok(Some(Event::Compressed { opcode: kind.opcode(), payload: &self.message }));
                }
                if kind == MessageKind::Text {
                    self.text.finish().map_err(|_| ProtocolError::InvalidUtf8)?;
                }
                return Ok(Some(Event::Message { kind, payload: &self.message, in_place: false }));
            }
        }
    }

    fn read_header(
        &mut self,
        input: &mut &mut [u8],
        rules: &ReaderRules,
    ) -> Result<Option<FrameUnderWay>, ProtocolError> {
        let wanted = (HEADER_BYTES_MAX - self.header_len).min(input.len());
        let mut bytes = self.header;
        bytes[self.header_len..self.header_len + wanted].copy_from_slice(&input[..wanted]);
        let available = self.header_len + wanted;
        let Some((header, len)) = FrameHeader::decode(&bytes[..available])? else {
            self.header = bytes;
            self.header_len = available;
            *input = &mut mem::take(input)[wanted..];
            return Ok(None);
        };
        *input = &mut mem::take(input)[len - self.header_len..];
        self.header_len = 0;
        check_header(&header, Some(self), rules)?;
        if matches!(header.opcode, OpCode::Text | OpCode::Binary) {
            self.compressed = header.reserved == COMPRESSED;
        }
        match header.opcode {
            OpCode::Text => self.kind = Some(MessageKind::Text),
            OpCode::Binary => self.kind = Some(MessageKind::Binary),
            OpCode::Continuation => {}
            OpCode::Close | OpCode::Ping | OpCode::Pong => self.control.clear(),
        }
        if !header.opcode.is_control() {
            self.fragments += 1;
            if self.fragments > rules.fragments_max {
                return Err(ProtocolError::TooManyFragments { limit: rules.fragments_max });
            }
        }
        Ok(Some(FrameUnderWay { header, received: 0 }))
    }

    /// Takes payload bytes; whether the frame is complete.
    fn read_payload(&mut self, frame: &mut FrameUnderWay, input: &mut &mut [u8]) -> Result<bool, ProtocolError> {
        let missing = frame.header.payload_len - frame.received;
        let take = usize::try_from(missing).unwrap_or(usize::MAX).min(input.len());
        let (piece, rest) = mem::take(input).split_at_mut(take);
        *input = rest;
        let is_control = frame.header.opcode.is_control();
        let out = if is_control { &mut self.control } else { &mut self.message };
        let before = out.len();
        match frame.header.mask {
            Some(key) => mask::append(out, piece, key, (frame.received % 4) as usize),
            None => copy::append(out, piece),
        }
        if !is_control && self.kind == Some(MessageKind::Text) && !self.compressed {
            self.text.feed(&self.message[before..]).map_err(|_| ProtocolError::InvalidUtf8)?;
        }
        frame.received += take as u64;
        Ok(frame.received == frame.header.payload_len)
    }
}

/// What depends on the role, the message under way, if any, and the limit.
fn check_header(header: &FrameHeader, under_way: Option<&Assembly>, rules: &ReaderRules) -> Result<(), ProtocolError> {
    let may_be_compressed = match rules.compressible {
        Compressible::Nothing => false,
        Compressible::Messages => matches!(header.opcode, OpCode::Text | OpCode::Binary),
        Compressible::ControlFramesToo => header.opcode != OpCode::Continuation,
    };
    if header.reserved != 0 && !(header.reserved == COMPRESSED && may_be_compressed) {
        return Err(ProtocolError::ReservedBits(header.reserved));
    }
    match (rules.role, header.mask) {
        (Role::Server, None) => return Err(ProtocolError::Unmasked),
        (Role::Client, Some(_)) => return Err(ProtocolError::Masked),
        _ => {}
    }
    if header.opcode.is_control() {
        debug_assert!(header.payload_len <= CONTROL_PAYLOAD_BYTES_MAX as u64);
        return Ok(());
    }
    let open = under_way.filter(|assembly| assembly.kind.is_some());
    match (header.opcode, open) {
        (OpCode::Continuation, None) => return Err(ProtocolError::NothingToContinue),
        (OpCode::Text | OpCode::Binary, Some(_)) => return Err(ProtocolError::ContinuationExpected(header.opcode)),
        _ => {}
    }
    let compressed = open.map_or(header.reserved == COMPRESSED, |assembly| assembly.compressed);
    let len = open.map_or(0, |assembly| assembly.message.len() as u64) + header.payload_len;
    if len > rules.wire_bytes_max(compressed) {
        return Err(ProtocolError::MessageTooLong { len, limit: rules.message_bytes_max });
    }
    if header.payload_len > rules.frame_bytes_max as u64 {
        return Err(ProtocolError::FrameTooLong { len: header.payload_len, limit: rules.frame_bytes_max });
    }
    Ok(())
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
