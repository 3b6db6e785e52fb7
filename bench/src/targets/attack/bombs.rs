//! Messages that are small and inflate to very much.

use std::io::{self, Write as _};

use flate2::Compression;
use flate2::write::DeflateEncoder;
use wsgate::proto::frame::{FrameHeader, HEADER_BYTES_MAX, OpCode};

use super::attacker::{Attack, Progress, Tally, Target, await_end, await_head, says_too_long};

/// Bytes of zeros that a message inflates to.
const INFLATED_BYTES: u64 = 1 << 30;
/// Connections in one step.
pub(super) const BATCH: usize = 4;
/// The bit of a frame that says that its message is compressed (RFC 7692, 6).
const COMPRESSED: u8 = 0b100;
/// What the encoder ends a flush with and a message leaves out (RFC 7692, 7.2.1).
const FLUSH_TAIL: &[u8] = &[0, 0, 0xff, 0xff];

/// One bomb on each connection. Counts those that were told 1009.
#[derive(Debug)]
pub(super) struct Bombs {
    target: Target,
    request: Vec<u8>,
    message: Vec<u8>,
}

impl Bombs {
    pub(super) fn new(target: Target) -> io::Result<Self> {
        let path = "/topics/flood?subscribe=off";
        let request = target.upgrade(path, "Sec-WebSocket-Extensions: permessage-deflate\r\n");
        Ok(Self { target, request, message: bomb(INFLATED_BYTES)? })
    }
}

impl Attack for Bombs {
    fn step(&mut self, tally: &mut Tally) -> io::Result<Progress> {
        for mut stream in self.target.say(&self.request, BATCH, tally)? {
            let Some(head) = await_head(&mut stream) else {
                tally.ended += 1;
                continue;
            };
            if !String::from_utf8_lossy(&head).to_ascii_lowercase().contains("permessage-deflate") {
                return Err(io::Error::other("the server does not compress, though it was told to"));
            }
            // It may have had enough before it has read all.
            let _ = stream.write_all(&self.message);
            tally.done += u64::from(await_end(&mut stream).is_some_and(|answer| says_too_long(&answer)));
            tally.ended += 1;
        }
        Ok(Progress::Made)
    }
}

/// A compressed message of so many zeros, in one frame.
fn bomb(inflated: u64) -> io::Result<Vec<u8>> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    let zeros = vec![0; 1 << 20];
    for _ in 0..inflated / zeros.len() as u64 {
        encoder.write_all(&zeros)?;
    }
    encoder.flush()?;
    let deflated = encoder.get_ref().strip_suffix(FLUSH_TAIL).unwrap_or(encoder.get_ref());
    let header = FrameHeader {
        fin: true,
        reserved: COMPRESSED,
        opcode: OpCode::Binary,
        mask: Some([0; 4]),
        payload_len: deflated.len() as u64,
    };
    let mut bytes = [0; HEADER_BYTES_MAX];
    let len = header.encode(&mut bytes);
    Ok([&bytes[..len], deflated].concat())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::DeflateDecoder;

    use super::*;

    #[test]
    fn a_bomb_is_a_thousandth_of_what_it_inflates_to() {
        const INFLATED: u64 = 64 << 20;
        let message = bomb(INFLATED).unwrap();
        let (header, len) = FrameHeader::decode(&message).unwrap().unwrap();
        assert!(header.fin && header.reserved == COMPRESSED);
        assert!(header.payload_len < INFLATED / 900, "{} bytes", header.payload_len);
        let deflated = [&message[len..], FLUSH_TAIL].concat();
        let mut inflated = DeflateDecoder::new(deflated.as_slice()).take(INFLATED);
        assert_eq!(io::copy(&mut inflated, &mut io::sink()).unwrap(), INFLATED);
    }
}
