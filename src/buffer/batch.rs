//! Frames of one topic, encoded once for all subscribers.

use std::cell::{Cell, OnceCell};
use std::rc::Rc;

use crate::id::ConnectionId;
use crate::proto::frame::{self, FrameHeader, OpCode};

/// A batch with more room than this is freed instead of kept for later use.
const KEEP_BYTES_MAX: u64 = 256 * 1024;
/// Bytes of all free batches that are kept.
const KEEP_TOTAL_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Encoded frames in the order in which they were published, in one piece of memory: a
/// subscriber that is not behind gets them in one send. Since servers do not mask, the
/// bytes are the same for all. Written until it is sealed, then shared and not changed.
#[derive(Default, Debug)]
pub struct Batch {
    bytes: Vec<u8>,
    messages: u32,
    /// Bytes that compression has taken off.
    saved_bytes: u64,
    /// Frames that one connection each does not get.
    exclusions: Vec<Exclusion>,
    /// Where its bytes are counted, once somebody is behind and keeps it alive.
    retained: OnceCell<RetainedBytes>,
}

/// Bytes of all batches that somebody keeps alive by being behind; each counts once.
pub type RetainedBytes = Rc<Cell<u64>>;

#[derive(Clone, Copy, Debug)]
struct Exclusion {
    connection: ConnectionId,
    start: usize,
    end: usize,
    saved_bytes: u64,
}

impl Exclusion {
    /// A slot can have several tenants in the life of a batch: messages come back from
    /// another shard when their publisher has left.
    fn tenant(&self) -> (u32, u32) {
        (self.connection.slot, self.connection.generation)
    }
}

impl Batch {
    /// Appends a message; `except` does not get it.
    pub fn append(&mut self, opcode: OpCode, payload: &[u8], except: Option<ConnectionId>) {
        let start = self.bytes.len();
        frame::append_server(&mut self.bytes, opcode, payload);
        self.count(start, 0, except);
    }

    /// Appends a message of `plain_len` bytes that was compressed; `except` does not get
    /// it.
    pub fn append_compressed(
        &mut self,
        opcode: OpCode,
        compressed: &[u8],
        plain_len: usize,
        except: Option<ConnectionId>,
    ) {
        let start = self.bytes.len();
        frame::append_server_compressed(&mut self.bytes, opcode, compressed);
        self.count(start, plain_len.saturating_sub(compressed.len()) as u64, except);
    }

    fn count(&mut self, start: usize, saved_bytes: u64, except: Option<ConnectionId>) {
        self.messages += 1;
        self.saved_bytes += saved_bytes;
        if let Some(connection) = except {
            self.exclusions.push(Exclusion { connection, start, end: self.bytes.len(), saved_bytes });
        }
    }

    /// All frames.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many frames there are.
    pub fn messages(&self) -> u32 {
        self.messages
    }

    /// Makes the look-ups below fast. Called once, when nothing is appended any more.
    pub fn seal(&mut self) {
        self.exclusions.sort_unstable_by_key(|exclusion| (exclusion.tenant(), exclusion.start));
    }

    /// Whether a connection gets all frames.
    pub fn is_whole_for(&self, connection: ConnectionId) -> bool {
        self.exclusions.is_empty() || self.exclusions_of(connection).is_empty()
    }

    /// The ranges of bytes that a connection gets.
    pub fn ranges_for(&self, connection: ConnectionId) -> impl Iterator<Item = (usize, usize)> + Clone {
        let excluded = self.exclusions_of(connection);
        let starts = [0].into_iter().chain(excluded.iter().map(|exclusion| exclusion.end));
        let ends = excluded.iter().map(|exclusion| exclusion.start).chain([self.bytes.len()]);
        starts.zip(ends).filter(|(start, end)| start < end)
    }

    /// How many frames a connection gets.
    pub fn messages_for(&self, connection: ConnectionId) -> u32 {
        self.messages - self.exclusions_of(connection).len() as u32
    }

    /// Bytes that compression has taken off what a connection gets.
    pub fn saved_bytes_for(&self, connection: ConnectionId) -> u64 {
        self.saved_bytes - self.exclusions_of(connection).iter().map(|exclusion| exclusion.saved_bytes).sum::<u64>()
    }

    /// The end of the frame that begins at a position.
    pub fn next_frame(&self, start: usize) -> usize {
        match FrameHeader::decode(&self.bytes[start..]) {
            Ok(Some((header, len))) => start + len + header.payload_len as usize,
            other => panic!("a batch holds whole frames, not {other:?} at {start}"),
        }
    }

    /// The end of the frame that a position is inside of; the position itself if a frame
    /// begins there. Walks from the start, so it is for rare cases.
    pub fn frame_end(&self, position: usize) -> usize {
        let mut end = 0;
        while end < position {
            end = self.next_frame(end);
        }
        end
    }

    fn exclusions_of(&self, connection: ConnectionId) -> &[Exclusion] {
        let tenant = (connection.slot, connection.generation);
        let from = self.exclusions.partition_point(|exclusion| exclusion.tenant() < tenant);
        let rest = &self.exclusions[from..];
        &rest[..rest.partition_point(|exclusion| exclusion.tenant() == tenant)]
    }

