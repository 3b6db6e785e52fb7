//! The floor: a server that does the least that echo and fan-out take.
//!
//! It parses nothing: an echo returns the bytes that came (mask and all), a fan-out
//! counts the publisher's bytes and sends bytes that were made beforehand, one send
//! for each subscriber and read. What a real server takes more than this is framing,
//! routing and bookkeeping; no server on readiness and sockets takes less.
//!
//! It speaks just enough HTTP for the load to open connections as it does elsewhere.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use wsgate::driver::machine;
use wsgate::proto::frame::{OpCode, SERVER_HEADER_BYTES_MAX, append_server};

use crate::secure_floor::SecureFloor;

/// Messages that leave in one send at most.
pub(crate) const MESSAGES_PER_SEND_MAX: usize = 64;
/// Holds the longest frame of any row whole.
const READ_BUFFER_BYTES: usize = 128 * 1024;
const PAGE_BYTES: usize = 4096;
const EVENTS_PER_TURN_MAX: usize = 1024;
const LISTENER: Token = Token(usize::MAX);
pub(crate) const SWITCHING: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

/// Lengths of the frames of a fan-out.
#[derive(Args)]
pub(crate) struct Options {
    /// Bytes of a frame as the publisher sends it
    #[arg(long)]
    frame_in: usize,
    /// Bytes of a frame as subscribers get it
    #[arg(long)]
    frame_out: usize,
    /// File with a certificate: subscribers speak TLS
    #[arg(long, requires = "key")]
    certificate: Option<PathBuf>,
    /// File with its key
    #[arg(long)]
    key: Option<PathBuf>,
}

/// Serves until it is killed.
pub(crate) fn serve(options: &Options) -> io::Result<()> {
    machine::raise_descriptor_limit();
    if let (Some(certificate), Some(key)) = (&options.certificate, &options.key) {
        let floor = SecureFloor::bind(options.frame_in, options.frame_out, certificate, key)?;
        println!("ready clients={}", floor.address()?);
        return floor.run();
    }
    let floor = Floor::bind(options.frame_in, options.frame_out)?;
    println!("ready clients={}", floor.address()?);
    floor.run()
}

/// As many frames as leave in one send, with headers that a client understands.
pub(crate) fn server_frames(frame_out: usize) -> Vec<u8> {
    let frame = (2..=SERVER_HEADER_BYTES_MAX).filter_map(|header| frame_out.checked_sub(header)).find_map(|bytes| {
        let mut frame = Vec::new();
        append_server(&mut frame, OpCode::Binary, &vec![b'a'; bytes]);
        (frame.len() == frame_out).then_some(frame)
    });
    frame.unwrap_or_else(|| panic!("no frame is {frame_out} bytes long")).repeat(MESSAGES_PER_SEND_MAX)
}

/// The server.
pub(crate) struct Floor {
    poll: Poll,
    listener: TcpListener,
    connections: Vec<Option<Connection>>,
    subscribers: Vec<usize>,
    frame_in: usize,
    /// Bytes of a publisher's frame that is not complete.
    unparsed: usize,
    frames: Vec<u8>,
    frame_out: usize,
    buffer: Vec<u8>,
}

struct Connection {
    stream: TcpStream,
    does: Does,
    /// What the socket did not take.
    unsent: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Does {
    /// Has not sent its request.
    Nothing,
    Echo,
    Subscribe,
    Publish,
}

impl Does {
    /// From the request; `None` if it is none, or none of ours.
    fn from_request(request: &[u8]) -> Option<Self> {
        let line = request.strip_prefix(b"GET ")?;
        let path = &line[..line.iter().position(|&byte| byte == b' ')?];
        match path {
            b"/echo" => Some(Self::Echo),
            path if !path.starts_with(b"/topics/") => None,
            path if path.ends_with(b"?subscribe=off") => Some(Self::Publish),
            _ => Some(Self::Subscribe),
        }
    }
}

impl Floor {
    /// Listens on a free port of the loopback address.
    pub(crate) fn bind(frame_in: usize, frame_out: usize) -> io::Result<Self> {
        let mut listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Self {
            poll,
            listener,
            connections: Vec::new(),
            subscribers: Vec::new(),
            frame_in,
            unparsed: 0,
            frames: server_frames(frame_out),
            frame_out,
            buffer: vec![0; READ_BUFFER_BYTES + PAGE_BYTES],
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
                    Token(index) => self.take_event(index, event.is_writable()),
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
                    self.connections.push(Some(Connection { stream, does: Does::Nothing, unsent: Vec::new() }));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn take_event(&mut self, index: usize, writable: bool) {
        if self.serve_one(index, writable).is_err() {
            self.connections[index] = None;
        }
    }

    /// Reads until the kernel has no more. An error means that the connection is over.
    fn serve_one(&mut self, index: usize, writable: bool) -> io::Result<()> {
        loop {
            let Some(connection) = &mut self.connections[index] else { return Ok(()) };
            if writable {
                connection.flush()?;
            }
            // Who does not read what it is sent is not read from.
            if !connection.unsent.is_empty() {
                return Ok(());
            }
            // From a page on, where the kernel copies fastest.
            let start = self.buffer.as_ptr().align_offset(PAGE_BYTES).min(PAGE_BYTES);
            let buffer = &mut self.buffer[start..][..READ_BUFFER_BYTES];
            let n = match connection.stream.read(buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            match connection.does {
                Does::Echo => connection.send(&buffer[..n])?,
                Does::Publish => self.publish(n),
                Does::Subscribe => {}
                Does::Nothing => {
                    connection.does = Does::from_request(&buffer[..n]).ok_or(ErrorKind::InvalidData)?;
                    connection.send(SWITCHING)?;
                    if connection.does == Does::Subscribe {
                        self.subscribers.push(index);
                    }
                }
            }
            if n < READ_BUFFER_BYTES {
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
                if connection.send(&self.frames[..batch * self.frame_out]).is_err() {
                    self.connections[index] = None;
                }
            }
        }
    }
}

impl Connection {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let sent = if self.unsent.is_empty() { write(&mut self.stream, bytes)? } else { 0 };
        self.unsent.extend_from_slice(&bytes[sent..]);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.unsent.is_empty() {
            let sent = write(&mut self.stream, &self.unsent)?;
            self.unsent.drain(..sent);
        }
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
