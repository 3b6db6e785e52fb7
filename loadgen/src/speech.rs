//! What clients say beside the payloads: when they open, to subscribe, around each
//! payload, and in answer to the server's own words.

use memchr::memmem;
use wsgate::proto::frame::{self, MessageKind};

use crate::payload::{Payload, Stamp};
use crate::random::Random;
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
    /// Appends what a client says when it has opened; whether it is ready then.
    pub fn open(
        &self,
        out: &mut Vec<u8>,
        values: Values,
        subscribes: bool,
        kind: MessageKind,
        random: &mut Random,
    ) -> bool {
        let subscribe = if subscribes { &self.subscribe[..] } else { &[] };
        let mut text = Vec::new();
        for template in self.first.iter().chain(subscribe) {
            text.clear();
            template.append(&mut text, values, &self.table, |_| {});
            frame::append_client(out, kind.opcode(), random.mask_key(), &text);
        }
        !subscribes || self.subscribed.is_none()
    }

    /// Whether a message is the one that makes a subscriber ready.
    pub fn confirms(&self, message: &[u8]) -> bool {
        self.subscribed.as_ref().is_none_or(|text| memmem::find(message, text.as_bytes()).is_some())
    }

    /// Appends what the message is to be answered with, if anything.
    pub fn answer(&self, out: &mut Vec<u8>, message: &[u8], kind: MessageKind, random: &mut Random) {
        for (text, answer) in &self.answers {
            if memmem::find(message, text.as_bytes()).is_some() {
                frame::append_client(out, kind.opcode(), random.mask_key(), answer.as_bytes());
            }
        }
    }

    /// The text around a payload, and the payload in it.
    pub fn wrap(&self, template: &Template, payload: &Payload, stamp: Stamp, values: Values) -> Vec<u8> {
        let mut text = Vec::with_capacity(2 * payload.bytes());
        template.append(&mut text, values, &self.table, |out| payload.append(out, stamp));
        text
    }
}
