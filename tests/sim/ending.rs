//! Why connections end, and what their clients are told.

use wsgate::shard::DrainPhase;
use wsgate::stats::CloseReason;

use crate::client::{Client, ClientId, Ending};
use crate::host::Host;
use crate::network::ClientEnd;
use crate::request::Purpose;
use crate::scene::Scene;

/// A shard has removed a connection and counted why: there must have been a cause.
pub(crate) fn ended(scene: &mut Scene, host: &Host, id: ClientId, reason: CloseReason, aborted: bool) {
    scene.trace.event("ended", id as u64, reason as u64);
    scene.trace.count(reason.label(), 1);
    let deadlines = scene.plan.common().deadlines;
    let sheds = scene.plan.queue_bytes_total_max < 1 << 30;
    let few_topics = scene.plan.common().hub.topics_max < scene.plan.topics.len();
    let phase = host.shard.drain_phase();
    let client = &mut scene.clients[id];
    assert!(client.ending.is_none(), "client {id} ended twice");
    if !aborted {
        assert!(client.link.client_end == ClientEnd::Reported, "client {id} is closed before its end");
        assert_eq!(client.link.unread(), 0, "what client {id} has sent would turn the end into a reset");
    }
    let subscribes = client.subscription.as_ref();
    let caused = match reason {
        CloseReason::PeerClosed => client.close_sent.is_some_and(|(end, _)| end <= client.delivered),
        CloseReason::PeerVanished => client.link.client_end == ClientEnd::Reported,
        CloseReason::NotUpgraded => {
            matches!(client.purpose, Purpose::Http(..)) || few_topics || phase >= DrainPhase::Delivering
        }
        CloseReason::HandshakeTimeout => scene.now.since(client.accepted_at) >= deadlines.handshake,
        CloseReason::ProtocolError
        | CloseReason::MessageTooLong
        | CloseReason::FrameTooLong
        | CloseReason::TooManyFragments
        | CloseReason::PolicyViolation => {
            client.offence.is_some_and(|(start, offence)| start < client.delivered && offence.reason == reason)
        }
        CloseReason::SlowConsumer => {
            let closes = subscribes.is_some_and(|subscription| subscription.may_be_closed(&scene.oracle));
            closes && client.was_blocked
        }
        CloseReason::QueueMemory => sheds && client.was_blocked,
        CloseReason::PongTimeout => {
            scene.now.since(client.heard_at) >= deadlines.ping_interval + deadlines.pong_timeout
        }
        CloseReason::Drain => phase == DrainPhase::Closing || host.is_late(scene.now),
        CloseReason::Idle => client.may_be_idle(scene.now, deadlines.idle),
        // Not configured here, and the kernel's.
        CloseReason::TlsError | CloseReason::Unacknowledged => false,
    };
    assert!(caused, "client {id}, {:?}, ended by {reason:?} without a cause", client.purpose);
    client.ending = Some(Ending { reason, aborted });
    let early = &mut scene.early[host.index];
    early.take_if(|early| *early == id);
    check_told(scene, id);
}

/// Once both sides have ended: the client was told what it had to be told.
pub(crate) fn check_told(scene: &Scene, id: ClientId) {
    let client = &scene.clients[id];
    let Some(Ending { reason, aborted }) = client.ending else { return };
    let Some(told) = client.close_heard else {
        let must_be_told = !matches!(reason, CloseReason::PeerVanished | CloseReason::PongTimeout);
        if client.end_heard && !aborted && client.is_upgraded() {
            assert!(!must_be_told, "client {id} ended by {reason:?} and was told nothing");
        }
        return;
    };
    let expected = match reason {
        CloseReason::PeerClosed => client.close_sent.and_then(|(_, code)| code),
        CloseReason::ProtocolError
        | CloseReason::MessageTooLong
        | CloseReason::FrameTooLong
        | CloseReason::TooManyFragments
        | CloseReason::PolicyViolation => client.offence.map(|(_, offence)| offence.code),
        CloseReason::Idle => Some(4009),
        CloseReason::SlowConsumer | CloseReason::QueueMemory => Some(4008),
        CloseReason::Drain => Some(1001),
        CloseReason::PeerVanished
        | CloseReason::Unacknowledged
        | CloseReason::PongTimeout
        | CloseReason::NotUpgraded
        | CloseReason::HandshakeTimeout
        | CloseReason::TlsError => panic!("client {id} ended by {reason:?} and was told {told:?}"),
    };
    let name = client.offence.map_or("", |(_, offence)| offence.name);
    assert_eq!(told, expected, "client {id} ended by {reason:?} {name}");
    if reason == CloseReason::Drain
        && client.end_heard
        && !aborted
        && let Some(subscription) = &client.subscription
        && !client.was_blocked
    {
        subscription.check_drained(&scene.oracle);
    }
}

/// All is quiet: what a client published before it ended in order has been accepted.
pub(crate) fn check_accepted(client: &Client) {
    let Some(Ending { reason, .. }) = client.ending else { return };
    if matches!(
        reason,
        CloseReason::PeerClosed
            | CloseReason::ProtocolError
            | CloseReason::MessageTooLong
            | CloseReason::FrameTooLong
            | CloseReason::TooManyFragments
    ) {
        let left = &client.unordered;
        assert!(left.is_empty(), "{reason:?}: published before the end, and not accepted: {left:?}");
    }
}

/// All is quiet, and this client has done nothing to end its connection: it has had
/// everything that is for it.
pub(crate) fn check_caught_up(scene: &Scene, id: ClientId) {
    let client: &Client = &scene.clients[id];
    if let Purpose::Http(..) | Purpose::Silent = client.purpose {
        return;
    }
    assert!(client.status.is_some(), "client {id} has had no answer");
    if !client.is_upgraded() || !client.is_healthy() {
        return;
    }
    assert_eq!(client.link.unread(), 0, "client {id} is not read");
    assert_eq!(client.link.waiting(), 0);
    assert!(client.unordered.is_empty(), "published and not accepted: {:?}", client.unordered);
    assert!(client.replies.is_empty(), "client {id} waits for {} replies", client.replies.len());
    assert!(client.pings.is_empty(), "client {id} waits for pongs");
    if let Some(subscription) = &client.subscription {
        subscription.check_caught_up(&scene.oracle);
    }
}
