//! Where, when and how a run was made, for who reads its report later.
#![allow(clippy::disallowed_methods)] // When it was is for people; nothing is timed by it.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::random::Random;

/// A run's circumstances.
#[derive(Clone, Default, PartialEq, Debug, Serialize, Deserialize)]
pub struct Origin {
    /// loadgen's version.
    pub loadgen: String,
    /// The command line. Values of `--header` are left out: they may be secrets.
    pub command: String,
    /// The run's own number, in hexadecimal digits. Older reports have none.
    #[serde(default)]
    pub run: Option<String>,
    /// What `--label` said.
    pub label: Option<String>,
    /// When the run was started, in seconds since 1970 (UTC).
    pub started_at: f64,
    /// The machine's name.
    pub host: String,
    /// Its operating system and architecture.
    pub system: String,
    /// Processor cores that loadgen may use.
    pub cores: usize,
}

impl Origin {
    /// This process, now.
    pub fn here(arguments: impl Iterator<Item = String>, label: Option<String>) -> Self {
        let uname = rustix::system::uname();
        let part = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
        Self {
            loadgen: env!("CARGO_PKG_VERSION").to_owned(),
            command: command(arguments),
            run: Random::from_system().ok().map(|mut random| format!("{:016x}", random.next_u64())),
            label,
            started_at: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64()),
            host: part(uname.nodename()),
            system: format!("{} {} {}", part(uname.sysname()), part(uname.release()), part(uname.machine())),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

/// The arguments as a shell reads them, without secrets.
fn command(arguments: impl Iterator<Item = String>) -> String {
    let mut words = vec!["loadgen".to_owned()];
    let mut is_header = false;
    for argument in arguments.skip(1) {
        let word = match argument.strip_prefix("--header=") {
            _ if is_header => without_value(&argument),
            Some(header) => format!("--header={}", without_value(header)),
            None => argument.clone(),
        };
        is_header = argument == "--header";
        words.push(quoted(&word));
    }
    words.join(" ")
}

fn without_value(header: &str) -> String {
    match header.split_once(':') {
        Some((name, _)) => format!("{name}: ..."),
        None => "...".to_owned(),
    }
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,%@+?&".contains(c);
    if !word.is_empty() && word.chars().all(|c| plain(c) && c != '?' && c != '&') {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_can_be_repeated_and_holds_no_secret() {
        let arguments =
            ["x/loadgen", "echo", "ws://a/?b=c", "--header", "Authorization: Bearer abc", "--fail-if", "p99 > 5ms"];
        let line = command(arguments.into_iter().map(str::to_owned));
        assert_eq!(line, "loadgen echo 'ws://a/?b=c' --header 'Authorization: ...' --fail-if 'p99 > 5ms'");
        let line = command(["loadgen", "--header=Cookie: x=y", "it's"].into_iter().map(str::to_owned));
        assert_eq!(line, "loadgen '--header=Cookie: ...' 'it'\\''s'");
    }
}
