//! Sockets made ahead of need, so that a connection does not wait for a namespace thread.
//!
//! Each worker has its own stock. It starts empty for each pod, kind and family; a miss is served at once by a
//! namespace thread and makes the stock grow, so that a busy pod has up to [`MOST`] at hand, and one that became quiet none.

use std::{
    cell::RefCell,
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    rc::Rc,
    sync::Arc,
};

use socket2::Socket;
use tokio::net::{TcpSocket, TcpStream};

use super::{
    Namespace, NamespaceThreads, SocketOptions,
    socket::{Family, delivering, dialling},
};

/// The most sockets kept for one pod, kind and family on one worker.
const MOST: usize = 64;

/// Ports from which is delivered in a caller's name, and how many of them are tried before the next range: above those that callers have by
/// default (`ip_local_port_range`, ip(7)), then below, where applications listen. A connection that comes without a tunnel is in the
/// same namespace between the same addresses; if both had one port, the handshake of the one would meet the other and time out. Last the
/// kernel chooses any.
const PORTS: [(RangeInclusive<u16>, usize); 2] = [(61_000..=65_535, 16), (10_240..=32_767, 16)];

/// What a socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// To other pods and to the outside.
    Dial,
    /// To the pod's own application, in the caller's name.
    Deliver,
}

type Shelf = (u64, Kind, Family);

#[derive(Default)]
struct Stored {
    sockets: Vec<Socket>,
    /// How many to make at the next refill; doubles at each miss.
    batch: usize,
    refilling: bool,
    /// Somebody took one since the last [`SocketStock::shrink`].
    used: bool,
}

/// One worker's stock; cheap to clone, not to be sent.
#[derive(Clone)]
pub struct SocketStock {
    threads: NamespaceThreads,
    options: SocketOptions,
    shelves: Rc<RefCell<HashMap<Shelf, Stored>>>,
}

impl SocketStock {
    /// An empty stock.
    #[must_use]
    pub fn new(threads: NamespaceThreads, options: SocketOptions) -> Self {
        Self { threads, options, shelves: Rc::default() }
    }

    /// Connects from inside `namespace` to `destination`.
    ///
    /// # Errors
    /// Whatever `socket` or `connect` answers.
    pub async fn dial(&self, namespace: &Arc<Namespace>, destination: SocketAddr) -> io::Result<TcpStream> {
        let socket = self.take(namespace, Kind::Dial, Family::of(destination.ip())).await?;
        connect(socket, destination).await
    }

    /// Connects to the pod's own application at `destination`, in the name of `client`.
    ///
    /// # Errors
    /// Whatever `socket`, `bind` or `connect` answers.
    pub async fn deliver(
        &self,
        namespace: &Arc<Namespace>,
        client: IpAddr,
        destination: SocketAddr,
    ) -> io::Result<TcpStream> {
        let family = Family::of(destination.ip());
        if Family::of(client) != family {
            return connect(self.take(namespace, Kind::Deliver, family).await?, destination).await;
        }
        for port in PORTS.iter().flat_map(|(range, tries)| (0..*tries).map(|_| fastrand::u16(range.clone())))
        {
            match self.deliver_from(namespace, SocketAddr::new(client, port), destination).await {
                // Another connection has this port.
                Err(error) if is_taken(&error) => {}
                connected => return connected,
            }
        }
        self.deliver_from(namespace, SocketAddr::new(client, 0), destination).await
    }

    async fn deliver_from(
        &self,
        namespace: &Arc<Namespace>,
        from: SocketAddr,
        destination: SocketAddr,
    ) -> io::Result<TcpStream> {
        let socket = self.take(namespace, Kind::Deliver, Family::of(destination.ip())).await?;
        socket.bind(&from.into())?;
        connect(socket, destination).await
    }

    /// Gives back what nobody took anything of since the last call: descriptors of quiet pods, and sockets of a pod that was
    /// forgotten while one of its last connections asked for one.
    pub fn shrink(&self) {
        self.shelves.borrow_mut().retain(|_, stored| std::mem::take(&mut stored.used));
    }

    /// Forgets a pod that left; its unused sockets would keep its namespace alive.
    pub fn forget(&self, cookie: u64) {
        self.shelves.borrow_mut().retain(|shelf, _| shelf.0 != cookie);
    }

    async fn take(&self, namespace: &Arc<Namespace>, kind: Kind, family: Family) -> io::Result<Socket> {
        let shelf = (namespace.cookie(), kind, family);
        let (found, refill) = {
            let mut shelves = self.shelves.borrow_mut();
            let stored = shelves.entry(shelf).or_default();
            let found = stored.sockets.pop();
            stored.used = true;
            let low = stored.sockets.len() * 2 < stored.batch || found.is_none();
            let refill = (low && !stored.refilling).then(|| {
                if found.is_none() {
                    stored.batch = (stored.batch * 2).clamp(1, MOST);
                }
                stored.refilling = true;
                stored.batch
            });
            (found, refill)
        };
        if let Some(count) = refill {
            let this = self.clone();
            let namespace = Arc::clone(namespace);
            tokio::task::spawn_local(async move { this.refill(&namespace, shelf, count).await });
        }
        match found {
            Some(socket) => Ok(socket),
            None => self
                .make(namespace, kind, family, 1)
                .await?
                .pop()
                .ok_or_else(|| io::Error::other("no socket")),
        }
    }

    async fn refill(&self, namespace: &Arc<Namespace>, shelf: Shelf, count: usize) {
        let made = self.make(namespace, shelf.1, shelf.2, count).await;
        // A pod that was forgotten meanwhile has no shelf: its sockets are dropped here.
        if let Some(stored) = self.shelves.borrow_mut().get_mut(&shelf) {
            stored.refilling = false;
            stored.sockets.extend(made.unwrap_or_default());
        }
    }

    async fn make(
        &self,
        namespace: &Arc<Namespace>,
        kind: Kind,
        family: Family,
        count: usize,
    ) -> io::Result<Vec<Socket>> {
        let options = self.options.clone();
        let make = move || -> io::Result<Vec<Socket>> {
            let one = match kind {
                Kind::Dial => dialling,
                Kind::Deliver => delivering,
            };
            (0..count).map(|_| one(family, &options)).collect()
        };
        self.threads.run(Arc::clone(namespace), make).await.map_err(io::Error::other)?
    }
}

fn is_taken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable)
}

async fn connect(socket: Socket, destination: SocketAddr) -> io::Result<TcpStream> {
    TcpSocket::from_std_stream(socket.into()).connect(destination).await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use socket2::{Domain, Type};

    use super::*;

    #[test]
    fn what_nobody_uses_is_given_back() {
        let options = SocketOptions { mark: 1, congestion: None };
        let stock = SocketStock::new(NamespaceThreads::start(1).unwrap(), options);
        for (cookie, used) in [(1, true), (2, false)] {
            let sockets = vec![Socket::new(Domain::IPV4, Type::STREAM, None).unwrap()];
            let stored = Stored { sockets, used, ..Stored::default() };
            stock.shelves.borrow_mut().insert((cookie, Kind::Dial, Family::V4), stored);
        }
        let kept = || stock.shelves.borrow().keys().map(|shelf| shelf.0).collect::<Vec<_>>();
        stock.shrink();
        assert_eq!(kept(), [1]);
        stock.shrink();
        assert!(kept().is_empty());
    }
}
