//! What must be true, by a model of plain lists: the messages of each topic in the order
//! that its owner gave them, and where each shard and each subscriber stands in it.
//!
//! The model learns an order when the owner makes it: from the counter of published
//! messages around each call, and from the envelopes that carry messages between shards.

use std::collections::BTreeSet;

use wsgate::command::Position;
use wsgate::hub::owner_of;
use wsgate::policy::SlowConsumerPolicy;
use wsgate::proto::frame::MessageKind;

use crate::client::ClientId;
use crate::plan::Plan;

/// A message by its number; its payload begins with it.
pub(crate) type MessageId = usize;

/// What a publisher has sent.
pub(crate) struct Message {
    pub(crate) topic: usize,
    pub(crate) author: Option<ClientId>,
    pub(crate) kind: MessageKind,
    pub(crate) payload: Vec<u8>,
    /// Its place in the topic's order, once it has one.
    place: Option<usize>,
    /// Its owner had no room for the topic.
    refused: bool,
}

/// One topic as all agree on it.
pub(crate) struct Topic {
    pub(crate) name: String,
    pub(crate) policy: SlowConsumerPolicy,
    pub(crate) owner: usize,
    pub(crate) order: Vec<MessageId>,
    /// By shard: the end of what it has had for its subscribers.
    pub(crate) appended: Vec<usize>,
    /// Once its owner goes down: the end of what everybody gets before being told to go.
    pub(crate) owed: Option<usize>,
    /// The last known epoch, and the place of the message before its first.
    epoch: Option<(u64, u64)>,
}

/// See the module.
pub(crate) struct Oracle {
    pub(crate) messages: Vec<Message>,
    pub(crate) topics: Vec<Topic>,
    /// Bytes of all messages that have a place.
    pub(crate) published_bytes: usize,
    /// On their way to their owner.
    forwarded: BTreeSet<MessageId>,
    /// Accepted before going down had emptied the listeners, and not ordered then.
    bound: BTreeSet<MessageId>,
}

impl Oracle {
    pub(crate) fn new(plan: &Plan) -> Self {
        let topics = plan.topics.iter().map(|(name, policy)| Topic {
            name: name.clone(),
            policy: *policy,
            owner: owner_of(name, plan.shards, plan.common().hub.hash_seed).index(),
            order: Vec::new(),
            appended: vec![0; plan.shards],
            owed: None,
            epoch: None,
        });
        Self {
            messages: Vec::new(),
            topics: topics.collect(),
            published_bytes: 0,
            forwarded: BTreeSet::new(),
            bound: BTreeSet::new(),
        }
    }

    /// Makes a message of `len` bytes or a few more; text has characters of every length.
    pub(crate) fn write(&mut self, topic: usize, author: Option<ClientId>, kind: MessageKind, len: usize) -> MessageId {
        let id = self.messages.len();
        let mut payload = format!("{id}:").into_bytes();
        let pattern: &[u8] = match kind {
            MessageKind::Text => "abcdefghé漢𝄞".as_bytes(),
            MessageKind::Binary => &[0, 255, 128, 7, 0x81],
        };
        while payload.len() < len {
            payload.extend_from_slice(pattern);
        }
        self.messages.push(Message { topic, author, kind, payload, place: None, refused: false });
        id
    }

    /// The message of that payload, which must be one, whole.
    pub(crate) fn recognize(&self, kind: MessageKind, payload: &[u8]) -> MessageId {
        let digits = payload.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let id = std::str::from_utf8(&payload[..digits]).ok().and_then(|digits| digits.parse::<usize>().ok());
        let message = id.and_then(|id| Some((id, self.messages.get(id)?)));
        match message {
            Some((id, message)) if message.kind == kind && message.payload == payload => id,
            _ => panic!("nobody has sent this: {kind:?} {:?}", String::from_utf8_lossy(payload)),
        }
    }

    /// A shard has passed a client's message on to its owner.
    pub(crate) fn forward(&mut self, id: MessageId) {
        assert!(self.forwarded.insert(id), "message {id} was forwarded twice");
    }

