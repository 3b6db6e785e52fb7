//! TLS that is none, that stops, or that is cut off.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::Shutdown;

use super::attacker::{Attack, Progress, Tally, Target, await_end};
use super::crowds::HalfOpen;
use super::floods::Garbage;
use crate::rig::secure::Certificates;

/// A record that begins a ClientHello of 512 bytes, as far as its first bytes say.
const HELLO_BEGUN: &[u8] = &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03];
const HELLO_BYTES: usize = 5 + 512;

/// The head of an encrypted record of 16 KiB, and a little of what it announces.
const RECORD_BEGUN: &[u8] = &[0x17, 0x03, 0x03, 0x40, 0x00, 0xe5, 0xe5, 0xe5];

/// Connections in one step: less than of others, since a handshake takes long.
const BATCH: usize = 10;

/// Records that begin as a ClientHello and go on as nothing of the kind.
pub(super) fn garbage(target: Target) -> Garbage {
    let mut bytes = HELLO_BEGUN.to_vec();
    bytes.resize(HELLO_BYTES, 0xe5);
    Garbage { target, bytes }
}

/// A ClientHello that comes a byte a second.
pub(super) fn stalled(target: Target) -> HalfOpen {
    HalfOpen::new(target, HELLO_BEGUN.to_vec())
}

/// A ClientHello that is answered, and then a record that comes a byte a second. All
/// say the same, so that only the server computes.
pub(super) fn answered(target: Target, certificates: &Certificates) -> io::Result<HalfOpen> {
    Ok(HalfOpen::new(target, [&certificates.client_hello()?, RECORD_BEGUN].concat()))
}

/// A ClientHello, and a reset as soon as it is answered.
#[derive(Debug)]
pub(super) struct Abandoned {
    target: Target,
    hello: Vec<u8>,
}

impl Abandoned {
    pub(super) fn new(target: Target, certificates: &Certificates) -> io::Result<Self> {
        Ok(Self { target, hello: certificates.client_hello()? })
    }
}

impl Attack for Abandoned {
    fn step(&mut self, tally: &mut Tally) -> io::Result<Progress> {
        for mut stream in self.target.say(&self.hello, BATCH, tally)? {
            match stream.read(&mut [0; 4096]) {
                Ok(1..) => tally.done += 1,
                _ => tally.ended += 1,
            }
        }
        Ok(Progress::Made)
    }
}

/// Whole handshakes, then a record that is cut by the end of the stream.
#[derive(Debug)]
pub(super) struct Truncated {
    pub(super) target: Target,
    pub(super) certificates: Certificates,
}

impl Attack for Truncated {
    fn step(&mut self, tally: &mut Tally) -> io::Result<Progress> {
        for _ in 0..BATCH {
            let Some(stream) = self.target.connect(None, tally)? else { continue };
            match self.certificates.secure(stream) {
                Ok(mut secure) => {
                    let cut =
                        secure.stream.write_all(RECORD_BEGUN).and_then(|()| secure.stream.shutdown(Shutdown::Write));
                    let ended = await_end(&mut secure.stream).is_some();
                    tally.done += u64::from(cut.is_ok() && ended);
                    tally.ended += 1;
                }
                // What is wrong with what it says is a fault, and no refusal.
                Err(error) if error.kind() == ErrorKind::Other => return Err(error),
                Err(_) => tally.ended += 1,
            }
        }
        Ok(Progress::Made)
    }
}
