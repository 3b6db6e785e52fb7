//! One simulation: everything that a seed stands for, from the first connection to the
//! last.
//!
//! Steps are taken at random while there are faults. Then all faults stop, and everybody
//! has to catch up in a short time; then everybody leaves, and nothing may be left.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fastrand::Rng;
use wsgate::command::DrainStep;
use wsgate::driver::mailbox;
use wsgate::proto::frame::MessageKind;
use wsgate::shard::DrainPhase;
use wsgate::time::Time;

use crate::client::ClientId;
use crate::control::Control;
use crate::host::{Host, Readiness};
use crate::network::ClientEnd;
use crate::oracle::Oracle;
use crate::plan::{Action, EVENTS, Plan};
use crate::scene::{Scene, Trace};
use crate::{books, plan};

/// Bytes that a client has on the way at once, before it waits with more.
const UNREAD_MAX: usize = 200_000;

/// Events of a seed that a drain may last before its faults stop.
const DRAIN_EVENTS: u64 = 600;

/// See the module.
pub(crate) struct World {
    pub(crate) scene: Scene,
    pub(crate) hosts: Vec<Host>,
    pub(crate) control: Control,
    /// Clients that something can still happen to.
    pub(crate) active: Vec<ClientId>,
    /// What shards have been told: nothing, to announce, or to close (`Emptying`).
    pub(crate) drains: DrainPhase,
}

impl World {
    pub(crate) fn new(seed: u64, prints: bool) -> Self {
        let mut rng = Rng::with_seed(seed);
        let plan = Plan::new(seed, &mut rng);
        let bell = Arc::new(AtomicBool::new(false));
        let rung = bell.clone();
        let wake_control = Box::new(move || rung.store(true, Ordering::Relaxed));
        let mut posts = mailbox::post_offices(plan.shards, plan.mailbox_entries, wake_control).expect("an eventfd");
        let control = Control::new(posts.pop().expect("the control plane's is the last"), bell);
        let scene = Scene {
            oracle: Oracle::new(&plan),
            early: vec![None; plan.shards],
            phases: vec![DrainPhase::Serving; plan.shards],
            rng,
            now: Time(3_600_000_000_000),
            clients: Vec::new(),
            trace: Trace::new(prints),
            plan,
        };
        let hosts = posts.into_iter().enumerate().map(|(index, post)| Host::new(index, &scene, post)).collect();
        Self { scene, hosts, control, active: Vec::new(), drains: DrainPhase::Serving }
    }

    /// All of it. Panics where something is not as it must be.
    pub(crate) fn run(&mut self) {
        while self.scene.trace.events() < EVENTS {
            let action = self.scene.plan.action(&mut self.scene.rng);
            // A drain ends nearly everything, so it comes late.
            let too_early = action == Action::Drain && self.scene.trace.events() < EVENTS - DRAIN_EVENTS;
            if !too_early && !self.step(action) && !self.can_move() {
                self.pass_to_deadline();
            }
        }
        self.catch_up();
        self.leave();
        books::check_losses(&self.hosts, &mut self.scene);
    }

    /// Does something; whether there was something to do.
    fn step(&mut self, action: Action) -> bool {
        match action {
            Action::Turn => return self.turn_one(),
            Action::Control => {
                self.scene.trace.event("control plane turns", 0, 0);
                self.control.turn(&mut self.scene);
            }
            Action::Connect => return self.connect(),
            Action::PublishOverHttp => self.publish_over_http(),
            Action::Deadline => {
                self.pass_to_deadline();
                self.scene.trace.event("clock to deadline", 0, 0);
            }
            Action::Leap => {
                let distance = Duration::from_millis(self.scene.rng.u64(20_000..400_000));
                self.pass(distance);
                self.scene.trace.event("clock leaps", distance.as_secs(), 0);
            }
            Action::LateEvent => return self.late_event(),
            Action::IdleWake => {
                let host = self.scene.rng.usize(0..self.hosts.len());
                self.scene.trace.event("wake for nothing", host as u64, 0);
                self.hosts[host].turn(&mut self.scene);
            }
            Action::Drain => return self.drain(),
            _ => return self.client_step(action),
        }
        true
    }

