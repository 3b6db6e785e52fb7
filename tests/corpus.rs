//! Each fuzz target on the inputs of its corpus: what was found once stays found, and the
//! targets themselves stay alive without a fuzzer.
#![allow(missing_docs)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use wsgate::fuzzing::{self, TARGETS};

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// Names in a folder of `fuzz`, without their extensions.
fn names(folder: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(fuzz().join(folder)).expect("the folder is there");
    let stem = |entry: fs::DirEntry| entry.path().file_stem().and_then(|name| name.to_str()).map(str::to_owned);
    entries.map(|entry| stem(entry.expect("can be read")).expect("names are ASCII")).collect()
}

/// Runs the inputs of a target, and names the one that it fails on.
fn replay(target: &str) {
    let folder = fuzz().join("corpus").join(target);
    let mut inputs: Vec<_> = fs::read_dir(&folder).expect("a target has a corpus").map(|e| e.unwrap().path()).collect();
    inputs.sort();
    assert!(inputs.len() >= 10, "{} has only {} inputs", folder.display(), inputs.len());
    for input in inputs {
        let data = fs::read(&input).expect("an input can be read");
        if std::panic::catch_unwind(|| fuzzing::run(target, &data)).is_err() {
            panic!("fails on {}; see the message above", input.display());
        }
    }
}

#[test]
fn config() {
    replay("config");
}

#[test]
fn connection() {
    replay("connection");
}

#[test]
fn deflate() {
    replay("deflate");
}

#[test]
fn frame() {
    replay("frame");
}

#[test]
fn http() {
    replay("http");
}

#[test]
fn hub() {
    replay("hub");
}

#[test]
fn names_of_topics_hosts_and_origins() {
    replay("names");
}

#[test]
fn each_target_has_its_program_and_its_test() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names("fuzz_targets"), targets);
    let source = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus.rs")).unwrap();
    for target in targets {
        assert!(source.contains(&format!("replay(\"{target}\")")), "no test replays {target}");
    }
}
