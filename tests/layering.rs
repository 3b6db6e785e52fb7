//! Who may import whom, and what the core must not touch: read from the source.
#![allow(missing_docs)]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// The modules of `src`, from the bottom to the top. One may import what stands below
/// its own line, and nothing that stands beside it.
const LAYERS: &[&[&str]] = &[
    &["address", "id", "limits", "origin", "policy", "proto", "time"],
    &["admission", "buffer"],
    &["command", "stats", "topic_name"],
    &["tls"],
    &["connection", "dialect", "hub"],
    &["shard"],
    &["driver"],
    &["config"],
    &["control"],
    &["fuzzing", "server"],
    &["lib", "main"],
];

/// Modules that may import less than what is below them: these alone, or parts of them.
const ONLY: &[(&str, &[&str])] = &[
    // Protocol and bounds stand for themselves: the load generator uses them too.
    ("address", &[]),
    ("id", &[]),
    ("limits", &[]),
    ("policy", &[]),
    ("proto", &[]),
    ("time", &[]),
    // Values for the others, which get them as arguments.
    ("config", &["address", "limits", "policy"]),
    // Joined to the shards by queues alone.
    (
        "control",
        &[
            "admission",
            "command",
            "config",
            "driver::mailbox",
            "hub::owner_of",
            "id",
            "limits",
            "origin",
            "proto",
            "stats",
            "topic_name",
        ],
    ),
];

/// The sans-IO core: bytes and times come in as arguments.
const CORE: &[&str] = &[
    "address",
    "admission",
    "buffer",
    "command",
    "connection",
    "dialect",
    "hub",
    "id",
    "limits",
    "policy",
    "proto",
    "shard",
    "stats",
    "time",
    "tls",
];

/// What the core must not name. `std::time::Duration` is a value and may be named; so are
/// addresses, which are in `core::net`, where no sockets are.
const NOT_IN_CORE: &[&str] = &[
    "std::env",
    "std::fs",
    "std::net",
    "std::os",
    "std::process",
    "std::thread",
    "Instant",
    "SystemTime",
    "getrandom",
    "mio::",
    "rand::",
    "rustix::",
    "socket2::",
    "tokio::",
    "unsafe ",
];

/// A source file: its path under `src`, and its lines without comments.
struct Source {
    path: PathBuf,
    lines: Vec<String>,
}

impl Source {
    /// The module at the top of the crate that the file belongs to.
    fn module(&self) -> String {
        let first = self.path.iter().next().expect("a file has a name");
        Path::new(first).with_extension("").to_str().expect("file names are ASCII").to_owned()
    }

    /// The file of a module at the top of the crate, where `super` is the crate itself.
    fn is_top(&self) -> bool {
        self.path.parent() == Some(Path::new("")) || self.path.iter().nth(1).is_some_and(|name| name == "mod.rs")
    }

    /// The file with which a module at the top of the crate begins.
    fn is_root(&self) -> bool {
        self.path.components().count() == 1 || (self.is_top() && self.path.ends_with("mod.rs"))
    }

    /// Paths from the crate's root that the file names: `module::item`, with the line.
    fn imports(&self) -> Vec<(usize, String)> {
        let mut imports = Vec::new();
        for (number, line) in self.lines.iter().enumerate() {
            for prefix in ["crate::", "wsgate::"] {
                imports.extend(paths_after(line, prefix).map(|path| (number + 1, path)));
            }
            // Unindented, since `super` inside an inline module is the file's own module.
            if self.is_top() && line.starts_with("use super::") {
                imports.extend(paths_after(line, "super::").map(|path| (number + 1, path)));
            }
        }
        imports
    }
}

/// The first two names of each path that follows `prefix` in the line.
fn paths_after<'a>(line: &'a str, prefix: &'a str) -> impl Iterator<Item = String> + 'a {
    line.match_indices(prefix).filter(|(at, _)| !line[..*at].ends_with(is_name)).map(move |(at, _)| {
        let rest = &line[at + prefix.len()..];
        let mut names = rest.split("::").map(|name| name.split(|c| !is_name(c)).next().unwrap_or_default());
        let module = names.next().unwrap_or_default();
        match names.next().filter(|_| rest[module.len()..].starts_with("::")) {
            Some(item) if !item.is_empty() => format!("{module}::{item}"),
            _ => module.to_owned(),
        }
    })
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut directories = vec![root.clone()];
    let mut sources = Vec::new();
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("src can be read") {
            let path = entry.expect("src can be read").path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("source is text");
                let lines = text.lines().map(|line| without_comment(line).to_owned()).collect();
                sources.push(Source { path: path.strip_prefix(&root).expect("below src").to_owned(), lines });
            }
        }
    }
    assert!(sources.len() > 30, "found only {} files below {}", sources.len(), root.display());
    sources
}

