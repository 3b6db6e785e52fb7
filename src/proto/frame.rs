//! Frame headers: decode and encode (RFC 6455, section 5.2).

use super::copy;
use super::error::ProtocolError;
use super::mask;

/// Bytes of the longest header: two, a 64-bit length, a mask.
pub const HEADER_BYTES_MAX: usize = 14;
/// Bytes of the longest header that a server sends (no mask).
pub const SERVER_HEADER_BYTES_MAX: usize = 10;
/// RSV1 among the reserved bits: the message is compressed (RFC 7692, section 6).
pub const COMPRESSED: u8 = 0b100;
/// Longest payload of a control frame in bytes (section 5.5).
pub const CONTROL_PAYLOAD_BYTES_MAX: usize = 125;

/// What a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum OpCode {
    /// The next fragment of an open message.
    Continuation,
    /// Text: the first or only frame of a message in UTF-8.
    Text,
    /// The first or only frame of a message of any bytes.
    Binary,
    /// The closing handshake.
    Close,
    /// To be answered by a pong with the same payload.
    Ping,
    /// The answer to a ping, or an unasked sign of life.
    Pong,
}

impl OpCode {
    fn from_bits(bits: u8) -> Result<Self, ProtocolError> {
        match bits {
            0x0 => Ok(Self::Continuation),
            0x1 => Ok(Self::Text),
            0x2 => Ok(Self::Binary),
            0x8 => Ok(Self::Close),
            0x9 => Ok(Self::Ping),
            0xa => Ok(Self::Pong),
            other => Err(ProtocolError::UnknownOpCode(other)),
        }
    }

    fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0x0,
            Self::Text => 0x1,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xa,
        }
    }

    /// Close, ping and pong: short, never fragmented, allowed between fragments.
    pub fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// The type of a whole message.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum MessageKind {
    /// UTF-8.
    Text,
    /// Any bytes.
    Binary,
}

impl MessageKind {
    /// The opcode of the message's first frame.
    pub fn opcode(self) -> OpCode {
        match self {
            Self::Text => OpCode::Text,
            Self::Binary => OpCode::Binary,
        }
    }
}

/// A decoded header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameHeader {
    /// Last frame of its message.
    pub fin: bool,
    /// RSV1, RSV2, RSV3 as the bits 4, 2, 1. Meaningful only to extensions.
    pub reserved: u8,
    /// What the frame is.
    pub opcode: OpCode,
    /// The masking key, if the frame is masked.
    pub mask: Option<[u8; 4]>,
    /// Payload bytes that follow the header.
    pub payload_len: u64,
}

impl FrameHeader {
    /// Decodes the header at the start of `bytes`: it and its length in bytes, or
    /// `None` if it is not complete yet.
    ///
    /// Refuses what no role and no extension may send: unknown opcodes, lengths that
    /// are not minimal or use the highest bit, long or fragmented control frames. It
    /// does so as early as the bytes tell.
    #[inline]
    pub fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, ProtocolError> {
        let &[first, second, ref rest @ ..] = bytes else { return Ok(None) };
        let fin = first & 0x80 != 0;
        let reserved = first >> 4 & 0x7;
        let opcode = OpCode::from_bits(first & 0xf)?;
        if opcode.is_control() && !fin {
            return Err(ProtocolError::FragmentedControl(opcode));
        }
        // Before anything is said about the length it must be there: what the peer is told
        // must not depend on how its bytes were split.
        let Some((payload_len, length_bytes)) = extended_length(second, rest)? else { return Ok(None) };
        if opcode.is_control() && payload_len > CONTROL_PAYLOAD_BYTES_MAX as u64 {
            return Err(ProtocolError::ControlTooLong { opcode, len: payload_len });
        }
        let rest = &rest[length_bytes..];
        let (mask, mask_bytes) = if second & 0x80 == 0 {
            (None, 0)
        } else {
            let Some(key) = rest.first_chunk::<4>() else { return Ok(None) };
            (Some(*key), 4)
        };
        Ok(Some((Self { fin, reserved, opcode, mask, payload_len }, 2 + length_bytes + mask_bytes)))
    }

    /// Writes the header in its shortest form and returns its length in bytes.
    #[inline]
    pub fn encode(&self, out: &mut [u8; HEADER_BYTES_MAX]) -> usize {
        debug_assert!(self.reserved < 8);
        out[0] = u8::from(self.fin) << 7 | self.reserved << 4 | self.opcode.bits();
        let masked = u8::from(self.mask.is_some()) << 7;
        let mut len = match self.payload_len {
            short @ 0..=125 => {
                out[1] = masked | short as u8;
                2
            }
            medium @ 126..=0xffff => {
                out[1] = masked | 126;
                out[2..4].copy_from_slice(&(medium as u16).to_be_bytes());
                4
            }
            long => {
                out[1] = masked | 127;
                out[2..10].copy_from_slice(&long.to_be_bytes());
                10
            }
        };
        if let Some(key) = self.mask {
            out[len..len + 4].copy_from_slice(&key);
            len += 4;
        }
        len
    }
}

