//! The gateway as a whole: start it, learn its addresses, stop it.
//!
//! [`Server::start`] binds everything, then starts one thread per shard and one for
//! the control plane. A start that fails leaves nothing running.

#![forbid(unsafe_code)]

mod listeners;
mod reload;
mod tls;
mod worker;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use tokio::sync::Notify;

use crate::address::ListenAddress;
use crate::admission::{Admission, AdmissionSettings};
use crate::config::{Config, Io};
use crate::control::{Control, ControlSettings, DrainPlan};
use crate::driver::clock::Clock;
use crate::driver::descriptors::Parcel;
use crate::driver::socket::{BoundListeners, SocketOptions};
use crate::driver::unix_socket::SocketFile;
use crate::driver::{mailbox, uring};
use crate::hub::HubSettings;
use crate::id::ShardId;
use crate::stats::{ProcessStats, ShardStats};
use listeners::{Bound, Listening};
pub use tls::TlsError;

use tls::Certificates;
use worker::{Common, Worker};

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
    /// Certificates or keys cannot be used.
    #[error("cannot serve TLS (tls.certificates): {0}")]
    Tls(#[from] TlsError),
    /// The kernel, or who rules over it, refuses io_uring.
    #[error("cannot use io_uring (io = \"io_uring\"): {0}; {hint}, or start with --io epoll", hint = uring::hint(.0))]
    IoUring(io::Error),
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
    certificates: Option<Arc<Certificates>>,
    process: Arc<ProcessStats>,
    /// Files of Unix sockets, removed at the end.
    _files: Vec<SocketFile>,
}

impl Server {
    /// Looks whether the files that a configuration names can be used, and changes nothing.
    ///
    /// # Errors
    /// What is wrong with which file.
    pub fn check_files(config: &Config) -> Result<(), StartError> {
        Ok(Certificates::check(&config.tls)?)
    }

    /// Starts a gateway.
    pub fn start(config: &Config) -> Result<Self, StartError> {
        Self::start_as(config, false)
    }

    /// The same in a process that does nothing else: the thread of each shard has a table of
    /// descriptors of its own, for which the limit of open files holds, and whatever the
    /// process has open at this moment stays open until it ends.
    pub fn start_alone(config: &Config) -> Result<Self, StartError> {
        Self::start_as(config, true)
    }

    fn start_as(config: &Config, alone: bool) -> Result<Self, StartError> {
        if config.io == Io::IoUring {
            // Before anything else is begun.
            uring::probe().map_err(StartError::IoUring)?;
        }
        let certificates = Certificates::load(&config.tls)?.map(Arc::new);
        let tls = certificates.clone().map(|certificates| tls::settings(&config.tls, certificates)).transpose()?;
        let admin_failed = |error| StartError::Bind { key: "admin", address: config.admin.into(), error };
        let options = SocketOptions {
            unsent_bytes: config.limits.kernel_unsent_bytes as u32,
            unacknowledged: config.timeouts.unacknowledged,
            send_buffer_bytes: config.limits.kernel_send_bytes,
            receive_buffer_bytes: config.limits.kernel_receive_bytes,
        };
        let clients = Bound::bind(config, options)?;
        let admin = BoundListeners::bind(config.admin, 1, options).map_err(admin_failed)?;
        let admin_address = admin.address();

        let bell = Arc::new(Notify::new());
        let wake_control = bell.clone();
        let entries = config.limits.mailbox_entries;
        let mut posts = mailbox::post_offices(config.shards, entries, Box::new(move || wake_control.notify_one()))
            .map_err(io::Error::from)?;
        let live = reload::api_options(config);
        let options = live.shards.clone();
        let hub = HubSettings {
            shard: ShardId(0),
            shards: config.shards,
            hash_seed: random_u64()?,
            epoch_seed: random_u64()?,
            topics_max: config.limits.topics_max,
            topics_in_use: Arc::default(),
            topics_idle_max: config.limits.topics_idle_max,
            policies: options.policies.clone(),
        };
        let admission = Arc::new(Admission::new(admission_settings(config), random_u64()?));
        let stats: Arc<[Arc<ShardStats>]> = (0..config.shards).map(|_| Arc::default()).collect();
        let process: Arc<ProcessStats> = Arc::default();
        let clock = Clock::start();

        let admin_listener = TcpListener::from(admin.listen().map_err(admin_failed)?.remove(0));
        let settings = ControlSettings {
            shards: config.shards,
            hash_seed: hub.hash_seed,
            live,
            process: process.clone(),
            body_bytes_max: config.body_bytes_max,
            overflow_bytes_max: config.limits.overflow_bytes_max as u64,
            drain: DrainPlan {
                grace: config.drain.grace,
                spread: config.drain.spread,
                deadline: config.drain.deadline,
                seed: random_u64()?,
            },
        };
        let control_post = posts.remove(config.shards);
        let control = Control::start(settings, admin_listener, control_post, bell, stats.clone())?;

        let Listening { addresses, by_shard, files } = clients.listen(config.shards)?;
        let common = Common { origin: options.origin.clone(), admission, tls, clock, process: stats.clone() };
        let workers = Parcel::pack(by_shard)
            .into_iter()
            .zip(posts)
            .enumerate()
            .map(|(index, (listeners, post))| {
                let hub = HubSettings { shard: ShardId(index as u16), ..hub.clone() };
                Worker::start(config, hub, common.clone(), listeners, post, alone)
            })
            .collect::<io::Result<Vec<_>>>();
        let mut workers = match workers {
            Ok(workers) => workers,
            Err(error) => {
                control.stop();
                return Err(if config.io == Io::IoUring { StartError::IoUring(error) } else { error.into() });
            }
        };
        let tables: Vec<_> = workers.iter_mut().filter_map(|worker| worker.table.take()).collect();
        // The only time that it is set.
        let _ = process.own_tables.set(tables.iter().map(|table| table.thread).collect());
        drop(tables);
        workers.iter().for_each(Worker::begin);
        Ok(Self {
            clients: addresses,
            admin: admin_address,
            workers,
            control,
            stats,
            certificates,
            process,
            _files: files,
        })
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

    /// Begins to go down: `/health` says so; after the grace nobody is taken in any more,
    /// and those that are open are sent `1001`, one after the other. Whatever is left at
    /// the deadline is reset.
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
