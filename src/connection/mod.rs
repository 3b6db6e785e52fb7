//! One peer, from its first byte to its last: the protocol's state machine.
//!
//! Owner: the shard's thread. Caller: `shard` only.
//! Decides nothing about topics or dialects: whole messages go up to the shard,
//! which sends through [`Connection::reply`] and [`Connection::push`]. Pings and
//! the closing handshake are answered here. Never blocks or reads a clock.

#![forbid(unsafe_code)]

mod outbound;
mod overflow;
mod state;
mod timer;
mod transport;

use std::io::IoSlice;
use std::rc::Rc;

pub use outbound::OutboundPool;
pub use state::Accepted;
pub use timer::{Deadlines, Expired};
pub use transport::{TlsFailure, TlsSettings};

use crate::buffer::Batch;
use crate::proto::close::{CloseCode, CloseFrame};
use crate::proto::error::ProtocolError;
use crate::proto::frame::{MessageKind, OpCode};
use crate::proto::message::MessageReader;
use crate::stats::CloseReason;
use crate::time::Time;
use outbound::Outbound;
use state::State;
use timer::Keepalive;
use transport::Transport;

/// What may wait in a connection's queue.
#[derive(Clone, Copy, Debug)]
pub struct QueueBounds {
    /// Bytes of deliveries and replies together; above it the peer is a slow consumer.
    pub queue_bytes_max: usize,
    /// Bytes of replies above which nothing more is read from the peer.
    pub reply_bytes_watermark: usize,
    /// Bytes of replies above which only the newest ping is answered.
    pub pong_bytes_max: usize,
}

/// What the transport is to do next for a connection.
#[expect(clippy::large_enum_variant, reason = "lives on the stack for one send; a box would be an allocation")]
pub enum Output<'a> {
    /// Send these bytes, then say how many went out by `sent`.
    Send(&'a [u8]),
    /// The same with bytes in several places.
    SendSegments(Segments<'a>),
    /// Nothing.
    Idle,
    /// End our direction (TCP FIN); what the peer still sends is to be read and
    /// dropped, since unread bytes would turn the end into a reset.
    EndWriting,
    /// Close the transport. `abort`: by reset, since the peer does not cooperate.
    Close {
        /// Whether the peer's acknowledgement is not worth waiting for.
        abort: bool,
    },
}

/// Slices to send, in order; the array's unused rest is empty.
pub type Segments<'a> = ([IoSlice<'a>; crate::limits::SEGMENTS_PER_SEND_MAX], usize);

/// One peer.
#[derive(Debug)]
pub struct Connection {
    state: State,
    transport: Transport,
    reader: MessageReader,
    outbound: Outbound,
    keepalive: Keepalive,
    /// Why the connection ends, once it does; the first cause stays.
    reason: Option<CloseReason>,
    /// The peer has ended its direction of the transport.
    peer_ended: bool,
    /// What [`Connection::count_input`] has said last.
    input_counted: u32,
    /// In the shard's list of connections to flush.
    pub dirty: bool,
    /// The transport takes nothing at the moment.
    pub blocked: bool,
}

impl Connection {
    /// A peer that has just been accepted and has not said anything.
    pub fn new(now: Time) -> Self {
        Self {
            state: State::Handshake { head: Vec::new(), searched: 0, since: now },
            transport: Transport::Plain,
            reader: MessageReader::default(),
            outbound: Outbound::default(),
            keepalive: Keepalive::new(now),
            reason: None,
            peer_ended: false,
            input_counted: 0,
            dirty: false,
            blocked: false,
        }
    }

    /// Whether frames are understood now: open, or waiting for the peer's Close.
    pub fn reads_frames(&self) -> bool {
        matches!(self.state, State::Open | State::Closing { .. })
    }

    /// Whether messages of the peer have a meaning: open, and we have not sent Close.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }

    /// Whether the end has begun, from whichever side: nothing new is sent but a Close.
    pub fn is_ending(&self) -> bool {
        matches!(self.state, State::Closing { .. } | State::Finishing { .. } | State::Closed { .. })
    }

