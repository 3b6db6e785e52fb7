//! Replies written where the messages that they answer came in.
//!
//! A reply that is its message needs no copy: the payload lies in the receive buffer,
//! and a server's header is shorter than a client's by the mask. Several replies are
//! moved together, so that they leave in one send.

use std::ops::Range;

use super::copy;
use super::frame::{FrameHeader, HEADER_BYTES_MAX, MessageKind};

/// The replies to what one read brought, as a range of its buffer.
#[derive(Default, Debug)]
pub struct InPlaceReplies {
    range: Range<usize>,
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
        let rules = ReaderRules { role: Role::Server, message_bytes_max: 1 << 20 };
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
