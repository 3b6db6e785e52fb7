//! The configuration of a running gateway, read again.

use std::ffi::OsString;

use super::Config;
use super::build::build;
use super::cli::{Asked, Command, Surroundings, read};
use super::error::ConfigError;
use super::layers::Layers;
use super::validate::validate;

/// How this process reads its configuration, and what is in force. The command line and
/// the environment stay what they were at the start; the file may change.
pub struct Reading {
    args: Vec<OsString>,
    surroundings: Surroundings,
    in_force: Layers,
}

/// A configuration that a running gateway can follow.
pub struct Reloaded {
    /// What is in force from now on: options that need a restart are as they were.
    pub config: Config,
    /// Options that have changed, each with its new value and who gave it.
    pub changed: Vec<String>,
    /// Options that were changed and need a restart to take effect, in the same way.
    pub waiting: Vec<String>,
    layers: Layers,
}

impl Reading {
    /// Reads with `args`, the program's name first, in these surroundings.
    pub fn new(args: impl IntoIterator<Item = OsString>, surroundings: Surroundings) -> Self {
        Self { args: args.into_iter().collect(), surroundings, in_force: Layers::defaults() }
    }

    /// The first reading.
    ///
    /// # Errors
    /// Anything wrong in it, and the text of `--help` and `--version`: call
    /// [`ConfigError::exit`].
    pub fn start(&mut self) -> Result<Command, ConfigError> {
        match read(self.args.iter().cloned(), &self.surroundings)? {
            Asked::Serve(layers, config) => {
                self.in_force = layers;
                Ok(Command::Serve(config))
            }
            Asked::Check(config, text) => Ok(Command::Check(config, text)),
            Asked::Print(text) => Ok(Command::Print(text)),
        }
    }

    /// Reads again. Nothing counts until it is given to [`Reading::follow`].
    ///
    /// # Errors
    /// Anything wrong in what is read, or in what would be in force then: an API key
    /// cannot be taken away from a gateway that needs one.
    pub fn again(&self) -> Result<Reloaded, ConfigError> {
        let mut layers = self.in_force.clone();
        let (mut changed, mut waiting) = (Vec::new(), Vec::new());
        if let Asked::Serve(fresh, _) = read(self.args.iter().cloned(), &self.surroundings)? {
            layers.file = fresh.file;
            for (entry, fresh) in layers.entries.iter_mut().zip(fresh.entries) {
                let list = if entry.setting.is_reloadable() { &mut changed } else { &mut waiting };
                if entry.value != fresh.value {
                    list.push(fresh.describe());
                }
                if entry.setting.is_reloadable() {
                    *entry = fresh;
                }
            }
        }
        validate(&layers)?;
        let config = build(&layers, &self.surroundings.machine);
        Ok(Reloaded { config, changed, waiting, layers })
    }

    /// What was read again is in force.
    pub fn follow(&mut self, reloaded: Reloaded) {
        self.in_force = reloaded.layers;
    }
}
