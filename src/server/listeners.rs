//! Everything that clients connect to: bound first, opened together.

use std::io;
use std::net::SocketAddr;

use listenfd::ListenFd;
use socket2::Socket;

use super::StartError;
use crate::address::ListenAddress;
use crate::config::{Config, Mode};
use crate::driver::listener::Listener;
use crate::driver::socket::{BoundListeners, SocketOptions};
use crate::driver::unix_socket::{SocketFile, UnixSocket};

/// The variable that says how many sockets were passed (sd_listen_fds(3)).
const INHERITED_COUNT: &str = "LISTEN_FDS";
/// The variable with their names, colons between them.
const INHERITED_NAMES: &str = "LISTEN_FDNAMES";

/// Sockets that are bound and do not listen yet.
pub(super) struct Bound(Vec<(ListenAddress, Socketed)>);

enum Socketed {
    /// One for each shard, or one that was inherited.
    Tcp(BoundListeners),
    Unix(UnixSocket),
    /// A Unix socket that was inherited: its file belongs to whoever made it.
    InheritedUnix(Socket),
}

/// Sockets that listen.
pub(super) struct Listening {
    /// Where, with the ports that were free.
    pub(super) addresses: Vec<ListenAddress>,
    /// For each shard its part of every socket.
    pub(super) by_shard: Vec<Vec<Listener>>,
    /// To be kept until nobody takes connections any more.
    pub(super) files: Vec<SocketFile>,
}

impl Bound {
    /// Binds all addresses of a configuration.
    pub(super) fn bind(config: &Config, options: SocketOptions) -> Result<Self, StartError> {
        let mut inherited = Inherited::take(&config.listen);
        let mut bound = Vec::new();
        for address in &config.listen {
            let failed = |error| StartError::Bind { key: "listen", address: address.clone(), error };
            match address {
                ListenAddress::Tcp(tcp) => {
                    let listeners = BoundListeners::bind(*tcp, config.shards, options).map_err(failed)?;
                    bound.push((listeners.address().into(), Socketed::Tcp(listeners)));
                }
                ListenAddress::Unix { path, mode } => {
                    let socket = UnixSocket::bind(path, *mode).map_err(failed)?;
                    bound.push((address.clone(), Socketed::Unix(socket)));
                }
                ListenAddress::Inherited(name) => {
                    bound.extend(inherited.adopt(name.as_deref(), options).map_err(failed)?);
                }
            }
        }
        if let Some((name, _)) = inherited.sockets.first() {
            tracing::warn!(name, "a socket that was passed by LISTEN_FDS is not used; list it as systemd:NAME");
        }
        let exposed = |address: &SocketAddr| !address.ip().to_canonical().is_loopback();
        match bound.iter().filter_map(|(address, _)| address.tcp()).find(exposed) {
            Some(address) if config.mode == Mode::Development => Err(StartError::Exposed(address)),
            _ => Ok(Self(bound)),
        }
    }

    /// Makes all of them listen.
    pub(super) fn listen(self, shards: usize) -> Result<Listening, StartError> {
        let mut by_shard: Vec<Vec<Listener>> = (0..shards).map(|_| Vec::new()).collect();
        let (mut addresses, mut files) = (Vec::new(), Vec::new());
        for (address, socket) in self.0 {
            let failed = |error| StartError::Bind { key: "listen", address: address.clone(), error };
            let sockets = match socket {
                Socketed::Tcp(listeners) => listeners.listen().map_err(failed)?,
                Socketed::InheritedUnix(socket) => vec![socket],
                Socketed::Unix(socket) => {
                    let (socket, file) = socket.listen().map_err(failed)?;
                    files.push(file);
                    vec![socket]
                }
            };
            deal(sockets, &mut by_shard).map_err(failed)?;
            addresses.push(address);
        }
        Ok(Listening { addresses, by_shard, files })
    }
}

/// Gives each shard a socket of its own, or a descriptor of the only one.
fn deal(mut sockets: Vec<Socket>, by_shard: &mut [Vec<Listener>]) -> io::Result<()> {
    if sockets.len() == by_shard.len() {
        by_shard.iter_mut().zip(sockets).for_each(|(shard, socket)| shard.push(Listener::new(socket, false)));
        return Ok(());
    }
    let socket = sockets.remove(0);
    for shard in by_shard {
        shard.push(Listener::new(socket.try_clone()?, true));
    }
    Ok(())
}

/// Sockets that whoever started this process has passed to it, with their names.
struct Inherited {
    sockets: Vec<(String, Result<Socket, String>)>,
    /// Names that the configuration lists.
    listed: Vec<String>,
}

impl Inherited {
    /// Takes them over, if the configuration wants any: what is not for us stays untouched.
    fn take(addresses: &[ListenAddress]) -> Self {
        if !addresses.iter().any(|address| matches!(address, ListenAddress::Inherited(_))) {
            if std::env::var_os(INHERITED_COUNT).is_some() {
                tracing::warn!("sockets were passed by LISTEN_FDS, but listen has no \"systemd\"");
            }
            return Self { sockets: Vec::new(), listed: Vec::new() };
        }
        let listed = addresses.iter().filter_map(|address| match address {
            ListenAddress::Inherited(name) => name.clone(),
            _ => None,
        });
        let names = std::env::var(INHERITED_NAMES).unwrap_or_default();
        let mut names = names.split(':').map(str::to_owned);
        let mut passed = ListenFd::from_env();
        let sockets = (0..passed.len()).map(|n| {
            let socket = match passed.take_unix_listener(n) {
                Ok(Some(unix)) => Ok(Socket::from(unix)),
                _ => match passed.take_tcp_listener(n) {
                    Ok(Some(tcp)) => Ok(Socket::from(tcp)),
                    Ok(None) => Err("it is taken already".to_owned()),
                    Err(error) => Err(error.to_string()),
                },
            };
            (names.next().filter(|name| !name.is_empty()).unwrap_or_else(|| "unknown".to_owned()), socket)
        });
        Self { sockets: sockets.collect(), listed: listed.collect() }
    }

    /// Those of that name, or all that the configuration does not name, with their addresses.
    fn adopt(&mut self, name: Option<&str>, options: SocketOptions) -> io::Result<Vec<(ListenAddress, Socketed)>> {
        let wanted = |own: &String| name.map_or(!self.listed.contains(own), |name| name == own);
        let sockets = std::mem::take(&mut self.sockets);
        let (wanted, left): (Vec<_>, Vec<_>) = sockets.into_iter().partition(|(own, _)| wanted(own));
        self.sockets = left;
        if wanted.is_empty() {
            return Err(io::Error::other("no such socket was passed (LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES)"));
        }
        wanted.into_iter().map(|(_, socket)| adopt(socket.map_err(io::Error::other)?, options)).collect()
    }
}

fn adopt(socket: Socket, options: SocketOptions) -> io::Result<(ListenAddress, Socketed)> {
    if !socket.is_listener()? {
        return Err(io::Error::other("the socket that was passed does not listen"));
    }
    let address = socket.local_addr()?;
    if !address.is_unix() {
        let listeners = BoundListeners::adopt(socket, options)?;
        return Ok((listeners.address().into(), Socketed::Tcp(listeners)));
    }
    socket.set_nonblocking(true)?;
    let path = address.as_pathname().map(Into::into).unwrap_or_default();
    Ok((ListenAddress::Unix { path, mode: 0 }, Socketed::InheritedUnix(socket)))
}
