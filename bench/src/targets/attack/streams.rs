//! Attacks by a few connections that send as fast as the server reads.

use std::io::{self, ErrorKind, Write as _};
use std::net::TcpStream;

use wsgate::proto::frame::{FrameHeader, HEADER_BYTES_MAX, OpCode};

use super::attacker::{Attack, Progress, Tally, Target, discard};

pub(super) const CONNECTIONS: usize = 10;
/// Fragments of one message.
const FRAGMENTS: usize = 100_000;
/// Pings in one write: 6 bytes each.
const PINGS: usize = 10_000;
/// What a connection may send before the others have their turn.
const WRITE_BYTES_MAX: usize = 64 * 1024;

/// Connections that repeat the same bytes, and read what comes.
#[derive(Debug)]
pub(super) struct Streams {
    target: Target,
    path: &'static str,
    bytes: Vec<u8>,
    /// Units of the attack in `bytes`.
    units: u64,
    /// Connections, and where each is in the bytes.
    open: Vec<(TcpStream, usize)>,
    sent: u64,
    buffer: Vec<u8>,
}

impl Streams {
    fn new(target: Target, path: &'static str, bytes: Vec<u8>, units: u64) -> Self {
        Self { target, path, bytes, units, open: Vec::new(), sent: 0, buffer: vec![0; 256 * 1024] }
    }

    /// Messages of one byte in each of very many fragments.
    pub(super) fn fragments(target: Target) -> Self {
        let mut bytes = Vec::new();
        for n in 0..FRAGMENTS {
            let opcode = if n == 0 { OpCode::Binary } else { OpCode::Continuation };
            append_frame(&mut bytes, n + 1 == FRAGMENTS, opcode, &[0]);
        }
        Self::new(target, "/topics/flood?subscribe=off", bytes, FRAGMENTS as u64)
    }

    /// Pings without a payload.
    pub(super) fn pings(target: Target) -> Self {
        let mut bytes = Vec::new();
        (0..PINGS).for_each(|_| append_frame(&mut bytes, true, OpCode::Ping, &[]));
        Self::new(target, "/topics/flood?subscribe=off", bytes, PINGS as u64)
    }
}

fn append_frame(out: &mut Vec<u8>, fin: bool, opcode: OpCode, payload: &[u8]) {
    let header = FrameHeader { fin, reserved: 0, opcode, mask: Some([0; 4]), payload_len: payload.len() as u64 };
    let mut bytes = [0; HEADER_BYTES_MAX];
    let len = header.encode(&mut bytes);
    out.extend_from_slice(&bytes[..len]);
    out.extend_from_slice(payload);
}

impl Attack for Streams {
    fn step(&mut self, tally: &mut Tally) -> io::Result<Progress> {
        let missing = CONNECTIONS - self.open.len();
        if missing > 0 {
            self.open.extend(self.target.open(self.path, missing, None, tally)?.into_iter().map(|stream| (stream, 0)));
        }
        let Self { bytes, buffer, .. } = self;
        let mut sent = 0;
        self.open.retain_mut(|(stream, position)| {
            let end = bytes.len().min(*position + WRITE_BYTES_MAX);
            let result = match stream.write(&bytes[*position..end]) {
                Ok(n) => {
                    *position = (*position + n) % bytes.len();
                    sent += n;
                    discard(stream, buffer)
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => discard(stream, buffer),
                Err(error) => Err(error),
            };
            tally.ended += u64::from(result.is_err());
            result.is_ok()
        });
        self.sent += sent as u64;
        tally.done = self.sent * self.units / self.bytes.len() as u64;
        Ok(if sent > 0 { Progress::Made } else { Progress::Waiting })
    }
}
