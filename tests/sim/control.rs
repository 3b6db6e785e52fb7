//! The control plane: publishes as the HTTP API does, and waits for the answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use wsgate::command::{Address, DrainStep, Envelope, RequestToken, SharedMessage};
use wsgate::driver::mailbox::Post;
use wsgate::id::ShardId;
use wsgate::proto::frame::MessageKind;

use crate::oracle::MessageId;
use crate::scene::Scene;

/// See the module.
pub(crate) struct Control {
    post: Post,
    bell: Arc<AtomicBool>,
    asleep: bool,
    tokens: RequestToken,
    waiting: BTreeMap<RequestToken, MessageId>,
    announced: bool,
}

impl Control {
    pub(crate) fn new(post: Post, bell: Arc<AtomicBool>) -> Self {
        Self { post, bell, asleep: false, tokens: 0, waiting: BTreeMap::new(), announced: true }
    }

    /// Publishes, unless the mailboxes are over their bound.
    pub(crate) fn publish(&mut self, topic: usize, kind: MessageKind, len: usize, scene: &mut Scene) {
        if self.post.waiting_bytes_total() > scene.plan.overflow_bytes_max {
            scene.trace.count("HTTP publishes refused", 1);
            return;
        }
        let id = scene.oracle.write(topic, None, kind, len);
        scene.trace.event("publishes over HTTP", id as u64, topic as u64);
        let payload = scene.oracle.messages[id].payload.clone().into();
        let topic = &scene.oracle.topics[topic];
        self.tokens += 1;
        self.waiting.insert(self.tokens, id);
        let message = SharedMessage { kind, payload };
        let request = Envelope::PublishRequest { token: self.tokens, topic: topic.name.as_str().into(), message };
        self.post.send(Address::Shard(ShardId(topic.owner as u16)), request);
        self.announced = false;
    }

    /// Tells all shards the next step of going down.
    pub(crate) fn drain(&mut self, step: DrainStep, scene: &mut Scene) {
        for shard in 0..scene.plan.shards {
            self.post.send(Address::Shard(ShardId(shard as u16)), Envelope::Drain(step));
        }
        if let DrainStep::Close { .. } = step {
            scene.oracle.bind(self.waiting.values().copied());
        }
        self.announced = false;
    }

    pub(crate) fn is_awake(&mut self) -> bool {
        if self.bell.swap(false, Ordering::Relaxed) {
            self.asleep = false;
        }
        !self.asleep || !self.announced
    }

    pub(crate) fn turn(&mut self, scene: &mut Scene) {
        self.post.awake();
        self.asleep = false;
        while let Some(envelope) = self.post.receive() {
            let Envelope::Published { token, result } = envelope else { panic!("not for us: {envelope:?}") };
            let Some(id) = self.waiting.remove(&token) else { panic!("request {token} is answered twice") };
            match result {
                Ok(position) => scene.oracle.answered(id, position),
                Err(full) => {
                    let topics = scene.plan.topics.len();
                    assert!(full.limit < topics, "no room for {topics} topics where {} may be", full.limit);
                }
            }
        }
        self.post.announce();
        self.announced = true;
        self.asleep = self.post.prepare_sleep();
    }

    pub(crate) fn check_rest(&self) {
        assert!(self.waiting.is_empty(), "requests without an answer: {:?}", self.waiting);
        assert_eq!(self.post.overflow_bytes(), 0, "no mail waits");
    }
}
