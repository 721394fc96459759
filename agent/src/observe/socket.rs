//! `TCP_INFO` of sockets that belong to another thread. A descriptor number may be reused as soon as its socket is closed, so
//! it is read only under the lock that its owner takes before closing.

use super::{json, locked, monotonic_ns};
use serde::{Deserialize, Serialize};
use std::{
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    sync::{Arc, Mutex, Weak},
};

/// What the kernel knows of one TCP socket (`struct tcp_info` of linux/tcp.h), in short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpInfo {
    /// Smoothed round trip time, microseconds.
    pub srtt_us: u32,
    /// Its variation, microseconds.
    pub rttvar_us: u32,
    /// Segments sent again since the socket was opened.
    pub retransmits: u32,
    /// Congestion window, segments.
    pub congestion_window: u32,
}

impl TcpInfo {
    /// Appends `,"name":{...}` with the fields by their names here.
    pub(super) fn write_field(&self, out: &mut Vec<u8>, name: &str) {
        json::object_field(out, name, |out| {
            json::number_field(out, "srtt_us", self.srtt_us.into());
            json::number_field(out, "rttvar_us", self.rttvar_us.into());
            json::number_field(out, "retransmits", self.retransmits.into());
            json::number_field(out, "congestion_window", self.congestion_window.into());
        });
    }
}

/// A socket that outlives connections, or lives in the hands of many parts. The owner calls [`LiveSocket::release`] before it closes the socket.
#[derive(Debug)]
pub struct LiveSocket(Mutex<LiveState>);

#[derive(Debug)]
struct LiveState {
    descriptor: Option<RawFd>,
    last: Option<TcpInfo>,
}

impl LiveSocket {
    /// Watches `socket` until [`Self::release`]; the caller promises to release before closing (a value that does both when it is dropped).
    #[must_use]
    pub fn new(socket: BorrowedFd<'_>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(LiveState { descriptor: Some(socket.as_raw_fd()), last: None })))
    }

    /// What the kernel says now, or said last before the release.
    #[must_use]
    pub fn tcp_info(&self) -> Option<TcpInfo> {
        let state = locked(&self.0);
        state.descriptor.and_then(tcp_info).or(state.last)
    }

    /// Reads for the last time, where somebody watches, and lets go; afterwards the socket may be closed. Harmless when called again.
    pub fn release(self: &Arc<Self>) {
        let mut state = locked(&self.0);
        if let Some(descriptor) = state.descriptor.take()
            && Arc::strong_count(self) > 1
        {
            state.last = tcp_info(descriptor);
        }
    }
}

/// A second descriptor of a tunnel's socket. Its streams end by the thousand in a second, and all ask the same.
#[derive(Debug)]
pub struct TunnelSocket {
    descriptor: OwnedFd,
    /// When the kernel was asked, agent time, and what it said.
    said: Mutex<(u64, Option<TcpInfo>)>,
}

/// How long an answer counts as present: 1 ms.
const PRESENT_NS: u64 = 1_000_000;

impl TunnelSocket {
    /// Keeps a descriptor of `socket` for as long as the tunnel stands; where there is none left, the records go without.
    #[must_use]
    pub fn of(socket: &impl AsFd) -> Option<Arc<Self>> {
        let descriptor = socket.as_fd().try_clone_to_owned().ok()?;
        Some(Arc::new(Self { descriptor, said: Mutex::default() }))
    }

    /// What the kernel says, or said at most a millisecond ago.
    fn tcp_info(&self) -> Option<TcpInfo> {
        let now_ns = monotonic_ns();
        let mut said = locked(&self.said);
        if said.1.is_none() || now_ns.saturating_sub(said.0) >= PRESENT_NS {
            *said = (now_ns, tcp_info(self.descriptor.as_raw_fd()));
        }
        said.1
    }
}

