//! How a run went, in a word and in an exit code.

use serde::{Deserialize, Serialize};

/// Usage, or a machine that cannot do what was asked; the same as clap's own.
pub const EXIT_USAGE: u8 = 2;
/// loadgen itself failed.
pub const EXIT_INTERNAL: u8 = 4;

/// How a run went. When several apply, the one that stands first here counts: what a
/// run that was not valid found out about the server may be loadgen's own doing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// No connection could be opened at all.
    NotConnected,
    /// loadgen itself was the limit.
    Invalid,
    /// Messages were lost, duplicated, reordered or corrupted, or connections failed.
    Faults,
    /// A `--fail-if` was met, or could not be judged.
    ThresholdFailed,
    /// Every message arrived once, in order, unchanged; no connection failed.
    Ok,
}

impl Verdict {
    /// The process's exit code.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Faults => 1,
            Self::NotConnected => 3,
            Self::ThresholdFailed => 5,
            Self::Invalid => 6,
        }
    }

    /// The verdict as reports show it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Faults => "FAILED: faults",
            Self::NotConnected => "FAILED: not connected",
            Self::ThresholdFailed => "FAILED: threshold",
            Self::Invalid => "INVALID",
        }
    }
}