    fn turn_one(&mut self) -> bool {
        let now = self.scene.now;
        let awake: Vec<usize> = (0..self.hosts.len()).filter(|host| self.hosts[*host].is_awake(now)).collect();
        if awake.is_empty() {
            return false;
        }
        let host = *plan::pick(&mut self.scene.rng, &awake);
        self.scene.trace.event("turn", host as u64, 0);
        self.hosts[host].turn(&mut self.scene);
        let duration = Duration::from_micros(self.scene.rng.u64(0..500));
        self.pass(duration);
        true
    }

    fn client_step(&mut self, action: Action) -> bool {
        self.active.retain(|id| !self.scene.clients[*id].is_over());
        if self.active.is_empty() {
            return false;
        }
        let id = *plan::pick(&mut self.scene.rng, &self.active);
        match action {
            Action::Say | Action::Burst | Action::Close | Action::Malformed => self.speak(id, action),
            Action::Arrive | Action::Read => self.carry(id, action),
            _ => self.misbehave(id, action),
        }
    }

    fn speak(&mut self, id: ClientId, action: Action) -> bool {
        let scene = &mut self.scene;
        if scene.clients[id].link.unread() > UNREAD_MAX || !scene.may_speak(id) {
            return false;
        }
        match action {
            Action::Close => scene.close(id),
            Action::Malformed => scene.offend(id),
            Action::Say => scene.say(id),
            _ => {
                for _ in 0..scene.rng.u32(2..60) {
                    if scene.may_speak(id) {
                        scene.say(id);
                    }
                }
                self.arrive(id, usize::MAX);
            }
        }
        true
    }

    fn carry(&mut self, id: ClientId, action: Action) -> bool {
        let Scene { clients, plan, rng, .. } = &mut self.scene;
        let client = &clients[id];
        let n = if plan.splits { rng.usize(1..=300) } else { usize::MAX };
        match action {
            Action::Arrive if client.link.can_arrive() && client.connection.is_some() => self.arrive(id, n),
            Action::Read if !client.stalled && client.has_something_to_read() => self.read(id, n),
            _ => return false,
        }
        true
    }

    fn misbehave(&mut self, id: ClientId, action: Action) -> bool {
        let client = &mut self.scene.clients[id];
        let what = match action {
            Action::Reset => {
                self.reset(id);
                return true;
            }
            Action::HalfClose if client.may_send_end() => {
                client.link.client_end = ClientEnd::Sent;
                "half-close"
            }
            Action::Stall if !client.stalled => {
                client.stalled = true;
                "stalls"
            }
            Action::GoOn if client.stalled => {
                client.stalled = false;
                "goes on"
            }
            Action::Mute if !client.mute => {
                client.mute = true;
                "falls silent"
            }
            _ => return false,
        };
        self.scene.trace.event(what, id as u64, 0);
        true
    }

    fn connect(&mut self) -> bool {
        if self.active.len() >= self.scene.plan.clients_max {
            return false;
        }
        let shard = self.scene.rng.usize(0..self.hosts.len());
        let host = &mut self.hosts[shard];
        if !host.listens {
            return false;
        }
        let id = self.scene.connect(shard);
        host.backlog.push_back(id);
        host.report(Readiness::Listener);
        self.active.push(id);
        true
    }

    fn publish_over_http(&mut self) {
        let topic = self.scene.rng.usize(0..self.scene.plan.topics.len());
        let kind = if self.scene.rng.bool() { MessageKind::Text } else { MessageKind::Binary };
        let len = self.scene.message_len();
        self.control.publish(topic, kind, len, &mut self.scene);
    }

