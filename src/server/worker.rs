//! The thread of one shard.

use std::io;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use crate::admission::Admission;
use crate::config::Config;
use crate::connection::{Deadlines, QueueBounds};
use crate::dialect::{Routes, ServiceLimits};
use crate::driver::clock::Clock;
use crate::driver::epoll::{EventLoop, LoopSettings};
use crate::driver::listener::Listener;
use crate::driver::machine;
use crate::driver::mailbox::Post;
use crate::hub::HubSettings;
use crate::origin::OriginPolicy;
use crate::shard::{Shard, ShardSettings};
use crate::stats::ShardStats;

/// A shard's thread.
pub(super) struct Worker {
    thread: JoinHandle<io::Result<()>>,
}

impl Worker {
    pub(super) fn start(
        config: &Config,
        shard_settings: ShardSettings,
        listeners: Vec<Listener>,
        post: Post,
        clock: Clock,
        process: Arc<[Arc<ShardStats>]>,
    ) -> io::Result<Self> {
        let (index, shards) = (shard_settings.hub.shard.index(), shard_settings.hub.shards);
        let loop_settings = LoopSettings {
            overflow_bytes_max: config.limits.overflow_bytes_max as u64,
            drain: config.timeouts.drain,
            connections_max: config.limits.connections_max as u64,
            queue_bytes_total_max: config.limits.queue_bytes_total_max as u64,
        };
        let processor = processor_of(index, shards);
        let thread = Builder::new().name(format!("shard-{index}")).spawn(move || {
            if let Some(processor) = processor
                && let Err(error) = machine::pin_thread(processor)
            {
                tracing::warn!(processor, %error, "the shard's thread is not bound to a processor");
            }
            // Made here, since its buffers are best on the memory of the core that uses them.
            let shard = Shard::new(shard_settings, process[index].clone(), clock.now());
            EventLoop::new(shard, listeners, post, clock, loop_settings, process)?.run()
        })?;
        Ok(Self { thread })
    }

    pub(super) fn wait(self) -> io::Result<()> {
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("a shard's thread panicked")))
    }
}

/// A processor of its own for each shard, where there are enough of them. One shard
/// alone is left to the scheduler.
fn processor_of(index: usize, shards: usize) -> Option<usize> {
    let processors = machine::processors();
    if shards > 1 && shards <= processors.len() { processors.get(index).copied() } else { None }
}

pub(super) fn shard_settings(
    config: &Config,
    hub: HubSettings,
    origin: Arc<OriginPolicy>,
    admission: Arc<Admission>,
) -> ShardSettings {
    ShardSettings {
        hub,
        connections_max: config.limits.connections_max,
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
        origin,
        admission,
    }
}
