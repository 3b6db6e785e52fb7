//! What either side compresses, the other restores, with the window and the memory that
//! were agreed on.
//!
//! Input: a byte for the level, one for the server's window and who keeps a context, then
//! messages; of each the first byte says how often the rest is repeated.

use super::messages;
use super::peer::{Receiver, Sender};
use crate::proto::compression::{Compression, CompressionPool, CompressionSettings, GROWTH_IGNORED_BYTES};
use crate::proto::deflate::DEFLATER_BYTES;
use crate::proto::extension::{Takeover, WINDOW_BITS_MAX, WINDOW_BITS_MIN};
use crate::proto::frame::OpCode;

/// Messages that are compressed at most, and bytes of each, so that a run is short.
const MESSAGES_MAX: usize = 6;
const MESSAGE_BYTES_MAX: usize = 50_000;

pub(super) fn run(data: &[u8]) {
    let [level, setup, data @ ..] = data else { return };
    let window_bits = WINDOW_BITS_MIN + setup % 8;
    let takeover = Takeover { server: setup & 8 != 0, client: setup & 16 != 0 };
    let mut pool = CompressionPool::new(CompressionSettings {
        enabled: true,
        level: 1 + u32::from(level % 9),
        takeover,
        // For one connection.
        context_bytes_max: DEFLATER_BYTES + (1 << WINDOW_BITS_MAX),
        ..CompressionSettings::default()
    });
    let mut connection = connect(&mut pool, window_bits);
    assert_eq!(connection.agreement().takeover, takeover);
    let (mut receiver, mut sender) = (Receiver::new(window_bits), Sender::new());
    for message in messages(data).take(MESSAGES_MAX).map(repeated) {
        if !takeover.server {
            receiver = Receiver::new(window_bits);
        }
        match pool.deflate(&mut connection, &message).map(<[u8]>::to_vec) {
            Some(compressed) => {
                assert!(compressed.len() < message.len() || message.len() < GROWTH_IGNORED_BYTES);
                assert_eq!(receiver.inflate(&compressed), message, "in a window of {window_bits} bits");
            }
            None => {
                assert!(window_bits == WINDOW_BITS_MIN || message.is_empty() || message.len() >= GROWTH_IGNORED_BYTES)
            }
        }
        if let Some(compressed) = pool.deflate_shared(&message) {
            assert_eq!(Receiver::new(WINDOW_BITS_MAX).inflate(compressed), message, "alone");
        }
        let mut text = Vec::new();
        if !takeover.client {
            sender.forget();
        }
        let sent = sender.deflate(&message);
        assert_eq!(pool.inflate(&mut connection, OpCode::Binary, &sent, message.len(), &mut text), Ok(()));
        assert_eq!(text, message);
    }
    pool.release(connection);
    let again = connect(&mut pool, window_bits).agreement().takeover;
    assert_eq!(again, takeover, "the memory of a connection's contexts is given back");
}

fn connect(pool: &mut CompressionPool, window_bits: u8) -> Compression {
    let offer = format!("permessage-deflate; server_max_window_bits={window_bits}; client_max_window_bits");
    let agreed = pool.negotiate([offer.as_bytes()].into_iter(), true);
    pool.connect(agreed.ok().flatten().expect("the offer is legal"))
}

/// A message out of the input, which a window may be too small for.
fn repeated(message: &[u8]) -> Vec<u8> {
    let Some((&times, text)) = message.split_first() else { return Vec::new() };
    let times = (1 + usize::from(times)).min(MESSAGE_BYTES_MAX / text.len().max(1));
    text.repeat(times)
}
