//! What a message of a run looks like: who sent it, which one it is, when it was
//! meant to leave and how much later it did, readable wherever it arrives.
//!
//! ```text
//! run  sender  sequence  time     check  late  padding up to --payload
//! 2    3       5         7        3      4     bytes, 6 bits in each
//! ```
//!
//! The field `late` is there in open loops only: in a closed one a message is meant
//! to leave when it does.
//!
//! All bytes are of the URL-safe base64 alphabet, so that a message may travel as
//! text. The check covers the fields; the padding is the same for all messages of
//! a run, at an offset that depends on the check.

use memchr::memmem;
use wsgate::time::Time;

use crate::limits::CONNECTIONS_MAX;

/// Bytes of the fields, and so of the shortest payload, in a closed loop.
pub const PAYLOAD_BYTES_MIN: usize = 20;
/// Bytes of the fields in an open loop.
pub const PAYLOAD_BYTES_MIN_OPEN: usize = PAYLOAD_BYTES_MIN + LATE_BYTES;
const LATE_BYTES: usize = 4;
/// Highest sequence number that the field holds; a sender stops there.
pub const SEQUENCE_MAX: u32 = (1 << 30) - 1;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const INVALID: u8 = 0xff;
const DECODED: [u8; 256] = {
    let mut table = [INVALID; 256];
    let mut value = 0;
    while value < 64 {
        table[ALPHABET[value] as usize] = value as u8;
        value += 1;
    }
    table
};
/// The time field counts 64 ns: it reaches 78 hours, and rounding hides nothing.
pub const TIME_UNIT_BITS: u32 = 6;
/// The lateness counts 1.024 us and reaches 17 s; what is later counts as that.
const LATE_UNIT_BITS: u32 = 10;
const LATE_TICKS_MAX: u64 = (1 << 24) - 1;
/// Places at which the padding may begin.
const PADDING_OFFSETS: usize = 64;

const _: () = assert!(CONNECTIONS_MAX <= 1 << 18, "the sender field has 18 bits");

/// The fields of one message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    /// Number of the sending connection or publisher within the run.
    pub sender: u32,
    /// Number of the message within its sender, from 0.
    pub sequence: u32,
    /// When it was meant to leave. Rounded down to 64 ns on the way.
    pub intended: Time,
    /// When it left: was handed to its connection. Rounded down to 1.024 us after
    /// `intended`, and the same in a closed loop.
    pub sent: Time,
}

/// What an arriving payload is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reading {
    /// A message of this run, as it was sent.
    Ours(Stamp),
    /// A message of this run that was changed on its way. The stamp, if it is whole.
    Corrupted(Option<Stamp>),
    /// Something else: another run's message, or a server's own words.
    Foreign,
}

/// Writes and reads the messages of one run.
#[derive(Clone, Debug)]
pub struct Payload {
    run: u32,
    bytes: usize,
    /// Bytes of the fields.
    fields: usize,
    /// What every message begins with: the run.
    marker: [u8; 2],
    padding: Vec<u8>,
}

impl Payload {
    /// Messages of `bytes` bytes. `run` tells this run from others on the same topic;
    /// its lower 12 bits count.
    pub fn new(run: u32, bytes: usize, is_open_loop: bool) -> Self {
        let fields = if is_open_loop { PAYLOAD_BYTES_MIN_OPEN } else { PAYLOAD_BYTES_MIN };
        assert!(bytes >= fields, "{bytes} bytes do not hold the fields");
        // Any text will do that does not look the same at two offsets.
        let padding = (0..(bytes - fields + PADDING_OFFSETS) as u64)
            .map(|i| ALPHABET[(mix(i / 8) >> (i % 8 * 8)) as usize & 63])
            .collect();
        let run = run & 0xfff;
        let mut marker = [0; 2];
        put(&mut marker, u64::from(run));
        Self { run, bytes, fields, marker, padding }
    }

    /// Bytes of every message.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends the message.
    pub fn append(&self, out: &mut Vec<u8>, stamp: Stamp) {
        let ticks = stamp.intended.0 >> TIME_UNIT_BITS;
        let late = self.late_ticks(stamp);
        let check = check(self.run, stamp.sender, stamp.sequence, ticks, late);
        let mut fields = [0; PAYLOAD_BYTES_MIN_OPEN];
        fields[0..2].copy_from_slice(&self.marker);
        put(&mut fields[2..5], u64::from(stamp.sender));
        put(&mut fields[5..10], u64::from(stamp.sequence));
        put(&mut fields[10..17], ticks);
        put(&mut fields[17..20], check);
        put(&mut fields[20..24], late);
        // All of them: a length that the compiler knows is copied without a call.
        let end = out.len() + self.fields;
        out.extend_from_slice(&fields);
        out.truncate(end);
        if self.bytes > self.fields {
            out.extend_from_slice(self.padding(check));
        }
    }

