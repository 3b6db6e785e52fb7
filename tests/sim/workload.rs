//! What clients say, and what they make of what they hear.

use wsgate::proto::frame::MessageKind;
use wsgate::shard::DrainPhase;

use crate::client::{Client, ClientId, Heard};
use crate::deflate::OFFERS;
use crate::malformed::{self, CLOSE, COMPRESSED, CONTINUATION, PING, PONG, frame};
use crate::network::ServerEnd;
use crate::plan::pick;
use crate::request::Purpose;
use crate::scene::Scene;
use crate::subscription::Subscription;

const CLOSE_CODES: [Option<u16>; 5] = [None, Some(1000), Some(1001), Some(3000), Some(4999)];

impl Scene {
    /// A new client, with its request on the way.
    pub(crate) fn connect(&mut self, shard: usize) -> ClientId {
        let id = self.clients.len();
        let purpose = Purpose::choose(&self.plan, &mut self.rng);
        let window = *pick(&mut self.rng, &self.plan.windows);
        let subscription = match purpose {
            Purpose::Plain { topic, subscribes: true, echo, gaps } => {
                Some(Subscription::new(topic, (!echo).then_some(id), gaps))
            }
            _ => None,
        };
        let mut client = Client::new(shard, purpose, window, subscription);
        if self.plan.offers && self.rng.bool() {
            client.offer = Some(*pick(&mut self.rng, &OFFERS));
        }
        client.send(purpose.request(&self.plan, client.offer).as_bytes());
        client.request_end = client.sent;
        self.clients.push(client);
        self.trace.event("connects", id as u64, shard as u64);
        id
    }

    /// Whether a client may send a frame now.
    pub(crate) fn may_speak(&mut self, id: ClientId) -> bool {
        let client = &self.clients[id];
        if !client.may_speak() || matches!(client.purpose, Purpose::Http(..) | Purpose::Silent) {
            return false;
        }
        if client.is_upgraded() {
            return true;
        }
        // Not if there was another answer.
        let early = &mut self.early[client.shard];
        self.plan.early_frames && client.status.is_none() && *early.get_or_insert(id) == id
    }

    /// A client sends something that it may send.
    pub(crate) fn say(&mut self, id: ClientId) {
        match self.rng.u32(0..10) {
            0 => {
                let payload = self.clients[id].sent.to_string();
                let bytes = frame(&mut self.rng, true, PING, payload.as_bytes());
                let client = &mut self.clients[id];
                let replies = client.replies_heard + client.replies.len() as u64;
                client.pings.push_back((payload.into_bytes(), replies));
                client.send(&bytes);
                self.trace.event("pings", id as u64, 0);
            }
            1 => {
                let bytes = frame(&mut self.rng, true, PONG, b"unasked");
                self.clients[id].send(&bytes);
            }
            _ => self.send_message(id),
        }
    }

    fn send_message(&mut self, id: ClientId) {
        let kind = if self.rng.bool() { MessageKind::Text } else { MessageKind::Binary };
        let len = self.message_len();
        let topic = match self.clients[id].purpose {
            Purpose::Plain { topic, .. } => Some(topic),
            _ => None,
        };
        let message = self.oracle.write(topic.unwrap_or_default(), topic.map(|_| id), kind, len);
        self.trace.event("sends", id as u64, message as u64);
        let payload = self.oracle.messages[message].payload.clone();
        let start = self.clients[id].sent;
        let compresses = self.clients[id].deflate.as_ref().is_some_and(|deflate| deflate.sends) && self.rng.bool();
        let bytes = match self.clients[id].deflate.as_mut().filter(|_| compresses) {
            Some(deflate) => {
                let compressed = deflate.deflate(&payload);
                self.trace.count("compressed message sent", 1);
                self.frames(kind, &compressed, true)
            }
            None => self.frames(kind, &payload, false),
        };
        let client = &mut self.clients[id];
        client.send(&bytes);
        client.unheard.push_back((client.sent, payload.len()));
        match client.purpose {
            Purpose::Echo => client.replies.push_back((kind, payload)),
            Purpose::Greeting => client.replies.push_back((MessageKind::Text, b"good".to_vec())),
            _ if !self.plan.may_publish() => client.offence = Some((start, malformed::NO_RIGHT)),
            _ => client.unordered.push_back((client.sent, message)),
        }
    }

