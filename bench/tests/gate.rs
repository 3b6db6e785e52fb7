//! `bench gate` finds what makes wsgate slower or larger, says where, and accuses nothing
//! else: each mistake of `bench/planted` in a scratch clone of this repository.
//!
//! What is compared is what was committed, and the mistake. Needs git and valgrind.
#![allow(missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard};

use serde_json::Value;

/// There is one clone, and one place where it is built: dependencies are compiled once.
static CLONE: Mutex<()> = Mutex::new(());

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// A clean clone of the last commit, until it is dropped.
struct Clone {
    directory: PathBuf,
    _alone: MutexGuard<'static, ()>,
}

/// What the gate said.
struct Said {
    code: Option<i32>,
    text: String,
    report: Value,
}

impl Clone {
    fn new() -> Self {
        let alone = CLONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("gate-clone");
        let _ = fs::remove_dir_all(&directory);
        let clone = Self { directory, _alone: alone };
        let directory = clone.directory.display().to_string();
        if is_repository(ROOT) {
            succeed(Command::new("git").args(["clone", "--quiet", "--no-hardlinks", ROOT, &directory]));
        } else {
            clone.become_repository();
        }
        clone
    }

    /// A source that came as an archive, or that belongs to somebody else, is made the first
    /// commit of a repository.
    fn become_repository(&self) {
        fs::create_dir_all(&self.directory).unwrap();
        let copy = "tar --create --exclude=./target --exclude=./.git --exclude=node_modules --directory \"$0\" . | tar --extract";
        succeed(self.command("sh").args(["-c", copy, ROOT]));
        succeed(self.command("git").args(["init", "--quiet"]));
        succeed(self.command("git").args(["add", "--all"]));
        self.commit("As it came");
    }

    /// With one of the mistakes in it, not committed.
    fn with(mistake: &str) -> Self {
        let clone = Self::new();
        clone.apply(mistake);
        clone
    }

    fn apply(&self, mistake: &str) {
        let patch = format!("{ROOT}/bench/planted/{mistake}.patch");
        let patch = fs::canonicalize(patch).expect("there is a patch of that name");
        succeed(self.command("git").arg("apply").arg(patch));
    }

    fn commit(&self, message: &str) {
        let author = ["-c", "user.name=gate", "-c", "user.email=gate@localhost"];
        succeed(self.command("git").args(author).args(["commit", "--quiet", "--all", "--message", message]));
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.directory);
        command
    }

    /// Compares with the last commit.
    fn gate(&self, work: &str) -> Said {
        self.gate_with("HEAD", work, |_| {})
    }

    fn gate_with(&self, base: &str, work: &str, also: impl FnOnce(&mut Command)) -> Said {
        let json = Path::new(env!("CARGO_TARGET_TMPDIR")).join("gate.json");
        let _ = fs::remove_file(&json);
        let mut command = self.command(env!("CARGO_BIN_EXE_bench"));
        command.args(["gate", "--base", base, "--quick", "--work", work, "--json"]).arg(&json);
        // Where a gate of this repository builds, too, so that dependencies are there already.
        command.env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it lies in target"));
        also(&mut command);
        let Output { status, stdout, stderr } = command.output().expect("the program was built");
        let text = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
        let report = fs::read(&json).map_or(Value::Null, |json| serde_json::from_slice(&json).expect("it is JSON"));
        Said { code: status.code(), text, report }
    }
}

fn is_repository(directory: &str) -> bool {
    let found = Command::new("git").args(["rev-parse", "--verify", "--quiet", "HEAD"]).current_dir(directory).output();
    found.is_ok_and(|output| output.status.success())
}

