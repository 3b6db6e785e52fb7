//! What a loop relies on, with sockets of this machine: each test is of something that went
//! wrong once.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use io_uring::IoUring;
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::write;

use super::super::buffers::{Buffers, SMALL};
use super::super::{probe, register};
use super::*;

const SLOTS: usize = 4;
const SLOT: u32 = 0;
const ID: ConnectionId = ConnectionId { slot: SLOT, generation: 7 };
/// More than a socket holds.
const MUCH: usize = 8 << 20;
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs with a ring of a few slots, if this machine has such. With CI=true it has.
fn with_ring(test: impl FnOnce(&mut Ring<'_>, &mut Buffers)) {
    if let Err(error) = probe() {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "no io_uring: {error}");
        eprintln!("left out, without io_uring: {error}");
        return;
    }
    let mut buffers = Buffers::new();
    let mut ring: IoUring = make().expect("the kernel has io_uring");
    let mut ring = register(&mut ring, &mut buffers, SLOTS).expect("and all that it takes");
    test(&mut ring, &mut buffers);
}

/// The same with a connection in the first slot, whose other end is handed over.
fn with_connection(test: impl FnOnce(&mut Ring<'_>, &mut Buffers, UnixStream)) {
    with_ring(|ring, buffers| {
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        ring.fill_slot(SLOT, ours.as_raw_fd()).expect("an empty slot");
        drop(ours);
        theirs.set_read_timeout(Some(PATIENCE)).expect("an option of every socket");
        test(ring, buffers, theirs);
    });
}

/// The completions until now.
fn completions(ring: &mut Ring<'_>) -> Vec<Completion> {
    std::iter::from_fn(|| ring.next_completion()).collect()
}

/// Waits for a completion, in time.
#[track_caller]
fn next(ring: &mut Ring<'_>) -> Completion {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        if let Some(completion) = ring.next_completion() {
            return completion;
        }
        ring.wait(Some(PATIENCE)).expect("the ring works");
    }
    panic!("nothing was reported");
}

/// Sends at once; what is reported.
fn send(ring: &mut Ring<'_>, bytes: &[u8]) -> Option<i32> {
    #[expect(unsafe_code, reason = "the kernel reads from that memory")]
    // SAFETY: the bytes are borrowed until it is submitted, here.
    unsafe {
        ring.send(SLOT, bytes.as_ptr(), bytes.len() as u32, Operation::Send(0));
    }
    ring.submit();
    let reported = completions(ring);
    assert!(reported.iter().all(|completion| completion.operation == Operation::Send(0)), "{reported:?}");
    reported.first().map(|completion| completion.result)
}

#[test]
fn a_wait_lasts_although_something_was_taken_before() {
    with_connection(|ring, _, _| {
        let bell = eventfd(0, EventfdFlags::NONBLOCK).expect("a descriptor");
        ring.watch(bell.as_raw_fd(), Operation::Bell);
        write(&bell, &1u64.to_ne_bytes()).expect("an event");
        assert_eq!(next(ring).operation, Operation::Bell);
        assert!(ring.next_completion().is_none());
        let (began, time) = (Instant::now(), Duration::from_millis(50));
        ring.wait(Some(time)).expect("the ring works");
        assert!(began.elapsed() >= time, "returned after {:?}", began.elapsed());
    });
}

#[test]
fn a_send_is_silent_if_all_was_taken_and_says_how_much_if_not() {
    with_connection(|ring, _, mut peer| {
        assert_eq!(send(ring, b"all of it"), None);
        let much = vec![7; MUCH];
        let taken = send(ring, &much).expect("it does not fit") as usize;
        assert!((1..MUCH).contains(&taken), "{taken}");
        ring.close(SLOT, false, false);
        ring.submit();
        let mut got = Vec::new();
        peer.read_to_end(&mut got).expect("the socket was closed");
        assert_eq!(got.len(), b"all of it".len() + taken);
    });
}

