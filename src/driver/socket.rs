//! Listening sockets and their options.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

use crate::limits::LISTEN_BACKLOG;

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
    pub fn bind(address: SocketAddr, count: usize) -> io::Result<Self> {
        let probe = new_socket(address)?;
        probe.bind(&address.into())?;
        let bound = probe.local_addr()?.as_socket().unwrap_or(address);
        drop(probe);
        let sockets = (0..count)
            .map(|_| {
                let socket = new_socket(bound)?;
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

    /// Makes all of them listen. Not before all are bound: a listener that is there
    /// alone for a moment would get all connections of that moment.
    pub fn listen(self) -> io::Result<Vec<TcpListener>> {
        for socket in &self.sockets {
            socket.listen(LISTEN_BACKLOG)?;
        }
        Ok(self.sockets.into_iter().map(TcpListener::from).collect())
    }
}

fn new_socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A restart must not wait for old connections in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // Accepted sockets inherit it, which saves a call for each: small frames must not
    // wait for the acknowledgement of earlier ones.
    socket.set_tcp_nodelay(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_anybody_has_is_refused() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let first = BoundListeners::bind(any, 2).unwrap();
        let address = first.address();
        let listeners = first.listen().unwrap();
        assert_eq!(listeners.len(), 2);
        let error = BoundListeners::bind(address, 2).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
