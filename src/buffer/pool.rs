//! Write buffers that are handed out and come back.

/// A buffer that has grown beyond this is freed instead of kept.
const KEEP_BYTES_MAX: usize = 128 * 1024;
/// Bytes of all free buffers that are kept.
const KEEP_TOTAL_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Buffers beyond this are for those who need as much: a peer that waits with one short
/// reply must not hold what a long one once took.
const SMALL_BYTES_MAX: usize = 4 * 1024;

/// Free write buffers of one shard. A connection holds one only while it has
/// something to say; in the steady state none is allocated.
#[derive(Default, Debug)]
pub struct BufferPool {
    small: Vec<Vec<u8>>,
    large: Vec<Vec<u8>>,
    free_bytes: usize,
}

impl BufferPool {
    /// An empty buffer for about so many bytes. It may have room for less.
    pub fn take(&mut self, bytes: usize) -> Vec<u8> {
        let shelf = if bytes <= SMALL_BYTES_MAX { &mut self.small } else { &mut self.large };
        let buffer = shelf.pop().unwrap_or_default();
        self.free_bytes -= buffer.capacity();
        buffer
    }

    /// Takes a buffer back.
    pub fn put(&mut self, mut buffer: Vec<u8>) {
        let bytes = buffer.capacity();
        if (1..=KEEP_BYTES_MAX).contains(&bytes) && self.free_bytes + bytes <= KEEP_TOTAL_BYTES_MAX {
            buffer.clear();
            self.free_bytes += bytes;
            let shelf = if bytes <= SMALL_BYTES_MAX { &mut self.small } else { &mut self.large };
            shelf.push(buffer);
        }
    }

    /// Bytes of memory that free buffers hold.
    pub fn free_bytes(&self) -> usize {
        self.free_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_empty_and_large_ones_are_freed() {
        let mut pool = BufferPool::default();
        let mut small = pool.take(3);
        small.extend_from_slice(b"abc");
        let kept = small.as_ptr();
        pool.put(small);
        pool.put(Vec::with_capacity(KEEP_BYTES_MAX + 1));
        let again = pool.take(3);
        assert!(again.is_empty());
        assert_eq!(again.as_ptr(), kept);
        assert_eq!(pool.take(3).capacity(), 0);
        assert_eq!(pool.free_bytes(), 0);
    }

    #[test]
    fn who_needs_little_gets_no_large_buffer() {
        let mut pool = BufferPool::default();
        pool.put(Vec::with_capacity(SMALL_BYTES_MAX + 1));
        assert_eq!(pool.take(SMALL_BYTES_MAX).capacity(), 0);
        assert_eq!(pool.take(SMALL_BYTES_MAX + 1).capacity(), SMALL_BYTES_MAX + 1);
    }
}
