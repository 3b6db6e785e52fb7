//! Connections without a shard on io_uring, as a load generator has them.
#![allow(missing_docs, clippy::disallowed_methods)]

mod common;

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use wsgate::config::Io;
use wsgate::driver::uring::{StreamEvent, StreamId, StreamInput, Streams, with_streams};

const OWNER: usize = 77;
/// More than a socket holds.
const MUCH: usize = 8 << 20;
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs with streams, unless the machine has no io_uring.
fn with(streams_max: usize, test: impl FnOnce(&mut Streams<'_>)) {
    if common::backends().contains(&Io::IoUring) {
        with_streams(streams_max, |streams| {
            test(streams);
            Ok(())
        })
        .expect("the machine has io_uring");
    }
}

/// The next event, in time.
#[track_caller]
fn next(streams: &mut Streams<'_>) -> StreamEvent {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        if let Some(event) = streams.next_event() {
            return event;
        }
        streams.wait(Some(PATIENCE)).expect("the ring works");
    }
    panic!("nothing happened");
}

/// A stream that is connected, and its other end.
fn open(streams: &mut Streams<'_>, is_paced: bool) -> (StreamId, UnixStream) {
    let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    theirs.set_read_timeout(Some(PATIENCE)).expect("an option of every socket");
    theirs.set_write_timeout(Some(PATIENCE)).expect("an option of every socket");
    let id = streams.open(OWNER, ours.as_raw_fd(), is_paced).expect("a free slot");
    assert_eq!(next(streams), StreamEvent::Writable(OWNER));
    (id, theirs)
}

/// The same over TCP, which takes a part of what it has no room for, and has little.
fn open_tcp(streams: &mut Streams<'_>) -> (StreamId, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    socket2::SockRef::from(&listener).set_recv_buffer_size(4096).expect("an option of every socket");
    let ours = TcpStream::connect(listener.local_addr().expect("it is bound")).expect("it listens");
    socket2::SockRef::from(&ours).set_send_buffer_size(16_384).expect("an option of every socket");
    let (theirs, _) = listener.accept().expect("somebody connects");
    theirs.set_read_timeout(Some(PATIENCE)).expect("an option of every socket");
    let id = streams.open(OWNER, ours.as_raw_fd(), false).expect("a free slot");
    assert_eq!(next(streams), StreamEvent::Writable(OWNER));
    (id, theirs)
}

/// What is received until the end, or an error.
fn read_to_end(streams: &mut Streams<'_>, id: StreamId) -> (Vec<u8>, io::Result<()>) {
    let mut all = Vec::new();
    loop {
        assert_eq!(next(streams), StreamEvent::Input(OWNER));
        loop {
            match streams.receive(id) {
                Ok(StreamInput::Bytes(bytes)) => all.extend_from_slice(bytes),
                Ok(StreamInput::Nothing) => break,
                Ok(StreamInput::End) => return (all, Ok(())),
                Err(error) => return (all, Err(error)),
            }
        }
    }
}

#[test]
fn bytes_leave_in_their_order_whatever_the_socket_takes() {
    with(4, |streams| {
        let (id, mut peer) = open_tcp(streams);
        let bytes: Vec<u8> = (0..MUCH / 32).flat_map(|n| (n as u64).to_be_bytes()).collect();
        // Short ones join a submission, and what does not fit waits.
        let mut sent = 0;
        while !streams.holds_back(id) {
            sent += streams.send(id, &bytes[sent..sent + 4_000]).expect("the peer is there");
            streams.submit();
        }
        let received = std::thread::scope(|scope| {
            let reader = scope.spawn(move || {
                let mut all = Vec::new();
                peer.read_to_end(&mut all).expect("the stream ends");
                all
            });
            // Long ones leave in another way; of the shortest, many join one submission.
            for len in [40, 1, 4_000, 8_192, 8_193, 70_000, 3, 3, 3].into_iter().cycle() {
                let end = bytes.len().min(sent + len);
                while sent < end {
                    match streams.send(id, &bytes[sent..end]).expect("the peer reads") {
                        0 => assert_eq!(next(streams), StreamEvent::Writable(OWNER)),
                        len => sent += len,
                    }
                }
                if end == bytes.len() {
                    break;
                }
            }
            while streams.holds_back(id) {
                assert_eq!(next(streams), StreamEvent::Writable(OWNER));
            }
            streams.close(id);
            streams.submit();
            reader.join().expect("the reader is through")
        });
        assert!(received == bytes, "{} of {} bytes, or others", received.len(), bytes.len());
    });
}

