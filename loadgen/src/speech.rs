//! What clients say beside the payloads: when they open, to subscribe, around each
//! payload, and in answer to the server's own words.

use memchr::memmem;

use crate::payload::{Payload, Stamp};
use crate::template::{Table, Template, Values};

/// The words of a run. All templates are valid; nothing is said by default.
#[derive(Clone, Default, Debug)]
pub struct Speech {
    /// What every client sends first.
    pub first: Vec<Template>,
    /// What subscribers send after that.
    pub subscribe: Vec<Template>,
    /// What a message must contain for a subscriber to count as ready.
    pub subscribed: Option<String>,
    /// What is around each payload.
    pub message: Option<Template>,
    /// What is sent when a message contains a text: text and answer.
    pub answers: Vec<(String, String)>,
    /// Values of clients.
    pub table: Table,
}

impl Speech {
    /// Says what a client says when it has opened; whether it is ready then.
    pub fn open(&self, say: &mut dyn FnMut(&[u8]), values: Values, subscribes: bool) -> bool {
        let subscribe = if subscribes { &self.subscribe[..] } else { &[] };
        let mut text = Vec::new();
        for template in self.first.iter().chain(subscribe) {
            text.clear();
            template.append(&mut text, values, &self.table, |_| {});
            say(&text);
        }
        !subscribes || self.subscribed.is_none()
    }

    /// Whether a message is the one that makes a subscriber ready.
    pub fn confirms(&self, message: &[u8]) -> bool {
        self.subscribed.as_ref().is_none_or(|text| memmem::find(message, text.as_bytes()).is_some())
    }

    /// Says what the message is to be answered with, if anything.
    pub fn answer(&self, message: &[u8], say: &mut dyn FnMut(&[u8])) {
        for (text, answer) in &self.answers {
            if memmem::find(message, text.as_bytes()).is_some() {
                say(answer.as_bytes());
            }
        }
    }

    /// The payload, and the text around it if there is any.
    pub fn wrap(&self, payload: &Payload, stamp: Stamp, values: Values) -> Vec<u8> {
        let mut text = Vec::with_capacity(2 * payload.bytes());
        match &self.message {
            None => payload.append(&mut text, stamp),
            Some(template) => template.append(&mut text, values, &self.table, |out| payload.append(out, stamp)),
        }
        text
    }
}