    /// Mostly small; some as large as the plan has them.
    pub(crate) fn message_len(&mut self) -> usize {
        let settings = self.plan.common();
        let limit = settings.frame_bytes_max.saturating_mul(settings.fragments_max).min(settings.routes.limits.plain);
        let large = self.plan.large_message_bytes.min(limit - 20);
        match self.rng.u32(0..40) {
            0 => self.rng.usize(0..=large),
            1..=4 => self.rng.usize(100..=300.min(large)),
            _ => self.rng.usize(0..=40),
        }
    }

    /// A message as one frame or several, with a pong between two of them.
    fn frames(&mut self, kind: MessageKind, payload: &[u8], compressed: bool) -> Vec<u8> {
        let (frame_max, fragments_max) = (self.plan.common().frame_bytes_max, self.plan.common().fragments_max);
        let needed = payload.len().div_ceil(frame_max).max(1);
        let several = needed > 1 || self.one_in(6);
        let count = if several { self.rng.usize(needed..=(needed + 2).min(fragments_max)) } else { 1 };
        self.trace.count("fragmented message", u64::from(count > 1));
        let mut opcode = match kind {
            MessageKind::Text => malformed::TEXT,
            MessageKind::Binary => malformed::BINARY,
        };
        let (mut bytes, mut rest) = (Vec::new(), payload);
        for behind in (0..count).rev() {
            let least = rest.len().saturating_sub(behind.saturating_mul(frame_max));
            let len = if behind == 0 { rest.len() } else { self.rng.usize(least..=rest.len().min(frame_max)) };
            bytes.extend(frame(&mut self.rng, behind == 0, opcode, &rest[..len]));
            if behind > 0 && self.rng.bool() {
                bytes.extend(frame(&mut self.rng, true, PONG, b"between"));
            }
            rest = &rest[len..];
            opcode = CONTINUATION;
        }
        if compressed {
            bytes[0] |= COMPRESSED;
        }
        bytes
    }

    /// A client breaks the protocol.
    pub(crate) fn offend(&mut self, id: ClientId) {
        let settings = self.plan.common();
        let client = &mut self.clients[id];
        let (bytes, offence) = match client.deflate.as_mut().filter(|_| self.rng.bool()) {
            Some(deflate) => malformed::malformed_deflate(&mut self.rng, deflate, settings),
            None => malformed::malformed(&mut self.rng, settings, client.offer.is_some()),
        };
        self.trace.event("malformed", id as u64, 0);
        self.trace.count(offence.name, 1);
        let client = &mut self.clients[id];
        client.offence = Some((client.sent, offence));
        client.send(&bytes);
    }

    /// A client begins the closing handshake.
    pub(crate) fn close(&mut self, id: ClientId) {
        let code = *pick(&mut self.rng, &CLOSE_CODES);
        self.trace.event("closes", id as u64, code.unwrap_or_default().into());
        self.send_close(id, code);
    }

    fn send_close(&mut self, id: ClientId, code: Option<u16>) {
        let mut body = code.map(|code| code.to_be_bytes().to_vec()).unwrap_or_default();
        if !body.is_empty() {
            body.extend_from_slice("auf Wiedersehen, 再见".as_bytes());
        }
        let bytes = frame(&mut self.rng, true, CLOSE, &body);
        let client = &mut self.clients[id];
        client.send(&bytes);
        client.close_sent = Some((client.sent, code));
    }

