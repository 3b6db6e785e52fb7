//! Fixed work of the core: instructions, allocations and bytes, of both revisions.

use std::io;
use std::path::Path;

use serde::Deserialize;

use super::callgrind::{self, Profile};
use super::metric::{Kind, Metric, differences};
use super::sides::{Side, Sides};
use crate::rig::pattern::matches;

/// What is counted, in `bench/work/src/counted.rs`.
const COUNTED: &str = "gate_work::counted::collect*";

/// As `gate-work` prints it.
#[derive(Deserialize, Debug)]
struct Counted {
    unit: String,
    units: u64,
    allocations: u64,
    allocated_bytes: u64,
    kept_bytes: i64,
}

/// One run.
struct Run {
    counted: Counted,
    profile: Profile,
}

/// Names of the head's work that one of these patterns selects.
pub(super) fn names(sides: &Sides, patterns: &[String]) -> io::Result<Vec<String>> {
    let Some(program) = &sides.head.gate_work else { return Ok(Vec::new()) };
    let output = std::process::Command::new(program).output()?;
    let names = String::from_utf8_lossy(&output.stdout);
    let is_wanted = |name: &&str| patterns.iter().any(|pattern| matches(pattern, name));
    Ok(names.lines().filter(is_wanted).map(str::to_owned).collect())
}

/// Does one piece of work in both revisions.
pub(super) fn measure(sides: &Sides, name: &str) -> io::Result<Vec<Metric>> {
    let run = |side| run(side, name, &sides.directory, &sides.source);
    let (head, base) = (run(&sides.head)?, run(&sides.base)?);
    let Some(head) = head else { return Ok(Vec::new()) };
    let figure = |run: &Run, kind| {
        let Counted { units, allocations, allocated_bytes, kept_bytes, .. } = run.counted;
        let value = match kind {
            Kind::Allocations => allocations as f64,
            Kind::AllocatedBytes => allocated_bytes as f64,
            Kind::KeptBytes => kept_bytes as f64,
            _ => run.instructions(),
        };
        value / units as f64
    };
    let metric = |kind: Kind| Metric {
        name: format!("{name}/{}", kind.name()),
        kind,
        per: head.counted.unit.clone(),
        base: base.as_ref().map(|run| figure(run, kind)),
        head: Some(figure(&head, kind)),
        places: match &base {
            Some(base) if kind == Kind::Instructions => {
                let of = |run: &Run| run.counted.units as f64;
                differences((&base.profile, of(base)), (&head.profile, of(&head)), |_, cost| cost.instructions)
            }
            _ => Vec::new(),
        },
    };
    Ok([Kind::Instructions, Kind::Allocations, Kind::AllocatedBytes, Kind::KeptBytes].map(metric).into())
}

/// Instructions of one piece of work for each unit; `None` if this revision cannot do it.
pub(super) fn instructions(side: &Side, name: &str, directory: &Path, source: &Path) -> io::Result<Option<f64>> {
    Ok(run(side, name, directory, source)?.map(|run| run.instructions() / run.counted.units as f64))
}

impl Run {
    fn instructions(&self) -> f64 {
        self.profile.values().map(|cost| cost.instructions).sum::<u64>() as f64
    }
}

/// `None` if this revision has no such work.
fn run(side: &Side, name: &str, directory: &Path, source: &Path) -> io::Result<Option<Run>> {
    let Some(program) = &side.gate_work else { return Ok(None) };
    let out = directory.join(format!("{}-{name}.callgrind", side.name));
    let output = callgrind::command(program, &out, Some(COUNTED)).arg(name).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        if said.contains("no work is called") {
            return Ok(None);
        }
        return Err(io::Error::other(format!("work {name} of {side} ended with {}: {}", output.status, said.trim())));
    }
    let counted = serde_json::from_slice(&output.stdout)?;
    let profile = callgrind::read(&out, source)?;
    if profile.values().all(|cost| cost.instructions == 0) {
        return Err(io::Error::other(format!("callgrind counted nothing of {name}: {COUNTED} was never entered")));
    }
    Ok(Some(Run { counted, profile }))
}
