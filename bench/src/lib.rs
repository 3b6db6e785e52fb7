//! What the benchmarks share.

use wsgate::proto::frame::{self, OpCode};

/// Most messages that `bench peers` keeps under way in one topic. Servers whose
/// backlogs are bounded get this much room.
pub const IN_FLIGHT_MAX: usize = 64;

/// Frames as a client sends them: `count` messages of `bytes` bytes each.
pub fn client_frames(opcode: OpCode, bytes: usize, count: usize) -> Vec<u8> {
    let payload = vec![b'a'; bytes];
    let mut frames = Vec::new();
    for n in 0..count {
        frame::append_client(&mut frames, opcode, (n as u32 ^ 0x9e37_79b9).to_ne_bytes(), &payload);
    }
    frames
}

/// A request as a browser sends it, with headers that a gateway does not need.
pub const UPGRADE_REQUEST: &[u8] = b"GET /topics/room HTTP/1.1\r\n\
Host: gateway.example:8000\r\n\
Connection: keep-alive, Upgrade\r\n\
Pragma: no-cache\r\n\
Cache-Control: no-cache\r\n\
User-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n\
Upgrade: websocket\r\n\
Origin: https://gateway.example\r\n\
Sec-WebSocket-Version: 13\r\n\
Accept-Encoding: gzip, deflate, br\r\n\
Accept-Language: en\r\n\
Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n";
