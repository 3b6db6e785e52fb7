//! An echo at times that were fixed beforehand, whatever became of earlier ones.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;

use crate::rig::delays::{Delays, Quantiles};
use crate::rig::frames::{client_frame, server_frame};
use crate::rig::load::STALL_MAX;

/// Echoes in a second.
pub(super) const RATE: u32 = 200;
const PAYLOAD_BYTES: usize = 20;

/// The fraction of the golden ratio: its multiples, less their whole parts, fall evenly
/// between 0 and 1 without a period that turns of the server could share.
const UNEVEN: f64 = 0.618_033_988_749_895;

/// What the echoes found.
#[derive(Clone, Copy, Serialize, Debug)]
pub(super) struct Echoes {
    /// From a send until its reply was read.
    pub(super) round_trip: Quantiles,
    /// From the time that a send was due until it was made: the part that this side and
    /// its processor have in all delays.
    pub(super) late: Quantiles,
}

/// Sends echoes for a while, and waits for the last reply.
pub(super) fn run(stream: &mut TcpStream, time: Duration) -> io::Result<Echoes> {
    stream.set_nonblocking(true)?;
    let frame = client_frame(PAYLOAD_BYTES);
    let reply_bytes = server_frame(PAYLOAD_BYTES).len();
    let interval = Duration::from_secs(1) / RATE;
    let (start, count) = (Instant::now(), (time.as_secs_f64() * f64::from(RATE)) as u32);
    let due = |n: u32| start + interval.mul_f64(f64::from(n) + (f64::from(n) * UNEVEN).fract());

    let (mut round_trips, mut late) = (Delays::default(), Delays::default());
    let mut under_way = VecDeque::new();
    let (mut sent, mut partial) = (0, 0);
    let mut buffer = [0; 4096];
    while sent < count || !under_way.is_empty() {
        let now = Instant::now();
        if sent < count && now >= due(sent) {
            late.record(now - due(sent));
            under_way.push_back(Instant::now());
            // A frame this small, and few at a time, always fit.
            stream.write_all(&frame)?;
            sent += 1;
        }
        let until = if sent < count { due(sent).saturating_duration_since(now) } else { STALL_MAX };
        let timeout = Timespec { tv_sec: until.as_secs() as i64, tv_nsec: until.subsec_nanos().into() };
        let readable = poll(&mut [PollFd::new(stream, PollFlags::IN)], Some(&timeout))?;
        if readable == 0 && sent == count {
            return Err(io::Error::other(format!("no reply came to an echo for {STALL_MAX:?}")));
        }
        let read = match stream.read(&mut buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(n) => n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        let now = Instant::now();
        partial += read;
        while partial >= reply_bytes {
            partial -= reply_bytes;
            let at = under_way.pop_front().ok_or_else(|| io::Error::other("more replies than echoes"))?;
            round_trips.record(now - at);
        }
    }
    Ok(Echoes { round_trip: round_trips.quantiles(), late: late.quantiles() })
}
