//! What every measurement stands on: servers as child processes, clients that load
//! them, readings of CPU and memory, and how samples become figures and verdicts.

// Measuring takes a clock, and waiting for a server that starts takes time.
#![allow(clippy::disallowed_methods)]

pub(crate) mod client;
pub(crate) mod delays;
pub(crate) mod frames;
pub(crate) mod histogram;
pub(crate) mod instructions;
pub(crate) mod interval;
pub(crate) mod load;
pub(crate) mod machine;
pub(crate) mod markdown;
pub(crate) mod metrics;
pub(crate) mod pattern;
pub(crate) mod process;
pub(crate) mod secure;
pub(crate) mod server;
pub(crate) mod stand;
pub(crate) mod verdict;
pub(crate) mod window;
pub(crate) mod workshop;
