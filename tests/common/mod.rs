//! A gateway to test against, and clients of two kinds: raw bytes, and tungstenite,
//! which nobody here wrote.

// Each test program uses a part of this.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::disallowed_methods)]

pub mod program;
pub mod tls;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use tungstenite::handshake::client::Request;
use tungstenite::stream::MaybeTlsStream;
use tungstenite::{ClientRequestBuilder, Message, WebSocket};
use wsgate::address::ListenAddress;
use wsgate::config::{Config, Io};
use wsgate::server::Server;
use wsgate::stats::{Cell, CloseReason, ShardStats};

/// How long anything may take before a test fails instead of hanging.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The variable that says with which backend gateways are tested: the program's own.
pub const IO_VARIABLE: &str = "WSGATE_IO";

/// The backend that gateways are tested with.
pub fn io() -> Io {
    let Ok(word) = std::env::var(IO_VARIABLE) else { return Io::Epoll };
    Io::from_word(&word).unwrap_or_else(|| panic!("{IO_VARIABLE} is {word:?}, not one of {:?}", Io::WORDS))
}

/// All backends that this machine has. With CI=true it has all.
pub fn backends() -> Vec<Io> {
    let mut backends = vec![Io::Epoll];
    match wsgate::driver::uring::probe() {
        Ok(()) => backends.push(Io::IoUring),
        Err(error) if std::env::var("CI").is_ok_and(|value| value == "true") => panic!("no io_uring: {error}"),
        Err(error) => eprintln!("io_uring is left out: {error}"),
    }
    backends
}

/// A gateway on free ports of its own, gone when dropped.
pub struct TestServer {
    server: Option<Server>,
    config: Config,
    pub clients: SocketAddr,
    pub admin: SocketAddr,
}

impl TestServer {
    /// Two shards, else the defaults of development mode.
    pub fn start() -> Self {
        Self::with(|_| ())
    }

