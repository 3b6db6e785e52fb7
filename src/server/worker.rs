//! The thread of one shard.

use std::io;
use std::sync::{Arc, mpsc};
use std::thread::{Builder, JoinHandle, available_parallelism};

use crate::admission::Admission;
use crate::config::{Config, Io};
use crate::connection::{Deadlines, QueueBounds, TlsSettings};
use crate::dialect::{Routes, ServiceLimits};
use crate::driver::clock::Clock;
use crate::driver::descriptors::{OwnTable, Parcel};
use crate::driver::epoll;
use crate::driver::event_loop::{LoopCore, LoopSettings};
use crate::driver::machine;
use crate::driver::mailbox::Post;
use crate::driver::uring;
use crate::hub::HubSettings;
use crate::origin::OriginPolicy;
use crate::proto::compression::CompressionSettings;
use crate::proto::extension::Takeover;
use crate::shard::{Shard, ShardSettings};
use crate::stats::ShardStats;

/// A shard's thread. It has all that it needs, and begins when it is told; it ends when this
/// is dropped before.
pub(super) struct Worker {
    thread: JoinHandle<io::Result<()>>,
    begin: mpsc::Sender<()>,
    /// Its table of descriptors, if it has one for itself.
    pub(super) table: Option<OwnTable>,
}

/// What all shards have in common beside numbers.
#[derive(Clone)]
pub(super) struct Common {
    pub(super) origin: Arc<OriginPolicy>,
    pub(super) admission: Arc<Admission>,
    pub(super) tls: Option<TlsSettings>,
    pub(super) clock: Clock,
    /// What each of them counts.
    pub(super) process: Arc<[Arc<ShardStats>]>,
}

impl Worker {
    /// Makes a shard and its loop, on a thread of its own. Errors are the system's.
    pub(super) fn start(
        config: &Config,
        hub: HubSettings,
        common: Common,
        listeners: Parcel,
        post: Post,
        alone: bool,
    ) -> io::Result<Self> {
        let (index, shards) = (hub.shard.index(), hub.shards);
        let (clock, process) = (common.clock, common.process.clone());
        let shard_settings = shard_settings(config, hub, common);
        let loop_settings = LoopSettings {
            overflow_bytes_max: config.limits.overflow_bytes_max as u64,
            drain: config.drain.deadline,
            connections_max: config.limits.connections_max as u64,
            queue_bytes_total_max: config.limits.queue_bytes_total_max as u64,
        };
        let (io, connections_max) = (config.io, shard_settings.connections_max);
        let parallelism = available_parallelism().map_or(1, usize::from);
        let processor = processor_of(index, shards, &machine::processors(), parallelism);
        let (opened, table) = mpsc::channel();
        let (made, is_made) = mpsc::channel();
        let (begin, may_begin) = mpsc::channel();
        let thread = Builder::new().name(format!("shard-{index}")).spawn(move || {
            if let Some(processor) = processor
                && let Err(error) = machine::pin_thread(processor)
            {
                tracing::warn!(processor, %error, "the shard's thread is not bound to a processor");
            }
            let (listeners, table) = if alone { listeners.open_alone() } else { (listeners.open(), None) };
            // If nobody listens any more, nothing is to begin.
            let _ = opened.send(table);
            // Made here, since its buffers are best on the memory of the core that uses them.
            let shard = Shard::new(shard_settings, process[index].clone(), clock.now());
            let core = LoopCore::new(shard, listeners, post, clock, loop_settings, process);
            let may_run = || made.send(()).is_ok() && may_begin.recv().is_ok();
            match io {
                Io::Epoll => epoll::run(core, may_run),
                Io::IoUring => uring::run(core, connections_max, may_run),
            }
        })?;
        let worker = Self { thread, begin, table: table.recv().ok().flatten() };
        // If not, the thread has ended.
        if is_made.recv().is_ok() {
            Ok(worker)
        } else {
            Err(worker.wait().err().unwrap_or_else(|| io::Error::other("a shard's thread ended")))
        }
    }

    /// Lets it begin.
    pub(super) fn begin(&self) {
        // If it has ended, waiting for it says why.
        let _ = self.begin.send(());
    }

    pub(super) fn wait(self) -> io::Result<()> {
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("a shard's thread panicked")))
    }
}

/// A processor of its own for each shard, where there are enough of them. One shard
/// alone is left to the scheduler, and so are all where a quota leaves less than the
/// processors that may be used: other programs with a quota would be bound to the same ones.
fn processor_of(index: usize, shards: usize, processors: &[usize], parallelism: usize) -> Option<usize> {
    let bound = shards > 1 && shards <= processors.len() && parallelism >= processors.len();
    processors.get(index).copied().filter(|_| bound)
}

/// Connections of one shard. A ring has at most as many direct descriptors as a process may
/// open files, but they are no such files: each shard has as many.
fn connections_max(config: &Config) -> usize {
    let of_ring = || machine::descriptor_limit().min(uring::DESCRIPTORS_MAX as u64) as usize;
    match config.io {
        Io::Epoll => config.limits.connections_max,
        Io::IoUring => config.limits.connections_max.min(of_ring()),
    }
}

fn shard_settings(config: &Config, hub: HubSettings, common: Common) -> ShardSettings {
    ShardSettings {
        hub,
        connections_max: connections_max(config),
        handshake_bytes_max: config.limits.handshake_bytes_max,
        frame_bytes_max: config.limits.frame_bytes_max,
        fragments_max: config.limits.fragments_max,
        queue: QueueBounds {
            queue_bytes_max: config.limits.queue_bytes_max,
            reply_bytes_watermark: config.limits.reply_bytes_watermark,
            pong_bytes_max: config.limits.pong_bytes_max,
        },
        deadlines: Deadlines {
            handshake: config.timeouts.handshake,
            ping_interval: config.timeouts.ping_interval,
            pong_timeout: config.timeouts.pong_timeout,
            idle: config.timeouts.idle,
            close: config.timeouts.close,
        },
        routes: Routes {
            echo: config.echo,
            greeting: config.greeting,
            anonymous_subscribe: config.security.anonymous_subscribe,
            anonymous_publish: config.security.anonymous_publish,
            limits: ServiceLimits {
                echo: config.limits.echo_message_bytes_max,
                greeting: config.limits.greeting_message_bytes_max,
                plain: config.limits.plain_message_bytes_max,
            },
        },
        origin: common.origin,
        admission: common.admission,
        tls: common.tls,
        compression: CompressionSettings {
            enabled: config.compression.enabled,
            message_bytes_min: config.compression.message_bytes_min,
            level: config.compression.level as u32,
            takeover: Takeover {
                server: config.compression.server_context_takeover,
                client: config.compression.client_context_takeover,
            },
            context_bytes_max: config.compression.context_bytes_max / config.shards,
            control_frames: config.compression.control_frames,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_have_a_processor_each_unless_others_would_be_bound_to_the_same() {
        let bound = |shards, processors: &[usize], parallelism| {
            (0..shards).map(|index| processor_of(index, shards, processors, parallelism)).collect::<Vec<_>>()
        };
        assert_eq!(bound(2, &[3, 5, 6], 3), [Some(3), Some(5)]);
        assert_eq!(bound(1, &[3, 5, 6], 3), [None], "one alone goes where there is time");
        assert_eq!(bound(3, &[3, 5], 2), [None; 3], "two would share one");
        assert_eq!(bound(2, &[0, 1, 2, 3], 2), [None; 2], "a quota of two processors on a machine of four");
    }
}
