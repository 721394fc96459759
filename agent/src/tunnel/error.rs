//! Why a tunnel could not be had, why a stream ended, why a tunnel went away. Pure.
//!
//! All are cheap to clone: one failed dial is told to everyone who waited for it.

use std::{sync::Arc, time::Duration};

/// Why no stream could be opened; each variant is a step that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The TCP connection to the peer's agent could not be made.
    #[error("connect to the peer's tunnel port: {0}")]
    Dial(Arc<str>),
    /// The TCP connection took longer than its deadline.
    #[error("connect to the peer's tunnel port: no answer within {0:?}")]
    DialTimeout(Duration),
    /// TLS failed: the text says which check.
    #[error("TLS to the peer's agent: {0}")]
    Tls(Arc<str>),
    /// TLS worked, and the peer is somebody else than who should be there.
    #[error("TLS to the peer's agent: {0}")]
    Identity(Arc<str>),
    /// HTTP/2 could not be established.
    #[error("HTTP/2 to the peer's agent: {0}")]
    Handshake(Arc<str>),
    /// The peer speaks something else than HTTP/2.
    #[error("the peer does not speak HTTP/2: {0}")]
    NotHttp2(Arc<str>),
    /// TLS and HTTP/2 settings took longer than the deadline.
    #[error("the peer's agent did not finish TLS and HTTP/2 within {0:?}")]
    HandshakeTimeout(Duration),
    /// The request cannot be written: a header holds a byte that HTTP forbids.
    #[error("the request has an invalid {0}")]
    Request(&'static str),
    /// The peer answered with another status than 200.
    #[error("the peer's agent answered {0}")]
    Refused(u16),
    /// The peer did not process the request (REFUSED_STREAM, or above the last stream of its GOAWAY).
    #[error("the peer's agent is not taking new streams")]
    NotProcessed,
    /// The peer reset the stream before it answered.
    #[error("the peer's agent reset the stream: HTTP/2 error {0:#x}")]
    Reset(u32),
    /// The tunnel ended before the answer.
    #[error("the tunnel ended before the answer: {0}")]
    Tunnel(TunnelEnd),
    /// The pool is draining.
    #[error("this agent is shutting down")]
    Draining,
}

impl OpenError {
    /// Whether a caller of which no byte was sent yet may try again, at another endpoint or the same: no application took
    /// the connection, or one at most saw it open and close. A caller that sent bytes before the answer must not retry after
    /// `Tunnel`, because an application may have read them, and must otherwise still hold them.
    #[must_use]
    pub fn is_safe_to_retry(&self) -> bool {
        match self {
            Self::Dial(_)
            | Self::DialTimeout(_)
            | Self::Tls(_)
            | Self::Identity(_)
            | Self::Handshake(_)
            | Self::NotHttp2(_)
            | Self::HandshakeTimeout(_)
            | Self::NotProcessed
            | Self::Tunnel(_) => true,
            // 503 says that no application was connected.
            Self::Refused(status) => *status == 503,
            Self::Request(_) | Self::Reset(_) | Self::Draining => false,
        }
    }

    /// Whether the same peer, on a fresh tunnel, may well take a request after which no byte of an application was sent.
    #[must_use]
    pub(crate) fn wants_fresh_tunnel(&self) -> bool {
        matches!(self, Self::NotProcessed | Self::Tunnel(_))
    }
}

/// Why a stream ended otherwise than by its end of file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The peer reset it, with this HTTP/2 error code.
    #[error("the peer reset the stream: HTTP/2 error {0:#x}")]
    Reset(u32),
    /// Its tunnel ended.
    #[error("the tunnel ended: {0}")]
    Tunnel(TunnelEnd),
    /// It was used after we had ended it ourselves.
    #[error("the stream was ended on this side")]
    Ended,
}

/// With what a stream is reset from our side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// The application's connection was reset or broke (CONNECT_ERROR, RFC 9113 section 8.5).
    ConnectError,
    /// Nobody is interested any more (CANCEL); the peer reads an end of file.
    Cancel,
    /// A fault of ours (INTERNAL_ERROR).
    Internal,
}

/// Why a tunnel went away.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TunnelEnd {
    /// Nothing used it for the idle time.
    #[error("idle")]
    Idle,
    /// It was drained, and its streams ended or the deadline came.
    #[error("drained")]
    Drained,
    /// The peer closed it, perhaps after a GOAWAY.
    #[error("closed by the peer")]
    Peer,
    /// The peer ended it with a TLS alert: in TLS 1.3 that is how a server refuses our certificate, after our handshake.
    #[error("the peer sent the TLS alert {0}")]
    Alert(Arc<str>),
    /// The peer answered no PING within the time.
    #[error("no answer to a PING within {0:?}")]
    Silent(Duration),
    /// The connection broke or a side violated the protocol.
    #[error("{0}")]
    Broken(Arc<str>),
}