fn without_comment(line: &str) -> &str {
    match line.find("//") {
        // Not the two slashes of an address.
        Some(at) if !line[..at].ends_with(':') => &line[..at],
        _ => line,
    }
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// Whether `module` may name `path`, which is `module::item` or a module alone.
fn may_import(module: &str, path: &str) -> bool {
    let imported = path.split("::").next().unwrap_or_default();
    if imported == module {
        return true;
    }
    if let Some((_, only)) = ONLY.iter().find(|(name, _)| *name == module) {
        return only.contains(&imported) || only.contains(&path);
    }
    match (layer(module), layer(imported)) {
        (Some(own), Some(other)) => other < own,
        _ => false,
    }
}

#[test]
fn modules_import_only_what_is_below_them() {
    let mut violations = String::new();
    for source in sources() {
        let module = source.module();
        for (line, path) in source.imports() {
            if !may_import(&module, &path) {
                writeln!(violations, "src/{}:{line}: {module} must not use {path}", source.path.display()).unwrap();
            }
        }
    }
    assert!(violations.is_empty(), "\n{violations}");
}

#[test]
fn every_module_has_its_layer() {
    let without: BTreeSet<String> =
        sources().iter().map(Source::module).filter(|module| layer(module).is_none()).collect();
    assert!(without.is_empty(), "put these into LAYERS: {without:?}");
}

#[test]
fn the_core_touches_no_socket_clock_thread_or_randomness() {
    let mut violations = String::new();
    for source in sources().iter().filter(|source| CORE.contains(&source.module().as_str())) {
        for (number, line) in source.lines.iter().enumerate() {
            for forbidden in NOT_IN_CORE.iter().filter(|forbidden| names(line, forbidden)) {
                writeln!(violations, "src/{}:{}: {forbidden}: {line}", source.path.display(), number + 1).unwrap();
            }
        }
    }
    assert!(violations.is_empty(), "\n{violations}");
}

/// Whether a line names something, and not only a word that ends in it.
fn names(line: &str, forbidden: &str) -> bool {
    line.match_indices(forbidden).any(|(at, _)| !line[..at].ends_with(is_name))
}

#[test]
fn only_system_calls_of_the_driver_are_unsafe_code() {
    let may = |path: &Path| {
        let files = ["driver/uring.rs", "driver/descriptors.rs"].map(Path::new);
        path.starts_with("driver/uring") || files.contains(&path)
    };
    for Source { path, lines } in sources() {
        let has_unsafe = lines.iter().any(|line| names(line, "unsafe "));
        assert!(!has_unsafe || may(&path), "{path:?}");
    }
    // For these it is denied as for the whole crate, which an `allow` with its reason lifts.
    let denied = ["driver", "lib", "main"];
    for source in sources().iter().filter(|source| source.is_root()) {
        if !denied.contains(&source.module().as_str()) {
            let forbids = source.lines.iter().any(|line| line == "#![forbid(unsafe_code)]");
            assert!(forbids, "src/{} has no #![forbid(unsafe_code)]", source.path.display());
        }
    }
    let manifests = ["Cargo.toml", "loadgen/Cargo.toml", "bench/Cargo.toml"];
    for manifest in manifests.map(|path| Path::new(env!("CARGO_MANIFEST_DIR")).join(path)) {
        let text = fs::read_to_string(&manifest).expect("a member has a manifest");
        assert!(text.contains("\n[lints]\nworkspace = true\n"), "{} denies nothing", manifest.display());
    }
}

#[test]
fn the_rules_see_what_they_are_to_find() {
    let source = |path: &str, text: &str| Source {
        path: path.into(),
        lines: text.lines().map(|line| without_comment(line).to_owned()).collect(),
    };
    let imports = |path, text| source(path, text).imports().into_iter().map(|(_, path)| path).collect::<Vec<_>>();
    assert_eq!(imports("hub/mod.rs", "use crate::connection::{A, B};"), ["connection"]);
    assert_eq!(imports("hub/log.rs", "    let x = crate::shard::Shard::new();"), ["shard::Shard"]);
    assert_eq!(imports("hub/mod.rs", "use super::shard;\nmod tests {\n    use super::*;\n}"), ["shard"]);
    assert_eq!(imports("hub/log.rs", "use super::topic;"), [""; 0]);
    assert_eq!(imports("hub/log.rs", "// use crate::shard::Shard;"), [""; 0]);
    assert_eq!(imports("main.rs", "use wsgate::server::Server;"), ["server::Server"]);

    for (module, path, allowed) in [
        ("shard", "hub::Hub", true),
        ("shard", "shard::Shard", true),
        ("hub", "shard::Shard", false),
        ("hub", "connection::Connection", false),
        ("dialect", "hub::Hub", false),
        ("proto", "limits::A", false),
        ("control", "hub::owner_of", true),
        ("control", "hub::Hub", false),
        ("control", "driver::mailbox", true),
        ("control", "driver::epoll", false),
        ("control", "shard::Shard", false),
        ("config", "driver::machine", false),
        ("server", "control::Control", true),
        ("driver", "server::Server", false),
        ("shard", "nowhere", false),
    ] {
        assert_eq!(may_import(module, path), allowed, "{module} uses {path}");
    }
    assert!(names("let now = Instant::now();", "Instant"));
    assert!(names("use std::net::TcpStream;", "std::net"));
    assert!(!names("let operand::x", "rand::"));
}
