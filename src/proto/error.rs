//! What a peer can do wrong on an open WebSocket, and what follows from it.
//!
//! Each error carries the offending value; [`ProtocolError::close_code`] is the
//! code that the peer is told.

use super::close::CloseCode;
use super::frame::OpCode;

/// A violation of RFC 6455 or RFC 7692 by the peer. The connection fails; nobody else notices.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProtocolError {
    /// RSV1 to RSV3 without an extension that defines them (section 5.2).
    #[error("reserved bits {0:#05b} are set, which no negotiated extension gives a meaning here")]
    ReservedBits(u8),
    /// Opcodes 3 to 7 and 11 to 15 (section 5.2).
    #[error("opcode {0:#x} is not defined")]
    UnknownOpCode(u8),
    /// A control frame without FIN (section 5.5).
    #[error("{0:?} frame is fragmented; control frames must not be")]
    FragmentedControl(OpCode),
    /// A control frame with more than 125 bytes (section 5.5).
    #[error("{opcode:?} frame announces {len} bytes; control frames carry at most 125")]
    ControlTooLong {
        /// The frame's opcode.
        opcode: OpCode,
        /// The announced payload length in bytes.
        len: u64,
    },
    /// A client's frame without a mask (section 5.1).
    #[error("frame from a client is not masked")]
    Unmasked,
    /// A server's frame with a mask (section 5.1).
    #[error("frame from a server is masked")]
    Masked,
    /// A length in more bytes than it needs (section 5.2).
    #[error("length {0} is not written in its shortest form")]
    LengthNotMinimal(u64),
    /// A 64-bit length with the highest bit set (section 5.2).
    #[error("length {0:#x} has its highest bit set")]
    LengthTooLarge(u64),
    /// A continuation frame while no message is open (section 5.4).
    #[error("continuation frame without a message to continue")]
    NothingToContinue,
    /// A new data frame while a message is open (section 5.4).
    #[error("{0:?} frame inside a fragmented message; a continuation was due")]
    ContinuationExpected(OpCode),
    /// A text message that is not UTF-8 (section 8.1).
    #[error("text is not valid UTF-8")]
    InvalidUtf8,
    /// A message above the configured limit (section 7.4.1, code 1009).
    #[error("message of at least {len} bytes is over the limit of {limit}")]
    MessageTooLong {
        /// Bytes that the message has at least, by its frame headers.
        len: u64,
        /// The limit in force, in bytes.
        limit: usize,
    },
    /// A frame above the configured limit (section 7.4.1, code 1009).
    #[error("frame of {len} bytes is over the limit of {limit}")]
    FrameTooLong {
        /// The announced payload length in bytes.
        len: u64,
        /// The limit in force, in bytes.
        limit: usize,
    },
    /// A message in more frames than are allowed (section 7.4.1, code 1009).
    #[error("message comes in more than {limit} frames")]
    TooManyFragments {
        /// The limit in force.
        limit: usize,
    },
    /// A compressed message that would be above the configured limit (code 1009).
    #[error("compressed message inflates to more than the limit of {limit} bytes")]
    InflatesTooLong {
        /// The limit in force, in bytes.
        limit: usize,
    },
    /// A compressed message that is no DEFLATE data, or ends in the middle of it (RFC
    /// 7692, section 7.2.2).
    #[error("compressed message cannot be inflated: {0}")]
    InvalidDeflate(&'static str),
    /// A Close frame with a body of one byte (section 5.5.1).
    #[error("close frame has a body of one byte; a code takes two")]
    CloseBodyTooShort,
    /// A close code that must not be on the wire (section 7.4).
    #[error("close code {0} must not be sent")]
    CloseCodeInvalid(u16),
}

impl ProtocolError {
    /// The code that tells the peer (section 7.4.1).
    pub fn close_code(&self) -> CloseCode {
        match self {
            Self::InvalidUtf8 | Self::InvalidDeflate(_) => CloseCode::INVALID_PAYLOAD,
            Self::MessageTooLong { .. }
            | Self::InflatesTooLong { .. }
            | Self::FrameTooLong { .. }
            | Self::TooManyFragments { .. } => CloseCode::MESSAGE_TOO_BIG,
            _ => CloseCode::PROTOCOL_ERROR,
        }
    }
}
