//! The sockets the agent makes inside a pod's namespace, with all their options set before anyone sees them.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    os::fd::AsRawFd,
    sync::Arc,
};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that wait for `accept`: as many as `net.core.somaxconn` of the pod's namespace allows, at which the kernel caps it
/// (listen(2)). Who raised that for an application has it raised for us, who stand before it.
const BACKLOG: i32 = i32::MAX;

/// What every socket of the agent is made with.
#[derive(Clone, Debug)]
pub struct SocketOptions {
    /// `SO_MARK` of sockets that dial: tells the connect hooks that the socket is the agent's.
    pub mark: u32,
    /// `TCP_CONGESTION`; none leaves the kernel's default.
    pub congestion: Option<Arc<str>>,
}

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// `AF_INET`.
    V4,
    /// `AF_INET6`, never dual-stack.
    V6,
}

impl SocketOptions {
    /// `SO_MARK` of sockets that deliver, which the hooks exempt too. It differs from the other, because the rule that brings
    /// the application's replies to `lo` would bring dials there as well.
    #[must_use]
    pub fn delivery_mark(&self) -> u32 {
        self.mark ^ 1
    }
}

impl Family {
    /// The family of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    fn domain(self) -> Domain {
        match self {
            Self::V4 => Domain::IPV4,
            Self::V6 => Domain::IPV6,
        }
    }

    fn loopback(self) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::LOCALHOST.into(),
            Self::V6 => Ipv6Addr::LOCALHOST.into(),
        }
    }
}

/// A socket that will connect to another pod or to the outside.
pub(super) fn dialling(family: Family, options: &SocketOptions) -> io::Result<Socket> {
    let socket = Socket::new(family.domain(), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_mark(options.mark)?;
    socket.set_tcp_nodelay(true)?;
    choose_congestion(&socket, options);
    Ok(socket)
}

/// A socket that will deliver to the pod's application with a foreign source address.
///
/// `SO_BINDTODEVICE lo` makes the `sk_lookup` program see `lo` as the ingress device and let it through.
pub(super) fn delivering(family: Family, options: &SocketOptions) -> io::Result<Socket> {
    let socket = dialling(family, options)?;
    socket.set_mark(options.delivery_mark())?;
    match family {
        Family::V4 => socket.set_ip_transparent_v4(true)?,
        Family::V6 => socket.set_ip_transparent_v6(true)?,
    }
    // A port that was used before may be again, as where the kernel chooses it.
    socket.set_reuse_address(true)?;
    bind_address_without_port(&socket)?;
    socket.bind_device(Some(b"lo"))?;
    Ok(socket)
}

/// A listener on the loopback address; several workers share the port.
pub(super) fn listening(family: Family, port: u16, options: &SocketOptions) -> io::Result<TcpListener> {
    let socket = Socket::new(family.domain(), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    // Accepted sockets inherit these, which saves two calls for each connection.
    socket.set_tcp_nodelay(true)?;
    choose_congestion(&socket, options);
    if family == Family::V6 {
        socket.set_only_v6(true)?;
    }
    socket.bind(&SocketAddr::new(family.loopback(), port).into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A kernel without that algorithm keeps its default: slower, not wrong; `posthaste check` tells.
fn choose_congestion(socket: &Socket, options: &SocketOptions) {
    if let Some(name) = &options.congestion {
        let _ = socket.set_tcp_congestion(name.as_bytes());
    }
}

/// `IP_BIND_ADDRESS_NO_PORT` (ip(7)): the port is chosen at connect, so that many connections may share it.
fn bind_address_without_port(socket: &Socket) -> io::Result<()> {
    let on: libc::c_int = 1;
    let length = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or(4);
    // SAFETY: `on` is a c_int that outlives the call, and `length` is its size.
    let answer = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            length,
        )
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
