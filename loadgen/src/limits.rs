//! Bounds and waits, with their units and reasons.

use std::time::Duration;

/// Connections that one run may have: what the sender field of a payload can hold.
pub const CONNECTIONS_MAX: usize = 1 << 18;
/// Worker threads that one run may have.
pub const THREADS_MAX: usize = 256;
/// Threads that are started unless asked otherwise; above it a run is rarely
/// limited by its load generator.
pub const THREADS_DEFAULT_MAX: usize = 16;
/// Longest payload in bytes; wsgate's largest limit (`/echo`).
pub const PAYLOAD_BYTES_MAX: usize = 16 << 20;
/// Messages per connection or publisher that may wait for their answer.
pub const IN_FLIGHT_MAX: u32 = 65_536;
/// Longest run: the time field of a payload reaches further (78 hours).
pub const DURATION_MAX: Duration = Duration::from_secs(24 * 3600);
/// Highest rates, of messages and of connects, per second.
pub const RATE_MAX: f64 = 10_000_000.0;

/// Connects per second unless asked otherwise: 15,000 connections in 7.5 s, and
/// well below what fills a listener's backlog in the time of a slow turn.
pub const RAMP_DEFAULT: f64 = 2_000.0;
/// Connections of one worker that may be between connect and 101. Past it the
/// server is the limit, and more SYNs would only be dropped and sent again.
pub const HANDSHAKES_PENDING_MAX: usize = 128;
/// Failures without a single success after which a worker stops trying.
pub const HOPELESS_FAILURES: usize = 16;
/// Bytes of a response's head.
pub const RESPONSE_HEAD_BYTES_MAX: usize = 16 * 1024;

/// Time between the last 101 and the first message: every worker has heard of the start.
pub const START_LEAD: Duration = Duration::from_millis(20);
/// The same for a fan-out: a server may subscribe a connection after its 101.
pub const SUBSCRIBE_LEAD: Duration = Duration::from_millis(250);
/// How long closing handshakes are waited for.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Closed-loop fan-out: a message that has not reached every subscriber by then
/// no longer holds up the next one. It counts as lost if it never arrives.
pub const DELIVERY_PATIENCE: Duration = Duration::from_secs(1);

/// The receive buffer that all connections of a worker share.
pub const RECEIVE_BUFFER_BYTES: usize = 128 * 1024;
/// Full buffers read from one connection before the others get their turn.
pub const READS_PER_TURN_MAX: usize = 8;
/// Events taken from the kernel at once.
pub const EVENTS_PER_TURN: usize = 1024;
/// Connects that one turn may begin.
pub const CONNECTS_PER_TURN: usize = 64;
/// Bytes that may wait for a server that does not read, per connection, beside one
/// message. Past it the connection counts as failed: what waits is not load.
pub const UNSENT_BYTES_MAX: usize = 4 << 20;
/// Output buffers kept for the next connection that has something to send.
pub const SPARE_BUFFERS_MAX: usize = 1024;
/// Capacity above which an output buffer is not kept, beside one message.
pub const SPARE_BUFFER_BYTES_MAX: usize = 64 * 1024;

/// Storms in one run.
pub const STORMS_MAX: u32 = 1_000;
/// Receive buffer of a reader that stalls: little is hidden from the server in it.
pub const STALLED_BUFFER_BYTES: usize = 4096;

/// A run is marked late if its schedule lag (99th percentile) is above both this...
pub const SCHEDULE_LAG_MAX: Duration = Duration::from_millis(1);
/// ... and this part of its latency (99th percentile): less changes no conclusion.
pub const SCHEDULE_LAG_PART_MAX: f64 = 0.1;
/// The rate counts as held if messages leave in the time for them and this part of it more...
pub const SENDING_LATE_PART_MAX: f64 = 0.01;
/// ... or this time, in which nobody sees a rate.
pub const SENDING_LATE_MAX: Duration = SCHEDULE_LAG_MAX;
/// How often a churn that waits for the server alone looks whether it goes on: up to so much
/// of loadgen's own lateness counts as the server's there.
pub const CHURN_LOOK_INTERVAL: Duration = Duration::from_millis(5);
/// How long answers are waited for at most once somebody has asked for the report.
pub const INTERRUPTED_GRACE_MAX: Duration = Duration::from_secs(1);
/// How long other connections may take to be cut after the first, when the run is over.
pub const CUT_LINGER: Duration = Duration::from_millis(300);
/// Time between two updates of the progress line.
pub const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

const _: () = assert!(UNSENT_BYTES_MAX > SPARE_BUFFER_BYTES_MAX);
