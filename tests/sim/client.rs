//! One client's connection: what it has said, what it has heard, and what it may expect.
//!
//! It decodes with tungstenite, which nobody here wrote: a mistake that our encoder and
//! our decoder share would not show otherwise. What it sends is encoded here, so that
//! masks follow from the seed.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::time::Duration;

use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use wsgate::id::ConnectionId;
use wsgate::proto::frame::MessageKind;
use wsgate::stats::CloseReason;
use wsgate::time::Time;

use crate::deflate::{Deflate, Offer};
use crate::malformed::Offence;
use crate::network::{ClientEnd, Link, ServerEnd};
use crate::oracle::MessageId;
use crate::request::{KEY, Purpose};
use crate::subscription::Subscription;

/// Number of a connection, over the whole simulation.
pub(crate) type ClientId = usize;

/// Something that a client hears.
#[derive(Debug)]
pub(crate) enum Heard {
    /// The answer to its request.
    Status(u16),
    Message(MessageKind, Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
}

/// The end of a connection, as its shard counted it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ending {
    pub(crate) reason: CloseReason,
    pub(crate) aborted: bool,
}

/// See the module.
pub(crate) struct Client {
    pub(crate) shard: usize,
    pub(crate) purpose: Purpose,
    pub(crate) link: Link,
    /// Once it is accepted.
    pub(crate) connection: Option<ConnectionId>,
    pub(crate) accepted_at: Time,
    /// When its shard last heard of it.
    pub(crate) heard_at: Time,
    /// Bytes that it has sent, and those of them that its shard has been given.
    pub(crate) sent: u64,
    pub(crate) delivered: u64,
    /// Where its request ends.
    pub(crate) request_end: u64,
    /// Published messages that have no place and are not on their way to their owner, with
    /// the ends of their last frames.
    pub(crate) unordered: VecDeque<(u64, MessageId)>,
    /// Messages whose last byte its shard has not been given: where they end, and their bytes.
    pub(crate) unheard: VecDeque<(u64, usize)>,
    /// When its shard was given the last byte of a message.
    spoke_at: Time,
    /// Its longest silence between two of them.
    silent_most: Duration,
    /// Replies that are to come.
    pub(crate) replies: VecDeque<(MessageKind, Vec<u8>)>,
    pub(crate) replies_heard: u64,
    /// Pings that have not been answered, with the replies that are to come before the answer.
    pub(crate) pings: VecDeque<(Vec<u8>, u64)>,
    /// Pings that were not answered, since a newer one was.
    pub(crate) pings_skipped: u64,
    /// The Close that it has sent: its end, and its code.
    pub(crate) close_sent: Option<(u64, Option<u16>)>,
    /// What it has done wrong: its end, and what is to follow.
    pub(crate) offence: Option<(u64, Offence)>,
    pub(crate) stalled: bool,
    pub(crate) mute: bool,
    /// Its transport has taken less than it was offered.
    pub(crate) was_blocked: bool,
    /// Its shard is to be told when its transport takes bytes again.
    pub(crate) wants_writable: bool,
    pub(crate) subscription: Option<Subscription>,
    pub(crate) offer: Option<Offer>,
    /// Once that was agreed on.
    pub(crate) deflate: Option<Deflate>,
    /// Messages that came compressed.
    pub(crate) compressed_heard: u64,
    decoder: WebSocketContext,
    inbox: Inbox,
    head: Vec<u8>,
    pub(crate) status: Option<u16>,
    pub(crate) close_heard: Option<Option<u16>>,
    /// It has read everything up to the server's end.
    pub(crate) end_heard: bool,
    pub(crate) ending: Option<Ending>,
}

impl Client {
    pub(crate) fn new(shard: usize, purpose: Purpose, window: usize, subscription: Option<Subscription>) -> Self {
        let config = WebSocketConfig::default().read_buffer_size(2_048);
        Self {
            shard,
            purpose,
            link: Link::new(window),
            connection: None,
            accepted_at: Time::ZERO,
            heard_at: Time::ZERO,
            sent: 0,
            delivered: 0,
            request_end: 0,
            unordered: VecDeque::new(),
            unheard: VecDeque::new(),
            spoke_at: Time::ZERO,
            silent_most: Duration::ZERO,
            replies: VecDeque::new(),
            replies_heard: 0,
            pings: VecDeque::new(),
            pings_skipped: 0,
            close_sent: None,
            offence: None,
            stalled: false,
            mute: false,
            was_blocked: false,
            wants_writable: false,
            subscription,
            offer: None,
            deflate: None,
            compressed_heard: 0,
            decoder: WebSocketContext::new(Role::Client, Some(config)),
            inbox: Inbox::default(),
            head: Vec::new(),
            status: None,
            close_heard: None,
            end_heard: false,
            ending: None,
        }
    }

    pub(crate) fn is_upgraded(&self) -> bool {
        self.status == Some(101)
    }

    /// Whether its shard has promised it a topic's messages and has not taken that back.
    pub(crate) fn is_served_with(&self, topic: usize) -> bool {
        let subscribes = matches!(self.purpose, Purpose::Plain { topic: own, subscribes: true, .. } if own == topic);
        // Who has been blocked may have been closed without knowing it yet.
        subscribes && self.is_upgraded() && self.is_healthy() && !self.was_blocked
    }

    /// Its shard has accepted it.
    pub(crate) fn accepted(&mut self, connection: ConnectionId, now: Time) {
        self.connection = Some(connection);
        (self.accepted_at, self.heard_at, self.spoke_at) = (now, now, now);
    }

