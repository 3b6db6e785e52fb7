//! Bounds that are not for the operator to set, with their units and reasons.
//! What an operator may set is in `config`.

#![forbid(unsafe_code)]

/// The one receive buffer of an event loop. A masked frame of 64 KiB is 65,550 bytes, so
/// a buffer of 64 KiB would cut each one; small enough to stay in the L2 cache.
pub const RECEIVE_BUFFER_BYTES: usize = 128 * 1024;

/// Connections accepted per turn, so that a storm of them does not hold up those
/// that are open. What is left waits in the kernel's queue until the next turn.
pub const ACCEPTS_PER_TURN_MAX: u64 = 64;

/// Steps of TLS handshakes per turn. A key exchange with a signature costs about 0.1 ms
/// with an elliptic key and 1 ms with RSA of 2048 bits, as much as a slice of flushes.
pub const TLS_HANDSHAKE_STEPS_PER_TURN_MAX: usize = 8;

/// Connections flushed before a loop looks at its sockets again: a fan-out to many does
/// not hold others up. A send costs 2 to 14 µs, with how many connections there are and
/// what the machine does beside, so the time of a slice is bounded too.
pub const FLUSHES_PER_TURN_MAX: usize = 256;

/// Microseconds after which a slice of flushes ends.
pub const FLUSH_SLICE_US: u64 = 1_000;

/// Flushes between two looks at the clock, which costs about 30 ns.
pub const FLUSHES_PER_LOOK: usize = 16;

/// Microseconds of a turn after which no more connections are read, so that many that send
/// as fast as they can do not hold up the flush of what has come; the others are read in
/// the next turns.
pub const READ_SLICE_US: u64 = 1_000;

/// Flushes of others, while there are any, for each connection that is ending. To close a
/// socket took about as long as seven sends, and with each in turn a fan-out beside thousands
/// of connections that ran out of time took seven times as long (docs/benchmarking.md, attack).
pub const FLUSHES_PER_ENDING: usize = 16;

/// How much less a turn accepts and reads, and how many steps less of TLS handshakes it
/// takes, while flushes of the last one are left. Without it a fan-out of four slices waits
/// for four full turns of an attacker's handshakes.
pub const HASTE: u64 = 4;

const _: () = assert!(TLS_HANDSHAKE_STEPS_PER_TURN_MAX as u64 >= HASTE, "handshakes go on in any case");

/// Bytes that are inflated of one read before others have a turn, and the message that goes
/// over them. One read of `RECEIVE_BUFFER_BYTES` may hold a thousand times as much as it is long.
pub const INFLATED_BYTES_PER_READ: usize = 512 * 1024;

/// Bytes between two looks at the clock while reading: much can come of few of them.
pub const READ_BYTES_PER_LOOK: usize = 16 * 1024;

/// What a read counts for beside its bytes: a look after every 16 small ones.
pub const READ_BYTES_LEAST: usize = READ_BYTES_PER_LOOK / 16;

/// Envelopes taken from the mailboxes per turn, for the same reason.
pub const ENVELOPES_PER_TURN_MAX: usize = 1024;

/// Connections that a loop may hold more than another before it lets that one go first at
/// a listener that they share. Small against what a loop holds, and large enough that a
/// burst does not end in waiting.
pub const SHARED_ACCEPT_LEAD: u64 = 16;

/// Milliseconds for which it does. A loop that sleeps wakes in less.
pub const SHARED_ACCEPT_WAIT_MS: u64 = 1;

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

/// Milliseconds between two batches of connections that are told to go, on average: short
/// against the time in which they come back, long against a turn.
pub const DRAIN_STEP_MS: u64 = 40;

/// Connections that are told to go per turn at most, so that those which are left are
/// still served in time.
pub const DRAIN_BATCH_MAX: usize = 256;

/// Milliseconds of one step of the timer wheel, the error of every timeout.
pub const TIMER_STEP_MS: u64 = 8;