    pub fn with(change: impl FnOnce(&mut Config)) -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut config = Config { listen: vec![any.into()], admin: any, shards: 2, io: io(), ..Config::default() };
        config.drain.deadline = Duration::from_secs(2);
        change(&mut config);
        Self::start_with(config)
    }

    pub fn start_with(config: Config) -> Self {
        let server = Server::start(&config).expect("a gateway on free ports starts");
        let clients = server.clients_addresses().iter().find_map(ListenAddress::tcp).expect("one is of TCP");
        Self { clients, admin: server.admin_address(), server: Some(server), config }
    }

    /// Reads certificates anew, as a reload without other changes does.
    pub fn reload_certificates(&self) -> Result<(), wsgate::server::TlsError> {
        self.server.as_ref().expect("runs until dropped").reload(&self.config)
    }

    /// A number, added up over the shards.
    pub fn sum(&self, cell: impl Fn(&ShardStats) -> &Cell) -> u64 {
        self.stats().iter().map(|stats| cell(stats).get()).sum()
    }

    /// A counter as `/metrics` tells it: all its samples that have this label, or all.
    #[track_caller]
    pub fn scraped(&self, counter: &str, label: &str) -> u64 {
        scraped(self.admin, counter, label)
    }

    pub fn stats(&self) -> &[std::sync::Arc<ShardStats>] {
        self.server.as_ref().expect("runs until dropped").stats()
    }

    /// Connections that ended for this reason.
    pub fn closes(&self, reason: CloseReason) -> u64 {
        self.sum(|stats| &stats.closes[reason as usize])
    }

    /// Waits until so many connections have ended, compares why, and that nothing is left.
    #[track_caller]
    pub fn expect_closes(&self, expected: &[(CloseReason, u64)]) {
        let total = expected.iter().map(|(_, count)| count).sum();
        self.wait_until("all connections have ended", |server| {
            CloseReason::ALL.into_iter().map(|reason| server.closes(reason)).sum::<u64>() >= total
        });
        self.wait_until("nothing is left of them", |server| {
            server.sum(|stats| &stats.connections) == 0 && server.sum(|stats| &stats.queue_bytes) == 0
        });
        let counted: Vec<_> = CloseReason::ALL
            .into_iter()
            .map(|reason| (reason, self.closes(reason)))
            .filter(|(_, count)| *count > 0)
            .collect();
        assert_eq!(counted, expected);
    }

    /// Waits until a condition on the counters holds.
    pub fn wait_until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        wait_until(what, || condition(self));
    }

    /// Where clients connect, all of it.
    pub fn addresses(&self) -> &[ListenAddress] {
        self.server.as_ref().expect("runs until dropped").clients_addresses()
    }

    /// Begins to drain; dropping waits for the end.
    pub fn drain(&self) {
        self.server.as_ref().expect("runs until dropped").drain();
    }

    /// Waits for the end of a drain that has begun, in time.
    pub fn wait(mut self) {
        let server = self.server.take().expect("runs until dropped");
        let (ended, end) = std::sync::mpsc::channel();
        std::thread::spawn(move || ended.send(server.wait()));
        end.recv_timeout(PATIENCE).expect("the drain ends in time").expect("no event loop fails");
    }

    /// Leaves it in the middle of a drain that would take too long, until the test program
    /// ends.
    pub fn abandon(mut self) {
        // Within reach, since what nobody can reach any more is a leak to AddressSanitizer.
        static ABANDONED: std::sync::Mutex<Vec<Server>> = std::sync::Mutex::new(Vec::new());
        ABANDONED.lock().expect("nobody panics with it").extend(self.server.take());
    }

    /// Publishes over HTTP; status and body of the answer.
    pub fn publish(&self, topic: &str, content_type: &str, body: &[u8]) -> (u16, String) {
        self.http(&format!("POST /topics/{topic} HTTP/1.1\r\nContent-Type: {content_type}"), body)
    }

    /// One request to the admin address; `head` without the headers that every one has.
    pub fn http(&self, head: &str, body: &[u8]) -> (u16, String) {
        let mut client = RawClient::connect(self.admin);
        let head =
            format!("{head}\r\nHost: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", self.admin, body.len());
        client.send(head.as_bytes());
        client.send(body);
        let answer = String::from_utf8(client.read_to_end()).expect("HTTP answers are text");
        let status = answer.get(9..12).and_then(|code| code.parse().ok()).expect(&answer);
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
        (status, body)
    }

    /// A raw connection that has not said anything.
    pub fn raw(&self) -> RawClient {
        RawClient::connect(self.clients)
    }

    /// A raw connection with a completed upgrade.
    pub fn raw_open(&self, path: &str) -> RawClient {
        let mut client = self.raw();
        client.upgrade(path, self.clients);
        client
    }

    /// A connection with a completed upgrade whose kernel takes a few KB and no more.
    pub fn raw_small(&self, path: &str) -> RawClient {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        // Before connecting, since the window is agreed on then.
        socket.set_recv_buffer_size(4096).expect("an option of every socket");
        socket.connect(&self.clients.into()).expect("the gateway accepts");
        let mut client = RawClient::new(socket.into());
        client.upgrade(path, self.clients);
        client
    }

    /// A tungstenite client.
    pub fn client(&self, path: &str) -> Client {
        self.try_client(path).expect("the upgrade is accepted")
    }

    pub fn try_client(&self, path: &str) -> tungstenite::Result<Client> {
        let uri = format!("ws://{}{path}", self.clients).parse().expect("a valid address");
        let request: Request =
            tungstenite::client::IntoClientRequest::into_client_request(ClientRequestBuilder::new(uri))?;
        let stream = TcpStream::connect(self.clients)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        match tungstenite::client(request, MaybeTlsStream::Plain(stream)) {
            Ok((socket, _)) => Ok(Client(socket)),
            Err(tungstenite::HandshakeError::Failure(error)) => Err(error),
            Err(tungstenite::HandshakeError::Interrupted(_)) => panic!("the handshake took more than {PATIENCE:?}"),
        }
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        match self.server.take() {
            // Its drain may be meant to take for ever.
            Some(server) if std::thread::panicking() => std::mem::forget(server),
            Some(server) => {
                server.drain();
                server.wait().expect("no event loop fails");
            }
            None => {}
        }
    }
}

