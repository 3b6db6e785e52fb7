//! What attacks are made of: connections from addresses of their own, and a thread that
//! takes what the honest side leaves of the load's processor.

use std::cell::Cell;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// The least priority that there is: an attack must not hold up the honest side's clients,
/// which would look like a server that is slow.
const NICE_MAX: i32 = 19;
/// A server that has not answered for so long is not waited for.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// How long an attack sleeps that could do nothing.
const PAUSE: Duration = Duration::from_micros(200);

/// The code of a Close for messages that are too long: 1009.
const TOO_LONG: [u8; 2] = 1009u16.to_be_bytes();

const END_OF_HEAD: &[u8] = b"\r\n\r\n";

/// One attack under way.
pub(super) trait Attack {
    /// Does some of it, for some milliseconds at most.
    fn step(&mut self, tally: &mut Tally) -> io::Result<Progress>;
}

/// Whether a step could do something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Progress {
    Made,
    /// Nothing to do at the moment; a pause does not slow the attack down.
    Waiting,
}

/// What an attack achieved.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Tally {
    /// In units of the attack.
    pub(super) done: u64,
    /// Connections opened.
    pub(super) opened: u64,
    /// Times that the server refused, closed or reset a connection.
    pub(super) ended: u64,
}

/// A tally, and how long it took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Achieved {
    pub(super) tally: Tally,
    pub(super) wall: Duration,
    /// Processor time of the attack.
    pub(super) cpu: Duration,
}

/// Attacks until told to stop. To be called on a thread of its own.
pub(super) fn run(attack: &mut dyn Attack, stop: &AtomicBool) -> io::Result<Achieved> {
    // Of this thread alone, as Linux has it.
    rustix::process::nice(NICE_MAX)?;
    let (start, mut tally) = (Instant::now(), Tally::default());
    while !stop.load(Ordering::Relaxed) {
        if attack.step(&mut tally)? == Progress::Waiting {
            std::thread::sleep(PAUSE);
        }
    }
    let cpu = clock_gettime(ClockId::ThreadCPUTime);
    let cpu = Duration::new(cpu.tv_sec as u64, cpu.tv_nsec as u32);
    Ok(Achieved { tally, wall: start.elapsed(), cpu })
}

/// Addresses that follow one another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Sources {
    pub(super) first: Ipv4Addr,
    pub(super) count: u32,
}

/// Who attacks whom.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) server: SocketAddr,
    /// The addresses that connections come from, in turn.
    sources: Sources,
    /// Connections that were tried.
    tried: Cell<u32>,
}

impl Target {
    pub(super) fn new(server: SocketAddr, sources: Sources) -> Self {
        Self { server, sources, tried: Cell::new(0) }
    }

    /// A connection that has said nothing and blocks; `None` if the server would not have it.
    /// When dropped it is reset, so that no port stays behind. `receive_buffer` is a wish in
    /// bytes.
    pub(super) fn connect(&self, receive_buffer: Option<usize>, tally: &mut Tally) -> io::Result<Option<TcpStream>> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        if let Some(bytes) = receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        let Sources { first, count } = self.sources;
        let source = Ipv4Addr::from_bits(first.to_bits() + self.tried.get() % count);
        self.tried.set(self.tried.get().wrapping_add(1));
        socket.bind(&SocketAddr::from((source, 0)).into())?;
        socket.set_linger(Some(Duration::ZERO))?;
        match socket.connect_timeout(&self.server.into(), ANSWER_MAX) {
            Ok(()) => tally.opened += 1,
            Err(error) if is_refusal(&error) => {
                tally.ended += 1;
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
        socket.set_tcp_nodelay(true)?;
        socket.set_read_timeout(Some(ANSWER_MAX))?;
        socket.set_write_timeout(Some(ANSWER_MAX))?;
        Ok(Some(socket.into()))
    }

    /// The request that upgrades a connection at a path, with more headers, each of which
    /// ends its line.
    pub(super) fn upgrade(&self, path: &str, headers: &str) -> Vec<u8> {
        format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: \
             13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n",
            self.server
        )
        .into_bytes()
    }

    /// Upgraded connections that do not block. Fewer than asked for if the server refuses.
    pub(super) fn open(
        &self,
        path: &str,
        count: usize,
        receive_buffer: Option<usize>,
        tally: &mut Tally,
    ) -> io::Result<Vec<TcpStream>> {
        let request = self.upgrade(path, "");
        let mut open = self.say_with(&request, count, receive_buffer, tally)?;
        open.retain_mut(|stream| match await_head(stream) {
            Some(head) if head.starts_with(b"HTTP/1.1 101 ") => true,
            _ => {
                tally.ended += 1;
                false
            }
        });
        open.iter().try_for_each(|stream| stream.set_nonblocking(true))?;
        Ok(open)
    }

    /// Connections that have each said something and block for an answer.
    pub(super) fn say(&self, bytes: &[u8], count: usize, tally: &mut Tally) -> io::Result<Vec<TcpStream>> {
        self.say_with(bytes, count, None, tally)
    }

    fn say_with(
        &self,
        bytes: &[u8],
        count: usize,
        receive_buffer: Option<usize>,
        tally: &mut Tally,
    ) -> io::Result<Vec<TcpStream>> {
        let mut streams = Vec::with_capacity(count);
        for _ in 0..count {
            let Some(mut stream) = self.connect(receive_buffer, tally)? else { continue };
            if stream.write_all(bytes).is_ok() {
                streams.push(stream);
            } else {
                tally.ended += 1;
            }
        }
        Ok(streams)
    }
}

/// Whether the server, or the kernel for it, would not have a connection.
fn is_refusal(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset | ErrorKind::TimedOut)
}

/// The answer to a request, and what comes with it; `None` if there is none.
pub(super) fn await_head(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut answer = Vec::new();
    let mut buffer = [0; 1024];
    while !answer.windows(END_OF_HEAD.len()).any(|bytes| bytes == END_OF_HEAD) {
        match stream.read(&mut buffer) {
            Ok(n @ 1..) => answer.extend_from_slice(&buffer[..n]),
            _ => return None,
        }
    }
    Some(answer)
}

/// Everything that the server still says, if it ends the connection in time.
pub(super) fn await_end(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => Some(bytes),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Some(bytes),
        Err(_) => None,
    }
}

/// Whether a Close with the code 1009 is in what a server said, behind a head or not.
pub(super) fn says_too_long(answer: &[u8]) -> bool {
    // The head has no bytes that are not ASCII, and the words behind the code neither.
    let close = answer.iter().position(|&byte| byte == 0x88).and_then(|at| answer.get(at + 2..at + 4));
    close == Some(&TOO_LONG)
}

/// Whether a connection that does not block is over, without reading what it has.
pub(super) fn is_over(stream: &TcpStream) -> bool {
    !matches!(SockRef::from(stream).take_error(), Ok(None))
}

/// What a connection that does not block has to say, thrown away; an error if it is over.
pub(super) fn discard(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<()> {
    loop {
        match stream.read(buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(n) if n == buffer.len() => {}
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}