    /// A client reads up to `n` bytes and does what they ask for.
    pub(crate) fn read(&mut self, id: ClientId, n: usize) {
        let compresses = self.plan.common().compression.enabled;
        for heard in self.clients[id].read(n, compresses) {
            self.hear(id, heard);
        }
        let client = &mut self.clients[id];
        if client.end_heard {
            // Who is told that nothing will come has nothing to stay for.
            if client.may_send_end() && (!client.mute || client.link.server_end >= ServerEnd::Closed) {
                client.link.client_end = crate::network::ClientEnd::Sent;
            }
            crate::ending::check_told(self, id);
        }
    }

    fn hear(&mut self, id: ClientId, heard: Heard) {
        match heard {
            Heard::Status(status) => self.hear_status(id, status),
            Heard::Message(kind, payload) => self.hear_message(id, kind, &payload),
            Heard::Ping(payload) => {
                let client = &self.clients[id];
                if client.may_send() && client.close_sent.is_none() && client.offence.is_none() && !client.mute {
                    let bytes = frame(&mut self.rng, true, PONG, &payload);
                    self.clients[id].send(&bytes);
                }
            }
            Heard::Pong(payload) => {
                // Older ones need no answer of their own (RFC 6455, section 5.5.3).
                let client = &mut self.clients[id];
                let Some(at) = client.pings.iter().position(|(ping, _)| *ping == payload) else {
                    panic!("client {id} was sent a pong that it has not asked for: {payload:?}")
                };
                let is_bounded = self.plan.common().queue.pong_bytes_max != usize::MAX;
                assert!(at == 0 || is_bounded, "client {id} was answered ping {at} of those that wait");
                let replies = client.pings[at].1;
                assert!(client.replies_heard >= replies, "a pong overtakes the replies that were asked for before it");
                client.pings.drain(..=at);
                client.pings_skipped += at as u64;
            }
            Heard::Close(code) => {
                self.trace.event("is closed", id as u64, code.unwrap_or_default().into());
                let client = &self.clients[id];
                if client.may_send() && client.close_sent.is_none() && client.offence.is_none() && !client.mute {
                    self.send_close(id, code);
                }
            }
        }
    }

    fn hear_status(&mut self, id: ClientId, status: u16) {
        let early = &mut self.early[self.clients[id].shard];
        early.take_if(|early| *early == id);
        let client = &self.clients[id];
        let deadlines = self.plan.common().deadlines;
        let few_topics = self.plan.common().hub.topics_max < self.plan.topics.len();
        let late = self.now.since(client.accepted_at) >= deadlines.handshake;
        let phase = self.phases[client.shard];
        let expected = match (client.purpose, status) {
            (_, 408) => late,
            (_, 503) if phase >= DrainPhase::Delivering => true,
            (Purpose::Http(_, 200), 503) => phase >= DrainPhase::Announced,
            (Purpose::Http(_, expected), status) => status == expected,
            (Purpose::Silent, _) => false,
            (Purpose::Plain { .. }, 503) => few_topics,
            (_, status) => status == 101,
        };
        assert!(expected, "client {id}, {:?}, was answered {status}", client.purpose);
        self.trace.event("is answered", id as u64, status.into());
    }

    fn hear_message(&mut self, id: ClientId, kind: MessageKind, payload: &[u8]) {
        self.trace.event("receives", id as u64, payload.len() as u64);
        let client = &mut self.clients[id];
        if let Purpose::Echo | Purpose::Greeting = client.purpose {
            client.replies_heard += 1;
            let reply = client.replies.pop_front();
            assert_eq!(reply.as_ref().map(|(kind, payload)| (*kind, payload.as_slice())), Some((kind, payload)));
            return;
        }
        let Some(subscription) = &mut client.subscription else { panic!("client {id} has not subscribed") };
        if let Some(lost) = gap(payload) {
            self.trace.count("told gap", 1);
            subscription.receive_gap(&self.oracle, lost);
        } else {
            let message = self.oracle.recognize(kind, payload);
            subscription.receive(&self.oracle, message);
        }
    }
}

fn gap(payload: &[u8]) -> Option<u64> {
    std::str::from_utf8(payload).ok()?.strip_prefix("{\"gap\":")?.strip_suffix('}')?.parse().ok()
}