    pub(crate) fn arrive(&mut self, id: ClientId, n: usize) {
        let client = &mut self.scene.clients[id];
        client.link.arrive(n);
        self.scene.trace.count("stream split", u64::from(client.link.can_arrive()));
        self.scene.trace.event("arrives", id as u64, n.min(1 << 20) as u64);
        if let Some(connection) = client.connection {
            self.hosts[client.shard].report(Readiness::Readable(connection));
        }
    }

    pub(crate) fn read(&mut self, id: ClientId, n: usize) {
        self.scene.trace.event("reads", id as u64, n.min(1 << 20) as u64);
        self.scene.read(id, n);
        let client = &mut self.scene.clients[id];
        if client.wants_writable && client.link.is_writable() {
            client.wants_writable = false;
            if let Some(connection) = client.connection {
                self.hosts[client.shard].report(Readiness::Writable(connection));
            }
        }
    }

    pub(crate) fn reset(&mut self, id: ClientId) {
        let client = &mut self.scene.clients[id];
        client.link.reset = true;
        self.scene.trace.event("reset", id as u64, 0);
        if let Some(connection) = client.connection {
            let host = &mut self.hosts[client.shard];
            host.report(Readiness::Readable(connection));
            if std::mem::take(&mut client.wants_writable) {
                host.report(Readiness::Writable(connection));
            }
        } else {
            // Gone before it was accepted; the kernel drops it.
            self.hosts[client.shard].backlog.retain(|waiting| *waiting != id);
            self.scene.early[client.shard].take_if(|early| *early == id);
        }
    }

    /// Something is said of a connection that is gone. Its slot may have another.
    fn late_event(&mut self) -> bool {
        let scene = &mut self.scene;
        let host = scene.rng.usize(0..self.hosts.len());
        let host = &mut self.hosts[host];
        if host.departed.is_empty() {
            return false;
        }
        let id = *plan::pick(&mut scene.rng, &host.departed);
        let what = scene.rng.u64(0..8);
        scene.trace.event("late event", u64::from(id.slot), what);
        match what {
            0 => host.shard.writable(id),
            1 => assert!(host.shard.receive(id, &mut [0x88; 40], scene.now).is_empty(), "{id:?} is gone"),
            2 => host.shard.peer_ended(id, scene.now),
            3 => host.shard.transport_failed(id),
            4 => host.shard.blocked(id),
            5 => host.shard.ended_writing(id),
            6 => host.shard.keep_replies(id, &[0x88; 40]),
            _ => assert!(!host.shard.wants_read(id), "{id:?} is gone"),
        }
        true
    }

    /// The next step of going down; whether there was one. The second may follow at once.
    pub(crate) fn drain(&mut self) -> bool {
        let rng = &mut self.scene.rng;
        let step = match self.drains {
            DrainPhase::Serving => DrainStep::Announce,
            DrainPhase::Announced => {
                let spread = Duration::from_millis(*plan::pick(rng, &[0, 30, 1_000, 20_000]));
                DrainStep::Close { spread, seed: rng.u64(..) }
            }
            _ => return false,
        };
        let is_last = step != DrainStep::Announce;
        self.drains = if is_last { DrainPhase::Emptying } else { DrainPhase::Announced };
        self.scene.trace.event("drain asked for", u64::from(is_last), 0);
        self.control.drain(step, &mut self.scene);
        if !is_last && self.scene.rng.bool() {
            self.drain();
        }
        true
    }

    pub(crate) fn pass(&mut self, duration: Duration) {
        self.scene.now = self.scene.now + duration;
        self.scene.trace.passes(self.scene.now);
    }

    /// Time passes until a shard wants to be woken.
    fn pass_to_deadline(&mut self) {
        let next = self.hosts.iter().filter_map(Host::sleeps_until).filter(|at| *at > self.scene.now).min();
        let distance = next.map_or(Duration::from_secs(1), |at| at.since(self.scene.now));
        self.pass(distance);
    }
}
