//! A [`Wire`] as HTTP/2 reads and writes it, with a count of what came, by which the life of the peer is judged.
//!
//! Straight to a socket nothing is copied. A tunnel takes one write at a time: the next one waits until it had room.

use std::{
    cell::Cell,
    collections::VecDeque,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::io::{Wire, WireSink, WireSource};
use crate::{
    http1::{Sink, Source},
    tunnel::stream::Sealed,
};

/// The byte stream under HTTP/2.
pub struct WireStream {
    source: WireSource,
    sink: WireSink,
    ahead: Bytes,
    queue: VecDeque<Bytes>,
    received: Rc<Cell<u64>>,
    ended: bool,
}

impl WireStream {
    /// Wraps a wire; adds to `received` what comes, in bytes.
    #[must_use]
    pub fn new(wire: Wire, received: Rc<Cell<u64>>) -> Self {
        let Wire { source, sink } = wire;
        Self { source, sink, ahead: Bytes::new(), queue: VecDeque::new(), received, ended: false }
    }

    /// Takes what `slices` hold, when what was taken before is gone.
    fn poll_take(&mut self, context: &mut Context<'_>, slices: &[&[u8]]) -> Poll<io::Result<usize>> {
        ready!(self.sink.poll_write(context, &mut self.queue))?;
        let total = slices.iter().map(|slice| slice.len()).sum();
        let mut data = BytesMut::with_capacity(total);
        slices.iter().for_each(|slice| data.extend_from_slice(slice));
        self.queue.push_back(data.freeze());
        let written = self.sink.poll_write(context, &mut self.queue);
        let left: usize = self.queue.iter().map(Bytes::len).sum();
        match written {
            // Only what was not even begun may be called unsent; a later write meets the error again.
            Poll::Ready(Err(error)) if left == total => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(total)),
        }
    }
}

impl Sealed for WireStream {}

impl AsyncRead for WireStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.ahead.is_empty() {
            this.ahead = ready!(this.source.poll_read(context))?;
        }
        let taken = this.ahead.len().min(out.remaining());
        out.put_slice(this.ahead.get(..taken).unwrap_or_default());
        this.ahead.advance(taken);
        if this.ahead.is_empty() {
            // An empty slice of a large buffer would keep the buffer.
            this.ahead = Bytes::new();
        }
        this.source.taken(taken);
        this.received.set(this.received.get() + taken as u64);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for WireStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.sink {
            WireSink::Socket(socket) | WireSink::Closing(socket) => loop {
                let socket = socket.told()?;
                ready!(socket.poll_write_ready(context))?;
                match socket.try_write(data) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    written => return Poll::Ready(written),
                }
            },
            WireSink::Stream(_) | WireSink::Http2(_) => self.poll_take(context, &[data]),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.sink {
            WireSink::Socket(socket) | WireSink::Closing(socket) => loop {
                let socket = socket.told()?;
                ready!(socket.poll_write_ready(context))?;
                match socket.try_write_vectored(data) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    written => return Poll::Ready(written),
                }
            },
            WireSink::Stream(_) | WireSink::Http2(_) => {
                let slices: Vec<&[u8]> = data.iter().map(|slice| &**slice).collect();
                self.poll_take(context, &slices)
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.sink.poll_write(context, &mut this.queue)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        ready!(this.sink.poll_write(context, &mut this.queue))?;
        if !std::mem::replace(&mut this.ended, true) {
            // A peer that has gone needs no end.
            let _ = this.sink.finish();
        }
        Poll::Ready(Ok(()))
    }
}
