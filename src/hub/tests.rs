//! Subscribers of several hubs, whatever the order in which mail arrives.

mod world;

use proptest::prelude::*;

use super::*;
use crate::command::{Destination, Origin, Position, SharedMessage};
use crate::id::TopicId;
use crate::proto::frame::{FrameHeader, MessageKind};
use world::{World, message, name_owned_by, settings};

#[derive(Clone, Debug)]
enum Step {
    Subscribe { shard: usize, topic: usize },
    Unsubscribe { which: usize },
    Publish { shard: usize, topic: usize },
    Carry { pair: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..3usize, 0..4usize).prop_map(|(shard, topic)| Step::Subscribe { shard, topic }),
        3 => (0..64usize).prop_map(|which| Step::Unsubscribe { which }),
        3 => (0..3usize, 0..4usize).prop_map(|(shard, topic)| Step::Publish { shard, topic }),
        6 => (0..8usize).prop_map(|pair| Step::Carry { pair }),
    ];
    prop::collection::vec(step, 1..150)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_subscriber_gets_what_is_ordered_while_it_is_confirmed(
        steps in steps(),
        shards in 1..=3usize,
        topics in 1..=4usize,
        topics_max in prop_oneof![Just(1usize), Just(2), Just(100)],
        topics_idle_max in prop_oneof![Just(0usize), Just(1), Just(100)],
    ) {
        let mut world = World::new(shards, topics, |settings| {
            settings.topics_max = topics_max;
            settings.topics_idle_max = topics_idle_max;
        });
        for step in steps {
            match step {
                Step::Subscribe { shard, topic } => {
                    world.subscribe(shard % shards, topic % topics);
                }
                Step::Unsubscribe { which } => {
                    let connection = world.subscribers.keys().nth(which % world.subscribers.len().max(1)).copied();
                    if let Some(connection) = connection {
                        world.unsubscribe(connection);
                    }
                }
                Step::Publish { shard, topic } => {
                    world.publish(shard % shards, topic % topics);
                }
                Step::Carry { pair } => {
                    world.carry(pair);
                }
            }
        }
        world.carry_all();
        world.check_caught_up();
        if topics_max > topics {
            prop_assert_eq!(world.refused, 0);
        }
        // One more round, now that all interests have settled.
        for topic in 0..topics {
            world.publish(0, topic);
        }
        world.carry_all();
        world.check_caught_up();

        world.leave_all();
        for hub in &world.hubs {
            prop_assert_eq!(hub.subscriptions_len(), 0);
            prop_assert_eq!(hub.log_bytes(), 0);
            prop_assert_eq!(hub.topics_len(), hub.idle_count, "what is left is remembered, not used");
            prop_assert_eq!(hub.names.len(), hub.topics_len());
            prop_assert!(hub.idle_count <= topics_idle_max);
            if topics_idle_max == 0 {
                prop_assert_eq!(hub.topics_len(), 0);
            }
        }
    }
}

/// The answer to a request that was taken back must not confirm the next one: between
/// the two the owner sends nothing.
#[test]
fn an_answer_to_an_earlier_request_confirms_nobody() {
    let mut world = World::new(3, 1, |_| ());
    let (owner, here, elsewhere) = (0, 1, 2);
    let first = world.subscribe(here, 0).unwrap();
    world.unsubscribe(first);
    let second = world.subscribe(here, 0).unwrap();
    let mut requests = world.mail.remove(&(here, owner)).unwrap();
    assert_eq!(requests.len(), 3, "interest, disinterest, interest");

    // The owner answers the first, and its answer arrives.
    world.open(owner, requests.pop_front().unwrap());
    world.carry_all();
    assert_eq!(world.subscribers[&second].confirmed_at, None);
    // A message between the two is not for us, so we must not have promised it.
    world.open(owner, requests.pop_front().unwrap());
    world.publish(elsewhere, 0);
    world.carry_all();
    world.open(owner, requests.pop_front().unwrap());
    world.carry_all();
    assert_eq!(world.subscribers[&second].confirmed_at, Some(1));
    world.publish(elsewhere, 0);
    world.carry_all();
    assert_eq!(world.subscribers[&second].received, world.logs[0][1..]);
}

