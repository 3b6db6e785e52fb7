//! Write buffers that are handed out and come back.

/// A buffer that has grown beyond this is freed instead of kept.
const KEEP_BYTES_MAX: usize = 128 * 1024;
/// Bytes of all free buffers that are kept.
const KEEP_TOTAL_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Free write buffers of one shard. A connection holds one only while it has
/// something to say; in the steady state none is allocated.
#[derive(Default, Debug)]
pub struct BufferPool {
    free: Vec<Vec<u8>>,
    free_bytes: usize,
}

impl BufferPool {
    /// An empty buffer.
    pub fn take(&mut self) -> Vec<u8> {
        let buffer = self.free.pop().unwrap_or_default();
        self.free_bytes -= buffer.capacity();
        buffer
    }

    /// Takes a buffer back.
    pub fn put(&mut self, mut buffer: Vec<u8>) {
        let bytes = buffer.capacity();
        if (1..=KEEP_BYTES_MAX).contains(&bytes) && self.free_bytes + bytes <= KEEP_TOTAL_BYTES_MAX {
            buffer.clear();
            self.free_bytes += bytes;
            self.free.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_empty_and_large_ones_are_freed() {
        let mut pool = BufferPool::default();
        let mut small = pool.take();
        small.extend_from_slice(b"abc");
        let kept = small.as_ptr();
        pool.put(small);
        pool.put(Vec::with_capacity(KEEP_BYTES_MAX + 1));
        let again = pool.take();
        assert!(again.is_empty());
        assert_eq!(again.as_ptr(), kept);
        assert_eq!(pool.take().capacity(), 0);
    }
}
