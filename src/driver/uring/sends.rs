//! Sends of many connections that are carried out by one call.
//!
//! Owner: the loop. Each connection has one at most, since nothing says in which order two
//! would leave. What a send reads stays here until the call has returned: a batch that is
//! shared, the chunk in which replies lie, or a copy. By then every send is over: the kernel
//! reports those that came short, and is silent about the others.

use std::rc::Rc;

use super::buffers::Chunk;
use crate::buffer::Batch;
use crate::id::ConnectionId;

/// Bytes of what is copied for one submission.
const COPIES_BYTES: usize = 256 * 1024;
/// Bytes up to which something is copied: to copy so much takes about as long as the call
/// that is saved.
pub(super) const COPY_BYTES_MAX: usize = 8 * 1024;

/// What a send reads.
#[derive(Debug)]
pub(super) enum Source {
    /// A batch from a position on.
    Batch(Rc<Batch>, usize),
    /// Replies, from a position in a chunk on.
    Replies(Chunk, usize),
    /// Copied bytes, from a position on.
    Copy(usize),
}

/// A send that is in the submission queue, or has been carried out.
#[derive(Debug)]
pub(super) struct Sending {
    pub(super) id: ConnectionId,
    pub(super) source: Source,
    pub(super) len: usize,
}

/// See the module.
pub(super) struct Sends {
    pub(super) list: Vec<Sending>,
    /// Number of a send, and what the kernel says of it.
    pub(super) short: Vec<(usize, i32)>,
    copies: Box<[u8]>,
    copied: usize,
    /// Number of the submission, modulo 2³².
    pub(super) number: u32,
}

impl Sends {
    pub(super) fn new() -> Self {
        Self {
            list: Vec::new(),
            short: Vec::new(),
            copies: vec![0; COPIES_BYTES].into_boxed_slice(),
            copied: 0,
            number: 0,
        }
    }

    /// Copies bytes to where they stay; where that is, if there was room.
    pub(super) fn copy<'a>(&mut self, slices: impl Iterator<Item = &'a [u8]> + Clone) -> Option<(usize, usize)> {
        let len: usize = slices.clone().map(<[u8]>::len).sum();
        let start = self.copied;
        let mut room = self.copies.get_mut(start..start + len)?;
        for slice in slices {
            let (place, rest) = room.split_at_mut(slice.len());
            place.copy_from_slice(slice);
            room = rest;
        }
        self.copied += len;
        Some((start, len))
    }

    /// What was copied to a position.
    pub(super) fn copied(&self, start: usize, len: usize) -> &[u8] {
        &self.copies[start..start + len]
    }

    /// All are over: makes room for the next ones.
    pub(super) fn begin_next(&mut self) {
        debug_assert!(self.list.is_empty() && self.short.is_empty());
        self.copied = 0;
        self.number = self.number.wrapping_add(1);
    }
}
