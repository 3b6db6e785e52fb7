//! The ring: what is asked of the kernel, and what it reports.
//!
//! Owner: the loop, on the thread that made the ring. Knows descriptors and operations, and
//! no connection beyond its id. Blocks in [`Ring::wait`] only.
//!
//! The kernel does its part while this thread is in [`Ring::submit`] or [`Ring::wait`], and
//! at no other time (DEFER_TASKRUN): it touches memory that it was given only then.

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};
use std::time::Duration;

use io_uring::squeue::{Entry, Flags};
use io_uring::types::{CancelBuilder, Fd, Fixed, SubmitArgs, Timespec};
use io_uring::{CompletionQueue, EnterFlags, IoUring, SubmissionQueue, Submitter, cqueue, opcode};

use crate::id::ConnectionId;

/// Entries of the submission queue. When it is full, what it holds is carried out.
const SUBMISSIONS: u32 = 256;
/// Entries of the completion queue: more than buffers can be filled and sends can come short
/// in one turn as a rule. What finds it full waits in the kernel.
const COMPLETIONS: u32 = 8192;

/// Bits of a completion's word that hold the slot.
const SLOT_BITS: u32 = 24;
/// Slots that a completion can name.
pub(super) const SLOTS_MAX: usize = 1 << SLOT_BITS;

/// The kind of a receive into buffers of the first group; those of others follow.
const FIRST_RECEIVE: u64 = 8;

/// SO_LINGER with no time: closing is a reset.
#[repr(C)]
struct Linger {
    on: libc::c_int,
    seconds: libc::c_int,
}

static NO_LINGER: Linger = Linger { on: 1, seconds: 0 };

/// What has been asked of the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Operation {
    /// Something of which only a failure is reported, and nothing follows from that.
    Unheeded,
    /// The mailbox's descriptor can be read.
    Bell,
    /// Some listener has connections.
    Listeners,
    /// Bytes of a connection, into a buffer of this group.
    Receive(ConnectionId, u16),
    /// A connection takes bytes again.
    Writable(ConnectionId),
    /// A send, by its number in the batch.
    Send(usize),
    /// A direct descriptor gets a number for system calls.
    Install,
}

impl Operation {
    /// As the word that the kernel gives back: a generation of 32 bits, a kind of 8, a slot
    /// or number of 24.
    fn to_word(self) -> u64 {
        let (kind, generation, slot) = match self {
            Self::Unheeded => (0, 0, 0),
            Self::Bell => (1, 0, 0),
            Self::Listeners => (2, 0, 0),
            Self::Writable(id) => (3, id.generation.into(), id.slot.into()),
            Self::Send(n) => (4, 0, n as u64),
            Self::Install => (5, 0, 0),
            Self::Receive(id, group) => (FIRST_RECEIVE + u64::from(group), id.generation.into(), id.slot.into()),
        };
        debug_assert!(slot < SLOTS_MAX as u64);
        generation << 32 | kind << SLOT_BITS | slot
    }

    /// The reverse of [`Operation::to_word`].
    fn from_word(word: u64) -> Self {
        let n = word as usize & (SLOTS_MAX - 1);
        let id = ConnectionId { slot: n as u32, generation: (word >> 32) as u32 };
        match word >> SLOT_BITS & 0xff {
            1 => Self::Bell,
            2 => Self::Listeners,
            3 => Self::Writable(id),
            4 => Self::Send(n),
            5 => Self::Install,
            kind @ FIRST_RECEIVE.. => Self::Receive(id, (kind - FIRST_RECEIVE) as u16),
            _ => Self::Unheeded,
        }
    }
}

/// What the kernel says of an operation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Completion {
    pub(super) operation: Operation,
    /// As a system call returns it: an error is its number, negative.
    pub(super) result: i32,
    /// The provided buffer that was used, and whether the kernel goes on filling it.
    pub(super) buffer: Option<(u16, bool)>,
    /// The operation goes on and will report again.
    pub(super) more: bool,
}

