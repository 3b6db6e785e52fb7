//! Compressed input that is read later.
//!
//! What one read brings may inflate to a thousand times as much. It is worked on until
//! [`INFLATED_BYTES_PER_READ`] have come out of it, or until the replies to it are above
//! their watermark. The rest is kept as it came, and nothing more is read from that
//! connection until it is used up. That goes on by one connection in each turn, so that
//! everybody else has theirs in between.

use super::{Peer, Shard};
use crate::connection::QueueBounds;
use crate::id::ConnectionId;
use crate::limits::INFLATED_BYTES_PER_READ;
use crate::proto::compression::Compression;
use crate::time::Time;

/// What a connection has that agreed on compression.
pub(super) struct Compressed {
    pub(super) agreed: Compression,
    unread: Vec<u8>,
    /// Nothing comes behind that.
    input_ended: bool,
    /// In the shard's list of those that may go on.
    listed: bool,
}

impl Compressed {
    pub(super) fn new(agreed: Compression) -> Self {
        Self { agreed, unread: Vec::new(), input_ended: false, listed: false }
    }

    /// Bytes of memory that unread input takes.
    pub(super) fn unread_bytes(&self) -> usize {
        self.unread.capacity()
    }
}

impl Peer {
    /// Whether input waits that has been taken from the transport.
    pub(super) fn has_unread(&self) -> bool {
        self.compression.as_ref().is_some_and(|compressed| !compressed.unread.is_empty())
    }

    /// Whether a read that so much has been inflated of is to go on later.
    pub(super) fn pauses_reading(&self, inflated_bytes: usize, bounds: &QueueBounds) -> bool {
        self.compression.is_some() && (inflated_bytes >= INFLATED_BYTES_PER_READ || !self.connection.wants_read(bounds))
    }
}

impl Shard {
    /// Keeps what a connection with compression has sent and nobody has read.
    pub(super) fn keep_unread(&mut self, id: ConnectionId, bytes: &[u8]) {
        let Some(compressed) = self.table.get_mut(id).and_then(|peer| peer.compression.as_mut()) else { return };
        let before = compressed.unread.capacity();
        compressed.unread.extend_from_slice(bytes);
        self.stats.assembly_memory_bytes.add((compressed.unread.capacity() - before) as u64);
        self.list_unread(id);
    }

    /// Reading goes on, unless replies have to leave before.
    pub(super) fn list_unread(&mut self, id: ConnectionId) {
        let Some(peer) = self.table.get_mut(id) else { return };
        let wanted = peer.connection.wants_read(&self.settings.queue);
        if let Some(compressed) = &mut peer.compression
            && wanted
            && !compressed.unread.is_empty()
            && !compressed.listed
        {
            compressed.listed = true;
            self.unread.push_back(id);
        }
    }

    /// Whether the end of the input waits for what came before it.
    pub(super) fn end_waits(&mut self, id: ConnectionId) -> bool {
        match self.table.get_mut(id).and_then(|peer| peer.compression.as_mut()) {
            Some(compressed) if !compressed.unread.is_empty() => {
                compressed.input_ended = true;
                true
            }
            _ => false,
        }
    }

    /// Goes on with the kept input of one connection; with whose, if of any. To be called
    /// once in a turn.
    pub fn receive_unread(&mut self, now: Time) -> Option<ConnectionId> {
        let id = self.unread.pop_front()?;
        let compressed = self.table.get_mut(id)?.compression.as_mut()?;
        compressed.listed = false;
        let mut input = std::mem::take(&mut compressed.unread);
        self.stats.assembly_memory_bytes.sub(input.capacity() as u64);
        let replies = self.receive_frames(id, &mut input, now);
        debug_assert!(replies.is_empty(), "what is compressed is not answered in place");
        let compressed = self.table.get(id).and_then(|peer| peer.compression.as_ref());
        if let Some(compressed) = compressed.filter(|compressed| compressed.unread.is_empty()) {
            if compressed.input_ended {
                self.end_of_input(id, now);
            } else {
                self.resume_reading(id);
            }
        }
        Some(id)
    }
}
