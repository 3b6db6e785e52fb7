//! From what the kernel has received to what the shard is told.
//!
//! A connection that is established has one receive under way that goes on by itself. It
//! cannot be stopped within a moment, so a connection that brings much, or has not completed
//! its handshake, is asked for one buffer at a time: then the shard decides before each
//! whether it wants to read, as it does with epoll. What has come and is not wanted is
//! [parked](super::parked).

use std::collections::VecDeque;
use std::io;

use super::UringLoop;
use super::buffers::{BULK, Chunk, SMALL};
use super::ring::Completion;
use super::sends::Source;
use super::socket::Receiving;
use crate::driver::slice::Slice;
use crate::id::ConnectionId;
use crate::time::Time;

/// Bytes in one receive from which on a connection brings much. Whoever sends short messages
/// stays below.
pub(super) const MUCH_BYTES: usize = 4 * 1024;
/// Receives that are begun again for each buffer that has become free: as a rule they bring
/// little, and if not they try again.
pub(super) const RECEIVES_PER_BUFFER: usize = 16;

/// Something that has come for a connection, in the order in which it did.
pub(super) struct Received {
    id: ConnectionId,
    what: What,
}

enum What {
    /// Bytes; `last`: the receive is over.
    Bytes { chunk: Chunk, last: bool },
    /// The end (0) or an error's number, negative.
    End(i32),
    /// What was parked may be read.
    Parked,
}

impl Received {
    pub(super) fn parked(id: ConnectionId) -> Self {
        Self { id, what: What::Parked }
    }
}

/// Connections whose receive found no buffer, by the group that was empty.
#[derive(Default)]
pub(super) struct Starved([VecDeque<ConnectionId>; 2]);

impl Starved {
    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(VecDeque::is_empty)
    }
}

