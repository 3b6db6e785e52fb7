//! Why wsgate does not start with what it was given, and what to do about it.

use std::io::{self, Write as _};
use std::path::PathBuf;

use super::layers::Source;

/// A configuration that is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A value that its option does not take.
    #[error("{key} = {value} ({given_by}) is refused: it takes {allowed}")]
    Value {
        /// The option's key.
        key: &'static str,
        /// The value as it was written; hidden if it is a secret.
        value: String,
        /// Who gave it.
        given_by: Source,
        /// Which values the option takes, with unit and range.
        allowed: String,
    },
    /// A key in the file that no option has.
    #[error("{key} ({given_by}) is no option{}; `wsgate config example` lists all", did_you_mean(*nearest))]
    UnknownKey {
        /// The key with its section.
        key: String,
        /// Where it stands.
        given_by: Source,
        /// The key that may have been meant.
        nearest: Option<&'static str>,
    },
    /// The file is missing, although it was asked for, or cannot be read.
    #[error("cannot read the configuration file {}: {error}", path.display())]
    FileUnreadable {
        /// Its path as given.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The file is not TOML.
    #[error("{} line {line} is not TOML: {message}", path.display())]
    FileSyntax {
        /// Its path as given.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong. Never quotes the file, which may hold a secret.
        message: String,
    },
    /// Strangers would be served without what they may do being decided.
    #[error("{why}\n\n{lines}")]
    Undecided {
        /// What asks for a decision, and where to write it.
        why: String,
        /// What to write, as TOML that makes wsgate start.
        lines: String,
    },
    /// The flags make no sense, or only ask for help or the version.
    #[error(transparent)]
    CommandLine(#[from] clap::Error),
}

impl ConfigError {
    /// Ends the process with the right text and status: 0 for help and version (on
    /// standard output), 2 for anything else (on standard error).
    pub fn exit(self) -> ! {
        match self {
            Self::CommandLine(error) => error.exit(),
            other => {
                // Standard error may be on a full disk; the status says it all the same.
                let _ = writeln!(io::stderr(), "wsgate: {other}");
                std::process::exit(2)
            }
        }
    }
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map(|key| format!(" (did you mean {key}?)")).unwrap_or_default()
}
