//! The two flows of a relay: out of a socket into a tunnel, and out of anything into a socket.
//!
//! A waiting flow holds no buffer: readability comes first, then room on the other side, and only then a buffer, from
//! the thread while reads are small. Reads grow while they come back full and shrink when they do not.

use std::{
    cell::RefCell,
    io,
    net::Shutdown,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use socket2::SockRef;
use tokio::{
    io::{Interest, Ready},
    net::TcpStream,
};

use super::relay::End;
use crate::tunnel::{ReceiveHalf, SendHalf};

/// Reads up to this size go through the thread's buffer and leave as exact copies.
pub(super) const SMALL: usize = 16 * 1024;
/// The largest single read.
pub(super) const LARGE: usize = 256 * 1024;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SMALL].into_boxed_slice());
}

/// Which socket of a relay between two sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The one that was accepted.
    Near,
    /// The one that was dialled.
    Far,
}

impl Side {
    fn broke(self, error: io::Error) -> End {
        match self {
            Self::Near => End::Near(error),
            Self::Far => End::Far(error),
        }
    }
}

/// Out of the accepted socket into a tunnel.
pub(super) struct Draw<'socket, S> {
    pub(super) reader: Reads<'socket>,
    pub(super) send: S,
}

impl<S: SendHalf> Draw<'_, S> {
    /// Carries until the socket's end of file, which is passed on.
    pub(super) fn poll(&mut self, count: impl Fn(usize), cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        loop {
            ready!(self.reader.poll_ready(cx)).map_err(End::Near)?;
            let room = match self.send.poll_capacity(cx, self.reader.chunk) {
                Poll::Ready(room) => room.map_err(End::Stream)?,
                Poll::Pending => return self.reader.poll_broken(cx).map(|error| Err(End::Near(error))),
            };
            let read = self.reader.poll_read(cx, room);
            if read.is_pending() {
                self.send.give_back();
            }
            let data = ready!(read).map_err(End::Near)?;
            if data.is_empty() {
                self.send.finish().map_err(End::Stream)?;
                return Poll::Ready(Ok(()));
            }
            count(data.len());
            self.send.send(data).map_err(End::Stream)?;
            self.send.give_back();
        }
    }
}

/// Reads a socket in pieces that grow with what comes.
pub(super) struct Reads<'socket> {
    socket: &'socket TcpStream,
    chunk: usize,
    /// Waits for the socket to break; only while nobody reads it.
    breaking: Option<Breaking<'socket>>,
}

type Breaking<'socket> = Pin<Box<dyn Future<Output = io::Result<Ready>> + 'socket>>;

impl<'socket> Reads<'socket> {
    pub(super) fn new(socket: &'socket TcpStream) -> Self {
        Self { socket, chunk: SMALL, breaking: None }
    }

