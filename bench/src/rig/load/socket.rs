//! One connection of the load: repeats a frame, counts what comes.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net;
use std::rc::Rc;

use mio::net::TcpStream;
use mio::{Interest, Poll, Token};

use crate::rig::secure::{SecureStream, Tls};

/// The frame that all connections repeat, many times in a row so that one call sends many.
#[derive(Clone, Debug)]
pub(crate) struct Frames {
    bytes: Rc<[u8]>,
    frame_bytes: usize,
}

impl Frames {
    pub(crate) fn new(frame: &[u8], count: usize) -> Self {
        Self { bytes: frame.repeat(count).into(), frame_bytes: frame.len() }
    }
}

/// A connection that is registered for reading and writing, edge-triggered.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: TcpStream,
    tls: Option<Box<Tls>>,
    frames: Frames,
    /// Bytes of the current frame that are sent.
    position: usize,
    /// Bytes that are to be sent as soon as the socket takes them.
    unsent: usize,
}

impl Socket {
    pub(crate) fn register(poll: &Poll, stream: net::TcpStream, token: Token, frames: Frames) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        poll.registry().register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self { stream, tls: None, frames, position: 0, unsent: 0 })
    }

    /// The same for one that speaks TLS and only reads.
    pub(crate) fn register_secure(poll: &Poll, stream: SecureStream, token: Token) -> io::Result<Self> {
        let tls = Some(Box::new(stream.tls));
        Ok(Self { tls, ..Self::register(poll, stream.stream, token, Frames::new(&[], 0))? })
    }

    /// Sends the frame some times.
    pub(crate) fn send(&mut self, count: usize) -> io::Result<()> {
        let blocked = self.unsent > 0;
        self.unsent += count * self.frames.frame_bytes;
        if blocked { Ok(()) } else { self.flush() }
    }

    /// Sends what is left to send, as far as the socket takes it.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        while self.unsent > 0 {
            let end = self.frames.bytes.len().min(self.position + self.unsent);
            match self.stream.write(&self.frames.bytes[self.position..end]) {
                Ok(sent) => {
                    self.unsent -= sent;
                    self.position = (self.position + sent) % self.frames.frame_bytes;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads once, or not at all if there is nothing. A read that does not fill the
    /// buffer has emptied the socket.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.stream.read(buffer) {
            Ok(n @ 1..) if self.tls.is_some() => {
                if n == buffer.len() {
                    return Err(io::Error::other("more came at once than a load over TLS has under way"));
                }
                self.tls.as_mut().map_or(Ok(n), |tls| tls.decrypt(buffer, n))
            }
            Ok(0) => Err(io::Error::new(ErrorKind::UnexpectedEof, "the server ended a connection")),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
            other => other,
        }
    }
}

/// Counts messages of one known frame in a stream, and checks the first.
#[derive(Clone, Debug)]
pub(crate) struct Counter {
    frame: Rc<[u8]>,
    /// Bytes of a message that is not complete.
    partial: usize,
    /// Bytes of the first message that agreed.
    checked: usize,
}

impl Counter {
    pub(crate) fn new(frame: &[u8]) -> Self {
        Self { frame: frame.into(), partial: 0, checked: 0 }
    }

    /// How many messages `bytes` complete.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.checked < self.frame.len() {
            self.check(bytes)?;
        }
        let total = self.partial + bytes.len();
        self.partial = total % self.frame.len();
        Ok(total / self.frame.len())
    }

    fn check(&mut self, bytes: &[u8]) -> io::Result<()> {
        let expected = &self.frame[self.checked..];
        let len = expected.len().min(bytes.len());
        if bytes[..len] != expected[..len] {
            let start = &bytes[..len.min(32)];
            return Err(io::Error::other(format!("the server sent another frame than expected: {start:02x?}...")));
        }
        self.checked += len;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_however_they_are_cut() {
        let stream: Vec<u8> = b"frame".repeat(20);
        for piece in 1..=stream.len() {
            let mut counter = Counter::new(b"frame");
            let counted: usize = stream.chunks(piece).map(|bytes| counter.take(bytes).unwrap()).sum();
            assert_eq!((counted, counter.partial), (20, 0), "pieces of {piece}");
        }
    }

    #[test]
    fn a_first_frame_that_differs_is_an_error() {
        let mut counter = Counter::new(b"frame");
        assert_eq!(counter.take(b"fra").unwrap(), 0);
        assert!(counter.take(b"mE").is_err());
    }
}