#[track_caller]
fn succeed(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Said {
    fn metric(&self, name: &str) -> &Value {
        let metrics = self.report["counted"].as_array().expect("there is a report");
        metrics.iter().find(|metric| metric["name"] == name).unwrap_or_else(|| panic!("no {name} in {}", self.text))
    }

    /// A regression of one metric, by about so much, in a function of such a name.
    #[track_caller]
    fn assert_accuses(&self, name: &str, more: std::ops::RangeInclusive<f64>, function: Option<&str>) {
        assert_eq!(self.code, Some(1), "{}", self.text);
        let metric = self.metric(name);
        assert_eq!(metric["change"], "more", "{}", self.text);
        let grown = metric["head"].as_f64().unwrap() - metric["base"].as_f64().unwrap();
        assert!(more.contains(&grown), "{grown} more: {}", self.text);
        if let Some(function) = function {
            let places = metric["places"].as_array().unwrap();
            let names = |place: &Value| place["function"].as_str().unwrap().contains(function);
            assert!(places.iter().any(names), "{places:?}");
            assert!(self.text.contains(function), "{}", self.text);
        }
    }
}

#[test]
fn a_copy_of_each_message_is_found() {
    let said = Clone::with("copy-per-message").gate("echo-64k,decode-20");
    said.assert_accuses("echo-64k/instructions", 1000.0..=100_000.0, Some("memcpy"));
    // Which does not go that way.
    assert_eq!(said.metric("decode-20/instructions")["change"], "same");
}

#[test]
fn an_allocation_for_each_message_is_found() {
    let said = Clone::with("allocation-per-message").gate("echo-20,publish-1");
    said.assert_accuses("echo-20/allocations", 1.0..=1.0, None);
    said.assert_accuses("publish-1/allocations", 1.0..=1.0, None);
    said.assert_accuses("echo-20/instructions", 20.0..=2000.0, Some("alloc"));
}

#[test]
fn a_call_for_each_delivery_is_found() {
    let said = Clone::with("call-per-delivery").gate("server-publish");
    said.assert_accuses("server-publish/calls", 0.98..=1.02, Some("getsockopt"));
}

#[test]
fn a_quadratic_unsubscribe_is_found() {
    let said = Clone::with("quadratic-unsubscribe").gate("leave-topic");
    said.assert_accuses("leave-topic/instructions", 1000.0..=1e6, Some("unsubscribe"));
}

#[test]
fn bytes_for_each_connection_are_found_and_can_be_accepted() {
    let clone = Clone::with("bytes-per-connection");
    let said = clone.gate("connect");
    said.assert_accuses("connect/kept-bytes", 300.0..=304.0, None);

    let accept = |reason: &str| {
        let kinds = ["kept-bytes", "allocated-bytes", "instructions"];
        let entry =
            |kind| format!("[[accepted]]\nmetric = \"connect/{kind}\"\npercent = 1000.0\nreason = \"{reason}\"\n");
        fs::write(clone.directory.join("bench/accepted.toml"), kinds.map(entry).concat()).unwrap();
    };
    accept("a context for each dialect");
    let accepted = clone.gate("connect");
    assert_eq!(accepted.code, Some(0), "{}", accepted.text);
    assert_eq!(accepted.metric("connect/kept-bytes")["accepted"], "a context for each dialect");
    assert!(accepted.text.contains("because: a context for each dialect"), "{}", accepted.text);

    accept(" ");
    let vague = clone.gate("connect");
    assert_eq!(vague.code, Some(2), "{}", vague.text);
    assert!(vague.text.contains("has no reason"), "{}", vague.text);
}

#[test]
fn the_base_is_what_was_committed_there_and_what_it_accepted_has_expired() {
    let clone = Clone::new();
    let accepted = "[[accepted]]\nmetric = \"connect/kept-bytes\"\npercent = 1000.0\nreason = \"for the next one\"\n";
    fs::write(clone.directory.join("bench/accepted.toml"), accepted).unwrap();
    clone.commit("A price is accepted");
    clone.apply("bytes-per-connection");
    clone.commit("A mistake");
    // As it is in the working tree, and in the last commit.
    let said = clone.gate_with("HEAD~1", "connect", |_| {});
    said.assert_accuses("connect/kept-bytes", 300.0..=304.0, None);
    assert!(said.text.contains("has expired"), "{}", said.text);
}

#[test]
fn the_same_code_is_not_accused() {
    let said = Clone::new().gate("decode-*,echo-20,publish-1*,connect,leave-topic");
    assert_eq!(said.code, Some(0), "{}", said.text);
    let metrics = said.report["counted"].as_array().unwrap();
    assert!(metrics.len() >= 30, "{}", said.text);
    for metric in metrics {
        assert_eq!(metric["base"], metric["head"], "{metric}");
    }
}

/// What the gate said of two commands that start servers.
struct OfServers {
    code: Option<i32>,
    report: Value,
    markdown: String,
    errors: String,
}

/// Compares two commands that start servers, by echoes of this path.
fn gate_of_servers(base: &str, head: &str, path: &str) -> OfServers {
    let file = |name: &str| Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let (json, markdown) = (file("servers.json"), file("servers.md"));
    for old in [&json, &markdown] {
        let _ = fs::remove_file(old);
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    command.args(["gate", "--base-server", base, "--head-server", head, "--pairs", "14"]);
    command.args(["--load", &format!("echo ws://{{address}}{path} -c 4 -t 1 -d 600ms --warm-up 50ms")]);
    command.arg("--json").arg(&json).arg("--markdown").arg(&markdown).current_dir(ROOT);
    let Output { status, stderr, .. } = command.output().expect("the program was built");
    let report = fs::read(&json).map_or(Value::Null, |json| serde_json::from_slice(&json).expect("it is JSON"));
    let markdown = fs::read_to_string(&markdown).unwrap_or_default();
    OfServers { code: status.code(), report, markdown, errors: String::from_utf8_lossy(&stderr).into_owned() }
}

#[test]
fn servers_of_any_kind_are_compared_in_pairs() {
    let _alone = CLONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    succeed(Command::new("cargo").args(["build", "--locked", "--bin", "wsgate"]).current_dir(ROOT));
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it lies in target");
    let wsgate = target.join("debug/wsgate").display().to_string();
    let fast = format!("{wsgate} --shards 1 --admin 127.0.0.1:0 --listen 127.0.0.1:{{port}}");
    // Each instruction of the same program costs it several.
    let slow = format!("valgrind --quiet --tool=none {fast}");
    // Both say when they are started.
    let started = Path::new(env!("CARGO_TARGET_TMPDIR")).join("servers-started");
    let _ = fs::remove_file(&started);
    let says = |name: &str, server: &str| format!("sh -c 'echo {name} >> {}; exec {server}'", started.display());

    let said = gate_of_servers(&says("base", &fast), &says("head", &slow), "/echo");
    assert_eq!(said.code, Some(1), "{}", said.errors);
    assert_eq!(said.report["paired"][0]["decision"], "regression", "{}", said.report);
    assert!(said.markdown.contains("| echo-1/cpu |") && said.markdown.contains("REGRESSION"), "{}", said.markdown);
    let starts = fs::read_to_string(&started).unwrap();
    let starts: Vec<_> = starts.lines().collect();
    assert_eq!(starts, ["base", "head", "head", "base"].repeat(7), "neither is always the first");

    let said = gate_of_servers(&slow, &fast, "/echo");
    assert_eq!(said.code, Some(0), "{}", said.errors);
    assert_eq!(said.report["paired"][0]["decision"], "cleared", "{}", said.report);

    let said = gate_of_servers(&fast, "false", "/echo");
    assert_eq!(said.code, Some(2), "a server that does not start: {}", said.errors);
    // It answers each message with another one.
    let said = gate_of_servers(&fast, &fast, "/chat");
    assert_eq!(said.code, Some(2), "a load with faults: {} {}", said.report, said.errors);
}

#[test]
fn what_cannot_be_measured_is_never_taken_for_no_regression() {
    let clone = Clone::new();
    let no_such_revision = clone.gate_with("no-such-revision", "echo-20", |_| {});
    assert_eq!(no_such_revision.code, Some(2), "{}", no_such_revision.text);
    assert!(no_such_revision.text.contains("no-such-revision"), "{}", no_such_revision.text);
    let no_such_work = clone.gate("no-such-work");
    assert_eq!(no_such_work.code, Some(2), "{}", no_such_work.text);
    assert!(no_such_work.text.contains("no-such-work"), "{}", no_such_work.text);

    let no_valgrind = clone.gate_with("HEAD", "echo-20", |command| {
        command.env("PATH", env!("CARGO_TARGET_TMPDIR"));
    });
    assert_eq!(no_valgrind.code, Some(2), "{}", no_valgrind.text);
    assert!(no_valgrind.text.contains("apt-get install valgrind"), "{}", no_valgrind.text);
}
