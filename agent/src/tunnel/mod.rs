//! How bytes travel between two agents: HBONE, that is HTTP/2 CONNECT over mutual TLS to port 15008 of the pod.
//!
//! This file is the interface: what a tunnel, a stream in it and its two halves can do. `reference` implements it with the
//! `h2` crate; another implementation of the same bytes can be tested against that one. Everything here lives on
//! one worker thread (`!Send`). The pool is generic over the implementation; TLS happens in the caller's dial.
//!
//! ```text
//! authority, headers, request   what a CONNECT says
//! error, liveness               why something failed; when to ping, to give up, to close
//! settings                      limits and times, with the values the wire expects
//! windows                       how much a peer may send, by what lies unread
//! stream                        layers below and above TLS: read ahead, coalesce writes, buffers of the worker
//! pool                          which tunnel carries a new connection
//! reference                     client and server on the `h2` crate
//! ```

pub mod authority;
pub mod error;
pub mod headers;
pub mod liveness;
pub mod pool;
pub mod reference;
pub mod request;
pub mod settings;
pub mod stream;
pub mod windows;

use std::{
    future::Future,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;

use crate::observe::TunnelSocket;

pub use authority::Authority;
pub use error::{OpenError, Reset, StreamError, TunnelEnd};
pub use pool::{Begun, Key, Opened, Pool};
pub use request::{ConnectRequest, ConnectionId, RequestHead, RetryMark};
pub use settings::Settings;

/// The TCP port on which a pod's agent accepts tunnels.
pub const TUNNEL_PORT: u16 = 15008;

/// The sending direction of one stream. Dropped before `finish` or `reset`, it resets the stream with CANCEL.
pub trait SendHalf {
    /// Room for up to `wanted` bytes, at least one: what `send` takes now without growing memory beyond the bound.
    /// `wanted` must be above zero.
    ///
    /// # Errors
    /// The stream or its tunnel has ended.
    fn poll_capacity(&mut self, context: &mut Context<'_>, wanted: usize)
    -> Poll<Result<usize, StreamError>>;

    /// Queues bytes; the worker writes them at the end of its loop pass. Give at most what `poll_capacity` returned.
    ///
    /// # Errors
    /// The stream or its tunnel has ended.
    fn send(&mut self, data: Bytes) -> Result<(), StreamError>;

    /// Gives back room that `poll_capacity` promised and `send` did not use: until then it is taken from the tunnel's other
    /// streams. To be called before waiting for something to send.
    fn give_back(&mut self);

    /// Ends this direction: `shutdown(WR)` for the other application.
    ///
    /// # Errors
    /// The stream or its tunnel has ended.
    fn finish(&mut self) -> Result<(), StreamError>;

    /// Ends both directions at once; what is queued may be lost.
    fn reset(&mut self, reset: Reset);

    /// Ready once the peer has reset the stream or the tunnel has ended. Shares its waker with `poll_capacity`.
    fn poll_reset(&mut self, context: &mut Context<'_>) -> Poll<StreamError>;
}

/// The receiving direction of one stream. Dropped before its end, it resets the stream with CANCEL.
pub trait ReceiveHalf {
    /// The next bytes; `None` is the end of file (also after RST_STREAM with NO_ERROR or CANCEL, as ztunnel reads it).
    fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, StreamError>>>;

    /// Looks at what `poll_data` will give next and leaves it there; `None` where that is the end or an error.
    fn poll_peek(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>>;

    /// Gives `bytes` of window back to the peer, after they were written to the application.
    fn release(&mut self, bytes: usize);
}

/// The answer 200 to a CONNECT.
pub struct Accepted<R> {
    /// What comes from the peer.
    pub receive: R,
    /// The `baggage` header of the answer: who the other workload is.
    pub baggage: Option<String>,
}

/// One established client connection to a peer's agent. Cheap to clone: a handle.
pub trait Tunnel: Clone + 'static {
    /// Sending halves of its streams.
    type Send: SendHalf;
    /// Receiving halves of its streams.
    type Receive: ReceiveHalf;
    /// Resolves to the peer's answer.
    type Answer: Future<Output = Result<Accepted<Self::Receive>, OpenError>> + Unpin;

    /// Whether one more stream may start now: below our limit and the peer's, and neither closed nor going away.
    fn has_room(&self) -> bool;

    /// Whether it will never have room again: closed, drained, or the peer said GOAWAY.
    fn is_leaving(&self) -> bool;

    /// Streams that live now.
    fn streams(&self) -> usize;

    /// Sends the CONNECT. The half may be used before the answer (the peer keeps the bytes for the application).
    ///
    /// # Errors
    /// Nothing was sent.
    fn start(&self, request: &ConnectRequest) -> Result<(Self::Send, Self::Answer), OpenError>;

    /// A second descriptor of the socket, for `tcp_info`; `None` where there is none.
    fn socket(&self) -> Option<Arc<TunnelSocket>> {
        None
    }

    /// Takes no more streams, and closes when the last one has ended.
    fn drain(&self);

    /// Resolves when the connection is gone.
    fn closed(&self) -> impl Future<Output = TunnelEnd> + 'static + use<Self>;
}

/// A CONNECT that a peer sent. Dropped without an answer, it is refused with 503.
pub trait Incoming: 'static {
    /// Sending halves of accepted streams.
    type Send: SendHalf;
    /// Receiving halves of accepted streams.
    type Receive: ReceiveHalf;

    /// What the request says.
    fn head(&self) -> &RequestHead;

    /// Ready once the caller has given up, while the answer is not sent yet.
    fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<StreamError>;

    /// Answers 200 with our `baggage`.
    ///
    /// # Errors
    /// The caller is gone already.
    fn accept(self, baggage: Option<&str>) -> Result<(Self::Send, Self::Receive), StreamError>;

    /// Answers with a status of 400 to 599 and ends the stream.
    fn refuse(self, status: u16);
}
