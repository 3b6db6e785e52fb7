//! Sequences of frames, most of them with one mistake.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use wsgate::proto::Role;

/// How a length is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Length {
    Shortest,
    TwoBytes,
    EightBytes,
    /// Another than the payload's, in eight bytes.
    Announced(u64),
}

/// A frame as it is written, right or wrong.
#[derive(Clone, Debug)]
struct Frame {
    fin: bool,
    reserved: u8,
    opcode: u8,
    key: Option<[u8; 4]>,
    length: Length,
    payload: Vec<u8>,
}

impl Frame {
    fn append(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.fin) << 7 | self.reserved << 4 | self.opcode);
        let masked = u8::from(self.key.is_some()) << 7;
        let len = self.payload.len() as u64;
        match (self.length, len) {
            (Length::Announced(len), _) | (Length::EightBytes, len) | (Length::Shortest, len @ 0x1_0000..) => {
                out.push(masked | 127);
                out.extend(len.to_be_bytes());
            }
            (Length::TwoBytes, _) | (Length::Shortest, 126..) => {
                out.push(masked | 126);
                out.extend((len as u16).to_be_bytes());
            }
            (Length::Shortest, _) => out.push(masked | len as u8),
        }
        let key = self.key.unwrap_or_default();
        out.extend(self.key.into_iter().flatten());
        out.extend(self.payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    }

    fn is_minimal(&self) -> bool {
        match self.length {
            Length::Shortest | Length::Announced(_) => true,
            Length::TwoBytes => self.payload.len() > 125,
            Length::EightBytes => self.payload.len() > 0xffff,
        }
    }
}

/// What is done to one frame.
#[derive(Clone, Debug)]
enum Mistake {
    Opcode(u8),
    Reserved(u8),
    Unmasked,
    Length(Length),
    Fin,
    /// A byte of the payload becomes this one.
    Byte(Index, u8),
    /// A payload of so many bytes.
    Long(usize),
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Sequence {
    /// Who reads it.
    pub(crate) role: Role,
    /// Message limit of the reader, in bytes.
    pub(crate) limit: usize,
    /// Bytes that the reader gets at once.
    pub(crate) piece: usize,
    frames: Vec<Frame>,
    cut: Option<Index>,
}

impl Sequence {
    /// All frames as they are on the wire.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.frames.iter().for_each(|frame| frame.append(&mut bytes));
        bytes
    }

    /// Those of the frames before the first whose length is not in its shortest form, if
    /// there is such a one.
    pub(crate) fn bytes_before_long_form(&self) -> Option<Vec<u8>> {
        let at = self.frames.iter().position(|frame| !frame.is_minimal())?;
        Some(Self { frames: self.frames[..at].to_vec(), ..self.clone() }.bytes())
    }

    /// Whether the last frame announces more than anybody would read.
    pub(crate) fn announces_too_much(&self) -> bool {
        self.frames.iter().any(|frame| matches!(frame.length, Length::Announced(_)))
    }

    /// The beginning of it, if it is to be cut.
    pub(crate) fn cut(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        self.cut.map(|cut| bytes[..cut.index(bytes.len() + 1)].to_vec())
    }
}

/// A control frame: its opcode and payload.
fn control() -> impl Strategy<Value = (u8, Vec<u8>)> {
    prop_oneof![(select(vec![9, 10]), vec(any::<u8>(), 0..=125))]
}

fn close() -> impl Strategy<Value = (u8, Vec<u8>)> {
    let code = prop_oneof![
        4 => select(vec![0, 999, 1000, 1001, 1003, 1004, 1005, 1006, 1007, 1011, 1012, 1013, 1014, 1015, 1016]),
        2 => select(vec![2999, 3000, 3999, 4000, 4999, 5000, 65535]),
        1 => any::<u16>(),
    ];
    let reason = prop_oneof![8 => "\\PC{0,30}".prop_map(String::into_bytes), 1 => vec(0x80u8.., 1..4)];
    let body = prop_oneof![
        1 => Just(Vec::new()),
        1 => vec(any::<u8>(), 1),
        8 => (code, reason).prop_map(|(code, reason)| [&code.to_be_bytes(), reason.as_slice()].concat()),
    ];
    body.prop_map(|body| (8, body))
}

