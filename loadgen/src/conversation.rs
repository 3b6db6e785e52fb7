//! What one client hears and says in a turn of its worker: messages are handed to the
//! scenario, and what has to be answered is appended to the connection's output.
//!
//! Owner: `worker`. Knows no socket.

use wsgate::time::Time;

use crate::client::{self, Tools};
use crate::payload::{Payload, Stamp};
use crate::plan::Plan;
use crate::scenario::Scenario;
use crate::template::Values;

/// A client while it is served.
pub struct Conversation<'a> {
    /// The run.
    pub plan: &'a Plan,
    /// The run's messages.
    pub payload: &'a Payload,
    /// Whose member it is.
    pub scenario: &'a mut dyn Scenario,
    /// Its number in the scenario.
    pub member: usize,
    /// Whether it publishes, so that it does not subscribe.
    pub publishes: bool,
    /// What it fills into templates.
    pub values: Values,
    /// It is open and, if it waits for that, subscribed.
    pub is_ready: bool,
    /// permessage-deflate was agreed on.
    pub compresses: bool,
    /// Messages that it is to send for those that arrived.
    pub owed: usize,
}

impl Conversation<'_> {
    /// The handshake is complete: says what clients say first.
    pub fn open(&mut self, out: &mut Vec<u8>, tools: &mut Tools) {
        let Self { plan, values, publishes, compresses, .. } = *self;
        let mut say = |text: &[u8]| client::append_text(out, plan.message_kind, text, compresses, tools);
        self.is_ready = plan.speech.open(&mut say, values, !publishes);
    }

    /// A message has arrived.
    #[inline]
    pub fn hear(&mut self, message: &[u8], out: &mut Vec<u8>, now: Time, tools: &mut Tools) {
        // Nearly all are payloads as they were sent.
        let is_bare = message.len() == self.payload.bytes();
        if is_bare && self.is_ready && self.plan.speech.answers.is_empty() {
            self.take(message, now);
        } else {
            self.hear_words(message, out, now, tools);
        }
    }

    fn hear_words(&mut self, message: &[u8], out: &mut Vec<u8>, now: Time, tools: &mut Tools) {
        let Self { plan, payload, compresses, .. } = *self;
        if !plan.speech.answers.is_empty() {
            plan.speech
                .answer(message, &mut |text| client::append_text(out, plan.message_kind, text, compresses, tools));
        }
        if !self.is_ready {
            self.is_ready = plan.speech.confirms(message);
            return;
        }
        for part in payload.parts(message) {
            self.take(part, now);
        }
    }

    /// Hands a payload to the scenario.
    #[inline]
    fn take(&mut self, part: &[u8], now: Time) {
        self.owed += usize::from(self.scenario.message(self.member, part, now));
    }
}

/// Appends a payload, with the words around it if there are any.
#[inline]
pub fn append(
    out: &mut Vec<u8>,
    plan: &Plan,
    payload: &Payload,
    stamp: Stamp,
    values: Values,
    compresses: bool,
    tools: &mut Tools,
) {
    match &plan.speech.message {
        None if !compresses => client::append_message(out, plan.message_kind, payload, stamp, &mut tools.random),
        _ => {
            let text = plan.speech.wrap(payload, stamp, values);
            client::append_text(out, plan.message_kind, &text, compresses, tools);
        }
    }
}
