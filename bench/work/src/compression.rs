//! permessage-deflate: a message to all, compressed once, and one that comes compressed.

use wsgate::proto::compression::CompressionSettings;
use wsgate::proto::deflate::Deflater;
use wsgate::proto::frame::OpCode;

use crate::counted::Counted;
use crate::gateway::{Gateway, client_frames, upgrade_request};

const WARM_UP: usize = 2;
/// The bit that marks a compressed message, in a frame's first byte (RFC 7692, section 6).
const COMPRESSED: u8 = 0x40;
const OFFER: &str = "Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover\r\n";

/// Publishes text to subscribers who all take it compressed.
pub(crate) fn publish(subscribers: usize, bytes: usize, rounds: usize) -> Counted {
    let mut gateway = gateway(subscribers + 1);
    let request = upgrade_request("/topics/room", OFFER);
    gateway.open_all(&request, subscribers);
    let publisher = gateway.open(&upgrade_request("/topics/room?subscribe=off", ""));
    let frame = client_frames(OpCode::Text, &json(bytes), 1);
    let mut publish = |rounds: usize| {
        gateway.take_sent();
        for _ in 0..rounds {
            gateway.receive(publisher, &frame);
            gateway.flush();
        }
        gateway.take_sent()
    };
    publish(WARM_UP);
    let mut sent = 0;
    let counted = Counted::of(subscribers * rounds, || sent = publish(rounds));
    assert!(sent < subscribers * rounds * bytes / 2, "it is compressed: {sent} bytes");
    counted
}

/// Reads compressed text to a topic that nobody else has.
pub(crate) fn receive(bytes: usize, count: usize) -> Counted {
    let mut gateway = gateway(2);
    let publisher = gateway.open(&upgrade_request("/topics/room?subscribe=off", OFFER));
    let mut compressed = Vec::new();
    Deflater::new(6, 15).deflate_alone(&json(bytes), &mut compressed);
    let mut frame = client_frames(OpCode::Text, &compressed, 1);
    frame[0] |= COMPRESSED;
    let mut receive = |count: usize| {
        for _ in 0..count {
            gateway.receive(publisher, &frame);
            gateway.flush();
        }
    };
    receive(WARM_UP);
    let counted = Counted::of(count, || receive(count));
    assert_eq!(gateway.shard.stats().messages_in.get(), (count + WARM_UP) as u64);
    counted
}

/// Text as applications send it, of at least so many bytes.
fn json(bytes: usize) -> Vec<u8> {
    let mut text = Vec::new();
    for n in 0.. {
        if text.len() >= bytes {
            break;
        }
        text.extend_from_slice(format!(r#"{{"symbol":"ABC{n}","bid":{}.25,"ask":{}.75}},"#, n * 3, n * 3).as_bytes());
    }
    text
}

fn gateway(connections_max: usize) -> Gateway {
    Gateway::new(connections_max, CompressionSettings { enabled: true, ..CompressionSettings::default() })
}
