//! The WebSocket protocol: RFC 6455, without any I/O.
//!
//! Callers: `connection` on the server's side, the load generator on the
//! client's. Bytes come in as slices, bytes go out into buffers that the caller
//! owns. Nothing here knows a socket, a clock, a topic or a dialect.
//!
//! * [`http`] and [`handshake`]: from the first byte to `101 Switching Protocols`
//! * [`frame`], [`mask`], [`utf8`]: the wire unit
//! * [`message`]: whole messages and control frames out of any split of the bytes
//! * [`close`], [`error`]: why a connection ends, and with which code

#![forbid(unsafe_code)]

pub mod close;
pub(crate) mod copy;
pub mod error;
pub mod frame;
pub mod handshake;
pub mod http;
pub mod in_place;
pub mod mask;
pub mod message;
pub mod utf8;

/// Which end of the connection we are. A client masks what it sends, a server
/// must not (RFC 6455, section 5.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Receives masked frames, sends unmasked ones.
    Server,
    /// Receives unmasked frames, sends masked ones.
    Client,
}
