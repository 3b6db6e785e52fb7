use std::time::Duration;

use super::*;
use crate::schedule::window;

const ONE: Share = Share { senders: 1, workers: 1, worker: 0 };
const TWO: Share = Share { senders: 2, workers: 1, worker: 0 };
const SECOND: u64 = 1_000_000_000;

/// Two subscribers and one publisher on one worker, all connected and started at 0.
fn fanout(pace: Pace) -> (Box<Fanout>, Payload) {
    let payload = Payload::new(5, 64, pace.is_open());
    let board = Arc::new(Board::new(1, 1, pace));
    let mut fanout = Box::new(Fanout::new(payload.clone(), pace, Arrivals::Constant, TWO, ONE, board));
    (0..3).for_each(|member| fanout.opened(member, Time(0)));
    fanout.start(window(Time(0), Duration::from_secs(1)));
    (fanout, payload)
}

fn sends(fanout: &mut Fanout, now: u64) -> Vec<Stamp> {
    std::iter::from_fn(|| fanout.next_send(Time(now)))
        .map(|(member, stamp)| {
            assert_eq!(member, 2, "the publisher sends");
            stamp
        })
        .collect()
}

fn deliver(fanout: &mut Fanout, payload: &Payload, member: usize, stamp: Stamp) {
    let mut bytes = Vec::new();
    payload.append(&mut bytes, stamp);
    assert!(!fanout.message(member, &bytes, Time(SECOND)), "publishers answer to no message");
}

/// Ends the turn; the workers that were woken.
fn turn(fanout: &mut Fanout) -> Vec<usize> {
    let mut woken = Vec::new();
    fanout.turn_done(&mut |worker| woken.push(worker));
    woken
}

#[test]
fn closed_loop_waits_until_every_subscriber_has_the_message() {
    let (mut fanout, payload) = fanout(Pace::Closed { in_flight: 2 });
    let first = sends(&mut fanout, 0);
    assert_eq!(first.len(), 2);
    deliver(&mut fanout, &payload, 0, first[0]);
    assert_eq!((turn(&mut fanout), sends(&mut fanout, 10).len()), (vec![], 0));
    deliver(&mut fanout, &payload, 1, first[0]);
    assert_eq!(turn(&mut fanout), [0]);
    assert_eq!(sends(&mut fanout, 20).iter().map(|stamp| stamp.sequence).collect::<Vec<_>>(), [2]);
}

#[test]
fn what_was_due_when_a_run_is_stopped_is_behind() {
    let (mut fanout, _) = fanout(Pace::Open { rate: 10.0 });
    sends(&mut fanout, SECOND / 4);
    fanout.stop(Time(SECOND / 2));
    assert_eq!(fanout.tally.behind, Duration::from_millis(200), "the fourth was meant for 300 ms");
}

#[test]
fn open_loop_counts_latency_from_the_intended_publish() {
    let (mut fanout, payload) = fanout(Pace::Open { rate: 10.0 });
    // The worker was held up for 350 ms: four messages leave late, each with its own time.
    let late = sends(&mut fanout, 350_001_000);
    assert_eq!(late.len(), 4);
    assert!(late.windows(2).all(|pair| pair[1].intended.0 - pair[0].intended.0 == SECOND / 10), "{late:?}");
    // Delivered when the second is over: the first was meant for its beginning.
    deliver(&mut fanout, &payload, 0, late[0]);
    let tally = fanout.finish();
    assert!(tally.latency.quantiles().unwrap().max >= 999_000.0);
    // It left 350 ms late, and from there it took 650 ms.
    let service = tally.service.quantiles().unwrap().max;
    assert!((649_000.0..651_000.0).contains(&service), "{service}");
    assert!(tally.schedule_lag.quantiles().unwrap().max >= 349_000.0);
}

#[test]
fn a_delivery_that_never_comes_does_not_end_the_run_but_is_lost() {
    let (mut fanout, payload) = fanout(Pace::Closed { in_flight: 1 });
    let first = sends(&mut fanout, 0);
    deliver(&mut fanout, &payload, 0, first[0]);
    turn(&mut fanout);
    // A window that is longer than the patience.
    fanout.window = Some(window(Time(0), Duration::from_secs(10)));
    let patience = DELIVERY_PATIENCE.as_nanos() as u64;
    assert_eq!(fanout.wake_at(), Some(Time(patience)));
    assert_eq!(sends(&mut fanout, patience - 1), []);
    let second = sends(&mut fanout, patience);
    assert_eq!(second.len(), 1);
    // The first message's late delivery does not count for the second one.
    deliver(&mut fanout, &payload, 0, second[0]);
    deliver(&mut fanout, &payload, 1, second[0]);
    turn(&mut fanout);
    assert!(!fanout.drained());
    let tally = fanout.finish();
    assert_eq!((tally.sent, tally.received, tally.lost, tally.reordered), (2, 3, 1, 0));
}

