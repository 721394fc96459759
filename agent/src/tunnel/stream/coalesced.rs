//! Above TLS, below HTTP/2: collects writes and hands them over once per pass of the worker's loop.
//!
//! HTTP/2 flushes after each frame; those flushes only say "done" here. What truly flushes is the task that drives
//! the connection, through a `Flusher`, after all streams have had their turn. Only a full buffer writes earlier, and
//! only a blocked socket makes a write wait; then the socket itself wakes the task.

use std::{
    cell::{Cell, RefCell},
    io,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::buffers;

/// What passed through a tunnel, before encryption. Plain numbers of one thread.
#[derive(Debug, Default)]
pub struct Counters {
    /// Bytes received.
    pub received: Cell<u64>,
    /// Nothing is read beyond so many bytes received: whoever drives the connection has to look at it first. None: no bound.
    pub pause: Cell<Option<u64>>,
    /// Bytes sent.
    pub sent: Cell<u64>,
    /// Times that collected bytes were handed to TLS.
    pub writes: Cell<u64>,
    /// The TLS alert with which the peer ended it. HTTP/2 keeps only the text of errors.
    pub alert: RefCell<Option<Arc<str>>>,
}

impl Counters {
    /// Whether it is time to look at the connection.
    #[must_use]
    pub fn pauses(&self) -> bool {
        self.pause.get().is_some_and(|pause| self.received.get() >= pause)
    }

    /// It was looked at; in so many bytes it is time again.
    pub fn go_on(&self, bytes: u64) {
        self.pause.set(Some(self.received.get() + bytes));
    }

    fn note_alert(&self, error: &io::Error) {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if let Some(rustls::Error::AlertReceived(alert)) = inner {
            self.alert.replace(Some(format!("{alert:?}").into()));
        }
    }
}

/// The stream that HTTP/2 reads and writes.
pub struct Coalesced<T>(Rc<RefCell<Inner<T>>>);

/// The handle with which the driving task flushes.
pub struct Flusher<T>(Rc<RefCell<Inner<T>>>);

struct Inner<T> {
    stream: T,
    collected: Option<Collected>,
    /// Something was handed to TLS that its flush has not confirmed yet.
    unflushed: bool,
    failed: Option<io::ErrorKind>,
    counters: Rc<Counters>,
}

struct Collected {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl<T> Coalesced<T> {
    /// Wraps a stream; counts in `counters`.
    pub fn new(stream: T, counters: Rc<Counters>) -> (Self, Flusher<T>) {
        let inner = Inner { stream, collected: None, unflushed: false, failed: None, counters };
        let inner = Rc::new(RefCell::new(inner));
        (Self(inner.clone()), Flusher(inner))
    }
}

impl<T: AsyncWrite + Unpin> Flusher<T> {
    /// Writes all that was collected. Ready when the socket has taken it; an error is also what the next read and write get.
    ///
    /// # Errors
    /// The stream below failed.
    pub fn poll_flush(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.0.borrow_mut();
        let flushed = inner.poll_drain(context);
        if let Poll::Ready(Err(error)) = &flushed {
            inner.failed = Some(error.kind());
        }
        flushed
    }
}

impl<T> Inner<T> {
    fn check(&self) -> io::Result<()> {
        self.failed.map_or(Ok(()), |kind| Err(kind.into()))
    }

    /// Takes what fits; zero when the buffer is full.
    fn collect(&mut self, data: &[u8]) -> usize {
        let fresh = || Collected { buffer: buffers::borrow(), start: 0, end: 0 };
        let collected = self.collected.get_or_insert_with(fresh);
        let room = collected.buffer.get_mut(collected.end..).unwrap_or_default();
        let taken = room.len().min(data.len());
        if let (Some(room), Some(data)) = (room.get_mut(..taken), data.get(..taken)) {
            room.copy_from_slice(data);
        }
        collected.end += taken;
        taken
    }

    fn is_full(&self) -> bool {
        self.collected.as_ref().is_some_and(|collected| collected.end == collected.buffer.len())
    }

    fn give_back(&mut self) {
        if let Some(collected) = self.collected.take() {
            buffers::give_back(collected.buffer);
        }
    }
}

impl<T: AsyncWrite + Unpin> Inner<T> {
    /// Hands all collected bytes to TLS, in one call where TLS takes them.
    fn poll_hand_over(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(collected) = &mut self.collected {
            let data = collected.buffer.get(collected.start..collected.end).unwrap_or_default();
            if data.is_empty() {
                break;
            }
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, data))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            collected.start += written;
            self.unflushed = true;
            self.counters.writes.set(self.counters.writes.get() + 1);
            self.counters.sent.set(self.counters.sent.get() + written as u64);
        }
        self.give_back();
        Poll::Ready(Ok(()))
    }

    fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        ready!(self.poll_hand_over(context))?;
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(context))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_make_room(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        if self.is_full() {
            ready!(self.poll_hand_over(context))?;
        }
        Poll::Ready(Ok(()))
    }
}

impl<T> Drop for Inner<T> {
    fn drop(&mut self) {
        self.give_back();
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Coalesced<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut inner = self.0.borrow_mut();
        inner.check()?;
        if inner.counters.pauses() {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = out.filled().len();
        let read = ready!(Pin::new(&mut inner.stream).poll_read(context, out));
        read.inspect_err(|error| inner.counters.note_alert(error))?;
        let received = (out.filled().len() - before) as u64;
        inner.counters.received.set(inner.counters.received.get() + received);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Coalesced<T> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let mut inner = self.0.borrow_mut();
        ready!(inner.poll_make_room(context))?;
        Poll::Ready(Ok(inner.collect(data)))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut inner = self.0.borrow_mut();
        ready!(inner.poll_make_room(context))?;
        let mut taken = 0;
        for slice in data {
            let now = inner.collect(slice);
            taken += now;
            if now < slice.len() {
                break;
            }
        }
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Says "done": the `Flusher` flushes at the end of the pass.
    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.borrow().check())
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.0.borrow_mut();
        ready!(inner.poll_drain(context))?;
        Pin::new(&mut inner.stream).poll_shutdown(context)
    }
}