    /// Whether there is nothing left to do but to close the transport.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed { .. })
    }

    /// Whether the transport is to be read. Not while replies pile up or the upgrade
    /// waits for a confirmation; the kernel's window then slows the peer down.
    pub fn wants_read(&self, bounds: &QueueBounds) -> bool {
        match self.state {
            State::Accepted(_) => false,
            State::Open => !self.has_replies_above(bounds),
            _ => true,
        }
    }

    /// Whether it is not read because of the replies that wait for it.
    pub fn pauses_for_replies(&self, bounds: &QueueBounds) -> bool {
        self.is_open() && self.has_replies_above(bounds)
    }

    fn has_replies_above(&self, bounds: &QueueBounds) -> bool {
        self.outbound.reply_bytes() > bounds.reply_bytes_watermark
    }

    /// Bytes queued and not yet sent.
    pub fn queue_bytes(&self) -> usize {
        self.outbound.bytes()
    }

    /// Of these, published bytes.
    pub fn published_bytes(&self) -> usize {
        self.outbound.bytes() - self.outbound.reply_bytes()
    }

    /// Bytes of memory of input that waits for its rest, or for the upgrade: a head, a PROXY
    /// header, a TLS record, frames that came early. Messages in part are not in it.
    pub fn input_memory_bytes(&self) -> usize {
        self.state.input_memory_bytes() + self.transport.partial_memory_bytes()
    }

    /// The same as it was when this was called last, and as it is now.
    pub fn count_input(&mut self) -> (u64, u64) {
        // Bounded by the head's bound or by a TLS record, and by what a vector may have to spare.
        let bytes = u32::try_from(self.input_memory_bytes()).unwrap_or(u32::MAX);
        (std::mem::replace(&mut self.input_counted, bytes).into(), bytes.into())
    }

    /// The same as it was when it was counted last.
    pub fn input_counted(&self) -> u64 {
        self.input_counted.into()
    }

    /// Why the connection ended; [`CloseReason::PeerVanished`] unless something else
    /// came first.
    pub fn close_reason(&self) -> CloseReason {
        self.reason.unwrap_or(CloseReason::PeerVanished)
    }

    /// The peer sent something, whatever it was: it lives.
    pub fn heard(&mut self, now: Time) {
        self.keepalive.heard(now);
    }

    /// The peer sent a whole message.
    pub fn spoke(&mut self, now: Time) {
        self.keepalive.spoke(now);
    }

    /// Lends out the frame reader for a round of reading. The events borrow from it,
    /// and while one is handled the connection must be free to change.
    pub fn take_reader(&mut self) -> MessageReader {
        std::mem::take(&mut self.reader)
    }

    /// Gives the reader back.
    pub fn put_reader(&mut self, reader: MessageReader) {
        self.reader = reader;
    }

    /// Queues a reply to the peer's own message. Replies are not refused: reading
    /// pauses above the watermark, so they are bounded by what one read brings.
    pub fn reply(&mut self, kind: MessageKind, payload: &[u8], pool: &mut OutboundPool) {
        self.outbound.append_frame(kind.opcode(), payload, pool);
    }

    /// The same with a message that becomes the reply's payload as it is.
    pub fn reply_with(&mut self, kind: MessageKind, message: Vec<u8>, pool: &mut OutboundPool) {
        self.outbound.append_frame_of(kind.opcode(), message, pool);
    }

    /// Queues replies that are framed already, of which the transport took the beginning.
    /// They come before all that is queued.
    pub fn keep_replies(&mut self, frames: &[u8], pool: &mut OutboundPool) {
        self.outbound.prepend(frames, pool);
    }

    /// Queues published bytes from `start` on before all that is queued.
    pub fn give_back_batch(&mut self, batch: Rc<Batch>, start: usize, pool: &mut OutboundPool) {
        self.outbound.prepend_shared(batch, start, pool);
    }

    /// A reply with a payload that permessage-deflate has compressed.
    pub fn reply_compressed(&mut self, kind: MessageKind, payload: &[u8], pool: &mut OutboundPool) {
        self.outbound.append_compressed(kind.opcode(), payload, pool);
    }

    /// Whether published bytes can go straight to the transport, with no queue between.
    pub fn takes_directly(&self) -> bool {
        self.is_open() && !self.blocked && self.outbound.bytes() == 0
    }

    /// Queues a range of published bytes, whatever its size.
    pub fn push(&mut self, batch: &Rc<Batch>, (start, end): (usize, usize), pool: &mut OutboundPool) {
        debug_assert!(self.is_open(), "subscribers are open");
        self.outbound.push_shared(batch.clone(), start, end, pool);
    }

    /// Whether so many more published bytes fit. Whatever its size, one batch is taken by
    /// a connection that is not behind.
    pub fn has_room_for(&self, bytes: usize, bounds: &QueueBounds) -> bool {
        let queued = self.outbound.bytes();
        queued == 0 || queued + bytes <= bounds.queue_bytes_max
    }

    /// After more was queued: drops the oldest messages above the bound and tells the
    /// peer how many. Returns how many.
    pub fn drop_oldest(&mut self, bounds: &QueueBounds) -> u64 {
        self.outbound.drop_oldest(bounds.queue_bytes_max)
    }

    /// After more was queued: drops all messages but the newest. Returns how many.
    pub fn keep_newest(&mut self) -> u64 {
        self.outbound.keep_newest()
    }

    /// Queues the rest of published bytes of which the transport took the beginning.
    pub fn keep_rest(&mut self, batch: Rc<Batch>, (start, end): (usize, usize), pool: &mut OutboundPool) {
        debug_assert_eq!(self.outbound.bytes(), 0, "the bytes before them have left");
        self.outbound.push_shared(batch, start, end, pool);
    }

    /// Answers a ping. While more replies wait than the bound, the answer to the newest ping
    /// alone waits behind them (RFC 6455, section 5.5.3); whether an older one gave way.
    pub fn pong(&mut self, payload: &[u8], bounds: &QueueBounds, pool: &mut OutboundPool) -> bool {
        if !self.is_open() {
            return false;
        }
        if self.outbound.reply_bytes() > bounds.pong_bytes_max {
            return self.outbound.hold_pong(payload, pool);
        }
        // One that is held would come behind the newer one.
        let skipped = self.outbound.drop_held_pong(pool);
        self.outbound.append_frame(OpCode::Pong, payload, pool);
        skipped
    }

    /// The peer's Close: the answer to ours, or the beginning, which is answered with
    /// the same code. Either way we end our direction after what is queued; the RFC
    /// lets the server close TCP first, and some clients wait for it without end.
    pub fn peer_closes(&mut self, close: Option<CloseFrame<'_>>, now: Time, pool: &mut OutboundPool) {
        if self.is_open() {
            self.reason.get_or_insert(CloseReason::PeerClosed);
            self.outbound.append_close(close.map(|frame| frame.code), "", pool);
        }
        self.enter(State::Finishing { since: now, end_sent: false });
    }

    /// The peer broke the protocol: say which rule, and listen no more.
    pub fn fail(&mut self, error: &ProtocolError, now: Time, pool: &mut OutboundPool) {
        if self.is_open() {
            self.reason.get_or_insert(match error {
                ProtocolError::MessageTooLong { .. } | ProtocolError::InflatesTooLong { .. } => {
                    CloseReason::MessageTooLong
                }
                ProtocolError::FrameTooLong { .. } => CloseReason::FrameTooLong,
                ProtocolError::TooManyFragments { .. } => CloseReason::TooManyFragments,
                _ => CloseReason::ProtocolError,
            });
            self.outbound.append_close(Some(error.close_code()), &error.to_string(), pool);
        }
        self.enter(State::Finishing { since: now, end_sent: false });
    }

    /// Begins the closing handshake from our side; does nothing if it has begun. The
    /// peer's answer is awaited before the transport ends.
    pub fn close(&mut self, code: CloseCode, words: &str, reason: CloseReason, now: Time, pool: &mut OutboundPool) {
        if self.is_open() {
            self.reason.get_or_insert(reason);
            self.outbound.append_close(Some(code), words, pool);
            self.enter(State::Closing { since: now });
        }
    }

    /// The peer is behind by more than the bound: messages that it has not begun to
    /// receive are dropped, and it is told. A frame that is on its way is not cut.
    pub fn close_slow_consumer(&mut self, reason: CloseReason, now: Time, pool: &mut OutboundPool) {
        self.outbound.drop_published();
        self.close(
            CloseCode::SLOW_CONSUMER,
            "messages were lost: the connection did not read fast enough",
            reason,
            now,
            pool,
        );
    }

    /// The transport's input has ended. Nothing more will come, so there is nothing
    /// to wait for; what is queued is still sent.
    pub fn peer_ended(&mut self, now: Time) {
        self.peer_ended = true;
        self.reason.get_or_insert(CloseReason::PeerVanished);
        match self.state {
            // The peer answered our end with its own: all is said.
            State::Finishing { end_sent: true, .. } => self.enter(State::Closed { abort: false }),
            State::Finishing { .. } | State::Closed { .. } => {}
            // Without an open WebSocket there is nothing to flush.
            State::Handshake { .. } | State::Accepted(_) => self.enter(State::Closed { abort: false }),
            State::Open | State::Closing { .. } => self.enter(State::Finishing { since: now, end_sent: false }),
        }
    }

    /// It ends now, whatever the peer does: its transport failed, or the time is over.
    pub fn abort(&mut self, reason: CloseReason) {
        self.reason.get_or_insert(reason);
        self.enter(State::Closed { abort: true });
    }

    /// Drops all that waits, frames on their way included: the transport is to be reset.
    pub fn drop_queue(&mut self, pool: &mut OutboundPool) {
        debug_assert!(self.is_closed());
        self.outbound.clear(pool);
        self.transport.release(pool);
    }

    /// What the transport is to do next.
    pub fn output(&self) -> Output<'_> {
        if let State::Closed { abort } = self.state {
            return Output::Close { abort };
        }
        if self.is_secured() {
            // What waits in the queue is offered once it is encrypted.
            let unsent = self.transport.unsent();
            if !unsent.is_empty() {
                return Output::Send(unsent);
            }
        } else if let Some(bytes) = self.outbound.single() {
            return Output::Send(bytes);
        } else if self.outbound.bytes() > 0 {
            return Output::SendSegments(self.outbound.segments());
        }
        match self.state {
            State::Finishing { end_sent: false, .. } => Output::EndWriting,
            _ => Output::Idle,
        }
    }

    /// The transport took `n` bytes.
    pub fn sent(&mut self, n: usize, pool: &mut OutboundPool) {
        self.outbound.sent(n, pool);
    }

    /// The transport ended our direction.
    pub fn ended_writing(&mut self) {
        if let State::Finishing { end_sent, .. } = &mut self.state {
            *end_sent = true;
            if self.peer_ended {
                self.enter(State::Closed { abort: false });
            }
        }
    }

    /// Returns what is held to the pools; the connection is over.
    pub fn release(mut self, pool: &mut OutboundPool) -> MessageReader {
        self.outbound.clear(pool);
        self.transport.release(pool);
        self.reader
    }
}

#[cfg(test)]
mod tests;
