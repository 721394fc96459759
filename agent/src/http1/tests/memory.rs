//! A source and a sink in memory, strict like sockets: nothing is asked for after its end.

use std::{
    cell::RefCell,
    collections::VecDeque,
    io,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;

use crate::http1::{Sink, Source};

/// What a read brings.
#[derive(Clone, Debug)]
pub(super) enum Read {
    Bytes(Bytes),
    Pending,
    Reset,
}

/// Gives its pieces one by one, then the end.
#[derive(Default)]
pub(super) struct Pieces {
    pub(super) reads: VecDeque<Read>,
    pub(super) given: usize,
    pub(super) taken: usize,
    ended: bool,
}

impl Pieces {
    pub(super) fn new(reads: impl IntoIterator<Item = Read>) -> Self {
        Self { reads: reads.into_iter().collect(), ..Self::default() }
    }

    /// All of it in one read.
    pub(super) fn whole(bytes: &[u8]) -> Self {
        Self::split(bytes, &[])
    }

    /// Cut after so many bytes each; the rest is one read. Between the reads it is pending once.
    pub(super) fn split(bytes: &[u8], lengths: &[usize]) -> Self {
        let mut rest = Bytes::copy_from_slice(bytes);
        let mut reads = Vec::new();
        for length in lengths {
            reads.push(Read::Bytes(rest.split_to((*length).min(rest.len()))));
            reads.push(Read::Pending);
        }
        reads.push(Read::Bytes(rest));
        reads.retain(|read| !matches!(read, Read::Bytes(bytes) if bytes.is_empty()));
        Self::new(reads)
    }
}

impl Source for Pieces {
    fn poll_read(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        assert!(!self.ended, "read after the end");
        match self.reads.pop_front() {
            Some(Read::Bytes(bytes)) => {
                self.given += bytes.len();
                Poll::Ready(Ok(bytes))
            }
            Some(Read::Pending) => Poll::Pending,
            Some(Read::Reset) => {
                self.ended = true;
                Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
            }
            None => {
                self.ended = true;
                Poll::Ready(Ok(Bytes::new()))
            }
        }
    }

    fn taken(&mut self, bytes: usize) {
        self.taken += bytes;
        assert!(self.taken <= self.given, "took more than was given");
    }
}

/// What a sink saw.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) bytes: Vec<u8>,
    pub(super) writes: usize,
    pub(super) aborted: bool,
    pub(super) finished: bool,
}

/// Takes everything.
#[derive(Clone, Default)]
pub(super) struct Memory(pub(super) Rc<RefCell<Seen>>);

impl Sink for Memory {
    fn poll_write(&mut self, _cx: &mut Context<'_>, queue: &mut VecDeque<Bytes>) -> Poll<io::Result<()>> {
        let mut seen = self.0.borrow_mut();
        seen.writes += queue.len();
        for bytes in queue.drain(..) {
            assert!(!bytes.is_empty(), "an empty piece");
            seen.bytes.extend_from_slice(&bytes);
        }
        Poll::Ready(Ok(()))
    }

    fn finish(&mut self) -> io::Result<()> {
        self.0.borrow_mut().finished = true;
        Ok(())
    }

    fn abort(&mut self) {
        self.0.borrow_mut().aborted = true;
    }
}

/// Polls until it is ready. A source that stays pending fails the test.
pub(super) fn ready<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..1_000_000 {
        if let Poll::Ready(value) = poll(&mut cx) {
            return value;
        }
    }
    panic!("never ready")
}
