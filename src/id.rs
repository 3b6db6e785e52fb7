//! Names of things that outlive a function call: shards, connections and topics.
//!
//! Plain values, used on every layer. Nothing here does I/O.

#![forbid(unsafe_code)]

use std::fmt;

/// Number of a shard, from 0. A shard is one thread with one event loop.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u16);

impl ShardId {
    /// The shard's position in arrays that hold one entry per shard.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Debug for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shard {}", self.0)
    }
}

/// A connection of one shard: its slot in the table, and which tenant of that
/// slot is meant.
///
/// Slots are used again, so an event or a command that arrives late could hit
/// the slot's next tenant. The generation tells them apart; it is compared on
/// every look-up.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnectionId {
    /// Index in the shard's connection table.
    pub slot: u32,
    /// How often the slot had been given out before, modulo 2³².
    pub generation: u32,
}

impl ConnectionId {
    /// Packs the id into a word, as an event loop's token.
    pub fn to_token(self) -> usize {
        (self.generation as usize) << 32 | self.slot as usize
    }

    /// The reverse of [`ConnectionId::to_token`].
    pub fn from_token(token: usize) -> Self {
        Self { slot: token as u32, generation: (token >> 32) as u32 }
    }
}

impl fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection {}.{}", self.slot, self.generation)
    }
}

/// A topic in the table of one shard, as the other shards name it once they have been told:
/// it is found without its name. Slots are used again, as those of connections are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TopicId {
    /// Index in the shard's topic table.
    pub slot: u32,
    /// Which topic in that slot is meant, modulo 2³².
    pub generation: u32,
}

const _: () = assert!(usize::BITS == 64, "tokens hold a slot and a generation of 32 bits each");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_keeps_slot_and_generation() {
        let id = ConnectionId { slot: u32::MAX - 1, generation: 7 };
        assert_eq!(ConnectionId::from_token(id.to_token()), id);
    }
}
