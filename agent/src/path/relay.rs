//! Stage `relay`: carries bytes both ways until both sides have ended.
//!
//! Half-close passes through, a reset arrives as a reset, and nothing is read that cannot be passed on. There is no
//! idle time-out: an application may stay silent for as long as it likes.

use std::{
    future::poll_fn,
    io,
    os::fd::AsFd,
    task::{Context, Poll},
    time::Duration,
};

use tokio::net::TcpStream;

use super::{
    arrival::Arrival,
    connect::{Far, Reached},
    flow::{Draw, FromSocket, FromTunnel, Pour, Reads, Side},
    record,
};
use crate::tunnel::{ReceiveHalf, Reset, SendHalf, StreamError};
use crate::{
    observe::{CloseReason, Connection},
    tunnel::Incoming,
};

/// HTTP/2 error codes (RFC 9113, section 7) that end a stream in order.
const NO_ERROR: u32 = 0;
const CANCEL: u32 = 8;

/// How a relay ended.
#[derive(Debug)]
pub enum End {
    /// Both directions were closed in order.
    Finished,
    /// The socket that was accepted (or that leads to the application, where a stream was) broke.
    Near(io::Error),
    /// The socket that was dialled broke.
    Far(io::Error),
    /// The stream of the tunnel broke.
    Stream(StreamError),
}

/// Relays an arrival and what was reached for it, and says why that ended.
pub async fn relay<I: Incoming>(
    arrival: Arrival<I>,
    reached: Reached,
    baggage: &str,
    connection: &Connection,
) -> CloseReason {
    let Reached { far, outstanding: _outstanding } = reached;
    match (arrival, far) {
        (Arrival::Captured { near, .. }, Far::Socket(far)) => {
            let Ok(near) = near.told() else { return CloseReason::ClientReset };
            let network = far.as_fd();
            let _attached = connection.sockets(Some(near.as_fd()), Some(network));
            let count = record::Bytes { record: connection, near_is_client: true };
            from_client(&through_socket(near, &far, &count).await)
        }
        (Arrival::Plaintext { near, .. }, Far::Socket(far)) => {
            let Ok(near) = near.told() else { return CloseReason::ClientReset };
            let network = near.as_fd();
            let _attached = connection.sockets(Some(far.as_fd()), Some(network));
            let count = record::Bytes { record: connection, near_is_client: true };
            from_client(&through_socket(near, &far, &count).await)
        }
        (
            Arrival::Captured { near, .. } | Arrival::Plaintext { near, .. },
            Far::Stream { send, receive, socket },
        ) => {
            let Ok(near) = near.told() else { return CloseReason::ClientReset };
            let network = socket.as_ref().map(|tunnel| tunnel.as_fd());
            let _attached = connection.sockets(Some(near.as_fd()), network);
            let count = record::Bytes { record: connection, near_is_client: true };
            from_client(&through_tunnel(near, send, receive, &count).await)
        }
        (Arrival::Tunnelled { request, socket, .. }, Far::Socket(application)) => {
            let Ok((send, receive)) = answer(request, baggage) else { return CloseReason::ClientReset };
            let network = socket.as_ref().map(|tunnel| tunnel.as_fd());
            let _attached = connection.sockets(Some(application.as_fd()), network);
            let count = record::Bytes { record: connection, near_is_client: false };
            from_server(&through_tunnel(&application, send, receive, &count).await)
        }
        (Arrival::Tunnelled { request, .. }, Far::Stream { .. }) => {
            // Route never sends a stream on to another pod.
            request.refuse(500);
            CloseReason::BadRequest(500)
        }
    }
}

/// Answers 200, and frees the request.
#[allow(clippy::boxed_local)]
fn answer<I: Incoming>(request: Box<I>, baggage: &str) -> Result<(I::Send, I::Receive), StreamError> {
    (*request).accept(Some(baggage))
}

/// The near socket was the client's.
fn from_client(end: &End) -> CloseReason {
    match end {
        End::Finished => CloseReason::Finished,
        End::Near(_) => CloseReason::ClientReset,
        End::Far(_) | End::Stream(StreamError::Reset(_)) => CloseReason::ServerReset,
        End::Stream(StreamError::Tunnel(_) | StreamError::Ended) => CloseReason::TunnelLost,
    }
}

/// The near socket was the server's, the stream the client's.
fn from_server(end: &End) -> CloseReason {
    match end {
        End::Finished => CloseReason::Finished,
        End::Near(_) | End::Far(_) => CloseReason::ServerReset,
        End::Stream(StreamError::Reset(_)) => CloseReason::ClientReset,
        End::Stream(StreamError::Tunnel(_) | StreamError::Ended) => CloseReason::TunnelLost,
    }
}

