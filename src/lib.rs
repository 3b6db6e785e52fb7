//! wsgate: a WebSocket fan-out gateway.
#![allow(missing_docs)]

pub mod id;
pub mod proto;
pub mod time;
