//! The books of the shards: gauges within their bounds at every turn, counters that add up
//! at the end, and nothing left.

use wsgate::policy::SlowConsumerPolicy;
use wsgate::shard::DrainPhase;

use crate::host::Host;
use crate::scene::Scene;

impl Host {
    pub(crate) fn check_gauges(&self, scene: &Scene) {
        let connections = self.sockets.iter().flatten().count();
        assert_eq!(self.shard.connections_len(), connections);
        assert_eq!(self.stats.connections.get(), connections as u64);
        let settings = scene.plan.common();
        let queued = settings.queue.queue_bytes_max.max(self.published_bytes_most)
            + settings.queue.reply_bytes_watermark
            + settings.routes.limits.echo
            + self.said_bytes_most
            + 2 * self.buffer.len()
            + settings.handshake_bytes_max;
        let bytes = self.stats.queue_bytes.get();
        assert!(bytes <= (connections * queued) as u64, "{bytes} bytes wait for {connections} connections");
    }

    /// Everybody has left: nothing of them is.
    pub(crate) fn check_empty(&self, scene: &Scene) {
        assert_eq!(self.shard.connections_len(), 0, "slots are free");
        let phase = self.shard.drain_phase();
        assert!(self.drain_until.is_none() || phase == DrainPhase::Closing, "going down stopped at {phase:?}");
        assert_eq!(self.stats.drain_left.get(), 0, "nobody is to be told to go");
        assert_eq!(self.shard.next_timeout(), None, "no deadline is left");
        assert!(!self.shard.has_flushes(), "nothing is to be flushed");
        assert_eq!(self.shard.queue_memory_bytes(), 0, "buffers and batches are home");
        assert_eq!(self.shard.log_bytes(), 0, "all that was published has been offered to everybody");
        assert_eq!(self.post.overflow_bytes(), 0, "no mail waits");
        assert_eq!(self.stats.queue_bytes.get(), 0, "the gauge of queued bytes");
        assert_eq!(self.stats.input_memory_bytes.get(), 0, "no input in part is kept");
        assert_eq!(self.stats.subscriptions.get(), 0, "the hub has no subscription");
        let idle = scene.plan.common().hub.topics_idle_max as u64;
        assert!(self.stats.topics.get() <= idle, "the hub has topics that nobody uses");
        let closes: u64 = self.stats.closes.iter().map(|cell| cell.get()).sum();
        assert_eq!(self.stats.accepted.get(), closes, "who was accepted has left");
    }
}

/// What was lost was told or counted, and nothing else was counted.
pub(crate) fn check_losses(hosts: &[Host], scene: &mut Scene) {
    let (mut told, mut least, mut most, mut received, mut unknown) = (0, 0, 0, 0, (0, 0));
    for client in &scene.clients {
        let Some(subscription) = &client.subscription else { continue };
        told += subscription.told_in_all;
        least += subscription.conflated.0;
        most += subscription.conflated.1;
        received += subscription.received;
        match subscription.policy(&scene.oracle) {
            SlowConsumerPolicy::LatestOnly => unknown.0 += subscription.outstanding(&scene.oracle),
            _ => unknown.1 += subscription.outstanding(&scene.oracle),
        }
    }
    let sum = |cell: fn(&Host) -> u64| hosts.iter().map(cell).sum::<u64>();
    let (dropped, conflated) = (sum(|host| host.stats.dropped.get()), sum(|host| host.stats.conflated.get()));
    assert!((told..=told + unknown.1).contains(&dropped), "{told} losses were told, {dropped} counted");
    assert!((least..=most + unknown.0).contains(&conflated), "{least} were conflated, {conflated} counted");
    let deliveries = sum(|host| host.stats.deliveries.get());
    let known = received + told + least;
    let all = known + (most - least) + unknown.0 + unknown.1;
    assert!((known..=all).contains(&deliveries), "{known} to {all} deliveries, {deliveries} counted");
    let clients = || scene.clients.iter();
    let skipped: u64 = clients().map(|client| client.pings_skipped).sum();
    let unanswered = clients().map(|client| client.pings.len() as u64).sum::<u64>();
    let counted = sum(|host| host.stats.pings_skipped.get());
    assert!((skipped..=skipped + unanswered).contains(&counted), "{skipped} pings were skipped, {counted} counted");
    let compressed = clients().map(|client| client.compressed_heard).sum();
    let trace = &mut scene.trace;
    trace.count("pings skipped", counted);
    trace.count("compressed message received", compressed);
    trace.count("messages dropped by policy", dropped);
    trace.count("messages conflated", conflated);
    trace.count("deliveries", deliveries);
    trace.count("messages inflated", sum(|host| host.stats.inflated.get()));
    trace.count("messages cut while inflating", sum(|host| host.stats.bombs_cut.get()));
}