    fn late_ticks(&self, stamp: Stamp) -> u64 {
        if self.fields == PAYLOAD_BYTES_MIN {
            return 0;
        }
        (stamp.sent.0.saturating_sub(stamp.intended.0) >> LATE_UNIT_BITS).min(LATE_TICKS_MAX)
    }

    /// Reads what arrived.
    pub fn read(&self, payload: &[u8]) -> Reading {
        let damaged = if payload.len() == self.bytes { Reading::Corrupted(None) } else { Reading::Foreign };
        let Some((run, stamp, check)) = self.fields(payload) else { return damaged };
        if run != self.run {
            return Reading::Foreign;
        }
        let is_whole = payload.len() == self.bytes;
        // Without padding there is nothing to compare.
        if is_whole && (self.bytes == self.fields || &payload[self.fields..] == self.padding(check)) {
            Reading::Ours(stamp)
        } else {
            Reading::Corrupted(Some(stamp))
        }
    }

    /// The payloads in a message: itself, or those that the server has put among words
    /// of its own. A message without any is one part, too: nothing goes unseen.
    pub fn parts<'a>(&'a self, message: &'a [u8]) -> Parts<'a> {
        Parts { payload: self, rest: Some(message), found: false, is_bare: message.len() == self.bytes }
    }

    /// Where the first payload whose fields are whole begins.
    fn find(&self, message: &[u8]) -> Option<usize> {
        memmem::find_iter(message, &self.marker)
            .find(|&at| self.fields(&message[at..]).is_some_and(|(run, ..)| run == self.run))
    }

    /// The fields at the beginning of `payload`, if they are whole: the run, the stamp,
    /// and the check.
    #[inline(always)] // Once for each message.
    fn fields(&self, payload: &[u8]) -> Option<(u32, Stamp, u64)> {
        // Most messages end here or have both: the slices below need no further checks.
        let fields = payload.first_chunk::<PAYLOAD_BYTES_MIN>()?;
        let late = if self.fields == PAYLOAD_BYTES_MIN {
            0
        } else {
            get(payload.first_chunk::<PAYLOAD_BYTES_MIN_OPEN>()?.last_chunk::<LATE_BYTES>()?)?
        };
        let (run, sender, sequence) = (get(&fields[0..2])?, get(&fields[2..5])?, get(&fields[5..10])?);
        let (run, sender, sequence) = (run as u32, sender as u32, sequence as u32);
        let ticks = get(&fields[10..17])?;
        let check = check(run, sender, sequence, ticks, late);
        if get(&fields[17..20]) != Some(check) {
            return None;
        }
        let intended = Time(ticks << TIME_UNIT_BITS);
        let sent = Time(intended.0 + (late << LATE_UNIT_BITS));
        Some((run, Stamp { sender, sequence, intended, sent }, check))
    }

    fn padding(&self, check: u64) -> &[u8] {
        &self.padding[check as usize % PADDING_OFFSETS..][..self.bytes - self.fields]
    }
}

/// See [`Payload::parts`].
#[derive(Debug)]
pub struct Parts<'a> {
    payload: &'a Payload,
    rest: Option<&'a [u8]>,
    found: bool,
    /// The message is as long as a payload, so that it is one, or a damaged one.
    is_bare: bool,
}

impl<'a> Iterator for Parts<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest.take()?;
        if self.is_bare {
            return Some(rest);
        }
        match self.payload.find(rest) {
            None if self.found => None,
            None => Some(rest),
            Some(at) => {
                self.found = true;
                let (part, after) = rest[at..].split_at(self.payload.bytes.min(rest.len() - at));
                self.rest = (!after.is_empty()).then_some(after);
                Some(part)
            }
        }
    }
}

fn put(field: &mut [u8], mut value: u64) {
    for byte in field.iter_mut().rev() {
        *byte = ALPHABET[(value & 63) as usize];
        value >>= 6;
    }
    debug_assert_eq!(value, 0, "the field is too short for its value");
}

fn get(field: &[u8]) -> Option<u64> {
    let mut value = 0;
    let mut all = 0;
    for &byte in field {
        let bits = DECODED[byte as usize];
        all |= bits;
        value = value << 6 | u64::from(bits);
    }
    (all < 64).then_some(value)
}

/// 18 bits that differ, most likely, if any field does.
fn check(run: u32, sender: u32, sequence: u32, ticks: u64, late: u64) -> u64 {
    // An odd factor, so that no two senders of a run have the same product.
    let who = (u64::from(run) << 32 | u64::from(sender)).wrapping_mul(0xff51_afd7_ed55_8ccd) ^ late.rotate_left(20);
    mix(who ^ ticks ^ u64::from(sequence).rotate_left(34)) >> 46
}

