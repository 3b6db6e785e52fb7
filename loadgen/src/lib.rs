//! loadgen: opens thousands of masked-frame WebSocket clients against any server
//! and reports what got lost, what came twice or out of order, and how long it
//! took, counted from the moment at which each message was *meant* to leave.
//!
//! ```text
//! cli -> mix: what populations do, each by a plan, and when, by a course of phases
//! run -> crew (main thread: phases, progress)
//!                 |  worker threads, each of one population
//!                 +- worker: event loop, clock, sockets
//!                      connector  who connects next, and how fast
//!                      connection one socket and its client
//!                      sockets    how sockets are waited for: epoll, io_uring
//!                      client     WebSocket, sans-IO
//!                      publisher  HTTP, sans-IO
//!                      conversation  what a client hears and says
//!                      tls        for wss://, on wsgate's
//!                      scenario   what is sent when, what was received, sans-IO
//! server_watch            what the server takes meanwhile
//! handover -> series      what was counted, second by second
//! report <- series, tally, latency, failure; threshold
//! ```
//!
//! Sockets, clocks, threads and signals are met in `worker`, `sockets`, `alarm`,
//! `files`, `interrupt`, `self_check`, `server_watch` and `crew` only. Everything else takes the time
//! and the bytes as arguments and is tested without either.

pub mod alarm;
pub mod cli;
pub mod client;
pub mod compare;
pub mod connection;
pub mod connector;
pub mod conversation;
pub mod course;
pub mod crew;
pub mod deflate;
pub mod failure;
pub mod files;
mod fold;
pub mod handover;
pub mod hdr_log;
pub mod html;
pub mod interrupt;
pub mod latency;
pub mod limits;
pub mod merge;
pub mod mix;
pub mod numbers;
pub mod order;
pub mod origin;
pub mod outputs;
pub mod payload;
pub mod plan;
pub mod profile;
pub mod progress;
pub mod prometheus;
pub mod publisher;
pub mod random;
pub mod report;
pub mod run;
pub mod scenario;
pub mod schedule;
pub mod self_check;
pub mod series;
pub mod server_watch;
pub mod shared;
pub mod sockets;
pub mod speech;
pub mod statistics;
pub mod tally;
pub mod target;
pub mod template;
pub mod threshold;
pub mod timeline;
pub mod tls;
pub mod tools;
pub mod watch;
pub mod worker;
