use super::*;

const SETTINGS: CompressionSettings = CompressionSettings {
    enabled: true,
    message_bytes_min: 10,
    level: 6,
    takeover: Takeover { server: true, client: true },
    context_bytes_max: 1 << 20,
    control_frames: false,
};
const OFFER: &str = "permessage-deflate; client_max_window_bits";

fn agree(pool: &mut CompressionPool, offer: &str, replies: bool) -> Compression {
    let agreement = pool.negotiate([offer.as_bytes()].into_iter(), replies).unwrap().unwrap();
    pool.connect(agreement)
}

fn inflate(pool: &mut CompressionPool, connection: &mut Compression, payload: &[u8]) -> Result<Vec<u8>, ProtocolError> {
    let mut out = Vec::new();
    pool.inflate(connection, OpCode::Text, payload, 1 << 20, &mut out).map(|()| out)
}

#[test]
fn nothing_is_agreed_on_where_compression_is_off() {
    let mut pool = CompressionPool::new(CompressionSettings { enabled: false, ..SETTINGS });
    assert_eq!(pool.negotiate([OFFER.as_bytes()].into_iter(), true), Ok(None));
    // Not even read.
    assert_eq!(pool.negotiate([b";".as_slice()].into_iter(), true), Ok(None));
}

#[test]
fn contexts_are_granted_while_there_is_memory_for_them() {
    let mut pool = CompressionPool::new(SETTINGS);
    let mut connections = Vec::new();
    let mut granted = Vec::new();
    for _ in 0..5 {
        let connection = agree(&mut pool, OFFER, true);
        granted.push((connection.agreement.takeover.server, connection.agreement.takeover.client));
        connections.push(connection);
    }
    // 404 KiB each until 1 MiB is reserved, then windows of 32 KiB until it is full.
    assert_eq!(granted, [(true, true), (true, true), (false, true), (false, true), (false, true)]);
    assert!(pool.reserved_bytes <= SETTINGS.context_bytes_max);
    connections.into_iter().for_each(|connection| pool.release(connection));
    assert_eq!((pool.reserved_bytes, pool.held_bytes), (0, 0));
    assert!(agree(&mut pool, OFFER, true).agreement.takeover.server);
}

#[test]
fn who_gets_no_replies_gets_no_context_for_them() {
    let mut pool = CompressionPool::new(SETTINGS);
    let connection = agree(&mut pool, OFFER, false);
    assert_eq!(connection.agreement.takeover, Takeover { server: false, client: true });
}

#[test]
fn a_connection_holds_contexts_from_its_first_message_to_its_end() {
    let mut pool = CompressionPool::new(SETTINGS);
    let idle = pool.memory_bytes();
    let mut connection = agree(&mut pool, OFFER, true);
    assert_eq!(pool.memory_bytes(), idle, "nothing was said yet");
    let payload = pool.deflate(&mut connection, &[b'a'; 100]).unwrap().to_vec();
    assert_eq!(pool.held_bytes, DEFLATER_BYTES);
    assert_eq!(inflate(&mut pool, &mut connection, &payload), Ok(vec![b'a'; 100]));
    assert!((DEFLATER_BYTES + 100..DEFLATER_BYTES + 300).contains(&pool.held_bytes), "{}", pool.held_bytes);
    pool.release(connection);
    assert_eq!(pool.held_bytes, 0);
}

#[test]
fn without_takeover_a_connection_holds_nothing() {
    let mut pool = CompressionPool::new(CompressionSettings { takeover: Takeover::default(), ..SETTINGS });
    let mut connections: Vec<_> = (0..3).map(|_| agree(&mut pool, OFFER, true)).collect();
    for connection in &mut connections {
        let payload = pool.deflate(connection, &[b'a'; 100]).unwrap().to_vec();
        assert_eq!(inflate(&mut pool, connection, &payload), Ok(vec![b'a'; 100]));
    }
    assert_eq!(pool.held_bytes, 0);
    assert!(pool.memory_bytes() < DEFLATER_BYTES + 2 * INFLATER_AND_BUFFERS, "{}", pool.memory_bytes());
}

