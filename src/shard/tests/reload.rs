//! Options that change while a shard runs.

use std::sync::Arc;

use super::Envelope;
use super::pair::{OTHER, OWNER, Pair, QUEUE_BYTES_MAX, SHARDS, path, request, text};
use crate::command::LiveOptions;
use crate::origin::OriginPolicy;
use crate::policy::TopicPolicies;

fn options(policy: &str) -> LiveOptions {
    let rules = TopicPolicies::parse_rule(&format!("* = {policy}")).into_iter().collect();
    LiveOptions {
        origin: Arc::default(),
        policies: Arc::new(TopicPolicies::new(rules)),
        anonymous_subscribe: true,
        anonymous_publish: true,
    }
}

fn reload(pair: &mut Pair, options: LiveOptions) {
    let options = Arc::new(options);
    (0..SHARDS).for_each(|shard| pair.tell(shard, Envelope::Reload(options.clone())));
}

/// More than may wait for one subscriber.
fn flood(pair: &mut Pair) {
    let publisher = pair.open(OWNER, &path("?subscribe=off"));
    for _ in 0..2 * QUEUE_BYTES_MAX / 100 {
        pair.send(publisher, &text(&"m".repeat(100)));
        pair.settle();
    }
}

#[test]
fn a_topic_that_is_there_follows_another_policy_with_its_next_message() {
    for shard in [OWNER, OTHER] {
        let mut pair = Pair::new();
        let stalled = pair.open(shard, &path(""));
        pair.transport(stalled).room = Some(0);
        reload(&mut pair, options("latest_only"));
        flood(&mut pair);
        assert!(pair.stats[shard].conflated.get() > 0, "on shard {shard}");

        reload(&mut pair, options("disconnect"));
        flood(&mut pair);
        pair.unblock(stalled);
        assert!(pair.take(stalled).ends_with(b"did not read fast enough"));
    }
}

/// The numbers of policies come round after 65,536 changes.
#[test]
fn a_topic_without_messages_follows_after_any_number_of_changes() {
    let mut pair = Pair::new();
    let stalled = pair.open(OWNER, &path(""));
    pair.transport(stalled).room = Some(0);
    let latest = Arc::new(options("latest_only"));
    for _ in 0..=u16::MAX {
        pair.shards[OWNER].open_envelope(Envelope::Reload(latest.clone()), pair.now);
    }
    flood(&mut pair);
    assert!(pair.stats[OWNER].conflated.get() > 0);
}

#[test]
fn who_connects_next_meets_other_rights_and_origins_and_who_is_here_stays() {
    let mut pair = Pair::new();
    let publisher = pair.open(OTHER, &path(""));
    let mut changed = options("disconnect");
    changed.anonymous_publish = false;
    changed.origin = Arc::new(OriginPolicy { check_host: true, ..OriginPolicy::default() });
    reload(&mut pair, changed);
    let refused = pair.accept(OTHER);
    pair.send(refused, &request(&path("?subscribe=off")));
    pair.settle();
    assert!(pair.take(refused).starts_with(b"HTTP/1.1 403 "));
    let stranger = pair.accept(OTHER);
    let of_elsewhere = String::from_utf8(request(&path(""))).unwrap().replace("localhost", "evil.example");
    pair.send(stranger, of_elsewhere.as_bytes());
    pair.settle();
    assert!(pair.take(stranger).starts_with(b"HTTP/1.1 403 "));

    pair.send(publisher, &text("still mine"));
    pair.settle();
    assert_eq!(pair.take(publisher), super::delivered("still mine"));
}
