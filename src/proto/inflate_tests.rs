use proptest::prelude::*;

use super::super::deflate::Deflater;
use super::*;

const LIMIT: usize = 1 << 20;

fn inflate(message: &[u8], bytes_max: usize) -> Result<Vec<u8>, ProtocolError> {
    let mut out = Vec::new();
    Inflater::default().inflate(message, bytes_max, &mut out).map(|()| out)
}

/// A compressed message of so many zeros.
fn zeros(len: usize) -> Vec<u8> {
    let mut out = Vec::new();
    Deflater::new(9, WINDOW_BITS_MAX).deflate(&vec![0; len], &mut out);
    out
}

/// The examples of RFC 7692, section 7.2.3.
#[test]
fn examples_of_the_rfc() {
    let hello: [&[u8]; 4] = [
        // One block; no compression; a final block; two blocks.
        &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00],
        &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00],
        &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
        &[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00],
    ];
    for message in hello {
        assert_eq!(inflate(message, 5).as_deref(), Ok(b"Hello".as_slice()), "{message:02x?}");
    }
    let (mut inflater, mut window, mut out) = (Inflater::default(), Window::default(), Vec::new());
    for message in [hello[0], &[0xf2, 0x00, 0x11, 0x00, 0x00]] {
        inflater.inflate_with(&mut window, 15, message, 5, &mut out).unwrap();
        assert_eq!(out, b"Hello");
    }
    assert!(inflate(&[0xf2, 0x00, 0x11, 0x00, 0x00], 5).is_err(), "it refers to an earlier message");
    // An empty message, as the RFC has it and as Starscream does.
    assert_eq!(inflate(&[0], 5), Ok(vec![]));
    assert_eq!(inflate(&[], 5), Ok(vec![]));
}

#[test]
fn a_final_block_without_the_padding_behind_it_is_read_too() {
    assert_eq!(inflate(&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], 5).as_deref(), Ok(b"Hello".as_slice()));
}

#[test]
fn what_follows_a_final_block_may_refer_to_what_is_before_it() {
    let (mut inflater, mut window, mut out) = (Inflater::default(), Window::default(), Vec::new());
    let first = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
    inflater.inflate_with(&mut window, 15, &first, 5, &mut out).unwrap();
    // "Hello" again by reference, twice, with a final block between.
    let again = [&[0xf3, 0x00, 0x11, 0x00][..], &[0xf2, 0x00, 0x11, 0x00, 0x00]].concat();
    inflater.inflate_with(&mut window, 15, &again, 10, &mut out).unwrap();
    assert_eq!(out, b"HelloHello");
}

#[test]
fn a_cut_message_is_told_from_a_whole_one() {
    let text: Vec<u8> = (0..4000u32).flat_map(|n| (n * n).to_string().into_bytes()).collect();
    for level in [1, 6, 9] {
        let mut message = Vec::new();
        Deflater::new(level, WINDOW_BITS_MAX).deflate(&text, &mut message);
        assert_eq!(inflate(&message, LIMIT), Ok(text.clone()));
        for cut in [1, 2, 3, 10, message.len() / 2, message.len() - 1] {
            let error = inflate(&message[..message.len() - cut], LIMIT).unwrap_err();
            assert!(matches!(error, ProtocolError::InvalidDeflate(_)), "{cut} bytes are missing: {error}");
        }
    }
}

#[test]
fn what_is_no_deflate_data_is_refused() {
    for message in [&[0xff; 20][..], &[0x06], b"Hello", &[0x00, 0x05, 0x00, 0xfa, 0x00]] {
        let error = inflate(message, LIMIT).unwrap_err();
        assert!(matches!(error, ProtocolError::InvalidDeflate(_)), "{message:02x?}: {error}");
    }
}

#[test]
fn a_message_is_cut_at_the_limit_and_nothing_beyond_is_allocated() {
    let bomb = zeros(64 << 20);
    assert!(bomb.len() < 70_000);
    for limit in [1, 125, 4096, 10_000, LIMIT] {
        let (mut inflater, mut out) = (Inflater::default(), Vec::new());
        let result = inflater.inflate(&bomb, limit, &mut out);
        assert_eq!(result, Err(ProtocolError::InflatesTooLong { limit }));
        assert!(out.capacity() <= limit + STEP_BYTES_MIN, "{} bytes for a limit of {limit}", out.capacity());
    }
    assert_eq!(inflate(&zeros(10_000), 10_000), Ok(vec![0; 10_000]));
    assert_eq!(inflate(&zeros(10_001), 10_000), Err(ProtocolError::InflatesTooLong { limit: 10_000 }));
}

#[test]
fn what_is_too_long_is_called_so_whatever_follows_and_whatever_room_there_is() {
    let message = [&zeros(10_000)[..], &[0xff; 20]].concat();
    for room in [0, 200_000] {
        let mut out = Vec::with_capacity(room);
        let result = Inflater::default().inflate(&message, 1000, &mut out);
        assert_eq!(result, Err(ProtocolError::InflatesTooLong { limit: 1000 }), "room for {room} bytes");
    }
    assert!(matches!(inflate(&message, LIMIT), Err(ProtocolError::InvalidDeflate(_))));
}

#[test]
fn final_blocks_without_end_are_refused() {
    let empty_final_block = [0x03, 0x00];
    assert_eq!(inflate(&empty_final_block.repeat(STREAMS_MAX), LIMIT), Ok(vec![]));
    let error = inflate(&empty_final_block.repeat(1 << 16), LIMIT).unwrap_err();
    assert!(error.to_string().contains("final blocks"), "{error}");
}

#[test]
fn a_window_holds_no_more_than_its_size() {
    for bits in [8, 9, 15] {
        let mut window = Window::default();
        let mut said = Vec::new();
        for n in 0..2000u32 {
            let message = n.to_string().repeat(n as usize % 50);
            said.extend_from_slice(message.as_bytes());
            window.slide(message.as_bytes(), bits);
            let len = said.len().min(1 << bits);
            assert_eq!(window.text, said[said.len() - len..]);
            assert!(window.memory_bytes() <= 1 << bits);
        }
        window.slide(&[7; 100_000], bits);
        assert_eq!(window.text, vec![7; 1 << bits]);
    }
}

proptest! {
    /// Whatever the peer sends: an answer in bounded memory, and no panic.
    #[test]
    fn any_bytes_are_answered(message in proptest::collection::vec(any::<u8>(), 0..300), first in any::<u8>()) {
        let (mut inflater, mut window, mut out) = (Inflater::default(), Window::default(), Vec::new());
        for prefix in [vec![], vec![first]] {
            let message = [prefix, message.clone()].concat();
            let _ = inflater.inflate_with(&mut window, 15, &message, 10_000, &mut out);
            prop_assert!(out.capacity() <= 10_000 + STEP_BYTES_MIN);
        }
        // It goes on with the next message as if nothing had been.
        inflater.inflate(&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], 5, &mut out).unwrap();
        prop_assert_eq!(&out, b"Hello");
    }
}
