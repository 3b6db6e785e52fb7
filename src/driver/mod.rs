//! Where the sans-IO core meets the machine: sockets, clock, threads' mailboxes.
//!
//! * [`event_loop`]: a turn of a loop, whatever waits for the sockets
//! * [`epoll`]: sockets of one shard, by readiness (mio)
//! * [`uring`]: the same, by completion (io_uring)
//! * [`mailbox`]: envelopes between threads, and who has to be woken for them
//! * [`socket`], [`unix_socket`]: where to listen, socket options
//! * [`listener`]: listening sockets of any kind
//! * [`descriptors`]: tables of descriptors for threads alone
//! * [`clock`], [`machine`]: monotonic time, descriptor limit, processors
//! * `slice`: parts of a turn that are bounded in time

// This is the layer that owns the clock.
#![allow(clippy::disallowed_methods)]

mod accept;
pub mod clock;
pub mod descriptors;
mod drain;
pub mod epoll;
pub mod event_loop;
pub mod listener;
pub mod machine;
pub mod mailbox;
mod readable;
mod receive_buffer;
mod slice;
pub mod socket;
pub mod unix_socket;
pub mod uring;
mod wait_flag;

/// The atomics that `wait_flag` is built on, by this name so that a model checker can put
/// its own in their place.
mod atomic {
    pub(super) use std::sync::atomic::{AtomicBool, Ordering, fence};
}
