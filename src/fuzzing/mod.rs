//! Entry points of the fuzz targets, and of the test that replays their corpora.
//!
//! Callers: `fuzz/fuzz_targets`, a line each, and `tests/corpus.rs`. Part of the crate with
//! the feature `fuzzing` only, so that invariants can be looked at from inside.
//!
//! An entry point takes any bytes and returns, or panics at something that must never be.
//! It is deterministic, does no I/O and takes time in proportion to its input.

#![forbid(unsafe_code)]

#[cfg(feature = "server")]
mod config;
mod connection;
mod deflate;
mod frame;
mod http;
mod hub;
mod names;

/// A target's name, which is that of its corpus too, and its entry point.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    #[cfg(feature = "server")]
    ("config", config::run),
    ("connection", connection::run),
    ("deflate", deflate::run),
    ("frame", frame::run),
    ("http", http::run),
    ("hub", hub::run),
    ("names", names::run),
];

/// Runs a target by its name.
///
/// # Panics
/// If there is none of that name, and when the target finds something.
pub fn run(target: &str, data: &[u8]) {
    let Some((_, entry)) = TARGETS.iter().find(|(name, _)| *name == target) else { panic!("no target {target:?}") };
    entry(data);
}
