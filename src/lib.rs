//! wsgate: a WebSocket fan-out gateway.
//!
//! A back end publishes a message once; wsgate delivers it to every subscriber, in
//! order, and says so when it could not. `ARCHITECTURE.md` is the map.
//!
//! * As a program: [`server::Server`] with a [`config::Config`]; see `main.rs`.
//! * As a protocol library, for both ends and without I/O: [`proto`].
//! * As a gateway without sockets, to embed or to simulate: [`shard::Shard`].
//!
//! The feature `server` (on by default) is the program: configuration, control plane and
//! threads. Without it the crate is the rest, which is what the load generator uses.

pub mod address;
pub mod admission;
pub mod buffer;
pub mod command;
#[cfg(feature = "server")]
pub mod config;
pub mod connection;
#[cfg(feature = "server")]
pub mod control;
pub mod dialect;
pub mod driver;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
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
pub mod tls;
pub mod topic_name;