/// Spreads every input bit over all output bits (the finalizer of splitmix64).
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp =
        Stamp { sender: 262_143, sequence: SEQUENCE_MAX, intended: Time(1 << 47), sent: Time(1 << 47) };

    fn written(payload: &Payload, stamp: Stamp) -> Vec<u8> {
        let mut out = Vec::new();
        payload.append(&mut out, stamp);
        out
    }

    #[test]
    fn what_is_written_is_read() {
        for (bytes, is_open) in [(20, false), (21, false), (24, true), (64, false), (64, true), (1_000, true)] {
            let payload = Payload::new(4_095, bytes, is_open);
            let stamps = [STAMP, Stamp { sender: 0, sequence: 0, intended: Time(0), sent: Time(0) }];
            for stamp in stamps {
                let message = written(&payload, stamp);
                assert_eq!(message.len(), bytes);
                assert!(message.iter().all(|byte| ALPHABET.contains(byte)));
                assert_eq!(payload.read(&message), Reading::Ours(stamp));
            }
        }
    }

    #[test]
    fn both_times_are_told_in_an_open_loop() {
        let payload = Payload::new(1, 64, true);
        for (late, told) in [(0, 0), (1_023, 0), (1_024, 1_024), (200_000_000, 199_999_488), (1 << 40, 17_179_868_160)]
        {
            let stamp = Stamp { sent: Time(STAMP.intended.0 + late), ..STAMP };
            let Reading::Ours(read) = payload.read(&written(&payload, stamp)) else { panic!("{stamp:?}") };
            assert_eq!((read.intended, read.sent.0 - read.intended.0), (STAMP.intended, told));
        }
    }

    #[test]
    fn every_changed_byte_is_seen() {
        for is_open in [false, true] {
            let payload = Payload::new(77, 100, is_open);
            let message = written(&payload, Stamp { sent: Time(STAMP.intended.0 + 5_000_000), ..STAMP });
            for at in 0..message.len() {
                for flip in [1, 0x20, 0x80] {
                    let mut changed = message.clone();
                    changed[at] ^= flip;
                    let reading = payload.read(&changed);
                    assert!(matches!(reading, Reading::Corrupted(_)), "byte {at} ^ {flip}: {reading:?}");
                }
            }
        }
    }

    #[test]
    fn damage_to_the_padding_leaves_the_stamp() {
        let payload = Payload::new(77, 100, false);
        let mut message = written(&payload, Stamp { sequence: 5, ..STAMP });
        message[99] ^= 1;
        assert_eq!(payload.read(&message), Reading::Corrupted(Some(Stamp { sequence: 5, ..STAMP })));
        assert_eq!(payload.read(&message[..99]), Reading::Corrupted(Some(Stamp { sequence: 5, ..STAMP })));
    }

    #[test]
    fn payloads_are_found_among_other_words() {
        let payload = Payload::new(3, 64, true);
        let stamps = [1, 2, 3].map(|sequence| Stamp { sequence, ..STAMP });
        let [a, b, c] = stamps.map(|stamp| String::from_utf8(written(&payload, stamp)).unwrap());
        // The marker alone, before and within, is no payload.
        let marker = String::from_utf8(payload.marker.to_vec()).unwrap();
        let text = format!("{marker}{marker}{{\"data\":\"{a}\"}}\r\n{marker}MSG 64\r\n{b}{c}\r\n");
        let read: Vec<_> = payload.parts(text.as_bytes()).map(|part| payload.read(part)).collect();
        assert_eq!(read, stamps.map(Reading::Ours));
        let cut: Vec<_> = payload.parts(&text.as_bytes()[..70]).map(|part| payload.read(part)).collect();
        assert_eq!(cut, [Reading::Corrupted(Some(stamps[0]))]);
    }

    #[test]
    fn a_message_without_payload_is_one_part() {
        let payload = Payload::new(3, 64, true);
        for message in [&b"welcome"[..], b"", &[b'A'; 64], &[b'A'; 65]] {
            assert_eq!(payload.parts(message).collect::<Vec<_>>(), [message]);
        }
    }

    #[test]
    fn other_runs_and_other_words_are_foreign() {
        let payload = Payload::new(1, 64, false);
        assert_eq!(payload.read(&written(&Payload::new(2, 64, false), STAMP)), Reading::Foreign);
        assert_eq!(payload.read(b"welcome"), Reading::Foreign);
        assert_eq!(payload.read(b"welcome to the longest greeting there is"), Reading::Foreign);
        assert_eq!(payload.read(b""), Reading::Foreign);
    }
}
