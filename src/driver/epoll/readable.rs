//! Which connections are to be read, and in which order.
//!
//! Owner: the loop. Those that are established and those that are not have turns in
//! alternation: whoever has been let in does not wait behind thousands that have just
//! connected, of whom each may take as long as a TLS handshake does.

use std::collections::VecDeque;

use crate::id::ConnectionId;

/// See the module.
#[derive(Default)]
pub(super) struct ReadableList {
    established: VecDeque<ConnectionId>,
    newcomers: VecDeque<ConnectionId>,
    newcomer_next: bool,
}

impl ReadableList {
    pub(super) fn push(&mut self, id: ConnectionId, is_newcomer: bool) {
        let list = if is_newcomer { &mut self.newcomers } else { &mut self.established };
        list.push_back(id);
    }

    pub(super) fn pop(&mut self) -> Option<ConnectionId> {
        self.newcomer_next = !self.newcomer_next;
        let (first, second) = match self.newcomer_next {
            true => (&mut self.established, &mut self.newcomers),
            false => (&mut self.newcomers, &mut self.established),
        };
        first.pop_front().or_else(|| second.pop_front())
    }

    pub(super) fn len(&self) -> usize {
        self.established.len() + self.newcomers.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(slot: u32) -> ConnectionId {
        ConnectionId { slot, generation: 0 }
    }

    #[test]
    fn established_ones_and_newcomers_alternate_each_in_their_order() {
        let mut list = ReadableList::default();
        (0..4).for_each(|slot| list.push(id(slot), true));
        (4..6).for_each(|slot| list.push(id(slot), false));
        assert_eq!(list.len(), 6);
        let order: Vec<_> = std::iter::from_fn(|| list.pop()).map(|id| id.slot).collect();
        assert_eq!(order, [4, 0, 5, 1, 2, 3]);
        assert!(list.is_empty());
    }
}
