//! The floor under TLS: rustls and a send loop, and nothing else.
//!
//! A fan-out encrypts bytes that were made beforehand for each subscriber, with the
//! unbuffered interface of rustls, and sends them; an idle connection is rustls' state
//! in a table. Publishers do not speak TLS: their first byte says so.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};

use crate::floor::{MESSAGES_PER_SEND_MAX, SWITCHING, server_frames};

const READ_BUFFER_BYTES: usize = 128 * 1024;
const EVENTS_PER_TURN_MAX: usize = 1024;
const LISTENER: Token = Token(usize::MAX);
/// First byte of a TLS handshake record.
const HANDSHAKE: u8 = 0x16;
/// What encryption adds, and any message of rustls' own in a handshake.
const ROOM_BYTES: usize = 4096;

/// The server.
pub(crate) struct SecureFloor {
    poll: Poll,
    listener: TcpListener,
    config: Arc<ServerConfig>,
    connections: Vec<Option<Connection>>,
    subscribers: Vec<usize>,
    frame_in: usize,
    unparsed: usize,
    frames: Vec<u8>,
    frame_out: usize,
    buffer: Vec<u8>,
    out: Vec<u8>,
}

struct Connection {
    stream: TcpStream,
    /// Nothing for a publisher.
    tls: Option<Box<UnbufferedServerConnection>>,
    /// Ciphertext that is not whole.
    held: Vec<u8>,
    /// What the socket did not take.
    unsent: Vec<u8>,
    open: bool,
}

impl SecureFloor {
    /// Listens on a free port of the loopback address.
    pub(crate) fn bind(frame_in: usize, frame_out: usize, certificate: &Path, key: &Path) -> io::Result<Self> {
        let mut listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let chain = vec![CertificateDer::from_pem_file(certificate).map_err(io::Error::other)?];
        let key = PrivateKeyDer::from_pem_file(key).map_err(io::Error::other)?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .map_err(io::Error::other)?;
        // As wsgate: one ticket for each, and no sessions kept.
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.ticketer = ring::Ticketer::new().map_err(io::Error::other)?;
        config.send_tls13_tickets = 1;
        Ok(Self {
            poll,
            listener,
            config: Arc::new(config),
            connections: Vec::new(),
            subscribers: Vec::new(),
            frame_in,
            unparsed: 0,
            frames: server_frames(frame_out),
            frame_out,
            buffer: vec![0; READ_BUFFER_BYTES],
            out: vec![0; MESSAGES_PER_SEND_MAX * frame_out + ROOM_BYTES],
        })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves for ever.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_PER_TURN_MAX);
        loop {
            self.poll.poll(&mut events, None)?;
            for event in &events {
                match event.token() {
                    LISTENER => self.accept()?,
                    Token(index) => {
                        if self.serve_one(index, event.is_writable()).is_err() {
                            self.connections[index] = None;
                        }
                    }
                }
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            match self.listener.accept() {
                Ok((mut stream, _)) => {
                    stream.set_nodelay(true)?;
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    self.poll.registry().register(&mut stream, Token(self.connections.len()), interest)?;
                    let (held, unsent) = (Vec::new(), Vec::new());
                    self.connections.push(Some(Connection { stream, tls: None, held, unsent, open: false }));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn serve_one(&mut self, index: usize, writable: bool) -> io::Result<()> {
        let Some(connection) = &mut self.connections[index] else { return Ok(()) };
        if writable && !connection.unsent.is_empty() {
            let sent = write(&mut connection.stream, &connection.unsent)?;
            connection.unsent.drain(..sent);
        }
        loop {
            let Some(connection) = &mut self.connections[index] else { return Ok(()) };
            let n = match connection.stream.read(&mut self.buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let received = &mut self.buffer[..n];
            if !connection.open && connection.tls.is_none() {
                if received[0] == HANDSHAKE {
                    let tls = UnbufferedServerConnection::new(self.config.clone()).map_err(io::Error::other)?;
                    connection.tls = Some(Box::new(tls));
                } else {
                    connection.open = true;
                    connection.send(SWITCHING)?;
                    continue;
                }
            }
            if connection.tls.is_none() {
                self.publish(n);
            } else if connection.receive(received, &mut self.out)? {
                self.subscribers.push(index);
            }
            if n < self.buffer.len() {
                return Ok(());
            }
        }
    }

    fn publish(&mut self, bytes: usize) {
        let bytes = self.unparsed + bytes;
        self.unparsed = bytes % self.frame_in;
        let mut messages = bytes / self.frame_in;
        while messages > 0 {
            let batch = messages.min(MESSAGES_PER_SEND_MAX);
            messages -= batch;
            for &index in &self.subscribers {
                let Some(connection) = &mut self.connections[index] else { continue };
                if connection.send_encrypted(&self.frames[..batch * self.frame_out], &mut self.out).is_err() {
                    self.connections[index] = None;
                }
            }
        }
    }
}

impl Connection {
    /// Handshake, and the request; whether it came just now.
    fn receive(&mut self, received: &[u8], out: &mut [u8]) -> io::Result<bool> {
        self.held.extend_from_slice(received);
        let mut held = std::mem::take(&mut self.held);
        let mut requested = false;
        loop {
            let Some(tls) = &mut self.tls else { return Ok(false) };
            let UnbufferedStatus { mut discard, state, .. } = tls.process_tls_records(&mut held);
            let mut waits = false;
            match state.map_err(io::Error::other)? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        discard += record.map_err(io::Error::other)?.discard;
                        requested = true;
                    }
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    let n = data.encode(out).map_err(io::Error::other)?;
                    self.send(&out[..n])?;
                }
                ConnectionState::TransmitTlsData(data) => data.done(),
                _ => waits = true,
            }
            held.drain(..discard);
            if waits {
                break;
            }
        }
        // Nothing is allocated for what is empty.
        self.held = if held.is_empty() { Vec::new() } else { held };
        if requested && !self.open {
            self.open = true;
            self.send_encrypted(SWITCHING, out)?;
            return Ok(true);
        }
        Ok(false)
    }

    fn send_encrypted(&mut self, bytes: &[u8], out: &mut [u8]) -> io::Result<()> {
        let Some(tls) = &mut self.tls else { return Err(ErrorKind::NotConnected.into()) };
        let ConnectionState::WriteTraffic(mut traffic) =
            tls.process_tls_records(&mut []).state.map_err(io::Error::other)?
        else {
            return Err(ErrorKind::NotConnected.into());
        };
        let n = traffic.encrypt(bytes, out).map_err(io::Error::other)?;
        self.send(&out[..n])
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let sent = if self.unsent.is_empty() { write(&mut self.stream, bytes)? } else { 0 };
        self.unsent.extend_from_slice(&bytes[sent..]);
        Ok(())
    }
}

/// How many bytes the socket took, 0 if none now.
fn write(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    match stream.write(bytes) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        other => other,
    }
}
