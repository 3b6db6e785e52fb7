//! What other threads tell a shard.

use super::Shard;
use crate::command::{Address, Destination, Envelope, Origin, Position, SharedMessage, TopicsFull};
use crate::proto::handshake::HandshakeError;
use crate::stats::CloseReason;
use crate::time::Time;

impl Shard {
    /// Carries out an envelope.
    pub fn open_envelope(&mut self, envelope: Envelope, now: Time) {
        match envelope {
            Envelope::Interest { topic, from, place, sequence } => {
                self.hub.interest(&topic, from, place, sequence, &mut self.outbox);
                self.count_topics();
            }
            Envelope::InterestAcknowledged { topic, place, sequence } => {
                self.hub.acknowledge(&topic, place, sequence);
                while let Some(id) = self.hub.next_confirmed() {
                    self.confirm(id, now);
                }
            }
            Envelope::InterestRefused { topic, sequence } => {
                let mut refused = Vec::new();
                self.hub.refuse(&topic, sequence, &mut refused);
                for id in refused {
                    self.stats.topics_refused.add(1);
                    self.refuse(id, &HandshakeError::TopicsFull, CloseReason::NotUpgraded, now);
                }
            }
            Envelope::Disinterest { topic, from } => {
                self.hub.disinterest(&topic, from, &mut self.outbox);
                self.count_topics();
            }
            Envelope::Publish { topic, message, origin } => {
                // Refused only when the table is full and the topic is not in it: then it
                // has no subscriber anywhere.
                let _ = self.order(&topic, &message, origin, now);
            }
            Envelope::Deliver { topic, message, origin } => {
                // The topic may have lost its last subscriber here while this was under way.
                if let Some(index) = self.hub.find_id(topic) {
                    self.deliver(index, message.kind, &message.payload, origin, now);
                }
            }
            Envelope::PublishRequest { token, topic, message } => {
                let result = self.order(&Destination::Named(topic), &message, None, now);
                self.outbox.push_back((Address::Control, Envelope::Published { token, result }));
            }
            Envelope::Probe { token } => {
                self.outbox.push_back((Address::Control, Envelope::ProbeAnswer { token }));
            }
            Envelope::Reload(options) => self.reload(&options),
            Envelope::Drain(step) => self.drain(step),
            Envelope::Barrier(round) => self.pass_barrier(round, now),
            Envelope::Published { .. } | Envelope::ProbeAnswer { .. } => {
                debug_assert!(false, "answers go to the control plane only");
            }
        }
    }

    /// Owner: puts a message of another thread in order and delivers it here.
    fn order(
        &mut self,
        topic: &Destination,
        message: &SharedMessage,
        origin: Option<Origin>,
        now: Time,
    ) -> Result<Position, TopicsFull> {
        let ordered = self.hub.order(topic, message, origin, &mut self.outbox);
        let (index, position) = ordered.inspect_err(|_| self.stats.topics_refused.add(1))?;
        self.stats.published.add(1);
        self.deliver(index, message.kind, &message.payload, origin, now);
        self.hub.close_topic(index, &mut self.outbox);
        self.count_topics();
        Ok(position)
    }
}
