//! HTTP/1.1 as a proxy must speak it (RFC 9112): a strict reader and a writer that cannot misframe.
//!
//! What is not unambiguous is refused, because the next hop might read it otherwise: bare LF or CR, obsolete folding,
//! several or conflicting lengths, transfer codings but exactly `chunked`, several or odd hosts. Bodies pass without
//! copies: a frame is a slice of what the [`Source`] gave. An idle reader and an idle writer hold no buffer.

mod chunked;
mod framing;
mod head;
pub mod hop;
mod reader;
mod scan;
mod target;
#[cfg(test)]
mod tests;
mod trailers;
mod writer;

use std::{
    collections::VecDeque,
    fmt, io,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Method, StatusCode};

pub use self::{
    head::{RequestHead, ResponseHead},
    reader::{Idle, Reader},
    writer::Writer,
};
pub(crate) use self::{target::is_host, trailers::allowed as allowed_trailers};

/// Where bytes come from: a socket or a tunnel's stream.
pub trait Source {
    /// The next bytes; empty at the end of the stream. After the end or an error it is not asked again.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>>;

    /// So many bytes were handed on: a tunnel gives that much window back to its peer.
    fn taken(&mut self, _bytes: usize) {}
}

/// Where bytes go: a socket or a tunnel's stream.
pub trait Sink {
    /// Writes from the front of the queue, advancing it. Ready when it is empty and nothing is held back.
    fn poll_write(&mut self, cx: &mut Context<'_>, queue: &mut VecDeque<Bytes>) -> Poll<io::Result<()>>;

    /// What is written from now on is the last before [`Sink::finish`], and may wait for that to leave together with the end.
    fn last(&mut self) {}

    /// Nothing more will be written (FIN, END_STREAM).
    fn finish(&mut self) -> io::Result<()>;

    /// Breaks the connection, so that the peer does not take what it has for the whole (RST).
    fn abort(&mut self);
}

/// How much a peer may make us hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a head: its first line and fields, the blank line included.
    pub head_bytes: usize,
    /// Fields of a head; at most [`Limits::MOST_HEADERS`].
    pub headers: usize,
    /// Bytes of a chunk's size line without its CRLF.
    pub chunk_line_bytes: usize,
    /// Bytes of all chunk extensions of one body; they are ignored.
    pub extension_bytes: usize,
    /// Bytes of a trailer section.
    pub trailer_bytes: usize,
    /// Interim (1xx) responses to one request.
    pub interim_responses: u8,
}

impl Limits {
    /// The largest number of fields whatever [`Limits::headers`] says.
    pub const MOST_HEADERS: usize = 128;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes: 64 * 1024,
            headers: Self::MOST_HEADERS,
            chunk_line_bytes: 256,
            extension_bytes: 16 * 1024,
            trailer_bytes: 16 * 1024,
            interim_responses: 32,
        }
    }
}

/// How a body is delimited (RFC 9112 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// There is none.
    None,
    /// So many bytes, by `Content-Length`.
    Exact(u64),
    /// Chunked transfer coding.
    Chunked,
    /// All until the connection closes; responses only.
    UntilClose,
}

impl BodyLength {
    /// How to delimit a response whose body has so many bytes left, where known, for a client that asked with this method.
    #[must_use]
    pub fn of_response(status: StatusCode, asked: &Method, remaining: Option<u64>) -> Self {
        if never_has_body(status, asked) {
            return Self::None;
        }
        remaining.map_or(Self::Chunked, Self::Exact)
    }

    /// How to delimit a request. `Exact(0)` and `None` differ only in a `Content-Length: 0` on the wire.
    #[must_use]
    pub fn of_request(ended: bool, remaining: Option<u64>) -> Self {
        match remaining {
            _ if ended => Self::None,
            Some(bytes) => Self::Exact(bytes),
            None => Self::Chunked,
        }
    }
}

/// Whether a response has no body whatever its fields say (RFC 9112 section 6.3, points 1 and 2).
fn never_has_body(status: StatusCode, asked: &Method) -> bool {
    status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED
        || asked == Method::HEAD
        || (asked == Method::CONNECT && status.is_success())
}

/// What went wrong with a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadFault {
    /// The peer closed or reset before any byte of the head. Only for responses: a client may leave between requests.
    Closed,
    /// The peer closed or reset within the head.
    Cut,
    /// The peer broke the protocol.
    Malformed,
}

/// Why a head was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadError {
    /// Closed, cut or malformed.
    pub fault: HeadFault,
    /// What to answer: 400, 414, 431, 501 or 505 to a client, 502 for a server's fault. Nobody may be left to read it.
    pub status: u16,
    /// What it was, in few fixed words: a metric's label.
    pub what: &'static str,
}

impl HeadError {
    pub(crate) const fn malformed(status: u16, what: &'static str) -> Self {
        Self { fault: HeadFault::Malformed, status, what }
    }
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.what, self.status)
    }
}

impl std::error::Error for HeadError {}
