//! One WebSocket client without a socket: bytes in, events and bytes out.
//!
//! Owner: `connection`. Handshake, masking, pongs and the closing handshake happen
//! in here; what messages mean is for `scenario`. An open client that is idle
//! holds no buffer.

use wsgate::buffer::BufferPool;
use wsgate::proto::Role;
use wsgate::proto::close::CloseCode;
use wsgate::proto::frame::{self, FrameHeader, HEADER_BYTES_MAX, MessageKind, OpCode};
use wsgate::proto::handshake;
use wsgate::proto::http;
use wsgate::proto::mask;
use wsgate::proto::message::{AssemblyPool, Compressible, Event as FrameEvent, MessageReader, ReaderRules};

use crate::deflate::{self, Codec};
use crate::failure::Failure;
use crate::limits::RESPONSE_HEAD_BYTES_MAX;
use crate::payload::{Payload, Stamp};
use crate::random::Random;
use crate::target::Request;
use crate::template::{Table, Values};

/// Header fields that a response may have.
const RESPONSE_HEADERS_MAX: usize = 64;
/// Bytes of a refusal's body that are quoted.
const BODY_QUOTE_BYTES_MAX: usize = 200;

/// What all clients of a worker share.
#[derive(Debug)]
pub struct Tools {
    /// Masking keys and nonces.
    pub random: Random,
    /// Buffers for cut frames.
    pub pool: AssemblyPool,
    /// Buffers of TLS streams.
    pub buffers: BufferPool,
    /// What TLS records say, while it is read.
    pub plaintext: Vec<u8>,
    /// What servers are held to.
    pub rules: ReaderRules,
    /// The same with permessage-deflate.
    pub rules_with_deflate: ReaderRules,
    /// For permessage-deflate.
    pub codec: Codec,
    /// What a compressed message says, while it is read.
    pub inflated: Vec<u8>,
}

impl Tools {
    /// Accepts messages of up to `message_bytes_max` bytes.
    pub fn new(random: Random, message_bytes_max: usize) -> Self {
        let rules = ReaderRules::new(Role::Client, message_bytes_max);
        Self {
            random,
            pool: AssemblyPool::default(),
            buffers: BufferPool::default(),
            plaintext: Vec::new(),
            rules,
            rules_with_deflate: ReaderRules { compressible: Compressible::Messages, ..rules },
            codec: Codec::default(),
            inflated: Vec::new(),
        }
    }

    /// What a compressed message says, appended to nothing in `out`.
    ///
    /// # Errors
    /// A message that does not inflate, is too long then, or is text and no UTF-8.
    pub fn inflate(&mut self, opcode: OpCode, payload: &[u8], out: &mut Vec<u8>) -> Result<(), Failure> {
        self.codec.inflate(payload, self.rules.message_bytes_max, out)?;
        FrameEvent::of(opcode, out)?;
        Ok(())
    }
}

