//! Where the sans-IO core meets the machine: sockets, clock, threads' mailboxes.
//!
//! * [`epoll`]: the event loop of one shard, by readiness (mio)
//! * [`mailbox`]: envelopes between threads
//! * [`socket`]: listeners and their options
//! * [`clock`], [`machine`]: monotonic time, descriptor limit, processors
//! * `slice`: parts of a turn that are bounded in time

// This is the layer that owns the clock.
#![allow(clippy::disallowed_methods)]

pub mod clock;
pub mod epoll;
pub mod machine;
pub mod mailbox;
mod receive_buffer;
mod slice;
pub mod socket;
