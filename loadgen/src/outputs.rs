//! Files about a run: opened before it, so that a wrong path costs nobody a run.
#![allow(clippy::disallowed_methods)] // The interval log's header has the wall clock's time.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::cli::OutputArgs;
use crate::hdr_log::{HdrLog, UNCORRECTED, distribution};
use crate::html;
use crate::prometheus::Prometheus;
use crate::report::Report;
use crate::server_watch::ServerWatch;
use crate::watch::Watch;

/// What is written when the run is over.
#[derive(Debug)]
pub struct Outputs {
    html: Option<Target>,
    distribution: Option<Target>,
    /// The distribution from the actual send, beside the other.
    uncorrected: Option<Target>,
}

#[derive(Debug)]
struct Target {
    path: PathBuf,
    file: File,
}

impl Target {
    fn create(path: &Path) -> Result<Self, String> {
        let file = File::create(path).map_err(|error| cannot_write(path, &error))?;
        Ok(Self { path: path.to_owned(), file })
    }

    fn write(mut self, text: &str) -> Result<(), String> {
        self.file.write_all(text.as_bytes()).map_err(|error| cannot_write(&self.path, &error))
    }
}

fn cannot_write(path: &Path, error: &io::Error) -> String {
    format!("cannot write {}: {error}", path.display())
}

impl Outputs {
    /// Opens what is asked for; with it, who looks at the run while it lasts. An error
    /// carries the text for the user.
    pub fn open(output: &OutputArgs, is_open_loop: bool) -> Result<(Self, Vec<Box<dyn Watch>>), String> {
        let create = |path: &Option<PathBuf>| path.as_deref().map(Target::create).transpose();
        let uncorrected = output.hgrm.as_deref().filter(|_| is_open_loop).map(beside);
        let outputs = Self {
            html: create(&output.html)?,
            distribution: create(&output.hgrm)?,
            uncorrected: create(&uncorrected)?,
        };
        let mut watches: Vec<Box<dyn Watch>> = output.progress.watch().into_iter().collect();
        if let Some(Target { file, .. }) = create(&output.hdr_log)? {
            watches.push(Box::new(HdrLog::new(file, is_open_loop, SystemTime::now)));
        }
        if let Some(address) = output.prometheus {
            let prometheus =
                Prometheus::start(address).map_err(|error| format!("cannot listen on {address}: {error}"))?;
            eprintln!("loadgen: metrics at http://{}/metrics", prometheus.address());
            watches.push(Box::new(prometheus));
        }
        if let Some(server) = ServerWatch::open(&output.pid, &output.metrics)? {
            watches.push(Box::new(server));
        }
        Ok((outputs, watches))
    }

    /// Writes the files, each that can be written.
    ///
    /// # Errors
    /// The first that cannot.
    pub fn write(self, report: &Report) -> Result<(), String> {
        let Self { html, distribution: latency, uncorrected } = self;
        let texts = [
            (html, &html::report as &dyn Fn(&Report) -> String),
            (latency, &|report| distribution(&report.histograms.latency)),
            (uncorrected, &|report| distribution(&report.histograms.service)),
        ];
        texts
            .into_iter()
            .filter_map(|(target, text)| Some((target?, text)))
            .map(|(target, text)| target.write(&text(report)))
            .fold(Ok(()), Result::and)
    }
}

/// `run.hgrm` has `run.uncorrected.hgrm` beside it.
fn beside(path: &Path) -> PathBuf {
    let extension = path.extension().map_or(String::new(), |extension| format!(".{}", extension.to_string_lossy()));
    path.with_extension(format!("{UNCORRECTED}{extension}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_distribution_lies_beside() {
        assert_eq!(beside(Path::new("a/run.hgrm")), Path::new("a/run.uncorrected.hgrm"));
        assert_eq!(beside(Path::new("a.b/run")), Path::new("a.b/run.uncorrected"));
    }
}
