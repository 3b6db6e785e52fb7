//! The driver of one shard, as the real ones drive it: it turns when something wakes it,
//! and sleeps when nothing is left to do. What nobody wakes it for, it does not see.
//!
//! The mailboxes are the real ones (`driver::mailbox`), with their bells.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use wsgate::command::{Address, Envelope, Round};
use wsgate::connection::Output;
use wsgate::driver::mailbox::Post;
use wsgate::id::ConnectionId;
use wsgate::limits::{ACCEPT_RETRY_MS, PUBLISH_RETRY_MS};
use wsgate::shard::{DrainPhase, Shard};
use wsgate::stats::ShardStats;
use wsgate::time::Time;

use crate::client::ClientId;
use crate::lending::Lent;
use crate::network::{ClientEnd, Transfer};
use crate::scene::Scene;

/// What a kernel reports, once for each change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Readiness {
    Readable(ConnectionId),
    Writable(ConnectionId),
    Listener,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Accepting {
    Armed,
    Ready,
    Paused { until: Time },
}

/// See the module.
pub(crate) struct Host {
    pub(crate) index: usize,
    pub(crate) shard: Shard,
    pub(crate) stats: Arc<ShardStats>,
    pub(crate) post: Post,
    /// By slot.
    pub(crate) sockets: Vec<Option<(ConnectionId, ClientId)>>,
    /// Connections that are gone, some of their slots with others.
    pub(crate) departed: Vec<ConnectionId>,
    events: Vec<Readiness>,
    readable: VecDeque<ConnectionId>,
    /// Clients that nobody has accepted.
    pub(crate) backlog: VecDeque<ClientId>,
    pub(crate) accepting: Accepting,
    /// Its listener is open.
    pub(crate) listens: bool,
    /// What was lent to be sent, and was not offered to its transport yet.
    pub(crate) lent: Vec<Lent>,
    asleep: bool,
    sleeps_until: Option<Time>,
    pub(crate) drain_until: Option<Time>,
    pub(crate) buffer: Vec<u8>,
    /// Bytes published to the shard's subscribers since it had nothing to flush, and the
    /// most there ever were.
    pub(crate) published_bytes: usize,
    pub(crate) published_bytes_most: usize,
    /// The most that one read brought, in bytes of whole messages: of compressed ones it can
    /// be more than the buffer has.
    pub(crate) said_bytes_most: usize,
}

impl Host {
    pub(crate) fn new(index: usize, scene: &Scene, post: Post) -> Self {
        let stats = Arc::<ShardStats>::default();
        Self {
            index,
            shard: Shard::new(scene.plan.settings(index), stats.clone(), scene.now),
            stats,
            post,
            sockets: Vec::new(),
            departed: Vec::new(),
            events: Vec::new(),
            readable: VecDeque::new(),
            backlog: VecDeque::new(),
            accepting: Accepting::Armed,
            listens: true,
            lent: Vec::new(),
            asleep: false,
            sleeps_until: None,
            drain_until: None,
            buffer: vec![0; scene.plan.receive_buffer_bytes],
            published_bytes: 0,
            published_bytes_most: 0,
            said_bytes_most: 0,
        }
    }

    /// The kernel has something to say.
    pub(crate) fn report(&mut self, readiness: Readiness) {
        if !self.events.contains(&readiness) {
            self.events.push(readiness);
        }
    }

    /// Whether the thread runs, or something has woken it.
    pub(crate) fn is_awake(&mut self, now: Time) -> bool {
        if !self.asleep || !self.events.is_empty() || self.sleeps_until.is_some_and(|until| until <= now) {
            return true;
        }
        let bell = self.post.descriptor().expect("a shard has a bell");
        if rustix::io::read(bell, &mut [0; 8]).is_ok() {
            self.asleep = false;
        }
        !self.asleep
    }

    pub(crate) fn sleeps_until(&self) -> Option<Time> {
        self.sleeps_until
    }

    /// One turn of the loop; see `EventLoop::turn`.
    pub(crate) fn turn(&mut self, scene: &mut Scene) {
        let now = scene.now;
        self.asleep = false;
        self.post.awake();
        self.take_events(scene);
        self.accept(scene);
        for _ in 0..self.readable.len() {
            let Some(id) = self.readable.pop_front() else { break };
            self.read(id, scene);
            // The slice of a turn is over; the others stay first in the list.
            if scene.one_in(8) {
                break;
            }
        }
        self.read_kept(scene);
        self.take_mail(scene);
        self.shard.handle_timeouts(now);
        self.tend_listener(scene);
        self.enforce_drain(scene);
        self.keep_queue_bound(scene);
        self.flush(scene);
        self.carry_mail_out(scene);
        self.shard.end_turn(now, now);
        scene.phases[self.index] = self.shard.drain_phase();
        self.check_gauges(scene);
        self.sleep(now);
    }

