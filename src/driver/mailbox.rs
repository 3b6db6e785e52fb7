//! Mailboxes: envelopes from every thread to every other, and one wake per batch.
//!
//! Between each pair of threads there is a ring with one producer and one consumer
//! (rtrb). Sending never blocks and never fails: what finds the ring full waits with
//! the sender, accounted in [`Post::overflow_bytes`], and publishers are paused
//! while all that waits is over its bound. Order is kept from each thread to each other.
//!
//! Waking a sleeping thread costs its waker about 12 µs, so it is done only if the
//! target sleeps, and once for all that was sent in a turn.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rtrb::{Consumer, Producer, PushError, RingBuffer};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io;

use super::wait_flag::WaitFlag;
use crate::command::{Address, Envelope};
use crate::id::ShardId;

/// Wakes the control plane's thread, which waits in a runtime of its own.
pub type WakeControl = Box<dyn Fn() + Send + Sync>;

/// What wakes one thread.
struct Bell {
    waker: Waker,
    /// The thread waits for mail, or for room for its own.
    sleeping: WaitFlag,
}

enum Waker {
    /// An eventfd that an event loop polls.
    Descriptor(OwnedFd),
    /// A call.
    Call(WakeControl),
}

impl Bell {
    fn new(waker: Waker) -> Arc<Self> {
        Arc::new(Self { waker, sleeping: WaitFlag::new() })
    }

    /// Wakes the thread if it sleeps; whether it had to.
    fn ring(&self) -> bool {
        if !self.sleeping.take() {
            return false;
        }
        match &self.waker {
            // The counter can only be full if the thread has been woken 2^64 - 2 times
            // without reading it: then it is awake.
            Waker::Descriptor(descriptor) => drop(io::write(descriptor, &1u64.to_ne_bytes())),
            Waker::Call(wake) => wake(),
        }
        true
    }
}

/// One direction between two threads.
struct Outgoing {
    ring: Producer<Envelope>,
    /// What the ring had no room for, in order.
    overflow: VecDeque<Envelope>,
    bell: Arc<Bell>,
    /// Tells the consumer that we wait for room.
    starved: Arc<WaitFlag>,
    /// Something was put into the ring since its consumer was last woken.
    unannounced: bool,
}

impl Outgoing {
    /// Puts what waited into the ring until that is full, and then has the consumer ring
    /// when there is room. Returns the bytes that wait no more.
    fn send_overflow(&mut self) -> u64 {
        let mut moved = 0;
        if self.overflow.is_empty() {
            return moved;
        }
        while !self.overflow.is_empty() {
            if !self.ring.is_full() {
                moved += self.send_oldest();
                continue;
            }
            // The consumer takes the flag whenever it makes room, so it is raised anew each
            // time that the ring is found full.
            if self.starved.raise_unless(|| !self.ring.is_full()) {
                return moved;
            }
        }
        self.starved.lower();
        moved
    }

    /// Puts the oldest envelope that waits into the ring, which has room. Returns its bytes.
    fn send_oldest(&mut self) -> u64 {
        let Some(envelope) = self.overflow.pop_front() else { return 0 };
        let bytes = overflow_bytes_of(&envelope);
        if let Err(PushError::Full(envelope)) = self.ring.push(envelope) {
            self.overflow.push_front(envelope);
            return 0;
        }
        self.unannounced = true;
        bytes
    }
}

struct Incoming {
    ring: Consumer<Envelope>,
    /// The producer's bell, for when it waits for room.
    bell: Arc<Bell>,
    starved: Arc<WaitFlag>,
}

/// The mailboxes as one thread sees them.
pub struct Post {
    outgoing: Vec<Option<Outgoing>>,
    incoming: Vec<Option<Incoming>>,
    bell: Arc<Bell>,
    /// Overflow of the whole process, in payload bytes and envelopes, and what waits for its
    /// flush.
    waiting_total: Arc<AtomicU64>,
    overflow: u64,
    /// What waits for its flush in this thread.
    unflushed: u64,
    /// Where the next look into the rings begins, so that none is preferred.
    turn: usize,
}

