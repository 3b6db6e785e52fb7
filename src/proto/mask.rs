//! Masking: XOR with a repeated key of four bytes (RFC 6455, section 5.3).

use super::copy;

/// Masks or unmasks `payload` in place; the operation is its own inverse.
///
/// `offset` is how many bytes of the same frame came before, so that a payload
/// may be treated piece by piece.
#[inline]
pub fn apply(payload: &mut [u8], key: [u8; 4], offset: usize) {
    let mut key = key;
    key.rotate_left(offset % 4);
    let word = u64::from_ne_bytes([key[0], key[1], key[2], key[3], key[0], key[1], key[2], key[3]]);
    // Eight bytes at a time: the compiler turns the loop into vector code.
    let (words, rest) = payload.as_chunks_mut::<8>();
    for chunk in words {
        *chunk = (u64::from_ne_bytes(*chunk) ^ word).to_ne_bytes();
    }
    // The rest is shorter than two keys; many messages are short, so it counts.
    let (half, rest) = rest.as_chunks_mut::<4>();
    for chunk in half {
        *chunk = (u32::from_ne_bytes(*chunk) ^ u32::from_ne_bytes(key)).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key) {
        *byte ^= key;
    }
}

/// Unmasks what lies in `bytes` from `from` on, and moves it to their start.
#[inline]
pub(crate) fn move_to_start(bytes: &mut [u8], from: usize, key: [u8; 4]) {
    let len = bytes.len() - from;
    let half = u32::from_ne_bytes(key);
    let word = u64::from(half) << 32 | u64::from(half);
    let mut at = 0;
    // What is written lies before all that is still to be read.
    while len - at >= 8 {
        let piece: [u8; 8] = bytes[from + at..][..8].try_into().expect("eight bytes");
        bytes[at..at + 8].copy_from_slice(&(u64::from_ne_bytes(piece) ^ word).to_ne_bytes());
        at += 8;
    }
    if len - at >= 4 {
        let piece: [u8; 4] = bytes[from + at..][..4].try_into().expect("four bytes");
        bytes[at..at + 4].copy_from_slice(&(u32::from_ne_bytes(piece) ^ half).to_ne_bytes());
        at += 4;
    }
    for i in at..len {
        bytes[i] = bytes[from + i] ^ key[i % 4];
    }
}

/// Appends `payload`, masked or unmasked, to `out`.
pub(crate) fn append(out: &mut Vec<u8>, payload: &[u8], key: [u8; 4], offset: usize) {
    out.reserve(payload.len());
    // Piece by piece, so that what was copied is in the nearest cache when it is masked.
    let mut offset = offset;
    for piece in payload.chunks(copy::PIECE_BYTES) {
        let start = out.len();
        out.extend_from_slice(piece);
        apply(&mut out[start..], key, offset);
        offset += piece.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_rfc_example() {
        // RFC 6455, section 5.7: a masked "Hello".
        let mut payload = [0x7f, 0x9f, 0x4d, 0x51, 0x58];
        apply(&mut payload, [0x37, 0xfa, 0x21, 0x3d], 0);
        assert_eq!(&payload, b"Hello");
    }

    #[test]
    fn unmasking_on_the_way_to_the_start_is_unmasking_and_then_moving() {
        let key = [0x37, 0xfa, 0x21, 0x3d];
        for len in 0..64 {
            for from in 0..12 {
                let bytes: Vec<u8> = (0..(from + len) as u8).collect();
                let mut expected = bytes[from..].to_vec();
                apply(&mut expected, key, 0);
                let mut moved = bytes;
                move_to_start(&mut moved, from, key);
                assert_eq!(moved[..len], expected, "{len} bytes from {from} on");
            }
        }
    }

    #[test]
    fn any_split_gives_the_same_bytes() {
        let key = [1, 2, 3, 4];
        let whole: Vec<u8> = (0..100u8).collect();
        let mut expected = whole.clone();
        for (i, byte) in expected.iter_mut().enumerate() {
            *byte ^= key[i % 4];
        }
        for split in 0..whole.len() {
            let mut bytes = whole.clone();
            let (head, tail) = bytes.split_at_mut(split);
            apply(head, key, 0);
            apply(tail, key, split);
            assert_eq!(bytes, expected, "split at {split}");
        }
    }
}
