//! A listening socket of any kind, as an event loop sees it.
//!
//! TCP addresses have a socket for each loop (SO_REUSEPORT), over which the kernel spreads
//! connections. What cannot be multiplied, a Unix socket or one that was inherited, is
//! shared: each loop has a descriptor of the same socket, and takes from the same queue.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};

use rustix::net::{SocketFlags, acceptfrom_with};
use socket2::Socket;

/// A connection's transport: a stream socket of TCP or Unix, not blocking.
pub type Stream = Socket;

/// One loop's part of a listening socket.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    shared: bool,
}

impl Listener {
    /// A socket that listens and does not block. `shared`: other loops have it too.
    pub fn new(socket: Socket, shared: bool) -> Self {
        Self { socket, shared }
    }

    /// Whether other loops take connections from the same queue.
    pub fn is_shared(&self) -> bool {
        self.shared
    }

    /// The next connection, and the address at its other end, which Unix sockets do not
    /// have. Errors are those of accept4(2).
    pub fn accept(&self) -> io::Result<(Stream, Option<IpAddr>)> {
        let (stream, peer) = acceptfrom_with(&self.socket, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
        let address = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
        Ok((Stream::from(stream), address.map(|address| address.ip())))
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}
