//! Stages `balance` and `connect`: reaches the target, and where that is a service, one endpoint after the other until one
//! accepts, within a bounded number of tries and time. The application notices nothing: none of its bytes was read yet.

use std::{
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
    rc::Rc,
    sync::Arc,
};

use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};

use super::{arrival::Arrival, identify, route::Target};
use crate::{
    config::TUNNEL_PORT,
    observe::{CloseReason, Connection, Security, monotonic_ns},
    resilience::{
        balance::{self, Outstanding},
        ejection::{self, EjectionPolicy},
        ewma,
    },
    snapshot::{Endpoint, LocalPod, ServicePort, Workload},
    tls::TlsIdentity,
    tunnel::{Authority, ConnectRequest, ConnectionId, Incoming, Key, OpenError, Tunnel, headers, reference},
    worker::{PodHere, Worker},
};

/// The far side of a relay.
pub enum Far {
    /// A plain socket: outside, not in the mesh, or the pod's own application.
    Socket(TcpStream),
    /// A stream of a tunnel.
    Stream {
        /// To the peer's application.
        send: <reference::ReferenceTunnel as Tunnel>::Send,
        /// From the peer's application.
        receive: <reference::ReferenceTunnel as Tunnel>::Receive,
        /// The tunnel's socket, to ask the kernel about it.
        socket: Option<Arc<OwnedFd>>,
    },
}

/// A far side, and the load that it is on its endpoint while it lives.
pub struct Reached {
    /// Where the bytes go.
    pub far: Far,
    /// Counts on the endpoint until it is dropped.
    pub outstanding: Option<Outstanding>,
}

/// One connection that wants to get somewhere.
struct Journey<'a> {
    worker: &'a Rc<Worker>,
    pod: &'a PodHere,
    here: &'a LocalPod,
    client: SocketAddr,
    /// Host name of the service that was meant; empty where none was.
    service: &'a str,
    record: &'a Connection,
    deadline: Instant,
}

/// Reaches the target.
///
/// # Errors
/// The last reason, when nothing accepted in time.
pub async fn reach<I: Incoming>(
    worker: &Rc<Worker>,
    pod: &PodHere,
    here: &LocalPod,
    target: &Target<'_>,
    arrival: &Arrival<I>,
    record: &Connection,
) -> Result<Reached, CloseReason> {
    let deadline = Instant::now() + worker.shared.connect.total;
    let client = arrival.client();
    let service = if let Target::Service(port) = target { &*port.hostname } else { "" };
    let journey = Journey { worker, pod, here, client, service, record, deadline };
    let only = |far| Reached { far, outstanding: None };
    match target {
        Target::Service(port) => journey.to_service(port).await,
        Target::Pod(workload, address) => journey.to_endpoint(*address, Some(workload)).await.map(only),
        Target::Outside(address) => journey.to_endpoint(*address, None).await.map(only),
        Target::Application { address, client } => journey.to_application(*address, *client).await.map(only),
    }
}

