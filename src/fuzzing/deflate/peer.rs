//! The other side of a connection, as miniz_oxide has it.

use miniz_oxide::deflate::core::CompressorOxide;
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::{TINFL_FLAG_HAS_MORE_INPUT, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF};
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};
use miniz_oxide::{DataFormat, MZFlush, deflate};

/// What a message leaves out at its end (RFC 7692, section 7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
/// An empty block that is the last one: it is read as that only where a block may begin.
const LAST: [u8; 5] = [1, 0, 0, 0xff, 0xff];

/// What comes of a compressed message.
#[derive(PartialEq, Debug)]
pub(super) enum Inflated {
    Text(Vec<u8>),
    /// It is longer than the limit.
    TooLong,
    Refused,
}

/// Inflates a message behind the text that it may refer to. `streams_max`: how often a
/// final block may be followed by more.
pub(super) fn inflate(window: &[u8], message: &[u8], bytes_max: usize, streams_max: usize) -> Inflated {
    if message.is_empty() {
        return Inflated::Text(Vec::new());
    }
    let mut text = [window, &vec![0; bytes_max + 1]].concat();
    let mut end = window.len();
    let mut rest = message;
    for _ in 0..streams_max {
        let mut stream = Box::<DecompressorOxide>::default();
        let mut feed = |input: &[u8]| {
            let flags = TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF | TINFL_FLAG_HAS_MORE_INPUT;
            let (status, read, written) = decompress(&mut stream, input, &mut text, end, flags);
            end += written;
            if end > window.len() + bytes_max { Err(Inflated::TooLong) } else { Ok((status, read)) }
        };
        let read = match feed(rest) {
            Err(verdict) => return verdict,
            Ok((TINFLStatus::Done, read)) => read,
            Ok((TINFLStatus::NeedsMoreInput, _)) => {
                return match feed(&[&TAIL[..], &LAST].concat()) {
                    Err(verdict) => verdict,
                    Ok((TINFLStatus::Done, 9)) => Inflated::Text(text[window.len()..end].to_vec()),
                    Ok(_) => Inflated::Refused,
                };
            }
            Ok(_) => return Inflated::Refused,
        };
        rest = &rest[read..];
        if rest.is_empty() {
            return Inflated::Text(text[window.len()..end].to_vec());
        }
    }
    Inflated::Refused
}

/// A client's decompressor with a window of just the size that was agreed on: what
/// reaches further back is not there.
pub(super) struct Receiver {
    decompressor: Box<DecompressorOxide>,
    window: Vec<u8>,
    at: usize,
}

impl Receiver {
    pub(super) fn new(window_bits: u8) -> Self {
        Self { decompressor: Box::default(), window: vec![0; 1 << window_bits], at: 0 }
    }

    /// A message may refer to what was received since the receiver was made.
    pub(super) fn inflate(&mut self, message: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        let input = [message, &TAIL].concat();
        let mut rest = &input[..];
        loop {
            let (status, read, written) =
                decompress(&mut self.decompressor, rest, &mut self.window, self.at, TINFL_FLAG_HAS_MORE_INPUT);
            text.extend_from_slice(&self.window[self.at..self.at + written]);
            self.at = (self.at + written) % self.window.len();
            rest = &rest[read..];
            match status {
                TINFLStatus::HasMoreOutput => {}
                TINFLStatus::NeedsMoreInput if rest.is_empty() => return text,
                _ => panic!("{status:?} at {} bytes of text", text.len()),
            }
        }
    }
}

/// A client's compressor, with the largest window.
pub(super) struct Sender(Box<CompressorOxide>);

impl Sender {
    pub(super) fn new() -> Self {
        let mut compressor = Box::<CompressorOxide>::default();
        compressor.set_format_and_level(DataFormat::Raw, 6);
        Self(compressor)
    }

    /// Later messages refer to nothing before this.
    pub(super) fn forget(&mut self) {
        self.0.reset();
    }

    pub(super) fn deflate(&mut self, message: &[u8]) -> Vec<u8> {
        let mut out = vec![0; message.len() + message.len() / 8 + 100];
        let done = deflate::stream::deflate(&mut self.0, message, &mut out, MZFlush::Sync);
        assert_eq!(done.bytes_consumed, message.len());
        out.truncate(done.bytes_written);
        out.strip_suffix(&TAIL).expect("a flush ends with an empty block").to_vec()
    }
}
