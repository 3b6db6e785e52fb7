//! Replies written where the messages that they answer came in.
//!
//! A reply that is its message needs no copy: the payload lies in the receive buffer,
//! and a server's header is shorter than a client's by the mask. Several replies are
//! moved together, so that they leave in one send.

use std::ops::Range;

use super::Role;
use super::copy;
use super::error::ProtocolError;
use super::frame::{FrameHeader, HEADER_BYTES_MAX, MessageKind};
use super::mask;
use super::message::ReaderRules;
use super::utf8;

/// Bytes of the header of a client's message with a length of seven bits.
const SHORT_HEADER_BYTES: usize = 2 + 4;
/// Bytes of the header of its reply.
const SHORT_REPLY_HEADER_BYTES: usize = 2;

/// The replies to what one read brought, as a range of its buffer.
#[derive(Default, Debug)]
pub struct InPlaceReplies {
    range: Range<usize>,
}

/// What [`InPlaceReplies::echo_short`] came to.
#[derive(PartialEq, Eq, Debug)]
pub struct Echoed {
    /// Where in the buffer it stopped.
    pub end: usize,
    /// Messages that are replies now.
    pub messages: u64,
    /// What is wrong with the message at `end`, of which nothing is left.
    pub error: Option<ProtocolError>,
}

impl InPlaceReplies {
    /// Makes a reply of the message whose payload is `payload` of the buffer, and which
    /// came after all messages that are replies already.
    #[inline]
    pub fn append(&mut self, buffer: &mut [u8], kind: MessageKind, payload: Range<usize>) {
        let header = FrameHeader {
            fin: true,
            reserved: 0,
            opcode: kind.opcode(),
            mask: None,
            payload_len: payload.len() as u64,
        };
        let mut bytes = [0; HEADER_BYTES_MAX];
        let header_len = header.encode(&mut bytes);
        if self.range.is_empty() {
            self.range = payload.start - header_len..payload.start - header_len;
        }
        let start = self.range.end + header_len;
        self.range.end = start + payload.len();
        copy::move_down(buffer, payload, start);
        match header_len {
            // A length that the compiler knows: most messages are short.
            2 => buffer[start - 2..start].copy_from_slice(&bytes[..2]),
            len => buffer[start - len..start].copy_from_slice(&bytes[..len]),
        }
    }

    /// Echoes the messages that lie in the buffer from `at` on, as long as each is what
    /// most are: whole, unfragmented, with a length of seven bits. Says where it
    /// stopped, and what is next there may be anything.
    ///
    /// Unmasks and moves in one step, and asks nothing of anybody in between: with many
    /// short messages in one read, that is most of what an echo costs.
    pub fn echo_short(&mut self, buffer: &mut [u8], at: usize, rules: &ReaderRules) -> Echoed {
        debug_assert_eq!(rules.role, Role::Server);
        let payload_max = rules.message_bytes_max.min(rules.frame_bytes_max);
        let reply_start =
            if self.is_empty() { at + SHORT_HEADER_BYTES - SHORT_REPLY_HEADER_BYTES } else { self.range.end };
        let mut written = reply_start;
        let mut echoed = Echoed { end: at, messages: 0, error: None };
        while let &[first @ (0x81 | 0x82), second @ 0x80..=0xfd, k0, k1, k2, k3, ref rest @ ..] = &buffer[echoed.end..]
        {
            let len = usize::from(second & 0x7f);
            if len > rest.len().min(payload_max) {
                break;
            }
            let end = echoed.end + SHORT_HEADER_BYTES + len;
            let frame = &mut buffer[written..end];
            frame[0] = first;
            frame[1] = second & 0x7f;
            let payload = &mut frame[SHORT_REPLY_HEADER_BYTES..];
            mask::move_to_start(payload, payload.len() - len, [k0, k1, k2, k3]);
            if first == 0x81 && !utf8::is_valid(&payload[..len]) {
                echoed.error = Some(ProtocolError::InvalidUtf8);
                break;
            }
            echoed.end = end;
            echoed.messages += 1;
            written += SHORT_REPLY_HEADER_BYTES + len;
        }
        if echoed.messages > 0 {
            let start = if self.is_empty() { reply_start } else { self.range.start };
            self.range = start..written;
        }
        echoed
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// Where in the buffer they lie, in the order of the messages.
    pub fn into_range(self) -> Range<usize> {
        self.range
    }
}

#[cfg(test)]
mod tests {
    use super::super::Role;
    use super::super::frame::{OpCode, append_client, append_server};
    use super::super::message::{AssemblyPool, Event, MessageReader, ReaderRules};
    use super::*;

    /// Answers each message that lies whole in the buffer.
    fn replies_to(buffer: &mut [u8]) -> Vec<u8> {
        let rules = ReaderRules::new(Role::Server, 1 << 20);
        let (mut reader, mut pool) = (MessageReader::default(), AssemblyPool::default());
        let mut replies = InPlaceReplies::default();
        let mut used = 0;
        loop {
            let mut rest = &mut buffer[used..];
            let before = rest.len();
            let event = reader.next(&mut rest, &rules, &mut pool).expect("valid frames");
            let Some(Event::Message { kind, payload, in_place: true }) = event else { break };
            let len = payload.len();
            used += before - rest.len();
            replies.append(buffer, kind, used - len..used);
        }
        buffer[replies.into_range()].to_vec()
    }