const INFLATER_AND_BUFFERS: usize = 50 * 1024;

#[test]
fn short_messages_and_those_that_would_grow_are_sent_as_they_are() {
    let mut pool = CompressionPool::new(SETTINGS);
    assert_eq!(pool.deflate_shared(b"aaaaaaaaa"), None, "nine bytes");
    assert!(pool.deflate_shared(b"aaaaaaaaaa").is_some_and(|compressed| compressed.len() < 10));
    assert_eq!(pool.deflate_shared(&noise()), None, "it would be longer");
    assert!(pool.deflate_shared(b"0123456789").is_some(), "it would be too, but nobody notices");
    assert_eq!(pool.deflate_shared(b""), None);
    let mut any = CompressionPool::new(CompressionSettings { message_bytes_min: 0, ..SETTINGS });
    assert_eq!(any.deflate_shared(b""), None);
    assert_eq!(pool.counts().deflated, 2);
}

/// Bytes that do not compress.
fn noise() -> Vec<u8> {
    (0..1000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8 ^ ((n * n) >> 3) as u8).collect()
}

#[test]
fn what_would_grow_leaves_no_trace_in_a_context() {
    let mut pool = CompressionPool::new(SETTINGS);
    let mut connection = agree(&mut pool, OFFER, true);
    for payload in [vec![b'a'; 100], noise(), [noise(), noise()].concat(), noise(), vec![b'a'; 100]] {
        if let Some(compressed) = pool.deflate(&mut connection, &payload).map(<[u8]>::to_vec) {
            assert_eq!(inflate(&mut pool, &mut connection, &compressed), Ok(payload));
        }
    }
    assert_eq!(pool.counts().deflated, 4, "all but the noise that has nothing to refer to");
}

#[test]
fn nothing_is_compressed_for_a_window_of_256_bytes() {
    let mut pool = CompressionPool::new(SETTINGS);
    let mut smallest = agree(&mut pool, "permessage-deflate; server_max_window_bits=8", true);
    assert_eq!(pool.deflate(&mut smallest, &[b'a'; 1000]), None);
    assert!(!smallest.takes_shared());
    let mut small = agree(&mut pool, "permessage-deflate; server_max_window_bits=9", true);
    assert!(pool.deflate(&mut small, &[b'a'; 1000]).is_some());
    assert!(!small.takes_shared());
}

#[test]
fn what_was_cut_and_what_was_saved_is_counted() {
    let mut pool = CompressionPool::new(SETTINGS);
    let mut connection = agree(&mut pool, "permessage-deflate; client_no_context_takeover", true);
    let payload = pool.deflate_shared(&[b'a'; 1000]).unwrap().to_vec();
    assert_eq!(inflate(&mut pool, &mut connection, &payload).map(|text| text.len()), Ok(1000));
    let bomb = pool.deflate_shared(&vec![b'a'; 2 << 20]).unwrap().to_vec();
    let error = inflate(&mut pool, &mut connection, &bomb).unwrap_err();
    assert_eq!(error, ProtocolError::InflatesTooLong { limit: 1 << 20 });
    assert!(inflate(&mut pool, &mut connection, b"\xff\xff").is_err());
    let expected = CompressionCounts {
        deflated: 2,
        inflated: 1,
        inflated_saved_bytes: 1000 - payload.len() as u64,
        bombs: 1,
        contexts_refused: 0,
    };
    assert_eq!(pool.counts(), expected);
}

#[test]
fn a_compressed_control_frame_has_the_bounds_of_any_other() {
    let mut pool = CompressionPool::new(SETTINGS);
    let mut connection = agree(&mut pool, OFFER, true);
    let mut out = Vec::new();
    for (len, fits) in [(125, true), (126, false)] {
        let payload = pool.deflate_shared(&vec![b'a'; len]).unwrap().to_vec();
        assert_eq!(pool.inflate(&mut connection, OpCode::Pong, &payload, 1 << 20, &mut out).is_ok(), fits, "{len}");
    }
}