/// See the module.
pub(super) struct Ring<'r> {
    submitter: Submitter<'r>,
    submissions: SubmissionQueue<'r>,
    completions: CompletionQueue<'r>,
    /// Slots of the table of direct descriptors.
    slots: usize,
    /// A slot is to be emptied and has not been yet.
    closes: bool,
    /// Why the ring can no longer be used.
    broken: Option<io::Error>,
}

/// Makes a ring. Belongs on the thread that will use it: no other may (SINGLE_ISSUER).
pub(super) fn make() -> io::Result<IoUring> {
    IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_coop_taskrun()
        .setup_submit_all()
        .setup_cqsize(COMPLETIONS)
        .build(SUBMISSIONS)
}

impl<'r> Ring<'r> {
    /// For so many direct descriptors.
    pub(super) fn new(ring: &'r mut IoUring, slots: usize) -> io::Result<Self> {
        let (mut submitter, submissions, completions) = ring.split();
        submitter.register_files_sparse(slots.min(SLOTS_MAX) as u32)?;
        // Saves the look-up of the ring with each call.
        submitter.register_ring_fd()?;
        Ok(Self { submitter, submissions, completions, slots, closes: false, broken: None })
    }

    /// Gives the kernel a ring of buffers to fill.
    ///
    /// # Safety
    /// The ring's memory, and that of the buffers which are put into it, must be valid for
    /// as long as the `IoUring` lives.
    #[expect(unsafe_code, reason = "the kernel writes to that memory")]
    pub(super) unsafe fn register_buffers(&self, at: u64, entries: u16, group: u16, flags: u16) -> io::Result<()> {
        // SAFETY: as the caller promises.
        unsafe { self.submitter.register_buf_ring_with_flags(at, entries, group, flags) }
    }

    /// Puts a descriptor into an empty slot of the table of direct descriptors. The caller's
    /// own is not needed any more.
    pub(super) fn fill_slot(&mut self, slot: u32, descriptor: RawFd) -> io::Result<()> {
        debug_assert!(!self.closes, "what empties the slot would come behind this");
        if slot as usize >= self.slots {
            return Err(io::Error::from_raw_os_error(libc::ENFILE));
        }
        self.submitter.register_files_update(slot, &[descriptor]).map(drop)
    }

    /// Whether a slot is to be emptied by the next submission.
    pub(super) fn has_closes(&self) -> bool {
        self.closes
    }

    /// Reports whenever a descriptor becomes readable, until it is cancelled.
    pub(super) fn watch(&mut self, descriptor: RawFd, operation: Operation) {
        let entry = opcode::PollAdd::new(Fd(descriptor), libc::POLLIN as u32).multi(true).build();
        self.push(entry, operation);
    }

    /// Reports once when a connection takes bytes.
    pub(super) fn watch_writable(&mut self, id: ConnectionId) {
        let entry = opcode::PollAdd::new(Fixed(id.slot), libc::POLLOUT as u32).build();
        self.push(entry, Operation::Writable(id));
    }

    /// Receives into buffers of a group whenever something comes, until it is cancelled or
    /// there is no buffer.
    pub(super) fn receive_all(&mut self, id: ConnectionId, group: u16) {
        self.push(opcode::RecvMulti::new(Fixed(id.slot), group).build(), Operation::Receive(id, group));
    }

    /// Receives what comes next into one buffer of a group.
    pub(super) fn receive_once(&mut self, id: ConnectionId, group: u16) {
        let entry = opcode::Recv::new(Fixed(id.slot), std::ptr::null_mut(), 0).buf_group(group).build();
        self.push(entry.flags(Flags::BUFFER_SELECT), Operation::Receive(id, group));
    }

    /// Ends what [`Ring::receive_all`] has begun; that reports its end.
    pub(super) fn cancel_receive(&mut self, id: ConnectionId, group: u16) {
        let entry = opcode::AsyncCancel::new(Operation::Receive(id, group).to_word()).build();
        self.push(entry.flags(Flags::SKIP_SUCCESS), Operation::Unheeded);
    }

