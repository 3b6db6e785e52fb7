//! The connection table: a slab whose look-ups check the generation.

use slab::Slab;

use crate::id::ConnectionId;

/// Entries for which room is reserved at most; a table that may have more grows then.
const RESERVED_MAX: usize = 1 << 20;

/// Entries by [`ConnectionId`]. Made with its full capacity, since growing copies
/// everything and stalls; memory that is not used yet costs nothing.
pub(super) struct Table<T> {
    entries: Slab<(u32, T)>,
    /// Generation of the next tenant of each slot that was ever used.
    generations: Vec<u32>,
    capacity: usize,
}

impl<T> Table<T> {
    pub(super) fn with_capacity(capacity: usize) -> Self {
        let reserved = capacity.min(RESERVED_MAX);
        Self { entries: Slab::with_capacity(reserved), generations: Vec::with_capacity(reserved), capacity }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of the slots that were ever used; they stay for later tenants.
    pub(super) fn memory_bytes(&self) -> usize {
        self.generations.len() * (size_of::<(u32, T)>() + size_of::<u32>())
    }

    /// `None`: the table is full.
    pub(super) fn insert(&mut self, value: T) -> Option<ConnectionId> {
        if self.entries.len() == self.capacity {
            return None;
        }
        let entry = self.entries.vacant_entry();
        let slot = entry.key();
        if slot == self.generations.len() {
            self.generations.push(0);
        }
        let generation = self.generations[slot];
        entry.insert((generation, value));
        Some(ConnectionId { slot: slot as u32, generation })
    }

    /// `None`: the connection is gone, whoever has its slot now.
    pub(super) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut T> {
        match self.entries.get_mut(id.slot as usize) {
            Some((generation, value)) if *generation == id.generation => Some(value),
            _ => None,
        }
    }

    pub(super) fn get(&self, id: ConnectionId) -> Option<&T> {
        match self.entries.get(id.slot as usize) {
            Some((generation, value)) if *generation == id.generation => Some(value),
            _ => None,
        }
    }

    pub(super) fn remove(&mut self, id: ConnectionId) -> Option<T> {
        self.get(id)?;
        self.generations[id.slot as usize] = id.generation.wrapping_add(1);
        Some(self.entries.remove(id.slot as usize).1)
    }

    /// The present tenant of a slot.
    pub(super) fn id_at(&self, slot: u32) -> Option<ConnectionId> {
        self.entries.get(slot as usize).map(|(generation, _)| ConnectionId { slot, generation: *generation })
    }

    /// The ids of all entries.
    pub(super) fn ids(&self) -> impl Iterator<Item = ConnectionId> {
        self.entries.iter().map(|(slot, (generation, _))| ConnectionId { slot: slot as u32, generation: *generation })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_id_does_not_reach_the_slots_next_tenant() {
        let mut table = Table::with_capacity(1);
        let first = table.insert('a').unwrap();
        assert_eq!(table.insert('b'), None, "full");
        assert_eq!(table.remove(first), Some('a'));
        let second = table.insert('b').unwrap();
        assert_eq!(first.slot, second.slot);
        assert_eq!(table.get(first), None);
        assert_eq!(table.get_mut(first), None);
        assert_eq!(table.remove(first), None);
        assert_eq!(table.get(second), Some(&'b'));
    }
}