#[test]
fn a_subscription_that_left_its_place_to_another_is_confirmed_once() {
    let mut world = World::new(2, 1, |_| ());
    let staying = world.subscribe(1, 0).unwrap();
    let leaving = world.subscribe(1, 0).unwrap();
    let place = world.unsubscribe(leaving).subscription;
    let next = world.subscribe(1, 0).unwrap();
    assert_eq!(world.subscribers[&next].subscription, place, "the slab gives the place away again");
    // `World` fails if anybody is confirmed twice.
    world.carry_all();
    for connection in [staying, next] {
        assert_eq!(world.subscribers[&connection].confirmed_at, Some(0));
    }
    assert_eq!(world.hubs[1].topic(world.subscribers[&next].index).members.len(), 2);
}

/// Deliveries name the place in the receiver's table, and places are used again.
#[test]
fn a_late_delivery_does_not_reach_the_topic_that_has_the_place_now() {
    let mut world = World::new(3, 2, |_| ());
    // The topic 0 is owned by shard 0, the topic 1 by shard 1.
    let leaving = world.subscribe(2, 0).unwrap();
    world.carry_all();
    world.publish(0, 0);
    let late = world.mail.remove(&(0, 2)).unwrap();
    let place = world.subscribers[&leaving].index;
    world.unsubscribe(leaving);
    let next = world.subscribe(2, 1).unwrap();
    assert_eq!(world.subscribers[&next].index, place, "the table gives the place away again");
    world.carry_all();
    assert_eq!(world.subscribers[&next].confirmed_at, Some(0));
    late.into_iter().for_each(|envelope| world.open(2, envelope));
    world.publish(1, 1);
    world.carry_all();
    assert_eq!(world.subscribers[&next].received, [1], "the first was for another topic");
}

#[test]
fn an_owner_without_room_refuses_and_those_who_wait_are_told() {
    let mut world = World::new(2, 3, |settings| settings.topics_max = 1);
    // The topics 0 and 2 are owned by shard 0; the one keeps the place of the other.
    world.subscribe(0, 0).unwrap();
    world.subscribe(1, 2).unwrap();
    world.subscribe(1, 2).unwrap();
    let mail = world.mail.get(&(1, 0)).unwrap();
    assert!(matches!(mail.front(), Some(Envelope::Interest { .. })) && mail.len() == 1, "{mail:?}");
    world.carry(0);
    let mail = world.mail.get(&(0, 1)).unwrap();
    assert!(matches!(mail.front(), Some(Envelope::InterestRefused { .. })), "{mail:?}");
    world.carry_all();
    assert_eq!(world.refused, 2);
    assert_eq!(world.hubs[1].topics_len(), 0);
    assert_eq!(world.subscribers.len(), 1);
}

#[test]
fn a_refused_topic_may_be_asked_for_again() {
    let mut world = World::new(2, 3, |settings| (settings.topics_max, settings.topics_idle_max) = (1, 0));
    let blocker = world.subscribe(0, 0).unwrap();
    world.subscribe(1, 2).unwrap();
    world.carry_all();
    assert_eq!(world.refused, 1);
    world.unsubscribe(blocker);
    let second = world.subscribe(1, 2).unwrap();
    world.carry_all();
    assert_eq!(world.subscribers[&second].confirmed_at, Some(0));
}

#[test]
fn a_full_table_names_its_limit() {
    let mut hub = Hub::new(HubSettings { topics_max: 1, ..settings(0, 1) });
    hub.open_topic("a").unwrap();
    let refused = hub.open_topic("b").unwrap_err();
    assert_eq!(refused.to_string(), "no room for another topic (limit 1)");
    assert!(hub.open_topic("a").is_ok(), "what is there stays open to more users");
}

fn order(hub: &mut Hub, name: &str) -> Position {
    let mut out = Outbox::new();
    let (index, position) = hub.order(&Destination::Named(name.into()), &message(0), None, &mut out).unwrap();
    hub.close_topic(index, &mut out);
    position
}

#[test]
fn the_longest_idle_topic_is_forgotten_and_starts_over_in_a_new_epoch() {
    let mut hub = Hub::new(HubSettings { topics_idle_max: 2, ..settings(0, 1) });
    let oldest = order(&mut hub, "oldest");
    let other = order(&mut hub, "other");
    assert_eq!((oldest.offset, other.offset), (1, 1));
    assert_eq!(order(&mut hub, "oldest"), Position { offset: 2, ..oldest });
    // Now `other` has been idle for longest.
    order(&mut hub, "third");
    assert_eq!(hub.topics_len(), 2);
    assert_eq!(order(&mut hub, "oldest"), Position { offset: 3, ..oldest });
    let again = order(&mut hub, "other");
    assert_eq!(again.offset, 1);
    assert_ne!(again.epoch, other.epoch, "offsets of two lives must not be compared");
}