    /// Ready when the socket was reset. For a flow whose far side takes nothing at the moment: it does not read, and what
    /// waits unread hides the reset.
    fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        loop {
            let socket = self.socket;
            let breaking = self.breaking.get_or_insert_with(|| Box::pin(socket.ready(Interest::ERROR)));
            let told = ready!(breaking.as_mut().poll(cx));
            self.breaking = None;
            match told.and_then(|_| socket.take_error()) {
                Ok(None) => drained(socket, Interest::ERROR),
                Ok(Some(error)) | Err(error) => return Poll::Ready(error),
            }
        }
    }

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_read_ready(cx)
    }

    /// At most `room` bytes; nothing at the end of file. To be called when [`Reads::poll_ready`] was ready; a false alarm
    /// is pending again.
    fn poll_read(&mut self, cx: &mut Context<'_>, room: usize) -> Poll<io::Result<Bytes>> {
        self.breaking = None;
        loop {
            match read_now(self.socket, &mut self.chunk, room) {
                Ok(data) => return Poll::Ready(Ok(data)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(self.poll_ready(cx))?,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

/// Waits for something to read, then reads it as [`read_now`] does.
pub(super) fn poll_read(
    socket: &TcpStream,
    chunk: &mut usize,
    room: usize,
    cx: &mut Context<'_>,
) -> Poll<io::Result<Bytes>> {
    loop {
        ready!(socket.poll_read_ready(cx))?;
        match read_now(socket, chunk, room) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => return Poll::Ready(read),
        }
    }
}

/// One read of at most `room` bytes into a piece of its own, its size grown or shrunk by what came; `chunk` starts with
/// [`SMALL`]. Nothing at the end of file.
fn read_now(socket: &TcpStream, chunk: &mut usize, room: usize) -> io::Result<Bytes> {
    let limit = room.min(*chunk);
    let data = match limit {
        ..=SMALL => read_small(limit, |room| socket.try_read(room)),
        _ => read_large(socket, limit),
    }?;
    if data.len() < limit {
        drained(socket, Interest::READABLE);
    }
    *chunk = next_chunk(*chunk, limit, data.len());
    Ok(data)
}

/// At most [`SMALL`] bytes, as `take` fills the room that it is given.
pub(super) fn read_small(
    limit: usize,
    take: impl FnOnce(&mut [u8]) -> io::Result<usize>,
) -> io::Result<Bytes> {
    SCRATCH.with_borrow_mut(|scratch| {
        let room = scratch.get_mut(..limit).unwrap_or_default();
        let read = take(room)?;
        Ok(Bytes::copy_from_slice(room.get(..read).unwrap_or_default()))
    })
}

fn read_large(socket: &TcpStream, limit: usize) -> io::Result<Bytes> {
    let mut data = BytesMut::with_capacity(limit);
    let read = socket.try_read_buf(&mut data)?;
    // A buffer that is mostly empty would be held whole until the other side took it.
    if read < limit / 4 { Ok(Bytes::copy_from_slice(&data)) } else { Ok(data.freeze()) }
}

/// A short read or write has said all the kernel has to say: the next one would block, so wait for it at once instead of asking.
pub(super) fn drained(socket: &TcpStream, interest: Interest) {
    let _ = socket.try_io(interest, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
}

/// Grows fourfold on a full read, halves on a read that needed less than a quarter.
pub(super) fn next_chunk(chunk: usize, limit: usize, read: usize) -> usize {
    if read == limit && limit == chunk {
        (chunk * 4).min(LARGE)
    } else if read < chunk / 4 {
        (chunk / 2).max(SMALL)
    } else {
        chunk
    }
}

/// Where [`Pour`] takes its bytes from.
pub(super) trait Source {
    /// The next piece; none at the end.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, End>>>;
    /// So many bytes were passed on.
    fn passed(&mut self, bytes: usize);
    /// Ready when the source broke while nothing was taken from it.
    fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<End>;
}

/// A tunnel's stream as a source.
pub(super) struct FromTunnel<R>(pub(super) R);

impl<R: ReceiveHalf> Source for FromTunnel<R> {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, End>>> {
        self.0.poll_data(cx).map(|next| next.map(|data| data.map_err(End::Stream)))
    }

    fn passed(&mut self, bytes: usize) {
        self.0.release(bytes);
    }

    /// The relay asks the sending half, which knows of the stream as a whole.
    fn poll_broken(&mut self, _cx: &mut Context<'_>) -> Poll<End> {
        Poll::Pending
    }
}

/// A socket as a source.
pub(super) struct FromSocket<'socket> {
    pub(super) reader: Reads<'socket>,
    pub(super) side: Side,
}

impl Source for FromSocket<'_> {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, End>>> {
        let read = match ready!(self.reader.poll_ready(cx)) {
            Ok(()) => ready!(self.reader.poll_read(cx, LARGE)),
            Err(error) => Err(error),
        };
        Poll::Ready(match read {
            Ok(data) if data.is_empty() => None,
            Ok(data) => Some(Ok(data)),
            Err(error) => Some(Err(self.side.broke(error))),
        })
    }

    fn passed(&mut self, _bytes: usize) {}

    fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        self.reader.poll_broken(cx).map(|error| self.side.broke(error))
    }
}

/// Out of a source into a socket.
pub(super) struct Pour<'socket, F> {
    pub(super) writer: &'socket TcpStream,
    pub(super) side: Side,
    pub(super) source: F,
    pending: Bytes,
}

impl<'socket, F: Source> Pour<'socket, F> {
    pub(super) fn new(writer: &'socket TcpStream, side: Side, source: F) -> Self {
        Self { writer, side, source, pending: Bytes::new() }
    }

    /// Carries until the end of the source, which is passed on.
    pub(super) fn poll(&mut self, count: impl Fn(usize), cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        loop {
            while !self.pending.is_empty() {
                let written = match self.poll_write(cx) {
                    Poll::Ready(written) => written.map_err(|error| self.side.broke(error))?,
                    Poll::Pending => return self.source.poll_broken(cx).map(Err),
                };
                self.pending.advance(written);
                self.source.passed(written);
                count(written);
            }
            // Also an empty slice of a large buffer would keep the buffer.
            self.pending = Bytes::new();
            match ready!(self.source.poll_next(cx)) {
                Some(data) => self.pending = data?,
                None => {
                    // A socket whose peer has gone cannot be shut down; the other direction will tell.
                    let _ = SockRef::from(self.writer).shutdown(Shutdown::Write);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    fn poll_write(&self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.writer.poll_write_ready(cx))?;
            match self.writer.try_write(&self.pending) {
                Ok(written) => {
                    if written < self.pending.len() {
                        drained(self.writer, Interest::WRITABLE);
                    }
                    return Poll::Ready(Ok(written));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_grow_when_full_and_shrink_when_nearly_empty() {
        let table = [
            ((SMALL, SMALL, SMALL), SMALL * 4),
            ((SMALL, SMALL, 100), SMALL),
            ((LARGE, LARGE, LARGE), LARGE),
            ((LARGE, LARGE, LARGE / 2), LARGE),
            ((LARGE, LARGE, LARGE / 8), LARGE / 2),
            // The far side had less room than the chunk: a full read says nothing about the socket.
            ((SMALL * 4, SMALL * 2, SMALL * 2), SMALL * 4),
        ];
        for ((chunk, limit, read), next) in table {
            assert_eq!(next_chunk(chunk, limit, read), next, "{chunk} {limit} {read}");
        }
    }
}