/// What one of these says. See [`TestServer::scraped`].
#[track_caller]
pub fn scraped(admin: SocketAddr, counter: &str, label: &str) -> u64 {
    let mut client = RawClient::connect(admin);
    client.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let answer = String::from_utf8(client.read_to_end()).expect("metrics are text");
    let sample = format!("wsgate_{counter}_total{{");
    let lines: Vec<_> = answer.lines().filter(|line| line.starts_with(&sample) && line.contains(label)).collect();
    assert!(!lines.is_empty(), "no {counter} with {label:?}: {answer}");
    lines.iter().map(|line| line.rsplit(' ').next().and_then(|count| count.parse::<u64>().ok()).expect(line)).sum()
}

/// Polls until the condition holds; yields in between, never sleeps for a fixed time.
pub fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let start = std::time::Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} for: {what}");
        std::thread::yield_now();
    }
}

/// A blocking tungstenite client.
pub struct Client(pub WebSocket<MaybeTlsStream<TcpStream>>);

impl Client {
    pub fn send(&mut self, message: impl Into<Message>) {
        self.0.send(message.into()).expect("sends");
    }

    /// The next text or binary message; pings are answered on the way.
    pub fn receive(&mut self) -> Message {
        loop {
            match self.0.read().expect("a message arrives in time") {
                Message::Ping(_) | Message::Pong(_) => {}
                message => return message,
            }
        }
    }

    pub fn receive_text(&mut self) -> String {
        self.receive().into_text().expect("a text message").to_string()
    }
}

/// Bytes in, bytes out.
pub struct RawClient(pub TcpStream);

impl RawClient {
    pub fn connect(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect(address).expect("the gateway accepts"))
    }

    pub fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("an option of every TCP socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("an option of every socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("an option of every socket");
        Self(stream)
    }

    /// From an address of this machine's own: 127.0.0.1 and up.
    pub fn connect_from(source: [u8; 4], address: SocketAddr) -> Self {
        Self::try_connect_from(source, address).expect("the gateway accepts")
    }

    pub fn try_connect_from(source: [u8; 4], address: SocketAddr) -> std::io::Result<Self> {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from((source, 0)).into()).expect("loopback has all of 127.0.0.0/8");
        socket.connect(&address.into())?;
        Ok(Self::new(socket.into()))
    }

    /// At a socket in the file system. A stream is a stream, whatever its type says.
    pub fn connect_unix(path: &Path) -> Self {
        let stream = UnixStream::connect(path).expect("the gateway accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("an option of every socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("an option of every socket");
        Self(OwnedFd::from(stream).into())
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("the gateway reads");
    }

    /// A minimal upgrade request; the head of the answer, which must be a 101.
    pub fn upgrade(&mut self, path: &str, host: SocketAddr) -> String {
        self.send(&upgrade_request(path, host));
        let head = self.read_head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        head
    }

    /// Reads to the empty line that ends a head, and not a byte further.
    pub fn read_head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.extend_from_slice(&self.read_bytes(1));
        }
        String::from_utf8(head).expect("heads are text")
    }

    pub fn read_bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.0.read_exact(&mut bytes).expect("the bytes arrive in time");
        bytes
    }

    /// Reads exactly these bytes.
    #[track_caller]
    pub fn expect(&mut self, expected: &[u8]) {
        let got = self.read_bytes(expected.len());
        assert_eq!(got, expected);
    }

    /// The next frame: its first byte and its payload. A server's frames are not masked.
    #[track_caller]
    pub fn read_frame(&mut self) -> (u8, Vec<u8>) {
        let head = self.read_bytes(2);
        let len = match head[1] {
            126 => u16::from_be_bytes(self.read_bytes(2).try_into().expect("two bytes")).into(),
            127 => u64::from_be_bytes(self.read_bytes(8).try_into().expect("eight bytes")),
            short => u64::from(short),
        };
        assert!(head[1] < 0x80, "the gateway masked a frame");
        (head[0], self.read_bytes(len as usize))
    }

    /// Reads a Close frame with this code; its words.
    #[track_caller]
    pub fn expect_close(&mut self, code: u16) -> String {
        let (first, body) = self.read_frame();
        assert_eq!(first, 0x88, "a Close frame, not {body:?}");
        assert!((2..=125).contains(&body.len()), "a code and at most 123 bytes of words, not {body:?}");
        assert_eq!(u16::from_be_bytes([body[0], body[1]]), code);
        String::from_utf8(body[2..].to_vec()).expect("words are text")
    }

    /// Nothing has arrived and not been read, not even an end.
    #[track_caller]
    pub fn expect_nothing_yet(&mut self) {
        self.0.set_nonblocking(true).expect("an option of every socket");
        let peeked = self.0.peek(&mut [0]);
        self.0.set_nonblocking(false).expect("an option of every socket");
        match peeked {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            other => panic!("something has arrived: {other:?}"),
        }
    }

    /// Reads a response that is the connection's last word, and its end.
    #[track_caller]
    pub fn read_response(&mut self) -> Response {
        Response::parse(&self.read_to_end())
    }

    /// Ends the client's direction.
    pub fn end(&mut self) {
        self.0.shutdown(Shutdown::Write).expect("the connection is there");
    }

    /// Vanishes with a reset.
    pub fn reset(self) {
        socket2::SockRef::from(&self.0).set_linger(Some(Duration::ZERO)).expect("an option of every TCP socket");
    }

    /// Reads a Close with this code, and answers it.
    #[track_caller]
    pub fn answer_close(&mut self, code: u16) {
        self.expect_close(code);
        self.send(&masked(0x88, &code.to_be_bytes()));
    }

    /// Everything until the gateway's reset; an orderly end is a failure.
    #[track_caller]
    pub fn read_to_reset(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self.0.read_to_end(&mut bytes) {
            Err(error) if error.kind() == ErrorKind::ConnectionReset => bytes,
            other => panic!("no reset, but {other:?} after {} bytes", bytes.len()),
        }
    }

    /// Everything until the gateway's FIN.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self.0.read_to_end(&mut bytes) {
            Ok(_) => bytes,
            Err(error) => panic!("no clean end after {bytes:?}: {error}"),
        }
    }

    /// The gateway has ended its direction, without another byte.
    #[track_caller]
    pub fn expect_end(&mut self) {
        assert_eq!(self.read_to_end(), b"");
    }

    /// The connection is over, by an end or by a reset.
    #[track_caller]
    pub fn expect_gone(&mut self) {
        let mut bytes = [0; 4096];
        loop {
            match self.0.read(&mut bytes) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return,
                Err(error) => panic!("not gone: {error}"),
            }
        }
    }
}