/// A message in fragments, with control frames between them.
fn message(limit: usize) -> impl Strategy<Value = Vec<(bool, u8, Vec<u8>)>> {
    let len = prop_oneof![
        8 => 0..40usize,
        2 => 120..130usize,
        2 => limit.saturating_sub(3)..limit + 2,
        1 => select(vec![65_535usize, 65_536]),
    ];
    let text = select(vec!["a", "é", "漢", "😀", "\u{10ffff}", "\0"]);
    let payload = (any::<bool>(), len, vec(text, 1..6), any::<u8>()).prop_map(|(is_text, len, texts, byte)| {
        if !is_text {
            return (2, vec![byte; len]);
        }
        let characters = texts.concat();
        // Filled up with as many bytes as are missing.
        let text = characters.repeat(len / characters.len());
        (1, (text.clone() + &"z".repeat(len - text.len())).into_bytes())
    });
    let between = proptest::option::weighted(0.3, control());
    (payload, vec((any::<Index>(), between), 0..4)).prop_map(|((opcode, payload), cuts)| {
        let mut at: Vec<_> = cuts.into_iter().map(|(cut, between)| (cut.index(payload.len() + 1), between)).collect();
        at.sort_by_key(|(at, _)| *at);
        let mut frames = Vec::new();
        let (mut from, mut opcode) = (0, opcode);
        for (to, between) in at {
            frames.push((false, opcode, payload[from..to].to_vec()));
            frames.extend(between.map(|(opcode, payload)| (true, opcode, payload)));
            (from, opcode) = (to, 0);
        }
        frames.push((true, opcode, payload[from..].to_vec()));
        frames
    })
}

fn mistake() -> impl Strategy<Value = Mistake> {
    let length = prop_oneof![
        Just(Length::TwoBytes),
        Just(Length::EightBytes),
        select(vec![1 << 21, u64::from(u32::MAX), (1 << 63) - 1, 1 << 63, u64::MAX]).prop_map(Length::Announced),
    ];
    prop_oneof![
        2 => (0..16u8).prop_map(Mistake::Opcode),
        1 => (1..8u8).prop_map(Mistake::Reserved),
        1 => Just(Mistake::Unmasked),
        3 => length.prop_map(Mistake::Length),
        1 => Just(Mistake::Fin),
        4 => (any::<Index>(), prop_oneof![any::<u8>(), 0x80u8..]).prop_map(|(at, byte)| Mistake::Byte(at, byte)),
        2 => prop_oneof![120..130usize, 250..400usize].prop_map(Mistake::Long),
    ]
}

/// All sequences.
pub(crate) fn sequences() -> impl Strategy<Value = Sequence> {
    let limit = prop_oneof![6 => Just(300usize), 1 => Just(0), 1 => Just(70_000)];
    let frames = limit.prop_flat_map(|limit| {
        let item = prop_oneof![
            6 => message(limit).boxed(),
            2 => control().prop_map(|(opcode, payload)| vec![(true, opcode, payload)]).boxed(),
            1 => close().prop_map(|(opcode, payload)| vec![(true, opcode, payload)]).boxed(),
        ];
        (Just(limit), vec(item, 1..6))
    });
    let setup = (select(vec![Role::Server, Role::Client]), prop_oneof![1..20usize, Just(1 << 17)], any::<[u8; 4]>());
    let mistake = proptest::option::weighted(0.7, (any::<Index>(), mistake()));
    let cut = proptest::option::weighted(0.2, any::<Index>());
    (setup, frames, mistake, cut).prop_map(|((role, piece, key), (limit, items), mistake, cut)| {
        let key = (role == Role::Server).then_some(key);
        let frame = |(fin, opcode, payload)| Frame { fin, reserved: 0, opcode, key, length: Length::Shortest, payload };
        let mut frames: Vec<Frame> = items.concat().into_iter().map(frame).collect();
        if let Some((at, mistake)) = mistake {
            make(&mut frames, at.index(usize::MAX), mistake);
        }
        Sequence { role, limit, piece, frames, cut }
    })
}

/// Makes a mistake in one of the frames.
fn make(frames: &mut Vec<Frame>, at: usize, mistake: Mistake) {
    let at = at % frames.len();
    let frame = &mut frames[at];
    match mistake {
        Mistake::Opcode(opcode) => frame.opcode = opcode,
        Mistake::Reserved(bits) => frame.reserved = bits,
        Mistake::Unmasked => frame.key = if frame.key.is_some() { None } else { Some([1, 2, 3, 4]) },
        Mistake::Length(length) => {
            // What two bytes cannot say stays as it is.
            if length != Length::TwoBytes || frame.payload.len() <= 0xffff {
                frame.length = length;
            }
            if let Length::Announced(_) = length {
                frame.payload.clear();
                frames.truncate(at + 1);
            }
        }
        Mistake::Fin => frame.fin = !frame.fin,
        Mistake::Byte(position, byte) => {
            if let Some(len) = Some(frame.payload.len()).filter(|len| *len > 0) {
                frame.payload[position.index(len)] = byte;
            }
        }
        Mistake::Long(len) => frame.payload.resize(len, b'l'),
    }
}
