//! Configuration out of environment and flags: a `Config` or an error, never a panic.
//!
//! Input: UTF-8 lines; `--flag=value` is an argument, `NAME=value` the environment
//! variable `WSGATE_NAME`. Files are left out, and so is everything that names one.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::config::cli::{Command, Surroundings, parse_in};
use crate::config::{ENVIRONMENT_PREFIX, FILE_VARIABLE, Machine};

pub(super) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let lines = text.lines().filter(|line| !line.contains('\0'));
    let (flags, variables): (Vec<_>, Vec<_>) = lines.partition(|line| line.starts_with('-'));
    let flags: Vec<_> = flags.into_iter().filter(|flag| !flag.starts_with("--config")).map(OsString::from).collect();
    let environment = variables
        .iter()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (OsString::from(format!("{ENVIRONMENT_PREFIX}{name}")), value.into()))
        .filter(|(name, _)| name != FILE_VARIABLE)
        .collect();
    let surroundings = Surroundings {
        directory: PathBuf::from("/nonexistent"),
        environment,
        machine: Machine { parallelism: 2, files_max: Some(20_000), files_of_each_shard: true },
    };
    let arguments = |words: &[&str]| words.iter().map(OsString::from).chain(flags.clone()).collect::<Vec<_>>();
    match parse_in(arguments(&["wsgate"]), &surroundings) {
        Ok(Command::Serve(config)) => {
            assert!((1..=64).contains(&config.shards));
            assert!(config.limits.reply_bytes_watermark <= config.limits.queue_bytes_max);
            let check = parse_in(arguments(&["wsgate", "config", "check"]), &surroundings);
            assert!(matches!(check, Ok(Command::Check(_, text)) if !text.is_empty()), "what is served can be printed");
        }
        Ok(Command::Check(_, text) | Command::Print(text)) => assert!(!text.is_empty()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
