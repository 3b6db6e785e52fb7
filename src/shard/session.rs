//! What a connection is here for, once its handshake is done.

use crate::dialect::Dialect;
use crate::hub::{SubscriptionId, TopicIndex};

use super::Shard;

/// A connection's dialect and its part in the hub.
#[derive(Default, Debug)]
pub(super) struct Session {
    /// `None` until the request was understood.
    pub(super) dialect: Option<Dialect>,
    /// The topic that it keeps open.
    pub(super) topic: Option<TopicIndex>,
    /// Its subscription to that topic.
    pub(super) subscription: Option<SubscriptionId>,
}

impl Session {
    /// What is to be given back to the hub; nothing the second time. The dialect stays:
    /// frames of a connection that is closing are still read.
    pub(super) fn take_from_hub(&mut self) -> (Option<TopicIndex>, Option<SubscriptionId>) {
        (self.topic.take(), self.subscription.take())
    }
}

impl Shard {
    /// Ends what a session held in the hub.
    pub(super) fn leave_topic(&mut self, topic: Option<TopicIndex>, subscription: Option<SubscriptionId>) {
        if let Some(subscription) = subscription {
            self.hub.unsubscribe(subscription);
        }
        if let Some(topic) = topic {
            self.hub.close_topic(topic, &mut self.outbox);
            self.count_topics();
        }
    }

    pub(super) fn count_topics(&self) {
        self.stats.topics.set(self.hub.topics_len() as u64);
        self.stats.topics_forgotten.set(self.hub.topics_forgotten());
        self.stats.subscriptions.set(self.hub.subscriptions_len() as u64);
        self.stats.topic_memory_bytes.set(self.hub.memory_bytes() as u64);
    }
}
