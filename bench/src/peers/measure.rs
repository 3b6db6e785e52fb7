//! One run: a server that was just started, one row's work, one sample.

use std::io;
use std::time::Duration;

use serde::Serialize;

use super::other_shard;
use super::program::Part;
use super::row::{IdleTopics, Owner, Work};
use crate::rig::client;
use crate::rig::load::{Echo, FanOut, Load, Next, Pace};
use crate::rig::process::resident_bytes;
use crate::rig::secure::Certificates;
use crate::rig::server::Server;
use crate::rig::window::Window;

/// Work before the measurement: compilers of peers that compile while they run have
/// done so, buffers have their size.
pub(super) const WARM_UP: Duration = Duration::from_millis(700);

/// From the last connection until memory is read.
const SETTLE: Duration = Duration::from_millis(500);

/// Connections before the first reading of an idle row: what a server allocates once
/// is not charged to the connections that are counted.
const IDLE_FIRST: usize = 100;

/// What a run found.
#[derive(Clone, Serialize, Debug)]
pub(super) struct Sample {
    /// The row's figure, see [`super::row::Measures`].
    pub(super) value: f64,
    #[serde(flatten)]
    pub(super) work: Option<WorkSample>,
}

/// What a run of messages found beside the CPU for each.
#[derive(Clone, Serialize, Debug)]
pub(super) struct WorkSample {
    pub(super) seconds: f64,
    pub(super) messages: u64,
    /// Part of the server's CPU that was spent in its own code, from 0 to 1.
    pub(super) user_share: f64,
    /// CPU seconds of the server per second.
    pub(super) server_busy: f64,
    /// CPU seconds of the load per second.
    pub(super) load_busy: f64,
    /// CPU seconds of all other programs per second.
    pub(super) others_busy: f64,
    /// Of the server's own code, for each message; `null` where they are not counted.
    pub(super) user_instructions: Option<f64>,
    /// Only wsgate says so.
    pub(super) sends: Option<Sends>,
}

/// wsgate's own counts during a run.
#[derive(Clone, Copy, Serialize, Debug)]
pub(super) struct Sends {
    pub(super) calls: u64,
    /// Connections that a turn sent something to, each once for each turn. 0 in builds
    /// that do not count them.
    pub(super) flushes: u64,
    /// Those that took less than they were given.
    pub(super) short: u64,
    /// Messages queued for one connection each.
    pub(super) messages: u64,
    /// Turns of the event loops.
    pub(super) turns: u64,
}

/// Puts a server to work for a while.
pub(super) fn measure(
    server: &Server,
    part: Part,
    work: &Work,
    certificates: &Certificates,
    time: Duration,
) -> io::Result<Sample> {
    let sent = work.client_frame();
    let returned = match part {
        Part::Floor => sent.clone(),
        _ => work.server_frame(),
    };
    let same = |count, path: &str| vec![path.to_owned(); count];
    match *work {
        Work::Echo { connections, in_flight, .. } => {
            let streams = client::open(server.clients, &same(connections, "/echo"))?;
            window(server, &mut Echo::new(streams, &sent, &returned, Next::Same { in_flight })?, time)
        }
        Work::FanOut { subscribers, in_flight, .. } => {
            let publisher = client::open(server.clients, &same(1, "/topics/room?subscribe=off"))?.remove(0);
            let streams = client::open(server.clients, &same(subscribers, "/topics/room"))?;
            let delivered = work.server_frame();
            window(server, &mut FanOut::new(publisher, streams, &sent, &delivered, Pace::InFlight(in_flight))?, time)
        }
        Work::SecureFanOut { subscribers, in_flight, .. } => {
            let publisher = client::open(server.clients, &same(1, "/topics/room?subscribe=off"))?.remove(0);
            let streams = certificates.open(server.clients, &same(subscribers, "/topics/room"))?;
            let (delivered, pace) = (work.server_frame(), Pace::InFlight(in_flight));
            window(server, &mut FanOut::secure(publisher, streams, &sent, &delivered, pace)?, time)
        }
        Work::SecureIdle { connections } => {
            idle(server, connections, |range| certificates.open(server.clients, &same(range.len(), "/echo")))
        }
        Work::OwnTopics { topics, in_flight, owner, .. } => {
            let streams = match (part, owner) {
                (Part::Floor, _) => client::open(server.clients, &same(topics, "/echo"))?,
                (_, Owner::SameShard) => client::open(server.clients, &topic_paths(0..topics))?,
                (_, Owner::OtherShard) => other_shard::open(server, topics, &sent, &returned)?,
            };
            window(server, &mut Echo::new(streams, &sent, &returned, Next::Random { in_flight })?, time)
        }
        Work::Idle { connections, topics } => {
            let paths = |range: std::ops::Range<usize>| match topics {
                IdleTopics::None => same(range.len(), "/echo"),
                IdleTopics::Shared => same(range.len(), "/topics/room"),
                IdleTopics::Own => topic_paths(range),
            };
            idle(server, connections, |range| client::open(server.clients, &paths(range)))
        }
    }
}

/// Memory of the server for each of so many connections.
fn idle<T>(
    server: &Server,
    connections: usize,
    open: impl Fn(std::ops::Range<usize>) -> io::Result<Vec<T>>,
) -> io::Result<Sample> {
    let first = open(0..IDLE_FIRST)?;
    std::thread::sleep(SETTLE);
    let before = resident_bytes(server.pid())?;
    let rest = open(IDLE_FIRST..IDLE_FIRST + connections)?;
    std::thread::sleep(SETTLE);
    let bytes = resident_bytes(server.pid())? as f64 - before as f64;
    let value = bytes / rest.len() as f64;
    drop((first, rest));
    Ok(Sample { value, work: None })
}

/// Topics with names of 32 bytes.
fn topic_paths(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|index| format!("/topics/{index:032}")).collect()
}

fn window(server: &Server, load: &mut impl Load, time: Duration) -> io::Result<Sample> {
    let window = Window::measure(server, load, WARM_UP, time)?;
    let usage = window.usage;
    Ok(Sample {
        value: window.cpu_per_message(),
        work: Some(WorkSample {
            seconds: usage.wall.as_secs_f64(),
            messages: window.messages,
            user_share: usage.server.user_share(),
            server_busy: usage.server_busy(),
            load_busy: usage.load_busy(),
            others_busy: usage.others_busy(),
            user_instructions: window.instructions.map(|count| count as f64 / window.messages as f64),
            sends: Sends::of(&window),
        }),
    })
}

impl Sends {
    /// `None` if the server does not count them.
    fn of(window: &Window) -> Option<Self> {
        Some(Self {
            calls: window.grown("wsgate_sends_total")?,
            flushes: window.grown("wsgate_flushes_total")?,
            short: window.grown("wsgate_short_sends_total")?,
            messages: window.grown("wsgate_messages_queued_total")?,
            turns: window.grown("wsgate_loop_turn_seconds_count")?,
        })
    }
}
