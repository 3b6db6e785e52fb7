//! The two revisions that are compared: their sources and their builds.

mod base;

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::rig::workshop::run;

/// Which programs are needed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Programs {
    pub(super) gate_work: bool,
    pub(super) wsgate: bool,
}

/// One of the two.
#[derive(Debug)]
pub(super) struct Side {
    /// `base` or `head`.
    pub(super) name: &'static str,
    /// The commit; of the head, the one that the working tree is based on.
    pub(super) revision: String,
    /// The fixed work; `None` if this revision cannot do it.
    pub(super) gate_work: Option<PathBuf>,
    /// `None` if no server is needed.
    pub(super) wsgate: Option<PathBuf>,
}

/// Both of them.
#[derive(Debug)]
pub(super) struct Sides {
    pub(super) base: Side,
    pub(super) head: Side,
    /// What somebody who reads the figures must know about the builds.
    pub(super) remarks: Vec<String>,
    /// Where the source of either was when it was built.
    pub(super) source: PathBuf,
    /// Where builds and whatever is measured of them are put.
    pub(super) directory: PathBuf,
}

impl Sides {
    /// Builds a commit, and the working tree around the current directory.
    pub(super) fn build(repository: &Repository, base: &str, programs: Programs) -> io::Result<Self> {
        let base_revision = repository.commit(base)?;
        let head_revision = repository.commit("HEAD")?;
        let mut remarks = Vec::new();
        if repository.has_changes()? {
            remarks.push("the head has changes that are not committed".to_owned());
        } else if base_revision == head_revision {
            remarks.push("base and head are the same commit".to_owned());
        }
        // One after the other in the same place: what they depend on is compiled once, and
        // nothing differs between the two but what was changed.
        let base = base::build(repository, base_revision, programs, &mut remarks)?;
        let source = repository.source();
        repository.copy_to(&source)?;
        let build = |program| repository.build(&source, program, "head");
        let head = Side {
            name: "head",
            revision: head_revision,
            gate_work: programs.gate_work.then(|| build("gate-work")).transpose()?,
            wsgate: programs.wsgate.then(|| build("wsgate")).transpose()?,
        };
        Ok(Self { base, head, remarks, source, directory: repository.directory() })
    }
}

impl fmt::Display for Side {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the {} ({})", self.name, self.revision.get(..12).unwrap_or(&self.revision))
    }
}

/// The repository that the current directory is in.
pub(super) struct Repository {
    pub(super) root: PathBuf,
    /// Where cargo builds it.
    target: PathBuf,
}

impl Repository {
    pub(super) fn find() -> io::Result<Self> {
        let root = git(Path::new("."), &["rev-parse", "--show-toplevel"])?;
        let root = PathBuf::from(root);
        Self::at(target_of(&root), root)
    }

    /// The one that this program was built from, wherever it is called.
    pub(super) fn of_this_program() -> io::Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).to_owned();
        Self::at(target_of(&root), root)
    }

    fn at(target: PathBuf, root: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(target.join("bench/gate"))?;
        Ok(Self { target: fs::canonicalize(target)?, root })
    }

    /// Where builds and whatever is measured of them are put.
    pub(super) fn directory(&self) -> PathBuf {
        self.target.join("bench/gate")
    }

    /// The commit that a name stands for.
    pub(super) fn commit(&self, name: &str) -> io::Result<String> {
        git(&self.root, &["rev-parse", "--verify", "--end-of-options", &format!("{name}^{{commit}}")])
            .map_err(|error| io::Error::other(format!("{name:?} is no revision here: {error}")))
    }

    /// All tags, the oldest first.
    pub(super) fn tags(&self) -> io::Result<Vec<String>> {
        Ok(git(&self.root, &["tag", "--sort=creatordate"])?.lines().map(str::to_owned).collect())
    }

    /// When a commit was made, as year-month-day.
    pub(super) fn date(&self, revision: &str) -> io::Result<String> {
        git(&self.root, &["show", "--no-patch", "--format=%cs", revision])
    }

    /// Builds a commit for the history, with the work of today if that fits it.
    pub(super) fn build_past(&self, revision: &str) -> io::Result<Side> {
        base::build(self, revision.to_owned(), Programs { gate_work: true, wsgate: true }, &mut Vec::new())
    }

    /// A file as it was at a commit; `None` if there was none.
    pub(super) fn file_at(&self, revision: &str, path: &str) -> Option<String> {
        git(&self.root, &["show", &format!("{revision}:{path}")]).ok()
    }

    fn has_changes(&self) -> io::Result<bool> {
        Ok(!git(&self.root, &["status", "--porcelain", "--untracked-files=no"])?.is_empty())
    }

    /// Where the source that is being built is put.
    pub(super) fn source(&self) -> PathBuf {
        self.directory().join("source")
    }

    /// Writes the source of a commit, and nothing else, into a directory. Its files are new,
    /// so that cargo builds them whatever it has built there before.
    pub(super) fn export(&self, revision: &str, to: &Path) -> io::Result<()> {
        make_empty(to)?;
        let archive = to.with_extension("tar");
        run(Command::new("git")
            .args(["archive", "--format=tar", "--output"])
            .arg(&archive)
            .arg(revision)
            .current_dir(&self.root))?;
        run(Command::new("tar").args(["--extract", "--touch", "--file"]).arg(&archive).arg("--directory").arg(to))?;
        fs::remove_file(archive)
    }

    /// The same with the working tree as it is, but for what git ignores.
    fn copy_to(&self, to: &Path) -> io::Result<()> {
        make_empty(to)?;
        let files = git(&self.root, &["ls-files", "-z", "--cached", "--others", "--exclude-standard"])?;
        for file in files.split_terminator('\0') {
            let (from, to) = (self.root.join(file), to.join(file));
            // One that was removed, and git was not told.
            if from.is_file() {
                fs::create_dir_all(to.parent().unwrap_or(&to))?;
                fs::copy(from, to)?;
            }
        }
        Ok(())
    }

    /// Builds a program of a source, and puts it aside. What was exported is built in a place
    /// of its own: cargo takes two copies of a workspace for the same one, and what it has
    /// built of one for up to date in the other.
    pub(super) fn build(&self, source: &Path, program: &str, side: &str) -> io::Result<PathBuf> {
        let directory = self.directory();
        let target = if source == self.root { self.target.clone() } else { directory.join("build") };
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        run(Command::new(cargo)
            .args(["build", "--release", "--quiet", "--package", program, "--bin", program, "--target-dir"])
            .arg(&target)
            .current_dir(source))?;
        let kept = directory.join(format!("{side}-{program}"));
        fs::copy(target.join("release").join(program), &kept)?;
        Ok(kept)
    }
}

/// Where cargo builds what is at `root`.
fn target_of(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}

fn make_empty(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => fs::create_dir_all(directory),
    }
}

/// What git prints.
fn git(directory: &Path, arguments: &[&str]) -> io::Result<String> {
    let output = Command::new("git").args(arguments).current_dir(directory).output()?;
    if !output.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_for_builds_is_made_where_nothing_was_built_before() {
        let target = std::env::temp_dir().join(format!("wsgate-gate-{}", std::process::id()));
        let repository = Repository::at(target.join("target"), PathBuf::from(".")).unwrap();
        let is_there = repository.directory().is_dir();
        fs::remove_dir_all(&target).unwrap();
        assert!(is_there);
    }
}
