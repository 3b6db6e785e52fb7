//! What is measured: wsgate, the floor, and other servers.
//!
//! Another server is another entry of [`PROGRAMS`]. All speak the paths of wsgate's
//! plain dialect: `/echo`, `/topics/NAME`, `/topics/NAME?subscribe=off`.

use std::io;
use std::path::Path;
use std::process::Command;

use super::row::{Owner, Work};
use crate::rig::server::{Launch, Ready, free_address};
use crate::rig::workshop::Workshop;

/// A server that can be measured.
#[derive(Debug)]
pub(super) struct Program {
    /// As `--peers` selects it and the table shows it.
    pub(super) name: &'static str,
    pub(super) part: Part,
    /// What it is, for the head of the table.
    pub(super) about: &'static str,
    /// Whether it can do this work.
    pub(super) does: fn(&Work) -> bool,
    /// Gets it ready to be started; may take long, done once.
    pub(super) prepare: fn(&Workshop) -> io::Result<()>,
    pub(super) launch: fn(&Workshop, &Work) -> io::Result<Launch>,
}

/// The part that a program plays in the comparison.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part {
    /// What all others are compared with.
    Subject,
    /// Another build of the subject.
    Baseline,
    /// The subject with its other backend.
    OtherBackend,
    /// The least that the work takes.
    Floor,
    /// Another server.
    Peer,
}

/// All programs, in the order of the table.
pub(super) const PROGRAMS: &[Program] = &[
    Program {
        name: "wsgate",
        part: Part::Subject,
        about: "release build",
        does: |_| true,
        prepare: |_| Ok(()),
        launch: |workshop, work| Ok(wsgate(workshop, &workshop.wsgate, work)),
    },
    Program {
        name: "wsgate io_uring",
        part: Part::OtherBackend,
        about: "the same build with --io io_uring",
        does: |_| true,
        prepare: |_| Ok(()),
        launch: |workshop, work| {
            let mut launch = wsgate(workshop, &workshop.wsgate, work);
            launch.command.args(["--io", "io_uring"]);
            Ok(launch)
        },
    },
    Program {
        name: "baseline",
        part: Part::Baseline,
        about: "the build of wsgate named by --baseline",
        does: |_| true,
        prepare: |workshop| match workshop.baseline {
            Some(_) => Ok(()),
            None => Err(io::Error::other("no --baseline is given")),
        },
        launch: |workshop, work| {
            let file = workshop.baseline.as_ref().ok_or(io::ErrorKind::NotFound)?;
            Ok(wsgate(workshop, file, work))
        },
    },
    Program {
        name: "floor",
        part: Part::Floor,
        about: "bare epoll loop in bench: echoes bytes, or sends what is ready; no parsing; over TLS with bare rustls",
        does: |work| !matches!(work, Work::Idle { .. }),
        prepare: |_| Ok(()),
        launch: |workshop, work| {
            let mut command = Command::new(&workshop.bench);
            command.arg("floor");
            command.arg("--frame-in").arg(work.client_frame().len().to_string());
            command.arg("--frame-out").arg(work.server_frame().len().to_string());
            if work.is_secure() {
                command.arg("--certificate").arg(&workshop.certificates.certificate);
                command.arg("--key").arg(&workshop.certificates.key);
            }
            Ok(Launch { command, ready: Ready::Printed })
        },
    },
    Program {
        name: "bun",
        part: Part::Peer,
        about: "npm bun, Bun.serve: uWebSockets inside",
        does: on_one_shard,
        prepare: Workshop::install_npm,
        launch: |workshop, _| {
            let mut command = Command::new(workshop.npm().join("node_modules/.bin/bun"));
            command.arg("run").arg(workshop.npm().join("bun.js")).current_dir(workshop.npm());
            Ok(Launch { command, ready: Ready::Printed })
        },
    },
    Program {
        name: "fastwebsockets",
        part: Part::Peer,
        about: "crate fastwebsockets on hyper and one tokio thread",
        does: on_one_shard,
        prepare: Workshop::build_peer_server,
        launch: |workshop, _| Ok(peer_server(workshop, "fastwebsockets")),
    },
    Program {
        name: "tungstenite",
        part: Part::Peer,
        about: "crate tokio-tungstenite with a read buffer of 4 KiB on one tokio thread",
        does: on_one_shard,
        prepare: Workshop::build_peer_server,
        launch: |workshop, _| Ok(peer_server(workshop, "tungstenite")),
    },
    Program {
        name: "nchan",
        part: Part::Peer,
        about: "nginx with Debian's libnginx-mod-nchan, one worker",
        // It has no echo, and answers every publication to the one who published.
        does: |work| !matches!(work, Work::Echo { .. } | Work::OwnTopics { .. }) && !is_bare(work) && !work.is_secure(),
        prepare: Workshop::unpack_nchan,
        launch: |workshop, _| {
            let address = free_address()?;
            let mut command = Command::new("unshare");
            command.args(["--map-root-user", "--mount", "sh", "-c", NGINX_IN_NAMESPACE, "sh"]);
            command
                .arg(workshop.nchan().join("usr/sbin/nginx"))
                .arg("-p")
                .arg(workshop.nchan())
                .arg("-c")
                .arg(workshop.write_nchan_configuration(address)?);
            Ok(Launch { command, ready: Ready::Listens(address) })
        },
    },
    Program {
        name: "ws",
        part: Part::Peer,
        about: "npm ws on node",
        does: on_one_shard,
        prepare: Workshop::install_npm,
        launch: |workshop, _| {
            let mut command = Command::new("node");
            command.arg(workshop.npm().join("ws.js")).current_dir(workshop.npm());
            Ok(Launch { command, ready: Ready::Printed })
        },
    },
];

fn wsgate(workshop: &Workshop, file: &Path, work: &Work) -> Launch {
    let launch = Launch::wsgate(file, work.shards());
    if work.is_secure() { launch.secure(&workshop.certificates) } else { launch }
}

/// nchan insists on Debian's directory for its temporary files, so it gets one that
/// nobody else sees.
const NGINX_IN_NAMESPACE: &str = "mount -t tmpfs none /var/lib && mkdir /var/lib/nginx && exec \"$@\"";

/// Peers have no shards.
fn on_one_shard(work: &Work) -> bool {
    !matches!(work, Work::OwnTopics { owner: Owner::OtherShard, .. }) && !work.is_secure()
}

fn is_bare(work: &Work) -> bool {
    matches!(work, Work::Idle { topics: super::row::IdleTopics::None, .. })
}

fn peer_server(workshop: &Workshop, name: &str) -> Launch {
    let mut command = Command::new(workshop.peer_server());
    command.arg(name);
    Launch { command, ready: Ready::Printed }
}
