//! From a published message to deliveries.

use super::topic::Place;
use super::{Hub, Outbox, TopicIndex};
use crate::command::{Address, Envelope, Origin, Position, SharedMessage, TopicsFull};
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
                    let deliver = |message| Envelope::Deliver { topic: state.name.clone(), message, origin };
                    out.extend(others.iter().map(|shard| (Address::Shard(*shard), deliver(message.clone()))));
                    out.push_back((Address::Shard(*last), deliver(message)));
                }
                Ordered::Here(*position)
            }
            Place::Remote { owner, .. } => {
                let publish = Envelope::Publish { topic: state.name.clone(), message: share(), origin };
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
        name: &str,
        message: &SharedMessage,
        origin: Option<Origin>,
        out: &mut Outbox,
    ) -> Result<(TopicIndex, Position), TopicsFull> {
        let index = self.open_topic(name)?;
        let topic = self.topic_mut(index);
        let position = match &mut topic.place {
            Place::Owned { position, interested, .. } => {
                position.offset += 1;
                out.extend(interested.iter().map(|shard| {
                    let deliver = Envelope::Deliver { topic: topic.name.clone(), message: message.clone(), origin };
                    (Address::Shard(*shard), deliver)
                }));
                *position
            }
            Place::Remote { owner, .. } => panic!("{name:?} is ordered by {owner:?}, not here"),
        };
        Ok((index, position))
    }

    /// The topic of an arriving delivery, if it still has subscribers here.
    pub fn delivered_topic(&self, name: &str) -> Option<TopicIndex> {
        self.find(name)
    }
}
