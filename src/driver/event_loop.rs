//! One turn of a loop, whatever waits for the sockets.
//!
//! Owner: the shard's thread. [`LoopCore`] is what all loops have: the shard, its mail, its
//! listeners, the numbers of the process. `EventLoop` is what a backend adds, which is
//! the sockets alone; the order of a turn and its bounds are here, so that they are the
//! same for all backends.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::accept::Acceptor;
use super::clock::Clock;
use super::listener::{Listener, Stream};
use super::mailbox::Post;
use super::slice::Slice;
use crate::command::Envelope;
use crate::id::ConnectionId;
use crate::limits::{ENVELOPES_PER_TURN_MAX, FLUSHES_PER_TURN_MAX, HASTE, PUBLISH_RETRY_MS};
use crate::shard::{ListenerTask, Shard};
use crate::stats::{Cell, ShardStats};
use crate::time::Time;

/// What the loop is told beside what the shard knows.
#[derive(Clone, Copy, Debug)]
pub struct LoopSettings {
    /// Bytes that wait for a mailbox or their flush, in the whole process, above which
    /// publishers pause.
    pub overflow_bytes_max: u64,
    /// From the first [`crate::command::Envelope::Drain`] until everything is closed by force.
    pub drain: Duration,
    /// Connections of the whole process.
    pub connections_max: u64,
    /// Bytes that may wait for all connections of the process together.
    pub queue_bytes_total_max: u64,
}

/// What every loop has.
pub struct LoopCore {
    pub(super) settings: LoopSettings,
    pub(super) shard: Shard,
    pub(super) clock: Clock,
    pub(super) post: Post,
    pub(super) acceptor: Acceptor,
    /// Number of the turn, modulo 2³²: tells whether a socket was sent to in this one.
    pub(super) turn: u32,
    /// Set once draining began.
    pub(super) drain_until: Option<Time>,
    /// What all shards count, to know the connections of the process.
    pub(super) process: Arc<[Arc<ShardStats>]>,
}

/// A backend: the sockets of one shard, and how to wait for them.
pub(super) trait EventLoop: Sized {
    fn core(&mut self) -> &mut LoopCore;

    /// Waits for what the kernel reports, for so long at most (`None` is for ever), and
    /// notes it. Errors are those of the backend itself, after which it cannot go on.
    fn poll(&mut self, timeout: Option<Duration>) -> io::Result<()>;

    /// Whether the last turn has left something that it could have read.
    fn has_input(&self) -> bool;

    /// Reading a connection had paused and goes on.
    fn resume_reading(&mut self, id: ConnectionId);

    /// Serves a new connection.
    fn adopt(&mut self, id: ConnectionId, stream: Stream);

    /// Reads a slice of what sockets have brought.
    fn read(&mut self, now: Time);

    /// Does what the shard wants of a connection's transport, until it wants no more or the
    /// transport takes no more.
    fn flush_one(&mut self, id: ConnectionId);

    /// Gives up the listeners.
    fn close_listeners(&mut self);

    /// Nothing is left to do: carries out what was put off.
    fn finish(&mut self) -> io::Result<()>;

    /// Turns until the shard has drained.
    fn run(mut self) -> io::Result<()> {
        while !self.core().is_drained() {
            self.turn()?;
        }
        self.finish()?;
        // The last envelopes, so that nobody waits for an answer.
        self.core().carry_mail_out();
        Ok(())
    }

    /// One turn of the loop.
    fn turn(&mut self) -> io::Result<()> {
        // 1. Wait, unless something is left to do, and note what the kernel reports.
        self.wait()?;
        let now = self.core().clock.now();
        self.core().turn = self.core().turn.wrapping_add(1);
        // 2. New connections, as many as are fair.
        self.accept(now);
        // 3. What sockets have brought, as much as is fair.
        self.read(now);
        self.core().shard.receive_unread(now);
        // 4. What other threads say.
        self.core().take_mail(now);
        // 5. What is due.
        self.core().shard.handle_timeouts(now);
        self.tend_listeners(now);
        self.enforce_drain(now);
        self.core().enforce_queue_bound(now);
        // 6. One flush for each connection that has something to say.
        self.flush(now);
        // 7. One wake for each thread that was sent something.
        self.core().carry_mail_out();
        let ended = self.core().clock.now();
        self.core().shard.end_turn(now, ended);
        Ok(())
    }

    fn wait(&mut self) -> io::Result<()> {
        self.core().shard.begin_turn();
        while let Some(id) = self.core().shard.next_resumed() {
            self.resume_reading(id);
        }
        let idle = !self.has_input() && self.core().is_idle();
        let core = self.core();
        let timeout = if idle && core.post.prepare_sleep() { core.until_next_deadline() } else { Some(Duration::ZERO) };
        let polled = self.poll(timeout);
        self.core().post.awake();
        polled
    }

    /// Takes in what is waiting, as many as are fair.
    fn accept(&mut self, now: Time) {
        let Some(mut left) = self.core().may_accept(now) else { return };
        while let Some((id, stream)) = self.core().accept_next(&mut left, now) {
            self.adopt(id, stream);
        }
    }

