//! Listening sockets of TCP and their options.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::limits::LISTEN_BACKLOG;

/// Options that accepted sockets inherit from their listener, so that they cost no call
/// for each connection.
#[derive(Clone, Copy, Debug)]
pub struct SocketOptions {
    /// Bytes not yet sent that the kernel takes for one connection (TCP_NOTSENT_LOWAT).
    pub unsent_bytes: u32,
    /// How long sent bytes may stay unacknowledged (TCP_USER_TIMEOUT).
    pub unacknowledged: Duration,
    /// Bytes of the kernel's send buffer (SO_SNDBUF); nothing leaves it to the system.
    pub send_buffer_bytes: Option<usize>,
    /// Bytes of the kernel's receive buffer (SO_RCVBUF); nothing leaves it to the system.
    pub receive_buffer_bytes: Option<usize>,
}

/// Sockets bound to one address, one per shard, that do not listen yet.
#[derive(Debug)]
pub struct BoundListeners {
    sockets: Vec<Socket>,
    address: SocketAddr,
}

impl BoundListeners {
    /// Binds `count` sockets to `address`; with port 0 all to the same free port.
    ///
    /// SO_REUSEPORT lets the kernel spread connections over them. It would also let a
    /// second process of the same user share the port in silence, so a socket without
    /// the option is bound first: it fails if anybody has the address.
    pub fn bind(address: SocketAddr, count: usize, options: SocketOptions) -> io::Result<Self> {
        let probe = new_socket(address, options)?;
        probe.bind(&address.into())?;
        let bound = probe.local_addr()?.as_socket().unwrap_or(address);
        drop(probe);
        let sockets = (0..count)
            .map(|_| {
                let socket = new_socket(bound, options)?;
                socket.set_reuse_port(true)?;
                socket.bind(&bound.into())?;
                Ok(socket)
            })
            .collect::<io::Result<Vec<_>>>()?;
        Ok(Self { sockets, address: bound })
    }

    /// The address with its port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sockets that somebody else has bound, and opened for listening perhaps.
    pub fn adopt(socket: Socket, options: SocketOptions) -> io::Result<Self> {
        let address = socket.local_addr()?.as_socket();
        let address = address.ok_or_else(|| io::Error::other("the socket is not one of TCP"))?;
        set_options(&socket, options)?;
        Ok(Self { sockets: vec![socket], address })
    }

    /// Makes all of them listen. Not before all are bound: a listener that is there
    /// alone for a moment would get all connections of that moment.
    pub fn listen(self) -> io::Result<Vec<Socket>> {
        for socket in &self.sockets {
            listen(socket)?;
        }
        Ok(self.sockets)
    }
}

/// Opens a socket for connections; one that is open already keeps its queue as it is.
pub(super) fn listen(socket: &Socket) -> io::Result<()> {
    if socket.is_listener()? { Ok(()) } else { socket.listen(LISTEN_BACKLOG) }
}

fn new_socket(address: SocketAddr, options: SocketOptions) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // Whatever the system's default is: who wants IPv4 too lists an address of it.
        socket.set_only_v6(true)?;
    }
    // A restart must not wait for old connections in TIME_WAIT.
    socket.set_reuse_address(true)?;
    set_options(&socket, options)?;
    Ok(socket)
}

fn set_options(socket: &Socket, options: SocketOptions) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    // Small frames must not wait for the acknowledgement of earlier ones.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(options.unsent_bytes)?;
    socket.set_tcp_user_timeout(Some(options.unacknowledged))?;
    if let Some(bytes) = options.send_buffer_bytes {
        socket.set_send_buffer_size(bytes)?;
    }
    if let Some(bytes) = options.receive_buffer_bytes {
        socket.set_recv_buffer_size(bytes)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: SocketOptions = SocketOptions {
        unsent_bytes: 64 * 1024,
        unacknowledged: Duration::from_secs(30),
        send_buffer_bytes: Some(8 * 1024),
        receive_buffer_bytes: Some(4 * 1024),
    };

    fn bind(address: SocketAddr) -> io::Result<BoundListeners> {
        BoundListeners::bind(address, 2, OPTIONS)
    }

    #[test]
    fn an_address_that_anybody_has_is_refused() {
        let first = bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = first.address();
        let listeners = first.listen().unwrap();
        assert_eq!(listeners.len(), 2);
        let error = bind(address).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn accepted_sockets_inherit_the_options() {
        let bound = BoundListeners::bind(SocketAddr::from(([127, 0, 0, 1], 0)), 1, OPTIONS).unwrap();
        let address = bound.address();
        let listener = bound.listen().unwrap().remove(0);
        listener.set_nonblocking(false).unwrap();
        let _client = std::net::TcpStream::connect(address).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        assert!(accepted.tcp_nodelay().unwrap());
        assert_eq!(accepted.tcp_notsent_lowat().unwrap(), OPTIONS.unsent_bytes);
        assert_eq!(accepted.tcp_user_timeout().unwrap(), Some(OPTIONS.unacknowledged));
        // The kernel doubles them.
        assert_eq!(accepted.send_buffer_size().unwrap(), 16 * 1024);
        assert_eq!(accepted.recv_buffer_size().unwrap(), 8 * 1024);
    }
}
