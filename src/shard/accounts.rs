//! What must agree between the parts of a shard, whatever has happened.

use super::Shard;

impl Shard {
    /// Compares sums, gauges and lists with the connections that there are. Takes time in
    /// proportion to them; for fuzzing and simulation.
    ///
    /// # Panics
    /// If something does not agree.
    pub(crate) fn check_accounts(&self) {
        let peers = || self.table.ids().filter_map(|id| self.table.get(id).map(|peer| (id, peer)));
        assert_eq!(self.stats.connections.get(), self.table.len() as u64);
        assert!(self.table.len() <= self.settings.connections_max);

        let queued: usize = peers().map(|(_, peer)| peer.connection.queue_bytes()).sum();
        assert_eq!(self.stats.queue_bytes.get(), queued as u64);
        let replies: usize =
            peers().map(|(_, peer)| peer.connection.queue_bytes() - peer.connection.published_bytes()).sum();
        let waiting = self.queue_memory_bytes();
        assert!(waiting >= replies as u64, "{waiting} bytes kept alive for {replies} bytes of replies");
        let on_their_way = queued > 0 || self.hub.has_deliveries();
        assert!(on_their_way || waiting == 0, "{waiting} bytes kept alive for nobody");

        let input: usize = peers().map(|(_, peer)| peer.connection.input_memory_bytes()).sum();
        assert_eq!(self.stats.input_memory_bytes.get(), input as u64);

        let subscribed = peers().filter(|(_, peer)| peer.session.subscription.is_some()).count();
        assert_eq!(self.hub.subscriptions_len(), subscribed);
        assert_eq!(self.stats.topics.get(), self.hub.topics_len() as u64);

        for (id, peer) in peers() {
            let listed = self.dirty.iter().chain(&self.dirty_ending).filter(|listed| **listed == id).count();
            assert_eq!(listed, usize::from(peer.connection.dirty), "{id:?} is on the flush list once or not");
            assert!(
                !peer.connection.is_ending() || peer.session.subscription.is_none(),
                "{id:?} is ending and subscribed"
            );
            let paused = self.paused_publishers.iter().filter(|paused| **paused == id).count();
            assert_eq!(paused, usize::from(peer.publisher_paused), "{id:?} is paused once or not");
            let has_output = peer.connection.queue_bytes() > 0 && !peer.connection.blocked;
            assert!(!has_output || peer.connection.dirty, "{id:?} has something to say and nobody knows");
        }
    }
}
