//! The two streams of one connection, as a network and two kernels keep them.

use std::collections::VecDeque;

/// How far the end of a client's direction has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum ClientEnd {
    None,
    Sent,
    Arrived,
    /// The driver has told the shard.
    Reported,
}

/// What the server has done with its direction.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum ServerEnd {
    None,
    /// Ended it (FIN).
    Ended,
    /// Closed the transport.
    Closed,
    /// Closed it by reset.
    Aborted,
}

/// What a read or a write by the server came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Transfer {
    Bytes(usize),
    WouldBlock,
    /// The client's direction has ended.
    End,
    /// The client has reset the connection.
    Failed,
}

/// See the module.
pub(crate) struct Link {
    upstream: VecDeque<u8>,
    /// Bytes of `upstream` that the server's kernel has.
    arrived: usize,
    pub(crate) client_end: ClientEnd,
    /// The client has reset the connection.
    pub(crate) reset: bool,
    downstream: VecDeque<u8>,
    /// Bytes that the client's side takes before the client reads.
    window: usize,
    pub(crate) server_end: ServerEnd,
}

impl Link {
    pub(crate) fn new(window: usize) -> Self {
        Self {
            upstream: VecDeque::new(),
            arrived: 0,
            client_end: ClientEnd::None,
            reset: false,
            downstream: VecDeque::new(),
            window,
            server_end: ServerEnd::None,
        }
    }

    /// The client sends. Nobody hears what is sent to a closed transport.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        if self.server_end < ServerEnd::Closed && !self.reset {
            assert_eq!(self.client_end, ClientEnd::None, "a client says nothing after its end");
            self.upstream.extend(bytes);
        }
    }

    /// Bytes under way to the server, or its end is.
    pub(crate) fn can_arrive(&self) -> bool {
        self.arrived < self.upstream.len() || self.client_end == ClientEnd::Sent
    }

    /// Bytes that the server has not read.
    pub(crate) fn unread(&self) -> usize {
        self.upstream.len()
    }

    /// Up to `n` bytes arrive; after the last one, the end.
    pub(crate) fn arrive(&mut self, n: usize) {
        self.arrived += n.min(self.upstream.len() - self.arrived);
        if self.arrived == self.upstream.len() && self.client_end == ClientEnd::Sent {
            self.client_end = ClientEnd::Arrived;
        }
    }

    /// Whether a server that looked would find something.
    pub(crate) fn is_readable(&self) -> bool {
        self.reset || self.arrived > 0 || self.client_end >= ClientEnd::Arrived
    }

    /// The server reads.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Transfer {
        if self.reset {
            return Transfer::Failed;
        }
        let n = self.arrived.min(buffer.len());
        if n == 0 {
            return if self.client_end >= ClientEnd::Arrived { Transfer::End } else { Transfer::WouldBlock };
        }
        for (to, from) in buffer.iter_mut().zip(self.upstream.drain(..n)) {
            *to = from;
        }
        self.arrived -= n;
        Transfer::Bytes(n)
    }

    /// Whether a server that wrote would find room.
    pub(crate) fn is_writable(&self) -> bool {
        self.reset || self.downstream.len() < self.window
    }

    /// The server writes; the network takes `most` bytes at most.
    pub(crate) fn write(&mut self, bytes: &[u8], most: usize) -> Transfer {
        assert_eq!(self.server_end, ServerEnd::None, "nothing is sent after the end");
        if self.reset {
            return Transfer::Failed;
        }
        let n = bytes.len().min(most).min(self.window.saturating_sub(self.downstream.len()));
        if n == 0 {
            return Transfer::WouldBlock;
        }
        self.downstream.extend(&bytes[..n]);
        Transfer::Bytes(n)
    }

    pub(crate) fn widen(&mut self, window: usize) {
        self.window = window.max(self.window);
    }

    /// Bytes that wait for the client.
    pub(crate) fn waiting(&self) -> usize {
        self.downstream.len()
    }

    /// The client reads.
    pub(crate) fn take(&mut self, n: usize) -> Vec<u8> {
        let n = n.min(self.downstream.len());
        self.downstream.drain(..n).collect()
    }

    /// The server resets the connection: what the client has not read may be lost.
    pub(crate) fn lose(&mut self, n: usize) {
        let left = self.downstream.len() - n.min(self.downstream.len());
        self.downstream.truncate(left);
    }
}
