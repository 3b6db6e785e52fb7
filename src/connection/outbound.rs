//! The queue of one connection: bytes of its own and frames that it shares.
//!
//! Owner: the shard's thread. Caller: `connection` only. Never blocks. The bound is
//! kept by the callers: `Connection::deliver` refuses above it, and replies pause
//! reading. An empty queue is one pointer and holds no memory.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::rc::Rc;

use super::Segments;
use crate::buffer::{Batch, BufferPool, RetainedBytes};
use crate::limits::SEGMENTS_PER_SEND_MAX;
use crate::proto::close::CloseCode;
use crate::proto::copy;
use crate::proto::frame::{self, CONTROL_PAYLOAD_BYTES_MAX, OpCode};
use crate::tls::ServerStream;

/// A private segment that has grown beyond this is left alone and a new one begun,
/// so that appending never moves many bytes.
const PRIVATE_SEGMENT_BYTES_MAX: usize = 64 * 1024;
/// Bytes of the longest answer to a ping, with its header.
const PONG_FRAME_BYTES_MAX: usize = 2 + CONTROL_PAYLOAD_BYTES_MAX;
/// Free queues kept by a pool.
const QUEUES_KEEP_MAX: usize = 4096;
/// A queue whose ring has grown beyond this many segments is freed instead of kept.
const QUEUE_SEGMENTS_KEEP_MAX: usize = 32;

/// Free queues and write buffers of one shard.
#[derive(Default, Debug)]
pub struct OutboundPool {
    // Boxed so that a connection holds a pointer and not the queue itself.
    #[expect(clippy::vec_box)]
    queues: Vec<Box<Queue>>,
    buffers: BufferPool,
    /// Bytes of batches that wait in queues.
    retained: RetainedBytes,
    /// Bytes of memory of the buffers in which replies and control frames wait.
    private_bytes: u64,
    /// Bytes that are encrypted and that transports have not taken.
    ciphertext_bytes: u64,
}

impl OutboundPool {
    /// An empty buffer for about so many bytes, for a message that may become a reply.
    pub fn take_buffer(&mut self, bytes: usize) -> Vec<u8> {
        self.buffers.take(bytes)
    }

    /// Bytes of memory that queues keep alive. A batch that waits in several counts once.
    pub fn waiting_bytes(&self) -> u64 {
        self.retained.get() + self.private_bytes + self.ciphertext_bytes
    }

    /// Does something with a TLS stream and counts the ciphertext that it adds or takes.
    pub(super) fn count_ciphertext<T>(
        &mut self,
        stream: &mut ServerStream,
        change: impl FnOnce(&mut ServerStream, &mut BufferPool) -> T,
    ) -> T {
        self.ciphertext_bytes -= stream.unsent().len() as u64;
        let result = change(stream, &mut self.buffers);
        self.ciphertext_bytes += stream.unsent().len() as u64;
        result
    }
}

#[derive(Debug)]
pub(super) enum Segment {
    /// Replies and control frames, several in a row.
    Private(Vec<u8>),
    /// Published frames: the bytes of a batch from one position to another.
    Shared { batch: Rc<Batch>, start: usize, end: usize },
    /// The marker of messages that were dropped here, and how many.
    Gap { marker: Vec<u8>, lost: u64 },
}

impl Segment {
    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Private(bytes) | Self::Gap { marker: bytes, .. } => bytes,
            Self::Shared { batch, start, end } => &batch.as_bytes()[*start..*end],
        }
    }
}

#[derive(Default, Debug)]
pub(super) struct Queue {
    pub(super) segments: VecDeque<Segment>,
    /// Bytes of the first segment that are sent.
    pub(super) first_sent: usize,
    /// Bytes not sent, in all segments.
    pub(super) bytes: usize,
    /// Of them, bytes in private segments.
    private_bytes: usize,
    /// The answer to the newest ping, which is not in the queue before all replies have
    /// left it.
    held_pong: Option<Vec<u8>>,
}

/// See the module.
#[derive(Default, Debug)]
pub(super) struct Outbound(pub(super) Option<Box<Queue>>);

