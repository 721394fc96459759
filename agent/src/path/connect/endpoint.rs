//! Reaches one given endpoint: straight, or by tunnel where the mesh knows that the pod is captured.

use std::{
    cell::{Cell, OnceCell, RefCell},
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use tokio::time::{Instant, timeout_at};

use super::{
    Far,
    setback::{Setback, open_error, setback_of},
};
use crate::{
    config::TUNNEL_PORT,
    observe::{CloseReason, Connection, Security, Stage, monotonic_ns},
    path::identify,
    snapshot::{LocalPod, SpiffeId, Workload},
    tls::{self, TlsIdentity},
    tunnel::{
        Authority, ConnectRequest, ConnectionId, Key, OpenError, Tunnel, headers, reference,
        request::RetryMark,
    },
    worker::{PodHere, Worker},
};

/// One connection that wants to get somewhere.
pub struct Journey<'a> {
    /// The worker that makes it.
    pub worker: &'a Rc<Worker>,
    /// The calling pod.
    pub pod: &'a PodHere,
    /// The same in the snapshot.
    pub here: &'a LocalPod,
    /// The application's end of what it opened.
    pub client: SocketAddr,
    /// Host name of the service that was meant; empty where none was.
    pub service: &'a str,
    /// Told of each attempt.
    pub record: &'a Connection,
    /// When all attempts together are too slow.
    pub deadline: Instant,
    /// Says to the called agent that this carries a request which was tried before.
    pub mark: Option<&'a RetryMark>,
}

/// An endpoint that accepted.
pub struct Dialled {
    /// Where the bytes go.
    pub far: Far,
    /// How long it took to accept. What a new tunnel took beside is no fault of the endpoint, and the next connection will
    /// not pay it.
    pub took: Duration,
    /// What protects the bytes.
    pub security: Security,
    /// Who the peer proved to be.
    pub peer: Option<SpiffeId>,
}

/// When the dial of a tunnel came how far; its task outlives who asked for it. Agent time; 0 is not yet.
#[derive(Default)]
struct DialStages {
    dialled_ns: Cell<u64>,
    tls_ns: Cell<u64>,
}

impl DialStages {
    fn note(&self, record: &Connection) {
        for (stage, at) in [(Stage::Dialled, &self.dialled_ns), (Stage::Tls, &self.tls_ns)] {
            if at.get() != 0 {
                record.stage_at(stage, at.get());
            }
        }
    }
}

/// How to get to an address.
enum Way<'workload> {
    /// Straight: outside, not in the mesh, or this very pod.
    Plain,
    /// By tunnel, with our certificate; or not at all where the mesh knows that this pod is captured.
    Tunnel(&'workload Arc<Workload>, Arc<TlsIdentity>),
}

/// Who stands at an address that the snapshot of the connection knows no pod at: nobody of the mesh, or a pod of another node that had
/// to be asked for.
///
/// # Errors
/// It is a pod of the mesh, and nobody said in time who.
pub async fn peer(
    worker: &Worker,
    address: SocketAddr,
    deadline: Instant,
) -> Result<Option<Arc<Workload>>, CloseReason> {
    let found = worker.shared.peers.find(&worker.shared.snapshot, address.ip(), deadline).await;
    found.map_err(|_| {
        tracing::debug!(%address, "a pod of the mesh of which nobody says who it is");
        CloseReason::UnresolvedPeer
    })
}

/// Ends a tunnel whose peer is trusted no more.
async fn cut_when(lost: impl Future<Output = tls::Untrusted>, tunnel: reference::ReferenceTunnel, key: Key) {
    tokio::select! {
        untrusted = lost => {
            tracing::warn!(peer = %key.peer, identity = %key.expected, %untrusted, "closed a tunnel");
            tunnel.cut(untrusted.to_string().into());
        }
        _ = tunnel.closed() => {}
    }
}

