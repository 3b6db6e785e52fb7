//! Two shards with their connections, through any sequence of events.
//!
//! Input: a [`Plan`], as `arbitrary` reads it. A plain driver carries out its operations
//! on transports that take and bring what the plan says; afterwards everything is ended,
//! and nothing may be left. What each peer was sent must be what the protocol allows.

mod peer;
mod world;

use arbitrary::{Arbitrary, Unstructured};

use world::World;

/// Operations that are carried out at most, so that a run is short.
const OPERATIONS_MAX: usize = 200;

#[derive(Arbitrary, Debug)]
struct Plan<'a> {
    ending: Ending,
    operations: Vec<Operation<'a>>,
}

/// How all that is left ends.
#[derive(Arbitrary, Clone, Copy, PartialEq, Eq, Debug)]
enum Ending {
    /// The peers read all that there is for them, and end their direction.
    PeersEnd,
    /// All transports fail.
    TransportsFail,
    /// The server drains, and waits for peers that do not answer.
    Drain,
    /// The server stops at once.
    Abort,
}

/// One event. Shards and peers are chosen modulo how many there are.
#[derive(Arbitrary, Debug)]
enum Operation<'a> {
    Accept {
        shard: u8,
    },
    /// A request, mostly a good one.
    Request {
        peer: u8,
        path: Path,
    },
    /// A masked frame.
    Frame {
        peer: u8,
        first: u8,
        payload: &'a [u8],
    },
    /// A text message with a number that is not used again, and so many bytes behind it.
    Say {
        peer: u8,
        bytes: u16,
    },
    Bytes {
        peer: u8,
        bytes: &'a [u8],
    },
    /// What peers send arrives in pieces of so many bytes from now on; 0 is whole.
    Pieces {
        bytes: u8,
    },
    /// The transport takes so many bytes from now on, and then no more.
    Room {
        peer: u8,
        bytes: u16,
    },
    /// It takes all again.
    Resume {
        peer: u8,
    },
    PeerEnds {
        peer: u8,
    },
    Fail {
        peer: u8,
    },
    Pass {
        milliseconds: u16,
    },
    /// A slice of so many flushes.
    Flush {
        shard: u8,
        connections: u8,
    },
    /// So many envelopes to a shard from the other.
    Carry {
        shard: u8,
        envelopes: u8,
    },
    /// A back end publishes.
    Publish {
        topic: u8,
        bytes: u16,
    },
    Probe {
        shard: u8,
    },
    PausePublishing {
        shard: u8,
        pause: bool,
    },
    ShedQueues {
        shard: u8,
        bytes: u16,
    },
    Drain {
        shard: u8,
    },
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Path {
    Echo,
    Greeting,
    Health,
    Nowhere,
    Topic { number: u8, subscribes: bool, to_self: bool, gaps: bool },
}

pub(super) fn run(data: &[u8]) {
    let Ok(plan) = Plan::arbitrary_take_rest(Unstructured::new(data)) else { return };
    let mut world = World::new();
    for operation in plan.operations.iter().take(OPERATIONS_MAX) {
        world.apply(operation);
        world.check();
    }
    world.end(plan.ending);
}
