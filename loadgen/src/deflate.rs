//! permessage-deflate at the client's end (RFC 7692): what is offered, what an answer
//! may say, and what all clients of a worker compress and inflate with.
//!
//! Neither side keeps a context between messages, so that one compressor and one
//! decompressor are enough for any number of connections.

use wsgate::proto::deflate::Deflater;
use wsgate::proto::error::ProtocolError;
use wsgate::proto::inflate::Inflater;

/// The value of `Sec-WebSocket-Extensions` in requests.
pub const OFFER: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
/// From 1, fast, to 9, small. The least that makes codes of its own for a message: with
/// the fixed ones of level 1, payloads, which repeat nothing, would not become shorter.
const LEVEL: u32 = 2;
const WINDOW_BITS: u8 = 15;

/// What clients of a worker share.
#[derive(Default, Debug)]
pub struct Codec {
    /// Made when first needed.
    deflater: Option<Box<Deflater>>,
    inflater: Inflater,
    deflated: Vec<u8>,
}

impl Codec {
    /// The message compressed. It must not be empty.
    pub fn deflate(&mut self, message: &[u8]) -> &[u8] {
        let deflater = self.deflater.get_or_insert_with(|| Box::new(Deflater::new(LEVEL, WINDOW_BITS)));
        deflater.deflate_alone(message, &mut self.deflated);
        &self.deflated
    }

    /// Inflates a message of at most `bytes_max` bytes into `out`, which is cleared first.
    ///
    /// # Errors
    /// A message that is no DEFLATE, or inflates to more.
    pub fn inflate(&mut self, message: &[u8], bytes_max: usize, out: &mut Vec<u8>) -> Result<(), ProtocolError> {
        self.inflater.inflate(message, bytes_max, out)
    }
}

/// Whether the server's answer accepts the offer as it was made.
///
/// # Errors
/// In words: another extension, or a parameter that was not offered.
pub fn check_answer(value: &str) -> Result<(), String> {
    let mut parts = value.split(';').map(str::trim);
    if parts.next() != Some("permessage-deflate") {
        return Err(format!("the server chose the extension {value:?}, which was not offered"));
    }
    let mut keeps_context = true;
    for part in parts {
        match part.split_once('=').map_or(part, |(name, _)| name.trim()) {
            "server_no_context_takeover" => keeps_context = false,
            // The server may use a smaller window than ours, which reads it.
            "client_no_context_takeover" | "server_max_window_bits" => {}
            _ => return Err(format!("the server answered {part:?}, which was not offered")),
        }
    }
    if keeps_context {
        return Err(format!("the server chose {value:?}, without the server_no_context_takeover that was asked for"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_deflated_is_inflated() {
        let mut codec = Codec::default();
        let text = b"hello hello hello hello".repeat(20);
        let deflated = codec.deflate(&text).to_vec();
        assert!(deflated.len() < text.len() / 4);
        let mut out = Vec::new();
        codec.inflate(&deflated, 1_000, &mut out).unwrap();
        assert_eq!(out, text);
        assert!(matches!(codec.inflate(&deflated, 100, &mut out), Err(ProtocolError::InflatesTooLong { .. })));
    }

    #[test]
    fn answers_are_held_to_the_offer() {
        for value in [
            "permessage-deflate; server_no_context_takeover",
            "permessage-deflate;client_no_context_takeover; server_no_context_takeover; server_max_window_bits=12",
        ] {
            check_answer(value).unwrap();
        }
        for (value, part) in [
            ("x-webkit-deflate-frame", "was not offered"),
            ("permessage-deflate", "without the server_no"),
            ("permessage-deflate; server_no_context_takeover; client_max_window_bits=10", "client_max_window_bits=10"),
        ] {
            assert!(check_answer(value).unwrap_err().contains(part), "{value}");
        }
    }
}
