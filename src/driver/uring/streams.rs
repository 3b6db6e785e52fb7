//! Connections without a shard, by io_uring: for programs that lead their own, such as a
//! load generator.
//!
//! Owner: the thread that called [`with_streams`]. Knows sockets and bytes. What is received
//! stays in the kernel's buffers until it is read; what is short joins the next submission,
//! and what a socket does not take of it waits here.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use slab::Slab;

use super::buffers::{BULK, Buffers, Chunk, SMALL};
use super::receive::{MUCH_BYTES, RECEIVES_PER_BUFFER};
use super::ring::{self, Completion, Operation, Ring};
use super::sends::{COPY_BYTES_MAX, Sending, Sends, Source};
use super::socket::Receiving;
use super::{DESCRIPTORS_MAX, register};
use crate::driver::machine;
use crate::id::ConnectionId;

/// Sends that are carried out by one call. Each is timed from when it was asked for, so few
/// may wait for each other.
const SENDS_PER_SUBMISSION: usize = 16;

/// Has `lead` work with a ring of its own for so many streams at a time, on this thread.
///
/// # Errors
/// The kernel refuses the ring, or what `lead` says.
pub fn with_streams<T>(streams_max: usize, lead: impl FnOnce(&mut Streams<'_>) -> io::Result<T>) -> io::Result<T> {
    let mut buffers = Buffers::new();
    let mut ring = ring::make()?;
    // The kernel lets no table have more entries than files may be open.
    let streams_max = streams_max.min(machine::descriptor_limit().min(DESCRIPTORS_MAX as u64) as usize);
    let ring = register(&mut ring, &mut buffers, streams_max)?;
    let mut streams = Streams {
        ring,
        buffers: &mut buffers,
        streams_max,
        streams: Slab::new(),
        opened: 0,
        inbox: VecDeque::new(),
        watched: None,
        was_reported: false,
        current: None,
        unparked: Vec::new(),
        starved: [VecDeque::new(), VecDeque::new()],
        sends: Sends::new(),
    };
    let result = lead(&mut streams);
    streams.submit();
    result
}

/// Names a stream. One that was closed is unknown, and whatever is done with it has no effect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamId(ConnectionId);

/// What has happened. Streams are named by what their owner called them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StreamEvent {
    /// The watched descriptor is readable.
    Watched,
    /// It connected or failed to, or takes bytes again.
    Writable(usize),
    /// There is something to [`Streams::receive`].
    Input(usize),
}

/// What was received.
#[derive(PartialEq, Eq, Debug)]
pub enum StreamInput<'a> {
    /// Bytes, which may be changed where they lie.
    Bytes(&'a mut [u8]),
    /// Nothing for now.
    Nothing,
    /// The peer ended the stream.
    End,
}

/// Something that has come, in the order in which it did.
#[derive(Debug)]
enum Came {
    Bytes(Chunk),
    /// The end (0) or an error's number, negative.
    End(i32),
    Writable,
}

#[derive(Debug)]
struct Stream {
    id: ConnectionId,
    owner: usize,
    receiving: Receiving,
    /// Receives one chunk each time that it is asked to.
    is_paced: bool,
    brings_much: bool,
    /// What has come and was not read when it did. One chunk at most, where it is paced.
    parked: Vec<u8>,
    /// Nothing more comes: the end (0) or an error's number, negative.
    end: Option<i32>,
    /// The kernel will say when it takes bytes.
    awaits_writable: bool,
    /// The last submission with a send to it.
    submission: Option<u32>,
    /// What the socket did not take.
    held: Vec<u8>,
    /// Goes as soon as nothing is under way for it any more.
    closing: bool,
}

impl Stream {
    fn has_operations(&self) -> bool {
        self.receiving != Receiving::No || self.awaits_writable
    }
}

/// See the module.
pub struct Streams<'r> {
    ring: Ring<'r>,
    buffers: &'r mut Buffers,
    streams_max: usize,
    /// By direct descriptor.
    streams: Slab<Stream>,
    /// How many there ever were, modulo 2³²: the generation of the next.
    opened: u32,
    inbox: VecDeque<(ConnectionId, Came)>,
    watched: Option<RawFd>,
    /// It is readable, and nobody has been told.
    was_reported: bool,
    /// What the last event was about, and whether it was read.
    current: Option<(ConnectionId, Chunk, bool)>,
    /// What was parked and is read.
    unparked: Vec<u8>,
    /// Those that found no buffer, by the group that was empty.
    starved: [VecDeque<ConnectionId>; 2],
    sends: Sends,
}