#[test]
fn a_subscriber_that_leaves_is_not_waited_for() {
    let (mut fanout, payload) = fanout(Pace::Closed { in_flight: 1 });
    let first = sends(&mut fanout, 0);
    deliver(&mut fanout, &payload, 0, first[0]);
    turn(&mut fanout);
    fanout.gone(1, Time::ZERO);
    assert_eq!(turn(&mut fanout), [0], "the publisher's worker is told");
    let second = sends(&mut fanout, 10);
    assert_eq!(second.len(), 1);
    deliver(&mut fanout, &payload, 0, second[0]);
    assert!(fanout.drained());
    assert_eq!(fanout.finish().lost, 1, "what it had not got when it left");
}

#[test]
fn each_fault_is_counted_as_what_it_is() {
    let (mut fanout, payload) = fanout(Pace::Open { rate: 5.0 });
    let sent = sends(&mut fanout, SECOND - 1);
    assert_eq!(sent.len(), 5);
    for stamp in [sent[1], sent[0], sent[0], sent[4]] {
        deliver(&mut fanout, &payload, 0, stamp); // late 0, again 0, never 2 and 3
    }
    for stamp in &sent[..4] {
        deliver(&mut fanout, &payload, 1, *stamp);
    }
    let mut changed = Vec::new();
    payload.append(&mut changed, sent[4]);
    changed[50] ^= 1;
    fanout.message(1, &changed, Time(SECOND));
    fanout.message(1, b"{\"gap\":3}", Time(SECOND));
    fanout.message(2, b"publishers ignore everything", Time(SECOND));
    let tally = fanout.finish();
    assert_eq!((tally.sent, tally.received, tally.lost), (5, 7, 2));
    assert_eq!((tally.duplicated, tally.reordered, tally.corrupted, tally.foreign), (1, 1, 1, 1));
}

#[test]
fn every_publisher_has_its_own_sequence() {
    let pace = Pace::Open { rate: 4.0 };
    let payload = Payload::new(5, 64, pace.is_open());
    let mut fanout =
        Box::new(Fanout::new(payload.clone(), pace, Arrivals::Constant, ONE, TWO, Arc::new(Board::new(1, 2, pace))));
    (0..3).for_each(|member| fanout.opened(member, Time(0)));
    fanout.start(window(Time(0), Duration::from_secs(1)));
    let sent: Vec<_> = std::iter::from_fn(|| fanout.next_send(Time(SECOND))).collect();
    assert_eq!(
        sent.iter().map(|(_, stamp)| (stamp.sender, stamp.sequence)).collect::<Vec<_>>(),
        [(0, 0), (1, 0), (0, 1), (1, 1)]
    );
    // Any order between publishers is in order.
    for i in [1, 3, 0, 2] {
        deliver(&mut fanout, &payload, 0, sent[i].1);
    }
    assert!(fanout.drained());
    let tally = fanout.finish();
    assert!(tally.is_faultless());
    assert_eq!(tally.received, 4);
}

#[test]
fn nobody_left_to_send_or_to_receive_ends_the_sending() {
    let (mut fanout, _) = fanout(Pace::Open { rate: 5.0 });
    assert!(!fanout.sending_done(Time(0)));
    fanout.gone(0, Time::ZERO);
    assert!(!fanout.sending_done(Time(0)));
    fanout.gone(1, Time::ZERO);
    assert!(fanout.sending_done(Time(0)));
}

#[test]
fn warm_up_and_cool_down_are_checked_but_not_in_the_figures() {
    let (mut fanout, payload) = fanout(Pace::Open { rate: 10.0 });
    let [warm_up, measured, cool_down] = [300, 500, 200].map(Duration::from_millis);
    fanout.start(Window::new(Time(0), warm_up, measured, cool_down));
    let sent = sends(&mut fanout, SECOND);
    assert_eq!(sent.len(), 10);
    for stamp in &sent[1..] {
        deliver(&mut fanout, &payload, 0, *stamp);
        deliver(&mut fanout, &payload, 1, *stamp);
    }
    let tally = fanout.finish();
    assert_eq!((tally.sent, tally.received, tally.latency.count()), (5, 10, 10));
    assert_eq!((tally.unmeasured_sent, tally.unmeasured_received, tally.lost), (5, 8, 2));
    assert_eq!((tally.service.count(), tally.schedule_lag.count()), (10, 5));
}

