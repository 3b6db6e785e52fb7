//! What became of subscribers that did not read.

use std::io::{self, ErrorKind, Read as _};
use std::net::TcpStream;
use std::time::Duration;

use serde::Serialize;
use wsgate::proto::close::CloseCode;
use wsgate::proto::frame::{FrameHeader, OpCode};

/// A server that says nothing more for so long has forgotten the connection.
const END_MAX: Duration = Duration::from_secs(15);

/// How many ended how.
#[derive(Clone, Copy, PartialEq, Eq, Default, Serialize, Debug)]
pub(super) struct Outcomes {
    /// Got a Close frame with the code for slow consumers.
    pub(super) told: usize,
    /// Were reset.
    pub(super) reset: usize,
    /// Anything else: another code, an end without a word, or none.
    pub(super) neither: usize,
}

impl Outcomes {
    /// Reads what each connection still has.
    pub(super) fn of(streams: Vec<TcpStream>) -> io::Result<Self> {
        let mut outcomes = Self::default();
        for mut stream in streams {
            stream.set_read_timeout(Some(END_MAX))?;
            let mut bytes = Vec::new();
            let end = stream.read_to_end(&mut bytes).map_err(|error| error.kind());
            match (close_code(&bytes), end) {
                (Some(CloseCode::SLOW_CONSUMER), _) => outcomes.told += 1,
                (_, Err(ErrorKind::ConnectionReset)) => outcomes.reset += 1,
                _ => outcomes.neither += 1,
            }
        }
        Ok(outcomes)
    }
}

/// The code of the Close frame in a stream of whole frames, if there is one.
fn close_code(mut bytes: &[u8]) -> Option<CloseCode> {
    while let Ok(Some((header, len))) = FrameHeader::decode(bytes) {
        let payload = bytes.get(len..len + header.payload_len as usize)?;
        if header.opcode == OpCode::Close {
            let code = payload.get(..2)?;
            return Some(CloseCode(u16::from_be_bytes([code[0], code[1]])));
        }
        bytes = &bytes[len + payload.len()..];
    }
    None
}

#[cfg(test)]
mod tests {
    use wsgate::proto::frame::append_server;

    use super::*;

    #[test]
    fn a_close_frame_is_found_behind_messages_and_not_in_half() {
        let mut bytes = Vec::new();
        append_server(&mut bytes, OpCode::Binary, &[0x88; 300]);
        assert_eq!(close_code(&bytes), None);
        append_server(&mut bytes, OpCode::Close, &4008u16.to_be_bytes());
        assert_eq!(close_code(&bytes), Some(CloseCode::SLOW_CONSUMER));
        assert_eq!(close_code(&bytes[..bytes.len() - 1]), None);
    }
}