    fn take_events(&mut self, scene: &mut Scene) {
        let mut events = std::mem::take(&mut self.events);
        scene.rng.shuffle(&mut events);
        for event in events {
            match event {
                Readiness::Listener if self.accepting == Accepting::Armed => self.accepting = Accepting::Ready,
                Readiness::Listener => {}
                Readiness::Readable(id) => self.list_readable(id),
                Readiness::Writable(id) => self.shard.writable(id),
            }
        }
    }

    fn list_readable(&mut self, id: ConnectionId) {
        if self.client_of(id).is_some() && !self.readable.contains(&id) {
            self.readable.push_back(id);
        }
    }

    pub(crate) fn client_of(&self, id: ConnectionId) -> Option<ClientId> {
        let (present, client) = (*self.sockets.get(id.slot as usize)?)?;
        (present == id).then_some(client)
    }

    pub(crate) fn accept(&mut self, scene: &mut Scene) {
        match self.accepting {
            Accepting::Armed => return,
            Accepting::Paused { until } if scene.now < until => return,
            Accepting::Ready | Accepting::Paused { .. } => self.accepting = Accepting::Ready,
        }
        for _ in 0..scene.rng.usize(1..4) {
            if self.backlog.is_empty() {
                self.accepting = Accepting::Armed;
                return;
            }
            if !self.shard.has_room() {
                scene.trace.count("table full", 1);
                self.accepting = Accepting::Paused { until: scene.now + Duration::from_millis(ACCEPT_RETRY_MS) };
                return;
            }
            let Some(client) = self.backlog.pop_front() else { return };
            self.take_in(client, scene);
        }
    }

    fn take_in(&mut self, client: ClientId, scene: &mut Scene) {
        let id = self.shard.accept(scene.now).expect("there is room");
        scene.trace.event("accepts", client as u64, u64::from(id.slot));
        scene.trace.count("slot reused", u64::from(id.generation > 0));
        let slot = id.slot as usize;
        if slot >= self.sockets.len() {
            self.sockets.resize(slot + 1, None);
        }
        assert_eq!(self.sockets[slot], None, "a slot has one tenant");
        self.sockets[slot] = Some((id, client));
        let client = &mut scene.clients[client];
        client.accepted(id, scene.now);
        if client.link.is_readable() {
            self.report(Readiness::Readable(id));
        }
    }

    fn read(&mut self, id: ConnectionId, scene: &mut Scene) {
        let Some(client_id) = self.client_of(id) else { return };
        if !self.shard.wants_read(id) {
            scene.trace.count("reading paused", 1);
            return;
        }
        let is_over = matches!(self.shard.output(id), Output::Close { .. });
        let client = &mut scene.clients[client_id];
        let transfer = client.link.read(&mut self.buffer);
        match transfer {
            Transfer::Bytes(n) => {
                let before = client.delivered;
                self.said_bytes_most = self.said_bytes_most.max(client.deliver(n, scene.now));
                if !is_over {
                    client.heard_at = scene.now;
                }
                if (before..client.delivered).contains(&(client.request_end.saturating_sub(1)))
                    && let Some(subscription) = &mut client.subscription
                {
                    subscription.requested(&scene.oracle, self.index);
                }
                scene.trace.hash_bytes(&self.buffer[..n]);
                let ended = client.link.client_end >= ClientEnd::Arrived;
                let published = self.stats.published.get();
                let replies = self.shard.receive(id, &mut self.buffer[..n], scene.now);
                self.count_published(Some(client_id), self.stats.published.get() - published, scene);
                self.reply(id, client_id, replies, scene);
                if n == self.buffer.len() || ended {
                    self.list_readable(id);
                }
            }
            Transfer::WouldBlock => {}
            Transfer::End => {
                client.link.client_end = ClientEnd::Reported;
                self.shard.peer_ended(id, scene.now);
            }
            Transfer::Failed => {
                client.link.client_end = ClientEnd::Reported;
                self.shard.transport_failed(id);
            }
        }
    }

    fn read_kept(&mut self, scene: &mut Scene) {
        let published = self.stats.published.get();
        if let Some(id) = self.shard.receive_unread(scene.now) {
            scene.trace.count("read in parts", 1);
            self.count_published(self.client_of(id), self.stats.published.get() - published, scene);
        }
    }

