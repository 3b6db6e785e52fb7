use wsgate::proto::close;
use wsgate::proto::handshake::accept_key;
use wsgate::time::Time;

use super::*;
use crate::payload::Reading;
use crate::target::Target;

fn tools() -> Tools {
    Tools::new(Random::from_seed([0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb, 7]), 1 << 20)
}

/// A client, and the key that it sent.
fn client(tools: &mut Tools, subprotocol: Option<&str>) -> (Client, String) {
    let target: Target = "ws://127.0.0.1:8000/echo".parse().unwrap();
    let mut out = Vec::new();
    let request = Request::new(&target, &[], subprotocol, &Table::default()).unwrap();
    let client = Client::new(&request, Values::default(), &Table::default(), &mut out, &mut tools.random);
    let request = http::parse(&out).unwrap();
    let key = request.single("Sec-WebSocket-Key").unwrap().unwrap().to_owned();
    (client, key)
}

fn response(key: &str, extra: &str) -> Vec<u8> {
    let accept = String::from_utf8(accept_key(key).to_vec()).unwrap();
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: WebSocket\r\nConnection: keep-alive, upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n{extra}\r\n"
    )
    .into_bytes()
}

/// Feeds the bytes in pieces: the events, what the client answered, and the failure.
fn feed(client: &mut Client, tools: &mut Tools, bytes: &[u8], size: usize) -> (Vec<String>, Vec<u8>, Option<String>) {
    let (mut events, mut out) = (Vec::new(), Vec::new());
    for piece in bytes.to_vec().chunks_mut(size) {
        let mut input = piece;
        loop {
            match client.next(&mut input, &mut out, tools) {
                Ok(Some(event)) => events.push(format!("{event:?}")),
                Ok(None) => break,
                Err(failure) => return (events, out, Some(format!("{}: {failure}", failure.kind()))),
            }
        }
    }
    (events, out, None)
}

/// What a server reads of the client's bytes.
fn as_server(mut bytes: Vec<u8>) -> Vec<String> {
    let rules = ReaderRules::new(Role::Server, 1 << 20);
    let (mut reader, mut pool) = (MessageReader::default(), AssemblyPool::default());
    let mut input = &mut bytes[..];
    let mut events = Vec::new();
    while let Some(event) = reader.next(&mut input, &rules, &mut pool).unwrap() {
        events.push(format!("{event:?}"));
    }
    events
}

#[test]
fn every_split_of_the_bytes_gives_the_same_events_and_answers() {
    let session = |size: usize| {
        let mut tools = tools();
        let (mut client, key) = client(&mut tools, None);
        let mut bytes = response(&key, "");
        frame::append_server(&mut bytes, OpCode::Text, b"hello");
        frame::append_server(&mut bytes, OpCode::Ping, b"are you there");
        frame::append_server(&mut bytes, OpCode::Binary, &[7; 300]);
        frame::append_server(&mut bytes, OpCode::Pong, b"");
        frame::append_server(&mut bytes, OpCode::Close, b"\x03\xe9bye");
        let size = if size == 0 { bytes.len() } else { size };
        (feed(&mut client, &mut tools, &bytes, size), bytes.len())
    };
    let (whole, len) = session(0);
    assert_eq!(whole.0.len(), 6, "{:?}", whole.0);
    assert_eq!(whole.0[0], "Opened");
    assert!(whole.0[5].contains("1001") && whole.0[5].contains("bye"), "{}", whole.0[5]);
    assert_eq!(
        as_server(whole.1.clone()),
        [
            format!("Pong({:?})", b"are you there"),
            format!("Close(Some({:?}))", close::CloseFrame { code: CloseCode(1001), reason: "" }),
        ]
    );
    for size in 1..len {
        assert_eq!(session(size).0, whole, "pieces of {size}");
    }
}

#[test]
fn a_refusal_is_named_with_its_status_and_reason() {
    let mut tools = tools();
    let (mut client, _) = client(&mut tools, None);
    let bytes = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 9\r\n\r\nno guests\n";
    let (_, _, failure) = feed(&mut client, &mut tools, bytes, bytes.len());
    assert_eq!(failure.unwrap(), "handshake status 403: the server answered 403: no guests");
}

