//! loadgen: opens thousands of masked-frame WebSocket clients against any server
//! and reports what got lost, what came twice or out of order, and how long it
//! took, counted from the moment at which each message was *meant* to leave.
//!
//! ```text
//! cli -> plan -> run (main thread: phases, progress)
//!                 |  one worker thread per core
//!                 +- worker: event loop, clock, sockets
//!                      connector  who connects next, and how fast
//!                      connection one socket and its client
//!                      client     WebSocket, sans-IO
//!                      tls        for wss://, on wsgate's
//!                      scenario   what is sent when, what was received, sans-IO
//! report <- tally, latency, failure
//! ```
//!
//! Sockets, clocks and threads are met in `worker`, `connection`, `alarm`,
//! `clock`, `files` and `run` only. Everything else takes the time and the bytes
//! as arguments and is tested without either.

pub mod alarm;
pub mod cli;
pub mod client;
pub mod connection;
pub mod connector;
pub mod failure;
pub mod files;
pub mod latency;
pub mod limits;
pub mod order;
pub mod payload;
pub mod plan;
pub mod profile;
pub mod progress;
pub mod random;
pub mod report;
pub mod run;
pub mod scenario;
pub mod schedule;
pub mod self_check;
pub mod shared;
pub mod speech;
pub mod tally;
pub mod target;
pub mod template;
pub mod tls;
pub mod worker;
