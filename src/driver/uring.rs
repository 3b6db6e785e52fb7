//! The sockets of one shard, by completion: io_uring.
//!
//! Owner: the shard's thread. Sockets have no descriptors but a table in the ring (direct
//! descriptors), in which a connection has the slot that it has in the shard; so the limit
//! of open files does not bound them. What has been sent in a turn is carried out by few
//! calls, mostly the one that waits for the next turn.
//!
//! * `ring`: what is asked of the kernel, and what it reports
//! * `buffers`: memory that the kernel fills with what comes
//! * `sends`: sends that are carried out together, and the memory that they read
//! * `socket`: what is under way for one connection
//! * `parked`: input that has to wait
//! * `receive`, `send`: from completions to the shard, and back
//! * `streams`: the same kernel for connections without a shard
//! * `refusal`: what to do where the kernel refuses

mod buffers;
mod parked;
mod receive;
mod refusal;
mod ring;
mod send;
mod sends;
mod socket;
mod streams;

pub use refusal::hint;
pub use streams::{StreamEvent, StreamId, StreamInput, Streams, with_streams};

use std::io;
use std::os::fd::AsRawFd;
use std::thread::Builder;
use std::time::Duration;

use mio::{Events, Poll};

use super::event_loop::{EventLoop, LoopCore};
use super::listener::Stream;
use super::readable::ReadableList;
use crate::id::ConnectionId;
use crate::limits::EVENTS_PER_TURN_MAX;
use crate::time::Time;
use buffers::Buffers;
use parked::ParkedTotal;
use receive::{Received, Starved};
use ring::{Completion, Operation, Ring};
use sends::Sends;
use socket::{Socket, Sockets};

/// Direct descriptors of one ring at most, as the kernel has it.
pub const DESCRIPTORS_MAX: usize = 1 << 20;

const _: () = assert!(DESCRIPTORS_MAX <= ring::SLOTS_MAX);

/// Serves a shard by io_uring until it has drained, with so many connections at most, if it
/// `may_run` once all is made. Belongs on the thread that the shard has. Errors are those of
/// the ring itself.
pub fn run(core: LoopCore, connections_max: usize, may_run: impl FnOnce() -> bool) -> io::Result<()> {
    let mut buffers = Buffers::new();
    let mut ring = ring::make()?;
    let event_loop = UringLoop::new(core, &mut ring, &mut buffers, connections_max)?;
    if may_run() { event_loop.run() } else { Ok(()) }
}

/// Whether the kernel has what [`run`] needs, and lets us use it.
///
/// # Errors
/// What the kernel says if not.
pub fn probe() -> io::Result<()> {
    // What is left of a ring when it is gone is cleared away on its thread, whose calls that
    // may interrupt.
    let thread = Builder::new().name("io_uring-probe".to_owned()).spawn(|| {
        let mut buffers = Buffers::new();
        let mut ring = ring::make()?;
        register(&mut ring, &mut buffers, 1).map(drop)
    })?;
    thread.join().unwrap_or_else(|_| Err(io::Error::other("the look for io_uring panicked")))
}

fn register<'r>(ring: &'r mut io_uring::IoUring, buffers: &mut Buffers, slots: usize) -> io::Result<Ring<'r>> {
    let ring = Ring::new(ring, slots)?;
    #[expect(unsafe_code, reason = "the kernel writes to the buffers")]
    // SAFETY: both callers have made the buffers before the ring, so they outlive it.
    unsafe {
        buffers.register(&ring)?;
    }
    Ok(ring)
}

/// One shard with its sockets.
struct UringLoop<'r> {
    core: LoopCore,
    ring: Ring<'r>,
    /// Says which listeners have connections, and the ring says when it does. The ring alone
    /// would keep them open for a while when the process dies, and their addresses in use.
    listening: Poll,
    events: Events,
    buffers: &'r mut Buffers,
    sockets: Sockets,
    /// What has come and was not read.
    inbox: ReadableList<Received>,
    /// Connections that found no buffer.
    starved: Starved,
    parked: ParkedTotal,
    sends: Sends,
    /// The answer to [`Ring::install`].
    installed: Option<i32>,
}

