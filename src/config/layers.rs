//! The four layers in rising priority: defaults, file, environment, flags.
//!
//! Every value of every layer is checked, also one that a higher layer replaces: a
//! mistake in the file is found today, not on the day when a variable goes away.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::error::ConfigError;
use super::file;
use super::setting::{self, ENVIRONMENT_PREFIX, Setting};
use super::table::SETTINGS;
use super::value::{Given, Value};

/// The file that is read if nobody names one, in the working directory.
pub const FILE_DEFAULT: &str = "wsgate.toml";
/// The environment variable that names the file; `--config` goes before it.
pub const FILE_VARIABLE: &str = "WSGATE_CONFIG";

/// Who gave a value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// Nobody.
    Default,
    /// The file.
    File {
        /// Its path as given.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
    },
    /// An environment variable of that name.
    Environment(String),
    /// A flag of that name, without dashes.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{} line {line}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag --{name}"),
        }
    }
}

/// One option with the value that is in force.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) setting: &'static Setting,
    pub(super) value: Value,
    pub(super) source: Source,
}

impl Entry {
    /// `key = value (source)`, as messages name it.
    pub(super) fn describe(&self) -> String {
        format!("{} = {} ({})", self.setting.key, self.setting.kind.show(&self.value), self.source)
    }
}

/// All options with the values that are in force.
#[derive(Clone)]
pub(super) struct Layers {
    pub(super) entries: Vec<Entry>,
    /// The file that was read, if any.
    pub(super) file: Option<PathBuf>,
    /// Variables that look like ours but belong to no option. They are no error:
    /// Kubernetes sets `WSGATE_PORT` and more for a service of that name.
    pub(super) variables_ignored: Vec<String>,
}

impl Layers {
    /// What is in force when nobody says anything.
    pub(super) fn defaults() -> Self {
        let entry =
            |setting: &'static Setting| Entry { setting, value: setting.default_value(), source: Source::Default };
        Self { entries: SETTINGS.iter().map(entry).collect(), file: None, variables_ignored: Vec::new() }
    }

    /// The entry of that key, which the table must declare.
    pub(super) fn entry(&self, key: &str) -> &Entry {
        self.entries.iter().find(|entry| entry.setting.key == key).expect("the table declares this key")
    }

    /// The value of that key, which the table must declare.
    pub(super) fn value(&self, key: &str) -> &Value {
        &self.entry(key).value
    }

    /// Reads the file that was named, or `wsgate.toml` in `directory` if there is one.
    pub(super) fn apply_file(&mut self, named: Option<PathBuf>, directory: &Path) -> Result<(), ConfigError> {
        let path = named.clone().unwrap_or_else(|| PathBuf::from(FILE_DEFAULT));
        let text = match std::fs::read_to_string(directory.join(&path)) {
            Ok(text) => text,
            Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(ConfigError::FileUnreadable { path, error }),
        };
        for assignment in file::parse(&text, &path)? {
            let source = Source::File { path: path.clone(), line: assignment.line };
            match setting::find(&assignment.key) {
                Some(setting) => self.set(setting, &assignment.given, source)?,
                None => {
                    let nearest = setting::nearest(&assignment.key);
                    return Err(ConfigError::UnknownKey { key: assignment.key, given_by: source, nearest });
                }
            }
        }
        self.file = Some(path);
        Ok(())
    }

    /// Takes the `WSGATE_*` variables among these.
    pub(super) fn apply_environment(&mut self, environment: &[(OsString, OsString)]) -> Result<(), ConfigError> {
        for (name, value) in environment {
            let Some(name) = name.to_str().filter(|name| name.starts_with(ENVIRONMENT_PREFIX)) else { continue };
            match SETTINGS.iter().find(|setting| setting.variable() == name) {
                Some(setting) => self.set(setting, &given(value), Source::Environment(name.to_owned()))?,
                None if name == FILE_VARIABLE => {}
                None => self.variables_ignored.push(name.to_owned()),
            }
        }
        Ok(())
    }

    /// Takes one flag's value.
    pub(super) fn apply_flag(&mut self, setting: &'static Setting, value: &OsString) -> Result<(), ConfigError> {
        let flag = setting.flag().expect("clap knows only flags that there are");
        self.set(setting, &given(value), Source::Flag(flag))
    }

    fn set(&mut self, setting: &'static Setting, given: &Given, source: Source) -> Result<(), ConfigError> {
        let Some(value) = setting.read(given) else {
            let value = setting.kind.show_given(given);
            return Err(ConfigError::Value { key: setting.key, value, given_by: source, allowed: setting.allowed() });
        };
        let entry = self.entries.iter_mut().find(|entry| entry.setting.key == setting.key);
        let entry = entry.expect("there is an entry for each setting");
        (entry.value, entry.source) = (value, source);
        Ok(())
    }
}

/// Text from outside; what is not UTF-8 is no value of any option.
fn given(value: &OsString) -> Given {
    match value.to_str() {
        Some(text) => Given::Text(text.to_owned()),
        None => Given::Other(format!("{value:?}")),
    }
}
