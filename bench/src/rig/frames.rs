//! The messages of all loads: binary, and always the same bytes.

use wsgate::proto::frame::{self, OpCode};

/// Nothing between the two programs could be deceived by the bytes, so it may be fixed.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A message of so many bytes as clients send it.
pub(crate) fn client_frame(bytes: usize) -> Vec<u8> {
    let mut frame = Vec::new();
    frame::append_client(&mut frame, OpCode::Binary, MASK, &vec![b'a'; bytes]);
    frame
}

/// The same message as clients get it.
pub(crate) fn server_frame(bytes: usize) -> Vec<u8> {
    let mut frame = Vec::new();
    frame::append_server(&mut frame, OpCode::Binary, &vec![b'a'; bytes]);
    frame
}