impl EventLoop for UringLoop<'_> {
    fn core(&mut self) -> &mut LoopCore {
        &mut self.core
    }

    fn poll(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.ring.wait(timeout)?;
        self.take_completions();
        self.settle_sends();
        Ok(())
    }

    fn has_input(&self) -> bool {
        !self.inbox.is_empty() || !self.starved.is_empty()
    }

    fn resume_reading(&mut self, id: ConnectionId) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        if socket.parked.is_some() {
            self.inbox.push(Received::parked(id), socket.is_newcomer);
        } else {
            self.receive(id);
        }
    }

    fn adopt(&mut self, id: ConnectionId, stream: Stream) {
        if self.ring.has_closes() {
            // The last tenant of the slot leaves it first.
            self.submit_sends();
        }
        if let Err(error) = self.ring.fill_slot(id.slot, stream.as_raw_fd()) {
            tracing::debug!(%error, "a connection gets no direct descriptor");
            self.core.shard.transport_failed(id);
        }
        self.sockets.insert(Socket::new(id, self.core.turn));
        self.core.shard.stats().sockets.add(1);
        self.receive(id);
    }

    fn read(&mut self, now: Time) {
        self.read_inbox(now);
    }

    fn flush_one(&mut self, id: ConnectionId) {
        self.offer(id);
    }

    fn close_listeners(&mut self) {
        self.core.close_listeners(self.listening.registry());
    }

    fn finish(&mut self) -> io::Result<()> {
        self.poll(Some(Duration::ZERO))
    }
}

impl<'r> UringLoop<'r> {
    fn new(
        core: LoopCore,
        ring: &'r mut io_uring::IoUring,
        buffers: &'r mut Buffers,
        connections_max: usize,
    ) -> io::Result<Self> {
        let mut ring = register(ring, buffers, connections_max)?;
        let listening = Poll::new()?;
        core.acceptor.register(listening.registry())?;
        ring.watch(listening.as_raw_fd(), Operation::Listeners);
        let bell = core.post.descriptor().ok_or_else(|| io::Error::other("a shard's mailbox has a descriptor"))?;
        ring.watch(bell.as_raw_fd(), Operation::Bell);
        Ok(Self {
            core,
            ring,
            listening,
            events: Events::with_capacity(EVENTS_PER_TURN_MAX),
            buffers,
            sockets: Sockets::default(),
            inbox: ReadableList::default(),
            starved: Starved::default(),
            parked: ParkedTotal::default(),
            sends: Sends::new(),
            installed: None,
        })
    }

    /// Notes what the kernel reports, all of it.
    fn take_completions(&mut self) {
        while let Some(completion) = self.ring.next_completion() {
            self.take_completion(completion);
        }
    }

    fn take_completion(&mut self, completion: Completion) {
        match completion.operation {
            Operation::Receive(id, group) => self.take_received(id, group, completion),
            Operation::Send(n) => self.sends.short.push((n, completion.result)),
            Operation::Writable(id) => {
                let Some(socket) = self.sockets.get_mut(id) else { return };
                socket.awaits_writable = false;
                self.core.shard.writable(id);
                self.leave_if_over(id);
            }
            Operation::Listeners => {
                if self.listening.poll(&mut self.events, Some(Duration::ZERO)).is_ok() {
                    for event in &self.events {
                        self.core.acceptor.take_event(event.token());
                    }
                }
                if !completion.more {
                    self.ring.watch(self.listening.as_raw_fd(), Operation::Listeners);
                }
            }
            Operation::Bell => {
                self.core.post.reset();
                if !completion.more
                    && let Some(bell) = self.core.post.descriptor()
                {
                    self.ring.watch(bell.as_raw_fd(), Operation::Bell);
                }
            }
            Operation::Install => self.installed = Some(completion.result),
            Operation::Unheeded => {}
        }
    }

    /// Closes a connection's transport. Its slot is free when nothing is under way for it any
    /// more: until then its socket is open, and completions with its name may come.
    fn close(&mut self, id: ConnectionId, abort: bool) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        if std::mem::replace(&mut socket.closing, true) {
            return;
        }
        self.ring.close(id.slot, abort, socket.has_operations());
        self.leave_if_over(id);
    }

    /// Forgets a connection that is closed, if nothing is under way for it any more.
    fn leave_if_over(&mut self, id: ConnectionId) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        if !socket.closing || socket.has_operations() {
            return;
        }
        self.unpark(id);
        self.sockets.remove(id);
        self.core.shard.stats().sockets.sub(1);
        self.core.shard.remove(id);
        self.core.acceptor.resume();
    }
}