/// Something that happened on the connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// The handshake is complete: messages may be sent.
    Opened,
    /// A message.
    Message(&'a [u8]),
    /// A message that is to be inflated: [`Tools::inflate`].
    Compressed(OpCode, &'a [u8]),
    /// A ping, which has been answered, or a pong.
    Control,
    /// The closing handshake is complete from our side: nothing follows.
    Closed {
        /// We had asked for it.
        asked: bool,
        /// The code, if the server gave one.
        code: Option<CloseCode>,
        /// The reason in words.
        reason: String,
    },
}

/// A client connection.
#[derive(Debug)]
pub struct Client {
    state: State,
    /// permessage-deflate was agreed on.
    compresses: bool,
    reader: MessageReader,
}

#[derive(Debug)]
enum State {
    /// The request is sent, the response is not complete.
    Handshake(Box<Handshake>),
    /// Messages flow.
    Open,
    /// Our Close frame is sent, the server's is awaited.
    Closing,
    /// Both have sent Close; `asked`: we did first.
    Closed { asked: bool },
}

#[derive(Debug)]
struct Handshake {
    accept: [u8; 28],
    subprotocol: Option<String>,
    offers_deflate: bool,
    /// The response so far.
    head: Vec<u8>,
}

impl Client {
    /// A client whose upgrade request is appended to `out`.
    pub fn new(request: &Request, values: Values, table: &Table, out: &mut Vec<u8>, random: &mut Random) -> Self {
        let key = request.append(out, random.nonce(), values, table);
        let accept = handshake::accept_key(&key);
        let Request { subprotocol, offers_deflate, .. } = request;
        let handshake =
            Handshake { accept, subprotocol: subprotocol.clone(), offers_deflate: *offers_deflate, head: Vec::new() };
        Self { state: State::Handshake(Box::new(handshake)), compresses: false, reader: MessageReader::default() }
    }

    /// Messages may be sent.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }

    /// Messages may be compressed, in both directions.
    pub fn compresses(&self) -> bool {
        self.compresses
    }

    /// We have asked for the end: whatever the server does now is an answer.
    pub fn is_closing(&self) -> bool {
        matches!(self.state, State::Closing | State::Closed { asked: true })
    }

    /// Both have sent Close.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed { .. })
    }

    /// The next event in `input`, which is advanced past the bytes that were used;
    /// `None` when it is used up. What has to be answered is appended to `out`.
    ///
    /// After an error or [`Event::Closed`] the connection is over.
    pub fn next<'a, 'b: 'a>(
        &'a mut self,
        input: &mut &'b mut [u8],
        out: &mut Vec<u8>,
        tools: &mut Tools,
    ) -> Result<Option<Event<'a>>, Failure> {
        if let State::Handshake(handshake) = &mut self.state {
            let Some(compresses) = handshake.read(input)? else { return Ok(None) };
            self.compresses = compresses;
            self.state = State::Open;
            return Ok(Some(Event::Opened));
        }
        if self.is_closed() {
            *input = &mut [];
            return Ok(None);
        }
        let rules = if self.compresses { &tools.rules_with_deflate } else { &tools.rules };
        let Some(event) = self.reader.next(input, rules, &mut tools.pool)? else { return Ok(None) };
        Ok(Some(match event {
            FrameEvent::Message { payload, .. } => Event::Message(payload),
            FrameEvent::Ping(payload) => {
                frame::append_client(out, OpCode::Pong, tools.random.mask_key(), payload);
                Event::Control
            }
            FrameEvent::Pong(_) => Event::Control,
            FrameEvent::Compressed { opcode, payload } => Event::Compressed(opcode, payload),
            FrameEvent::Close(body) => {
                let asked = matches!(self.state, State::Closing);
                if !asked {
                    append_close(out, body.map(|body| body.code), tools);
                }
                self.state = State::Closed { asked };
                Event::Closed {
                    asked,
                    code: body.map(|body| body.code),
                    reason: body.map_or(String::new(), |body| body.reason.to_owned()),
                }
            }
        }))
    }

    /// Begins the closing handshake: appends a Close frame to `out`.
    pub fn close(&mut self, out: &mut Vec<u8>, code: CloseCode, tools: &mut Tools) {
        assert!(self.is_open(), "only an open connection can be closed");
        append_close(out, Some(code), tools);
        self.state = State::Closing;
    }

    /// Gives back what is held; the connection is over.
    pub fn release(&mut self, tools: &mut Tools) {
        self.reader.release(&mut tools.pool);
    }
}

/// Appends a whole message of the run, masked with a fresh key.
pub fn append_message(out: &mut Vec<u8>, kind: MessageKind, payload: &Payload, stamp: Stamp, random: &mut Random) {
    let key = random.mask_key();
    let header = FrameHeader {
        fin: true,
        reserved: 0,
        opcode: kind.opcode(),
        mask: Some(key),
        payload_len: payload.bytes() as u64,
    };
    let mut bytes = [0; HEADER_BYTES_MAX];
    let len = header.encode(&mut bytes);
    // A length that the compiler knows is copied without a call.
    let start = out.len() + len;
    out.extend_from_slice(&bytes);
    out.truncate(start);
    payload.append(out, stamp);
    mask::apply(&mut out[start..], key, 0);
}

/// Appends a text or binary message, compressed or not, masked with a fresh key.
pub fn append_text(out: &mut Vec<u8>, kind: MessageKind, text: &[u8], compresses: bool, tools: &mut Tools) {
    let key = tools.random.mask_key();
    if !compresses || text.is_empty() {
        return frame::append_client(out, kind.opcode(), key, text);
    }
    let payload = tools.codec.deflate(text);
    let header = FrameHeader {
        fin: true,
        reserved: frame::COMPRESSED,
        opcode: kind.opcode(),
        mask: Some(key),
        payload_len: payload.len() as u64,
    };
    let mut bytes = [0; HEADER_BYTES_MAX];
    let len = header.encode(&mut bytes);
    out.extend_from_slice(&bytes[..len]);
    let start = out.len();
    out.extend_from_slice(payload);
    mask::apply(&mut out[start..], key, 0);
}

