//! Requests of the control plane to the shards, and their answers.
//!
//! One task owns the mailbox. Handlers send it requests and await the answer.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;

use super::{ApiOptions, ControlSettings, DrainPlan, Phase};
use crate::command::{
    Address, DrainStep, Envelope, LiveOptions, Position, RequestToken, SharedMessage, TopicName, TopicsFull,
};
use crate::driver::mailbox::{Post, shard_addresses};
use crate::hub::owner_of;
use crate::id::ShardId;
use crate::stats::PublishRefusal;

/// Requests that may wait for the task; further handlers wait for room.
const REQUESTS_MAX: usize = 1024;
/// How long an answer may take. A shard that turns answers within a few turns.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a message was not published, or not known to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum PublishError {
    /// Nothing has happened; try again.
    #[error("the gateway is busy: a shard's mailbox is full (limits.mailbox_entries); try again later")]
    MailboxFull,
    /// The same.
    #[error("the gateway is busy: too many published bytes wait (limits.overflow_bytes_max); try again later")]
    Overflow,
    /// Nothing has happened, and nothing will.
    #[error("the gateway is shutting down; publish through another")]
    GoingAway,
    /// Nothing has happened.
    #[error(transparent)]
    TopicsFull(#[from] TopicsFull),
    /// The message may have been published or not.
    #[error("the shard has not answered in time; the message may have been published or not")]
    NoAnswer,
}

impl PublishError {
    /// As what it is counted; `None` where nobody knows what became of the message.
    pub(super) fn refusal(&self) -> Option<PublishRefusal> {
        match self {
            Self::MailboxFull => Some(PublishRefusal::MailboxFull),
            Self::Overflow => Some(PublishRefusal::Overflow),
            Self::GoingAway => Some(PublishRefusal::Drain),
            Self::TopicsFull(_) => Some(PublishRefusal::TopicsFull),
            Self::NoAnswer => None,
        }
    }
}

enum Request {
    Publish { topic: TopicName, message: SharedMessage, answer: oneshot::Sender<Result<Position, PublishError>> },
    Probe { shard: ShardId, answer: oneshot::Sender<()> },
}

/// A handle to all shards.
#[derive(Clone)]
pub(super) struct Shards {
    requests: mpsc::Sender<Request>,
    count: usize,
}

impl Shards {
    /// Starts the task; it ends with the runtime.
    pub(super) fn start(
        settings: &ControlSettings,
        post: Post,
        bell: Arc<Notify>,
        phases: watch::Receiver<Phase>,
        options: watch::Receiver<ApiOptions>,
    ) -> Self {
        let (requests, receiver) = mpsc::channel(REQUESTS_MAX);
        let task = Task {
            count: settings.shards,
            hash_seed: settings.hash_seed,
            overflow_bytes_max: settings.overflow_bytes_max,
            live: settings.live.shards.clone(),
            drain: settings.drain,
            going_away: GoingAway::No,
            next_token: 0,
            publishing: HashMap::new(),
            probing: HashMap::new(),
        };
        tokio::spawn(task.run(post, receiver, phases, options, bell));
        Self { requests, count: settings.shards }
    }

    /// Publishes, and returns the message's place once the owner has ordered it.
    pub(super) async fn publish(&self, topic: TopicName, message: SharedMessage) -> Result<Position, PublishError> {
        let (answer, answered) = oneshot::channel();
        let request = Request::Publish { topic, message, answer };
        if tokio::time::timeout(ANSWER_TIMEOUT, self.requests.send(request)).await.is_err() {
            return Err(PublishError::MailboxFull);
        }
        match tokio::time::timeout(ANSWER_TIMEOUT, answered).await {
            Ok(Ok(result)) => result,
            _ => Err(PublishError::NoAnswer),
        }
    }

    /// Asks every shard for an answer; those that gave none in time.
    pub(super) async fn find_stuck(&self) -> Vec<ShardId> {
        let mut asked = Vec::new();
        for shard in (0..self.count).map(|index| ShardId(index as u16)) {
            let (answer, answered) = oneshot::channel();
            let sent = self.requests.try_send(Request::Probe { shard, answer });
            asked.push((shard, sent.is_ok().then_some(answered)));
        }
        let mut stuck = Vec::new();
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        for (shard, answered) in asked {
            let turns = match answered {
                Some(answered) => matches!(tokio::time::timeout_at(deadline, answered).await, Ok(Ok(()))),
                None => false,
            };
            if !turns {
                stuck.push(shard);
            }
        }
        stuck
    }
}

/// How far the shards were told to go down.
#[derive(Clone, Copy, PartialEq, Eq)]
enum GoingAway {
    No,
    /// What is published is taken until then.
    Announced {
        until: Instant,
    },
    Now,
}

