//! Attacks by connections that come and go as fast as they can.

use std::io;

use super::attacker::{Attack, Progress, Tally, Target, await_end};

/// Connections in one step: more than one, so that neither side waits for the other.
const BATCH: usize = 100;

/// The code of a Close for messages that are too long: 1009.
const TOO_LONG: [u8; 2] = 1009u16.to_be_bytes();

/// Connects and resets.
#[derive(Debug)]
pub(super) struct Resets(pub(super) Target);

impl Attack for Resets {
    fn step(&mut self, tally: &mut Tally) -> io::Result<Progress> {
        for _ in 0..BATCH {
            drop(self.0.connect(None)?);
            tally.opened += 1;
            tally.done += 1;
        }
        Ok(Progress::Made)
    }
}

/// Whole handshakes, each reset as soon as it is answered.
#[derive(Debug)]
pub(super) struct Handshakes(pub(super) Target);

impl Attack for Handshakes {
    fn step(&mut self, tally: &mut Tally) -> io::Result<Progress> {
        tally.done += self.0.open("/topics/flood", BATCH, tally)?.len() as u64;
        Ok(Progress::Made)
    }
}

/// Announces a message of 4 GiB and sends none of it. Counts those that were told 1009.
#[derive(Debug)]
pub(super) struct Announcements(pub(super) Target);

impl Attack for Announcements {
    fn step(&mut self, tally: &mut Tally) -> io::Result<Progress> {
        let mut bytes = self.0.upgrade("/topics/flood?subscribe=off", "");
        bytes.extend([0x82, 0xff]);
        bytes.extend((4u64 << 30).to_be_bytes());
        bytes.extend([1, 2, 3, 4]);
        for mut stream in self.0.say(&bytes, BATCH, tally)? {
            let answer = await_end(&mut stream).unwrap_or_default();
            tally.ended += 1;
            // The head has no bytes that are not ASCII, and the words behind the code neither.
            let close = answer.iter().position(|&byte| byte == 0x88).and_then(|at| answer.get(at + 2..at + 4));
            tally.done += u64::from(close == Some(&TOO_LONG));
        }
        Ok(Progress::Made)
    }
}

/// Says something that is no HTTP request, and waits for the end.
#[derive(Debug)]
pub(super) struct Garbage {
    pub(super) target: Target,
    pub(super) bytes: Vec<u8>,
}

impl Attack for Garbage {
    fn step(&mut self, tally: &mut Tally) -> io::Result<Progress> {
        for mut stream in self.target.say(&self.bytes, BATCH, tally)? {
            tally.done += u64::from(await_end(&mut stream).is_some());
            tally.ended += 1;
        }
        Ok(Progress::Made)
    }
}
