//! Who is at the other end of a connection over the loopback address, as the kernel lists its sockets (`/proc/net/tcp`, see
//! proc(5)). Any process of the host network can reach a loopback port; only root may read what goes on in the mesh.

use std::{fs, io, net::SocketAddrV4};

/// User of the socket at `peer` that is connected to `local`, both in this network namespace; none where it is not there any more.
///
/// # Errors
/// The list cannot be read.
pub(super) fn of(peer: SocketAddrV4, local: SocketAddrV4) -> io::Result<Option<u32>> {
    fs::read_to_string("/proc/thread-self/net/tcp").map(|list| find(&list, peer, local))
}

/// The line whose local address is the peer's, seen from the peer. Pure.
fn find(list: &str, peer: SocketAddrV4, local: SocketAddrV4) -> Option<u32> {
    let (peer, local) = (listed(peer), listed(local));
    list.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let ends = (words.next()?, words.next()?);
        // st, tx_queue:rx_queue, tr:tm->when, retrnsmt, uid.
        (ends == (&*peer, &*local)).then(|| words.nth(4)?.parse().ok()).flatten()
    })
}

/// As the list writes it: the address as a number of this machine's byte order, both in hexadecimal.
fn listed(address: SocketAddrV4) -> String {
    format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use std::net::{SocketAddr, TcpListener, TcpStream};

    const LIST: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:3A98 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 0100007F:3A98 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 2 1 0 20 4 30 10 -1
   2: 0100007F:9C40 0100007F:3A98 01 00000000:00000000 00:00000000 00000000  1000        0 3 1 0 20 4 30 10 -1
";

    #[test]
    #[cfg(target_endian = "little")]
    fn the_other_end_is_found() {
        let at = |port| SocketAddrV4::new([127, 0, 0, 1].into(), port);
        assert_eq!(find(LIST, at(40000), at(15000)), Some(1000));
        assert_eq!(find(LIST, at(15000), at(40000)), Some(0));
        assert_eq!(find(LIST, at(40001), at(15000)), None);
        assert_eq!(find("", at(40000), at(15000)), None);
    }

    #[test]
    fn the_kernel_lists_a_connection_of_ours() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let SocketAddr::V4(to) = listener.local_addr().unwrap() else { panic!("IPv4") };
        let client = TcpStream::connect(to).unwrap();
        let SocketAddr::V4(from) = client.local_addr().unwrap() else { panic!("IPv4") };
        assert_eq!(of(from, to).unwrap(), Some(rustix::process::geteuid().as_raw()));
    }
}