#[test]
fn nothing_is_taken_before_what_is_held_back_has_left() {
    with(4, |streams| {
        let (id, mut peer) = open_tcp(streams);
        let mut taken = 0;
        while !streams.holds_back(id) {
            taken += streams.send(id, &[1; 4_000]).expect("the peer is there");
            streams.submit();
        }
        // The socket has room again, and nobody has looked at the event yet.
        let mut all = vec![0; taken];
        let mut read = 0;
        let began = Instant::now();
        while streams.holds_back(id) && began.elapsed() < PATIENCE {
            peer.set_nonblocking(true).expect("an option of every socket");
            match peer.read(&mut all[read..]) {
                Ok(len) => read += len,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            streams.wait(Some(Duration::from_millis(1))).expect("the ring works");
            assert_eq!(streams.send(id, &[2; 10]).expect("the peer is there"), 0, "it would overtake");
            while streams.next_event().is_some() {}
        }
        assert_eq!(streams.send(id, &[2; 10]).expect("the peer is there"), 10);
        streams.close(id);
        streams.submit();
        peer.set_nonblocking(false).expect("an option of every socket");
        all.truncate(read);
        peer.read_to_end(&mut all).expect("the stream ends");
        assert!(all[..taken].iter().all(|&byte| byte == 1) && all[taken..] == [2; 10], "{} bytes", all.len());
    });
}

#[test]
fn bytes_are_followed_by_the_end() {
    with(4, |streams| {
        let (id, mut peer) = open(streams, false);
        streams.begin(id);
        let bytes: Vec<u8> = (0..MUCH).map(|n| (n / 7) as u8).collect();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                peer.write_all(&bytes).expect("it is read");
                drop(peer);
            });
            let (received, end) = read_to_end(streams, id);
            assert!(received == bytes, "{} of {} bytes, or others", received.len(), bytes.len());
            end.expect("no error");
        });
    });
}