    /// Sends when it is submitted, and reports only if the socket did not take all: how
    /// much it took, or why nothing. Never waits for the socket.
    ///
    /// Without WAITALL a part that was taken would pass for success; without DONTWAIT the
    /// rest would wait in the kernel, and the next send could overtake it.
    ///
    /// # Safety
    /// The bytes must be valid until [`Ring::submit`] has returned.
    #[expect(unsafe_code, reason = "the kernel reads from that memory")]
    pub(super) unsafe fn send(&mut self, slot: u32, bytes: *const u8, len: u32, operation: Operation) {
        let flags = libc::MSG_WAITALL | libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        let entry = opcode::Send::new(Fixed(slot), bytes, len).flags(flags).build();
        self.push(entry.flags(Flags::SKIP_SUCCESS), operation);
    }

    /// The same of bytes in several places.
    ///
    /// # Safety
    /// The header, and all that it names, must be valid until [`Ring::submit`] has returned.
    #[expect(unsafe_code, reason = "the kernel reads from that memory")]
    pub(super) unsafe fn send_segments(&mut self, slot: u32, header: *const libc::msghdr, operation: Operation) {
        let flags = libc::MSG_WAITALL | libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        let entry = opcode::SendMsg::new(Fixed(slot), header).flags(flags as u32).build();
        self.push(entry.flags(Flags::SKIP_SUCCESS), operation);
    }

    /// Asks for a number by which system calls know the connection, too. There is one when
    /// this has been submitted.
    pub(super) fn install(&mut self, slot: u32) {
        // Without flags of its own, it is closed by exec.
        self.push(opcode::FixedFdInstall::new(Fixed(slot), 0).build(), Operation::Install);
    }

    /// What [`Operation::Install`] has reported.
    #[expect(unsafe_code, reason = "the descriptor is new and nobody else has it")]
    pub(super) fn installed(result: i32) -> io::Result<OwnedFd> {
        if result < 0 {
            return Err(io::Error::from_raw_os_error(-result));
        }
        // SAFETY: the kernel has made this descriptor for us, and it was reported once.
        Ok(unsafe { OwnedFd::from_raw_fd(result) })
    }

    /// Closes a connection's socket, `abort`: by a reset. With operations that are `pending`,
    /// these are ended first and report that; else they would keep the socket open.
    pub(super) fn close(&mut self, slot: u32, abort: bool, pending: bool) {
        if abort {
            let option = (&raw const NO_LINGER).cast();
            let (level, name) = (libc::SOL_SOCKET as u32, libc::SO_LINGER as u32);
            let entry = opcode::SetSockOpt::new(Fixed(slot), level, name, option, size_of::<Linger>() as u32).build();
            // If the option cannot be set, closing does it the slow way.
            self.push(entry.flags(Flags::SKIP_SUCCESS), Operation::Unheeded);
        }
        if pending {
            let entry = opcode::AsyncCancel2::new(CancelBuilder::fd(Fixed(slot)).all()).build();
            self.push(entry.flags(Flags::SKIP_SUCCESS), Operation::Unheeded);
        }
        self.push(opcode::Close::new(Fixed(slot)).build().flags(Flags::SKIP_SUCCESS), Operation::Unheeded);
        self.closes = true;
    }

    /// Carries out what was asked for, and does not look for what is new.
    pub(super) fn submit(&mut self) {
        self.submissions.sync();
        while !self.submissions.is_empty() && self.broken.is_none() {
            match self.enter(0, EnterFlags::empty(), None) {
                Ok(()) => {}
                Err(error) if is_passing(&error) => {
                    // Short of memory, or of room for completions: lets the kernel finish
                    // what it has begun.
                    if let Err(error) = self.enter(0, EnterFlags::GETEVENTS, None)
                        && !is_passing(&error)
                    {
                        self.broken = Some(error);
                    }
                }
                Err(error) => self.broken = Some(error),
            }
        }
        self.closes = false;
    }

