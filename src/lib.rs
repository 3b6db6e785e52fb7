//! wsgate: a WebSocket fan-out gateway.

pub mod buffer;
pub mod command;
#[cfg(feature = "server")]
pub mod config;
pub mod connection;
#[cfg(feature = "server")]
pub mod control;
pub mod dialect;
pub mod driver;
pub mod hub;
pub mod id;
pub mod limits;
pub mod origin;
pub mod policy;
pub mod proto;
#[cfg(feature = "server")]
pub mod server;
pub mod shard;
pub mod stats;
pub mod time;
pub mod topic_name;
