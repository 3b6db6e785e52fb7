//! The frame engine alone: what a message costs before and after the sockets.
//!
//! `cargo bench -p bench` prints the time per message. Times are of this machine and
//! this moment; compare them within one run only.

use bench::{UPGRADE_REQUEST, client_frames};
use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use wsgate::proto::Role;
use wsgate::proto::frame::{self, OpCode};
use wsgate::proto::handshake::Upgrade;
use wsgate::proto::message::{AssemblyPool, Compressible, Event, MessageReader, ReaderRules};
use wsgate::proto::{http, mask, utf8};

const RULES: ReaderRules =
    ReaderRules { role: Role::Server, message_bytes_max: 1 << 24, compressible: Compressible::Nothing };
const SIZES: [usize; 4] = [20, 125, 1024, 65_536];

fn main() {
    divan::main();
}

/// Reads whole frames that lie in one buffer, as a busy event loop sees them.
fn read_all(bytes: &mut [u8], pool: &mut AssemblyPool) -> usize {
    let mut reader = MessageReader::default();
    let mut input = bytes;
    let mut read = 0;
    while let Ok(Some(Event::Message { payload, .. })) = reader.next(&mut input, &RULES, pool) {
        read += black_box(payload).len();
    }
    reader.release(pool);
    read
}

#[divan::bench(args = SIZES)]
fn decode_binary(bencher: Bencher<'_, '_>, bytes: usize) {
    decode(bencher, OpCode::Binary, bytes);
}

#[divan::bench(args = SIZES)]
fn decode_text(bencher: Bencher<'_, '_>, bytes: usize) {
    decode(bencher, OpCode::Text, bytes);
}

fn decode(bencher: Bencher<'_, '_>, opcode: OpCode, bytes: usize) {
    let count = (65_536 / bytes).max(1);
    let frames = client_frames(opcode, bytes, count);
    let mut pool = AssemblyPool::default();
    bencher
        .counter(ItemsCount::new(count))
        .with_inputs(|| frames.clone())
        .bench_local_refs(|frames| assert_eq!(read_all(frames, &mut pool), bytes * count));
}

/// The same frames, cut into pieces as a slow network delivers them.
#[divan::bench(args = [1, 7, 1400])]
fn decode_in_pieces_of(bencher: Bencher<'_, '_>, piece: usize) {
    let frames = client_frames(OpCode::Text, 1024, 16);
    let mut pool = AssemblyPool::default();
    bencher.counter(ItemsCount::new(16usize)).with_inputs(|| frames.clone()).bench_local_refs(|frames| {
        let mut reader = MessageReader::default();
        for piece in frames.chunks_mut(piece) {
            let mut input = piece;
            while let Ok(Some(event)) = reader.next(&mut input, &RULES, &mut pool) {
                black_box(event);
            }
        }
    });
}

#[divan::bench(args = SIZES)]
fn encode(bencher: Bencher<'_, '_>, bytes: usize) {
    let payload = vec![b'a'; bytes];
    let mut out = Vec::with_capacity(bytes + frame::HEADER_BYTES_MAX);
    bencher.counter(ItemsCount::new(1usize)).bench_local(|| {
        out.clear();
        frame::append_server(&mut out, OpCode::Text, black_box(&payload));
    });
}

#[divan::bench(args = SIZES)]
fn unmask(bencher: Bencher<'_, '_>, bytes: usize) {
    let mut payload = vec![0x5a; bytes];
    bencher
        .counter(BytesCount::new(bytes))
        .bench_local(|| mask::apply(black_box(&mut payload), [0x37, 0xfa, 0x21, 0x3d], 0));
}

#[divan::bench(args = SIZES)]
fn validate_utf8(bencher: Bencher<'_, '_>, bytes: usize) {
    let text: String = "aé漢😀".chars().cycle().take(bytes / 3).collect();
    bencher.counter(BytesCount::new(text.len())).bench_local(|| utf8::is_valid(black_box(text.as_bytes())));
}

#[divan::bench]
fn answer_upgrade(bencher: Bencher<'_, '_>) {
    let mut out = Vec::with_capacity(256);
    bencher.counter(ItemsCount::new(1usize)).bench_local(|| {
        let head = black_box(UPGRADE_REQUEST);
        let len = http::head_len(head, 0);
        let request = http::parse(&head[..len.unwrap_or_default()]);
        out.clear();
        if let Ok(upgrade) = request.and_then(|request| Upgrade::validate(&request, &[])) {
            upgrade.append_response(&mut out);
        }
        assert!(!out.is_empty(), "the request is valid");
    });
}