/// The payload length and how many bytes it took after the second one.
fn extended_length(second: u8, rest: &[u8]) -> Result<Option<(u64, usize)>, ProtocolError> {
    match second & 0x7f {
        126 => {
            let Some(bytes) = rest.first_chunk::<2>() else { return Ok(None) };
            match u64::from(u16::from_be_bytes(*bytes)) {
                len @ 0..=125 => Err(ProtocolError::LengthNotMinimal(len)),
                len => Ok(Some((len, 2))),
            }
        }
        127 => {
            let Some(bytes) = rest.first_chunk::<8>() else { return Ok(None) };
            match u64::from_be_bytes(*bytes) {
                len @ 0..=0xffff => Err(ProtocolError::LengthNotMinimal(len)),
                len if len >> 63 == 1 => Err(ProtocolError::LengthTooLarge(len)),
                len => Ok(Some((len, 8))),
            }
        }
        short => Ok(Some((u64::from(short), 0))),
    }
}

/// Appends a whole unfragmented frame as a server sends it: no mask.
pub fn append_server(out: &mut Vec<u8>, opcode: OpCode, payload: &[u8]) {
    append(out, opcode, 0, None, payload);
}

/// Appends a whole frame of a server whose payload permessage-deflate has compressed.
pub fn append_server_compressed(out: &mut Vec<u8>, opcode: OpCode, payload: &[u8]) {
    append(out, opcode, COMPRESSED, None, payload);
}

/// Appends the header of a whole unfragmented frame as a server sends it.
pub fn append_server_header(out: &mut Vec<u8>, opcode: OpCode, payload_len: usize) {
    let header = FrameHeader { fin: true, reserved: 0, opcode, mask: None, payload_len: payload_len as u64 };
    let mut bytes = [0; HEADER_BYTES_MAX];
    let len = header.encode(&mut bytes);
    out.extend_from_slice(&bytes[..len]);
}

/// Appends a whole unfragmented frame as a client sends it, masked with `key`,
/// which must be unpredictable and fresh for each frame (section 5.3).
pub fn append_client(out: &mut Vec<u8>, opcode: OpCode, key: [u8; 4], payload: &[u8]) {
    append(out, opcode, 0, Some(key), payload);
}

fn append(out: &mut Vec<u8>, opcode: OpCode, reserved: u8, key: Option<[u8; 4]>, payload: &[u8]) {
    let header = FrameHeader { fin: true, reserved, opcode, mask: key, payload_len: payload.len() as u64 };
    let mut bytes = [0; HEADER_BYTES_MAX];
    let len = header.encode(&mut bytes);
    out.reserve(len + payload.len());
    out.extend_from_slice(&bytes[..len]);
    let start = out.len();
    copy::append(out, payload);
    if let Some(key) = key {
        mask::apply(&mut out[start..], key, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(payload_len: u64, mask: Option<[u8; 4]>) -> FrameHeader {
        FrameHeader { fin: true, reserved: 0, opcode: OpCode::Binary, mask, payload_len }
    }

    #[test]
    fn round_trip_at_every_length_boundary() {
        for len in [0, 1, 125, 126, 127, 65_535, 65_536, 16 << 20, u64::MAX >> 1] {
            for mask in [None, Some([1, 2, 3, 4])] {
                let mut bytes = [0; HEADER_BYTES_MAX];
                let n = header(len, mask).encode(&mut bytes);
                assert_eq!(FrameHeader::decode(&bytes[..n]), Ok(Some((header(len, mask), n))));
                for short in 0..n {
                    assert_eq!(FrameHeader::decode(&bytes[..short]), Ok(None), "{short} of {n} bytes");
                }
            }
        }
    }

    #[test]
    fn lengths_must_be_minimal() {
        assert_eq!(FrameHeader::decode(&[0x82, 126, 0, 125]), Err(ProtocolError::LengthNotMinimal(125)));
        let bytes = [0x82, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
        assert_eq!(FrameHeader::decode(&bytes), Err(ProtocolError::LengthNotMinimal(65_535)));
    }

    #[test]
    fn highest_bit_of_a_length_is_refused() {
        let bytes = [0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(FrameHeader::decode(&bytes), Err(ProtocolError::LengthTooLarge(1 << 63)));
    }

    #[test]
    fn undefined_opcodes_are_refused() {
        for bits in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
            assert_eq!(FrameHeader::decode(&[0x80 | bits, 0]), Err(ProtocolError::UnknownOpCode(bits)));
        }
    }

    #[test]
    fn control_frames_are_short_and_whole() {
        assert_eq!(FrameHeader::decode(&[0x09, 0]), Err(ProtocolError::FragmentedControl(OpCode::Ping)));
        let long = [0x89, 126, 1, 44];
        assert_eq!(FrameHeader::decode(&long), Err(ProtocolError::ControlTooLong { opcode: OpCode::Ping, len: 300 }));
        // The same, however it is split.
        for cut in 0..long.len() {
            assert_eq!(FrameHeader::decode(&long[..cut]), Ok(None));
        }
    }

    #[test]
    fn client_frame_is_the_servers_frame_masked() {
        // RFC 6455, section 5.7.
        let mut masked = Vec::new();
        append_client(&mut masked, OpCode::Text, [0x37, 0xfa, 0x21, 0x3d], b"Hello");
        assert_eq!(masked, [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
        let mut plain = Vec::new();
        append_server(&mut plain, OpCode::Text, b"Hello");
        assert_eq!(plain, b"\x81\x05Hello");
    }
}
