//! Input that was received before it was known that the shard does not want it yet.
//!
//! Owner: the loop. It is copied out of the buffers, so that nobody pins what all need. Who
//! is asked for one buffer at a time leaves nothing here, but a newcomer whose handshake has
//! to wait: one small buffer. A receive that goes on by itself leaves what the kernel puts
//! into buffers at once, which may be 256 KiB. So while much lies here, everybody is asked
//! for one buffer at a time, and what clients send beyond that stays in their sockets.

use super::UringLoop;
use super::buffers::{Buffers, Chunk};
use super::receive::Received;
use crate::driver::event_loop::LoopCore;
use crate::id::ConnectionId;
use crate::limits::RECEIVE_BUFFER_BYTES;
use crate::time::Time;

/// Bytes that may lie here for all connections of a loop before they are asked for one
/// buffer at a time. What has been received by then still comes on top, at most as much as
/// the buffers hold, and what newcomers bring. Not less, since one turn of the loop may bring
/// as much as the buffers hold.
const PARKED_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes below which receives may go on by themselves again. Far enough from the bound that
/// they are not ended and begun again with every few bytes.
const PARKED_BYTES_LOW: usize = PARKED_BYTES_MAX / 2;

const _: () = assert!(PARKED_BYTES_MAX >= 2 * Buffers::SMALL_BYTES);

/// Input of one connection, in the order in which it came.
#[derive(Default, Debug)]
pub(super) struct Parked {
    bytes: Vec<u8>,
    /// What comes behind it: the end (0), or an error's number, negative.
    end: Option<i32>,
}

/// How much is parked for all connections.
#[derive(Default, Debug)]
pub(super) struct ParkedTotal {
    /// Memory that it takes.
    bytes: usize,
    /// Each connection is asked for one buffer at a time.
    is_high: bool,
}

impl ParkedTotal {
    /// Whether so much is parked that no receive may go on by itself.
    pub(super) fn is_high(&self) -> bool {
        self.is_high
    }

    /// A connection's parked input takes another amount of memory. Whether the bound has been
    /// reached by that.
    fn change(&mut self, before: usize, after: usize, core: &LoopCore) -> bool {
        let gauge = &core.shard.stats().input_memory_bytes;
        gauge.add((after as u64).wrapping_sub(before as u64));
        self.bytes = self.bytes + after - before;
        let was_high = self.is_high;
        self.is_high = self.bytes > if was_high { PARKED_BYTES_LOW } else { PARKED_BYTES_MAX };
        self.is_high && !was_high
    }
}

impl UringLoop<'_> {
    pub(super) fn has_parked(&mut self, id: ConnectionId) -> bool {
        self.sockets.get_mut(id).is_some_and(|socket| socket.parked.is_some())
    }

    /// Keeps what the shard does not want now, and asks for no more.
    pub(super) fn park(&mut self, id: ConnectionId, mut chunk: Chunk) {
        let mut is_full = false;
        if let Some(socket) = self.sockets.get_mut(id) {
            let Parked { bytes, .. } = &mut **socket.parked.get_or_insert_default();
            let before = bytes.capacity();
            // As much as there is: it is not for long, and many may have some.
            bytes.reserve_exact(chunk.len());
            bytes.extend_from_slice(self.buffers.bytes_mut(&mut chunk));
            is_full = self.parked.change(before, bytes.capacity(), &self.core);
        }
        self.buffers.release(chunk);
        self.stop_receiving(id);
        if is_full {
            self.core.shard.stats().receives_narrowed.add(1);
            self.stop_receiving_for_all();
        }
    }

    /// The same with an end.
    pub(super) fn park_end(&mut self, id: ConnectionId, result: i32) {
        if let Some(socket) = self.sockets.get_mut(id) {
            socket.parked.get_or_insert_default().end = Some(result);
        }
    }

    /// Tells the shard what was parked, if it wants it now, a part of it if it is long.
    /// Returns how much.
    pub(super) fn read_parked(&mut self, id: ConnectionId, now: Time) -> usize {
        let wanted = self.core.shard.wants_read(id);
        let Some(socket) = self.sockets.get_mut(id).filter(|socket| wanted && !socket.closing) else { return 0 };
        let Some(parked) = &mut socket.parked else { return 0 };
        let mut bytes = std::mem::take(&mut parked.bytes);
        let before = bytes.capacity();
        if bytes.len() > RECEIVE_BUFFER_BYTES {
            parked.bytes = bytes.split_off(RECEIVE_BUFFER_BYTES);
        }
        self.parked.change(before, parked.bytes.capacity(), &self.core);
        let replies = self.core.shard.receive(id, &mut bytes, now);
        if !replies.is_empty() {
            self.core.shard.keep_replies(id, &bytes[replies]);
        }
        let is_newcomer = self.core.shard.is_newcomer(id);
        let Some(socket) = self.sockets.get_mut(id) else { return bytes.len() };
        socket.is_newcomer = is_newcomer;
        if socket.parked.as_ref().is_some_and(|parked| !parked.bytes.is_empty()) {
            self.inbox.push(Received::parked(id), is_newcomer);
        } else if let Some(end) = socket.parked.take().and_then(|parked| parked.end) {
            self.read_end(id, end, now);
        } else {
            self.receive_if_wanted(id);
        }
        bytes.len()
    }

    /// Drops what was parked.
    pub(super) fn unpark(&mut self, id: ConnectionId) {
        if let Some(parked) = self.sockets.get_mut(id).and_then(|socket| socket.parked.take()) {
            self.parked.change(parked.bytes.capacity(), 0, &self.core);
        }
    }
}
