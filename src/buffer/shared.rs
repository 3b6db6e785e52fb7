//! A frame encoded once for all its receivers.

use std::rc::Rc;

use crate::proto::frame::{self, OpCode};

/// An encoded frame as a server sends it. Since servers do not mask, the bytes are
/// the same for every subscriber; a clone is a pointer and a count.
#[derive(Clone, Debug)]
pub struct SharedFrame(Rc<[u8]>);

impl SharedFrame {
    /// Encodes a message; `scratch` is overwritten.
    pub fn encode(scratch: &mut Vec<u8>, opcode: OpCode, payload: &[u8]) -> Self {
        scratch.clear();
        frame::append_server(scratch, opcode, payload);
        Self(Rc::from(scratch.as_slice()))
    }

    /// Header and payload.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}
