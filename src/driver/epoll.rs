//! The event loop of one shard, by readiness: mio, edge-triggered.
//!
//! Owner: the shard's thread. Reads sockets into one buffer that all connections
//! share, hands the bytes to the [`Shard`], and flushes what it has to say once at
//! the end of each turn. Interest in writing is asked for only after a socket took
//! less than it was given.

mod accept;
mod drain;
mod readable;

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::Shutdown;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use super::clock::Clock;
use super::listener::{Listener, Stream};
use super::mailbox::Post;
use super::receive_buffer::ReceiveBuffer;
use super::slice::Slice;
use crate::command::Envelope;
use crate::connection::Output;
use crate::id::ConnectionId;
use crate::limits::{ENVELOPES_PER_TURN_MAX, EVENTS_PER_TURN_MAX, FLUSHES_PER_TURN_MAX, HASTE, PUBLISH_RETRY_MS};
use crate::shard::Shard;
use crate::stats::{Cell, ShardStats};
use crate::time::Time;
use accept::Acceptor;
use readable::ReadableList;

/// Tokens that are no connection's: generations come round to this one only after
/// 2³² tenants of a slot that no table has.
const POST: Token = Token(usize::MAX);
/// The others follow, downward.
const FIRST_LISTENER: Token = Token(usize::MAX - 1);

/// What the loop is told beside what the shard knows.
#[derive(Clone, Copy, Debug)]
pub struct LoopSettings {
    /// Bytes that wait for a mailbox or their flush, in the whole process, above which
    /// publishers pause.
    pub overflow_bytes_max: u64,
    /// From the first [`crate::command::Envelope::Drain`] until everything is closed by force.
    pub drain: Duration,
    /// Connections of the whole process.
    pub connections_max: u64,
    /// Bytes that may wait for all connections of the process together.
    pub queue_bytes_total_max: u64,
}

/// One shard with its sockets.
pub struct EventLoop {
    settings: LoopSettings,
    shard: Shard,
    clock: Clock,
    post: Post,
    poll: Poll,
    acceptor: Acceptor,
    /// By connection slot.
    sockets: Vec<Option<Socket>>,
    /// Connections with bytes in the kernel that the last turn left there, and those
    /// whose reading goes on.
    readable: ReadableList,
    /// Number of the turn, modulo 2³²: tells whether a socket was sent to in this one.
    turn: u32,
    receive_buffer: ReceiveBuffer,
    /// Set once draining began.
    drain_until: Option<Time>,
    /// What all shards count, to know the connections of the process.
    process: Arc<[Arc<ShardStats>]>,
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
    flushed_in: u32,
}

impl EventLoop {
    /// A loop for its part of each listening socket. Belongs on the thread that will run it.
    pub fn new(
        shard: Shard,
        listeners: Vec<Listener>,
        post: Post,
        clock: Clock,
        settings: LoopSettings,
        process: Arc<[Arc<ShardStats>]>,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let acceptor = Acceptor::new(listeners, poll.registry())?;
        let bell = post.descriptor().ok_or_else(|| io::Error::other("a shard's mailbox has a descriptor"))?;
        poll.registry().register(&mut SourceFd(&bell.as_raw_fd()), POST, Interest::READABLE)?;
        Ok(Self {
            settings,
            shard,
            clock,
            post,
            poll,
            acceptor,
            sockets: Vec::new(),
            readable: ReadableList::default(),
            turn: 0,
            receive_buffer: ReceiveBuffer::new(),
            drain_until: None,
            process,
        })
    }

