//! The buffer that all connections of a loop are read into.
//!
//! Owner: the loop. It begins at a page: where it began 16 bytes behind one, as large
//! allocations do, a 64 KiB echo that is answered from here cost up to twice the CPU,
//! since the kernel's copies (`rep movsb`) are slow for some distances modulo a page.

use std::ops::{Deref, DerefMut};

use crate::limits::RECEIVE_BUFFER_BYTES;

/// Bytes of a page, or a part of a larger one.
const PAGE_BYTES: usize = 4096;

/// [`RECEIVE_BUFFER_BYTES`] bytes from the start of a page on.
pub(super) struct ReceiveBuffer {
    /// A page more than is used.
    memory: Box<[u8]>,
    start: usize,
}

impl ReceiveBuffer {
    pub(super) fn new() -> Self {
        let memory = vec![0; RECEIVE_BUFFER_BYTES + PAGE_BYTES].into_boxed_slice();
        // The memory of a box does not move.
        let start = memory.as_ptr().align_offset(PAGE_BYTES).min(PAGE_BYTES);
        Self { memory, start }
    }
}

impl Deref for ReceiveBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[self.start..][..RECEIVE_BUFFER_BYTES]
    }
}

impl DerefMut for ReceiveBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..][..RECEIVE_BUFFER_BYTES]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn begins_at_a_page_wherever_it_is() {
        for buffer in [ReceiveBuffer::new(), ReceiveBuffer::new()].map(Box::new) {
            assert_eq!(buffer.as_ptr().addr() % PAGE_BYTES, 0);
            assert_eq!(buffer.len(), RECEIVE_BUFFER_BYTES);
        }
    }
}
