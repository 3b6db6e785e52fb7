//! permessage-deflate at the server's end: what a connection has agreed on and holds,
//! and what all connections of a shard share.
//!
//! Owner: one shard's thread. A connection that has not agreed on context takeover holds
//! nothing but the agreement, and one that has, nothing until its first message. Never
//! grows past `context_bytes_max` for contexts of connections: above it new connections
//! get no takeover.

use super::deflate::{DEFLATE_WINDOW_BITS_MIN, DEFLATER_BYTES, Deflater};
use super::error::ProtocolError;
use super::extension::{self, DeflateAgreement, Takeover, WINDOW_BITS_MAX};
use super::frame::{CONTROL_PAYLOAD_BYTES_MAX, OpCode};
use super::handshake::HandshakeError;
use super::inflate::{Inflater, Window};
use super::message::Compressible;

/// A buffer that has grown beyond this is freed instead of kept: there are two in a shard.
pub(crate) const BUFFER_KEEP_BYTES_MAX: usize = 256 * 1024;
/// Shorter messages than this are sent compressed though they grow by some bytes: who
/// sets the minimum so low wants them so. Longer ones are not: clients hold the frame to
/// their limit for messages, which a message of just that size would exceed.
pub(crate) const GROWTH_IGNORED_BYTES: usize = 64;
/// Sizes of windows in which messages are compressed.
const WINDOW_SIZES: usize = (WINDOW_BITS_MAX - DEFLATE_WINDOW_BITS_MIN + 1) as usize;

/// What an operator decides about compression.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CompressionSettings {
    /// Whether an offer is accepted at all.
    pub enabled: bool,
    /// Messages with fewer bytes are sent as they are.
    pub message_bytes_min: usize,
    /// From 1, fast, to 9, small.
    pub level: u32,
    /// Who may keep a context between messages.
    pub takeover: Takeover,
    /// Bytes of memory that contexts of connections may take in one shard.
    pub context_bytes_max: usize,
    /// Whether control frames may be compressed, which is against RFC 7692.
    pub control_frames: bool,
}

impl Default for CompressionSettings {
    /// No compression.
    fn default() -> Self {
        Self {
            enabled: false,
            message_bytes_min: 0,
            level: 6,
            takeover: Takeover::default(),
            context_bytes_max: 0,
            control_frames: false,
        }
    }
}

/// The part of one connection.
#[derive(Debug)]
pub struct Compression {
    agreement: DeflateAgreement,
    /// Of what is sent to it, if the server keeps a context, from the first message on.
    deflater: Option<Box<Deflater>>,
    /// Of what it has sent, if it keeps a context.
    window: Window,
}

impl Compression {
    /// What was agreed on.
    pub fn agreement(&self) -> DeflateAgreement {
        self.agreement
    }

    /// Whether it understands what is compressed once for many: messages that stand alone,
    /// with the largest window.
    pub fn takes_shared(&self) -> bool {
        self.agreement.server_window_bits() == WINDOW_BITS_MAX
    }

    /// Bytes of memory that its contexts take once they are in use.
    fn reserved_bytes(&self) -> usize {
        let window = 1 << self.agreement.client_window_bits();
        usize::from(self.agreement.takeover.server) * DEFLATER_BYTES
            + usize::from(self.agreement.takeover.client) * window
    }

    fn held_bytes(&self) -> usize {
        self.deflater.as_ref().map_or(0, |_| DEFLATER_BYTES) + self.window.memory_bytes()
    }
}

/// What was done, in messages and bytes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct CompressionCounts {
    /// Messages compressed; one for many counts once.
    pub deflated: u64,
    /// Messages inflated.
    pub inflated: u64,
    /// Bytes that peers had less to send for them.
    pub inflated_saved_bytes: u64,
    /// Messages cut while inflating, since they were over the limit.
    pub bombs: u64,
    /// Connections that were granted less takeover than they offered, since the memory for
    /// contexts was taken.
    pub contexts_refused: u64,
}

/// The part of a shard.
#[derive(Debug)]
pub struct CompressionPool {
    settings: CompressionSettings,
    /// For messages that stand alone, by size of the window; made when first needed.
    deflaters: [Option<Box<Deflater>>; WINDOW_SIZES],
    inflater: Inflater,
    /// What was compressed last.
    deflated: Vec<u8>,
    /// Lent out for what was inflated last.
    inflated: Vec<u8>,
    /// What contexts of connections take once all of them are in use.
    reserved_bytes: usize,
    /// What they take now.
    held_bytes: usize,
    counts: CompressionCounts,
}

impl CompressionPool {
    /// Holds nothing yet.
    pub fn new(settings: CompressionSettings) -> Self {
        Self {
            settings,
            deflaters: Default::default(),
            inflater: Inflater::default(),
            deflated: Vec::new(),
            inflated: Vec::new(),
            reserved_bytes: 0,
            held_bytes: 0,
            counts: CompressionCounts::default(),
        }
    }

    /// What was done so far.
    pub fn counts(&self) -> CompressionCounts {
        self.counts
    }

    /// Bytes of memory that is held: contexts, and buffers.
    pub fn memory_bytes(&self) -> usize {
        let shared = self.deflaters.iter().flatten().count() * DEFLATER_BYTES + self.inflater.memory_bytes();
        shared + self.deflated.capacity() + self.inflated.capacity() + self.held_bytes
    }