impl GoingAway {
    /// Never, unless there is a grace that runs.
    async fn grace_is_over(self) {
        match self {
            Self::Announced { until } => tokio::time::sleep_until(until).await,
            Self::No | Self::Now => std::future::pending().await,
        }
    }
}

/// The owner of the mailbox.
struct Task {
    count: usize,
    hash_seed: u64,
    overflow_bytes_max: u64,
    /// What the shards follow.
    live: Arc<LiveOptions>,
    drain: DrainPlan,
    going_away: GoingAway,
    next_token: RequestToken,
    publishing: HashMap<RequestToken, oneshot::Sender<Result<Position, PublishError>>>,
    probing: HashMap<RequestToken, oneshot::Sender<()>>,
}

impl Task {
    async fn run(
        mut self,
        mut post: Post,
        mut requests: mpsc::Receiver<Request>,
        mut phases: watch::Receiver<Phase>,
        mut options: watch::Receiver<ApiOptions>,
        bell: Arc<Notify>,
    ) {
        loop {
            while let Some(envelope) = post.receive() {
                self.answer(envelope);
            }
            let live = options.borrow_and_update().shards.clone();
            if !Arc::ptr_eq(&live, &self.live) {
                self.tell_all(&mut post, || Envelope::Reload(live.clone()));
                self.live = live;
            }
            if *phases.borrow_and_update() >= Phase::Draining {
                self.go_on_draining(&mut post);
            }
            post.announce();
            if !post.prepare_sleep() {
                continue;
            }
            tokio::select! {
                request = requests.recv() => match request {
                    Some(request) => self.ask(&mut post, request),
                    None => return,
                },
                () = bell.notified() => {}
                changed = phases.changed() => if changed.is_err() {
                    return;
                },
                changed = options.changed() => if changed.is_err() {
                    return;
                },
                () = self.going_away.grace_is_over() => {}
            }
            post.awake();
        }
    }

    /// Sends the steps of going down when they are due. What is published is taken until
    /// the second; that is sent the way that publish requests take, so all that were taken
    /// are ordered before it.
    fn go_on_draining(&mut self, post: &mut Post) {
        if self.going_away == GoingAway::No {
            self.going_away = GoingAway::Announced { until: Instant::now() + self.drain.grace };
            self.tell_all(post, || Envelope::Drain(DrainStep::Announce));
        }
        if matches!(self.going_away, GoingAway::Announced { until } if Instant::now() >= until) {
            self.going_away = GoingAway::Now;
            let DrainPlan { spread, seed, .. } = self.drain;
            self.tell_all(post, || Envelope::Drain(DrainStep::Close { spread, seed }));
        }
    }

    fn tell_all(&self, post: &mut Post, envelope: impl Fn() -> Envelope) {
        for shard in shard_addresses(self.count) {
            post.send(shard, envelope());
        }
    }

    fn ask(&mut self, post: &mut Post, request: Request) {
        self.next_token += 1;
        let token = self.next_token;
        match request {
            Request::Publish { topic, message, answer } => {
                if self.going_away == GoingAway::Now {
                    let _ = answer.send(Err(PublishError::GoingAway));
                    return;
                }
                let owner = Address::Shard(owner_of(&topic, self.count, self.hash_seed));
                let busy = if post.waiting_bytes_total() > self.overflow_bytes_max {
                    Some(PublishError::Overflow)
                } else {
                    post.is_full(owner).then_some(PublishError::MailboxFull)
                };
                if let Some(busy) = busy {
                    // The handler may be gone; then nobody wants to know.
                    let _ = answer.send(Err(busy));
                    return;
                }
                // Handlers that gave up leave their entries behind.
                self.publishing.retain(|_, waiting| !waiting.is_closed());
                self.publishing.insert(token, answer);
                post.send(owner, Envelope::PublishRequest { token, topic, message });
            }
            Request::Probe { shard, answer } => {
                self.probing.retain(|_, waiting| !waiting.is_closed());
                self.probing.insert(token, answer);
                post.send(Address::Shard(shard), Envelope::Probe { token });
            }
        }
    }

    fn answer(&mut self, envelope: Envelope) {
        match envelope {
            Envelope::Published { token, result } => {
                if let Some(answer) = self.publishing.remove(&token) {
                    let _ = answer.send(result.map_err(PublishError::from));
                }
            }
            Envelope::ProbeAnswer { token } => {
                if let Some(answer) = self.probing.remove(&token) {
                    let _ = answer.send(());
                }
            }
            other => debug_assert!(false, "{other:?} is not for the control plane"),
        }
    }
}