    /// Its shard has been given `n` bytes more. Returns the bytes of the messages that end
    /// there.
    pub(crate) fn deliver(&mut self, n: usize, now: Time) -> usize {
        self.delivered += n as u64;
        let mut bytes = 0;
        while let Some((_, len)) = self.unheard.pop_front_if(|(end, _)| *end <= self.delivered) {
            self.silent_most = self.silent_most.max(now.since(self.spoke_at));
            self.spoke_at = now;
            bytes += len;
        }
        bytes
    }

    /// Whether its shard may have closed it for saying nothing.
    pub(crate) fn may_be_idle(&self, now: Time, idle: Option<Duration>) -> bool {
        idle.is_some_and(|idle| self.silent_most.max(now.since(self.spoke_at)) >= idle)
    }

    /// Neither side has begun to end it.
    pub(crate) fn is_healthy(&self) -> bool {
        self.ending.is_none()
            && !self.link.reset
            && self.link.client_end == ClientEnd::None
            && self.link.server_end == ServerEnd::None
            && self.close_sent.is_none()
            && self.offence.is_none()
            && self.close_heard.is_none()
    }

    /// Nothing will happen to it any more.
    pub(crate) fn is_over(&self) -> bool {
        self.link.reset || self.end_heard && self.link.server_end >= ServerEnd::Closed
    }

    /// Whether it may send frames, as far as it knows.
    pub(crate) fn may_speak(&self) -> bool {
        self.may_send() && self.close_sent.is_none() && self.offence.is_none() && self.close_heard.is_none()
    }

    /// Whether anything that it sends can be read.
    pub(crate) fn may_send(&self) -> bool {
        !self.link.reset && self.link.client_end == ClientEnd::None && !self.end_heard
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.link.send(bytes);
        self.sent += bytes.len() as u64;
    }

    /// Reads up to `n` bytes and says what they were. `compresses`: whether the server does,
    /// with whoever offers it.
    pub(crate) fn read(&mut self, n: usize, compresses: bool) -> Vec<Heard> {
        let bytes = self.link.take(n);
        let mut heard = Vec::new();
        if self.is_upgraded() {
            self.take_in(&bytes);
        } else {
            self.head.extend(bytes);
            self.read_head(&mut heard, compresses);
        }
        if self.is_upgraded() {
            self.read_frames(&mut heard);
        }
        if self.link.server_end != ServerEnd::None && self.link.waiting() == 0 {
            let cut = self.link.server_end == ServerEnd::Aborted;
            assert!(cut || self.inbox.0.is_empty() && !self.has_cut_frame(), "a frame is cut");
            self.end_heard = true;
        }
        heard
    }

    fn take_in(&mut self, bytes: &[u8]) {
        match &mut self.deflate {
            Some(deflate) => self.compressed_heard += deflate.unpack(bytes, &mut self.inbox.0),
            None => self.inbox.0.extend(bytes),
        }
    }

    fn has_cut_frame(&self) -> bool {
        self.deflate.as_ref().is_some_and(Deflate::is_cut)
    }

    fn read_head(&mut self, heard: &mut Vec<Heard>, compresses: bool) {
        let Some(end) = self.head.windows(4).position(|window| window == b"\r\n\r\n") else { return };
        if self.status.is_some() {
            // The body of an answer that is no upgrade.
            return;
        }
        let mut fields = [httparse::EMPTY_HEADER; 16];
        let mut response = httparse::Response::new(&mut fields);
        let parsed = response.parse(&self.head[..end + 4]);
        assert!(matches!(parsed, Ok(httparse::Status::Complete(_))), "no HTTP: {parsed:?}");
        let status = response.code.expect("a complete response has a status");
        if status == 101 {
            let field = |name| response.headers.iter().find(|field| field.name == name).map(|field| field.value);
            assert_eq!(field("Sec-WebSocket-Accept"), Some(derive_accept_key(KEY.as_bytes()).as_bytes()));
            let extensions = field("Sec-WebSocket-Extensions").map(|value| str::from_utf8(value).expect("ASCII"));
            self.deflate = Deflate::agreed(self.offer, extensions, compresses);
            let frames = self.head.split_off(end + 4);
            self.take_in(&frames);
        }
        self.status = Some(status);
        heard.push(Heard::Status(status));
    }

    fn read_frames(&mut self, heard: &mut Vec<Heard>) {
        use tungstenite::{Error, Message};
        while self.close_heard.is_none() {
            heard.push(match self.decoder.read(&mut self.inbox) {
                Ok(Message::Text(text)) => Heard::Message(MessageKind::Text, text.as_bytes().to_vec()),
                Ok(Message::Binary(bytes)) => Heard::Message(MessageKind::Binary, bytes.to_vec()),
                Ok(Message::Ping(payload)) => Heard::Ping(payload.to_vec()),
                Ok(Message::Pong(payload)) => Heard::Pong(payload.to_vec()),
                Ok(Message::Close(frame)) => {
                    let code = frame.map(|frame| frame.code.into());
                    self.close_heard = Some(code);
                    Heard::Close(code)
                }
                Ok(Message::Frame(frame)) => panic!("a frame for itself: {frame:?}"),
                Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("the server's bytes are no WebSocket: {error}"),
            });
        }
        assert!(self.inbox.0.is_empty() && !self.has_cut_frame(), "{} bytes follow a Close", self.inbox.0.len());
    }
}

/// Where the decoder reads. What it would answer by itself is dropped: the client
/// answers, or does not.
#[derive(Default)]
struct Inbox(VecDeque<u8>);

impl Read for Inbox {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(ErrorKind::WouldBlock.into()),
            n => Ok(n),
        }
    }
}

impl Write for Inbox {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
