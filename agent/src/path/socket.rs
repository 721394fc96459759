//! A socket that the event queue learns of only once something must be waited for. A connection that brings its request along and takes
//! its answer at once, as most short ones do, is never entered there and taken out again: two system calls, a registration and a wake less.

use std::{
    cell::{Cell, OnceCell},
    collections::VecDeque,
    fmt,
    io::{self, IoSlice},
    net::{Shutdown, SocketAddr},
    os::fd::{AsFd, BorrowedFd},
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use rustix::{
    io::writev,
    net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, sendmsg},
};
use socket2::SockRef;
use tokio::{io::Interest, net::TcpStream};

use super::{
    flow::{self, drained},
    relay::reset_on_drop,
};

/// Pieces of one vectored write.
const PIECES: usize = 32;

/// See the head of this file. Non-blocking; small, since the future of each connection has room for it several times.
pub struct Socket {
    /// Until the event queue knows it.
    fresh: Cell<Option<std::net::TcpStream>>,
    /// From then on.
    told: OnceCell<Box<TcpStream>>,
}

impl Socket {
    /// A socket that was accepted as a non-blocking one.
    #[must_use]
    pub fn fresh(socket: std::net::TcpStream) -> Self {
        Self { fresh: Cell::new(Some(socket)), told: OnceCell::new() }
    }

    /// The same socket, known to the event queue of this thread's runtime from now on.
    ///
    /// # Errors
    /// The queue has no room for it (`epoll_ctl(2)`); the socket is closed then.
    pub fn told(&self) -> io::Result<&TcpStream> {
        if let Some(fresh) = self.fresh.take() {
            let _ = self.told.set(Box::new(TcpStream::from_std(fresh)?));
        }
        self.told.get().map(|told| &**told).ok_or_else(gone)
    }

    /// As [`Socket::told`], by value.
    ///
    /// # Errors
    /// As there.
    pub fn into_told(self) -> io::Result<TcpStream> {
        self.told()?;
        self.told.into_inner().map(|told| *told).ok_or_else(gone)
    }

