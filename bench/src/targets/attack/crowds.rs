//! Attacks by many connections that do next to nothing.

use std::io::{self, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::attacker::{Attack, Progress, Tally, Target, discard, is_over};
use crate::rig::frames::client_frame;

/// Requests that never end.
pub(super) const HALF_OPEN: usize = 5_000;
/// Connections that never read.
pub(super) const SILENT: usize = 2_000;

/// Connections opened in one step.
const OPENED_PER_STEP: usize = 50;
/// Connections looked at in one step.
const LOOKED_AT_PER_STEP: usize = 100;
/// From one byte of a request to the next.
const DRIBBLE: Duration = Duration::from_secs(1);
/// What those that do not read get on a topic of their own.
const FEED_BYTES: usize = 2560;
const FEED_INTERVAL: Duration = Duration::from_millis(100);
/// Asked for by those that do not read.
const RECEIVE_BUFFER_BYTES: usize = 4096;

/// Requests that come a byte a second. Who is refused begins anew.
#[derive(Debug)]
pub(super) struct HalfOpen {
    target: Target,
    start: Vec<u8>,
    open: Vec<Request>,
    /// The next to be given a byte.
    next: usize,
}

#[derive(Debug)]
struct Request {
    stream: TcpStream,
    due: Instant,
}

impl HalfOpen {
    /// Of HTTP.
    pub(super) fn http(target: Target) -> Self {
        let start = format!("GET /topics/flood HTTP/1.1\r\nHost: {}\r\nX-Dribble: ", target.server);
        Self::new(target, start.into_bytes())
    }

    /// That begin so.
    pub(super) fn new(target: Target, start: Vec<u8>) -> Self {
        Self { target, start, open: Vec::with_capacity(HALF_OPEN), next: 0 }
    }
}

impl Attack for HalfOpen {
    fn step(&mut self, tally: &mut Tally) -> io::Result<Progress> {
        let missing = (HALF_OPEN - self.open.len()).min(OPENED_PER_STEP);
        for stream in self.target.say(&self.start, missing, tally)? {
            stream.set_nonblocking(true)?;
            self.open.push(Request { stream, due: Instant::now() + DRIBBLE });
        }
        let now = Instant::now();
        let mut dribbled = 0;
        for _ in 0..LOOKED_AT_PER_STEP.min(self.open.len()) {
            self.next %= self.open.len();
            let request = &mut self.open[self.next];
            if request.due > now {
                self.next += 1;
                continue;
            }
            request.due = now + DRIBBLE;
            // The answer of a server that waits no longer is an end, too.
            let over = discard(&mut request.stream, &mut [0; 1024]).is_err();
            if over || request.stream.write_all(b"a").is_err() {
                self.open.swap_remove(self.next);
                tally.ended += 1;
                if self.open.is_empty() {
                    break;
                }
            } else {
                dribbled += 1;
                self.next += 1;
            }
        }
        tally.done += dribbled;
        Ok(if missing > 0 || dribbled > 0 { Progress::Made } else { Progress::Waiting })
    }
}

/// Subscribers that never read. Who is closed comes again.
#[derive(Debug)]
pub(super) struct Silent {
    target: Target,
    path: &'static str,
    open: Vec<TcpStream>,
    next: usize,
    feed: Option<Feed>,
}

/// What the silent get on a topic of their own.
#[derive(Debug)]
struct Feed {
    publisher: TcpStream,
    message: Vec<u8>,
    due: Instant,
}

impl Silent {
    /// On a topic that gets messages without them.
    pub(super) fn listening(target: Target, path: &'static str) -> Self {
        Self { target, path, open: Vec::with_capacity(SILENT), next: 0, feed: None }
    }

    /// On a topic of their own to which they publish.
    pub(super) fn fed(target: Target) -> io::Result<Self> {
        let publisher = target.open("/topics/flood?subscribe=off", 1, None, &mut Tally::default())?.pop();
        let publisher = publisher.ok_or_else(|| io::Error::other("the publisher was refused"))?;
        let feed = Feed { publisher, message: client_frame(FEED_BYTES), due: Instant::now() };
        Ok(Self { feed: Some(feed), ..Self::listening(target, "/topics/flood") })
    }
}

impl Attack for Silent {
    fn step(&mut self, tally: &mut Tally) -> io::Result<Progress> {
        if let Some(feed) = &mut self.feed
            && feed.due <= Instant::now()
        {
            feed.due += FEED_INTERVAL;
            // A message that does not fit is one less.
            let _ = feed.publisher.write_all(&feed.message);
        }
        let missing = (SILENT - self.open.len()).min(OPENED_PER_STEP);
        let opened = self.target.open(self.path, missing, Some(RECEIVE_BUFFER_BYTES), tally)?;
        tally.done += opened.len() as u64;
        self.open.extend(opened);
        for _ in 0..LOOKED_AT_PER_STEP.min(self.open.len()) {
            self.next %= self.open.len().max(1);
            if self.open.get(self.next).is_some_and(is_over) {
                self.open.swap_remove(self.next);
                tally.ended += 1;
            } else {
                self.next += 1;
            }
        }
        Ok(if missing > 0 { Progress::Made } else { Progress::Waiting })
    }
}
