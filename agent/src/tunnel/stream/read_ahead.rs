//! Below TLS: waits until the socket has something, then reads as much as there is into a buffer of the worker.
//!
//! tokio-rustls asks for few kilobytes at a time; each would be a system call.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::buffers;

/// Read-ahead on a socket. Writes pass straight through.
pub struct ReadAhead<S> {
    socket: S,
    ahead: Option<Ahead>,
}

struct Ahead {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

/// A socket that can be asked whether reading would give something.
pub trait Readiness {
    /// Ready when a read will not wait.
    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>>;
}

impl Readiness for TcpStream {
    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(context)
    }
}

impl<S> ReadAhead<S> {
    /// Wraps a connected socket.
    pub fn new(socket: S) -> Self {
        Self { socket, ahead: None }
    }

    /// The socket itself.
    pub fn socket(&self) -> &S {
        &self.socket
    }
}

impl ReadAhead<TcpStream> {
    /// The peer's address.
    ///
    /// # Errors
    /// The socket is not connected any more.
    pub fn peer_address(&self) -> io::Result<SocketAddr> {
        self.socket.peer_addr()
    }
}

impl AsFd for ReadAhead<TcpStream> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl<S: AsyncRead + Readiness + Unpin> ReadAhead<S> {
    /// Fills the buffer with one read; `None` is the end of file.
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<Ahead>>> {
        ready!(self.socket.poll_readable(context))?;
        let mut buffer = buffers::borrow();
        let mut read = ReadBuf::new(&mut buffer);
        let polled = Pin::new(&mut self.socket).poll_read(context, &mut read);
        let end = read.filled().len();
        match polled {
            Poll::Ready(Ok(())) if end > 0 => Poll::Ready(Ok(Some(Ahead { buffer, start: 0, end }))),
            other => {
                buffers::give_back(buffer);
                other.map_ok(|()| None)
            }
        }
    }
}

impl<S: AsyncRead + Readiness + Unpin> AsyncRead for ReadAhead<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let mut ahead = match this.ahead.take() {
            Some(ahead) => ahead,
            None => match ready!(this.poll_fill(context))? {
                Some(ahead) => ahead,
                None => return Poll::Ready(Ok(())),
            },
        };
        let filled = ahead.buffer.get(ahead.start..ahead.end).unwrap_or_default();
        let taken = filled.len().min(out.remaining());
        out.put_slice(filled.get(..taken).unwrap_or_default());
        ahead.start += taken;
        if ahead.start < ahead.end {
            this.ahead = Some(ahead);
        } else {
            buffers::give_back(ahead.buffer);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ReadAhead<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(context, data)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

impl<S> Drop for ReadAhead<S> {
    fn drop(&mut self) {
        if let Some(ahead) = self.ahead.take() {
            buffers::give_back(ahead.buffer);
        }
    }
}