#[test]
fn what_is_no_websocket_handshake_is_refused() {
    let check = |make: &dyn Fn(&str) -> Vec<u8>, part: &str| {
        let mut tools = tools();
        let (mut client, key) = client(&mut tools, Some("mqtt"));
        let bytes = make(&key);
        let (_, _, failure) = feed(&mut client, &mut tools, &bytes, bytes.len());
        let failure = failure.unwrap_or_else(|| panic!("accepted, but should name {part:?}"));
        assert!(failure.starts_with("handshake invalid") && failure.contains(part), "{failure}");
    };
    check(&|_| b"SSH-2.0-OpenSSH\r\n".to_vec(), "no HTTP");
    check(&|_| response("another key", ""), "does not belong to our key");
    check(&|key| response(key, "Sec-WebSocket-Protocol: chat\r\n"), "chat");
    check(&|key| response(key, "Sec-WebSocket-Extensions: permessage-deflate\r\n"), "permessage-deflate");
    check(&|_| b"HTTP/1.1 101 Switching Protocols\r\n\r\n".to_vec(), "lacks Upgrade");
    check(&|_| [&b"HTTP/1.1 101 "[..], &[b'a'; RESPONSE_HEAD_BYTES_MAX]].concat(), "over 16384 bytes");
}

#[test]
fn the_asked_subprotocol_or_none_is_accepted() {
    for extra in ["", "Sec-WebSocket-Protocol: mqtt\r\n"] {
        let mut tools = tools();
        let (mut client, key) = client(&mut tools, Some("mqtt"));
        assert_eq!(feed(&mut client, &mut tools, &response(&key, extra), 1_000).0, ["Opened"]);
        assert!(client.is_open());
    }
}

#[test]
fn a_masked_frame_from_a_server_is_a_protocol_error() {
    let mut tools = tools();
    let (mut client, key) = client(&mut tools, None);
    let mut bytes = response(&key, "");
    frame::append_client(&mut bytes, OpCode::Text, [1, 2, 3, 4], b"no");
    let (events, _, failure) = feed(&mut client, &mut tools, &bytes, bytes.len());
    assert_eq!(events, ["Opened"]);
    assert!(failure.unwrap().starts_with("protocol error"));
}

#[test]
fn our_close_is_answered_once_and_ends_the_connection() {
    let mut tools = tools();
    let (mut client, key) = client(&mut tools, None);
    feed(&mut client, &mut tools, &response(&key, ""), 1_000);
    let mut out = Vec::new();
    client.close(&mut out, CloseCode::NORMAL, &mut tools);
    assert!(client.is_closing() && as_server(out)[0].contains("1000"));
    let mut bytes = Vec::new();
    frame::append_server(&mut bytes, OpCode::Text, b"late");
    frame::append_server(&mut bytes, OpCode::Close, b"\x03\xe8");
    frame::append_server(&mut bytes, OpCode::Text, b"after the end");
    let (events, answered, failure) = feed(&mut client, &mut tools, &bytes, 3);
    assert_eq!((events.len(), answered.len(), failure), (2, 0, None));
}

#[test]
fn messages_are_masked_with_a_fresh_key_each_and_read_back() {
    let mut tools = tools();
    let payload = Payload::new(9, 200, false);
    let stamp = Stamp { sender: 3, sequence: 4, intended: Time(6_400), sent: Time(6_400) };
    let mut out = Vec::new();
    for _ in 0..2 {
        append_message(&mut out, MessageKind::Text, &payload, stamp, &mut tools.random);
    }
    let (first, second) = out.split_at(out.len() / 2);
    assert_ne!(first[4..8], second[4..8], "masking keys");
    let rules = ReaderRules::new(Role::Server, 1 << 20);
    let mut bytes = second.to_vec();
    let mut reader = MessageReader::default();
    let event = reader.next(&mut &mut bytes[..], &rules, &mut AssemblyPool::default()).unwrap().unwrap();
    let FrameEvent::Message { kind: MessageKind::Text, payload: read, .. } = event else { panic!("{event:?}") };
    assert_eq!(payload.read(read), Reading::Ours(stamp));
}