    /// The owner has put a message in order.
    pub(crate) fn order(&mut self, id: MessageId, shard: usize) {
        self.forwarded.remove(&id);
        self.bound.remove(&id);
        let message = &mut self.messages[id];
        let topic = &mut self.topics[message.topic];
        assert_eq!(shard, topic.owner, "only the owner of {:?} orders its messages", topic.name);
        assert_eq!(message.place, None, "message {id} was ordered twice");
        message.place = Some(topic.order.len());
        topic.order.push(id);
        // With the longest header there is.
        self.published_bytes += message.payload.len() + 10;
        topic.appended[shard] = topic.order.len();
    }

    /// The owner had no room for the topic of a message.
    pub(crate) fn refuse(&mut self, id: MessageId) {
        self.bound.remove(&id);
        self.messages[id].refused = true;
        let was_forwarded = self.forwarded.remove(&id);
        assert!(was_forwarded || self.messages[id].author.is_none(), "message {id} was not on its way");
    }

    /// These were accepted before the gateway stops to accept, so they are ordered before
    /// anybody is told to go.
    pub(crate) fn bind(&mut self, ids: impl Iterator<Item = MessageId>) {
        let messages = &self.messages;
        self.bound.extend(ids.filter(|id| messages[*id].place.is_none() && !messages[*id].refused));
    }

    /// Messages on their way to their owners.
    pub(crate) fn under_way(&self) -> Vec<(MessageId, ClientId)> {
        let author = |id: &MessageId| Some((*id, self.messages[*id].author?));
        self.forwarded.iter().filter_map(author).collect()
    }

    /// A shard has closed its listener and says so to all behind its deliveries: whoever is
    /// told to go gets all that it has ordered.
    pub(crate) fn owe(&mut self, shard: usize) {
        for (index, topic) in self.topics.iter_mut().enumerate().filter(|(_, topic)| topic.owner == shard) {
            let late = self.bound.iter().find(|id| self.messages[**id].topic == index);
            assert_eq!(late, None, "a message that was accepted comes after the end of {:?}", topic.name);
            assert_eq!(topic.owed, None, "shard {shard} has closed its listener twice");
            topic.owed = Some(topic.order.len());
        }
    }

    /// A shard takes what the owner has sent it for its subscribers.
    pub(crate) fn append(&mut self, id: MessageId, shard: usize) {
        let message = &self.messages[id];
        let topic = &mut self.topics[message.topic];
        let Some(place) = message.place else { panic!("message {id} is delivered before it has a place") };
        let end = &mut topic.appended[shard];
        assert!(place >= *end, "message {id} at {place} comes to shard {shard} after {end} of {:?}", topic.name);
        *end = place + 1;
    }

    /// The position that a publisher was answered: counted without holes within an epoch.
    pub(crate) fn answered(&mut self, id: MessageId, position: Position) {
        let message = &self.messages[id];
        let Some(place) = message.place else { panic!("message {id} is answered before it has a place") };
        let topic = &mut self.topics[message.topic];
        let number = place as u64 + 1;
        assert!((1..=number).contains(&position.offset), "offset {} of message number {number}", position.offset);
        let base = number - position.offset;
        match topic.epoch {
            Some((epoch, known)) if epoch == position.epoch => assert_eq!(known, base, "offsets have no holes"),
            Some((_, known)) => assert!(base > known, "a new epoch begins behind the last"),
            None => {}
        }
        topic.epoch = Some((position.epoch, base));
    }

    /// How many messages between two places one subscriber is to get.
    pub(crate) fn count(&self, topic: usize, from: usize, to: usize, left_out: Option<ClientId>) -> u64 {
        let Some(between) = self.topics[topic].order.get(from..to) else { return 0 };
        let due = |id: &&MessageId| left_out.is_none() || self.messages[**id].author != left_out;
        between.iter().filter(due).count() as u64
    }

    /// The place of a message that somebody has received.
    pub(crate) fn place(&self, id: MessageId) -> usize {
        self.messages[id].place.unwrap_or_else(|| panic!("message {id} was received before it had a place"))
    }

    /// Nothing is under way.
    pub(crate) fn check_rest(&self) {
        assert!(self.forwarded.is_empty(), "forwarded and never ordered: {:?}", self.forwarded);
    }
}
