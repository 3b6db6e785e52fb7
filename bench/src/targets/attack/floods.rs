//! Attacks by connections that come and go as fast as they can.

use std::io;

use super::attacker::{Attack, Progress, Tally, Target, await_end, says_too_long};

/// Connections in one step: more than one, so that neither side waits for the other.
const BATCH: usize = 100;

/// Connects and resets.
#[derive(Debug)]
pub(super) struct Resets(pub(super) Target);

impl Attack for Resets {
    fn step(&mut self, tally: &mut Tally) -> io::Result<Progress> {
        for _ in 0..BATCH {
            tally.done += u64::from(self.0.connect(None, tally)?.is_some());
        }
        Ok(Progress::Made)
    }
}

/// Whole handshakes, each reset as soon as it is answered.
#[derive(Debug)]
pub(super) struct Handshakes(pub(super) Target);

impl Attack for Handshakes {
    fn step(&mut self, tally: &mut Tally) -> io::Result<Progress> {
        tally.done += self.0.open("/topics/flood", BATCH, None, tally)?.len() as u64;
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
            tally.done += u64::from(says_too_long(&answer));
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