impl Outbound {
    /// Bytes queued and not sent.
    pub(super) fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |queue| queue.bytes)
    }

    /// Of these, replies and control frames.
    pub(super) fn reply_bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |queue| queue.private_bytes)
    }

    /// Queues a range of published bytes.
    pub(super) fn push_shared(&mut self, batch: Rc<Batch>, start: usize, end: usize, pool: &mut OutboundPool) {
        if start < end {
            batch.retain(&pool.retained);
            let queue = self.queue(pool);
            queue.bytes += end - start;
            queue.segments.push_back(Segment::Shared { batch, start, end });
        }
    }

    /// Queues a frame for this peer alone.
    pub(super) fn append_frame(&mut self, opcode: OpCode, payload: &[u8], pool: &mut OutboundPool) {
        self.append_with(payload.len(), pool, |out| frame::append_server(out, opcode, payload));
    }

    /// The same with a payload that becomes part of the queue as it is.
    pub(super) fn append_frame_of(&mut self, opcode: OpCode, payload: Vec<u8>, pool: &mut OutboundPool) {
        self.append_with(0, pool, |out| frame::append_server_header(out, opcode, payload.len()));
        if let Some(queue) = &mut self.0 {
            queue.bytes += payload.len();
            queue.private_bytes += payload.len();
            pool.private_bytes += payload.capacity() as u64;
            queue.segments.push_back(Segment::Private(payload));
        }
    }

    /// Queues bytes before all others; none of those may have left in part.
    pub(super) fn prepend(&mut self, bytes: &[u8], pool: &mut OutboundPool) {
        let mut buffer = pool.buffers.take(bytes.len());
        copy::append(&mut buffer, bytes);
        pool.private_bytes += buffer.capacity() as u64;
        let queue = self.queue(pool);
        debug_assert_eq!(queue.first_sent, 0);
        queue.segments.push_front(Segment::Private(buffer));
        queue.bytes += bytes.len();
        queue.private_bytes += bytes.len();
    }

    /// The same with the bytes of a batch from `start` on.
    pub(super) fn prepend_shared(&mut self, batch: Rc<Batch>, start: usize, pool: &mut OutboundPool) {
        batch.retain(&pool.retained);
        let queue = self.queue(pool);
        debug_assert_eq!(queue.first_sent, 0);
        let end = batch.as_bytes().len();
        queue.bytes += end - start;
        queue.segments.push_front(Segment::Shared { batch, start, end });
    }

    /// Queues a compressed message for this peer alone.
    pub(super) fn append_compressed(&mut self, opcode: OpCode, payload: &[u8], pool: &mut OutboundPool) {
        self.append_with(payload.len(), pool, |out| frame::append_server_compressed(out, opcode, payload));
    }

    /// Keeps the answer to a ping until the replies before it have left. Whether it took the
    /// place of another.
    pub(super) fn hold_pong(&mut self, payload: &[u8], pool: &mut OutboundPool) -> bool {
        self.queue(pool);
        let Some(queue) = &mut self.0 else { return false };
        let replaced = queue.held_pong.is_some();
        let pong = queue.held_pong.get_or_insert_with(|| pool.buffers.take(PONG_FRAME_BYTES_MAX));
        pong.clear();
        frame::append_server(pong, OpCode::Pong, payload);
        replaced
    }

    /// The answer that was kept is not to come; whether there was one.
    pub(super) fn drop_held_pong(&mut self, pool: &mut OutboundPool) -> bool {
        let Some(pong) = self.0.as_mut().and_then(|queue| queue.held_pong.take()) else { return false };
        pool.buffers.put(pong);
        true
    }

    /// Queues a Close frame; words that do not fit are cut at a character's end.
    pub(super) fn append_close(&mut self, code: Option<CloseCode>, words: &str, pool: &mut OutboundPool) {
        let mut body = [0; CONTROL_PAYLOAD_BYTES_MAX];
        let mut len = 0;
        if let Some(code) = code {
            let words = &words[..words.floor_char_boundary(body.len() - 2)];
            body[..2].copy_from_slice(&code.0.to_be_bytes());
            body[2..2 + words.len()].copy_from_slice(words.as_bytes());
            len = 2 + words.len();
        }
        self.append_frame(OpCode::Close, &body[..len], pool);
        // Nothing comes behind a Close.
        self.drop_held_pong(pool);
    }

    /// Queues what `write` appends to a buffer, about so many bytes.
    pub(super) fn append_with(&mut self, bytes: usize, pool: &mut OutboundPool, write: impl FnOnce(&mut Vec<u8>)) {
        self.queue(pool);
        let Some(queue) = &mut self.0 else { return };
        let open = match queue.segments.back() {
            Some(Segment::Private(bytes)) => bytes.len() < PRIVATE_SEGMENT_BYTES_MAX,
            _ => false,
        };
        if !open {
            let buffer = pool.buffers.take(bytes);
            pool.private_bytes += buffer.capacity() as u64;
            queue.segments.push_back(Segment::Private(buffer));
        }
        if let Some(Segment::Private(bytes)) = queue.segments.back_mut() {
            let (len, capacity) = (bytes.len(), bytes.capacity());
            write(bytes);
            queue.bytes += bytes.len() - len;
            queue.private_bytes += bytes.len() - len;
            pool.private_bytes += (bytes.capacity() - capacity) as u64;
        }
    }

    /// The bytes of the only segment, if there is but one.
    pub(super) fn single(&self) -> Option<&[u8]> {
        let queue = self.0.as_ref()?;
        match queue.segments.len() {
            1 => Some(&queue.segments[0].as_bytes()[queue.first_sent..]),
            _ => None,
        }
    }

    /// The first segments, as many as one send takes.
    pub(super) fn segments(&self) -> Segments<'_> {
        let mut slices = [IoSlice::new(&[]); SEGMENTS_PER_SEND_MAX];
        let mut count = 0;
        if let Some(queue) = &self.0 {
            let mut skip = queue.first_sent;
            for (slice, segment) in slices.iter_mut().zip(&queue.segments) {
                *slice = IoSlice::new(&segment.as_bytes()[skip..]);
                skip = 0;
                count += 1;
            }
        }
        (slices, count)
    }

    /// Copies at most so many bytes from the front to `into`.
    pub(super) fn gather(&self, bytes_max: usize, into: &mut Vec<u8>) {
        into.clear();
        let Some(queue) = &self.0 else { return };
        let mut skip = queue.first_sent;
        for segment in &queue.segments {
            let bytes = &segment.as_bytes()[std::mem::take(&mut skip)..];
            into.extend_from_slice(&bytes[..bytes.len().min(bytes_max - into.len())]);
            if into.len() == bytes_max {
                return;
            }
        }
    }

    /// The transport took `n` bytes from the front.
    pub(super) fn sent(&mut self, n: usize, pool: &mut OutboundPool) {
        let Some(queue) = &mut self.0 else {
            assert_eq!(n, 0, "bytes were sent that were not queued");
            return;
        };
        assert!(n <= queue.bytes, "{n} bytes were sent, {} were queued", queue.bytes);
        queue.bytes -= n;
        let mut left = n;
        while let Some(first) = queue.segments.front() {
            let unsent = first.as_bytes().len() - queue.first_sent;
            let taken = left.min(unsent);
            if matches!(first, Segment::Private(_)) {
                queue.private_bytes -= taken;
            }
            left -= taken;
            if taken < unsent {
                queue.first_sent += taken;
                break;
            }
            queue.first_sent = 0;
            if let Some(Segment::Private(buffer)) = queue.segments.pop_front() {
                pool.private_bytes -= buffer.capacity() as u64;
                pool.buffers.put(buffer);
            }
        }
        if let Some(pong) = queue.held_pong.take_if(|_| queue.private_bytes == 0) {
            queue.bytes += pong.len();
            queue.private_bytes += pong.len();
            pool.private_bytes += pong.capacity() as u64;
            queue.segments.push_back(Segment::Private(pong));
        }
        if queue.segments.is_empty() {
            self.clear(pool);
        }
    }

    /// Drops everything and holds no memory.
    pub(super) fn clear(&mut self, pool: &mut OutboundPool) {
        let Some(mut queue) = self.0.take() else { return };
        if let Some(pong) = queue.held_pong.take() {
            pool.buffers.put(pong);
        }
        for segment in queue.segments.drain(..) {
            if let Segment::Private(buffer) = segment {
                pool.private_bytes -= buffer.capacity() as u64;
                pool.buffers.put(buffer);
            }
        }
        let kept = pool.queues.len() < QUEUES_KEEP_MAX && queue.segments.capacity() <= QUEUE_SEGMENTS_KEEP_MAX;
        if kept {
            (queue.first_sent, queue.bytes, queue.private_bytes) = (0, 0, 0);
            pool.queues.push(queue);
        }
    }

    fn queue(&mut self, pool: &mut OutboundPool) -> &mut Queue {
        self.0.get_or_insert_with(|| pool.queues.pop().unwrap_or_default())
    }
}
