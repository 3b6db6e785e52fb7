//! A whole server and a client that keeps step with it: calls of the kernel for each
//! unit, of both revisions.
//!
//! A script is run twice, the second time longer; what the longer one has more is of the
//! script's steps alone, without start, handshakes and end.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

use wsgate::driver::machine;

use super::callgrind::{self, Cost, Place, Profile};
use super::metric::{Kind, Metric, differences};
use super::sides::{Side, Sides};
use crate::rig::client;
use crate::rig::frames;
use crate::rig::pattern::matches;
use crate::rig::server::{Launch, Ready, Server};

/// Steps of the shorter run and of the longer one.
const STEPS: [usize; 2] = [50, 650];
const SUBSCRIBERS: usize = 20;
const BURST: usize = 16;
const BYTES: usize = 20;

/// What a client does step by step. It waits for the whole effect of a step before the
/// next, so that each takes the server the same turns.
struct Script {
    name: &'static str,
    per: &'static str,
    /// Units in each step.
    units: usize,
    run: fn(SocketAddr, usize) -> io::Result<()>,
    /// Whether each step takes the server the same turns. Else waits and readings of the
    /// clock, which each turn has, say nothing.
    fixes_turns: bool,
}

const SCRIPTS: &[Script] = &[
    Script {
        name: "server-echo",
        per: "message",
        units: 1,
        run: |server, steps| echo(server, steps, 1),
        fixes_turns: true,
    },
    Script {
        name: "server-echo-x16",
        per: "message",
        units: BURST,
        run: |server, steps| echo(server, steps, BURST),
        fixes_turns: true,
    },
    Script {
        name: "server-publish",
        per: "delivery",
        units: SUBSCRIBERS,
        run: |server, steps| publish(server, steps, 1),
        fixes_turns: true,
    },
    Script {
        name: "server-publish-x16",
        per: "delivery",
        units: SUBSCRIBERS * BURST,
        run: |server, steps| publish(server, steps, BURST),
        fixes_turns: true,
    },
    Script { name: "server-connect", per: "connection", units: 1, run: come_and_go, fixes_turns: false },
];

/// Names that one of these patterns selects.
pub(super) fn names(patterns: &[String]) -> Vec<String> {
    let is_wanted = |name: &&str| patterns.iter().any(|pattern| matches(pattern, name));
    SCRIPTS.iter().map(|script| script.name).filter(is_wanted).map(str::to_owned).collect()
}

/// Runs one script on both revisions.
pub(super) fn measure(sides: &Sides, name: &str) -> io::Result<Vec<Metric>> {
    let Some(script) = SCRIPTS.iter().find(|script| script.name == name) else { return Ok(Vec::new()) };
    let run = |side| run(side, script, &sides.directory, &sides.source);
    let (base, head) = (run(&sides.base)?, run(&sides.head)?);
    let units = ((STEPS[1] - STEPS[0]) * script.units) as f64;
    let metric = |kind: Kind| {
        let of = |place: &Place, cost: &Cost| if script.counts(kind, place) { cost.calls } else { 0 };
        let figure = |[short, long]: &[Profile; 2]| {
            let sum = |profile: &Profile| profile.iter().map(|(place, cost)| of(place, cost)).sum::<u64>() as f64;
            (sum(long) - sum(short)) / units
        };
        Metric {
            name: format!("{name}/{}", kind.name()),
            kind,
            per: script.per.to_owned(),
            base: Some(figure(&base)),
            head: Some(figure(&head)),
            places: differences((&base[1], units), (&head[1], units), of),
        }
    };
    let kinds: &[Kind] = if script.fixes_turns { &[Kind::Calls, Kind::ClockReadings] } else { &[Kind::Calls] };
    Ok(kinds.iter().copied().map(metric).collect())
}

impl Script {
    /// Outside valgrind, reading a clock does not enter the kernel.
    fn counts(&self, kind: Kind, place: &Place) -> bool {
        let is_clock = place.function.starts_with("clock_gettime");
        let is_wait = place.function.starts_with("epoll_wait");
        is_clock == (kind == Kind::ClockReadings) && (self.fixes_turns || !is_wait)
    }
}

/// The profiles of both lengths.
fn run(side: &Side, script: &Script, directory: &Path, source: &Path) -> io::Result<[Profile; 2]> {
    let run = |steps| {
        let out = directory.join(format!("{}-{}.callgrind", side.name, script.name));
        let program = side.wsgate.as_ref().ok_or_else(|| io::Error::other("the servers were not built"))?;
        let mut command = callgrind::command(program, &out, None);
        command.args(Launch::wsgate(program, 1).command.get_args());
        let log = directory.join(format!("{}-server.log", side.name));
        let server = Server::start(Launch { command, ready: Ready::Printed }, &machine::processors(), &log)?;
        (script.run)(server.clients, steps).map_err(|error| server.error(&format!("{side}: {error}")))?;
        server.stop()?;
        callgrind::read(&out, source)
    };
    Ok([run(STEPS[0])?, run(STEPS[1])?])
}

fn echo(server: SocketAddr, steps: usize, burst: usize) -> io::Result<()> {
    let mut stream = client::open(server, &["/echo".to_owned()])?.remove(0);
    let (sent, returned) = (frames::client_frame(BYTES).repeat(burst), frames::server_frame(BYTES).len() * burst);
    for _ in 0..steps {
        stream.write_all(&sent)?;
        read(&mut stream, returned)?;
    }
    Ok(())
}

fn publish(server: SocketAddr, steps: usize, burst: usize) -> io::Result<()> {
    let mut subscribers = client::open(server, &vec!["/topics/room".to_owned(); SUBSCRIBERS])?;
    let mut publisher = client::open(server, &["/topics/room?subscribe=off".to_owned()])?.remove(0);
    let (sent, returned) = (frames::client_frame(BYTES).repeat(burst), frames::server_frame(BYTES).len() * burst);
    for _ in 0..steps {
        publisher.write_all(&sent)?;
        subscribers.iter_mut().try_for_each(|stream| read(stream, returned))?;
    }
    Ok(())
}

/// Connections that open, say that they close, and are closed.
fn come_and_go(server: SocketAddr, steps: usize) -> io::Result<()> {
    /// Close 1000, masked with zeros.
    const CLOSE: &[u8] = &[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8];
    for _ in 0..steps {
        let mut stream = client::open(server, &["/echo".to_owned()])?.remove(0);
        stream.write_all(CLOSE)?;
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest)?;
    }
    Ok(())
}

/// Reads so many bytes and drops them.
fn read(stream: &mut TcpStream, bytes: usize) -> io::Result<()> {
    let read = io::copy(&mut stream.take(bytes as u64), &mut io::sink())?;
    if read < bytes as u64 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}