impl AsFd for TunnelSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// A socket whose owner closes it whenever it likes.
#[derive(Clone, Debug)]
pub enum SocketWatch {
    /// It leaves its last words.
    Live(Arc<LiveSocket>),
    /// A tunnel's second descriptor, gone with the tunnel.
    Tunnel(Weak<TunnelSocket>),
}

impl SocketWatch {
    /// What the kernel says now, or said last.
    fn tcp_info(&self) -> Option<TcpInfo> {
        match self {
            Self::Live(socket) => socket.tcp_info(),
            Self::Tunnel(socket) => socket.upgrade()?.tcp_info(),
        }
    }
}

/// The two sockets of a live connection as its row keeps them, under the row's lock.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    pub(crate) application: Held,
    pub(crate) network: Held,
}

/// How a row knows a socket.
#[derive(Debug, Default)]
pub(crate) enum Held {
    #[default]
    None,
    /// Released by its owner before it is closed.
    Own(RawFd),
    Watched(SocketWatch),
}

impl Held {
    fn tcp_info(&self) -> Option<TcpInfo> {
        match self {
            Self::None => None,
            Self::Own(descriptor) => tcp_info(*descriptor),
            Self::Watched(watch) => watch.tcp_info(),
        }
    }
}

impl From<Option<BorrowedFd<'_>>> for Held {
    fn from(socket: Option<BorrowedFd<'_>>) -> Self {
        socket.map_or(Self::None, |socket| Self::Own(socket.as_raw_fd()))
    }
}

/// What the kernel says of both sockets of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketPair {
    /// Between the agent and the local application.
    pub application: Option<TcpInfo>,
    /// Between the agent and the other side; of a tunnel, shared with other connections.
    pub network: Option<TcpInfo>,
}

impl Sockets {
    /// Reads both; call it only under the lock that guards the release.
    pub(crate) fn read(&self) -> SocketPair {
        SocketPair { application: self.application.tcp_info(), network: self.network.tcp_info() }
    }
}

/// `getsockopt(TCP_INFO)`; none where the descriptor is not a TCP socket.
fn tcp_info(descriptor: RawFd) -> Option<TcpInfo> {
    // SAFETY: `tcp_info` is plain integers, for which all zeroes is a value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = libc::socklen_t::try_from(size_of::<libc::tcp_info>()).ok()?;
    // SAFETY: both pointers are to live local values, and `length` is the size of the first.
    let result = unsafe {
        libc::getsockopt(
            descriptor,
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast::<libc::c_void>(),
            &raw mut length,
        )
    };
    (result == 0).then_some(TcpInfo {
        srtt_us: info.tcpi_rtt,
        rttvar_us: info.tcpi_rttvar,
        retransmits: info.tcpi_total_retrans,
        congestion_window: info.tcpi_snd_cwnd,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use std::{
        net::{TcpListener, TcpStream},
        os::fd::AsFd,
    };

    #[test]
    fn a_live_socket_answers_and_remembers_its_last_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let socket = LiveSocket::new(client.as_fd());
        let watch = SocketWatch::Live(Arc::clone(&socket));
        assert!(socket.tcp_info().unwrap().congestion_window > 0);
        socket.release();
        drop(client);
        assert!(watch.tcp_info().unwrap().congestion_window > 0);
        socket.release();
    }

    #[test]
    fn nobody_asks_for_what_nobody_watches() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let socket = LiveSocket::new(client.as_fd());
        socket.release();
        assert_eq!(socket.tcp_info(), None);
        let tunnel = TunnelSocket::of(&client).unwrap();
        let watch = SocketWatch::Tunnel(Arc::downgrade(&tunnel));
        assert!(watch.tcp_info().is_some());
        drop(tunnel);
        assert_eq!(watch.tcp_info(), None);
    }

    #[test]
    fn what_is_not_a_tcp_socket_says_nothing() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(tcp_info(file.as_raw_fd()), None);
        assert_eq!(tcp_info(-1), None);
    }
}