#[test]
fn an_idle_topic_makes_room_when_the_table_is_full() {
    let mut hub = Hub::new(HubSettings { topics_max: 2, ..settings(0, 1) });
    order(&mut hub, "idle");
    hub.open_topic("used").unwrap();
    hub.open_topic("new").unwrap();
    assert_eq!(hub.find("idle"), None);
    assert!(hub.open_topic("one too many").is_err());
}

#[test]
fn topics_in_use_count_together_on_all_shards_and_idle_ones_do_not() {
    let topics_in_use = Arc::new(AtomicUsize::new(0));
    let hub =
        |shard| Hub::new(HubSettings { topics_max: 2, topics_in_use: topics_in_use.clone(), ..settings(shard, 2) });
    let (mut here, mut there, mut out) = (hub(0), hub(1), Outbox::new());
    let name = |shard, n| name_owned_by(shard, 2, n);
    let first = here.open_topic(&name(0, 0)).unwrap();
    there.open_topic(&name(1, 0)).unwrap();
    assert_eq!(here.open_topic(&name(0, 1)), Err(crate::command::TopicsFull { limit: 2 }));
    // The owner of this one has not been asked.
    there.open_topic(&name(0, 1)).unwrap();

    here.close_topic(first, &mut out);
    assert_eq!(here.topics_len(), 1, "it is remembered");
    let second = here.open_topic(&name(0, 1)).unwrap();
    assert_eq!(
        here.open_topic(&name(0, 0)),
        Err(crate::command::TopicsFull { limit: 2 }),
        "remembered, but there is no room"
    );
    here.close_topic(second, &mut out);
    here.open_topic(&name(0, 0)).unwrap();
    assert_eq!(topics_in_use.load(std::sync::atomic::Ordering::Relaxed), 2);
}

#[test]
fn a_topic_in_use_is_never_forgotten() {
    let mut world = World::new(2, 1, |settings| settings.topics_idle_max = 0);
    let local = world.subscribe(0, 0).unwrap();
    let remote = world.subscribe(1, 0).unwrap();
    world.carry_all();
    world.unsubscribe(local);
    assert_eq!(world.hubs[0].topics_len(), 1, "another shard is interested");
    world.publish(0, 0);
    world.carry_all();
    assert_eq!(world.subscribers[&remote].received, [0]);
    world.leave_all();
    assert_eq!((world.hubs[0].topics_len(), world.hubs[1].topics_len()), (0, 0));
}

#[test]
fn topics_that_come_and_go_leave_no_entries_behind() {
    let mut hub = Hub::new(settings(0, 1));
    for _ in 0..10_000 {
        order(&mut hub, "busy");
        order(&mut hub, "busy too");
    }
    assert_eq!((hub.topics_len(), hub.idle_count), (2, 2));
    assert!(hub.idle.len() <= 128, "{} entries for 2 idle topics", hub.idle.len());
}

#[test]
fn leaving_members_keep_the_places_of_the_others_right() {
    let mut world = World::new(1, 1, |_| ());
    let mut connections: Vec<u32> = (0..200).map(|_| world.subscribe(0, 0).unwrap()).collect();
    // From the front, from the back and from between, in a fixed mixed order.
    while connections.len() > 3 {
        let at = connections.len() * 7 / 11;
        world.unsubscribe(connections.swap_remove(at));
        world.publish(0, 0);
        world.check_caught_up();
    }
    let index = world.subscribers[&connections[0]].index;
    let left: Vec<u32> = world.hubs[0].topic(index).members.iter().map(|member| member.connection.slot).collect();
    assert!(left.len() == 3 && connections.iter().all(|connection| left.contains(connection)), "{left:?}");
}

#[test]
fn the_origin_travels_with_the_message_to_every_shard() {
    let mut hub = Hub::new(settings(0, 3));
    let mut out = Outbox::new();
    let name: crate::command::TopicName = name_owned_by(0, 3, 0).into();
    for shard in [ShardId(1), ShardId(2)] {
        hub.interest(&name, shard, TopicId { slot: 7, generation: 1 }, 1, &mut out);
    }
    out.clear();
    let sender = Origin { shard: ShardId(2), connection: ConnectionId { slot: 4, generation: 1 } };
    let (index, _) = hub.order(&Destination::Named(name), &message(0), Some(sender), &mut out).unwrap();
    hub.close_topic(index, &mut out);
    let origins: Vec<_> = out
        .iter()
        .map(|(to, envelope)| match envelope {
            Envelope::Deliver { origin, .. } => (*to, *origin),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(origins, [1, 2].map(|shard| (Address::Shard(ShardId(shard)), Some(sender))));
}