    #[test]
    fn replies_stand_together_whatever_the_sizes() {
        let sizes = [0, 1, 125, 126, 127, 1_023, 1_024, 1_025, 65_535, 65_536, 70_000];
        for first in sizes {
            for second in sizes {
                let (mut buffer, mut expected) = (Vec::new(), Vec::new());
                for (n, len) in [first, second, 0, second, first].into_iter().enumerate() {
                    let payload: Vec<u8> = (0..len).map(|i| (i * 7 + n) as u8).collect();
                    append_client(&mut buffer, OpCode::Binary, [n as u8, 2, 3, 4], &payload);
                    append_server(&mut expected, OpCode::Binary, &payload);
                }
                assert!(replies_to(&mut buffer) == expected, "{first} and {second} bytes");
            }
        }
    }

    fn masked(kind: MessageKind, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        append_client(&mut frame, kind.opcode(), [payload.len() as u8, 0x5a, 3, 0xc4], payload);
        frame
    }

    #[test]
    fn short_messages_are_echoed_as_the_reader_would_have_read_them() {
        let rules = ReaderRules::new(Role::Server, 1 << 20);
        for len in 0..=125 {
            let payload: Vec<u8> = (0..len).map(|i| b'a' + (i + len) as u8 % 26).collect();
            let frames = [
                masked(MessageKind::Text, &payload),
                masked(MessageKind::Binary, &payload[..len / 2]),
                masked(MessageKind::Text, &payload[len / 3..]),
            ];
            let mut buffer = frames.concat();
            let expected = replies_to(&mut buffer.clone());
            let mut replies = InPlaceReplies::default();
            let echoed = replies.echo_short(&mut buffer, 0, &rules);
            assert_eq!(echoed, Echoed { end: buffer.len(), messages: 3, error: None }, "{len} bytes");
            assert_eq!(buffer[replies.into_range()], expected, "{len} bytes");
        }
    }

    #[test]
    fn echoing_stops_before_what_is_not_a_whole_short_message() {
        let first = masked(MessageKind::Binary, b"first");
        let mut ping = Vec::new();
        append_client(&mut ping, OpCode::Ping, [1, 2, 3, 4], b"?");
        let cut = &masked(MessageKind::Binary, b"second")[..8];
        let long = masked(MessageKind::Binary, &[7; 126]);
        let unmasked = [0x82, 1, b'x', 0, 0, 0, 0];
        let above_the_bound = masked(MessageKind::Binary, &[7; 101]);
        let rules = ReaderRules::new(Role::Server, 100);
        for next in [&ping[..], cut, &long, &unmasked, &[0x82], &[], &above_the_bound] {
            let mut buffer = [&first, next].concat();
            let mut replies = InPlaceReplies::default();
            let echoed = replies.echo_short(&mut buffer, 0, &rules);
            assert_eq!(echoed, Echoed { end: first.len(), messages: 1, error: None }, "before {next:?}");
            assert_eq!(buffer[first.len()..], *next);
            assert_eq!(buffer[replies.into_range()], *b"\x82\x05first");
        }
    }

    #[test]
    fn a_text_that_is_none_ends_the_echoing_and_leaves_the_replies_before_it() {
        let rules = ReaderRules::new(Role::Server, 100);
        let first = masked(MessageKind::Text, "größer".as_bytes());
        let mut buffer = [first.clone(), masked(MessageKind::Text, b"\xff\xfe")].concat();
        let mut replies = InPlaceReplies::default();
        let echoed = replies.echo_short(&mut buffer, 0, &rules);
        assert_eq!(echoed, Echoed { end: first.len(), messages: 1, error: Some(ProtocolError::InvalidUtf8) });
        assert_eq!(buffer[replies.into_range()], *b"\x81\x08gr\xc3\xb6\xc3\x9fer");
    }

    #[test]
    fn a_message_that_is_not_answered_leaves_a_hole_that_closes() {
        let (mut buffer, mut expected) = (Vec::new(), Vec::new());
        for text in ["one", "two", "three"] {
            append_client(&mut buffer, OpCode::Text, [9, 8, 7, 6], text.as_bytes());
        }
        append_server(&mut expected, OpCode::Text, b"one");
        append_server(&mut expected, OpCode::Text, b"three");
        let whole = 6 + 3 + 6 + 3 + 6..6 + 3 + 6 + 3 + 6 + 5;
        for payload in [6..9, whole.clone()] {
            let key = [9, 8, 7, 6];
            super::super::mask::apply(&mut buffer[payload], key, 0);
        }
        let mut replies = InPlaceReplies::default();
        assert!(replies.is_empty());
        replies.append(&mut buffer, MessageKind::Text, 6..9);
        replies.append(&mut buffer, MessageKind::Text, whole);
        assert_eq!(buffer[replies.into_range()], expected);
    }
}
