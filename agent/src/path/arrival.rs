//! What a connection looks like when it arrives: the three ways in, and how each is told no.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use super::socket::Socket;
use crate::{
    observe::{CloseReason, Direction, TunnelSocket, monotonic_ns},
    resilience::bulkhead::{self, Bulkhead, Permit},
    snapshot::{LocalPod, SpiffeId},
    tunnel::{Authority, Incoming, Tunnel, reference::ReferenceTunnel},
    worker::PodHere,
};

/// A connection at the door.
#[derive(Debug)]
pub enum Arrival<I> {
    /// The pod's application connected to somewhere; the connect hooks brought it here.
    Captured {
        /// The application's connection.
        near: Socket,
        /// The application's end of it, a loopback address.
        client: SocketAddr,
    },
    /// Somebody connected to the pod without a tunnel.
    Plaintext {
        /// The caller's connection.
        near: Socket,
        /// The caller.
        client: SocketAddr,
        /// The pod's address and port that the caller asked for.
        destination: SocketAddr,
    },
    /// A stream of a tunnel that ends at the pod.
    Tunnelled {
        /// The peer's CONNECT, in a place of its own: it is large, and gone once it is answered.
        request: Box<I>,
        /// Where the tunnel comes from: the calling pod's own address.
        client: SocketAddr,
        /// The pod's address that the tunnel was made to.
        own: IpAddr,
        /// Who the caller proved to be.
        peer: SpiffeId,
        /// A second descriptor of the tunnel's socket, shared by its streams, for `tcp_info`.
        socket: Option<Arc<TunnelSocket>>,
    },
}

impl<I: Incoming> Arrival<I> {
    /// Whether the pod calls or is called.
    pub fn direction(&self) -> Direction {
        match self {
            Self::Captured { .. } => Direction::Outbound,
            Self::Plaintext { .. } | Self::Tunnelled { .. } => Direction::Inbound,
        }
    }

    /// The caller's address as it was seen.
    pub fn client(&self) -> SocketAddr {
        match self {
            Self::Captured { client, .. }
            | Self::Plaintext { client, .. }
            | Self::Tunnelled { client, .. } => *client,
        }
    }

    /// Says no: a reset, or an HTTP status.
    pub fn refuse(self, reason: CloseReason) {
        match self {
            Self::Captured { near, .. } | Self::Plaintext { near, .. } => near.reset_on_drop(),
            Self::Tunnelled { request, .. } => request.refuse(status(reason)),
        }
    }

    /// Counts a captured connection on the pod that makes it, until the answer is dropped.
    ///
    /// # Errors
    /// The pod has as many as its bulkhead allows.
    pub fn hold(&self, here: &LocalPod) -> Result<Option<Permit>, Bulkhead> {
        match self {
            Self::Captured { .. } => bulkhead::try_connection(&here.load, &here.bulkhead).map(Some),
            Self::Plaintext { .. } | Self::Tunnelled { .. } => Ok(None),
        }
    }

    /// Remembers that the stream is for a retry, so that what the application does for it is not multiplied.
    pub fn note_retry(&self, pod: &PodHere) {
        if let Self::Tunnelled { request, .. } = self
            && let Some(mark) = &request.head().attempt
        {
            pod.note_retry(mark, monotonic_ns());
        }
    }

    /// The authority of the CONNECT, where there is one.
    pub fn authority(&self) -> Option<&Authority> {
        match self {
            Self::Tunnelled { request, .. } => Some(&request.head().authority),
            Self::Captured { .. } | Self::Plaintext { .. } => None,
        }
    }
}

/// A CONNECT whose halves HTTP can be spoken over.
pub trait OverReference:
    Incoming<Send = <ReferenceTunnel as Tunnel>::Send, Receive = <ReferenceTunnel as Tunnel>::Receive>
{
}

impl<I> OverReference for I where
    I: Incoming<Send = <ReferenceTunnel as Tunnel>::Send, Receive = <ReferenceTunnel as Tunnel>::Receive>
{
}

/// The answers of HBONE to a CONNECT: 400 bad request, 401 refused by policy, 503 no upstream.
fn status(reason: CloseReason) -> u16 {
    match reason {
        CloseReason::BadRequest(status) => status,
        CloseReason::PolicyDenied | CloseReason::PlaintextRefused => 401,
        _ => 503,
    }
}
