//! The sockets of one worker, and how to wait for them: by readiness ([`epoll`]) or by
//! completion ([`uring`]).
//!
//! Owner: the worker's thread. A backend knows sockets, bytes and points in time; who
//! speaks on a socket, and what, it does not.

use std::io;
use std::net::{IpAddr, SocketAddr};

use mio::Token;
use mio::net::TcpStream;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::IpBindAddressNoPort;
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket as System, Type};
use wsgate::driver::uring::StreamId;
use wsgate::time::Time;

pub mod epoll;
pub mod uring;

/// Token of the waker of a worker's [`mio::Poll`].
pub const WAKE: Token = Token(usize::MAX);

/// The backend that was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Io {
    /// Readiness, through mio.
    #[default]
    Epoll,
    /// Completions, by wsgate's driver.
    IoUring,
}

impl Io {
    /// The name on the command line and in the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Epoll => "epoll",
            Self::IoUring => "io_uring",
        }
    }
}

/// What a backend reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// Somebody woke the worker.
    Wake,
    /// Something can be done with a socket.
    Ready(Ready),
}

/// What can be done with a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ready {
    /// The number by which its owner knows it.
    pub slot: usize,
    /// It connected, failed to, or takes bytes again.
    pub writable: bool,
    /// Bytes or the end have come.
    pub readable: bool,
    /// The end, or an error, has come for certain, maybe behind bytes.
    pub ended: bool,
}

/// What reading gave.
#[derive(PartialEq, Eq, Debug)]
pub enum Received<'a> {
    /// These bytes; `is_all`: nothing else was there, but for the end of the stream.
    Bytes {
        /// In a buffer of the backend's, until its next call.
        bytes: &'a mut [u8],
        /// See above.
        is_all: bool,
    },
    /// Nothing for now.
    Nothing,
    /// The server ended the stream.
    End,
}

/// One socket, as its backend knows it.
#[derive(Debug)]
pub struct Socket {
    /// With io_uring until it is connected.
    stream: Option<TcpStream>,
    /// With io_uring.
    id: Option<StreamId>,
}

impl Socket {
    /// It became writable, or failed: whether the TCP connection stands.
    pub fn check_connected(&self) -> io::Result<bool> {
        let Some(stream) = &self.stream else { return Ok(true) };
        if let Some(error) = stream.take_error()? {
            return Err(error);
        }
        match stream.peer_addr() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// A backend. Never blocks but in [`Sockets::wait`].
pub trait Sockets {
    /// Waits until something happens, or until a point in time (`None` is for ever).
    /// Errors are those of the backend itself, after which it cannot go on.
    fn wait(&mut self, until: Option<Time>, now: Time) -> io::Result<()>;

    /// What has happened; what comes with an event is there until the next is asked for.
    fn next_event(&mut self) -> Option<Event>;

    /// Takes a socket that connects. Whoever `is_paced` is read only as long as
    /// [`Sockets::receive`] is called.
    fn open(&mut self, slot: usize, stream: TcpStream, is_paced: bool) -> io::Result<Socket>;

    /// The socket is connected.
    fn connected(&mut self, socket: &mut Socket);

    /// Reads what has come.
    fn receive(&mut self, socket: &Socket) -> io::Result<Received<'_>>;

    /// Writes as much as the socket takes now; a part may still fail to leave, which a
    /// later call says. 0: nothing, an event says when it takes more.
    fn send(&mut self, socket: &Socket, bytes: &[u8]) -> io::Result<usize>;

    /// Bytes that [`Sockets::send`] took wait here for room in the socket.
    fn holds_back(&self, socket: &Socket) -> bool;

    /// Lets everything leave now that was sent.
    fn submit(&mut self);

    /// Closes a socket. Nothing is reported of it any more.
    fn close(&mut self, socket: Socket);
}

/// Begins to connect. `receive_buffer`: bytes that the kernel is to take at most.
pub fn connect(address: SocketAddr, source: Option<IpAddr>, receive_buffer: Option<usize>) -> io::Result<TcpStream> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = System::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    if let Some(bytes) = receive_buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(source) = source {
        // The port is chosen when it connects: it must be free for that server alone then, and
        // not for all that this address talks to, or has done so in the last minute.
        setsockopt(&socket, IpBindAddressNoPort, &true)?;
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => Err(error),
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};

    use nix::sys::socket::getsockopt;

    use super::*;

    #[test]
    fn a_source_address_does_not_take_a_port_from_all_servers() {
        for address in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
            // Not every machine has the second.
            let Ok(server) = TcpListener::bind((address, 0)) else { continue };
            let stream = connect(server.local_addr().unwrap(), Some(address), None).unwrap();
            assert!(getsockopt(&stream, IpBindAddressNoPort).unwrap(), "{address}");
            assert_eq!(server.accept().unwrap().1.ip(), address);
        }
    }
}
