//! wsgate: a WebSocket fan-out gateway.
#![allow(missing_docs)]

#[cfg(feature = "server")]
pub mod config;
pub mod id;
pub mod proto;
pub mod time;
