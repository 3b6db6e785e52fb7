//! Buffers that the kernel fills: when bytes come it takes one by itself, so that no
//! connection holds any while it is idle.
//!
//! Owner: the loop. There are two groups. Into the buffers of [`SMALL`] the kernel puts what
//! many connections bring, one behind the other, until a buffer is full: so they are enough
//! for many thousands of short messages. Each of [`BULK`] is for one receive, and as large
//! as epoll's receive buffer, so that a frame of 64 KiB lies in it whole.
//!
//! A buffer goes back to the kernel when it is full and everything in it has been used.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::{BufRingEntry, IOU_PBUF_RING_INC};

use super::ring::Ring;
use crate::limits::RECEIVE_BUFFER_BYTES;

/// For many connections that bring little each.
pub(super) const SMALL: u16 = 0;
/// For those that bring much.
pub(super) const BULK: u16 = 1;

/// Buffers of the first group, and their bytes: 2 MiB together are enough for each loop. The
/// kernel fills up to 32 of them for one connection before it looks at anything else, and
/// whoever is not read then leaves us with that much, so they are small.
const SMALL_BUFFERS: u16 = 256;
const SMALL_BUFFER_BYTES: usize = 8 * 1024;
/// Buffers of the second group. Few, so that they stay in the processor's cache: with 16 an
/// echo of 64 KiB took a tenth more.
const BULK_BUFFERS: u16 = 4;

/// Bytes of a page.
const PAGE_BYTES: usize = 4096;
const ENTRIES_PER_PAGE: usize = PAGE_BYTES / size_of::<BufRingEntry>();

const _: () = assert!(SMALL_BUFFERS.is_power_of_two() && SMALL_BUFFERS as usize <= ENTRIES_PER_PAGE);
const _: () = assert!(BULK_BUFFERS.is_power_of_two() && BULK_BUFFERS as usize <= ENTRIES_PER_PAGE);
const _: () = assert!(SMALL_BUFFER_BYTES.is_multiple_of(PAGE_BYTES) && RECEIVE_BUFFER_BYTES.is_multiple_of(PAGE_BYTES));

/// Memory that begins at a page: the kernel wants that of its ring, and copies faster so.
#[repr(C, align(4096))]
struct Page([u8; PAGE_BYTES]);

/// Pages that the kernel and we write in turn.
struct Pages(Box<[UnsafeCell<Page>]>);

impl Pages {
    fn new(bytes: usize) -> Self {
        Self((0..bytes.div_ceil(PAGE_BYTES)).map(|_| UnsafeCell::new(Page([0; PAGE_BYTES]))).collect())
    }

    fn start(&self) -> *mut u8 {
        UnsafeCell::raw_get(self.0.as_ptr()).cast()
    }
}

/// Received bytes, which keep their buffer until they are given to [`Buffers::release`].
#[derive(Debug)]
#[must_use = "its buffer would never be used again"]
pub(super) struct Chunk {
    group: u16,
    buffer: u16,
    start: u32,
    len: u32,
}

impl Chunk {
    pub(super) fn len(&self) -> usize {
        self.len as usize
    }
}

/// See the module.
pub(super) struct Buffers {
    groups: [Group; 2],
    /// Chunks that nobody has released.
    held: u64,
}

struct Group {
    /// What the kernel reads: buffers that it may fill, and how many were ever put there.
    entries: Pages,
    memory: Pages,
    buffer_bytes: usize,
    tail: u16,
    buffers: Vec<Buffer>,
    /// Buffers that are not empty.
    out: u16,
}

/// How far a buffer is used.
#[derive(Clone, Default)]
struct Buffer {
    /// Something has come into it.
    out: bool,
    filled: u32,
    chunks: u32,
    /// The kernel puts nothing more into it.
    full: bool,
}

impl Buffers {
    /// What the buffers of [`SMALL`] hold.
    pub(super) const SMALL_BYTES: usize = SMALL_BUFFERS as usize * SMALL_BUFFER_BYTES;

    pub(super) fn new() -> Self {
        let groups = [Group::new(SMALL_BUFFERS, SMALL_BUFFER_BYTES), Group::new(BULK_BUFFERS, RECEIVE_BUFFER_BYTES)];
        Self { groups, held: 0 }
    }

    /// Gives all of them to the kernel.
    ///
    /// # Safety
    /// They must live for as long as the `IoUring` does.
    #[expect(unsafe_code, reason = "the kernel writes to that memory")]
    pub(super) unsafe fn register(&mut self, ring: &Ring<'_>) -> std::io::Result<()> {
        for (group, flags) in [(SMALL, IOU_PBUF_RING_INC as u16), (BULK, 0)] {
            let Group { entries, buffers, .. } = &self.groups[group as usize];
            // SAFETY: that memory lives as long as this does, and does not move.
            unsafe { ring.register_buffers(entries.start() as u64, buffers.len() as u16, group, flags)? };
        }
        self.groups.iter_mut().for_each(Group::fill);
        Ok(())
    }

