//! Opens WebSocket connections by the hundred.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// Connections opened at a time: more than one, so that neither side waits for the
/// other after each, and fewer than the shortest listen queue of any server.
const OPENING_MAX: usize = 100;

/// A server that has not answered a handshake for so long never will.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

const END_OF_HEAD: &[u8] = b"\r\n\r\n";

/// Opens a connection for each path, upgraded and ready.
pub(crate) fn open(server: SocketAddr, paths: &[String]) -> io::Result<Vec<TcpStream>> {
    open_all(server, paths, None)
}

/// Opens one with so many bytes for what is not read yet. The kernel takes the number for
/// a wish: it doubles it, and has a least one.
pub(crate) fn open_with_receive_buffer(server: SocketAddr, path: &str, bytes: usize) -> io::Result<TcpStream> {
    Ok(open_all(server, &[path.to_owned()], Some(bytes))?.remove(0))
}

fn open_all(server: SocketAddr, paths: &[String], receive_buffer: Option<usize>) -> io::Result<Vec<TcpStream>> {
    let mut open = Vec::with_capacity(paths.len());
    for paths in paths.chunks(OPENING_MAX) {
        let first = open.len();
        for path in paths {
            let mut stream = connect(server, receive_buffer)?;
            stream.write_all(request(server, path).as_bytes())?;
            open.push(stream);
        }
        for (stream, path) in open[first..].iter_mut().zip(paths) {
            await_upgrade(stream)
                .map_err(|error| io::Error::new(error.kind(), format!("upgrade at {path}: {error}")))?;
        }
    }
    Ok(open)
}

/// Connects, and has said nothing.
pub(crate) fn connect(server: SocketAddr, receive_buffer: Option<usize>) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, Some(Protocol::TCP))?;
    if let Some(bytes) = receive_buffer {
        // Before it connects: the window that is offered first is of this size already.
        socket.set_recv_buffer_size(bytes)?;
    }
    socket.connect(&server.into())?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    // Closing by a reset leaves no port behind that could not be used again.
    SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    Ok(stream)
}

/// The request for an upgrade.
pub(crate) fn request(server: SocketAddr, path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {server}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// Reads the answer's head and nothing behind it.
fn await_upgrade(stream: &mut TcpStream) -> io::Result<()> {
    let mut head = [0; 2048];
    let mut filled = 0;
    while !is_upgraded(&head[..filled])? {
        let Some(room @ [_, ..]) = head.get_mut(filled..) else {
            return Err(io::Error::other("the answer to the upgrade has no end, or does not stop there"));
        };
        match stream.read(room)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => filled += n,
        }
    }
    Ok(())
}

/// Whether that is a whole answer that agrees; an error if it does not.
pub(crate) fn is_upgraded(head: &[u8]) -> io::Result<bool> {
    if !head.ends_with(END_OF_HEAD) {
        return Ok(false);
    }
    if !head.starts_with(b"HTTP/1.1 101 ") {
        let head = String::from_utf8_lossy(head);
        return Err(io::Error::other(format!("answered {:?}", head.lines().next().unwrap_or_default())));
    }
    Ok(true)
}