impl Journey<'_> {
    /// One address, under the deadline of one attempt, after our certificate is there.
    ///
    /// # Errors
    /// Why it was not reached, and whether another endpoint may do better.
    pub async fn to_endpoint(
        &self,
        address: SocketAddr,
        workload: Option<&Arc<Workload>>,
    ) -> Result<Dialled, Setback> {
        let found = match workload {
            Some(workload) => Some(Arc::clone(workload)),
            None => peer(self.worker, address, self.deadline).await.map_err(Setback::There)?,
        };
        let way = self.way(found.as_ref()).await?;
        self.record.attempt();
        let attempt = Instant::now() + self.worker.shared.connect.attempt;
        let connected = async {
            match &way {
                Way::Plain => self.plain(address).await.map_err(Setback::There),
                Way::Tunnel(pod, identity) => match self.through_tunnel(address, pod, identity).await {
                    Err(OpenError::Dial(_)) if pod.may_be_uncaptured(address.port()) => {
                        self.uncaptured(address, pod).await
                    }
                    opened => opened.map_err(|error| setback_of(&error)),
                },
            }
        };
        let too_slow = Err(Setback::There(CloseReason::TimedOut));
        timeout_at(attempt.min(self.deadline), connected).await.unwrap_or(too_slow)
    }

    /// Whether a pod is to be reached by tunnel: not the calling pod itself, which stays inside the pod.
    #[must_use]
    pub fn wants_tunnel(here: &LocalPod, workload: Option<&Arc<Workload>>) -> bool {
        workload.is_some_and(|pod| pod.meshed && pod.uid != here.workload.uid)
    }

    /// How to get to a pod. A tunnel needs our certificate, for which all the time there is may be spent: no endpoint is to
    /// blame for its absence, and no other would do without.
    async fn way<'workload>(
        &self,
        workload: Option<&'workload Arc<Workload>>,
    ) -> Result<Way<'workload>, Setback> {
        self.record.peer(workload.map(Arc::clone), None);
        let Some(pod) = workload.filter(|_| Self::wants_tunnel(self.here, workload)) else {
            self.record.security(Security::None);
            return Ok(Way::Plain);
        };
        self.record.security(Security::MutualTls);
        let identity = timeout_at(self.deadline, self.identity()).await;
        let identity = identity.unwrap_or(Err(CloseReason::IdentityError)).map_err(Setback::Here)?;
        Ok(Way::Tunnel(pod, identity))
    }

    /// Nobody has said that the permissive pod is captured, and nobody takes a tunnel there: no agent is on its node, or not yet.
    async fn uncaptured(&self, address: SocketAddr, pod: &Workload) -> Result<Dialled, Setback> {
        self.worker.shared.peers.ask_again(pod);
        self.record.security(Security::None);
        self.plain(address).await.map_err(Setback::There)
    }

    async fn plain(&self, address: SocketAddr) -> Result<Dialled, CloseReason> {
        let started = Instant::now();
        let dialled = self.worker.stock.dial(&self.pod.namespace, address).await;
        let socket = dialled.map_err(|error| {
            tracing::debug!(%address, %error, "cannot connect");
            CloseReason::ConnectFailed
        })?;
        let took = started.elapsed();
        self.record.stage(Stage::Dialled);
        Ok(Dialled { far: Far::Socket(socket), took, security: Security::None, peer: None })
    }

    async fn through_tunnel(
        &self,
        address: SocketAddr,
        workload: &Arc<Workload>,
        identity: &Arc<TlsIdentity>,
    ) -> Result<Dialled, OpenError> {
        let key = Key {
            pod: self.pod.namespace.cookie(),
            peer: SocketAddr::new(address.ip(), TUNNEL_PORT),
            identity: identity.id.clone(),
            serial: Arc::clone(&identity.serial),
            expected: workload.identity.clone(),
        };
        let stages = OnceCell::new();
        let dial = || self.dial(&key, identity, Rc::clone(stages.get_or_init(Rc::default)));
        let opened = self.worker.pool.open(&key, &self.request(address), dial).await;
        stages.get().into_iter().for_each(|stages| stages.note(self.record));
        match opened {
            Ok(stream) => {
                self.record.stage(Stage::Tunnel);
                let peer = Some(workload.identity.clone());
                self.record.peer(Some(Arc::clone(workload)), peer.clone());
                let far = Far::Stream { send: stream.send, receive: stream.receive, socket: stream.socket };
                Ok(Dialled { far, took: stream.waited, security: Security::MutualTls, peer })
            }
            Err(error) => {
                tracing::debug!(peer = %key.peer, expected = %key.expected, %error, "no tunnel");
                Err(error)
            }
        }
    }

    async fn identity(&self) -> Result<Arc<TlsIdentity>, CloseReason> {
        let identities = &self.worker.shared.identities;
        let id = &self.here.workload.identity;
        if let Some(identity) = identities.current(id) {
            return Ok(identity);
        }
        identities.ready(id).await.map_err(|error| {
            tracing::warn!(identity = %id, %error, "no certificate");
            CloseReason::IdentityError
        })
    }

    /// A future of its own, because it serves everyone who waits for this tunnel and outlives who asked first.
    fn dial(
        &self,
        key: &Key,
        identity: &Arc<TlsIdentity>,
        stages: Rc<DialStages>,
    ) -> impl Future<Output = Result<reference::ReferenceTunnel, OpenError>> + 'static {
        let worker = Rc::clone(self.worker);
        let (namespace, identity, key) = (Arc::clone(&self.pod.namespace), Arc::clone(identity), key.clone());
        async move {
            let socket = worker.stock.dial(&namespace, key.peer);
            let trust = worker.shared.identities.trust();
            let chain = RefCell::new(Vec::new());
            let secure = async |io| {
                stages.dialled_ns.set(monotonic_ns());
                let connected = tls::connect(&identity, &key.expected, key.peer.ip(), io).await;
                let stream = connected.map_err(|error| open_error(&error))?;
                *chain.borrow_mut() = stream.get_ref().1.peer_certificates().unwrap_or_default().to_vec();
                let judged = trust.borrow().check(&chain.borrow(), identity.clock.unix());
                judged.map_err(|untrusted| OpenError::Identity(untrusted.to_string().into()))?;
                let resumed = stream.get_ref().1.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
                worker.gauge.count_built(resumed);
                stages.tls_ns.set(monotonic_ns());
                Ok(stream)
            };
            let tunnel = reference::connect(&worker.shared.tunnels, socket, secure).await?;
            let lost = tls::lost(trust.clone(), chain.take(), identity.clock.clone());
            tokio::task::spawn_local(cut_when(lost, tunnel.clone(), key));
            Ok(tunnel)
        }
    }

    fn request(&self, address: SocketAddr) -> ConnectRequest {
        let own = identify::own_address(self.here, address.ip()).unwrap_or(self.client.ip());
        let client = SocketAddr::new(own, self.client.port());
        ConnectRequest {
            authority: Authority::Address(address),
            baggage: self.pod.baggage(self.here),
            forwarded: headers::forwarded(client, self.service),
            traceparent: None,
            attempt: self.mark.cloned(),
            connection: ConnectionId(self.record.id()),
        }
    }
}
