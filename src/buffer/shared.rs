//! Payloads that cross threads.
//!
//! A payload is written once and read by all. The thread that made it keeps a reference
//! and uses the memory again when nobody else has one, so that publishing to other
//! shards allocates nothing in the steady state.

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::Arc;

/// Payloads longer than this are not kept for later use.
const KEEP_BYTES_MAX: usize = 4 * 1024;
/// Payloads that a pool keeps: what a turn or two of a busy publisher brings.
const KEEP_MAX: usize = 256;
/// How many of them are looked at before a new one is made.
const LOOKS_MAX: usize = 4;

/// A message's bytes, shared by threads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SharedPayload(Arc<Vec<u8>>);

impl Deref for SharedPayload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for SharedPayload {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Arc::new(bytes))
    }
}

impl From<&[u8]> for SharedPayload {
    fn from(bytes: &[u8]) -> Self {
        bytes.to_vec().into()
    }
}

/// Payloads that one thread has made, the oldest first.
#[derive(Default, Debug)]
pub struct SharedPayloadPool {
    made: VecDeque<SharedPayload>,
}

impl SharedPayloadPool {
    /// A payload of these bytes.
    pub fn share(&mut self, bytes: &[u8]) -> SharedPayload {
        if bytes.len() > KEEP_BYTES_MAX {
            return bytes.into();
        }
        for _ in 0..self.made.len().min(LOOKS_MAX) {
            let Some(mut payload) = self.made.pop_front() else { break };
            if let Some(memory) = Arc::get_mut(&mut payload.0) {
                memory.clear();
                memory.extend_from_slice(bytes);
                self.made.push_back(payload.clone());
                return payload;
            }
            // Somebody still reads it.
            self.made.push_back(payload);
        }
        let payload = SharedPayload::from(bytes);
        if self.made.len() < KEEP_MAX {
            self.made.push_back(payload.clone());
        }
        payload
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_when_nobody_else_reads_it_and_not_before() {
        let mut pool = SharedPayloadPool::default();
        let first = pool.share(b"first");
        let second = pool.share(b"second");
        assert_eq!((&*first, &*second), (&b"first"[..], &b"second"[..]));
        let place = first.as_ptr();
        drop(first);
        let third = pool.share(b"third");
        assert_eq!(third.as_ptr(), place);
        assert_eq!((&*third, &*second), (&b"third"[..], &b"second"[..]));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut pool = SharedPayloadPool::default();
        let held: Vec<_> = (0..2 * KEEP_MAX).map(|n| pool.share(&[n as u8])).collect();
        assert_eq!(pool.made.len(), KEEP_MAX);
        assert!(held.iter().enumerate().all(|(n, payload)| **payload == [n as u8]));
        pool.share(&[0; KEEP_BYTES_MAX + 1]);
        assert!(pool.made.iter().all(|payload| payload.len() <= KEEP_BYTES_MAX));
    }
}
