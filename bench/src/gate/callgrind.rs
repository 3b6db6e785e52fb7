//! Counts what a program executes: instructions of its own and calls of the kernel, by
//! function, under valgrind's callgrind. Nothing of it depends on how busy the machine is.
//!
//! The format of its files is described in the manual of Callgrind, "Callgrind Format
//! Specification".

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

/// What one function did itself, without those that it called.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Cost {
    pub(super) instructions: u64,
    /// Calls of the kernel. Reading the clock is one under valgrind.
    pub(super) calls: u64,
}

/// A function, and the file that the code stands in, which is another one for what the
/// compiler has put into it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Place {
    pub(super) function: String,
    pub(super) file: String,
}

/// What a run did.
pub(super) type Profile = BTreeMap<Place, Cost>;

/// An error that says what to install if there is no valgrind.
pub(super) fn find() -> io::Result<()> {
    match Command::new("valgrind").arg("--version").output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(io::Error::other(format!("valgrind --version ended with {}", output.status))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(io::Error::other("instructions are counted by valgrind, which is not here: apt-get install valgrind"))
        }
        Err(error) => Err(error),
    }
}

/// A command that runs a program under callgrind. Its profile is written to `out` when
/// it ends. With `only`, functions of that name are counted alone, and what they call.
pub(super) fn command(program: &Path, out: &Path, only: Option<&str>) -> Command {
    let option = |name: &str, value: &OsStr| {
        let mut option = OsStr::new(name).to_owned();
        option.push(value);
        option
    };
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--collect-systime=yes"]);
    command.arg(option("--callgrind-out-file=", out.as_os_str()));
    if let Some(function) = only {
        command.arg(format!("--toggle-collect={function}"));
    }
    command.arg(program);
    command
}

/// Reads the profile of a run that has ended. Files below `source` are named from there.
pub(super) fn read(out: &Path, source: &Path) -> io::Result<Profile> {
    let text = fs::read_to_string(out)
        .map_err(|error| io::Error::other(format!("callgrind wrote no {}: {error}", out.display())))?;
    parse(&text, &source.to_string_lossy())
        .ok_or_else(|| io::Error::other(format!("{} is not a profile of callgrind", out.display())))
}

fn parse(text: &str, source: &str) -> Option<Profile> {
    let mut names = Names { source, ..Names::default() };
    let mut profile = Profile::new();
    let mut columns: Option<(usize, usize)> = None;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(events) = line.strip_prefix("events: ") {
            let column = |name| events.split_ascii_whitespace().position(|event| event == name);
            columns = Some((column("Ir")?, column("sysCount")?));
        } else if line.starts_with("calls=") {
            // What the called function took, which is counted where it stands itself.
            lines.next();
        } else if let Some((key, name)) = line.split_once('=') {
            names.set(key, name);
        } else if line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first)) {
            let (instructions, calls) = columns?;
            // Zeros at the end are left out.
            let costs: Vec<u64> = line.split_ascii_whitespace().skip(1).map_while(|cost| cost.parse().ok()).collect();
            let cost = |column: usize| costs.get(column).copied().unwrap_or(0);
            let entry = profile.entry(names.place()?).or_default();
            entry.instructions += cost(instructions);
            entry.calls += cost(calls);
        }
    }
    columns.map(|_| profile)
}

/// Names are written once and stand for themselves by a number from then on.
#[derive(Default)]
struct Names<'a> {
    source: &'a str,
    files: HashMap<&'a str, String>,
    functions: HashMap<&'a str, String>,
    file: &'a str,
    function: &'a str,
}

impl<'a> Names<'a> {
    fn set(&mut self, key: &str, value: &'a str) {
        let (number, name) = match value.split_once(' ') {
            Some((number, name)) if number.starts_with('(') => (number, Some(name)),
            _ => (value, None),
        };
        match key {
            "fl" | "fi" | "fe" | "cfi" | "cfl" => {
                if let Some(name) = name {
                    let short = short_file(name, self.source);
                    self.files.insert(number, short);
                }
                if key.starts_with('f') {
                    self.file = number;
                }
            }
            "fn" | "cfn" => {
                if let Some(name) = name {
                    self.functions.insert(number, name.to_owned());
                }
                if key == "fn" {
                    self.function = number;
                }
            }
            _ => {}
        }
    }

    fn place(&self) -> Option<Place> {
        let name = |names: &HashMap<&str, String>, number| names.get(number).cloned();
        Some(Place { function: name(&self.functions, self.function)?, file: name(&self.files, self.file)? })
    }
}

/// A file's name without what differs between two copies of a source.
fn short_file(name: &str, source: &str) -> String {
    let below = |parent: &str| name.strip_prefix(parent).map(|rest| rest.trim_start_matches('/'));
    let behind = |marker: &str| Some(name.split_once(marker)?.1.split_once('/')?.1);
    below(source).or_else(|| behind("/registry/src/")).or_else(|| behind("/rustc/")).unwrap_or(name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROFILE: &str = "# callgrind format\nversion: 1\ncreator: callgrind-3.19.0\ncmd: /a/b\n\npositions: line\n\
        events: Ir sysCount sysTime\nsummary: 99 3 0\n\n\
        ob=(1) /a/b\nfl=(1) /home/me/wsgate/src/shard/mod.rs\nfn=(1) wsgate::shard::receive\n10 5\n+3 7\n\
        fi=(2) /rustc/59807616/library/core/src/option.rs\n* 2\nfe=(1)\n-3 1\n\
        cfi=(3) ./socket/send.c\ncfn=(2) send\ncalls=4 10\n+1 400 3 5\n+1 1\n\n\
        fl=(3)\nfn=(2)\n5 12 3 900\n\nfn=(3) recv\n8 1\ntotals: 99 3 0\n";

    #[test]
    fn costs_are_those_of_each_function_itself_by_file() {
        let profile = parse(PROFILE, "/home/me/wsgate").unwrap();
        let of = |function: &str, file: &str| {
            let cost = profile[&Place { function: function.to_owned(), file: file.to_owned() }];
            (cost.instructions, cost.calls)
        };
        assert_eq!(of("wsgate::shard::receive", "src/shard/mod.rs"), (14, 0));
        assert_eq!(of("wsgate::shard::receive", "library/core/src/option.rs"), (2, 0));
        assert_eq!(of("send", "./socket/send.c"), (12, 3));
        assert_eq!(of("recv", "./socket/send.c"), (1, 0));
        assert_eq!(profile.len(), 4);
    }

    #[test]
    fn what_is_no_profile_is_not_read_as_one_that_is_empty() {
        assert_eq!(parse("no such file", ""), None);
        assert_eq!(parse("10 5\n", ""), None);
        assert_eq!(parse("events: Ir\nfl=(1) a\nfn=(1) b\n1 1\n", ""), None, "no calls were counted");
    }

    #[test]
    fn files_are_named_alike_in_two_copies_of_a_source() {
        for (name, expected) in [
            ("/x/target/base/src/hub/log.rs", "src/hub/log.rs"),
            ("/root/.cargo/registry/src/index-1949/rustix-1.1.6/src/lib.rs", "rustix-1.1.6/src/lib.rs"),
            ("/rustc/5980/library/alloc/src/vec/mod.rs", "library/alloc/src/vec/mod.rs"),
            ("???", "???"),
        ] {
            assert_eq!(short_file(name, "/x/target/base"), expected);
        }
    }
}