    /// Bytes have come into a buffer; `goes_on`: the kernel puts what comes next behind them.
    pub(super) fn received(&mut self, group: u16, buffer: u16, len: usize, goes_on: bool) -> Chunk {
        let Group { buffers, out, buffer_bytes, .. } = &mut self.groups[group as usize];
        let state = &mut buffers[buffer as usize];
        let start = state.filled;
        assert!(start as usize + len <= *buffer_bytes, "the kernel fills a buffer of {buffer_bytes} bytes");
        assert!(!state.full, "the kernel fills a buffer that it has");
        *out += u16::from(!std::mem::replace(&mut state.out, true));
        state.filled += len as u32;
        state.chunks += 1;
        state.full = !goes_on;
        self.held += 1;
        Chunk { group, buffer, start, len: len as u32 }
    }

    /// The bytes of a chunk, which are nobody else's while it lives.
    #[expect(unsafe_code, reason = "the kernel writes to the memory around them")]
    pub(super) fn bytes_mut(&mut self, chunk: &mut Chunk) -> &mut [u8] {
        // SAFETY: they lie in the buffer, as `received` has checked, and were written by the
        // kernel, which is done with them. Each chunk has bytes of its own, and it is
        // borrowed for as long as they are.
        unsafe { std::slice::from_raw_parts_mut(self.start_of(chunk), chunk.len()) }
    }

    /// The same, for reading.
    #[expect(unsafe_code, reason = "the kernel writes to the memory around them")]
    pub(super) fn bytes(&self, chunk: &Chunk) -> &[u8] {
        // SAFETY: as in `bytes_mut`.
        unsafe { std::slice::from_raw_parts(self.start_of(chunk), chunk.len()) }
    }

    /// Where a chunk begins.
    pub(super) fn start_of(&self, chunk: &Chunk) -> *mut u8 {
        let group = &self.groups[chunk.group as usize];
        group.memory.start().wrapping_add(chunk.buffer as usize * group.buffer_bytes + chunk.start as usize)
    }

    /// A chunk has been used.
    pub(super) fn release(&mut self, chunk: Chunk) {
        self.held -= 1;
        let group = &mut self.groups[chunk.group as usize];
        let state = &mut group.buffers[chunk.buffer as usize];
        state.chunks -= 1;
        if state.full && state.chunks == 0 {
            *state = Buffer::default();
            group.out -= 1;
            group.put(chunk.buffer);
        }
    }

    /// Empty buffers of a group: the kernel has them.
    pub(super) fn free(&self, group: u16) -> usize {
        let group = &self.groups[group as usize];
        group.buffers.len() - group.out as usize
    }

    /// Chunks that nobody has released.
    pub(super) fn held(&self) -> u64 {
        self.held
    }
}

impl Group {
    fn new(count: u16, buffer_bytes: usize) -> Self {
        Self {
            entries: Pages::new(PAGE_BYTES),
            memory: Pages::new(count as usize * buffer_bytes),
            buffer_bytes,
            tail: 0,
            buffers: vec![Buffer::default(); count as usize],
            out: 0,
        }
    }

    /// Gives the kernel all buffers.
    fn fill(&mut self) {
        (0..self.buffers.len() as u16).for_each(|buffer| self.put(buffer));
    }

    /// Gives the kernel an empty buffer.
    #[expect(unsafe_code, reason = "the kernel reads that memory")]
    fn put(&mut self, buffer: u16) {
        let address = self.memory.start().wrapping_add(buffer as usize * self.buffer_bytes) as u64;
        let base: *mut BufRingEntry = self.entries.start().cast();
        let place = usize::from(self.tail) & (self.buffers.len() - 1);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the place is one of the ring's entries, all of which are in its page and
        // begin as zeros, which is a valid entry. The kernel reads it when the tail has
        // passed it, and only during our calls; there are as many places as buffers, so it
        // has used what was there. The tail lies in the first entry, where entries have
        // nothing (`resv`), and is read by the kernel while it is written: hence the atomic.
        unsafe {
            let entry = &mut *base.add(place);
            entry.set_addr(address);
            entry.set_len(self.buffer_bytes as u32);
            entry.set_bid(buffer);
            AtomicU16::from_ptr(BufRingEntry::tail(base).cast_mut()).store(self.tail, Ordering::Release);
        }
    }
}
