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
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::command::LiveOptions;
use crate::config::ApiKey;
use crate::driver::mailbox::Post;
use crate::stats::{ProcessStats, ShardStats};

/// What the control plane is told.
#[derive(Clone, Debug)]
pub struct ControlSettings {
    /// How many shards there are.
    pub shards: usize,
    /// The hubs' seed: tells which shard owns a topic.
    pub hash_seed: u64,
    /// What may change while it runs.
    pub live: ApiOptions,
    /// What the process counts, shown with the metrics.
    pub process: Arc<ProcessStats>,
    /// Largest body, in bytes.
    pub body_bytes_max: usize,
    /// Bytes that wait for a mailbox or their flush, in the process, above which publishing
    /// is refused.
    pub overflow_bytes_max: u64,
    /// How the gateway goes down.
    pub drain: DrainPlan,
}

/// Options that the control plane follows as they change, and hands on to the shards.
#[derive(Clone, Debug)]
pub struct ApiOptions {
    /// What requests must carry, if anything.
    pub api_key: Option<ApiKey>,
    /// What the shards follow; hosts and origins count for the API too.
    pub shards: Arc<LiveOptions>,
}

/// How the gateway goes down, as far as it is planned from here.
#[derive(Clone, Copy, Debug)]
pub struct DrainPlan {
    /// From the signal until nobody is taken in any more and connections are told.
    pub grace: Duration,
    /// From the first connection that is told to the last.
    pub spread: Duration,
    /// From the signal to the end of the process.
    pub deadline: Duration,
    /// Decides which connections go when.
    pub seed: u64,
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
    live: watch::Sender<ApiOptions>,
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
        let (live, options) = watch::channel(settings.live.clone());
        let thread = Builder::new().name("control".to_owned()).spawn(move || {
            runtime.block_on(async move {
                let shards = shards::Shards::start(&settings, post, bell, phases.clone(), options.clone());
                tokio::spawn(watchdog::run(shards.clone()));
                if let Err(error) = api::serve(settings, listener, shards, stats, phases, options).await {
                    tracing::error!(%error, "the control plane has ended");
                }
            });
        })?;
        Ok(Self { phase, live, thread })
    }

    /// Has `/health` say that clients should go elsewhere, and after the grace the shards
    /// close.
    pub fn drain(&self) {
        self.phase.send_replace(Phase::Draining);
    }

    /// Follows other options from here on, and has the shards follow.
    pub fn reload(&self, options: ApiOptions) {
        self.live.send_replace(options);
    }

    /// Stops the thread and waits for it.
    pub fn stop(self) {
        self.phase.send_replace(Phase::Stopping);
        if self.thread.join().is_err() {
            tracing::error!("the control plane's thread panicked");
        }
    }
}
