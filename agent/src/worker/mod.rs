//! A worker: one thread with a `current_thread` runtime that owns the connections it accepted, its tunnels and its stock
//! of sockets. Workers share nothing but the snapshot, the certificates and the tables that people read.

pub mod admissions;
pub mod gauge;
pub mod inherited;
pub mod peers;
pub mod pod;
pub mod tasks;
pub mod thread;

use std::{net::SocketAddr, os::fd::BorrowedFd, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tokio::sync::watch;

pub use admissions::{Admission, Admissions, Caller, With};
pub use gauge::TunnelGauge;
pub use inherited::InheritedAttempts;
pub use peers::Peers;
pub use pod::PodHere;
pub use thread::{Command, WorkerHandle};

use crate::{
    identity::IdentityStore,
    netns::{NamespaceThreads, SocketOptions, SocketStock},
    observe::{CloseReason, Connection, Connections, Opening, Requests},
    path::{http::upstream::Upstream, socket::Socket},
    snapshot::Snapshot,
    tunnel::{Pool, Settings, reference},
};

/// Reads the original destination of an accepted socket, where the connect hooks left it.
pub type ReadDestination = Arc<dyn Fn(BorrowedFd<'_>) -> Option<SocketAddr> + Send + Sync>;

/// Times and counts of the connect stage.
#[derive(Clone, Copy, Debug)]
pub struct ConnectLimits {
    /// Endpoints tried for one connection.
    pub attempts: u32,
    /// For one endpoint.
    pub attempt: Duration,
    /// For all of them, and for the certificate if it is not there yet.
    pub total: Duration,
    /// For the handshake of a tunnel that comes in.
    pub handshake: Duration,
}

impl Default for ConnectLimits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { attempts: 4, attempt: seconds(3), total: seconds(10), handshake: seconds(10) }
    }
}

/// What all workers hold in common.
#[derive(Clone)]
pub struct Shared {
    /// The published snapshot.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// Certificates of the pods of this node.
    pub identities: IdentityStore,
    /// The connection table.
    pub connections: Connections,
    /// Records of requests.
    pub requests: Requests,
    /// The kernel's side of the capture.
    pub read_destination: ReadDestination,
    /// Threads that make sockets in namespaces.
    pub namespaces: NamespaceThreads,
    /// What those sockets are made with.
    pub sockets: SocketOptions,
    /// Limits and times of tunnels.
    pub tunnels: Settings,
    /// Limits and times of dials.
    pub connect: ConnectLimits,
    /// Who pods of other nodes are.
    pub peers: Peers,
    /// Retries of hops before, for all pods of the node.
    pub inherited: Arc<InheritedAttempts>,
}

/// One worker's own things; lives on its thread.
pub struct Worker {
    index: usize,
    pub(crate) shared: Shared,
    pub(crate) stock: SocketStock,
    pub(crate) pool: Pool<reference::ReferenceTunnel>,
    pub(crate) gauge: Arc<TunnelGauge>,
    pub(crate) upstream: Upstream,
    draining: watch::Sender<Option<Duration>>,
}

impl Worker {
    fn new(index: usize, shared: Shared, gauge: Arc<TunnelGauge>) -> Self {
        let stock = SocketStock::new(shared.namespaces.clone(), shared.sockets.clone());
        let (draining, _) = watch::channel(None);
        Self { index, shared, stock, pool: Pool::default(), gauge, upstream: Upstream::default(), draining }
    }

    /// Its number, from 0.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    /// The world as it is now; load it once per connection.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.snapshot.load_full()
    }

    /// Resolves when the worker stops, to how long streams have to end.
    pub fn draining(&self) -> impl Future<Output = Duration> + 'static + use<> {
        let mut draining = self.draining.subscribe();
        async move {
            loop {
                let within = *draining.borrow_and_update();
                match within {
                    Some(within) => return within,
                    // The sender lives as long as the worker, and the worker as long as its tasks.
                    None => {
                        if draining.changed().await.is_err() {
                            std::future::pending::<()>().await
                        }
                    }
                }
            }
        }
    }

    fn drain(&self, within: Duration) {
        self.draining.send_replace(Some(within));
        self.upstream.drain();
    }

    /// Opens a record.
    #[must_use]
    pub fn open(&self, opening: Opening) -> Connection {
        self.shared.connections.opened(self.index, opening)
    }

    /// Says why the pod's connections end, before they are dropped.
    fn close_records(&self, pod: &PodHere, reason: CloseReason) {
        self.shared.connections.close_pod(self.index, &pod.uid, reason);
    }

    /// Where the application wanted to go before the connect hooks brought it here.
    #[must_use]
    pub fn original_destination(&self, near: &Socket) -> Option<SocketAddr> {
        near.with(|socket| Ok((self.shared.read_destination)(socket))).ok().flatten()
    }
}