#[test]
fn nothing_of_a_send_leaves_after_it_was_reported_and_none_overtakes_another() {
    with_connection(|ring, _, mut peer| {
        let much = vec![7; MUCH];
        let taken = send(ring, &much).expect("it does not fit") as usize;
        assert_eq!(send(ring, &[9; 100]), Some(-libc::EAGAIN), "there is no room");
        let mut got = vec![0; taken];
        peer.read_exact(&mut got).expect("what was taken");
        assert!(got.iter().all(|byte| *byte == 7));
        // Room again: had something been put off, it would leave now.
        ring.wait(Some(Duration::from_millis(20))).expect("the ring works");
        assert!(completions(ring).is_empty());
        peer.set_nonblocking(true).expect("an option of every socket");
        assert_eq!(peer.read(&mut [0; 100]).expect_err("nothing was sent").kind(), ErrorKind::WouldBlock);
    });
}

#[test]
fn what_comes_is_received_by_a_loop_that_never_waits() {
    with_connection(|ring, buffers, mut peer| {
        ring.receive_all(ID, SMALL);
        ring.wait(Some(Duration::ZERO)).expect("the ring works");
        peer.write_all(b"hello").expect("there is room");
        ring.wait(Some(Duration::ZERO)).expect("the ring works");
        let completion = ring.next_completion().expect("it has come");
        assert_eq!((completion.operation, completion.result), (Operation::Receive(ID, SMALL), 5));
        let (buffer, goes_on) = completion.buffer.expect("in a buffer");
        let mut chunk = buffers.received(SMALL, buffer, 5, goes_on);
        assert_eq!(buffers.bytes_mut(&mut chunk), b"hello");
        buffers.release(chunk);
    });
}

#[test]
fn a_socket_that_is_received_from_closes_by_an_end_or_a_reset_once_that_is_over() {
    for abort in [false, true] {
        with_ring(|ring, _| {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
            let mut peer = TcpStream::connect(listener.local_addr().expect("it is bound")).expect("it listens");
            peer.set_read_timeout(Some(PATIENCE)).expect("an option of every socket");
            let (ours, _) = listener.accept().expect("it has connected");
            ring.fill_slot(SLOT, ours.as_raw_fd()).expect("an empty slot");
            drop(ours);
            ring.receive_all(ID, SMALL);
            ring.watch_writable(ID);
            assert_eq!(next(ring).operation, Operation::Writable(ID));
            ring.close(SLOT, abort, true);
            let last = next(ring);
            let expected = (Operation::Receive(ID, SMALL), -libc::ECANCELED, false);
            assert_eq!((last.operation, last.result, last.more), expected);
            match peer.read(&mut [0]) {
                Ok(0) if !abort => {}
                Err(error) if abort && error.kind() == ErrorKind::ConnectionReset => {}
                other => panic!("abort: {abort}, and the peer sees {other:?}"),
            }
        });
    }
}

#[test]
fn more_completions_than_there_is_room_for_all_come() {
    const MANY: usize = COMPLETIONS as usize + 1000;
    with_connection(|ring, _, _| {
        // Each is refused, since the slot is empty, and says so.
        (0..MANY).for_each(|_| ring.install(SLOT + 1));
        ring.submit();
        assert_eq!(completions(ring).len(), MANY);
    });
}

#[test]
fn a_slot_gets_its_next_tenant_after_the_last_has_left() {
    with_connection(|ring, _, mut first| {
        ring.close(SLOT, false, false);
        ring.submit();
        assert_eq!(first.read(&mut [0]).expect("an end"), 0);
        let (ours, mut second) = UnixStream::pair().expect("a pair of sockets");
        ring.fill_slot(SLOT, ours.as_raw_fd()).expect("the slot is empty");
        assert_eq!(send(ring, b"hello"), None);
        let mut got = [0; 5];
        second.read_exact(&mut got).expect("it was sent");
        assert_eq!(&got, b"hello");
    });
}

#[test]
fn a_ring_that_is_gone_leaves_its_place_to_another_on_the_same_thread() {
    // A thread has 16 places.
    for _ in 0..20 {
        with_connection(|ring, _, _| assert_eq!(send(ring, b"hello"), None));
    }
}

#[test]
fn there_is_no_slot_beyond_the_table() {
    with_connection(|ring, _, _| {
        let (ours, _theirs) = UnixStream::pair().expect("a pair of sockets");
        let error = ring.fill_slot(SLOTS as u32, ours.as_raw_fd()).expect_err("there is none");
        assert_eq!(error.raw_os_error(), Some(libc::ENFILE));
    });
}
