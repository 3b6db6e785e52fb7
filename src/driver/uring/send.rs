//! From what the shard has to say to what the kernel sends.
//!
//! What is short or shared joins the next submission, and the shard is told that it has
//! left; should a socket take less, the rest is given back. What would have to be copied and
//! is long, or belongs to a connection that is behind, is sent at once from where it lies.

use std::io;

use rustix::net::{Shutdown, shutdown};

use super::UringLoop;
use super::ring::{Operation, Ring};
use super::sends::{COPY_BYTES_MAX, Sending, Source};
use crate::connection::Output;
use crate::id::ConnectionId;

/// Sends that are carried out by one call: what that costs is spread over them, and the
/// clock is looked at in between.
const SENDS_PER_SUBMISSION: usize = 32;

impl UringLoop<'_> {
    /// Does what the shard wants of a connection's transport, see `EventLoop::flush_one`.
    pub(super) fn offer(&mut self, id: ConnectionId) {
        loop {
            let Some(socket) = self.sockets.get_mut(id).filter(|socket| !socket.closing) else { return };
            if socket.submission == Some(self.sends.number) {
                if matches!(self.core.shard.output(id), Output::Idle) {
                    return;
                }
                // One send for each socket: first it has to be known what became of that.
                self.submit_sends();
                if self.sockets.get_mut(id).is_some_and(|socket| socket.awaits_writable) && !self.is_over(id) {
                    return;
                }
                continue;
            }
            if let Some((batch, start)) = self.core.shard.lend_batch(id) {
                let len = batch.as_bytes().len() - start;
                self.submit(id, Source::Batch(batch, start), len);
                continue;
            }
            let is_behind = self.core.shard.is_behind(id);
            let copied = match self.core.shard.output(id) {
                Output::Idle => return,
                Output::Close { abort } => return self.close(id, abort),
                Output::EndWriting => {
                    match self.end_writing(id) {
                        Ok(()) => self.core.shard.ended_writing(id),
                        Err(_) => self.core.shard.transport_failed(id),
                    }
                    continue;
                }
                Output::Send(bytes) if !is_behind && bytes.len() <= COPY_BYTES_MAX => {
                    self.sends.copy([bytes].into_iter())
                }
                Output::SendSegments((slices, count)) if !is_behind => {
                    let slices = slices[..count].iter().map(|slice| &**slice);
                    let len: usize = slices.clone().map(<[u8]>::len).sum();
                    if len <= COPY_BYTES_MAX { self.sends.copy(slices) } else { None }
                }
                _ => None,
            };
            match copied {
                Some((start, len)) => {
                    self.core.shard.lend(id, len);
                    self.submit(id, Source::Copy(start), len);
                }
                None if self.send_now(id) => {}
                None => return,
            }
        }
    }

    /// Whether the shard wants nothing more but that the connection is closed.
    fn is_over(&mut self, id: ConnectionId) -> bool {
        matches!(self.core.shard.output(id), Output::Close { .. })
    }

    /// Whether a send of a connection is to be carried out by the next submission.
    pub(super) fn is_submitted(&mut self, id: ConnectionId) -> bool {
        let number = self.sends.number;
        self.sockets.get_mut(id).is_some_and(|socket| socket.submission == Some(number))
    }

    /// Adds a send to the submission. The connection has no other there.
    pub(super) fn submit(&mut self, id: ConnectionId, source: Source, len: usize) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        debug_assert_ne!(socket.submission, Some(self.sends.number), "one send for each socket");
        socket.submission = Some(self.sends.number);
        self.core.count_send(&mut socket.sent_in);
        let bytes = match &source {
            Source::Batch(batch, start) => batch.as_bytes()[*start..].as_ptr(),
            Source::Replies(chunk, start) => self.buffers.start_of(chunk).wrapping_add(*start).cast_const(),
            Source::Copy(start) => self.sends.copied(*start, len).as_ptr(),
        };
        let operation = Operation::Send(self.sends.list.len());
        self.sends.list.push(Sending { id, source, len });
        #[expect(unsafe_code, reason = "the kernel reads from that memory")]
        // SAFETY: `sends` keeps what the bytes lie in until `settle_sends`, which is called
        // after the submission only; none of the three moves or changes until then.
        unsafe {
            self.ring.send(id.slot, bytes, len as u32, operation);
        }
        if self.sends.list.len() >= SENDS_PER_SUBMISSION {
            self.submit_sends();
        }
    }

    /// Carries out all sends, and whatever else was asked for.
    pub(super) fn submit_sends(&mut self) {
        self.ring.submit();
        self.take_completions();
        self.settle_sends();
    }

    /// What was submitted is over: tells the shard what did not leave.
    pub(super) fn settle_sends(&mut self) {
        for n in 0..self.sends.short.len() {
            let (number, result) = self.sends.short[n];
            self.settle_short(number, result);
        }
        self.sends.short.clear();
        let mut sent = 0;
        for sending in self.sends.list.drain(..) {
            sent += sending.len;
            match sending.source {
                Source::Batch(batch, _) => self.core.shard.put_batch(batch),
                Source::Replies(chunk, _) => self.buffers.release(chunk),
                Source::Copy(_) => {}
            }
        }
        self.core.shard.replied(sent);
        self.sends.begin_next();
    }

    /// A socket took a part, or nothing.
    fn settle_short(&mut self, number: usize, result: i32) {
        let taken = result.max(0) as usize;
        let Sending { id, len, .. } = &mut self.sends.list[number];
        let (id, offered) = (*id, std::mem::replace(len, taken));
        if result < 0 && !is_full(result) {
            return self.core.fail(id, &io::Error::from_raw_os_error(-result));
        }
        self.core.shard.stats().sends_short.add(1);
        let shard = &mut self.core.shard;
        // Blocked first, so that it is not flushed in vain.
        shard.blocked(id);
        match &self.sends.list[number].source {
            Source::Batch(batch, start) => shard.give_back_batch(id, batch.clone(), start + taken),
            Source::Copy(start) => shard.give_back(id, &self.sends.copied(*start, offered)[taken..]),
            Source::Replies(chunk, start) => {
                shard.give_back(id, &self.buffers.bytes(chunk)[*start..][taken..offered]);
            }
        }
        self.wait_writable(id);
    }

    /// Sends from where it lies, which takes a call of its own. Whether the socket took all.
    fn send_now(&mut self, id: ConnectionId) -> bool {
        // Those before it, so that there is one result.
        self.submit_sends();
        let Some(socket) = self.sockets.get_mut(id) else { return false };
        self.core.count_send(&mut socket.sent_in);
        let ring = &mut self.ring;
        let offered = match self.core.shard.output(id) {
            Output::Send(bytes) => {
                #[expect(unsafe_code, reason = "the kernel reads from that memory")]
                // SAFETY: the bytes are borrowed until it is submitted.
                unsafe {
                    ring.send(id.slot, bytes.as_ptr(), bytes.len() as u32, Operation::Send(0));
                }
                ring.submit();
                bytes.len()
            }
            Output::SendSegments((slices, count)) => {
                send_segments(ring, id.slot, &slices[..count]);
                slices[..count].iter().map(|slice| slice.len()).sum()
            }
            Output::Idle | Output::EndWriting | Output::Close { .. } => return true,
        };
        self.take_completions();
        let result = self.sends.short.pop().map_or(offered as i32, |(_, result)| result);
        if result < 0 && !is_full(result) {
            self.core.fail(id, &io::Error::from_raw_os_error(-result));
            return true;
        }
        let taken = result.max(0) as usize;
        self.core.shard.sent(id, taken);
        if taken < offered {
            self.core.shard.stats().sends_short.add(1);
            self.core.shard.blocked(id);
            self.wait_writable(id);
        }
        taken == offered
    }

    fn wait_writable(&mut self, id: ConnectionId) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        if !std::mem::replace(&mut socket.awaits_writable, true) {
            // Looks at once, so that it does not matter what has happened since the send.
            self.ring.watch_writable(id);
        }
    }

    /// Ends our direction of a connection.
    fn end_writing(&mut self, id: ConnectionId) -> io::Result<()> {
        // The ring would leave this to a thread. A system call needs a descriptor, for a moment.
        self.ring.install(id.slot);
        self.submit_sends();
        let result =
            self.installed.take().ok_or_else(|| io::Error::other("no answer to a request for a descriptor"))?;
        let descriptor = Ring::installed(result)?;
        Ok(shutdown(descriptor, Shutdown::Write)?)
    }
}

/// Whether a send failed since the socket takes nothing now.
fn is_full(result: i32) -> bool {
    matches!(-result, libc::EAGAIN | libc::EINTR)
}

fn send_segments(ring: &mut Ring<'_>, slot: u32, slices: &[io::IoSlice<'_>]) {
    #[expect(unsafe_code, reason = "a structure of the kernel's, which has other fields on other systems")]
    // SAFETY: it has numbers and pointers only, which may be zero.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    // Both are a pointer and a length, as `IoSlice` promises.
    header.msg_iov = slices.as_ptr().cast_mut().cast();
    header.msg_iovlen = slices.len() as _;
    #[expect(unsafe_code, reason = "the kernel reads from that memory")]
    // SAFETY: the header and the slices live until it is submitted, here.
    unsafe {
        ring.send_segments(slot, &raw const header, Operation::Send(0));
    }
    ring.submit();
}