/// Told of every byte that was passed on.
pub trait Count {
    /// From the near socket to the far side.
    fn towards_far(&self, bytes: usize);
    /// From the far side to the near socket.
    fn towards_near(&self, bytes: usize);
}

/// Relays between a socket and a stream of a tunnel. When one breaks, the other is reset; when this is dropped, both are.
pub async fn through_tunnel<S: SendHalf, R: ReceiveHalf>(
    near: &TcpStream,
    send: S,
    receive: R,
    count: &impl Count,
) -> End {
    let mut pour = Pour::new(near, Side::Near, FromTunnel(receive));
    let draw = Draw { reader: Reads::new(near), send };
    // Behind the receiving half, so that it is dropped before: the first to let go says how the stream ends.
    let mut cut = TunnelCut { near, draw, ended: false };
    let (mut out, mut back) = (false, false);
    let mut pass = |cx: &mut Context<'_>| {
        // First, so that what came before a reset arrives before it, as with the kernel.
        step(&mut back, || pour.poll(|bytes| count.towards_near(bytes), cx))?;
        match cut.draw.send.poll_reset(cx) {
            // The far side wants no more of ours, in order; what it sends is still delivered.
            Poll::Ready(StreamError::Reset(NO_ERROR | CANCEL)) => out = true,
            Poll::Ready(error) => return Err(End::Stream(error)),
            Poll::Pending => step(&mut out, || cut.draw.poll(|bytes| count.towards_far(bytes), cx))?,
        }
        Ok(out && back)
    };
    let end = poll_fn(|cx| outcome(pass(cx))).await;
    cut.ended = true;
    match &end {
        End::Finished => {}
        End::Near(_) | End::Far(_) => cut.draw.send.reset(Reset::ConnectError),
        End::Stream(_) => reset_on_drop(near),
    }
    end
}

/// Relays between two sockets. When one breaks, the other is reset; when this is dropped, both are.
pub async fn through_socket(near: &TcpStream, far: &TcpStream, count: &impl Count) -> End {
    let from_near = FromSocket { reader: Reads::new(near), side: Side::Near };
    let from_far = FromSocket { reader: Reads::new(far), side: Side::Far };
    let mut towards_far = Pour::new(far, Side::Far, from_near);
    let mut towards_near = Pour::new(near, Side::Near, from_far);
    let mut cut = SocketCut { near, far, ended: false };
    let (mut out, mut back) = (false, false);
    let mut pass = |cx: &mut Context<'_>| {
        step(&mut out, || towards_far.poll(|bytes| count.towards_far(bytes), cx))?;
        step(&mut back, || towards_near.poll(|bytes| count.towards_near(bytes), cx))?;
        Ok(out && back)
    };
    let end = poll_fn(|cx| outcome(pass(cx))).await;
    cut.ended = true;
    match &end {
        End::Finished => {}
        End::Near(_) => reset_on_drop(far),
        End::Far(_) | End::Stream(_) => reset_on_drop(near),
    }
    end
}

/// A relay that is dropped before its end: an end of file would tell both applications that they have all of it.
struct TunnelCut<'socket, S: SendHalf> {
    near: &'socket TcpStream,
    draw: Draw<'socket, S>,
    ended: bool,
}

impl<S: SendHalf> Drop for TunnelCut<'_, S> {
    fn drop(&mut self) {
        if !self.ended {
            reset_on_drop(self.near);
            self.draw.send.reset(Reset::Internal);
        }
    }
}

/// The same between two sockets.
struct SocketCut<'socket> {
    near: &'socket TcpStream,
    far: &'socket TcpStream,
    ended: bool,
}

impl Drop for SocketCut<'_> {
    fn drop(&mut self) {
        if !self.ended {
            reset_on_drop(self.near);
            reset_on_drop(self.far);
        }
    }
}

/// Lets one direction go on, unless it has ended.
fn step(done: &mut bool, flow: impl FnOnce() -> Poll<Result<(), End>>) -> Result<(), End> {
    if !*done && let Poll::Ready(ended) = flow() {
        ended?;
        *done = true;
    }
    Ok(())
}

/// Whether both have ended, or what broke.
fn outcome(passed: Result<bool, End>) -> Poll<End> {
    match passed {
        Ok(true) => Poll::Ready(End::Finished),
        Ok(false) => Poll::Pending,
        Err(end) => Poll::Ready(end),
    }
}

/// Makes the close a reset (`SO_LINGER` of zero, socket(7)).
pub fn reset_on_drop(socket: &impl AsFd) {
    // A socket that is already closed cannot be told, and need not be.
    let _ = socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO));
}

#[cfg(test)]
mod tests;
