//! The TCP connections of a namespace, as the kernel lists them (sock_diag(7)): which of them the agent has nothing to do with.

use std::{
    collections::HashSet,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::{
    SockDiagMessage,
    constants::{AF_INET, AF_INET6, IPPROTO_TCP},
    inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags, nlas::Nla},
};
use netlink_sys::{Socket, SocketAddr as NetlinkAddr, protocols::NETLINK_SOCK_DIAG};

use super::{Namespace, NamespaceThreads, SocketOptions};

/// Answers of the kernel are at most so long (`NLMSG_GOODSIZE`, and what a reader's buffer makes of it).
const BUFFER: usize = 1 << 16;

/// A connection that an application of the pod holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TcpConnection {
    /// The pod's end.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
    /// The kernel's number of the socket; never used twice until reboot.
    cookie: u64,
    /// `SO_MARK`.
    mark: u32,
}

/// The connections of the pod that do not go through the agent; none where the kernel does not list them.
pub async fn uncaptured(
    threads: &NamespaceThreads,
    namespace: &Arc<Namespace>,
    options: &SocketOptions,
) -> Vec<TcpConnection> {
    let marks = [options.mark, options.delivery_mark()];
    match threads.run(Arc::clone(namespace), list).await {
        Ok(Ok(all)) => apart(all, marks),
        Ok(Err(error)) => {
            tracing::warn!(path = %namespace.path().display(), %error, "the kernel does not list connections");
            Vec::new()
        }
        // The agent stops, or the pod has gone.
        Err(_) => Vec::new(),
    }
}

/// Leaves out what stays inside the pod (both ends are here), and the agent's own.
fn apart(all: Vec<TcpConnection>, marks: [u32; 2]) -> Vec<TcpConnection> {
    let ends: HashSet<_> = all.iter().map(|one| (one.local, one.remote)).collect();
    let is_apart = |one: &TcpConnection| {
        !ends.contains(&(one.remote, one.local))
            && !one.remote.ip().is_loopback()
            && !marks.contains(&one.mark)
    };
    all.into_iter().filter(is_apart).collect()
}

/// All connections of the calling thread's namespace that an application holds or makes.
fn list() -> io::Result<Vec<TcpConnection>> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    socket.connect(&NetlinkAddr::new(0, 0))?;
    let mut found = Vec::new();
    for family in [AF_INET, AF_INET6] {
        socket.send(&request(family), 0)?;
        read_all(&socket, &mut found)?;
    }
    Ok(found)
}

fn request(family: u8) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let request = InetRequest {
        family,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        states: StateFlags::ESTABLISHED
            | StateFlags::SYN_SENT
            | StateFlags::FIN_WAIT1
            | StateFlags::FIN_WAIT2
            | StateFlags::CLOSE_WAIT,
        socket_id: if family == AF_INET { SocketId::new_v4() } else { SocketId::new_v6() },
    };
    let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// Reads one answer to its end.
fn read_all(socket: &Socket, found: &mut Vec<TcpConnection>) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(BUFFER);
    loop {
        buffer.clear();
        socket.recv(&mut buffer, 0)?;
        let mut rest = buffer.as_slice();
        while !rest.is_empty() {
            let message = NetlinkMessage::<SockDiagMessage>::deserialize(rest).map_err(io::Error::other)?;
            match message.payload {
                NetlinkPayload::Done(_) => return Ok(()),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => {
                    found.push(connection(&response));
                }
                _ => {}
            }
            // Messages are aligned to four bytes (netlink(7)).
            let length = (message.header.length as usize).next_multiple_of(4);
            rest = rest.get(length.max(4)..).unwrap_or_default();
        }
    }
}

fn connection(response: &InetResponse) -> TcpConnection {
    let id = &response.header.socket_id;
    let end = |address: IpAddr, port| SocketAddr::new(address.to_canonical(), port);
    let mark = response.nlas.iter().find_map(|attribute| match attribute {
        Nla::Mark(mark) => Some(*mark),
        _ => None,
    });
    TcpConnection {
        local: end(id.source_address, id.source_port),
        remote: end(id.destination_address, id.destination_port),
        cookie: u64::from_ne_bytes(id.cookie),
        mark: mark.unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn one(local: &str, remote: &str, mark: u32) -> TcpConnection {
        TcpConnection { local: local.parse().unwrap(), remote: remote.parse().unwrap(), cookie: 1, mark }
    }

    #[test]
    fn what_the_agent_has_nothing_to_do_with() {
        let apart_from = one("10.0.0.1:40000", "10.0.0.2:80", 0);
        let served = one("[fd00::1]:8080", "[fd00::2]:5", 0);
        let all = vec![
            apart_from,
            served,
            one("10.0.0.1:40001", "10.0.0.2:80", 7),
            one("10.0.0.9:1", "10.0.0.1:8080", 6),
            one("127.0.0.1:40000", "127.0.0.1:15001", 0),
            // Both ends are in the pod: it calls itself, or the agent delivers.
            one("10.0.0.1:40002", "10.0.0.1:8080", 0),
            one("10.0.0.1:8080", "10.0.0.1:40002", 0),
            one("10.0.0.1:8080", "10.0.0.9:2", 0),
            one("10.0.0.9:2", "10.0.0.1:8080", 6),
        ];
        assert_eq!(apart(all, [7, 6]), [apart_from, served]);
    }

    #[test]
    fn the_kernel_lists_what_there_is() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (server, _) = listener.accept().unwrap();
            let pairs = || -> Vec<_> { list().unwrap().iter().map(|one| (one.local, one.remote)).collect() };
            let ends = |socket: &TcpStream| (socket.local_addr().unwrap(), socket.peer_addr().unwrap());
            let (near, far) = (ends(&client), ends(&server));
            let found = pairs();
            assert!(found.contains(&near) && found.contains(&far), "{address}");
            drop((client, server));
            assert!(!pairs().contains(&far), "{address}");
        }
    }
}
