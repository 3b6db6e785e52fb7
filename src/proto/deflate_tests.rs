use proptest::prelude::*;

use super::super::inflate::{Inflater, Window};
use super::*;

fn deflated(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Deflater::new(6, WINDOW_BITS_MAX).deflate(message, &mut out);
    out
}

#[test]
fn a_short_text_is_what_every_zlib_makes_of_it() {
    // RFC 7692, section 7.2.3.1, and what iOS clients are sent.
    assert_eq!(deflated(b"Hello"), [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]);
    assert_eq!(deflated(b"good"), [0x4a, 0xcf, 0xcf, 0x4f, 0x01, 0x00]);
}

#[test]
fn a_message_alone_refers_to_nothing_and_one_in_context_does() {
    let mut deflater = Deflater::new(6, WINDOW_BITS_MAX);
    let message = b"a message that is said more than once";
    let [mut first, mut second, mut alone] = [const { Vec::new() }; 3];
    deflater.deflate(message, &mut first);
    deflater.deflate(message, &mut second);
    deflater.deflate_alone(message, &mut alone);
    assert!(second.len() < 10, "{second:02x?}");
    assert_eq!(alone, first);
}

/// The greatest distance back that a message refers to, by inflating it behind a window
/// that ends so far before it.
fn reaches_beyond(window_bits: u8, first: &[u8], second: &[u8]) -> bool {
    let (mut inflater, mut window, mut out) = (Inflater::default(), Window::default(), Vec::new());
    inflater.inflate_with(&mut window, window_bits, first, 1 << 20, &mut out).unwrap();
    inflater.inflate_with(&mut window, window_bits, second, 1 << 20, &mut out).is_err()
}

#[test]
fn no_window_is_larger_than_agreed() {
    // Incompressible, and again: a window that reaches back to it would refer to it.
    let mut state = 1u32;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    })
    .take(20_000)
    .collect();
    let messages = |bits| {
        let mut deflater = Deflater::new(9, bits);
        let [mut first, mut second] = [const { Vec::new() }; 2];
        deflater.deflate(&noise, &mut first);
        deflater.deflate(&noise, &mut second);
        (first, second)
    };
    for bits in DEFLATE_WINDOW_BITS_MIN..=WINDOW_BITS_MAX {
        let (first, second) = messages(bits);
        assert!(!reaches_beyond(bits, &first, &second), "{bits} bits");
    }
    let (first, second) = messages(WINDOW_BITS_MAX);
    assert!(reaches_beyond(14, &first, &second), "the check sees a larger window");
}

proptest! {
    /// With every level and window, alone and in context, messages come back as they were.
    #[test]
    fn messages_come_back_as_they_were(
        level in LEVELS,
        window_bits in DEFLATE_WINDOW_BITS_MIN..=WINDOW_BITS_MAX,
        messages in proptest::collection::vec((any::<bool>(), 1usize..5000, any::<u8>()), 1..20),
    ) {
        let mut deflater = Deflater::new(level, window_bits);
        let (mut inflater, mut window) = (Inflater::default(), Window::default());
        let (mut compressed, mut out) = (Vec::new(), Vec::new());
        for (alike, len, seed) in messages {
            let byte = |n: usize| if alike { (n % (usize::from(seed) + 1)) as u8 } else { (n * n / 7) as u8 ^ seed };
            let message: Vec<u8> = (0..len).map(byte).collect();
            deflater.deflate(&message, &mut compressed);
            inflater.inflate_with(&mut window, window_bits, &compressed, len, &mut out).unwrap();
            prop_assert_eq!(&out, &message);
        }
    }
}