    /// The same, and then waits until there is a completion, for so long at most (`None` is
    /// for ever).
    pub(super) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.submissions.sync();
        let want = u32::from(timeout != Some(Duration::ZERO));
        // Even where nothing is waited for: else nothing would be received in a loop that
        // always has something to do.
        match self.enter(want, EnterFlags::GETEVENTS, timeout.filter(|timeout| !timeout.is_zero())) {
            Err(error) if !is_passing(&error) => return Err(error),
            _ => {}
        }
        // As a rule nothing is left.
        self.submit();
        self.broken.take().map_or(Ok(()), Err)
    }

    /// The next completion. Those that the kernel had no room for come when the others have
    /// been taken.
    pub(super) fn next_completion(&mut self) -> Option<Completion> {
        if let Some(entry) = self.completions.next() {
            return Some(completion(&entry));
        }
        // Says what has been taken. If this were put off, the next wait would return at
        // once, for what lies there.
        self.completions.sync();
        if self.submissions.cq_overflow() && self.completions.is_empty() {
            match self.enter(0, EnterFlags::GETEVENTS, None) {
                Err(error) if !is_passing(&error) => self.broken = Some(error),
                _ => {}
            }
            self.completions.sync();
        }
        self.completions.next().map(|entry| completion(&entry))
    }

    fn push(&mut self, entry: Entry, operation: Operation) {
        if self.submissions.is_full() {
            let closes = self.closes;
            self.submit();
            // Of what belongs to one close, some may be still to come.
            self.closes = closes;
        }
        let entry = entry.user_data(operation.to_word());
        #[expect(unsafe_code, reason = "the kernel does what the entry says")]
        // SAFETY: memory that an entry names is static, or its caller keeps it until it is
        // submitted, see `send` and `send_segments`. Buffers are those that were registered.
        if unsafe { self.submissions.push(&entry) }.is_err() {
            self.broken.get_or_insert_with(|| io::Error::other("the submission queue stays full"));
        }
    }

    fn enter(&mut self, want: u32, flags: EnterFlags, timeout: Option<Duration>) -> io::Result<()> {
        let submissions = self.submissions.len() as u32;
        let result = match timeout {
            Some(timeout) => {
                let timespec = Timespec::from(timeout);
                let arguments = SubmitArgs::new().timespec(&timespec);
                let flags = flags | EnterFlags::EXT_ARG;
                #[expect(unsafe_code, reason = "a call with flags of our own")]
                // SAFETY: the arguments live until the call returns; entries are as `push` says.
                unsafe {
                    self.submitter.enter(submissions, want, flags.bits(), Some(&arguments))
                }
            }
            #[expect(unsafe_code, reason = "a call with flags of our own")]
            // SAFETY: there are no arguments; entries are as `push` says.
            None => unsafe { self.submitter.enter::<libc::sigset_t>(submissions, want, flags.bits(), None) },
        };
        self.submissions.sync();
        result.map(drop)
    }
}

impl Drop for Ring<'_> {
    fn drop(&mut self) {
        // Else the ring would live until its thread ends. If this fails, it does.
        let _ = self.submitter.unregister_ring_fd();
    }
}

/// Whether a call that ended so is to be made again.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::ETIME | libc::EAGAIN | libc::EBUSY))
}

fn completion(entry: &cqueue::Entry) -> Completion {
    let flags = entry.flags();
    Completion {
        operation: Operation::from_word(entry.user_data()),
        result: entry.result(),
        buffer: cqueue::buffer_select(flags).map(|buffer| (buffer, cqueue::buffer_more(flags))),
        more: cqueue::more(flags),
    }
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod kernel_tests;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_names_its_operation() {
        let id = ConnectionId { slot: SLOTS_MAX as u32 - 1, generation: u32::MAX };
        let operations = [
            Operation::Unheeded,
            Operation::Bell,
            Operation::Listeners,
            Operation::Receive(id, 0),
            Operation::Receive(id, 1),
            Operation::Writable(id),
            Operation::Send(255),
            Operation::Install,
        ];
        for operation in operations {
            assert_eq!(Operation::from_word(operation.to_word()), operation);
        }
    }
}