impl fmt::Debug for Streams<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams").field("streams", &self.streams.len()).finish_non_exhaustive()
    }
}

impl Streams<'_> {
    /// Reports from now on whenever a descriptor becomes readable: one for all streams.
    pub fn watch(&mut self, descriptor: RawFd) {
        self.watched = Some(descriptor);
        self.ring.watch(descriptor, Operation::Bell);
    }

    /// Carries out what was asked for, and waits until something happens, for so long at most
    /// (`None` is for ever).
    ///
    /// # Errors
    /// Those of the ring, which cannot go on.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.release_current();
        self.feed_starved();
        let is_starved = self.starved.iter().any(|group| !group.is_empty());
        let has_work = self.was_reported || is_starved || !self.inbox.is_empty();
        self.ring.wait(if has_work { Some(Duration::ZERO) } else { timeout })?;
        self.take_completions();
        self.settle_sends();
        Ok(())
    }

    /// The next thing that has happened. What the one before brought is copied and kept, if
    /// nobody has read it.
    pub fn next_event(&mut self) -> Option<StreamEvent> {
        self.release_current();
        if std::mem::take(&mut self.was_reported) {
            return Some(StreamEvent::Watched);
        }
        while let Some((id, came)) = self.inbox.pop_front() {
            let Some(stream) = get(&mut self.streams, id).filter(|stream| !stream.closing) else {
                if let Came::Bytes(chunk) = came {
                    self.buffers.release(chunk);
                }
                continue;
            };
            let owner = stream.owner;
            match came {
                Came::Bytes(chunk) => self.current = Some((id, chunk, false)),
                Came::End(result) => stream.end = Some(result),
                Came::Writable => {
                    if !stream.held.is_empty() && !self.send_held(id) {
                        continue;
                    }
                    return Some(StreamEvent::Writable(owner));
                }
            }
            return Some(StreamEvent::Input(owner));
        }
        None
    }

    /// Takes over a socket, which the caller may close: it stays open here. Reports when it is
    /// connected. Nothing is received before [`Streams::begin`].
    ///
    /// # Errors
    /// There are as many streams as there may be.
    pub fn open(&mut self, owner: usize, socket: RawFd, is_paced: bool) -> io::Result<StreamId> {
        if self.streams.len() == self.streams_max {
            // Those that are closed go when the kernel is through with them.
            self.ring.wait(Some(Duration::ZERO))?;
            self.take_completions();
            self.settle_sends();
        }
        if self.ring.has_closes() {
            // The last tenant of the slot leaves it first.
            self.submit();
        }
        let entry = self.streams.vacant_entry();
        let id = ConnectionId { slot: entry.key() as u32, generation: self.opened };
        self.ring.fill_slot(id.slot, socket)?;
        self.opened = self.opened.wrapping_add(1);
        entry.insert(Stream {
            id,
            owner,
            receiving: Receiving::No,
            is_paced,
            brings_much: false,
            parked: Vec::new(),
            end: None,
            awaits_writable: true,
            submission: None,
            held: Vec::new(),
            closing: false,
        });
        self.ring.watch_writable(id);
        Ok(StreamId(id))
    }

    /// Receives from now on.
    pub fn begin(&mut self, StreamId(id): StreamId) {
        self.ask(id);
    }

    /// What has come, see [`StreamEvent::Input`]; where there is nothing, more is asked for.
    ///
    /// # Errors
    /// The connection failed.
    pub fn receive(&mut self, StreamId(id): StreamId) -> io::Result<StreamInput<'_>> {
        if self.current.as_ref().is_some_and(|(current, _, is_read)| *current == id && *is_read) {
            self.release_current();
        }
        if let Some(stream) = get(&mut self.streams, id).filter(|stream| !stream.parked.is_empty()) {
            self.unparked = std::mem::take(&mut stream.parked);
            return Ok(StreamInput::Bytes(&mut self.unparked));
        }
        if self.current.as_ref().is_some_and(|(current, ..)| *current == id) {
            let Some((_, chunk, is_read)) = &mut self.current else { unreachable!("looked at above") };
            *is_read = true;
            return Ok(StreamInput::Bytes(self.buffers.bytes_mut(chunk)));
        }
        match get(&mut self.streams, id).and_then(|stream| stream.end) {
            Some(0) => Ok(StreamInput::End),
            Some(error) => Err(io::Error::from_raw_os_error(-error)),
            None => {
                self.ask(id);
                Ok(StreamInput::Nothing)
            }
        }
    }

    /// Takes bytes to send; how many. 0: none, [`StreamEvent::Writable`] says when it takes
    /// more. That bytes were taken says that they leave in their order with the next
    /// submission, if the connection does not fail.
    ///
    /// # Errors
    /// The connection failed.
    pub fn send(&mut self, StreamId(id): StreamId, bytes: &[u8]) -> io::Result<usize> {
        if get(&mut self.streams, id).is_some_and(|stream| stream.submission == Some(self.sends.number)) {
            // One send for each: first it has to be known what became of that.
            self.submit();
        }
        let Some(stream) = get(&mut self.streams, id) else { return Ok(0) };
        if let Some(error @ ..0) = stream.end {
            return Err(io::Error::from_raw_os_error(-error));
        }
        if stream.awaits_writable || !stream.held.is_empty() {
            return Ok(0);
        }
        let copied = (bytes.len() <= COPY_BYTES_MAX).then(|| self.sends.copy([bytes].into_iter())).flatten();
        let Some((start, len)) = copied else { return self.send_now(id, bytes) };
        stream.submission = Some(self.sends.number);
        let operation = Operation::Send(self.sends.list.len());
        self.sends.list.push(Sending { id, source: Source::Copy(start), len });
        #[expect(unsafe_code, reason = "the kernel reads from that memory")]
        // SAFETY: `sends` keeps the copy, and does not move or change it, until
        // `settle_sends`, which is called after the submission only.
        unsafe {
            self.ring.send(id.slot, self.sends.copied(start, len).as_ptr(), len as u32, operation);
        }
        if self.sends.list.len() >= SENDS_PER_SUBMISSION {
            self.submit();
        }
        Ok(len)
    }

    /// Whether bytes that [`Streams::send`] took wait for room in the socket.
    pub fn holds_back(&self, StreamId(id): StreamId) -> bool {
        self.streams.get(id.slot as usize).is_some_and(|stream| stream.id == id && !stream.held.is_empty())
    }

    /// Carries out what was asked for.
    pub fn submit(&mut self) {
        self.ring.submit();
        self.take_completions();
        self.settle_sends();
    }

    /// Closes a stream. What was sent leaves before, as far as the socket takes it.
    pub fn close(&mut self, StreamId(id): StreamId) {
        let Some(stream) = get(&mut self.streams, id) else { return };
        if !std::mem::replace(&mut stream.closing, true) {
            self.ring.close(id.slot, false, stream.has_operations());
            self.leave_if_over(id);
        }
    }

    fn take_completions(&mut self) {
        while let Some(completion) = self.ring.next_completion() {
            match completion.operation {
                Operation::Receive(id, group) => self.take_received(id, group, completion),
                Operation::Send(n) => self.sends.short.push((n, completion.result)),
                Operation::Writable(id) => {
                    let Some(stream) = get(&mut self.streams, id) else { continue };
                    stream.awaits_writable = false;
                    self.inbox.push_back((id, Came::Writable));
                    self.leave_if_over(id);
                }
                Operation::Bell => {
                    self.was_reported = true;
                    if let Some(descriptor) = self.watched.filter(|_| !completion.more) {
                        self.ring.watch(descriptor, Operation::Bell);
                    }
                }
                Operation::Listeners | Operation::Install | Operation::Unheeded => {}
            }
        }
    }

    fn take_received(&mut self, id: ConnectionId, group: u16, completion: Completion) {
        let Completion { result, buffer, more, .. } = completion;
        let chunk = buffer.map(|(n, goes_on)| self.buffers.received(group, n, result.max(0) as usize, goes_on));
        let Some(stream) = get(&mut self.streams, id).filter(|stream| !stream.closing) else {
            chunk.into_iter().for_each(|chunk| self.buffers.release(chunk));
            if let Some(stream) = get(&mut self.streams, id).filter(|_| !more) {
                stream.receiving = Receiving::No;
            }
            return self.leave_if_over(id);
        };
        if !more {
            stream.receiving = Receiving::No;
        }
        match (result, chunk) {
            (1.., Some(chunk)) => {
                stream.brings_much |= chunk.len() >= MUCH_BYTES;
                if stream.brings_much && stream.receiving == Receiving::All {
                    stream.receiving = Receiving::Stopping;
                    self.ring.cancel_receive(id, SMALL);
                }
                self.inbox.push_back((id, Came::Bytes(chunk)));
            }
            (_, chunk) => {
                chunk.into_iter().for_each(|chunk| self.buffers.release(chunk));
                match -result {
                    libc::ENOBUFS => self.starved[group as usize].push_back(id),
                    libc::ECANCELED | libc::EINTR | libc::EAGAIN => self.ask(id),
                    _ => self.inbox.push_back((id, Came::End(result))),
                }
            }
        }
    }

    /// Asks for what comes next.
    fn ask(&mut self, id: ConnectionId) {
        let Some(stream) = get(&mut self.streams, id) else { return };
        if stream.receiving != Receiving::No || stream.closing || stream.end.is_some() {
            return;
        }
        if stream.brings_much || stream.is_paced {
            stream.receiving = Receiving::Once;
            self.ring.receive_once(id, if stream.brings_much { BULK } else { SMALL });
        } else {
            stream.receiving = Receiving::All;
            self.ring.receive_all(id, SMALL);
        }
    }

    /// Asks again for those that found no buffer, as many as will find one.
    fn feed_starved(&mut self) {
        for (group, receives) in [(SMALL, RECEIVES_PER_BUFFER), (BULK, 1)] {
            for _ in 0..self.buffers.free(group) * receives {
                let Some(id) = self.starved[group as usize].pop_front() else { break };
                self.ask(id);
            }
        }
    }

    fn release_current(&mut self) {
        if let Some((id, mut chunk, is_read)) = self.current.take() {
            if let Some(stream) = get(&mut self.streams, id).filter(|_| !is_read) {
                stream.parked.extend_from_slice(self.buffers.bytes_mut(&mut chunk));
            }
            self.buffers.release(chunk);
        }
    }

    /// What was submitted is over: keeps what did not leave.
    fn settle_sends(&mut self) {
        let Self { ring, streams, sends, inbox, .. } = self;
        for &(number, result) in &sends.short {
            let Sending { id, source: Source::Copy(start), len } = &sends.list[number] else {
                unreachable!("nothing but copies is sent here")
            };
            let Some(stream) = get(streams, *id).filter(|stream| !stream.closing) else { continue };
            if result < 0 && !is_full(result) {
                inbox.push_back((*id, Came::End(result)));
                continue;
            }
            stream.held.extend_from_slice(&sends.copied(*start, *len)[result.max(0) as usize..]);
            await_writable(ring, stream);
        }
        sends.short.clear();
        sends.list.clear();
        sends.begin_next();
    }

    /// Sends what waits for room; whether all of it has left.
    fn send_held(&mut self, id: ConnectionId) -> bool {
        let Some(stream) = get(&mut self.streams, id) else { return true };
        let mut held = std::mem::take(&mut stream.held);
        // What goes wrong is told with what is received.
        let sent = self.send_now(id, &held).unwrap_or(held.len());
        held.drain(..sent);
        match get(&mut self.streams, id) {
            Some(stream) => {
                stream.held = held;
                stream.held.is_empty()
            }
            None => true,
        }
    }

    /// Sends from where it lies, which takes a call of its own; how much.
    fn send_now(&mut self, id: ConnectionId, bytes: &[u8]) -> io::Result<usize> {
        // Those before it, so that there is one result.
        self.submit();
        #[expect(unsafe_code, reason = "the kernel reads from that memory")]
        // SAFETY: the bytes are borrowed until it is submitted.
        unsafe {
            self.ring.send(id.slot, bytes.as_ptr(), bytes.len() as u32, Operation::Send(0));
        }
        self.ring.submit();
        self.take_completions();
        let result = self.sends.short.pop().map_or(bytes.len() as i32, |(_, result)| result);
        let Some(stream) = get(&mut self.streams, id) else { return Ok(0) };
        if result < 0 && !is_full(result) {
            self.inbox.push_back((id, Came::End(result)));
            return Err(io::Error::from_raw_os_error(-result));
        }
        let sent = result.max(0) as usize;
        if sent < bytes.len() {
            await_writable(&mut self.ring, stream);
        }
        Ok(sent)
    }

    /// Forgets a stream that is closed, if nothing is under way for it any more.
    fn leave_if_over(&mut self, id: ConnectionId) {
        if get(&mut self.streams, id).is_some_and(|stream| stream.closing && !stream.has_operations()) {
            self.streams.remove(id.slot as usize);
        }
    }
}

/// Nothing, if the slot has another tenant by now.
fn get(streams: &mut Slab<Stream>, id: ConnectionId) -> Option<&mut Stream> {
    streams.get_mut(id.slot as usize).filter(|stream| stream.id == id)
}

fn await_writable(ring: &mut Ring<'_>, stream: &mut Stream) {
    if !std::mem::replace(&mut stream.awaits_writable, true) {
        ring.watch_writable(stream.id);
    }
}

/// Whether a send failed since the socket takes nothing now.
fn is_full(result: i32) -> bool {
    matches!(-result, libc::EAGAIN | libc::EINTR)
}