#[test]
fn a_connection_that_is_reset_says_so() {
    with(4, |streams| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let ours = TcpStream::connect(listener.local_addr().expect("it is bound")).expect("it listens");
        let (theirs, _) = listener.accept().expect("somebody connects");
        let id = streams.open(OWNER, ours.as_raw_fd(), false).expect("a free slot");
        drop(ours);
        assert_eq!(next(streams), StreamEvent::Writable(OWNER));
        streams.begin(id);
        socket2::SockRef::from(&theirs).set_linger(Some(Duration::ZERO)).expect("an option of every socket");
        drop(theirs);
        let (_, end) = read_to_end(streams, id);
        assert_eq!(end.expect_err("it was cut").kind(), ErrorKind::ConnectionReset);
        let kind = streams.send(id, b"late").expect_err("it was cut").kind();
        assert_eq!(kind, ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_paced_stream_is_read_a_piece_at_a_time() {
    with(4, |streams| {
        let (id, mut peer) = open(streams, true);
        let bytes = [3; 100_000];
        peer.write_all(&bytes).expect("the socket takes it");
        drop(peer);
        streams.begin(id);
        assert_eq!(next(streams), StreamEvent::Input(OWNER));
        let Ok(StreamInput::Bytes(first)) = streams.receive(id) else { panic!("there is something") };
        let first = first.len();
        assert!(first < bytes.len(), "all at once");
        // Everything that could come would come now.
        for _ in 0..10 {
            streams.wait(Some(Duration::ZERO)).expect("the ring works");
            assert_eq!(streams.next_event(), None);
        }
        assert!(matches!(streams.receive(id), Ok(StreamInput::Nothing)), "it is asked for now");
        let (rest, _) = read_to_end(streams, id);
        assert_eq!(first + rest.len(), bytes.len());
    });
}

#[test]
fn what_is_not_read_at_once_is_kept_and_who_finds_no_buffer_is_fed_later() {
    // In one turn they take all 256 buffers of 8 KiB and more: one takes nearly all of a
    // buffer, the next what is left of it.
    const STREAMS: usize = 700;
    const BYTES: usize = 8_000;
    with(STREAMS, |streams| {
        let mut opened: Vec<_> = (0..STREAMS).map(|_| open(streams, true)).collect();
        for (n, (id, peer)) in opened.iter_mut().enumerate() {
            streams.begin(*id);
            peer.write_all(&[n as u8; BYTES]).expect("the socket takes it");
        }
        for _ in &opened {
            assert_eq!(next(streams), StreamEvent::Input(OWNER));
        }
        for (n, (id, _)) in opened.iter().enumerate() {
            let mut all = Vec::new();
            while all.len() < BYTES {
                match streams.receive(*id).expect("it is open") {
                    StreamInput::Bytes(bytes) => all.extend_from_slice(bytes),
                    StreamInput::Nothing => assert_eq!(next(streams), StreamEvent::Input(OWNER)),
                    StreamInput::End => panic!("it is open"),
                }
            }
            assert!(all == [n as u8; BYTES], "stream {n} has other bytes");
        }
    });
}

#[test]
fn buffers_of_streams_that_are_closed_with_bytes_on_their_way_are_used_again() {
    // More than all buffers hold, or there are pieces in.
    const TIMES: usize = 500;
    const BYTES: [u8; 8 * 1024] = [1; 8 * 1024];
    // Come and not looked at; and while it is closed.
    let come = |streams: &mut Streams<'_>, id: StreamId, mut peer: UnixStream| {
        peer.write_all(&BYTES).expect("room");
        streams.wait(None).expect("the ring works");
        streams.close(id);
    };
    let go_on = |streams: &mut Streams<'_>, id: StreamId, mut peer: UnixStream| {
        let writer = std::thread::spawn(move || while peer.write(&BYTES[..100]).is_ok() {});
        assert_eq!(next(streams), StreamEvent::Input(OWNER));
        streams.close(id);
        while !writer.is_finished() {
            streams.wait(Some(Duration::ZERO)).expect("the ring works");
            while streams.next_event().is_some() {}
        }
    };
    for closed in [come as fn(&mut Streams<'_>, StreamId, UnixStream), go_on] {
        with(4, |streams| {
            for _ in 0..TIMES {
                let (id, peer) = open(streams, false);
                streams.begin(id);
                streams.submit();
                closed(streams, id, peer);
                streams.wait(Some(Duration::ZERO)).expect("the ring works");
                while streams.next_event().is_some() {}
            }
            let (id, mut peer) = open(streams, false);
            streams.begin(id);
            peer.write_all(&BYTES).expect("room");
            drop(peer);
            let (all, end) = read_to_end(streams, id);
            assert!(all == BYTES && end.is_ok(), "{} bytes, {end:?}", all.len());
        });
    }
}

#[test]
fn slots_are_used_again_and_never_more_than_there_are() {
    with(2, |streams| {
        let (kept, mut peer) = open(streams, false);
        streams.begin(kept);
        for n in 0..100u8 {
            let (id, mut other) = open(streams, n % 2 == 0);
            streams.begin(id);
            let (ours, _theirs) = UnixStream::pair().expect("a pair of sockets");
            assert!(streams.open(OWNER, ours.as_raw_fd(), false).is_err(), "there were two slots");
            assert_eq!(streams.send(id, &[n; 100]).expect("it is open"), 100);
            other.write_all(&[n; 100]).expect("it is open");
            streams.close(id);
            // What was under way for it is ended first.
            streams.wait(Some(Duration::ZERO)).expect("the ring works");
            let mut got = Vec::new();
            other.read_to_end(&mut got).unwrap_or_else(|error| match error.kind() {
                // It had not read what was sent to it.
                ErrorKind::ConnectionReset => 0,
                _ => panic!("{error}"),
            });
            assert_eq!(got, [n; 100], "what was sent leaves before");
            assert_eq!(streams.send(id, b"late").expect("nothing happens"), 0);
        }
        peer.write_all(b"still here").expect("it is open");
        assert_eq!(next(streams), StreamEvent::Input(OWNER));
        let Ok(StreamInput::Bytes(bytes)) = streams.receive(kept) else { panic!("there is something") };
        assert_eq!(bytes, b"still here");
    });
}

#[test]
fn whatever_is_watched_is_reported_each_time() {
    with(1, |streams| {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair of sockets");
        streams.watch(ours.as_raw_fd());
        for _ in 0..3 {
            theirs.write_all(b"x").expect("it is open");
            assert_eq!(next(streams), StreamEvent::Watched);
            assert_eq!((&ours).read(&mut [0; 8]).expect("it is there"), 1);
            streams.wait(Some(Duration::ZERO)).expect("the ring works");
            assert_eq!(streams.next_event(), None);
        }
    });
}
