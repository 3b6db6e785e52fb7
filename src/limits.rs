//! Bounds that are not for the operator to set, with their units and reasons.
//! What an operator may set is in `config`.

#![forbid(unsafe_code)]

/// The one receive buffer of an event loop. A masked frame of 64 KiB is 65,550 bytes, so
/// a buffer of 64 KiB would cut each one; small enough to stay in the L2 cache.
pub const RECEIVE_BUFFER_BYTES: usize = 128 * 1024;

/// Connections accepted per turn, so that a storm of them does not hold up those
/// that are open. What is left waits in the kernel's queue until the next turn.
pub const ACCEPTS_PER_TURN_MAX: usize = 64;

/// Connections flushed before a loop looks at its sockets again: a fan-out to many does
/// not hold others up. A send costs 2 to 14 µs, with how many connections there are and
/// what the machine does beside, so the time of a slice is bounded too.
pub const FLUSHES_PER_TURN_MAX: usize = 256;

/// Microseconds after which a slice of flushes ends.
pub const FLUSH_SLICE_US: u64 = 1_000;

/// Flushes between two looks at the clock, which costs about 30 ns.
pub const FLUSHES_PER_LOOK: usize = 16;

const _: () = assert!(FLUSHES_PER_TURN_MAX.is_multiple_of(FLUSHES_PER_LOOK));

/// Envelopes taken from the mailboxes per turn, for the same reason.
pub const ENVELOPES_PER_TURN_MAX: usize = 1024;

/// Readiness events taken from the kernel at once. More showed no gain.
pub const EVENTS_PER_TURN_MAX: usize = 1024;

/// Segments gathered into one send. Published messages come in batches, so a queue has few;
/// the slices are made on the stack for each send.
pub const SEGMENTS_PER_SEND_MAX: usize = 16;

/// Connections that the kernel holds for a listener until they are accepted. The
/// kernel lowers it to `net.core.somaxconn`.
pub const LISTEN_BACKLOG: i32 = 4096;

/// Longest topic name in bytes of UTF-8, as with other brokers (NATS, Kafka: about 250).
pub const TOPIC_NAME_BYTES_MAX: usize = 255;

/// Milliseconds after which accepting is tried again when descriptors or slots ran
/// out and no connection of this shard has left since.
pub const ACCEPT_RETRY_MS: u64 = 250;

/// Milliseconds after which a shard with paused publishers looks whether the
/// mailboxes have room again.
pub const PUBLISH_RETRY_MS: u64 = 5;

/// Milliseconds after which a shard that has drained looks whether the others have.
pub const DRAIN_RETRY_MS: u64 = 5;

/// Milliseconds of one step of the timer wheel, the error of every timeout.
pub const TIMER_STEP_MS: u64 = 8;
