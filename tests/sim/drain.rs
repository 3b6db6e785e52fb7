//! A host's part in going down: its listener and the time; see `driver::drain`.

use std::time::Duration;

use wsgate::shard::ListenerTask;
use wsgate::time::Time;

use crate::host::{Accepting, Host};
use crate::scene::Scene;

/// Time that a drain may take.
const DRAIN: Duration = Duration::from_secs(10);

impl Host {
    pub(crate) fn begin_drain(&mut self, scene: &mut Scene) {
        if self.drain_until.is_none() {
            scene.trace.event("drain begins", self.index as u64, 0);
            self.drain_until = Some(scene.now + DRAIN);
        }
    }

    /// Empties the listener, or closes it, when going down asks for it.
    pub(crate) fn tend_listener(&mut self, scene: &mut Scene) {
        loop {
            let task = self.shard.listener_task();
            if task == ListenerTask::None {
                return;
            }
            self.accept_all(scene);
            if task == ListenerTask::Close {
                let left = self.backlog.len();
                assert!(left == 0 || !self.shard.has_room(), "{left} wait, and there is room for them");
                self.close_listener(scene);
                scene.oracle.owe(self.index);
            }
            self.shard.listener_done(scene.now);
        }
    }

    /// What is left when the time is over is reset.
    pub(crate) fn enforce_drain(&mut self, scene: &mut Scene) {
        if self.is_late(scene.now) {
            self.close_listener(scene);
            self.shard.abort_all();
        }
    }

    pub(crate) fn is_late(&self, now: Time) -> bool {
        self.drain_until.is_some_and(|until| now >= until)
    }

    /// What has left for other shards is ordered before anybody is told to go.
    pub(crate) fn bind_under_way(&self, scene: &mut Scene) {
        let under_way = scene.oracle.under_way().into_iter();
        let own: Vec<_> = under_way.filter(|(_, author)| scene.clients[*author].shard == self.index).collect();
        scene.oracle.bind(own.into_iter().map(|(id, _)| id));
    }

    fn accept_all(&mut self, scene: &mut Scene) {
        loop {
            self.accepting = Accepting::Ready;
            self.accept(scene);
            if self.accepting != Accepting::Ready {
                return;
            }
        }
    }

    fn close_listener(&mut self, scene: &mut Scene) {
        self.listens = false;
        self.accepting = Accepting::Armed;
        for client in self.backlog.drain(..) {
            scene.trace.count("reset in the backlog", 1);
            scene.clients[client].link.reset = true;
            scene.early[self.index].take_if(|early| *early == client);
        }
    }
}
