//! permessage-deflate at a client's end, by an implementation that the gateway does not
//! use (miniz_oxide), with a window of just the size that was agreed on.

use std::collections::VecDeque;
use std::io::Cursor;

use miniz_oxide::deflate::core::CompressorOxide;
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_HAS_MORE_INPUT;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};
use miniz_oxide::{DataFormat, MZFlush, deflate};
use tungstenite::protocol::frame::FrameHeader;

const WINDOW_BITS_MAX: u8 = 15;
/// What a message leaves out at its end (RFC 7692, section 7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// What a client writes into its request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offer {
    pub(crate) text: &'static str,
    /// Whether a server that compresses accepts it.
    acceptable: bool,
    /// The largest windows that it allows.
    server_bits: u8,
    client_bits: u8,
}

const fn offer(text: &'static str, acceptable: bool, server_bits: u8, client_bits: u8) -> Offer {
    Offer { text, acceptable, server_bits, client_bits }
}

pub(crate) const OFFERS: [Offer; 7] = [
    offer("permessage-deflate; client_max_window_bits", true, 15, 15),
    offer("permessage-deflate", true, 15, 15),
    offer("permessage-deflate; client_no_context_takeover; server_no_context_takeover", true, 15, 15),
    offer("permessage-deflate; server_max_window_bits=9", true, 9, 15),
    offer("permessage-deflate; server_max_window_bits=7, permessage-deflate; server_max_window_bits=8", true, 8, 15),
    offer("permessage-deflate; client_max_window_bits=10", true, 15, 10),
    offer("permessage-deflate; server_max_window_bits=16", false, 0, 0),
];

/// One connection that has agreed on it.
pub(crate) struct Deflate {
    server_keeps: bool,
    client_keeps: bool,
    /// What it sends may be compressed. The compressor knows the largest window alone, and
    /// with a smaller one a client may send everything as it is.
    pub(crate) sends: bool,
    decompressor: Box<DecompressorOxide>,
    window: Vec<u8>,
    at: usize,
    compressor: Option<Box<CompressorOxide>>,
    /// A frame that is not whole.
    cut: Vec<u8>,
}

impl Deflate {
    /// What the answer to a request says; nothing if there is no such extension.
    pub(crate) fn agreed(offer: Option<Offer>, answer: Option<&str>, enabled: bool) -> Option<Self> {
        let expected = enabled && offer.is_some_and(|offer| offer.acceptable);
        assert_eq!(answer.is_some(), expected, "{offer:?} was answered by {answer:?}");
        let (offer, answer) = (offer?, answer?);
        let mut parts = answer.split("; ");
        assert_eq!(parts.next(), Some("permessage-deflate"));
        let (mut server_keeps, mut client_keeps) = (true, true);
        let (mut server_bits, mut client_bits) = (WINDOW_BITS_MAX, WINDOW_BITS_MAX);
        let number = |bits: &str| bits.parse::<u8>().expect("a window has a size");
        for part in parts {
            match part.split_once('=') {
                None if part == "server_no_context_takeover" => server_keeps = false,
                None if part == "client_no_context_takeover" => client_keeps = false,
                Some(("server_max_window_bits", bits)) => server_bits = number(bits),
                Some(("client_max_window_bits", bits)) => client_bits = number(bits),
                _ => panic!("{part:?} is no parameter"),
            }
        }
        assert!((8..=offer.server_bits).contains(&server_bits), "{server_bits} bits for {offer:?}");
        assert!((8..=offer.client_bits).contains(&client_bits), "{client_bits} bits for {offer:?}");
        Some(Self {
            server_keeps,
            client_keeps,
            sends: client_bits == WINDOW_BITS_MAX,
            decompressor: Box::default(),
            window: vec![0; 1 << server_bits],
            at: 0,
            compressor: None,
            cut: Vec::new(),
        })
    }

    /// Passes frames on, as if they had never been compressed. Returns how many were.
    pub(crate) fn unpack(&mut self, bytes: &[u8], out: &mut VecDeque<u8>) -> u64 {
        self.cut.extend_from_slice(bytes);
        let all = std::mem::take(&mut self.cut);
        let mut rest = &all[..];
        let mut compressed = 0;
        loop {
            let mut cursor = Cursor::new(rest);
            let Some((mut header, len)) = FrameHeader::parse(&mut cursor).expect("a server's frame has a header")
            else {
                break;
            };
            let start = cursor.position() as usize;
            let Some(payload) = rest[start..].get(..len as usize) else { break };
            if header.rsv1 {
                compressed += 1;
                let text = self.inflate(payload);
                header.rsv1 = false;
                header.format(text.len() as u64, out).expect("memory takes everything");
                out.extend(text);
            } else {
                out.extend(&rest[..start + payload.len()]);
            }
            rest = &rest[start + payload.len()..];
        }
        self.cut = rest.to_vec();
        compressed
    }

    /// Whether a frame has come in part.
    pub(crate) fn is_cut(&self) -> bool {
        !self.cut.is_empty()
    }

    fn inflate(&mut self, payload: &[u8]) -> Vec<u8> {
        if !self.server_keeps {
            self.decompressor.init();
            // Nothing that it could refer to.
            self.window.fill(0);
        }
        let input = [payload, &TAIL].concat();
        let (mut rest, mut text) = (&input[..], Vec::new());
        loop {
            let (status, read, written) =
                decompress(&mut self.decompressor, rest, &mut self.window, self.at, TINFL_FLAG_HAS_MORE_INPUT);
            text.extend_from_slice(&self.window[self.at..self.at + written]);
            self.at = (self.at + written) % self.window.len();
            rest = &rest[read..];
            match status {
                TINFLStatus::HasMoreOutput => {}
                TINFLStatus::NeedsMoreInput if rest.is_empty() => return text,
                _ => panic!("what the server has compressed is not: {status:?}"),
            }
        }
    }

    /// Compresses a message to be sent.
    pub(crate) fn deflate(&mut self, payload: &[u8]) -> Vec<u8> {
        let compressor = self.compressor.get_or_insert_with(|| {
            let mut compressor = Box::<CompressorOxide>::default();
            compressor.set_format_and_level(DataFormat::Raw, 1);
            compressor
        });
        if !self.client_keeps {
            compressor.reset();
        }
        let mut out = vec![0; payload.len() + payload.len() / 8 + 100];
        let done = deflate::stream::deflate(compressor, payload, &mut out, MZFlush::Sync);
        assert_eq!(done.bytes_consumed, payload.len());
        out.truncate(done.bytes_written);
        out.strip_suffix(&TAIL).expect("a flush ends with an empty block").to_vec()
    }
}
