//! The thread of one shard.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use crate::config::Config;
use crate::connection::{Deadlines, QueueBounds, TlsSettings};
use crate::dialect::{Routes, ServiceLimits};
use crate::driver::clock::Clock;
use crate::driver::epoll::{EventLoop, LoopSettings};
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

/// What all shards have in common beside numbers.
#[derive(Clone)]
pub(super) struct Common {
    pub(super) origin: Arc<OriginPolicy>,
    pub(super) tls: Option<TlsSettings>,
    pub(super) clock: Clock,
    /// What each of them counts.
    pub(super) process: Arc<[Arc<ShardStats>]>,
}

impl Worker {
    pub(super) fn start(
        config: &Config,
        hub: HubSettings,
        common: Common,
        listener: TcpListener,
        post: Post,
    ) -> io::Result<Self> {
        let Common { origin, tls, clock, process } = common;
        let (index, shards) = (hub.shard.index(), hub.shards);
        let shard_settings = shard_settings(config, hub, origin, tls);
        let loop_settings = LoopSettings {
            overflow_bytes_max: config.limits.overflow_bytes_max as u64,
            drain: config.drain.deadline,
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
            EventLoop::new(shard, listener, post, clock, loop_settings, process)?.run()
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

fn shard_settings(
    config: &Config,
    hub: HubSettings,
    origin: Arc<OriginPolicy>,
    tls: Option<TlsSettings>,
) -> ShardSettings {
    ShardSettings {
        hub,
        connections_max: config.limits.connections_max,
        handshake_bytes_max: config.limits.handshake_bytes_max,
        queue: QueueBounds {
            queue_bytes_max: config.limits.queue_bytes_max,
            reply_bytes_watermark: config.limits.reply_bytes_watermark,
        },
        deadlines: Deadlines {
            handshake: config.timeouts.handshake,
            ping_interval: config.timeouts.ping_interval,
            pong_timeout: config.timeouts.pong_timeout,
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
        tls,
    }
}
