//! One socket and its client: connecting, reading, writing.
//!
//! Owner: `worker`. Never blocks.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};

use mio::net::TcpStream;
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use wsgate::time::Time;

use crate::client::Client;
use crate::failure::Failure;

/// A connection from the first SYN to the end.
#[derive(Debug)]
pub struct Connection {
    /// The worker's member that it belongs to.
    pub member: usize,
    /// When it began to connect.
    pub begun: Time,
    /// The WebSocket side.
    pub client: Client,
    /// What is to be written; the first `written` bytes of it are.
    pub out: Vec<u8>,
    written: usize,
    /// Is in the worker's list of connections to flush.
    pub dirty: bool,
    connected: bool,
    stream: TcpStream,
}

/// What reading gave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Received {
    /// That many bytes.
    Bytes(usize),
    /// Nothing for now.
    Nothing,
    /// The server ended the stream.
    End,
}

impl Connection {
    /// Begins to connect. `out` holds the client's request.
    pub fn connect(
        member: usize,
        begun: Time,
        address: SocketAddr,
        source: Option<IpAddr>,
        client: Client,
        out: Vec<u8>,
    ) -> Result<Self, Failure> {
        let stream = open_socket(address, source).map_err(Failure::connect)?;
        Ok(Self { member, begun, client, out, written: 0, dirty: false, connected: false, stream })
    }

    /// The socket, for registration.
    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// The TCP connection stands.
    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// The socket became writable, or failed: whether the TCP connection stands.
    pub fn check_connected(&mut self) -> Result<bool, Failure> {
        if self.connected {
            return Ok(true);
        }
        if let Some(error) = self.stream.take_error().map_err(Failure::connect)? {
            return Err(Failure::connect(error));
        }
        match self.stream.peer_addr() {
            Ok(_) => self.connected = true,
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {}
            Err(error) => return Err(Failure::connect(error)),
        }
        Ok(self.connected)
    }

    /// Reads into `buffer`.
    pub fn receive(&mut self, buffer: &mut [u8]) -> Result<Received, Failure> {
        loop {
            return match self.stream.read(buffer) {
                Ok(0) => Ok(Received::End),
                Ok(len) => Ok(Received::Bytes(len)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Received::Nothing),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(Failure::ConnectionLost(error)),
            };
        }
    }

    /// Bytes that wait to be written.
    pub fn unsent_bytes(&self) -> usize {
        self.out.len() - self.written
    }

    /// Writes what the socket takes. What is left goes when it is writable again.
    pub fn flush(&mut self) -> Result<(), Failure> {
        while self.written < self.out.len() {
            match self.stream.write(&self.out[self.written..]) {
                Ok(len) => self.written += len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.written >= self.out.len() / 2 {
                        self.out.drain(..self.written);
                        self.written = 0;
                    }
                    return Ok(());
                }
                Err(error) => return Err(Failure::ConnectionLost(error)),
            }
        }
        self.out.clear();
        self.written = 0;
        Ok(())
    }
}

fn open_socket(address: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    if let Some(source) = source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => Err(error),
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}