    pub(crate) fn count_published(&mut self, client: Option<ClientId>, count: u64, scene: &mut Scene) {
        let before = scene.oracle.published_bytes;
        scene.ordered_locally(client, count, self.index);
        self.grow(scene.oracle.published_bytes - before);
    }

    fn grow(&mut self, bytes: usize) {
        self.published_bytes += bytes;
        self.published_bytes_most = self.published_bytes_most.max(self.published_bytes);
    }

    fn take_mail(&mut self, scene: &mut Scene) {
        let most = if scene.one_in(4) { 1 } else { 40 };
        for _ in 0..most {
            let Some(envelope) = self.post.receive() else { break };
            self.open(envelope, scene);
        }
    }

    fn open(&mut self, envelope: Envelope, scene: &mut Scene) {
        let before = scene.oracle.published_bytes;
        let mut published = None;
        match &envelope {
            Envelope::Publish { message, .. } | Envelope::PublishRequest { message, .. } => {
                published = Some(scene.oracle.recognize(message.kind, &message.payload));
            }
            Envelope::Deliver { message, .. } => {
                let id = scene.oracle.recognize(message.kind, &message.payload);
                scene.oracle.append(id, self.index);
                self.grow(message.payload.len() + 10);
            }
            Envelope::Drain(_) => self.begin_drain(scene),
            _ => {}
        }
        let count = self.stats.published.get();
        self.shard.open_envelope(envelope, scene.now);
        let count = self.stats.published.get() - count;
        match published {
            Some(id) if count == 1 => scene.oracle.order(id, self.index),
            Some(id) => {
                assert_eq!(count, 0, "one message is ordered once");
                scene.trace.count("topics full", 1);
                scene.oracle.refuse(id);
                let topic = scene.oracle.messages[id].topic;
                // Whoever is being told to go may not know it yet.
                let serves = |shard: usize| scene.phases[shard] < DrainPhase::Closing;
                let idle = scene.plan.common().deadlines.idle;
                let mut clients = scene.clients.iter().filter(|client| !client.may_be_idle(scene.now, idle));
                let served = clients.any(|client| client.is_served_with(topic) && serves(client.shard));
                assert!(!served, "message {id} was refused, but its topic has subscribers");
            }
            None => self.count_published(scene.early[self.index], count, scene),
        }
        self.grow(scene.oracle.published_bytes - before);
    }

    fn keep_queue_bound(&mut self, scene: &mut Scene) {
        let share = scene.plan.queue_bytes_total_max / scene.plan.shards as u64;
        if self.shard.queue_memory_bytes() > share {
            scene.trace.count("queues shed", 1);
            self.shard.shed_queues(share, scene.now);
            let left = self.shard.queue_memory_bytes();
            // What is being flushed is not freed by closing those who wait for it.
            let freed = left <= share || self.shard.has_flushes();
            assert!(freed, "queues keep {left} bytes, {share} are allowed");
        }
    }

    fn carry_mail_out(&mut self, scene: &mut Scene) {
        while let Some((to, envelope)) = self.shard.take_envelope() {
            if let Envelope::Publish { message, .. } = &envelope {
                let id = scene.oracle.recognize(message.kind, &message.payload);
                scene.forwarded(id);
            }
            if let Envelope::Barrier(Round::Emptied) = &envelope {
                self.bind_under_way(scene);
            }
            if to != Address::Control {
                scene.trace.count("mailbox full", u64::from(self.post.is_full(to)));
            }
            self.post.send(to, envelope);
        }
        self.post.announce();
        self.post.set_unflushed_bytes(self.shard.log_bytes() as u64);
        let pause = self.post.waiting_bytes_total() > scene.plan.overflow_bytes_max;
        scene.trace.count("publishers paused", u64::from(pause));
        self.shard.pause_publishing(pause);
    }

    /// Waits, unless something is left to do.
    fn sleep(&mut self, now: Time) {
        self.shard.begin_turn();
        while let Some(id) = self.shard.next_resumed() {
            self.list_readable(id);
        }
        let idle = self.readable.is_empty() && !self.shard.has_flushes() && self.accepting != Accepting::Ready;
        if !idle || !self.post.prepare_sleep() {
            return;
        }
        let retry = match self.accepting {
            Accepting::Paused { until } => Some(until),
            _ => None,
        };
        let publish = self.shard.has_paused_publishers().then(|| now + Duration::from_millis(PUBLISH_RETRY_MS));
        let drain = self.drain_until.filter(|_| self.shard.connections_len() > 0 || self.listens);
        self.asleep = true;
        self.sleeps_until = [self.shard.next_timeout(), retry, publish, drain].into_iter().flatten().min();
    }
}
