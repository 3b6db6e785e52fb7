//! One socket and its client: reading and writing, with TLS or without.
//!
//! Owner: `worker`. Never blocks.

use std::io;

use wsgate::buffer::BufferPool;
use wsgate::time::Time;
use wsgate::tls::{ClientStream, RECORD_PLAINTEXT_BYTES_MAX};

use crate::client::Client;
use crate::failure::Failure;
use crate::publisher::Publisher;
use crate::sockets::{Received, Socket, Sockets};
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
    socket: Socket,
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

impl Connection {
    /// On a socket that connects; `out` holds the client's request, `tls` is a new stream.
    pub fn new(begun: Time, socket: Socket, peer: Peer, out: Vec<u8>, tls: Option<ClientStream>) -> Self {
        Self {
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
            socket,
            tls: tls.map(Box::new),
        }
    }

    /// The TCP connection stands.
    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// The socket became writable, or failed: whether the TCP connection stands.
    pub fn check_connected(&mut self, sockets: &mut dyn Sockets) -> Result<bool, Failure> {
        if !self.connected && self.socket.check_connected().map_err(Failure::connect)? {
            self.connected = true;
            sockets.connected(&mut self.socket);
        }
        Ok(self.connected)
    }

    /// Reads what has come.
    pub fn receive<'s>(&self, sockets: &'s mut dyn Sockets) -> Result<Received<'s>, Failure> {
        sockets.receive(&self.socket).map_err(Failure::ConnectionLost)
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
        tls.receive(received, plaintext, pool)?;
        Ok(plaintext)
    }

    /// Bytes that wait to be written.
    pub fn unsent_bytes(&self) -> usize {
        self.out.len() - self.written + self.tls.as_ref().map_or(0, |tls| tls.unsent().len())
    }

    /// The socket is full: what is queued now waits.
    pub fn is_blocked(&self, sockets: &dyn Sockets) -> bool {
        self.blocked || sockets.holds_back(&self.socket)
    }

    /// Writes what the socket takes. What is left goes when it is writable again.
    pub fn flush(&mut self, sockets: &mut dyn Sockets, pool: &mut BufferPool) -> Result<(), Failure> {
        let written = if self.tls.is_some() { self.flush_encrypted(sockets, pool) } else { self.flush_plain(sockets) };
        self.blocked = self.unsent_bytes() > 0;
        written.map_err(Failure::ConnectionLost)
    }

    fn flush_plain(&mut self, sockets: &mut dyn Sockets) -> io::Result<()> {
        while self.written < self.out.len() {
            match sockets.send(&self.socket, &self.out[self.written..])? {
                0 => {
                    if self.written >= self.out.len() / 2 {
                        self.out.drain(..self.written);
                        self.written = 0;
                    }
                    return Ok(());
                }
                len => self.written += len,
            }
        }
        self.out.clear();
        self.written = 0;
        Ok(())
    }

    /// Encrypts a record when the one before it has left.
    fn flush_encrypted(&mut self, sockets: &mut dyn Sockets, pool: &mut BufferPool) -> io::Result<()> {
        while self.flush_ciphertext(sockets, pool)? {
            let Some(tls) = self.tls.as_mut().filter(|tls| tls.can_encrypt()) else { return Ok(()) };
            if self.written == self.out.len() {
                self.out.clear();
                self.written = 0;
                return Ok(());
            }
            let end = self.out.len().min(self.written + RECORD_PLAINTEXT_BYTES_MAX);
            tls.encrypt(&self.out[self.written..end], pool).map_err(io::Error::other)?;
            self.written = end;
        }
        Ok(())
    }

    /// Writes what is encrypted; whether the socket took all of it.
    pub fn flush_ciphertext(&mut self, sockets: &mut dyn Sockets, pool: &mut BufferPool) -> io::Result<bool> {
        let Some(tls) = &mut self.tls else { return Ok(true) };
        while !tls.unsent().is_empty() {
            match sockets.send(&self.socket, tls.unsent())? {
                0 => return Ok(false),
                len => tls.sent(len, pool),
            }
        }
        Ok(true)
    }

    /// The connection is over: its socket is closed, and buffers are given back.
    pub fn end(self, sockets: &mut dyn Sockets, pool: &mut BufferPool) -> (Peer, Vec<u8>) {
        if let Some(mut tls) = self.tls {
            tls.release(pool);
        }
        sockets.close(self.socket);
        (self.peer, self.out)
    }
}
