//! The event loop of one shard, by readiness: mio, edge-triggered.
//!
//! Owner: the shard's thread. Reads sockets into one buffer that all connections
//! share, hands the bytes to the shard, and flushes what it has to say once at
//! the end of each turn. Interest in writing is asked for only after a socket took
//! less than it was given.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::Shutdown;
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use super::event_loop::{EventLoop, LoopCore};
use super::listener::Stream;
use super::readable::ReadableList;
use super::receive_buffer::ReceiveBuffer;
use super::slice::Slice;
use crate::connection::Output;
use crate::id::ConnectionId;
use crate::limits::EVENTS_PER_TURN_MAX;
use crate::time::Time;

/// The mailbox's token. No connection has it, and no listener.
const POST: Token = Token(usize::MAX);

/// Serves a shard by epoll until it has drained, if it `may_run` once all is made. Belongs on
/// the thread that the shard has. Errors are those of the selector itself.
pub fn run(core: LoopCore, may_run: impl FnOnce() -> bool) -> io::Result<()> {
    let event_loop = EpollLoop::new(core)?;
    if may_run() { event_loop.run() } else { Ok(()) }
}

/// One shard with its sockets.
struct EpollLoop {
    core: LoopCore,
    poll: Poll,
    events: Events,
    /// By connection slot.
    sockets: Vec<Option<Socket>>,
    /// Connections with bytes in the kernel that the last turn left there, and those
    /// whose reading goes on.
    readable: ReadableList<ConnectionId>,
    receive_buffer: ReceiveBuffer,
}

struct Socket {
    id: ConnectionId,
    stream: Stream,
    /// The kernel has reported that the peer ended its direction: read until the end
    /// is seen, since no further edge will come.
    peer_ended: bool,
    /// In the `readable` list.
    listed: bool,
    /// Its handshake is not complete.
    is_newcomer: bool,
    /// Asked the kernel to say when it takes bytes.
    writable_wanted: bool,
    /// The last turn in which it was sent to.
    sent_in: u32,
}

impl EventLoop for EpollLoop {
    fn core(&mut self) -> &mut LoopCore {
        &mut self.core
    }

    fn poll(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        events.iter().for_each(|event| self.take_event(event));
        self.events = events;
        Ok(())
    }

    fn has_input(&self) -> bool {
        !self.readable.is_empty()
    }

    fn resume_reading(&mut self, id: ConnectionId) {
        list_readable(&mut self.readable, &mut self.sockets, id);
    }

    fn adopt(&mut self, id: ConnectionId, stream: Stream) {
        if self.register(stream.as_raw_fd(), Token(id.to_token())).is_err() {
            self.core.shard.transport_failed(id);
        }
        let slot = id.slot as usize;
        if slot >= self.sockets.len() {
            self.sockets.resize_with(slot + 1, || None);
        }
        let socket = Socket {
            id,
            stream,
            peer_ended: false,
            listed: false,
            is_newcomer: true,
            writable_wanted: false,
            sent_in: self.core.turn,
        };
        self.sockets[slot] = Some(socket);
        self.core.shard.stats().sockets.add(1);
    }

    /// A slice of what is to be read, one buffer full for each; the rest stays on the list,
    /// before what comes meanwhile.
    fn read(&mut self, now: Time) {
        let mut slice = Slice::of_reads(self.core.clock, now, self.core.haste());
        for _ in 0..self.readable.len() {
            let Some(id) = self.readable.pop() else { break };
            let Some(socket) = socket_mut(&mut self.sockets, id) else { continue };
            socket.listed = false;
            if slice.is_over_after(self.read_one(id, now)) {
                break;
            }
        }
    }

