//! One socket and its client: connecting, reading, writing, with TLS or without.
//!
//! Owner: `worker`. Never blocks.

use std::io;
use std::net::{IpAddr, SocketAddr};

use mio::net::TcpStream;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use socket2::{Domain, Protocol, Socket, Type};
use wsgate::buffer::BufferPool;
use wsgate::time::Time;
use wsgate::tls::{ClientStream, RECORD_PLAINTEXT_BYTES_MAX};

use crate::client::Client;
use crate::failure::Failure;
use crate::publisher::Publisher;
use crate::template::Values;

/// A connection from the first SYN to the end.
#[derive(Debug)]
pub struct Connection {
    /// The worker's member that it belongs to.
    pub member: usize,
    /// It publishes, and does not subscribe.
    pub publishes: bool,
    /// What it fills into templates.
    pub values: Values,
    /// It is open, and has been told that it is subscribed if it is to wait for that.
    pub ready: bool,
    /// When it began to connect.
    pub begun: Time,
    /// Who speaks on it.
    pub peer: Peer,
    /// What is to be written; the first `written` bytes of it are.
    pub out: Vec<u8>,
    written: usize,
    /// The socket did not take all of it.
    blocked: bool,
    /// Is in the worker's list of connections to flush.
    pub dirty: bool,
    /// Messages that it is to send for those that arrived, before that.
    pub owed: usize,
    connected: bool,
    stream: TcpStream,
    tls: Option<Box<ClientStream>>,
}

/// Who speaks on a connection.
#[derive(Debug)]
pub enum Peer {
    /// A WebSocket client.
    WebSocket(Client),
    /// A back end that publishes over HTTP.
    Publisher(Box<Publisher>),
}

impl Peer {
    /// WebSocket messages may be sent.
    pub fn is_open(&self) -> bool {
        matches!(self, Self::WebSocket(client) if client.is_open())
    }

    /// It has asked the server to end the connection.
    pub fn is_closing(&self) -> bool {
        matches!(self, Self::WebSocket(client) if client.is_closing())
    }

    /// Both sides have said that they end it; HTTP needs no words for that.
    pub fn is_closed(&self) -> bool {
        match self {
            Self::WebSocket(client) => client.is_closed(),
            Self::Publisher(_) => true,
        }
    }
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
    /// Begins to connect. `receive_buffer`: bytes that the kernel is to take at most; `out` holds the client's request; `tls` is a new stream.
    pub fn connect(
        begun: Time,
        address: SocketAddr,
        source: Option<IpAddr>,
        receive_buffer: Option<usize>,
        peer: Peer,
        out: Vec<u8>,
        tls: Option<ClientStream>,
    ) -> Result<Self, Failure> {
        let stream = open_socket(address, source, receive_buffer).map_err(Failure::connect)?;
        Ok(Self {
            member: 0,
            publishes: false,
            values: Values::default(),
            ready: false,
            begun,
            peer,
            out,
            written: 0,
            blocked: false,
            dirty: false,
            owed: 0,
            connected: false,
            stream,
            tls: tls.map(Box::new),
        })
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
            return match recv(&self.stream, &mut *buffer, RecvFlags::empty()) {
                Ok((_, 0)) => Ok(Received::End),
                Ok((len, _)) => Ok(Received::Bytes(len)),
                Err(Errno::AGAIN) => Ok(Received::Nothing),
                Err(Errno::INTR) => continue,
                Err(error) => Err(Failure::ConnectionLost(error.into())),
            };
        }
    }

    /// What received bytes say: themselves, or with TLS what they decrypt to.
    pub fn read<'a>(
        &mut self,
        received: &'a mut [u8],
        plaintext: &'a mut Vec<u8>,
        pool: &mut BufferPool,
    ) -> Result<&'a mut [u8], Failure> {
        let Some(tls) = &mut self.tls else { return Ok(received) };
        plaintext.clear();
        let result = tls.receive(received, plaintext, pool);
        if result.is_err() {
            // The server learns why, if it takes it.
            let _ = self.flush_ciphertext(pool);
        }
        result?;
        Ok(plaintext)
    }

    /// Bytes that wait to be written.
    pub fn unsent_bytes(&self) -> usize {
        self.out.len() - self.written + self.tls.as_ref().map_or(0, |tls| tls.unsent().len())
    }

    /// The socket is full: what is queued now waits.
    pub fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Writes what the socket takes. What is left goes when it is writable again.
    pub fn flush(&mut self, pool: &mut BufferPool) -> Result<(), Failure> {
        let written = if self.tls.is_some() { self.flush_encrypted(pool) } else { self.flush_plain() };
        self.blocked = self.unsent_bytes() > 0;
        written
    }

    fn flush_plain(&mut self) -> Result<(), Failure> {
        while self.written < self.out.len() {
            match write(&self.stream, &self.out[self.written..]) {
                Ok(len) => self.written += len,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    if self.written >= self.out.len() / 2 {
                        self.out.drain(..self.written);
                        self.written = 0;
                    }
                    return Ok(());
                }
                Err(error) => return Err(Failure::ConnectionLost(error.into())),
            }
        }
        self.out.clear();
        self.written = 0;
        Ok(())
    }

    /// Encrypts a record when the one before it has left.
    fn flush_encrypted(&mut self, pool: &mut BufferPool) -> Result<(), Failure> {
        while self.flush_ciphertext(pool)? {
            let Some(tls) = self.tls.as_mut().filter(|tls| tls.can_encrypt()) else { return Ok(()) };
            if self.written == self.out.len() {
                self.out.clear();
                self.written = 0;
                return Ok(());
            }
            let end = self.out.len().min(self.written + RECORD_PLAINTEXT_BYTES_MAX);
            let encrypted = tls.encrypt(&self.out[self.written..end], pool);
            encrypted.map_err(|error| Failure::ConnectionLost(io::Error::other(error)))?;
            self.written = end;
        }
        Ok(())
    }

    /// Writes what is encrypted; whether the socket took all of it.
    fn flush_ciphertext(&mut self, pool: &mut BufferPool) -> Result<bool, Failure> {
        let Self { tls: Some(tls), stream, .. } = self else { return Ok(true) };
        while !tls.unsent().is_empty() {
            match write(stream, tls.unsent()) {
                Ok(len) => tls.sent(len, pool),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(false),
                Err(error) => return Err(Failure::ConnectionLost(error.into())),
            }
        }
        Ok(true)
    }

    /// Gives buffers back; the connection is over.
    pub fn release(&mut self, pool: &mut BufferPool) {
        if let Some(tls) = &mut self.tls {
            tls.release(pool);
        }
    }
}

/// One call of the system, without the C library's own, which lets other threads cancel it
/// and costs as much as half a message.
fn write(stream: &TcpStream, bytes: &[u8]) -> rustix::io::Result<usize> {
    send(stream, bytes, SendFlags::NOSIGNAL)
}

fn open_socket(address: SocketAddr, source: Option<IpAddr>, receive_buffer: Option<usize>) -> io::Result<TcpStream> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    if let Some(bytes) = receive_buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(source) = source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => Err(error),
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}
