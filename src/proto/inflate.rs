//! Inflating messages (RFC 7692, section 7.2.2), within a bound.
//!
//! A message is inflated when all of it is there, so a peer that stalls in the middle of
//! one makes us hold what it has sent and nothing more. That also makes one
//! decompressor enough for all connections of a shard: what a connection with context
//! takeover needs from its past is the text itself, its [`Window`], not a decompressor.

use flate2::{Decompress, FlushDecompress, Status};

use super::error::ProtocolError;
use super::extension::WINDOW_BITS_MAX;

/// Bytes that the sender took off the end of a message (section 7.2.1), and an empty
/// block that is the last one of its stream. They are read to the end only if the
/// message ended where a block does: that is how a cut one is told from a whole one.
const END: [u8; 9] = [0, 0, 0xff, 0xff, 1, 0, 0, 0xff, 0xff];

/// The output grows in steps of at least this many bytes.
pub(crate) const STEP_BYTES_MIN: usize = 4 * 1024;

/// A sender may end the DEFLATE stream inside a message and begin another (section
/// 7.2.1). Each end costs as much as inflating a KiB, so there may be one for each KiB,
/// and a few.
pub(crate) const STREAMS_MAX: usize = 16;
pub(crate) const BYTES_PER_STREAM: usize = 1024;

/// Memory of a decompressor in bytes, most of it its window. A test compares.
pub const INFLATER_BYTES: usize = 48 * 1024;

/// Inflates messages of any number of connections.
#[derive(Default, Debug)]
pub struct Inflater {
    /// Made when it is first needed.
    decompressor: Option<Decompress>,
}

/// What a peer with context takeover said last, as far back as its window reaches.
#[derive(Default, Debug)]
pub struct Window {
    text: Vec<u8>,
}

impl Window {
    /// Bytes of memory that it holds.
    pub fn memory_bytes(&self) -> usize {
        self.text.capacity()
    }

    /// Appends what was inflated, and forgets what no later message can refer to.
    fn slide(&mut self, inflated: &[u8], window_bits: u8) {
        let len_max = 1 << window_bits;
        let new = &inflated[inflated.len().saturating_sub(len_max)..];
        self.text.drain(..(self.text.len() + new.len()).saturating_sub(len_max));
        let needed = self.text.len() + new.len();
        if needed > self.text.capacity() {
            self.text.reserve_exact(needed.next_power_of_two() - self.text.len());
        }
        self.text.extend_from_slice(new);
    }
}

impl Inflater {
    /// Inflates a message that does not refer to earlier ones into `out`, which is
    /// cleared first.
    ///
    /// What would be longer than `bytes_max` is cut there: no more than that and a small
    /// step is ever allocated.
    pub fn inflate(&mut self, message: &[u8], bytes_max: usize, out: &mut Vec<u8>) -> Result<(), ProtocolError> {
        self.inflate_behind(&[], message, bytes_max, out)
    }

    /// The same for a message that may refer to earlier ones in a window of
    /// `window_bits`, which takes it in.
    pub fn inflate_with(
        &mut self,
        window: &mut Window,
        window_bits: u8,
        message: &[u8],
        bytes_max: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), ProtocolError> {
        self.inflate_behind(&window.text, message, bytes_max, out)?;
        window.slide(out, window_bits);
        Ok(())
    }

    /// Bytes of memory that it holds.
    pub fn memory_bytes(&self) -> usize {
        if self.decompressor.is_some() { INFLATER_BYTES } else { 0 }
    }

    fn inflate_behind(
        &mut self,
        window: &[u8],
        message: &[u8],
        bytes_max: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), ProtocolError> {
        out.clear();
        // An empty message is one byte (section 7.2.3.6), but Starscream 4.0.6 sends none.
        if message.is_empty() {
            return Ok(());
        }
        // Made for the largest window: it reads what was written for any smaller one.
        let decompressor =
            self.decompressor.get_or_insert_with(|| Decompress::new_with_window_bits(false, WINDOW_BITS_MAX));
        let mut stream = Stream { decompressor, out, bytes_max };
        stream.begin(window)?;
        let mut rest = message;
        for _ in 0..=STREAMS_MAX + message.len() / BYTES_PER_STREAM {
            match stream.feed(rest)? {
                // The sender's own end, with nothing behind it to be completed.
                Some([]) => return Ok(()),
                Some(behind) => {
                    stream.begin(window)?;
                    rest = behind;
                }
                None => {
                    return match stream.feed(&END)? {
                        Some([]) => Ok(()),
                        _ => Err(ProtocolError::InvalidDeflate("it ends in the middle of a block")),
                    };
                }
            }
        }
        Err(ProtocolError::InvalidDeflate("it has too many final blocks"))
    }
}

/// A message that is being inflated.
struct Stream<'a> {
    decompressor: &'a mut Decompress,
    out: &'a mut Vec<u8>,
    bytes_max: usize,
}

impl Stream<'_> {
    /// Begins a DEFLATE stream that may refer to the window and to what is inflated.
    fn begin(&mut self, window: &[u8]) -> Result<(), ProtocolError> {
        self.decompressor.reset(false);
        for text in [window, &self.out[self.out.len().saturating_sub(1 << WINDOW_BITS_MAX)..]] {
            if !text.is_empty() && self.decompressor.set_dictionary(text).is_err() {
                return Err(ProtocolError::InvalidDeflate("its window is refused"));
            }
        }
        Ok(())
    }

    /// Inflates all of `input`, or up to the end of the stream: then what is left of it.
    fn feed<'b>(&mut self, mut input: &'b [u8]) -> Result<Option<&'b [u8]>, ProtocolError> {
        loop {
            self.grow();
            let (read, written) = (self.decompressor.total_in(), self.out.len());
            let result = self.decompressor.decompress_vec(input, self.out, FlushDecompress::Sync);
            let read = (self.decompressor.total_in() - read) as usize;
            input = &input[read..];
            // Before the result is looked at: in a buffer with more room, what comes behind the
            // limit is inflated, too, and may be anything.
            if self.out.len() > self.bytes_max {
                return Err(ProtocolError::InflatesTooLong { limit: self.bytes_max });
            }
            let status = result.map_err(|_| ProtocolError::InvalidDeflate("it is not DEFLATE data"))?;
            if status == Status::StreamEnd {
                return Ok(Some(input));
            }
            // With room left in the output, everything has been taken out of the input.
            if self.out.len() < self.out.capacity() {
                if input.is_empty() {
                    return Ok(None);
                }
                if read == 0 && self.out.len() == written {
                    return Err(ProtocolError::InvalidDeflate("it is not DEFLATE data"));
                }
            }
        }
    }

    /// Makes room for at least one byte, and never for more than one above the limit,
    /// which tells a message that is too long from one that is just not.
    fn grow(&mut self) {
        let len = self.out.len();
        if len == self.out.capacity() {
            let wanted = (2 * len).max(STEP_BYTES_MIN).min(self.bytes_max.saturating_add(1));
            self.out.reserve_exact(wanted.saturating_sub(len).max(1));
        }
    }
}

#[cfg(test)]
#[path = "inflate_tests.rs"]
mod tests;