    /// Empties the listeners, or closes them, when going down asks for it.
    fn tend_listeners(&mut self, now: Time) {
        loop {
            let task = self.core().shard.listener_task();
            if task == ListenerTask::None {
                return;
            }
            self.accept_all(now);
            if task == ListenerTask::Close {
                self.close_listeners();
            }
            self.core().shard.listener_done(now);
        }
    }

    /// Takes in whoever waits in the kernel's queues: all of them, or as many as there is
    /// room for.
    fn accept_all(&mut self, now: Time) {
        for _ in 0..self.core().accept_rounds_max() {
            self.core().acceptor.hurry();
            self.accept(now);
            if !self.core().acceptor.may_have_more() {
                return;
            }
        }
    }

    /// What is left when the time is over is reset.
    fn enforce_drain(&mut self, now: Time) {
        if self.core().is_late(now) {
            self.close_listeners();
            self.core().abort_all();
        }
    }

    /// A slice of what is to be flushed, bounded in number and in time.
    fn flush(&mut self, now: Time) {
        let mut slice = Slice::of_flushes(self.core().clock);
        for _ in 0..FLUSHES_PER_TURN_MAX {
            let Some(id) = self.core().shard.next_flush(now) else { break };
            self.flush_one(id);
            if slice.is_over_after(0) {
                break;
            }
        }
        // The loop may sleep now, and others go by this number meanwhile.
        self.core().count_queue_memory();
    }
}

impl LoopCore {
    /// For one shard, with its part of each listening socket.
    pub fn new(
        shard: Shard,
        listeners: Vec<Listener>,
        post: Post,
        clock: Clock,
        settings: LoopSettings,
        process: Arc<[Arc<ShardStats>]>,
    ) -> Self {
        let acceptor = Acceptor::new(listeners);
        Self { settings, shard, clock, post, acceptor, turn: 0, drain_until: None, process }
    }

    /// Whether there is nothing to do now but to wait.
    fn is_idle(&self) -> bool {
        !self.shard.has_flushes() && !self.acceptor.is_ready()
    }

    /// Time until something is due without any event; `None` is for ever.
    fn until_next_deadline(&self) -> Option<Duration> {
        let retry = self.acceptor.retry_at();
        let now = self.clock.now();
        let publish = self.shard.has_paused_publishers().then(|| now + Duration::from_millis(PUBLISH_RETRY_MS));
        let deadlines = [self.shard.next_timeout(), retry, publish, self.next_drain_look(now)];
        deadlines.into_iter().flatten().min().map(|at| at.since(now))
    }

    /// What a turn takes in is divided by this: little while the last one has left flushes,
    /// so that what is there leaves before more comes.
    pub(super) fn haste(&self) -> u64 {
        if self.shard.has_flushes() { HASTE } else { 1 }
    }

    fn take_mail(&mut self, now: Time) {
        for _ in 0..ENVELOPES_PER_TURN_MAX {
            let Some(envelope) = self.post.receive() else { break };
            if matches!(envelope, Envelope::Drain(_)) {
                self.begin_drain(now);
            }
            self.shard.open_envelope(envelope, now);
        }
    }

    /// Counts a send, and whether it is the socket's first in this turn.
    pub(super) fn count_send(&self, sent_in: &mut u32) {
        self.shard.stats().sends.add(1);
        if std::mem::replace(sent_in, self.turn) != self.turn {
            self.shard.stats().flushes.add(1);
        }
    }

    fn carry_mail_out(&mut self) {
        while let Some((to, envelope)) = self.shard.take_envelope() {
            self.shard.stats().envelopes_out.add(1);
            self.post.send(to, envelope);
        }
        let woken = self.post.announce();
        let stats = self.shard.stats();
        stats.wakes.add(woken);
        stats.overflow_bytes.set(self.post.overflow_bytes());
        let unflushed = self.shard.log_bytes() as u64;
        stats.log_bytes.set(unflushed);
        self.post.set_unflushed_bytes(unflushed);
        self.shard.pause_publishing(self.post.waiting_bytes_total() > self.settings.overflow_bytes_max);
    }

    pub(super) fn sum_of_process(&self, cell: impl Fn(&ShardStats) -> &Cell) -> u64 {
        self.process.iter().map(|stats| cell(stats).get()).sum()
    }

    /// Above the process's bound for queues, each shard that is over its share closes
    /// those for which most waits.
    fn enforce_queue_bound(&mut self, now: Time) {
        let bound = self.settings.queue_bytes_total_max;
        let share = bound / self.process.len() as u64;
        let own = self.count_queue_memory();
        if own > share && self.sum_of_process(|stats| &stats.queue_memory_bytes) > bound {
            self.shard.shed_queues(share, now);
        }
    }

    fn count_queue_memory(&self) -> u64 {
        let own = self.shard.queue_memory_bytes();
        self.shard.stats().queue_memory_bytes.set(own);
        own
    }

    /// A read or a send has failed.
    pub(super) fn fail(&mut self, id: ConnectionId, error: &io::Error) {
        match error.kind() {
            // TCP_USER_TIMEOUT. The kernel names what routers have said meanwhile, if anything.
            io::ErrorKind::TimedOut | io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                self.shard.transport_timed_out(id);
            }
            _ => self.shard.transport_failed(id),
        }
    }
}
