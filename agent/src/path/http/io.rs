//! The two halves of a byte stream under HTTP, whatever carries it: a socket, a stream of a tunnel, or one of HTTP/2.
//!
//! A half that waits holds no buffer. What is queued leaves in one write; small pieces share one frame of a tunnel.

pub(super) mod frames;
pub(super) mod http2;
mod watched;

use std::{
    collections::VecDeque,
    io,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};

use crate::{
    http1::{Sink, Source},
    observe::SocketWatch,
    path::{connect::Far, flow, socket::Socket},
    tunnel::{
        ReceiveHalf, Reset, SendHalf, Tunnel,
        reference::{Inbox, ReferenceTunnel},
    },
};

pub use watched::WatchedSocket;

/// Queued pieces of up to this many bytes together are copied into one frame of a tunnel.
const MERGED: usize = 16 * 1024;

/// Both halves.
pub struct Wire {
    /// From the peer.
    pub source: WireSource,
    /// To the peer.
    pub sink: WireSink,
}

/// The reading half.
pub struct WireSource {
    /// What was read before this half was made.
    ahead: Bytes,
    from: From,
}

enum From {
    Socket { socket: Rc<WatchedSocket>, chunk: usize },
    Stream(<ReferenceTunnel as Tunnel>::Receive),
    Http2(Inbox),
}

/// The writing half. Dropped without [`Sink::finish`] or [`Sink::abort`], a stream is cancelled and a socket is closed when its
/// other half is dropped too.
pub enum WireSink {
    /// A socket.
    Socket(Rc<WatchedSocket>),
    /// A socket whose last bytes wait for its end: both in one segment are one packet less to make, to take in and to be woken for.
    Closing(Rc<WatchedSocket>),
    /// A stream of a tunnel.
    Stream(<ReferenceTunnel as Tunnel>::Send),
    /// A stream of an HTTP/2 connection after CONNECT.
    Http2(h2::SendStream<Bytes>),
}

impl Wire {
    /// A socket, of which `ahead` was read already.
    #[must_use]
    pub fn of_socket(socket: impl Into<Socket>, ahead: Bytes) -> Self {
        let socket = Rc::new(WatchedSocket::new(socket.into()));
        let from = From::Socket { socket: Rc::clone(&socket), chunk: flow::SMALL };
        Self { source: WireSource { ahead, from }, sink: WireSink::Socket(socket) }
    }

    /// A stream of an HTTP/2 connection.
    #[must_use]
    pub fn of_http2(send: h2::SendStream<Bytes>, receive: Inbox) -> Self {
        let source = WireSource { ahead: Bytes::new(), from: From::Http2(receive) };
        Self { source, sink: WireSink::Http2(send) }
    }

    /// A stream of a tunnel, or of another connection that is driven as one.
    #[must_use]
    pub fn of_stream(
        send: <ReferenceTunnel as Tunnel>::Send,
        receive: <ReferenceTunnel as Tunnel>::Receive,
    ) -> Self {
        let source = WireSource { ahead: Bytes::new(), from: From::Stream(receive) };
        Self { source, sink: WireSink::Stream(send) }
    }

    /// The socket, to ask the kernel about; none of a stream.
    #[must_use]
    pub fn watch(&self) -> Option<SocketWatch> {
        match &self.sink {
            WireSink::Socket(socket) | WireSink::Closing(socket) => socket.watch(),
            WireSink::Stream(_) | WireSink::Http2(_) => None,
        }
    }

    /// What was reached.
    #[must_use]
    pub fn of_far(far: Far) -> Self {
        match far {
            Far::Socket(socket) => Self::of_socket(socket, Bytes::new()),
            Far::Stream { send, receive, .. } => Self::of_stream(send, receive),
        }
    }
}

impl WireSource {
    /// Puts back what was read and not handed on.
    #[must_use]
    pub fn with_ahead(mut self, ahead: Bytes) -> Self {
        self.ahead = ahead;
        self
    }
}

impl Source for WireSource {
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        if !self.ahead.is_empty() {
            return Poll::Ready(Ok(std::mem::take(&mut self.ahead)));
        }
        match &mut self.from {
            From::Socket { socket, chunk } => socket.poll_read(chunk, flow::LARGE, context),
            From::Stream(receive) => Poll::Ready(match ready!(receive.poll_data(context)) {
                Some(Ok(data)) => Ok(data),
                Some(Err(error)) => Err(io::Error::new(io::ErrorKind::ConnectionReset, error)),
                None => Ok(Bytes::new()),
            }),
            From::Http2(receive) => http2::poll_read(receive, context),
        }
    }

    fn taken(&mut self, bytes: usize) {
        match &mut self.from {
            From::Stream(receive) if bytes > 0 => receive.release(bytes),
            From::Http2(receive) if bytes > 0 => receive.release(bytes),
            From::Socket { .. } | From::Stream(_) | From::Http2(_) => {}
        }
    }
}

