//! What one subscriber may receive: its topic's messages in order, each once, without
//! holes but those that its policy has told it of.

use wsgate::policy::SlowConsumerPolicy;

use crate::client::ClientId;
use crate::oracle::{MessageId, Oracle};

/// See the module.
pub(crate) struct Subscription {
    topic: usize,
    /// Itself, if it does not want its own messages.
    left_out: Option<ClientId>,
    /// It connected with `?gaps=on`.
    gaps: bool,
    /// What its shard had before its request is not for it.
    lower: usize,
    /// What was ordered after its upgrade was answered is.
    upper: Option<usize>,
    /// Behind the last message that it has received.
    cursor: Option<usize>,
    /// Messages that it was told it lost, since the last one that it received.
    told: u64,
    pub(crate) received: u64,
    /// Messages lost that it was told of.
    pub(crate) told_in_all: u64,
    /// Messages of a `latest_only` topic that others took the place of, at least and at most.
    pub(crate) conflated: (u64, u64),
}

impl Subscription {
    pub(crate) fn new(topic: usize, left_out: Option<ClientId>, gaps: bool) -> Self {
        Self {
            topic,
            left_out,
            gaps,
            lower: 0,
            upper: None,
            cursor: None,
            told: 0,
            received: 0,
            told_in_all: 0,
            conflated: (0, 0),
        }
    }

    /// Its shard reads the request.
    pub(crate) fn requested(&mut self, oracle: &Oracle, shard: usize) {
        self.lower = oracle.topics[self.topic].appended[shard];
    }

    /// The upgrade is being answered: from here on, nothing may be missing.
    pub(crate) fn confirmed(&mut self, oracle: &Oracle) {
        self.upper.get_or_insert(oracle.topics[self.topic].order.len());
    }

    /// What is done when it is behind.
    pub(crate) fn policy(&self, oracle: &Oracle) -> SlowConsumerPolicy {
        oracle.topics[self.topic].policy
    }

    /// Whether its policy is to close it when it is behind.
    pub(crate) fn may_be_closed(&self, oracle: &Oracle) -> bool {
        match self.policy(oracle) {
            SlowConsumerPolicy::Disconnect => true,
            SlowConsumerPolicy::DropOldest => !self.gaps,
            SlowConsumerPolicy::LatestOnly => false,
        }
    }

    /// A message arrives.
    pub(crate) fn receive(&mut self, oracle: &Oracle, id: MessageId) {
        let topic = &oracle.topics[self.topic];
        let message = &oracle.messages[id];
        assert_eq!(message.topic, self.topic, "message {id} is of another topic than {:?}", topic.name);
        assert!(self.left_out.is_none() || message.author != self.left_out, "message {id} came back to its author");
        let place = oracle.place(id);
        let start = self.cursor.unwrap_or(self.lower);
        assert!(place >= start, "{:?}: message {id} at {place} comes after {start}", topic.name);
        let (least, most) = self.missing(oracle, place);
        match topic.policy {
            SlowConsumerPolicy::LatestOnly => {
                self.conflated.0 += least;
                self.conflated.1 += most;
            }
            _ => assert!(
                (least..=most).contains(&self.told),
                "{:?} at {place}: {least} to {most} messages are missing, {} were told; subscriber at {:?}",
                topic.name,
                self.told,
                self.cursor
            ),
        }
        self.told = 0;
        self.received += 1;
        self.cursor = Some(place + 1);
    }

    /// The marker of lost messages arrives.
    pub(crate) fn receive_gap(&mut self, oracle: &Oracle, lost: u64) {
        let topic = &oracle.topics[self.topic];
        assert!(self.gaps && topic.policy == SlowConsumerPolicy::DropOldest, "a gap in {:?}", topic.name);
        assert!(lost > 0, "a gap of nothing");
        self.told += lost;
        self.told_in_all += lost;
    }

    /// All is quiet: it must be where its topic is.
    pub(crate) fn check_caught_up(&self, oracle: &Oracle) {
        self.check_has(oracle, oracle.topics[self.topic].order.len());
    }

    /// It was closed because its shard drained, and has read everything.
    pub(crate) fn check_drained(&self, oracle: &Oracle) {
        let Some(owed) = oracle.topics[self.topic].owed else { panic!("told to go while its owner accepts") };
        self.check_has(oracle, owed);
    }

    fn check_has(&self, oracle: &Oracle, end: usize) {
        let (least, _) = self.missing(oracle, end);
        let name = &oracle.topics[self.topic].name;
        assert_eq!(least, 0, "messages before {end} in {name:?} have not come; subscriber at {:?}", self.cursor);
        assert_eq!(self.told, 0, "the last message is never dropped");
    }

    /// Messages that may have been on their way to it, at most.
    pub(crate) fn outstanding(&self, oracle: &Oracle) -> u64 {
        self.missing(oracle, oracle.topics[self.topic].order.len()).1
    }

    /// How many messages before a place it should have had and has not: at least and at
    /// most, since until its first one it is not known where it began.
    fn missing(&self, oracle: &Oracle, place: usize) -> (u64, u64) {
        let count = |from: usize| oracle.count(self.topic, from, place, self.left_out);
        match self.cursor {
            Some(cursor) => (count(cursor), count(cursor)),
            None => (self.upper.map_or(0, &count), count(self.lower)),
        }
    }
}