    /// What is agreed on with a client that offers this. `replies`: whether it is sent
    /// messages of its own, for which the server might keep a context.
    pub fn negotiate<'a>(
        &mut self,
        offers: impl Iterator<Item = &'a [u8]> + Clone,
        replies: bool,
    ) -> Result<Option<DeflateAgreement>, HandshakeError> {
        if !self.settings.enabled {
            return Ok(None);
        }
        let mut wanted = self.settings.takeover;
        wanted.server &= replies;
        let mut allowed = wanted;
        let left = self.settings.context_bytes_max.saturating_sub(self.reserved_bytes);
        allowed.server &= left >= DEFLATER_BYTES;
        allowed.client &= left >= usize::from(allowed.server) * DEFLATER_BYTES + (1 << WINDOW_BITS_MAX);
        let agreed = extension::negotiate(offers.clone(), allowed)?;
        if allowed != wanted && agreed != extension::negotiate(offers, wanted)? {
            self.counts.contexts_refused += 1;
        }
        Ok(agreed)
    }

    /// A connection for which this was agreed on. To be given back by [`Self::release`].
    pub fn connect(&mut self, agreement: DeflateAgreement) -> Compression {
        let connection = Compression { agreement, deflater: None, window: Window::default() };
        self.reserved_bytes += connection.reserved_bytes();
        connection
    }

    /// The connection is over.
    pub fn release(&mut self, connection: Compression) {
        self.reserved_bytes -= connection.reserved_bytes();
        self.held_bytes -= connection.held_bytes();
    }

    /// What a connection with compression may send compressed.
    pub fn compressible(&self) -> Compressible {
        if self.settings.control_frames { Compressible::ControlFramesToo } else { Compressible::Messages }
    }

    /// The payload compressed for all whom [`Compression::takes_shared`] is true of.
    /// `None`: it is sent as it is, since it is short, or would get longer.
    pub fn deflate_shared(&mut self, payload: &[u8]) -> Option<&[u8]> {
        self.deflate_alone(payload, WINDOW_BITS_MAX)
    }

    /// The payload compressed for one connection. What this gives must be sent.
    pub fn deflate(&mut self, connection: &mut Compression, payload: &[u8]) -> Option<&[u8]> {
        let window_bits = connection.agreement.server_window_bits();
        if !connection.agreement.takeover.server {
            return self.deflate_alone(payload, window_bits);
        }
        if !self.is_worth_it(payload, window_bits) {
            return None;
        }
        let level = self.settings.level;
        let deflater = connection.deflater.get_or_insert_with(|| {
            self.held_bytes += DEFLATER_BYTES;
            Box::new(Deflater::new(level, window_bits))
        });
        shrink(&mut self.deflated);
        deflater.deflate(payload, &mut self.deflated);
        if self.got_longer(payload) {
            // Not sent, so nothing may refer to it.
            deflater.forget();
            return None;
        }
        self.counts.deflated += 1;
        Some(&self.deflated)
    }

    fn deflate_alone(&mut self, payload: &[u8], window_bits: u8) -> Option<&[u8]> {
        if !self.is_worth_it(payload, window_bits) {
            return None;
        }
        let level = self.settings.level;
        let deflater = self.deflaters[usize::from(window_bits - DEFLATE_WINDOW_BITS_MIN)]
            .get_or_insert_with(|| Box::new(Deflater::new(level, window_bits)));
        shrink(&mut self.deflated);
        deflater.deflate_alone(payload, &mut self.deflated);
        if self.got_longer(payload) {
            return None;
        }
        self.counts.deflated += 1;
        Some(&self.deflated)
    }

    fn got_longer(&self, payload: &[u8]) -> bool {
        self.deflated.len() >= payload.len() && payload.len() >= GROWTH_IGNORED_BYTES
    }

    fn is_worth_it(&self, payload: &[u8], window_bits: u8) -> bool {
        !payload.is_empty()
            && payload.len() >= self.settings.message_bytes_min
            && window_bits >= DEFLATE_WINDOW_BITS_MIN
    }

    /// Inflates what a connection sent. A message with more than `bytes_max` bytes is cut
    /// there; less is allowed to control frames.
    pub fn inflate(
        &mut self,
        connection: &mut Compression,
        opcode: OpCode,
        payload: &[u8],
        bytes_max: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), ProtocolError> {
        let bytes_max = if opcode.is_control() { CONTROL_PAYLOAD_BYTES_MAX } else { bytes_max };
        let inflated = if connection.agreement.takeover.client {
            let before = connection.window.memory_bytes();
            let window_bits = connection.agreement.client_window_bits();
            let inflated = self.inflater.inflate_with(&mut connection.window, window_bits, payload, bytes_max, out);
            self.held_bytes += connection.window.memory_bytes() - before;
            inflated
        } else {
            self.inflater.inflate(payload, bytes_max, out)
        };
        match inflated {
            Ok(()) => {
                self.counts.inflated += 1;
                self.counts.inflated_saved_bytes += out.len().saturating_sub(payload.len()) as u64;
            }
            Err(ProtocolError::InflatesTooLong { .. }) => self.counts.bombs += 1,
            Err(_) => {}
        }
        inflated
    }

    /// Lends a buffer to inflate into.
    pub fn take_buffer(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.inflated)
    }

    /// Takes it back.
    pub fn put_buffer(&mut self, mut buffer: Vec<u8>) {
        shrink(&mut buffer);
        self.inflated = buffer;
    }
}

fn shrink(buffer: &mut Vec<u8>) {
    if buffer.capacity() > BUFFER_KEEP_BYTES_MAX {
        *buffer = Vec::new();
    }
}

#[cfg(test)]
#[path = "compression_tests.rs"]
mod tests;
