use super::super::close::CloseCode;
use super::super::frame;
use super::*;

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const RULES: ReaderRules = ReaderRules { role: Role::Server, message_bytes_max: 1 << 20 };

/// A frame as a client sends it, with any first byte.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::append_client(&mut bytes, OpCode::Text, KEY, payload);
    bytes[0] = first;
    bytes
}

/// What the reader made of the bytes, cut into pieces of `size`; owned, for comparing.
fn read(bytes: &[u8], size: usize) -> (Vec<String>, Option<ProtocolError>) {
    let (mut reader, mut pool) = (MessageReader::default(), AssemblyPool::default());
    let mut events = Vec::new();
    for piece in bytes.to_vec().chunks_mut(size.max(1)) {
        let mut input = piece;
        loop {
            match reader.next(&mut input, &RULES, &mut pool) {
                // Where a message lies depends on the split; what it says does not.
                Ok(Some(Event::Message { kind, payload, .. })) => events.push(format!("{kind:?} {payload:?}")),
                Ok(Some(event)) => events.push(format!("{event:?}")),
                Ok(None) => break,
                Err(error) => return (events, Some(error)),
            }
        }
        assert!(input.is_empty(), "the input is used up");
    }
    reader.release(&mut pool);
    (events, None)
}

#[test]
fn every_split_reads_the_same() {
    let bytes = [
        masked(0x81, b"one"),
        masked(0x01, "f\u{e9}".as_bytes()),
        masked(0x89, b"between"),
        masked(0x00, b""),
        masked(0x80, "\u{1f600}".as_bytes()),
        masked(0x82, &[7; 300]),
        masked(0x8a, b""),
        masked(0x88, b"\x03\xe8bye"),
    ]
    .concat();
    let whole = read(&bytes, bytes.len());
    assert_eq!(whole.1, None);
    assert_eq!(whole.0.len(), 6, "{:?}", whole.0);
    for size in 1..bytes.len() {
        assert_eq!(read(&bytes, size), whole, "pieces of {size}");
    }
}

#[test]
fn whole_frames_are_read_where_they_lie() {
    let mut bytes = masked(0x81, b"hello");
    let range = bytes.as_ptr_range();
    let (mut reader, mut pool) = (MessageReader::default(), AssemblyPool::default());
    let mut input = bytes.as_mut_slice();
    let Some(Event::Message { payload, in_place, .. }) = reader.next(&mut input, &RULES, &mut pool).unwrap() else {
        panic!("one whole message")
    };
    assert!(in_place);
    assert!(range.contains(&payload.as_ptr()), "no copy");
    assert_eq!(reader.held_bytes(), 0);
}

#[test]
fn an_announced_length_reserves_nothing() {
    let mut bytes = vec![0x82, 0xff, 0, 0, 0, 0, 0, 0x0f, 0xff, 0xff, 1, 2, 3, 4, 5];
    let (mut reader, mut pool) = (MessageReader::default(), AssemblyPool::default());
    let mut input = bytes.as_mut_slice();
    assert_eq!(reader.next(&mut input, &RULES, &mut pool), Ok(None));
    assert!(reader.held_bytes() < 1024, "{}", reader.held_bytes());
}

#[test]
fn text_fails_inside_the_message() {
    for (bytes, events) in [
        (masked(0x81, b"\xff"), 0),
        // The first fragment is bad; the message never ends.
        (masked(0x01, b"ab\xc0"), 0),
        // A character is cut by the fragment's end and goes on wrongly.
        ([masked(0x01, b"\xf4"), masked(0x00, b"\x90")].concat(), 0),
        // Unfinished at the end.
        (masked(0x81, b"\xc3"), 0),
    ] {
        for size in [1, 3, bytes.len()] {
            let (seen, error) = read(&bytes, size);
            assert_eq!((seen.len(), error), (events, Some(ProtocolError::InvalidUtf8)));
        }
    }
    // The bad byte is the last one that has arrived: the frame itself is not complete.
    let mut cut = masked(0x81, b"abc\xffdef");
    cut.truncate(cut.len() - 3);
    assert_eq!(read(&cut, cut.len()).1, Some(ProtocolError::InvalidUtf8));
}

#[test]
fn violations_are_named() {
    for (bytes, error) in [
        (masked(0xc1, b""), ProtocolError::ReservedBits(4)),
        (masked(0x91, b""), ProtocolError::ReservedBits(1)),
        (masked(0x80, b""), ProtocolError::NothingToContinue),
        ([masked(0x01, b""), masked(0x82, b"")].concat(), ProtocolError::ContinuationExpected(OpCode::Binary)),
        (b"\x81\x00".to_vec(), ProtocolError::Unmasked),
        (masked(0x88, b"\x03"), ProtocolError::CloseBodyTooShort),
        (masked(0x88, b"\x03\xee"), ProtocolError::CloseCodeInvalid(1006)),
        (masked(0x88, b"\x03\xe8\xff"), ProtocolError::InvalidUtf8),
    ] {
        for size in [1, bytes.len()] {
            assert_eq!(read(&bytes, size).1, Some(error.clone()), "pieces of {size}");
        }
    }
}

#[test]
fn the_limit_counts_all_fragments_and_stops_at_the_header() {
    let half = vec![b'a'; RULES.message_bytes_max / 2];
    let fits = [masked(0x01, &half), masked(0x80, &half)].concat();
    assert_eq!(read(&fits, 4096).1, None);
    let over = [masked(0x01, &half), masked(0x00, &half)].concat();
    let over = [&over[..], &[0x80, 0x81]].concat();
    let over = [&over[..], &KEY].concat();
    let error = read(&over, 4096).1.unwrap();
    assert_eq!(error.close_code(), CloseCode::MESSAGE_TOO_BIG);
}

#[test]
fn a_client_refuses_masked_frames() {
    let mut bytes = masked(0x81, b"x");
    let rules = ReaderRules { role: Role::Client, ..RULES };
    let (mut reader, mut pool) = (MessageReader::default(), AssemblyPool::default());
    assert_eq!(reader.next(&mut bytes.as_mut_slice(), &rules, &mut pool), Err(ProtocolError::Masked));
}

#[test]
fn assemblies_return_to_the_pool_without_large_buffers() {
    let (mut reader, mut pool) = (MessageReader::default(), AssemblyPool::default());
    let mut bytes = masked(0x82, &vec![1; 500_000]);
    for piece in bytes.chunks_mut(1000) {
        let mut input = piece;
        while reader.next(&mut input, &RULES, &mut pool).unwrap().is_some() {}
    }
    assert_eq!(reader.held_bytes(), 0);
    assert_eq!(pool.free.len(), 1);
    assert_eq!(pool.free[0].message.capacity(), 0);
}

#[test]
fn the_limit_holds_for_short_messages_too() {
    let rules = ReaderRules { message_bytes_max: 10, ..RULES };
    for (len, fits) in [(10, true), (11, false)] {
        let mut bytes = masked(0x82, &vec![7; len]);
        let (mut reader, mut pool) = (MessageReader::default(), AssemblyPool::default());
        let read = reader.next(&mut bytes.as_mut_slice(), &rules, &mut pool).map(|event| event.is_some());
        let expected = if fits { Ok(true) } else { Err(ProtocolError::MessageTooLong { len: 11, limit: 10 }) };
        assert_eq!(read, expected);
    }
}