    fn flush_one(&mut self, id: ConnectionId) {
        let Some(socket) = socket_mut(&mut self.sockets, id) else { return };
        loop {
            let (result, offered) = match self.core.shard.output(id) {
                Output::Idle => break,
                Output::Send(bytes) => (socket.stream.write(bytes), bytes.len()),
                Output::SendSegments((slices, count)) => {
                    let slices = &slices[..count];
                    (socket.stream.write_vectored(slices), slices.iter().map(|slice| slice.len()).sum())
                }
                Output::EndWriting => {
                    match socket.stream.shutdown(Shutdown::Write) {
                        Ok(()) => self.core.shard.ended_writing(id),
                        Err(_) => self.core.shard.transport_failed(id),
                    }
                    continue;
                }
                Output::Close { abort } => return self.close(id, abort),
            };
            self.core.count_send(&mut socket.sent_in);
            match result {
                Ok(n) => {
                    self.core.shard.sent(id, n);
                    if n < offered {
                        self.core.shard.stats().sends_short.add(1);
                        return self.wait_writable(id);
                    }
                }
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock => return self.wait_writable(id),
                    _ => self.core.fail(id, &error),
                },
            }
        }
        if socket.writable_wanted {
            socket.writable_wanted = false;
            let token = Token(id.to_token());
            if self
                .poll
                .registry()
                .reregister(&mut SourceFd(&socket.stream.as_raw_fd()), token, Interest::READABLE)
                .is_err()
            {
                self.core.shard.transport_failed(id);
            }
        }
    }

    fn close_listeners(&mut self) {
        self.core.close_listeners(self.poll.registry());
    }

    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl EpollLoop {
    fn new(core: LoopCore) -> io::Result<Self> {
        let event_loop = Self {
            core,
            poll: Poll::new()?,
            events: Events::with_capacity(EVENTS_PER_TURN_MAX),
            sockets: Vec::new(),
            readable: ReadableList::default(),
            receive_buffer: ReceiveBuffer::new(),
        };
        let core = &event_loop.core;
        let bell = core.post.descriptor().ok_or_else(|| io::Error::other("a shard's mailbox has a descriptor"))?;
        event_loop.register(bell.as_raw_fd(), POST)?;
        core.acceptor.register(event_loop.poll.registry())?;
        Ok(event_loop)
    }

    fn register(&self, descriptor: RawFd, token: Token) -> io::Result<()> {
        self.poll.registry().register(&mut SourceFd(&descriptor), token, Interest::READABLE)
    }

    fn take_event(&mut self, event: &Event) {
        match event.token() {
            POST => self.core.post.reset(),
            token if self.core.acceptor.take_event(token) => {}
            Token(token) => {
                let id = ConnectionId::from_token(token);
                let Some(socket) = socket_mut(&mut self.sockets, id) else { return };
                socket.peer_ended |= event.is_read_closed();
                if event.is_writable() && socket.writable_wanted {
                    self.core.shard.writable(id);
                }
                if event.is_readable() || event.is_read_closed() || event.is_error() {
                    list_readable(&mut self.readable, &mut self.sockets, id);
                }
            }
        }
    }

    /// Reads one buffer full at most; what may be left is on the list. Returns how much.
    fn read_one(&mut self, id: ConnectionId, now: Time) -> usize {
        let Some(socket) = socket_mut(&mut self.sockets, id) else { return 0 };
        if socket.listed || !self.core.shard.wants_read(id) {
            return 0;
        }
        match socket.stream.read(&mut self.receive_buffer) {
            Ok(0) => self.core.shard.peer_ended(id, now),
            Ok(n) => {
                // After a short read the kernel has no more, and the next byte makes a new edge.
                let more = n == self.receive_buffer.len() || socket.peer_ended;
                let replies = self.core.shard.receive(id, &mut self.receive_buffer[..n], now);
                socket.is_newcomer = socket.is_newcomer && self.core.shard.is_newcomer(id);
                self.reply(id, replies);
                if more {
                    list_readable(&mut self.readable, &mut self.sockets, id);
                }
                return n;
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock => {}
                ErrorKind::Interrupted => list_readable(&mut self.readable, &mut self.sockets, id),
                _ => self.core.fail(id, &error),
            },
        }
        0
    }

    /// Sends replies that lie in the receive buffer, which the next read overwrites.
    fn reply(&mut self, id: ConnectionId, replies: Range<usize>) {
        let Some(socket) = socket_mut(&mut self.sockets, id) else { return };
        let mut rest = &self.receive_buffer[replies];
        while !rest.is_empty() {
            let result = socket.stream.write(rest);
            self.core.count_send(&mut socket.sent_in);
            match result {
                Ok(n) => {
                    self.core.shard.replied(n);
                    rest = &rest[n..];
                    if rest.is_empty() {
                        return;
                    }
                    self.core.shard.stats().sends_short.add(1);
                }
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => continue,
                    ErrorKind::WouldBlock => {}
                    _ => return self.core.fail(id, &error),
                },
            }
            // Blocked first, so that it is not flushed in vain.
            self.core.shard.blocked(id);
            self.core.shard.keep_replies(id, rest);
            return self.wait_writable(id);
        }
    }

    fn wait_writable(&mut self, id: ConnectionId) {
        let Some(socket) = socket_mut(&mut self.sockets, id) else { return };
        self.core.shard.blocked(id);
        if !socket.writable_wanted {
            socket.writable_wanted = true;
            let (token, interest) = (Token(id.to_token()), Interest::READABLE | Interest::WRITABLE);
            // Modifying the registration reports what is ready at that moment, so an edge
            // that came since the short write is not lost.
            if self.poll.registry().reregister(&mut SourceFd(&socket.stream.as_raw_fd()), token, interest).is_err() {
                self.core.shard.transport_failed(id);
            }
        }
    }

    fn close(&mut self, id: ConnectionId, abort: bool) {
        if let Some(socket) = self.sockets.get_mut(id.slot as usize).and_then(Option::take) {
            if abort {
                // A reset instead of an end that the peer would have to acknowledge. If the
                // option cannot be set, closing does it the slow way.
                let _ = socket.stream.set_linger(Some(Duration::ZERO));
            }
            drop(socket);
            self.core.shard.stats().sockets.sub(1);
        }
        self.core.shard.remove(id);
        self.core.acceptor.resume();
    }
}

fn socket_mut(sockets: &mut [Option<Socket>], id: ConnectionId) -> Option<&mut Socket> {
    sockets.get_mut(id.slot as usize)?.as_mut().filter(|socket| socket.id == id)
}

fn list_readable(readable: &mut ReadableList<ConnectionId>, sockets: &mut [Option<Socket>], id: ConnectionId) {
    if let Some(socket) = socket_mut(sockets, id)
        && !socket.listed
    {
        socket.listed = true;
        readable.push(id, socket.is_newcomer);
    }
}

#[cfg(test)]
mod tests;
