//! What is to be read, and in which order: connections, or what they have brought.
//!
//! Owner: the loop. Those that are established and those that are not have turns in
//! alternation: whoever has been let in does not wait behind thousands that have just
//! connected, of whom each may take as long as a TLS handshake does.

use std::collections::VecDeque;

/// See the module.
pub(super) struct ReadableList<T> {
    established: VecDeque<T>,
    newcomers: VecDeque<T>,
    newcomer_next: bool,
}

impl<T> Default for ReadableList<T> {
    fn default() -> Self {
        Self { established: VecDeque::new(), newcomers: VecDeque::new(), newcomer_next: false }
    }
}

impl<T> ReadableList<T> {
    pub(super) fn push(&mut self, item: T, is_newcomer: bool) {
        let list = if is_newcomer { &mut self.newcomers } else { &mut self.established };
        list.push_back(item);
    }

    pub(super) fn pop(&mut self) -> Option<T> {
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

    #[test]
    fn established_ones_and_newcomers_alternate_each_in_their_order() {
        let mut list = ReadableList::default();
        (0..4).for_each(|n| list.push(n, true));
        (4..6).for_each(|n| list.push(n, false));
        assert_eq!(list.len(), 6);
        let order: Vec<_> = std::iter::from_fn(|| list.pop()).collect();
        assert_eq!(order, [4, 0, 5, 1, 2, 3]);
        assert!(list.is_empty());
    }
}