/// A plain HTTP response that ends its connection.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Response {
    /// Checks that it is complete and says that the connection ends.
    #[track_caller]
    pub fn parse(bytes: &[u8]) -> Self {
        let text = std::str::from_utf8(bytes).expect("responses are text");
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {text:?}"));
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")).and_then(|line| line.get(..3));
        let status = status.and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("no status: {text:?}"));
        let headers = lines
            .map(|line| line.split_once(": ").unwrap_or_else(|| panic!("no header: {line:?}")))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let response = Self { status, headers, body: body.to_owned() };
        assert_eq!(response.header("Content-Length"), Some(body.len().to_string().as_str()), "{text}");
        let connection = response.header("Connection").unwrap_or_default();
        assert!(connection.split(", ").any(|option| option == "close"), "{text}");
        response
    }

    /// The value of a header, its name spelled exactly so.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// A minimal upgrade request.
pub fn upgrade_request(path: &str, host: SocketAddr) -> Vec<u8> {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    request.into_bytes()
}

/// The bytes that hexadecimal digits stand for; blanks are skipped.
pub fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<u32> =
        digits.chars().filter(|c| *c != ' ').map(|c| c.to_digit(16).expect("a hexadecimal digit")).collect();
    digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

/// A frame as a client sends it: first byte as given, a fixed mask.
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let key = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..=125 => frame.push(0x80 | len as u8),
        len @ 126..=0xffff => {
            frame.push(0xfe);
            frame.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            frame.push(0xff);
            frame.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&key);
    frame.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

/// A frame as a server sends it.
pub fn unmasked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..=125 => frame.push(len as u8),
        len @ 126..=0xffff => {
            frame.push(126);
            frame.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            frame.push(127);
            frame.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}
