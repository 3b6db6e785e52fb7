//! The control plane: one thread with a tokio runtime of its own, for everything
//! that is not a client's frame. It talks to shards through its mailbox only, and
//! may be slow without hurting them.
//!
//! * `api`: the HTTP routes, who may use them, health
//! * `publish`: `POST /topics/{topic}`
//! * `metrics`, `process`: what Prometheus reads
//! * `watchdog`: what systemd is told
//! * `shards`: requests to shards and their answers

#![forbid(unsafe_code)]

mod api;
mod metrics;
mod process;
mod publish;
mod shards;
mod watchdog;

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use tokio::sync::{Notify, watch};

use crate::config::ApiKey;
use crate::driver::mailbox::Post;
use crate::origin::OriginPolicy;
use crate::stats::ShardStats;

/// What the control plane is told.
#[derive(Clone, Debug)]
pub struct ControlSettings {
    /// How many shards there are.
    pub shards: usize,
    /// The hubs' seed: tells which shard owns a topic.
    pub hash_seed: u64,
    /// Which hosts and origins are answered.
    pub origin: Arc<OriginPolicy>,
    /// What requests must carry, if anything.
    pub api_key: Option<ApiKey>,
    /// Largest body, in bytes.
    pub body_bytes_max: usize,
    /// Bytes of overflow in the process above which publishing is refused.
    pub overflow_bytes_max: u64,
}

/// How far the process is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Debug)]
enum Phase {
    Serving,
    Draining,
    Stopping,
}

/// The running control plane.
pub struct Control {
    phase: watch::Sender<Phase>,
    thread: JoinHandle<()>,
}

impl Control {
    /// Starts the thread.
    pub fn start(
        settings: ControlSettings,
        listener: TcpListener,
        post: Post,
        bell: Arc<Notify>,
        stats: Arc<[Arc<ShardStats>]>,
    ) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (phase, phases) = watch::channel(Phase::Serving);
        let thread = Builder::new().name("control".to_owned()).spawn(move || {
            runtime.block_on(async move {
                let shards = shards::Shards::start(&settings, post, bell, phases.clone());
                tokio::spawn(watchdog::run(shards.clone()));
                if let Err(error) = api::serve(settings, listener, shards, stats, phases).await {
                    tracing::error!(%error, "the control plane has ended");
                }
            });
        })?;
        Ok(Self { phase, thread })
    }

    /// Tells the shards to close, and `/health` to say so.
    pub fn drain(&self) {
        self.phase.send_replace(Phase::Draining);
    }

    /// Stops the thread and waits for it.
    pub fn stop(self) {
        self.phase.send_replace(Phase::Stopping);
        if self.thread.join().is_err() {
            tracing::error!("the control plane's thread panicked");
        }
    }
}