impl UringLoop<'_> {
    /// Notes what was received for a connection.
    pub(super) fn take_received(&mut self, id: ConnectionId, group: u16, completion: Completion) {
        let Completion { result, buffer, more, .. } = completion;
        let chunk = buffer.map(|(n, goes_on)| self.buffers.received(group, n, result.max(0) as usize, goes_on));
        let Some(socket) = self.sockets.get_mut(id) else { return self.release(chunk) };
        if !more {
            socket.receiving = Receiving::No;
        }
        if socket.closing {
            self.release(chunk);
            return self.leave_if_over(id);
        }
        let is_newcomer = socket.is_newcomer;
        match (result, chunk) {
            (1.., Some(chunk)) => {
                self.inbox.push(Received { id, what: What::Bytes { chunk, last: !more } }, is_newcomer);
            }
            (_, chunk) => {
                self.release(chunk);
                match -result {
                    libc::ENOBUFS => {
                        self.core.shard.stats().receives_starved.add(1);
                        self.starved.0[group as usize].push_back(id);
                    }
                    libc::ECANCELED | libc::EINTR | libc::EAGAIN => self.receive_if_wanted(id),
                    _ => self.inbox.push(Received { id, what: What::End(result) }, is_newcomer),
                }
            }
        }
    }

    fn release(&mut self, chunk: Option<Chunk>) {
        if let Some(chunk) = chunk {
            self.buffers.release(chunk);
        }
    }

    /// A slice of what has come; the rest stays, before what comes meanwhile.
    pub(super) fn read_inbox(&mut self, now: Time) {
        let mut slice = Slice::of_reads(self.core.clock, now, self.core.haste());
        for _ in 0..self.inbox.len() {
            let Some(Received { id, what }) = self.inbox.pop() else { break };
            let bytes = match what {
                What::Bytes { chunk, last } => self.read_chunk(id, chunk, last, now),
                What::Parked => self.read_parked(id, now),
                What::End(result) => {
                    self.read_end(id, result, now);
                    0
                }
            };
            if slice.is_over_after(bytes) {
                break;
            }
        }
        self.feed_starved();
        self.core.shard.stats().receive_chunks.set(self.buffers.held());
    }

    /// Tells the shard what came, unless it has to wait. Returns how much.
    fn read_chunk(&mut self, id: ConnectionId, mut chunk: Chunk, last: bool, now: Time) -> usize {
        let len = chunk.len();
        let Some(socket) = self.sockets.get_mut(id).filter(|socket| !socket.closing) else {
            self.buffers.release(chunk);
            return 0;
        };
        if len >= MUCH_BYTES && !std::mem::replace(&mut socket.brings_much, true) {
            self.stop_receiving(id);
        }
        if self.has_parked(id) || !self.core.shard.wants_read(id) {
            self.park(id, chunk);
            return 0;
        }
        if self.is_submitted(id) {
            // What it is answered comes behind that.
            self.submit_sends();
        }
        let replies = self.core.shard.receive(id, self.buffers.bytes_mut(&mut chunk), now);
        if let Some(socket) = self.sockets.get_mut(id).filter(|socket| socket.is_newcomer) {
            socket.is_newcomer = self.core.shard.is_newcomer(id);
        }
        if replies.is_empty() {
            self.buffers.release(chunk);
        } else {
            self.submit(id, Source::Replies(chunk, replies.start), replies.len());
        }
        if last {
            self.receive_if_wanted(id);
        }
        len
    }

    /// Tells the shard that nothing more comes, or why not.
    pub(super) fn read_end(&mut self, id: ConnectionId, result: i32, now: Time) {
        let Some(socket) = self.sockets.get_mut(id).filter(|socket| !socket.closing) else { return };
        socket.ended = true;
        if socket.parked.is_some() || !self.core.shard.wants_read(id) {
            self.park_end(id, result);
        } else if result == 0 {
            self.core.shard.peer_ended(id, now);
        } else {
            self.core.fail(id, &io::Error::from_raw_os_error(-result));
        }
    }

    /// Ends a receive that goes on by itself. What has come until then still arrives.
    pub(super) fn stop_receiving(&mut self, id: ConnectionId) {
        if let Some(socket) = self.sockets.get_mut(id)
            && socket.receiving == Receiving::All
        {
            socket.receiving = Receiving::Stopping;
            self.ring.cancel_receive(id, SMALL);
        }
    }

    /// The same for all connections. Who has more to bring is asked again when that is over.
    pub(super) fn stop_receiving_for_all(&mut self) {
        for slot in 0..self.sockets.slots() {
            if let Some(id) = self.sockets.tenant(slot) {
                self.stop_receiving(id);
            }
        }
    }

    /// Asks for what comes next, unless the shard says later when it wants it.
    pub(super) fn receive_if_wanted(&mut self, id: ConnectionId) {
        // Whether a handshake may go on is asked when something has come for it.
        let is_newcomer = self.sockets.get_mut(id).is_some_and(|socket| socket.is_newcomer);
        if is_newcomer || self.core.shard.wants_read(id) {
            self.receive(id);
        }
    }

    /// Asks for what comes next.
    pub(super) fn receive(&mut self, id: ConnectionId) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        if socket.receiving != Receiving::No || socket.closing || socket.ended || socket.parked.is_some() {
            return;
        }
        if socket.brings_much {
            socket.receiving = Receiving::Once;
            self.ring.receive_once(id, BULK);
        } else if socket.is_newcomer || self.parked.is_high() {
            socket.receiving = Receiving::Once;
            self.ring.receive_once(id, SMALL);
        } else {
            socket.receiving = Receiving::All;
            self.ring.receive_all(id, SMALL);
        }
    }

    /// Asks again for those that found no buffer, as many as will find one, those that have
    /// waited longest first.
    fn feed_starved(&mut self) {
        for (group, receives) in [(SMALL, RECEIVES_PER_BUFFER), (BULK, 1)] {
            for _ in 0..self.buffers.free(group) * receives {
                let Some(id) = self.starved.0[group as usize].pop_front() else { break };
                self.receive(id);
            }
        }
    }
}