impl WireSink {
    /// Whether what is queued may be lost when both halves are dropped before the peer has ended its direction: a stream is reset then.
    #[must_use]
    pub fn is_cut_by_drop(&self) -> bool {
        match self {
            Self::Socket(_) | Self::Closing(_) => false,
            Self::Stream(_) | Self::Http2(_) => true,
        }
    }

    /// Whether what was written waits for [`Sink::finish`].
    #[must_use]
    pub fn holds_back(&self) -> bool {
        matches!(self, Self::Closing(_))
    }
}

impl Sink for WireSink {
    fn poll_write(&mut self, context: &mut Context<'_>, queue: &mut VecDeque<Bytes>) -> Poll<io::Result<()>> {
        match self {
            Self::Socket(socket) => socket.poll_write(false, context, queue),
            Self::Closing(socket) => socket.poll_write(true, context, queue),
            Self::Stream(send) => poll_write_stream(send, context, queue),
            Self::Http2(send) => http2::poll_write(send, context, queue),
        }
    }

    fn last(&mut self) {
        if let Self::Socket(socket) = self {
            *self = Self::Closing(Rc::clone(socket));
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        match self {
            Self::Socket(socket) | Self::Closing(socket) => socket.finish(),
            Self::Stream(send) => {
                send.finish().map_err(|error| io::Error::new(io::ErrorKind::ConnectionReset, error))
            }
            Self::Http2(send) => http2::finish(send),
        }
    }

    fn abort(&mut self) {
        match self {
            Self::Socket(socket) | Self::Closing(socket) => socket.reset_on_drop(),
            Self::Stream(send) => send.reset(Reset::ConnectError),
            Self::Http2(send) => http2::abort(send),
        }
    }
}

fn poll_write_stream(
    send: &mut impl SendHalf,
    context: &mut Context<'_>,
    queue: &mut VecDeque<Bytes>,
) -> Poll<io::Result<()>> {
    let broken = |error| io::Error::new(io::ErrorKind::ConnectionReset, error);
    merge(queue);
    while let Some(mut front) = queue.pop_front() {
        if front.is_empty() {
            continue;
        }
        let room = match send.poll_capacity(context, front.len()) {
            Poll::Ready(Ok(room)) => room,
            Poll::Ready(Err(error)) => {
                queue.push_front(front);
                return Poll::Ready(Err(broken(error)));
            }
            Poll::Pending => {
                queue.push_front(front);
                return Poll::Pending;
            }
        };
        let piece = front.split_to(room.min(front.len()));
        if !front.is_empty() {
            queue.push_front(front);
        }
        send.send(piece).map_err(broken)?;
    }
    Poll::Ready(Ok(()))
}

/// Each piece would be a frame of its own: what is small is cheaper to copy.
fn merge(queue: &mut VecDeque<Bytes>) {
    let total: usize = queue.iter().map(Bytes::len).sum();
    if queue.len() < 2 || total > MERGED {
        return;
    }
    let mut merged = BytesMut::with_capacity(total);
    queue.drain(..).for_each(|piece| merged.extend_from_slice(&piece));
    queue.push_back(merged.freeze());
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use std::future::poll_fn;

    use tokio::{
        io::AsyncReadExt,
        net::{TcpListener, TcpStream},
    };

    use super::*;

    /// What the peer of a socket has before and after the end.
    async fn heard(last: bool) -> (Option<usize>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (ours, theirs) =
            tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let (mut sink, mut peer) = (Wire::of_socket(ours.unwrap(), Bytes::new()).sink, theirs.unwrap().0);
        if last {
            sink.last();
        }
        let mut queue = VecDeque::from([Bytes::from_static(b"the "), Bytes::from_static(b"answer")]);
        poll_fn(|context| sink.poll_write(context, &mut queue)).await.unwrap();
        assert!(queue.is_empty());
        let mut found = Vec::new();
        let before = rustix::net::recv(
            &peer,
            &mut [0_u8; 16][..],
            rustix::net::RecvFlags::PEEK | rustix::net::RecvFlags::DONTWAIT,
        );
        sink.finish().unwrap();
        peer.read_to_end(&mut found).await.unwrap();
        (before.ok().map(|(_, count)| count), found)
    }

    #[test]
    fn the_last_bytes_leave_with_the_end() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            assert_eq!(heard(false).await, (Some(10), b"the answer".to_vec()));
            assert_eq!(heard(true).await, (None, b"the answer".to_vec()));
        });
    }
}