    /// Turns until the shard has drained. Errors are those of the selector itself.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_PER_TURN_MAX);
        while !self.is_drained() {
            self.turn(&mut events)?;
        }
        // The last envelopes, so that nobody waits for an answer.
        self.carry_mail_out();
        Ok(())
    }

    /// One turn of the loop.
    fn turn(&mut self, events: &mut Events) -> io::Result<()> {
        // 1. Wait, unless something is left to do.
        self.wait(events)?;
        let now = self.clock.now();
        self.turn = self.turn.wrapping_add(1);
        // 2. What the kernel reports.
        for event in events.iter() {
            self.take_event(event);
        }
        // 3. New connections, as many as are fair.
        self.accept(now);
        // 4. What sockets have brought, one buffer full for each.
        self.read_listed(now);
        self.shard.receive_unread(now);
        // 5. What other threads say.
        self.take_mail(now);
        // 6. What is due.
        self.shard.handle_timeouts(now);
        self.tend_listeners(now);
        self.enforce_drain(now);
        self.enforce_queue_bound(now);
        // 7. One flush for each connection that has something to say.
        self.flush(now);
        // 8. One wake for each thread that was sent something.
        self.carry_mail_out();
        self.shard.end_turn(now, self.clock.now());
        Ok(())
    }

    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        self.shard.begin_turn();
        while let Some(id) = self.shard.next_resumed() {
            list_readable(&mut self.readable, &mut self.sockets, id);
        }
        let idle = self.readable.is_empty() && !self.shard.has_flushes() && !self.acceptor.is_ready();
        let timeout = if idle && self.post.prepare_sleep() { self.until_next_deadline() } else { Some(Duration::ZERO) };
        let polled = self.poll.poll(events, timeout);
        self.post.awake();
        match polled {
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                events.clear();
                Ok(())
            }
            other => other,
        }
    }

    /// Time until something is due without any event; `None` is for ever.
    fn until_next_deadline(&self) -> Option<Duration> {
        let retry = self.acceptor.retry_at();
        let now = self.clock.now();
        let publish = self.shard.has_paused_publishers().then(|| now + Duration::from_millis(PUBLISH_RETRY_MS));
        let deadlines = [self.shard.next_timeout(), retry, publish, self.next_drain_look(now)];
        deadlines.into_iter().flatten().min().map(|at| at.since(now))
    }

    fn take_event(&mut self, event: &Event) {
        match event.token() {
            POST => self.post.reset(),
            token if self.acceptor.take_event(token) => {}
            Token(token) => {
                let id = ConnectionId::from_token(token);
                let Some(socket) = socket_mut(&mut self.sockets, id) else { return };
                socket.peer_ended |= event.is_read_closed();
                if event.is_writable() && socket.writable_wanted {
                    self.shard.writable(id);
                }
                if event.is_readable() || event.is_read_closed() || event.is_error() {
                    list_readable(&mut self.readable, &mut self.sockets, id);
                }
            }
        }
    }

    /// What a turn takes in is divided by this: little while the last one has left flushes,
    /// so that what is there leaves before more comes.
    fn haste(&self) -> u64 {
        if self.shard.has_flushes() { HASTE } else { 1 }
    }

    /// A slice of what is to be read; the rest stays on the list, before what comes meanwhile.
    fn read_listed(&mut self, now: Time) {
        let mut slice = Slice::of_reads(self.clock, now, self.haste());
        for _ in 0..self.readable.len() {
            let Some(id) = self.readable.pop() else { break };
            let Some(socket) = socket_mut(&mut self.sockets, id) else { continue };
            socket.listed = false;
            if slice.is_over_after(self.read(id, now)) {
                break;
            }
        }
    }

    /// Reads one buffer full at most; what may be left is on the list. Returns how much.
    fn read(&mut self, id: ConnectionId, now: Time) -> usize {
        let Some(socket) = socket_mut(&mut self.sockets, id) else { return 0 };
        if socket.listed || !self.shard.wants_read(id) {
            return 0;
        }
        match socket.stream.read(&mut self.receive_buffer) {
            Ok(0) => self.shard.peer_ended(id, now),
            Ok(n) => {
                // After a short read the kernel has no more, and the next byte makes a new edge.
                let more = n == self.receive_buffer.len() || socket.peer_ended;
                let replies = self.shard.receive(id, &mut self.receive_buffer[..n], now);
                socket.is_newcomer = socket.is_newcomer && self.shard.is_newcomer(id);
                self.reply(id, replies);
                if more {
                    list_readable(&mut self.readable, &mut self.sockets, id);
                }
                return n;
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock => {}
                ErrorKind::Interrupted => list_readable(&mut self.readable, &mut self.sockets, id),
                _ => self.shard.transport_failed(id),
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
            self.shard.stats().sends.add(1);
            if std::mem::replace(&mut socket.flushed_in, self.turn) != self.turn {
                self.shard.stats().flushes.add(1);
            }
            match result {
                Ok(n) => {
                    self.shard.replied(n);
                    rest = &rest[n..];
                    if rest.is_empty() {
                        return;
                    }
                    self.shard.stats().sends_short.add(1);
                }
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => continue,
                    ErrorKind::WouldBlock => {}
                    _ => return self.shard.transport_failed(id),
                },
            }
            // Blocked first, so that it is not flushed in vain.
            self.shard.blocked(id);
            self.shard.keep_replies(id, rest);
            return self.wait_writable(id);
        }
    }

    fn take_mail(&mut self, now: Time) {
        for _ in 0..ENVELOPES_PER_TURN_MAX {
            let Some(envelope) = self.post.receive() else { break };
            if matches!(envelope, Envelope::Drain(_)) {
                self.begin_drain(now);
            }
            self.shard.open_envelope(envelope, now);
        }
    }

    /// A slice of what is to be flushed, bounded in number and in time.
    fn flush(&mut self, now: Time) {
        let mut slice = Slice::of_flushes(self.clock);
        for _ in 0..FLUSHES_PER_TURN_MAX {
            let Some(id) = self.shard.next_flush(now) else { break };
            self.flush_one(id);
            if slice.is_over_after(0) {
                break;
            }
        }
        // The loop may sleep now, and others go by this number meanwhile.
        self.count_queue_memory();
    }

    /// Does what the shard wants of a connection's transport until it is satisfied or
    /// the transport takes no more.
    fn flush_one(&mut self, id: ConnectionId) {
        let Some(socket) = socket_mut(&mut self.sockets, id) else { return };
        loop {
            let (result, offered) = match self.shard.output(id) {
                Output::Idle => break,
                Output::Send(bytes) => (socket.stream.write(bytes), bytes.len()),
                Output::SendSegments((slices, count)) => {
                    let slices = &slices[..count];
                    (socket.stream.write_vectored(slices), slices.iter().map(|slice| slice.len()).sum())
                }
                Output::EndWriting => {
                    match socket.stream.shutdown(Shutdown::Write) {
                        Ok(()) => self.shard.ended_writing(id),
                        Err(_) => self.shard.transport_failed(id),
                    }
                    continue;
                }
                Output::Close { abort } => return self.close(id, abort),
            };
            self.shard.stats().sends.add(1);
            if std::mem::replace(&mut socket.flushed_in, self.turn) != self.turn {
                self.shard.stats().flushes.add(1);
            }
            match result {
                Ok(n) => {
                    self.shard.sent(id, n);
                    if n < offered {
                        self.shard.stats().sends_short.add(1);
                        return self.wait_writable(id);
                    }
                }
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock => return self.wait_writable(id),
                    _ => self.shard.transport_failed(id),
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
                self.shard.transport_failed(id);
            }
        }
    }

    fn wait_writable(&mut self, id: ConnectionId) {
        let Some(socket) = socket_mut(&mut self.sockets, id) else { return };
        self.shard.blocked(id);
        if !socket.writable_wanted {
            socket.writable_wanted = true;
            let (token, interest) = (Token(id.to_token()), Interest::READABLE | Interest::WRITABLE);
            // Modifying the registration reports what is ready at that moment, so an edge
            // that came since the short write is not lost.
            if self.poll.registry().reregister(&mut SourceFd(&socket.stream.as_raw_fd()), token, interest).is_err() {
                self.shard.transport_failed(id);
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
        }
        self.shard.remove(id);
        self.acceptor.resume();
    }

    fn carry_mail_out(&mut self) {
        while let Some((to, envelope)) = self.shard.take_envelope() {
            self.shard.stats().envelopes_out.add(1);
            self.post.send(to, envelope);
        }
        let woken = self.post.announce();
        let stats = self.shard.stats();
        stats.wakes.add(woken);
        stats.overflow_bytes.set(self.post.overflow_bytes());
        let unflushed = self.shard.log_bytes() as u64;
        stats.log_bytes.set(unflushed);
        self.post.set_unflushed_bytes(unflushed);
        self.shard.pause_publishing(self.post.waiting_bytes_total() > self.settings.overflow_bytes_max);
    }

    fn sum_of_process(&self, cell: impl Fn(&ShardStats) -> &Cell) -> u64 {
        self.process.iter().map(|stats| cell(stats).get()).sum()
    }

    /// Above the process's bound for queues, each shard that is over its share closes
    /// those for which most waits.
    fn enforce_queue_bound(&mut self, now: Time) {
        let bound = self.settings.queue_bytes_total_max;
        let share = bound / self.process.len() as u64;
        let own = self.count_queue_memory();
        if own > share && self.sum_of_process(|stats| &stats.queue_memory_bytes) > bound {
            self.shard.shed_queues(share, now);
        }
    }

    fn count_queue_memory(&self) -> u64 {
        let own = self.shard.queue_memory_bytes();
        self.shard.stats().queue_memory_bytes.set(own);
        own
    }
}

fn socket_mut(sockets: &mut [Option<Socket>], id: ConnectionId) -> Option<&mut Socket> {
    sockets.get_mut(id.slot as usize)?.as_mut().filter(|socket| socket.id == id)
}

fn list_readable(readable: &mut ReadableList, sockets: &mut [Option<Socket>], id: ConnectionId) {
    if let Some(socket) = socket_mut(sockets, id)
        && !socket.listed
    {
        socket.listed = true;
        readable.push(id, socket.is_newcomer);
    }
}

#[cfg(test)]
mod tests;
