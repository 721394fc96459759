//! The layers of a tunnel's byte stream, on one worker thread: `Coalesced<TlsStream<ReadAhead<TcpStream>>>`.
//!
//! Most of the cost of a tunnel is the TCP segment sent and the system call; both layers exist to have few of them. Neither
//! holds a buffer while nothing is under way: `buffers` lends them.

pub mod buffers;
pub mod coalesced;
pub mod pass;
pub mod read_ahead;

pub use coalesced::{Coalesced, Counters, Flusher};
pub use pass::Pass;
pub use read_ahead::ReadAhead;
use tokio::net::TcpStream;

/// TLS on a tunnel's socket as the caller of it sees it.
pub type ClientStream = tokio_rustls::client::TlsStream<ReadAhead<TcpStream>>;
/// TLS on a tunnel's socket as the called side sees it.
pub type ServerStream = tokio_rustls::server::TlsStream<ReadAhead<TcpStream>>;

/// What rustls may hold sealed and unsent: all that a flush hands over at once, so that one `writev` takes it.
const SEALED_LIMIT: usize = buffers::SIZE + 32 * 1024;

/// A stream under the coalescing layer, after its TLS handshake.
pub trait Sealed: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + 'static {
    /// Lets the TLS layer take a whole flush before it writes.
    fn widen(&mut self) {}
}

impl<IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + 'static> Sealed
    for tokio_rustls::client::TlsStream<IO>
{
    fn widen(&mut self) {
        self.get_mut().1.set_buffer_limit(Some(SEALED_LIMIT));
    }
}

impl<IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + 'static> Sealed
    for tokio_rustls::server::TlsStream<IO>
{
    fn widen(&mut self) {
        self.get_mut().1.set_buffer_limit(Some(SEALED_LIMIT));
    }
}
