//! Compressing messages (RFC 7692, section 7.2.1).
//!
//! A [`Deflater`] that begins anew with each message serves all connections of a shard;
//! only context takeover needs one for each connection.

use flate2::{Compress, Compression, FlushCompress};

use super::extension::{WINDOW_BITS_MAX, WINDOW_BITS_MIN};

/// What a flush ends with and a message leaves out (section 7.2.1).
const FLUSH: [u8; 4] = [0, 0, 0xff, 0xff];

/// The smallest window in which zlib compresses. For the smallest that may be
/// negotiated, 8, it would compress with 9 and say so in a header that raw DEFLATE does
/// not have, or refuse: so to a peer with that window nothing is sent compressed, which
/// section 6 allows for each message.
pub const DEFLATE_WINDOW_BITS_MIN: u8 = WINDOW_BITS_MIN + 1;

/// The least and the most that a level of compression can be: from fast to small.
pub const LEVELS: std::ops::RangeInclusive<u32> = 1..=9;

/// Memory of a compressor with the largest window in bytes: the window twice, its hash
/// chains, and what was not flushed yet. A test compares.
pub const DEFLATER_BYTES: usize = 372 * 1024;

/// Compresses messages in a window of one size.
#[derive(Debug)]
pub struct Deflater {
    compressor: Compress,
}

impl Deflater {
    /// `level` is one of [`LEVELS`], `window_bits` at least [`DEFLATE_WINDOW_BITS_MIN`]
    /// and at most 15. Allocates up to [`DEFLATER_BYTES`].
    pub fn new(level: u32, window_bits: u8) -> Self {
        assert!(LEVELS.contains(&level), "level {level}");
        assert!((DEFLATE_WINDOW_BITS_MIN..=WINDOW_BITS_MAX).contains(&window_bits), "{window_bits} window bits");
        Self { compressor: Compress::new_with_window_bits(Compression::new(level), false, window_bits) }
    }

    /// Compresses a message that refers to no earlier one into `out`, which is cleared
    /// first. The message must not be empty.
    pub fn deflate_alone(&mut self, message: &[u8], out: &mut Vec<u8>) {
        self.forget();
        self.deflate(message, out);
    }

    /// Later messages refer to nothing before this.
    pub fn forget(&mut self) {
        self.compressor.reset();
    }

    /// Compresses a message that may refer to earlier ones into `out`, which is cleared
    /// first. The message must not be empty. If it is not sent, [`Deflater::forget`] must be
    /// called: later ones would refer to it.
    pub fn deflate(&mut self, message: &[u8], out: &mut Vec<u8>) {
        assert!(!message.is_empty(), "an empty message is sent as it is");
        out.clear();
        let mut rest = message;
        loop {
            // Half the size is a guess; it is doubled until everything fits.
            out.reserve(message.len() / 2 + 64);
            let read = self.compressor.total_in();
            let flushed = self.compressor.compress_vec(rest, out, FlushCompress::Sync);
            assert!(flushed.is_ok(), "any bytes can be compressed");
            rest = &rest[(self.compressor.total_in() - read) as usize..];
            // With room left in the output, the flush is complete.
            if rest.is_empty() && out.len() < out.capacity() {
                break;
            }
        }
        assert!(out.ends_with(&FLUSH), "a flush ends with an empty block");
        out.truncate(out.len() - FLUSH.len());
    }
}

#[cfg(test)]
#[path = "deflate_tests.rs"]
mod tests;