    /// Does something with the descriptor, which stays the same for as long as the socket lives.
    ///
    /// # Errors
    /// What `act` says, or that the socket was closed because the event queue had no room.
    pub fn with<R>(&self, act: impl FnOnce(BorrowedFd<'_>) -> io::Result<R>) -> io::Result<R> {
        if let Some(told) = self.told.get() {
            return act(told.as_fd());
        }
        let fresh = self.fresh.take().ok_or_else(gone)?;
        let result = act(fresh.as_fd());
        self.fresh.set(Some(fresh));
        result
    }

    /// Reads as [`flow::poll_read`] does.
    pub(super) fn poll_read(
        &self,
        chunk: &mut usize,
        room: usize,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<Bytes>> {
        // Who sends more than a small read takes is waited for in any case.
        if self.told.get().is_none() && *chunk <= flow::SMALL {
            let limit = room.min(*chunk);
            let take =
                |buffer: &mut [u8]| self.with(|socket| Ok(recv(socket, buffer, RecvFlags::DONTWAIT)?.0));
            match flow::read_small(limit, take) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => {
                    *chunk = read.as_ref().map_or(*chunk, |data| flow::next_chunk(*chunk, limit, data.len()));
                    return Poll::Ready(read);
                }
            }
        }
        flow::poll_read(self.told()?, chunk, room, context)
    }

    /// Writes the whole queue, in few calls; with `holds_back` the kernel keeps what does not fill a segment for what comes next.
    pub(super) fn poll_write(
        &self,
        holds_back: bool,
        context: &mut Context<'_>,
        queue: &mut VecDeque<Bytes>,
    ) -> Poll<io::Result<()>> {
        while !queue.is_empty() {
            let Some(told) = self.told.get() else {
                match self.with(|socket| write_pieces(socket, holds_back, queue)) {
                    Ok(written) => advance(queue, written),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => _ = self.told()?,
                    Err(error) => return Poll::Ready(Err(error)),
                }
                continue;
            };
            ready!(told.poll_write_ready(context))?;
            let offered: usize = queue.iter().take(PIECES).map(Bytes::len).sum();
            match told.try_io(Interest::WRITABLE, || write_pieces(told.as_fd(), holds_back, queue)) {
                Ok(written) => {
                    advance(queue, written);
                    if written < offered {
                        drained(told, Interest::WRITABLE);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Ends our direction.
    ///
    /// # Errors
    /// The peer has gone.
    pub fn finish(&self) -> io::Result<()> {
        self.with(|socket| SockRef::from(&socket).shutdown(Shutdown::Write))
    }

    /// Makes the close a reset, as [`reset_on_drop`] does.
    pub fn reset_on_drop(&self) {
        let _ = self.with(|socket| {
            reset_on_drop(&socket);
            Ok(())
        });
    }

    /// Our end.
    ///
    /// # Errors
    /// It was reset before.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        let address = self.with(|socket| SockRef::from(&socket).local_addr())?;
        address.as_socket().ok_or_else(gone)
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Socket").field("told", &self.told).finish_non_exhaustive()
    }
}

impl From<TcpStream> for Socket {
    fn from(told: TcpStream) -> Self {
        Self { fresh: Cell::default(), told: OnceCell::from(Box::new(told)) }
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the event queue had no room for this socket")
}

fn write_pieces(socket: BorrowedFd<'_>, holds_back: bool, queue: &VecDeque<Bytes>) -> io::Result<usize> {
    let mut pieces = [IoSlice::new(&[]); PIECES];
    let mut count = 0;
    for (piece, data) in pieces.iter_mut().zip(queue) {
        *piece = IoSlice::new(data);
        count += 1;
    }
    let pieces = pieces.get(..count).unwrap_or_default();
    if !holds_back {
        return Ok(writev(socket, pieces)?);
    }
    let flags = SendFlags::MORE | SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    Ok(sendmsg(socket, pieces, &mut SendAncillaryBuffer::default(), flags)?)
}

/// Drops what was written from the front of the queue.
fn advance(queue: &mut VecDeque<Bytes>, mut written: usize) {
    while let Some(front) = queue.front_mut() {
        if front.len() > written {
            front.advance(written);
            return;
        }
        written -= front.len();
        queue.pop_front();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use std::{
        future::poll_fn,
        io::{Read, Write},
        time::Duration,
    };

    use super::*;

    /// A socket as it is accepted, and the other end.
    fn pair() -> (Socket, std::net::TcpStream) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, _) = listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        (Socket::fresh(socket), peer)
    }

    fn run(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
    }

    async fn read(socket: &Socket) -> io::Result<Bytes> {
        let mut chunk = flow::SMALL;
        poll_fn(|context| socket.poll_read(&mut chunk, flow::LARGE, context)).await
    }

    async fn write(socket: &Socket, piece: Bytes, count: usize) -> io::Result<()> {
        let mut queue = std::iter::repeat_n(piece, count).collect();
        poll_fn(|context| socket.poll_write(false, context, &mut queue)).await
    }

    #[test]
    fn what_is_there_and_what_fits_needs_no_event_queue() {
        run(async {
            let (socket, mut peer) = pair();
            peer.write_all(b"request").unwrap();
            assert_eq!(read(&socket).await.unwrap(), "request");
            write(&socket, Bytes::from_static(b"answer"), 2).await.unwrap();
            socket.finish().unwrap();
            let mut heard = String::new();
            peer.read_to_string(&mut heard).unwrap();
            assert_eq!(heard, "answeranswer");
            assert!(socket.told.get().is_none());
        });
    }

    #[test]
    fn what_must_be_waited_for_is_told_to_it_once() {
        run(async {
            let (socket, mut peer) = pair();
            let later = async {
                tokio::time::sleep(Duration::from_millis(20)).await;
                peer.write_all(b"request").unwrap();
            };
            let (heard, ()) = tokio::join!(read(&socket), later);
            assert_eq!(heard.unwrap(), "request");
            assert!(socket.told.get().is_some());
            drop(peer);
            assert_eq!(read(&socket).await.unwrap(), "", "the end");
        });
    }

    #[test]
    fn a_reader_that_is_slow_gets_all() {
        run(async {
            let (socket, mut peer) = pair();
            let (piece, count) = (Bytes::from(vec![7; 64 * 1024]), 200);
            let total = piece.len() * count;
            let reader = std::thread::spawn(move || {
                let mut heard = Vec::new();
                std::thread::sleep(Duration::from_millis(50));
                peer.read_to_end(&mut heard).map(|_| heard.len()).unwrap()
            });
            write(&socket, piece, count).await.unwrap();
            assert!(socket.told.get().is_some(), "more than the kernel takes at once");
            socket.finish().unwrap();
            assert_eq!(reader.join().unwrap(), total);
        });
    }

    #[test]
    fn a_reset_is_one_before_and_after_it_is_told() {
        run(async {
            for told in [false, true] {
                let (socket, mut peer) = pair();
                if told {
                    socket.told().unwrap();
                }
                socket.reset_on_drop();
                drop(socket);
                let error = peer.read(&mut [0]).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            }
        });
    }
}