    /// Says that a connection that is behind keeps the batch alive.
    pub fn retain(&self, total: &RetainedBytes) {
        if self.retained.set(total.clone()).is_ok() {
            total.set(total.get() + self.memory_bytes());
        }
    }

    /// What it keeps allocated, itself included: of a small message most is that.
    fn memory_bytes(&self) -> u64 {
        let exclusions = self.exclusions.capacity() * size_of::<Exclusion>();
        (size_of::<Self>() + self.bytes.capacity() + exclusions) as u64
    }

    fn release(&mut self) {
        if let Some(total) = self.retained.take() {
            total.set(total.get() - self.memory_bytes());
        }
    }

    fn clear(&mut self) {
        self.release();
        self.bytes.clear();
        self.exclusions.clear();
        self.messages = 0;
        self.saved_bytes = 0;
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.release();
    }
}

/// Free batches of one shard.
#[derive(Default, Debug)]
pub struct BatchPool {
    free: Vec<Rc<Batch>>,
    free_bytes: u64,
}

impl BatchPool {
    /// An empty batch that nobody else has.
    pub fn take(&mut self) -> Rc<Batch> {
        let Some(batch) = self.free.pop() else { return Rc::default() };
        self.free_bytes -= batch.memory_bytes();
        batch
    }

    /// Takes a batch back, unless somebody else still has it: the last one to let go
    /// frees it.
    pub fn put(&mut self, mut batch: Rc<Batch>) {
        let Some(unshared) = Rc::get_mut(&mut batch) else { return };
        let bytes = unshared.memory_bytes();
        if bytes <= KEEP_BYTES_MAX && self.free_bytes + bytes <= KEEP_TOTAL_BYTES_MAX {
            unshared.clear();
            self.free_bytes += bytes;
            self.free.push(batch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(slot: u32, generation: u32) -> ConnectionId {
        ConnectionId { slot, generation }
    }

    #[test]
    fn a_connection_gets_all_ranges_but_its_own() {
        let mut batch = Batch::default();
        batch.append(OpCode::Text, b"a", None);
        batch.append(OpCode::Text, b"bb", Some(id(5, 1)));
        batch.append(OpCode::Text, b"ccc", Some(id(2, 0)));
        batch.append(OpCode::Text, b"dddd", Some(id(5, 1)));
        batch.seal();
        assert_eq!(batch.as_bytes(), b"\x81\x01a\x81\x02bb\x81\x03ccc\x81\x04dddd");
        let share_of = |id| (batch.ranges_for(id).collect::<Vec<_>>(), batch.messages_for(id));
        assert_eq!(share_of(id(5, 1)), (vec![(0, 3), (7, 12)], 2));
        assert_eq!(share_of(id(2, 0)), (vec![(0, 7), (12, 18)], 3));
        assert!(!batch.is_whole_for(id(5, 1)) && batch.is_whole_for(id(5, 2)) && batch.is_whole_for(id(1, 0)));
        assert_eq!(share_of(id(1, 0)), (vec![(0, 18)], 4));
    }

    #[test]
    fn each_tenant_of_a_slot_is_left_out_of_its_own_messages() {
        let mut batch = Batch::default();
        for (message, generation) in [(b"a", 1), (b"b", 2), (b"c", 1), (b"d", 2)] {
            batch.append(OpCode::Text, message, Some(id(5, generation)));
        }
        batch.seal();
        for (generation, ranges) in [(0, vec![(0, 12)]), (1, vec![(3, 6), (9, 12)]), (2, vec![(0, 3), (6, 9)])] {
            let tenant = id(5, generation);
            assert_eq!(batch.ranges_for(tenant).collect::<Vec<_>>(), ranges);
            assert_eq!(batch.messages_for(tenant) as usize, 4 - if generation == 0 { 0 } else { 2 });
            assert_eq!(batch.is_whole_for(tenant), generation == 0);
        }
    }

    #[test]
    fn frame_ends_are_found_from_any_position() {
        let mut batch = Batch::default();
        batch.append(OpCode::Text, b"a", None);
        batch.append(OpCode::Binary, &[0; 300], None);
        for (position, end) in [(0, 0), (1, 3), (2, 3), (3, 3), (4, 307), (306, 307), (307, 307)] {
            assert_eq!(batch.frame_end(position), end, "position {position}");
        }
    }

    #[test]
    fn a_batch_that_is_kept_alive_counts_once_and_until_it_is_gone() {
        let total = RetainedBytes::default();
        let mut batch = Batch::default();
        batch.append(OpCode::Text, &[b'a'; 100], None);
        let batch = Rc::new(batch);
        batch.retain(&total);
        batch.retain(&total);
        assert!((102 + size_of::<Batch>() as u64..1000).contains(&total.get()), "{}", total.get());
        let other = batch.clone();
        drop(batch);
        assert!(total.get() > 0);
        drop(other);
        assert_eq!(total.get(), 0);
    }

    #[test]
    fn a_batch_comes_back_only_when_nobody_else_has_it() {
        let mut pool = BatchPool::default();
        let mut batch = pool.take();
        Rc::get_mut(&mut batch).unwrap().append(OpCode::Text, b"a", None);
        let other = batch.clone();
        pool.put(batch);
        assert!(pool.free.is_empty());
        pool.put(other);
        assert_eq!(pool.take().as_bytes(), b"");
    }
}
