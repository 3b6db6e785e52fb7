//! What comes after the faults: everybody catches up, and everybody leaves.

use std::time::Duration;

use wsgate::shard::DrainPhase;

use crate::client::Client;
use crate::ending;
use crate::host::Host;
use crate::network::{ClientEnd, ServerEnd};
use crate::world::World;

/// Time in which those who read catch up once faults have stopped. Shorter than any
/// timeout, since a timeout would mend what a lost wake has left undone.
const CATCH_UP: Duration = Duration::from_secs(2);
/// Time in which all connections end once everybody leaves.
const LEAVE: Duration = Duration::from_secs(300);
/// Bytes that a client's kernel takes at least once faults have stopped, so that it does
/// not take too many rounds.
const WINDOW_AT_LAST: usize = 4_000;
/// Rounds in which all parts move that may; more would be a loop that never rests.
const ROUNDS_MAX: usize = 20_000;

impl World {
    /// Whether anything can happen before time passes.
    pub(crate) fn can_move(&mut self) -> bool {
        let now = self.scene.now;
        self.control.is_awake()
            || self.hosts.iter_mut().any(|host| host.is_awake(now))
            || self.active.iter().any(|id| self.scene.clients[*id].can_move())
    }

    /// Everything moves that can, without a fault, until nothing does or time is up.
    fn settle(&mut self, patience: Duration) {
        let end = self.scene.now + patience;
        for _ in 0..ROUNDS_MAX {
            self.active.retain(|id| !self.scene.clients[*id].is_over());
            if self.can_move() {
                self.round();
                continue;
            }
            let now = self.scene.now;
            let next = self.hosts.iter().filter_map(Host::sleeps_until).filter(|at| *at > now).min();
            match next.filter(|at| *at <= end) {
                Some(at) => self.pass(at.since(now)),
                None => return,
            }
        }
        panic!("no rest after {ROUNDS_MAX} rounds");
    }

    fn round(&mut self) {
        for id in self.active.clone() {
            let client = &self.scene.clients[id];
            if client.link.can_arrive() && client.connection.is_some() {
                self.arrive(id, usize::MAX);
            }
            if self.scene.clients[id].has_something_to_read() {
                self.read(id, usize::MAX);
            }
        }
        let now = self.scene.now;
        for host in &mut self.hosts {
            if host.is_awake(now) {
                host.turn(&mut self.scene);
            }
        }
        if self.control.is_awake() {
            self.control.turn(&mut self.scene);
        }
    }

    /// Faults stop: who reads has everything soon.
    pub(crate) fn catch_up(&mut self) {
        self.scene.trace.event("faults stop", 0, 0);
        self.scene.plan.partial_writes = false;
        for client in &mut self.scene.clients {
            (client.stalled, client.mute) = (false, false);
            client.link.widen(WINDOW_AT_LAST);
        }
        self.settle(CATCH_UP);
        self.scene.oracle.check_rest();
        self.control.check_rest();
        self.scene.clients.iter().for_each(ending::check_accepted);
        for id in &self.active {
            let host = &self.hosts[self.scene.clients[*id].shard];
            if !host.backlog.contains(id) {
                ending::check_caught_up(&self.scene, *id);
            }
        }
    }

    /// Everybody leaves, each in its way, or is made to.
    pub(crate) fn leave(&mut self) {
        self.scene.trace.event("everybody leaves", 0, 0);
        if self.drains == DrainPhase::Announced || self.drains == DrainPhase::Serving && self.scene.one_in(3) {
            while self.drain() {}
        }
        for id in self.active.clone() {
            match self.scene.rng.u32(0..4) {
                _ if !self.scene.clients[id].is_upgraded() => self.reset(id),
                0 => self.reset(id),
                1 if self.scene.clients[id].may_send_end() => {
                    self.scene.clients[id].link.client_end = ClientEnd::Sent;
                }
                2 if self.drains != DrainPhase::Serving => {}
                // It says nothing until that is too long.
                3 if self.scene.plan.common().deadlines.idle.is_some() => {}
                _ if self.scene.may_speak(id) => self.scene.close(id),
                _ => {}
            }
        }
        self.settle(LEAVE);
        for host in &self.hosts {
            host.check_empty(&self.scene);
        }
    }
}

impl Client {
    pub(crate) fn has_something_to_read(&self) -> bool {
        let ends = self.link.server_end != ServerEnd::None && !self.end_heard;
        // What the server has closed without a FIN before is heard a second time.
        !self.link.reset && (self.link.waiting() > 0 || ends)
    }

    pub(crate) fn may_send_end(&self) -> bool {
        !self.link.reset && self.link.client_end == ClientEnd::None
    }

    /// Whether it can do something before the server does.
    fn can_move(&self) -> bool {
        let arrives = self.link.can_arrive() && self.connection.is_some() && self.ending.is_none();
        arrives || !self.stalled && self.has_something_to_read()
    }
}
