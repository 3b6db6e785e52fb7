//! The base, made to do the head's work, and kept for the next time.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use super::{Programs, Repository, Side, git};
use crate::rig::workshop::run;

/// The package with the fixed work, in each revision.
const WORK: &str = "bench/work";
/// How a revision from before that package lists its packages.
const MEMBERS: &str = "members = [";
/// What the kept programs were built of.
const BUILT_OF: &str = "base.json";

/// What decides what the base's programs are.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct BuiltOf {
    revision: String,
    /// The head's work, each file with its text.
    work: Vec<(String, String)>,
    compiler: String,
}

/// What was built of it.
#[derive(Serialize, Deserialize)]
struct Built {
    of: BuiltOf,
    gate_work: Option<PathBuf>,
    wsgate: Option<PathBuf>,
    remarks: Vec<String>,
}

/// Builds what is needed and is not there already.
pub(super) fn build(
    repository: &Repository,
    revision: String,
    programs: Programs,
    remarks: &mut Vec<String>,
) -> io::Result<Side> {
    let of = BuiltOf { revision: revision.clone(), work: work_files(repository)?, compiler: compiler()? };
    let file = repository.directory().join(BUILT_OF);
    let known = fs::read_to_string(&file).ok().and_then(|text| serde_json::from_str::<Built>(&text).ok());
    let known = known.filter(|known| known.of == of);
    let mut built = known.unwrap_or(Built { of, gate_work: None, wsgate: None, remarks: Vec::new() });
    let is_there = |program: &Option<PathBuf>| program.as_ref().is_some_and(|file| file.is_file());

    // A base that cannot do the work is tried again: it costs little.
    let builds_work = programs.gate_work && !is_there(&built.gate_work);
    let builds_wsgate = programs.wsgate && !is_there(&built.wsgate);
    if builds_work || builds_wsgate {
        let source = repository.source();
        repository.export(&revision, &source)?;
        if builds_work {
            built.remarks.clear();
            built.gate_work = build_work(repository, &source, &mut built.remarks)?;
        }
        if builds_wsgate {
            built.wsgate = Some(repository.build(&source, "wsgate", "base")?);
        }
        fs::write(file, serde_json::to_string(&built)?)?;
    }
    remarks.extend(built.remarks);
    Ok(Side { name: "base", revision, gate_work: built.gate_work, wsgate: built.wsgate })
}

/// Builds the fixed work of the base: the head's work if that fits, so that both do the
/// same, else the base's own, else none.
fn build_work(repository: &Repository, source: &Path, remarks: &mut Vec<String>) -> io::Result<Option<PathBuf>> {
    let (ours, theirs, own) = (repository.root.join(WORK), source.join(WORK), source.join("own-work"));
    let manifest = source.join("Cargo.toml");
    let members = fs::read_to_string(&manifest)?;
    let has_own = theirs.is_dir();
    if has_own && run(Command::new("diff").arg("-r").arg(&ours).arg(&theirs)).is_ok() {
        return repository.build(source, "gate-work", "base").map(Some);
    }
    let remark = if has_own {
        fs::rename(&theirs, &own)?;
        format!("the base has other work in {WORK}; both did the head's")
    } else {
        fs::write(&manifest, members.replacen(MEMBERS, &format!("{MEMBERS}\"{WORK}\", "), 1))?;
        format!("the base has no work in {WORK}; it did the head's")
    };
    run(Command::new("cp").arg("-r").arg(&ours).arg(&theirs))?;
    let error = match repository.build(source, "gate-work", "base") {
        Ok(program) => {
            remarks.push(remark);
            return Ok(Some(program));
        }
        Err(error) => error.to_string(),
    };
    fs::remove_dir_all(&theirs)?;
    if !has_own {
        fs::write(manifest, members)?;
        let reason = error.lines().find(|line| line.starts_with("error")).unwrap_or("it does not build");
        remarks.push(format!("the base has no work in {WORK}, and cannot do the head's: {reason}"));
        return Ok(None);
    }
    fs::rename(own, &theirs)?;
    remarks.push(format!(
        "{WORK} differs, and the head's does not build with the base: each did its own, so differences may be of \
         the work"
    ));
    repository.build(source, "gate-work", "base").map(Some)
}

fn work_files(repository: &Repository) -> io::Result<Vec<(String, String)>> {
    let files = git(&repository.root, &["ls-files", "--cached", "--others", "--exclude-standard", WORK])?;
    let read = |name: &str| Ok((name.to_owned(), fs::read_to_string(repository.root.join(name)).unwrap_or_default()));
    files.lines().map(read).collect()
}

fn compiler() -> io::Result<String> {
    let output = Command::new("rustc").arg("--version").output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
