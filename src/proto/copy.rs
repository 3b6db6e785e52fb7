//! Copying payloads without falling off a cliff.

use std::ops::Range;

/// Payloads are copied in pieces of this many bytes. From about 2 KiB on, glibc's
/// memcpy uses `rep movsb`, which some processors do at a tenth of the speed when
/// source and target differ by a few bytes modulo 4 KiB, as they do by a frame header:
/// 64 KiB took 28 µs instead of 1.4 µs on an AMD EPYC (`cargo bench -p bench -- encode`).
pub(super) const PIECE_BYTES: usize = 1024;

/// Moves a range of `bytes` towards its start.
pub(crate) fn move_down(bytes: &mut [u8], from: Range<usize>, to: usize) {
    assert!(to <= from.start, "{to} is not before {}", from.start);
    let distance = from.start - to;
    if distance > 0 {
        for start in from.clone().step_by(PIECE_BYTES) {
            bytes.copy_within(start..from.end.min(start + PIECE_BYTES), start - distance);
        }
    }
}

/// Appends `bytes` to `out`.
pub(crate) fn append(out: &mut Vec<u8>, bytes: &[u8]) {
    out.reserve(bytes.len());
    for piece in bytes.chunks(PIECE_BYTES) {
        out.extend_from_slice(piece);
    }
}