impl Journey<'_> {
    /// Tries endpoints until one accepts.
    async fn to_service(&self, port: &ServicePort) -> Result<Reached, CloseReason> {
        let mut tried = Vec::new();
        let mut last = CloseReason::NoEndpoints;
        for _ in 0..self.worker.shared.connect.attempts {
            if Instant::now() >= self.deadline {
                break;
            }
            let Some(endpoint) = self.pick(port, &tried) else { break };
            match self.try_endpoint(port, endpoint).await {
                Ok(reached) => return Ok(reached),
                Err(reason) => last = reason,
            }
            tried.push(endpoint.address);
        }
        Err(last)
    }

    fn pick<'port>(&self, port: &'port ServicePort, tried: &[SocketAddr]) -> Option<&'port Endpoint> {
        let mut random = || fastrand::u64(..);
        let client = identify::own_address(self.here, self.client.ip()).unwrap_or(self.client.ip());
        let index = balance::pick_affine(port, client, tried, monotonic_ns(), &mut random)?;
        port.endpoints.get(index)
    }

    async fn try_endpoint(&self, port: &ServicePort, endpoint: &Endpoint) -> Result<Reached, CloseReason> {
        let outstanding = Outstanding::new(&endpoint.load);
        let started = monotonic_ns();
        self.record.endpoint(endpoint.address);
        let reached = self.to_endpoint(endpoint.address, endpoint.workload.as_ref()).await;
        let now = monotonic_ns();
        match &reached {
            Ok(_) => {
                ewma::observe(&endpoint.load, now.saturating_sub(started), now);
                ejection::succeeded(&endpoint.load);
            }
            Err(reason) if is_endpoints_fault(*reason) => {
                let ejected = ejection::failed(port, &endpoint.load, &EjectionPolicy::default(), now);
                tracing::debug!(address = %endpoint.address, %reason, ejected_ns = ejected, "endpoint failed");
            }
            Err(_) => {}
        }
        Ok(Reached { far: reached?, outstanding: Some(outstanding) })
    }

    /// One address, under the deadline of one attempt.
    async fn to_endpoint(
        &self,
        address: SocketAddr,
        workload: Option<&Arc<Workload>>,
    ) -> Result<Far, CloseReason> {
        self.record.attempt();
        let attempt = Instant::now() + self.worker.shared.connect.attempt;
        let until = attempt.min(self.deadline);
        let connected = async {
            match workload {
                // A pod that calls itself stays inside the pod.
                Some(pod) if pod.uid == self.here.workload.uid => self.plain(address).await,
                Some(pod) if pod.meshed => self.through_tunnel(address, pod).await,
                Some(_) | None => self.plain(address).await,
            }
        };
        if let Some(workload) = workload {
            self.record.peer(Some(Arc::clone(workload)), workload.meshed.then(|| workload.identity.clone()));
        }
        timeout_at(until, connected).await.unwrap_or(Err(CloseReason::ConnectFailed))
    }

    async fn plain(&self, address: SocketAddr) -> Result<Far, CloseReason> {
        self.record.security(Security::None);
        let dialled = self.worker.stock.dial(&self.pod.namespace, address).await;
        dialled.map(Far::Socket).map_err(|error| {
            tracing::debug!(%address, %error, "cannot connect");
            CloseReason::ConnectFailed
        })
    }

    async fn to_application(&self, address: SocketAddr, client: IpAddr) -> Result<Far, CloseReason> {
        self.record.attempt();
        let delivered = self.worker.stock.deliver(&self.pod.namespace, client, address);
        match timeout_at(self.deadline, delivered).await {
            Ok(Ok(application)) => Ok(Far::Socket(application)),
            Ok(Err(error)) => {
                tracing::debug!(%address, %client, %error, "the application does not accept");
                Err(CloseReason::ApplicationRefused)
            }
            Err(_) => Err(CloseReason::ApplicationRefused),
        }
    }

    /// By tunnel or not at all: the mesh knows that this pod is captured.
    async fn through_tunnel(&self, address: SocketAddr, workload: &Workload) -> Result<Far, CloseReason> {
        self.record.security(Security::MutualTls);
        let identity = self.identity().await?;
        let key = Key {
            pod: self.pod.namespace.cookie(),
            peer: SocketAddr::new(address.ip(), TUNNEL_PORT),
            identity: identity.id.clone(),
            serial: Arc::clone(&identity.serial),
            expected: workload.identity.clone(),
        };
        let opened = self.worker.pool.open(&key, &self.request(address), || self.dial(&key, &identity)).await;
        match opened {
            Ok(stream) => {
                Ok(Far::Stream { send: stream.send, receive: stream.receive, socket: stream.socket })
            }
            Err(error) => {
                tracing::debug!(peer = %key.peer, expected = %key.expected, %error, "no tunnel");
                Err(reason_of(&error))
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
    ) -> impl Future<Output = Result<reference::ReferenceTunnel, OpenError>> + 'static {
        let worker = Rc::clone(self.worker);
        let (namespace, identity, key) = (Arc::clone(&self.pod.namespace), Arc::clone(identity), key.clone());
        async move {
            let socket = worker.stock.dial(&namespace, key.peer);
            let secure = async |io| {
                let stream = crate::tls::connect(&identity, &key.expected, key.peer.ip(), io).await?;
                let resumed = stream.get_ref().1.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
                worker.gauge.count_built(resumed);
                Ok::<_, crate::tls::TlsError>(stream)
            };
            reference::connect(&worker.shared.tunnels, socket, secure).await
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
            connection: ConnectionId(self.record.id()),
        }
    }
}

/// Whether an endpoint should be avoided for this; a missing certificate of ours is no fault of it.
fn is_endpoints_fault(reason: CloseReason) -> bool {
    matches!(
        reason,
        CloseReason::ConnectFailed
            | CloseReason::TlsFailure
            | CloseReason::H2Handshake
            | CloseReason::Refused(503)
    )
}

fn reason_of(error: &OpenError) -> CloseReason {
    match error {
        OpenError::Tls(_) => CloseReason::TlsFailure,
        OpenError::Handshake(_) | OpenError::HandshakeTimeout(_) => CloseReason::H2Handshake,
        OpenError::Refused(status) => CloseReason::Refused(*status),
        OpenError::Draining => CloseReason::Shutdown,
        OpenError::Dial(_)
        | OpenError::DialTimeout(_)
        | OpenError::Request(_)
        | OpenError::NotProcessed
        | OpenError::Reset(_)
        | OpenError::Tunnel(_) => CloseReason::ConnectFailed,
    }
}
