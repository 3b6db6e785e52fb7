//! Tables of descriptors: a thread's own instead of the process's.
//!
//! Threads share one table unless they ask for another. With its own, a thread may have as
//! many sockets as the limit of open files says, whatever the others have; and the kernel
//! need not count who uses a descriptor during each call, as it must in a table that is
//! shared.
//!
//! A new table is a copy of the old one. A listener is closed when its descriptor is closed
//! in all of them, so the copies of those that belong to other threads are closed at once.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::thread::{self, ThreadId};

use rustix::thread::gettid;

use super::listener::Listener;

/// No descriptor has this number.
const NO_DESCRIPTOR: libc::c_uint = libc::c_uint::MAX;

/// Gives the calling thread a table of its own, a copy of what it had. Descriptors that
/// others open or close from now on are not in it, and its own not in theirs.
///
/// # Errors
/// close_range(2): kernels before 5.9 do not have it.
pub fn unshare() -> io::Result<()> {
    // Of the calls that make a new table the one that containers allow: they refuse unshare(2).
    #[expect(unsafe_code, reason = "a system call that has no safe form")]
    // SAFETY: there is nothing to close. Every descriptor keeps its number and its file, so
    // whoever owns one finds it in each table.
    let result =
        unsafe { libc::syscall(libc::SYS_close_range, NO_DESCRIPTOR, NO_DESCRIPTOR, libc::CLOSE_RANGE_UNSHARE) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // What stands between us and the kernel, such as valgrind, may have carried out nothing.
    let (process, thread) = (std::process::id(), this_thread());
    if thread != process && are_shared(process, thread) == Some(true) {
        return Err(io::Error::other("close_range(2) has succeeded, but the table is still shared"));
    }
    Ok(())
}

fn this_thread() -> u32 {
    gettid().as_raw_nonzero().get() as u32
}

/// Whether threads of this process can have tables of their own.
pub fn can_unshare() -> bool {
    // Tried by a thread that ends, so that nobody else's table is another.
    thread::spawn(unshare).join().is_ok_and(|result| result.is_ok())
}

/// Whether two threads, this process's or others', use the same table. `None` where the
/// kernel does not say.
pub fn are_shared(thread: u32, other: u32) -> Option<bool> {
    /// `KCMP_FILES` of kcmp(2).
    const FILES: libc::c_int = 2;
    #[expect(unsafe_code, reason = "a system call that has no safe form")]
    // SAFETY: it reads numbers and changes nothing.
    let result = unsafe { libc::syscall(libc::SYS_kcmp, thread, other, FILES, 0, 0) };
    (result >= 0).then_some(result == 0)
}

/// The listeners of one thread on their way there.
#[derive(Debug)]
pub struct Parcel {
    listeners: Vec<Listener>,
    /// Those in the other parcels.
    others: Vec<RawFd>,
    sender: ThreadId,
}

/// A thread's own table. To be dropped by the sender of the parcel, when all threads have
/// opened theirs: that closes what the sender has still open of it.
#[derive(Debug)]
pub struct OwnTable {
    /// The thread's number in the system.
    pub thread: u32,
    /// What is left in the sender's table.
    copies: Vec<RawFd>,
    sender: ThreadId,
}

impl Parcel {
    /// One for each thread.
    pub fn pack(by_thread: Vec<Vec<Listener>>) -> Vec<Self> {
        let numbers = |listeners: &Vec<Listener>| listeners.iter().map(AsRawFd::as_raw_fd).collect::<Vec<_>>();
        let all: Vec<RawFd> = by_thread.iter().flat_map(numbers).collect();
        let sender = thread::current().id();
        let parcel = |listeners| {
            let own = numbers(&listeners);
            let others = all.iter().copied().filter(|number| !own.contains(number)).collect();
            Self { listeners, others, sender }
        };
        by_thread.into_iter().map(parcel).collect()
    }

    /// For a thread that goes on sharing the process's table.
    pub fn open(self) -> Vec<Listener> {
        self.listeners
    }

    /// Gives the calling thread a table of its own, in which these listeners are the only
    /// ones. Without a table where the kernel refuses one: then it is [`Parcel::open`].
    pub fn open_alone(self) -> (Vec<Listener>, Option<OwnTable>) {
        let Self { listeners, others, sender } = self;
        if let Err(error) = unshare() {
            tracing::debug!(%error, "a shard's thread gets no table of descriptors of its own");
            return (listeners, None);
        }
        // Their owners are other threads, or on their way there, and do not use this table.
        close_all(&others);
        let copies = listeners.iter().map(AsRawFd::as_raw_fd).collect();
        (listeners, Some(OwnTable { thread: this_thread(), copies, sender }))
    }
}

impl Drop for OwnTable {
    fn drop(&mut self) {
        // In any other thread's table the numbers may be somebody's.
        if thread::current().id() == self.sender {
            close_all(&self.copies);
        }
    }
}

fn close_all(numbers: &[RawFd]) {
    for &number in numbers {
        #[expect(unsafe_code, reason = "a descriptor whose owner does not use this table")]
        // SAFETY: both callers know that whoever owns the descriptor uses another table, where
        // it stays open; so nobody has the number in this one.
        unsafe {
            rustix::io::close(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr, TcpStream};

    use socket2::{Domain, Socket, Type};

    use super::*;

    fn listener() -> (Listener, SocketAddr) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        socket.listen(8).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        (Listener::new(socket, false), address)
    }

    /// Carried out on a thread of its own, since copies of what other tests have open at the
    /// moment stay in its table: for a short while only.
    fn alone<T: Send>(act: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| scope.spawn(act).join().unwrap())
    }

    #[test]
    fn a_thread_with_a_table_of_its_own_shares_it_with_nobody() {
        let main = this_thread();
        assert_eq!(alone(|| are_shared(main, this_thread())), Some(true));
        alone(|| {
            unshare().unwrap();
            assert_eq!(are_shared(main, this_thread()), Some(false));
        });
        assert_eq!(are_shared(0x7fff_ffff, main), None, "no such thread");
    }

    #[test]
    fn a_listener_that_went_to_another_table_is_closed_when_it_is_closed_there() {
        alone(|| {
            // The sender's table is its own too, so that no other test is in it.
            unshare().unwrap();
            let ((first, first_at), (second, second_at)) = (listener(), listener());
            let mut parcels = Parcel::pack(vec![vec![first], vec![second]]).into_iter();
            let (first, second) = (parcels.next().unwrap(), parcels.next().unwrap());
            let table = thread::scope(|scope| {
                scope
                    .spawn(|| {
                        let (listeners, table) = first.open_alone();
                        assert!(TcpStream::connect(first_at).is_ok() && listeners.len() == 1);
                        table
                    })
                    .join()
                    .unwrap()
            });
            assert!(TcpStream::connect(first_at).is_ok(), "the thread is gone, a copy is here");
            drop(table.unwrap());
            assert!(TcpStream::connect(first_at).is_err(), "that was the last one");
            let second = second.open();
            assert!(TcpStream::connect(second_at).is_ok());
            drop(second);
            assert!(TcpStream::connect(second_at).is_err(), "no copy is left in the first one's table");
        });
    }
}