/// Bytes that an envelope in the overflow counts beside its payload.
const ENVELOPE_BYTES: u64 = size_of::<Envelope>() as u64;

fn overflow_bytes_of(envelope: &Envelope) -> u64 {
    ENVELOPE_BYTES + envelope.payload_bytes() as u64
}

/// Mailboxes for `shards` shards and the control plane, which is the last.
pub fn post_offices(shards: usize, entries: usize, wake_control: WakeControl) -> io::Result<Vec<Post>> {
    let nodes = shards + 1;
    let waiting_total = Arc::new(AtomicU64::new(0));
    let mut bells = Vec::with_capacity(nodes);
    for _ in 0..shards {
        let descriptor = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        bells.push(Bell::new(Waker::Descriptor(descriptor)));
    }
    bells.push(Bell::new(Waker::Call(wake_control)));
    let mut posts: Vec<Post> = bells
        .iter()
        .map(|bell| Post {
            outgoing: (0..nodes).map(|_| None).collect(),
            incoming: (0..nodes).map(|_| None).collect(),
            bell: bell.clone(),
            waiting_total: waiting_total.clone(),
            overflow: 0,
            unflushed: 0,
            turn: 0,
        })
        .collect();
    for from in 0..nodes {
        for to in (0..nodes).filter(|&to| to != from) {
            let (producer, consumer) = RingBuffer::new(entries);
            let starved = Arc::new(WaitFlag::new());
            posts[from].outgoing[to] = Some(Outgoing {
                ring: producer,
                overflow: VecDeque::new(),
                bell: bells[to].clone(),
                starved: starved.clone(),
                unannounced: false,
            });
            posts[to].incoming[from] = Some(Incoming { ring: consumer, bell: bells[from].clone(), starved });
        }
    }
    Ok(posts)
}

