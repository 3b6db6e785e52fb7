//! Where measurements are taken: two processors and a build of wsgate.

use std::error::Error;
use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;

use super::machine::Machine;
use super::server::{self, Launch, Server};
use super::workshop::Workshop;

/// See the module. While there is one, this thread runs on the load's processor.
#[derive(Debug)]
pub(crate) struct Stand {
    pub(crate) machine: Machine,
    pub(crate) workshop: Workshop,
}

impl Stand {
    /// Builds wsgate unless a build is named, and takes the load's processor.
    pub(crate) fn set_up(wsgate: Option<&Path>, baseline: Option<&Path>) -> Result<Self, Box<dyn Error>> {
        if cfg!(debug_assertions) {
            return Err("a debug build measures nothing of use: cargo run --release -p bench".into());
        }
        let machine = Machine::look()?;
        wsgate::driver::machine::raise_descriptor_limit();
        eprintln!("building what is to be measured");
        let workshop = Workshop::open(wsgate, baseline)?;
        server::bind_to(&[machine.load_on])?;
        Ok(Self { machine, workshop })
    }

    /// Starts wsgate with these options beside the usual ones. One shard has a processor
    /// for itself, a second one shares the load's.
    pub(crate) fn start_wsgate(&self, shards: usize, options: &[&str]) -> io::Result<Server> {
        let mut launch = Launch::wsgate(&self.workshop.wsgate, shards);
        launch.command.args(options);
        self.start(launch, shards, "wsgate")
    }

    /// Starts a server that has so many threads to keep busy.
    pub(crate) fn start(&self, launch: Launch, shards: usize, name: &str) -> io::Result<Server> {
        let processors = [self.machine.server_on, self.machine.load_on];
        let log = self.workshop.directory().join(format!("{name}.log"));
        Server::start(launch, &processors[..shards.min(processors.len())], &log)
    }
}

/// Writes everything that was measured to a file, if one is named.
pub(crate) fn write_json(file: Option<&Path>, report: &impl Serialize) -> Result<(), Box<dyn Error>> {
    let Some(file) = file else { return Ok(()) };
    let text = serde_json::to_string_pretty(report)?;
    fs::write(file, text + "\n").map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    Ok(())
}

/// Reads a number of seconds as options have it.
pub(crate) fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.1..=600.0).contains(&seconds) => Ok(seconds),
        _ => Err("takes a number of seconds from 0.1 to 600".to_owned()),
    }
}