fn append_close(out: &mut Vec<u8>, code: Option<CloseCode>, tools: &mut Tools) {
    let body = code.map(|code| code.0.to_be_bytes());
    let body = body.as_ref().map_or(&[][..], |bytes| &bytes[..]);
    frame::append_client(out, OpCode::Close, tools.random.mask_key(), body);
}

impl Handshake {
    /// Takes the response's bytes; when it is complete and as it must be, whether
    /// permessage-deflate was agreed on.
    fn read(&mut self, input: &mut &mut [u8]) -> Result<Option<bool>, Failure> {
        let before = self.head.len();
        let wanted = (RESPONSE_HEAD_BYTES_MAX - before).min(input.len());
        self.head.extend_from_slice(&input[..wanted]);
        let Some(len) = http::head_len(&self.head, before) else {
            *input = &mut std::mem::take(input)[wanted..];
            return match self.head.first() {
                Some(b'H') if self.head.len() < RESPONSE_HEAD_BYTES_MAX => Ok(None),
                Some(b'H') => Err(invalid(format!("the response's head is over {RESPONSE_HEAD_BYTES_MAX} bytes"))),
                Some(other) => Err(invalid(format!("the response begins with byte {other:#04x}; this is no HTTP"))),
                None => Ok(None),
            };
        };
        *input = &mut std::mem::take(input)[len - before..];
        self.check(&self.head[..len], input).map(Some)
    }

    /// RFC 6455, section 4.1: what a client must check.
    fn check(&self, head: &[u8], body: &[u8]) -> Result<bool, Failure> {
        let mut fields = [httparse::EMPTY_HEADER; RESPONSE_HEADERS_MAX];
        let mut response = httparse::Response::new(&mut fields);
        response.parse(head).map_err(|error| invalid(format!("the response is malformed: {error}")))?;
        let status = response.code.unwrap_or_default();
        if status != 101 {
            let body = String::from_utf8_lossy(&body[..body.len().min(BODY_QUOTE_BYTES_MAX)]);
            let body = body.lines().next().unwrap_or_default().trim();
            let body = if body.is_empty() { response.reason.unwrap_or_default() } else { body };
            return Err(Failure::HandshakeStatus { status, body: body.to_owned() });
        }
        let values = |name: &'static str| {
            response.headers.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
        };
        let lists = |name: &'static str, element: &str| {
            let mut items = values(name).flat_map(|value| value.split(|&byte| byte == b',')).map(<[u8]>::trim_ascii);
            items.any(|item| item.eq_ignore_ascii_case(element.as_bytes()))
        };
        if !lists("Upgrade", "websocket") || !lists("Connection", "Upgrade") {
            return Err(invalid("the 101 lacks Upgrade: websocket or Connection: Upgrade".to_owned()));
        }
        let accept = values("Sec-WebSocket-Accept").next().unwrap_or_default();
        if accept.trim_ascii() != self.accept {
            let got = String::from_utf8_lossy(accept);
            return Err(invalid(format!("Sec-WebSocket-Accept is {got:?}, which does not belong to our key")));
        }
        let extension = values("Sec-WebSocket-Extensions").find(|value| !value.trim_ascii().is_empty());
        if let Some(extension) = extension {
            let got = String::from_utf8_lossy(extension);
            if !self.offers_deflate {
                return Err(invalid(format!("the server chose the extension {got:?}, which was not offered")));
            }
            deflate::check_answer(&got).map_err(invalid)?;
        }
        if let Some(chosen) = values("Sec-WebSocket-Protocol").next()
            && self.subprotocol.as_deref().map(str::as_bytes) != Some(chosen.trim_ascii())
        {
            let got = String::from_utf8_lossy(chosen);
            return Err(invalid(format!("the server chose the subprotocol {got:?}, which was not asked for")));
        }
        Ok(extension.is_some())
    }
}

fn invalid(text: String) -> Failure {
    Failure::HandshakeInvalid(text)
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