impl Post {
    /// Sends; the target is woken by [`Post::announce`].
    ///
    /// # Panics
    /// If the address is the sender's own, or of no shard.
    pub fn send(&mut self, to: Address, envelope: Envelope) {
        let index = self.index(to);
        let Some(outgoing) = self.outgoing.get_mut(index).and_then(Option::as_mut) else {
            panic!("{to:?} has no mailbox for this thread")
        };
        let rejected = if outgoing.overflow.is_empty() {
            match outgoing.ring.push(envelope) {
                Ok(()) => {
                    outgoing.unannounced = true;
                    None
                }
                Err(PushError::Full(envelope)) => Some(envelope),
            }
        } else {
            Some(envelope)
        };
        if let Some(envelope) = rejected {
            let bytes = overflow_bytes_of(&envelope);
            outgoing.overflow.push_back(envelope);
            self.overflow += bytes;
            self.waiting_total.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// Whether a mailbox's ring has no room now. What is sent to it all the same waits
    /// in the overflow.
    pub fn is_full(&self, to: Address) -> bool {
        self.outgoing
            .get(self.index(to))
            .and_then(Option::as_ref)
            .is_some_and(|outgoing| !outgoing.overflow.is_empty() || outgoing.ring.is_full())
    }

    /// Puts what waited into the rings, as far as there is room, and wakes those that
    /// sleep. Returns how many had to be woken. Called once per turn, at its end.
    pub fn announce(&mut self) -> u64 {
        let mut woken = 0;
        for outgoing in self.outgoing.iter_mut().flatten() {
            let moved = outgoing.send_overflow();
            if moved > 0 {
                self.overflow -= moved;
                self.waiting_total.fetch_sub(moved, Ordering::Relaxed);
            }
            if std::mem::take(&mut outgoing.unannounced) {
                woken += u64::from(outgoing.bell.ring());
            }
        }
        woken
    }

    /// The next envelope for this thread.
    pub fn receive(&mut self) -> Option<Envelope> {
        let nodes = self.incoming.len();
        for step in 0..nodes {
            let from = (self.turn + step) % nodes;
            let Some(incoming) = &mut self.incoming[from] else { continue };
            if let Ok(envelope) = incoming.ring.pop() {
                self.turn = (from + 1) % nodes;
                if incoming.starved.take() {
                    incoming.bell.ring();
                }
                return Some(envelope);
            }
        }
        None
    }

    /// Says that this thread is about to wait to be woken. `false`: there is mail,
    /// or room for what waited, so it must not.
    pub fn prepare_sleep(&mut self) -> bool {
        self.bell.sleeping.raise_unless(|| self.has_mail() || self.can_send_overflow())
    }

    /// Says that this thread no longer waits.
    pub fn awake(&mut self) {
        self.bell.sleeping.lower();
    }

    /// Resets the descriptor after it woke the thread.
    pub fn reset(&mut self) {
        if let Some(descriptor) = self.descriptor() {
            // Nothing to read means that nobody has woken us: no harm.
            let _ = io::read(descriptor, &mut [0; 8]);
        }
    }

    /// What becomes readable when a shard's thread is woken; the control plane has none.
    pub fn descriptor(&self) -> Option<&OwnedFd> {
        match &self.bell.waker {
            Waker::Descriptor(descriptor) => Some(descriptor),
            Waker::Call(_) => None,
        }
    }

    /// Bytes of this thread's own overflow.
    pub fn overflow_bytes(&self) -> u64 {
        self.overflow
    }

    /// Says how many bytes that were published wait for their flush in this thread.
    pub fn set_unflushed_bytes(&mut self, bytes: u64) {
        let before = std::mem::replace(&mut self.unflushed, bytes);
        match bytes.checked_sub(before) {
            Some(0) => {}
            Some(more) => drop(self.waiting_total.fetch_add(more, Ordering::Relaxed)),
            None => drop(self.waiting_total.fetch_sub(before - bytes, Ordering::Relaxed)),
        }
    }

    /// Bytes that were published and wait in any thread, for room in a mailbox or for their
    /// flush. Publishers pause while it is over its bound.
    pub fn waiting_bytes_total(&self) -> u64 {
        self.waiting_total.load(Ordering::Relaxed)
    }

    fn has_mail(&self) -> bool {
        self.incoming.iter().flatten().any(|incoming| !incoming.ring.is_empty())
    }

    /// A consumer made room after our last attempt; since we did not sleep then, it did
    /// not wake us. Or it has taken our flag for room that we had used before we raised
    /// it: the ring is full again, but nobody would say when it no longer is.
    fn can_send_overflow(&self) -> bool {
        let mut waiting = self.outgoing.iter().flatten().filter(|outgoing| !outgoing.overflow.is_empty());
        waiting.any(|outgoing| !outgoing.ring.is_full() || !outgoing.starved.is_raised())
    }

    fn index(&self, to: Address) -> usize {
        match to {
            Address::Shard(shard) => shard.index(),
            Address::Control => self.outgoing.len() - 1,
        }
    }
}

/// The addresses of all shards.
pub fn shard_addresses(shards: usize) -> impl Iterator<Item = Address> {
    (0..shards).map(|shard| Address::Shard(ShardId(shard as u16)))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    fn probe(token: u64) -> Envelope {
        Envelope::Probe { token }
    }

    fn token(envelope: Envelope) -> u64 {
        match envelope {
            Envelope::Probe { token } => token,
            other => panic!("{other:?}"),
        }
    }

    fn pair(entries: usize, wake_control: WakeControl) -> (Post, Post) {
        let mut posts = post_offices(1, entries, wake_control).unwrap();
        let control = posts.pop().unwrap();
        (posts.pop().unwrap(), control)
    }

    const FIRST: Address = Address::Shard(ShardId(0));

    #[test]
    fn what_finds_the_ring_full_waits_and_keeps_its_place() {
        let (mut shard, mut control) = pair(4, Box::new(|| ()));
        for n in 0..10 {
            control.send(FIRST, probe(n));
        }
        assert!(control.is_full(FIRST));
        assert_eq!(control.overflow_bytes(), 6 * ENVELOPE_BYTES);
        assert_eq!(shard.waiting_bytes_total(), 6 * ENVELOPE_BYTES);
        let mut received = Vec::new();
        while received.len() < 10 {
            while let Some(envelope) = shard.receive() {
                received.push(token(envelope));
            }
            control.announce();
        }
        assert_eq!(received, (0..10).collect::<Vec<_>>());
        assert_eq!((control.overflow_bytes(), shard.waiting_bytes_total()), (0, 0));
    }

    #[test]
    fn only_a_sleeping_thread_is_woken_and_once_per_batch() {
        let (mut shard, mut control) = pair(4, Box::new(|| ()));
        control.send(FIRST, probe(1));
        assert_eq!(control.announce(), 0, "awake");
        assert!(!shard.prepare_sleep(), "there is mail");
        shard.receive();
        assert!(shard.prepare_sleep());
        control.send(FIRST, probe(2));
        control.send(FIRST, probe(3));
        assert_eq!(control.announce(), 1);
        control.send(FIRST, probe(4));
        assert_eq!(control.announce(), 0, "woken already");
    }

    #[test]
    fn a_sender_without_room_is_woken_when_there_is_some() {
        let (ring, rung) = mpsc::channel();
        let (mut shard, mut control) = pair(2, Box::new(move || ring.send(()).unwrap()));
        for n in 0..3 {
            control.send(FIRST, probe(n));
        }
        control.announce();
        assert!(control.prepare_sleep());
        shard.receive();
        assert_eq!(rung.try_recv(), Ok(()), "the bell was rung");
    }

    #[test]
    fn a_sender_that_never_stops_does_not_keep_others_from_being_heard() {
        let mut posts = post_offices(2, 8, Box::new(|| ())).unwrap();
        let [first, second, control] = &mut posts[..] else { panic!("two shards and the control plane") };
        for n in 0..8 {
            second.send(FIRST, probe(n));
        }
        control.send(FIRST, probe(100));
        let received: Vec<u64> = (0..4).filter_map(|_| first.receive()).map(token).collect();
        assert!(received.contains(&100), "{received:?}");
        assert!(received.iter().filter(|token| **token < 100).is_sorted(), "{received:?}");
    }

    /// Two threads that sleep for real; a lost wake would hang here. With one entry the
    /// ring is full nearly always, so that both have to be woken all the time.
    #[test]
    #[allow(clippy::disallowed_methods)]
    fn no_wake_is_lost_between_threads() {
        for entries in [1, 2, 8] {
            exchange_between_threads(entries);
        }
    }

    #[allow(clippy::disallowed_methods)]
    fn exchange_between_threads(entries: usize) {
        const COUNT: u64 = 20_000;
        const PATIENCE: Duration = Duration::from_secs(20);
        let (ring, rung) = mpsc::channel();
        let (mut shard, mut control) = pair(entries, Box::new(move || _ = ring.send(())));
        let consumer = std::thread::spawn(move || {
            let mut expected = 0;
            while expected < COUNT {
                while let Some(envelope) = shard.receive() {
                    assert_eq!(token(envelope), expected);
                    expected += 1;
                }
                if expected < COUNT && shard.prepare_sleep() {
                    let timeout = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
                    let mut ready = [PollFd::new(shard.descriptor().unwrap(), PollFlags::IN)];
                    assert_eq!(poll(&mut ready, Some(&timeout)), Ok(1), "woken in time");
                    shard.awake();
                    shard.reset();
                }
            }
        });
        for n in 0..COUNT {
            control.send(FIRST, probe(n));
            if n % 3 == 0 {
                control.announce();
            }
        }
        control.announce();
        while control.overflow_bytes() > 0 {
            if control.prepare_sleep() {
                rung.recv_timeout(PATIENCE).expect("woken in time");
                control.awake();
            }
            control.announce();
        }
        consumer.join().unwrap();
    }
}
