//! Bytes on their way out, so that they are neither copied nor allocated more often
//! than needed.
//!
//! Owner: one shard's thread; only [`SharedPayload`] is shared between threads.

#![forbid(unsafe_code)]

mod batch;
mod pool;
mod shared;

pub use batch::{Batch, BatchPool, RetainedBytes};
pub use pool::BufferPool;
pub use shared::{SharedPayload, SharedPayloadPool};