#[test]
fn nothing_is_expected_of_readers_that_stall_and_their_ends_are_counted() {
    let pace = Pace::Open { rate: 2.0 };
    let payload = Payload::new(5, 64, true);
    let board = Arc::new(Board::new(1, 1, pace));
    let fanout = Fanout::new(payload.clone(), pace, Arrivals::Constant, TWO, ONE, board).with_stalled(1);
    let mut fanout = Box::new(fanout);
    (0..3).for_each(|member| fanout.opened(member, Time(0)));
    assert!(fanout.reads(0), "until messages are sent");
    fanout.start(window(Time(0), Duration::from_secs(1)));
    assert!(!fanout.reads(0) && fanout.reads(1) && fanout.reads(2));
    for stamp in sends(&mut fanout, SECOND) {
        deliver(&mut fanout, &payload, 1, stamp);
        deliver(&mut fanout, &payload, 0, stamp);
    }
    assert!(!fanout.drained(), "the server may have something to tell the one that stalled");
    let end = Failure::ClosedByServer { code: Some(4008), reason: String::new() };
    assert!(fanout.expects_end(0, &end) && !fanout.expects_end(1, &end));
    fanout.gone(0, Time::ZERO);
    assert!(fanout.drained());
    let tally = fanout.finish();
    assert_eq!((tally.sent, tally.received, tally.lost), (2, 2, 0));
    assert_eq!((tally.stalled.count, &tally.stalled.ended["closed by server 4008"]), (1, &1));
}

#[test]
fn topics_have_their_own_members_publishers_and_losses() {
    let pace = Pace::Open { rate: 4.0 };
    let payload = Payload::new(5, 64, true);
    let board = Arc::new(Board::new(2, 4, pace));
    let share = |senders| Share { senders, ..ONE };
    let mut fanout = Box::new(Fanout::new(payload.clone(), pace, Arrivals::Constant, share(3), share(4), board));
    (0..7).for_each(|member| fanout.opened(member, Time(0)));
    fanout.start(window(Time(0), Duration::from_secs(1)));
    let sent: Vec<_> = std::iter::from_fn(|| fanout.next_send(Time(SECOND))).map(|(_, stamp)| stamp).collect();
    assert_eq!(sent.iter().map(|stamp| stamp.sender).collect::<Vec<_>>(), [0, 1, 2, 3]);
    // Subscribers 0 and 2 are on topic 0, as publishers 0 and 2 are.
    for (member, message) in [(0, 0), (0, 2), (1, 1), (1, 3), (2, 2)] {
        deliver(&mut fanout, &payload, member, sent[message]);
    }
    assert!(!fanout.drained());
    deliver(&mut fanout, &payload, 2, sent[1]);
    let tally = fanout.finish();
    assert_eq!((tally.sent, tally.received, tally.lost, tally.misdelivered), (4, 5, 1, 1));
    assert!(!tally.is_faultless());
}

#[test]
fn a_closed_loop_waits_for_the_subscribers_of_its_topic_only() {
    let pace = Pace::Closed { in_flight: 1 };
    let payload = Payload::new(5, 64, false);
    let board = Arc::new(Board::new(2, 2, pace));
    let mut fanout = Box::new(Fanout::new(payload.clone(), pace, Arrivals::Constant, TWO, TWO, board));
    (0..4).for_each(|member| fanout.opened(member, Time(0)));
    fanout.start(window(Time(0), Duration::from_secs(1)));
    let first: Vec<_> = std::iter::from_fn(|| fanout.next_send(Time(0))).map(|(_, stamp)| stamp).collect();
    assert_eq!(first.len(), 2);
    deliver(&mut fanout, &payload, 1, first[1]);
    turn(&mut fanout);
    let next: Vec<_> = std::iter::from_fn(|| fanout.next_send(Time(1))).map(|(_, stamp)| stamp.sender).collect();
    assert_eq!(next, [1], "the other topic still waits");
}
