//! What all parts of a simulation share: time, chance, the clients, the oracle, and the
//! record of what happened.

use std::collections::{BTreeMap, VecDeque};

use fastrand::Rng;
use wsgate::shard::DrainPhase;
use wsgate::time::Time;

use crate::client::{Client, ClientId};
use crate::oracle::{MessageId, Oracle};
use crate::plan::Plan;

/// Events that a failure shows.
const SHOWN: usize = 30;

/// See the module.
pub(crate) struct Scene {
    pub(crate) plan: Plan,
    pub(crate) rng: Rng,
    pub(crate) now: Time,
    pub(crate) clients: Vec<Client>,
    pub(crate) oracle: Oracle,
    pub(crate) trace: Trace,
    /// By shard: the client that sends frames before it knows that it may. One at a time,
    /// so that it is known whose they are when the shard reads them later.
    pub(crate) early: Vec<Option<ClientId>>,
    /// By shard: how far it has gone down.
    pub(crate) phases: Vec<DrainPhase>,
}

impl Scene {
    /// Whether something happens that happens once in `n` times.
    pub(crate) fn one_in(&mut self, n: u32) -> bool {
        self.rng.u32(0..n) == 0
    }

    /// A shard has put `count` messages of a client in order, its oldest.
    pub(crate) fn ordered_locally(&mut self, client: Option<ClientId>, count: u64, shard: usize) {
        for _ in 0..count {
            let Some(client) = client else { panic!("shard {shard} has ordered a message of nobody") };
            let id = self.next_published(client);
            self.oracle.order(id, shard);
        }
    }

    /// A shard passes a message on to its owner.
    pub(crate) fn forwarded(&mut self, id: MessageId) {
        let Some(author) = self.oracle.messages[id].author else { panic!("message {id} came over HTTP") };
        let next = self.next_published(author);
        assert_eq!(next, id, "a publisher's messages keep their order");
        self.oracle.forward(id);
    }

    fn next_published(&mut self, author: ClientId) -> MessageId {
        let client = &mut self.clients[author];
        let Some((end, id)) = client.unordered.pop_front() else { panic!("client {author} has sent no such message") };
        assert!(end <= client.delivered, "message {id} is ordered before its last byte has arrived");
        id
    }
}

/// What happened: all of it as a hash and in numbers, the end of it in words.
pub(crate) struct Trace {
    hash: u64,
    events: u64,
    counts: BTreeMap<&'static str, u64>,
    last: VecDeque<(u64, &'static str, u64, u64)>,
    now: Time,
    prints: bool,
}

impl Trace {
    pub(crate) fn new(prints: bool) -> Self {
        let last = VecDeque::with_capacity(SHOWN);
        Self { hash: 0xcbf2_9ce4_8422_2325, events: 0, counts: BTreeMap::new(), last, now: Time::ZERO, prints }
    }

    /// Something happened, with two numbers that say what.
    pub(crate) fn event(&mut self, what: &'static str, a: u64, b: u64) {
        self.events += 1;
        self.hash_bytes(what.as_bytes());
        self.hash_word(a);
        self.hash_word(b);
        *self.counts.entry(what).or_default() += 1;
        if self.last.len() == SHOWN {
            self.last.pop_front();
        }
        self.last.push_back((self.now.as_millis(), what, a, b));
        if self.prints {
            println!("{:>9} ms  {what} {a} {b}", self.now.as_millis());
        }
    }

    /// Counts something that is no event of its own.
    pub(crate) fn count(&mut self, what: &'static str, n: u64) {
        if n > 0 {
            *self.counts.entry(what).or_default() += n;
        }
    }

    pub(crate) fn passes(&mut self, now: Time) {
        self.now = now;
        self.hash_word(now.0);
    }

    /// Bytes that crossed between a shard and a client.
    pub(crate) fn hash_bytes(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.hash_word(u64::from_le_bytes(*word)));
        rest.iter().for_each(|byte| self.hash_word(u64::from(*byte)));
    }

    // FNV-1a by words: the same on all machines and in all versions.
    fn hash_word(&mut self, word: u64) {
        self.hash = (self.hash ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn events(&self) -> u64 {
        self.events
    }

    pub(crate) fn counts(&self) -> &BTreeMap<&'static str, u64> {
        &self.counts
    }

    /// The last events, in words.
    pub(crate) fn tail(&self) -> String {
        self.last.iter().map(|(ms, what, a, b)| format!("{ms:>9} ms  {what} {a} {b}\n")).collect()
    }
}
