//! What loadgen says, against servers of known behaviour that log what they did.
//!
//! Counts and verdicts must be exactly those of the log. How exact times are is
//! measured by `bench truth`: a busy machine makes everything slower, so a test can
//! only hold that nothing was faster than its server.

#[path = "../common/mod.rs"]
mod common;

mod delays;
mod endings;
mod faults;
mod held_up;
mod log;
mod omission;
