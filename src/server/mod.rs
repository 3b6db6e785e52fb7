//! The gateway as a whole: start it, learn its addresses, stop it.
//!
//! [`Server::start`] binds everything, then starts one thread per shard and one for
//! the control plane. A start that fails leaves nothing running.

#![forbid(unsafe_code)]

mod listeners;
mod worker;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use tokio::sync::Notify;

use crate::address::ListenAddress;
use crate::admission::{Admission, AdmissionSettings};
use crate::config::Config;
use crate::control::{Control, ControlSettings};
use crate::driver::clock::Clock;
use crate::driver::mailbox;
use crate::driver::socket::{BoundListeners, SocketOptions};
use crate::driver::unix_socket::SocketFile;
use crate::hub::HubSettings;
use crate::id::ShardId;
use crate::origin::OriginPolicy;
use crate::stats::ShardStats;
use listeners::{Bound, Listening};
use worker::Worker;

/// Why the gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address could not be bound.
    #[error("cannot listen on {address} ({key}): {error}{}", hint(.error))]
    Bind {
        /// The configuration's key.
        key: &'static str,
        /// Its value.
        address: ListenAddress,
        /// What the system said.
        error: io::Error,
    },
    /// A socket that was passed can be reached from other machines.
    #[error(
        "the socket at {0} that was passed (listen) can be reached from other machines, which development mode does not serve; set mode = \"production\""
    )]
    Exposed(SocketAddr),
    /// The system refused a thread, a descriptor or random numbers.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; stop the other program, or choose another port (0 takes a free one)",
        io::ErrorKind::PermissionDenied => "; ports below 1024 need a capability, or choose a higher one",
        io::ErrorKind::AddrNotAvailable => "; this machine does not have that address",
        _ => "",
    }
}

/// A running gateway.
pub struct Server {
    clients: Vec<ListenAddress>,
    admin: SocketAddr,
    workers: Vec<Worker>,
    control: Control,
    stats: Arc<[Arc<ShardStats>]>,
    /// Files of Unix sockets, removed at the end.
    _files: Vec<SocketFile>,
}

impl Server {
    /// Starts a gateway.
    pub fn start(config: &Config) -> Result<Self, StartError> {
        let admin_failed = |error| StartError::Bind { key: "admin", address: config.admin.into(), error };
        let options = SocketOptions {
            unsent_bytes: config.limits.kernel_unsent_bytes as u32,
            unacknowledged: config.timeouts.unacknowledged,
        };
        let clients = Bound::bind(config, options)?;
        let admin = BoundListeners::bind(config.admin, 1, options).map_err(admin_failed)?;
        let admin_address = admin.address();

        let bell = Arc::new(Notify::new());
        let wake_control = bell.clone();
        let entries = config.limits.mailbox_entries;
        let mut posts = mailbox::post_offices(config.shards, entries, Box::new(move || wake_control.notify_one()))
            .map_err(io::Error::from)?;
        let origin = Arc::new(OriginPolicy {
            check_host: config.security.check_host,
            allowed_hosts: config.security.allowed_hosts.clone(),
            allowed_origins: config.security.allowed_origins.clone(),
        });
        let hub = HubSettings {
            shard: ShardId(0),
            shards: config.shards,
            hash_seed: random_u64()?,
            epoch_seed: random_u64()?,
            topics_max: config.limits.topics_max,
            topics_in_use: Arc::default(),
            topics_idle_max: config.limits.topics_idle_max,
            policies: Arc::new(config.slow_consumers.clone()),
        };
        let admission = Arc::new(Admission::new(admission_settings(config), random_u64()?));
        let stats: Arc<[Arc<ShardStats>]> = (0..config.shards).map(|_| Arc::default()).collect();
        let clock = Clock::start();

        let admin_listener = TcpListener::from(admin.listen().map_err(admin_failed)?.remove(0));
        let settings = ControlSettings {
            shards: config.shards,
            hash_seed: hub.hash_seed,
            origin: origin.clone(),
            api_key: config.api_key.clone(),
            body_bytes_max: config.body_bytes_max,
            overflow_bytes_max: config.limits.overflow_bytes_max as u64,
        };
        let control_post = posts.remove(config.shards);
        let control = Control::start(settings, admin_listener, control_post, bell, stats.clone())?;

        let Listening { addresses, by_shard, files } = clients.listen(config.shards)?;
        let workers = by_shard
            .into_iter()
            .zip(posts)
            .enumerate()
            .map(|(index, (listeners, post))| {
                let hub = HubSettings { shard: ShardId(index as u16), ..hub.clone() };
                let settings = worker::shard_settings(config, hub, origin.clone(), admission.clone());
                Worker::start(config, settings, listeners, post, clock, stats.clone())
            })
            .collect::<io::Result<Vec<_>>>()?;
        Ok(Self { clients: addresses, admin: admin_address, workers, control, stats, _files: files })
    }

    /// Where clients connect, in the order of the configuration.
    pub fn clients_addresses(&self) -> &[ListenAddress] {
        &self.clients
    }

    /// Where the API, health and metrics are.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// What each shard counts.
    pub fn stats(&self) -> &[Arc<ShardStats>] {
        &self.stats
    }

    /// Begins to close: no new connections, `1001` to those that are open. Whatever is
    /// left after the configured time is closed by force.
    pub fn drain(&self) {
        self.control.drain();
    }

    /// Waits until everything has drained. Errors are those of an event loop.
    pub fn wait(self) -> io::Result<()> {
        let mut result = Ok(());
        for worker in self.workers {
            result = result.and(worker.wait());
        }
        self.control.stop();
        result
    }
}

fn admission_settings(config: &Config) -> AdmissionSettings {
    AdmissionSettings {
        connections_per_address_max: config.address_limits.connections_max as u32,
        handshakes_per_address_max: config.address_limits.handshakes_per_second_max as u32,
        exempt: config.address_limits.exempt.clone(),
        proxies: config.proxy_protocol.trusted.clone(),
        proxies_at_unix_sockets: config.proxy_protocol.trusts_unix,
        proxy_header_bytes_max: config.proxy_protocol.header_bytes_max,
    }
}

fn random_u64() -> io::Result<u64> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(u64::from_ne_bytes(bytes))
}
