//! The data path's handle on its row of the connection table. One line per stage fills it; whatever happens, its end is
//! recorded exactly once: by [`Connection::close`], or, where the work was dropped, by `Drop` as [`CloseReason::Cancelled`].

use super::{
    CloseReason, Security, ServiceName, SocketWatch, Stage,
    clock::monotonic_ns,
    connections::Connections,
    denials::{Denied, policy_of, would_deny},
    row::{Row, Said},
    socket::{Held, Sockets},
};
use crate::snapshot::{Protocol, SpiffeId, Workload, authorization::Verdict, protocol::Why};
use std::{cell::Cell, marker::PhantomData, net::SocketAddr, os::fd::BorrowedFd, sync::Arc};

/// A connection that is being carried. All methods take `&self`, cost no allocation and never block for long; share it with `Rc`.
///
/// ```ignore
/// let connection = connections.opened(worker, Opening { id, direction: Direction::Outbound, client, pod, captured_ns });
/// connection.destination(original);
/// connection.service(&**service_port);
/// connection.attempt();
/// connection.endpoint(address);
/// connection.peer(endpoint.workload.clone(), Some(identity));
/// connection.security(Security::MutualTls);
/// connection.connected();
/// {
///     let _sockets = connection.sockets(Some(application.as_fd()), Some(tunnel.as_fd()));
///     relay(&application, .., |n| connection.sent(n), |n| connection.received(n)).await;
/// }
/// connection.close(CloseReason::Finished);
/// ```
#[derive(Debug)]
pub struct Connection {
    row: Arc<Row>,
    table: Connections,
    worker: usize,
    slot: usize,
    has_network: Cell<bool>,
}

/// While it lives, others may ask the kernel about the connection's sockets. It borrows them, so that it is always gone before
/// they are closed; when it is dropped, their last `TCP_INFO` is kept for the record.
#[must_use = "the sockets are let go when this is dropped"]
#[derive(Debug)]
pub struct Attached<'socket> {
    row: Arc<Row>,
    sockets: PhantomData<BorrowedFd<'socket>>,
}

impl Drop for Attached<'_> {
    fn drop(&mut self) {
        self.row.progress().release_sockets();
    }
}

impl Connection {
    pub(crate) fn new(row: Arc<Row>, table: Connections, worker: usize, slot: usize) -> Self {
        Self { row, table, worker, slot, has_network: Cell::new(false) }
    }

    pub(super) fn row(&self) -> &Row {
        &self.row
    }

    /// The id it was opened with.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.row.id
    }

    /// The address of the client.
    #[must_use]
    pub fn client(&self) -> SocketAddr {
        self.row.client
    }

    /// The address that the client asked for.
    pub fn destination(&self, original: SocketAddr) {
        self.row.progress().destination = Some(original);
    }

    /// The service that it was meant for: a [`ServiceName`], or `&ServicePort`.
    pub fn service(&self, service: impl Into<ServiceName>) {
        let service = service.into();
        self.row.progress().service = Some(service);
    }

    /// The pod on the other side, as far as the snapshot knows it, and who it proved to be.
    pub fn peer(&self, workload: Option<Arc<Workload>>, identity: Option<SpiffeId>) {
        let mut progress = self.row.progress();
        progress.peer = workload;
        progress.peer_identity = identity;
    }

    /// Where it is being taken: the endpoint of a service, a pod, an outside address, or the local application.
    pub fn endpoint(&self, address: SocketAddr) {
        self.row.progress().endpoint = Some(address);
    }

    /// What protects it between the nodes.
    pub fn security(&self, security: Security) {
        self.row.progress().security = security;
    }

    /// What it speaks, how that is known, and the server name of the application's own TLS. Counts the decision.
    pub fn protocol(&self, protocol: Protocol, why: Why, server_name: Option<String>) {
        let mut progress = self.row.progress();
        (progress.protocol, progress.why) = (protocol, why);
        progress.server_name = server_name.map(|name| Box::new(name.into_boxed_str()));
        drop(progress);
        self.table.count_decision(protocol, why);
    }

    /// Policies keep it out, or one of its requests: the last reason stays. Counts it.
    pub fn denied(&self, what: Denied, verdict: &Verdict) {
        let details = Some(verdict.details().into());
        self.row.progress().policy = Some(Box::new(Said { reason: verdict.reason().into(), details }));
        self.table.denials().count(&policy_of(verdict), what, false);
    }

    /// A policy under trial would keep it out, or one of its requests. Counts it.
    pub fn trial(&self, what: Denied, policy: &Arc<str>) {
        let reason = would_deny(policy).into();
        self.row.progress().policy = Some(Box::new(Said { reason, details: None }));
        self.table.denials().count(policy, what, true);
    }

    /// It was kept out because it is not HTTP at a port of which policies ask for it.
    pub fn not_http(&self, pod: &Workload, port: u16, verdict: &Verdict) {
        self.table.denials().not_http(pod, port, verdict, monotonic_ns());
    }

    /// It reaches a stage now; only the first time counts. One relaxed load where it has.
    pub fn stage(&self, stage: Stage) {
        self.row.reach(stage);
    }

    /// It reached a stage at that agent time.
    pub fn stage_at(&self, stage: Stage, at_ns: u64) {
        self.row.reach_at(stage, at_ns);
    }

    /// One more dial.
    pub fn attempt(&self) {
        let mut progress = self.row.progress();
        progress.attempts = progress.attempts.saturating_add(1);
        drop(progress);
        self.table.count_attempt();
    }

    /// The other side is reached and bytes may flow: counts it as opened and logs it. Peer, service and security are
    /// to be set before. Only the first call counts.
    pub fn connected(&self) {
        self.table.connected(self.worker, &self.row, monotonic_ns());
    }

    /// Bytes carried from the server to the client (Istio's meaning of `sent`, whichever pod is ours). One relaxed add.
    pub fn sent(&self, bytes: u64) {
        self.row.add_sent(bytes);
    }

    /// Bytes carried from the client to the server. One relaxed add.
    pub fn received(&self, bytes: u64) {
        self.row.add_received(bytes);
    }

    /// Lets others read `TCP_INFO` of both sockets until the answer is dropped.
    pub fn sockets<'socket>(
        &self,
        application: Option<BorrowedFd<'socket>>,
        network: Option<BorrowedFd<'socket>>,
    ) -> Attached<'socket> {
        self.row.progress().sockets = Sockets { application: application.into(), network: network.into() };
        Attached { row: self.row.clone(), sockets: PhantomData }
    }

    /// The same of the application's socket, which its owner closes whenever it likes.
    pub fn watch_application(&self, socket: Option<SocketWatch>) {
        self.row.progress().sockets.application = socket.map_or(Held::None, Held::Watched);
    }

    /// The same of the socket that leads to the other side; only the first one counts.
    pub fn watch_network(&self, socket: impl FnOnce() -> Option<SocketWatch>) {
        if !self.has_network.replace(true) {
            self.row.progress().sockets.network = socket().map_or(Held::None, Held::Watched);
        }
    }

    /// Records the end: counters, the log line, the row among the recently closed. Only the first call counts.
    pub fn close(&self, reason: CloseReason) {
        self.table.closed(self.worker, self.slot, &self.row, reason, monotonic_ns());
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.close(CloseReason::Cancelled);
    }
}
