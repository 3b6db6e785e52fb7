//! From a published message to deliveries.

use super::topic::Place;
use super::{Hub, Outbox, TopicIndex};
use crate::command::{Address, Destination, Envelope, Origin, Position, SharedMessage, TopicsFull};
use crate::proto::frame::MessageKind;

/// What became of a published message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ordered {
    /// It has its place; local members are to receive it now, other shards will.
    Here(Position),
    /// It is on its way to the owner, and comes back from there.
    Forwarded,
}

impl Hub {
    /// Publishes to a topic that a connection of this shard has opened.
    pub fn publish(
        &mut self,
        topic: TopicIndex,
        kind: MessageKind,
        payload: &[u8],
        origin: Option<Origin>,
        out: &mut Outbox,
    ) -> Ordered {
        let payloads = &mut self.payloads;
        let mut share = || SharedMessage { kind, payload: payloads.share(payload) };
        let state = &mut self.topics[topic.0 as usize];
        match &mut state.place {
            Place::Owned { position, interested, .. } => {
                position.offset += 1;
                if let Some((last, others)) = interested.split_last() {
                    let message = share();
                    let to = |&(shard, topic), message| {
                        (Address::Shard(shard), Envelope::Deliver { topic, message, origin })
                    };
                    out.extend(others.iter().map(|interested| to(interested, message.clone())));
                    out.push_back(to(last, message));
                }
                Ordered::Here(*position)
            }
            Place::Remote { owner, place, .. } => {
                let topic = place.map_or_else(|| Destination::Named(state.name.clone()), Destination::Placed);
                let publish = Envelope::Publish { topic, message: share(), origin };
                out.push_back((Address::Shard(*owner), publish));
                Ordered::Forwarded
            }
        }
    }

    /// Owner: orders a message that came from another thread. The topic is made if it
    /// is not there, so that its offset counts from the first message on; it is opened,
    /// and the caller closes it after the delivery to its members.
    pub fn order(
        &mut self,
        topic: &Destination,
        message: &SharedMessage,
        origin: Option<Origin>,
        out: &mut Outbox,
    ) -> Result<(TopicIndex, Position), TopicsFull> {
        let index = match topic {
            Destination::Named(name) => self.open_topic(name)?,
            Destination::Placed(id) => {
                let found = self.find_id(*id);
                let index = found.unwrap_or_else(|| panic!("{id:?} was forgotten, though another shard relies on it"));
                self.use_topic(index)?;
                index
            }
        };
        let topic = self.topic_mut(index);
        let position = match &mut topic.place {
            Place::Owned { position, interested, .. } => {
                position.offset += 1;
                out.extend(interested.iter().map(|&(shard, topic)| {
                    (Address::Shard(shard), Envelope::Deliver { topic, message: message.clone(), origin })
                }));
                *position
            }
            Place::Remote { owner, .. } => panic!("{:?} is ordered by {owner:?}, not here", topic.name),
        };
        Ok((index, position))
    }
}
