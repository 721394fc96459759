//! Stages `balance` and `connect`: reaches the target, and where that is a service, one endpoint after the other until one
//! accepts, within a bounded number of tries and time. The application notices nothing: none of its bytes was read yet.

use std::{
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};

use super::{accept, arrival::Arrival, identify, route::Target};
use crate::{
    config::TUNNEL_PORT,
    observe::{CloseReason, Connection, Security, monotonic_ns},
    resilience::{
        balance::{self, Outstanding},
        ejection::{self, EjectionPolicy},
        ewma,
    },
    snapshot::{Endpoint, LocalPod, ServicePort, Workload},
    tls::{self, TlsIdentity},
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

/// Why an endpoint was not reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Setback {
    /// No other endpoint would do better.
    Here(CloseReason),
    /// Another one may.
    There(CloseReason),
}

impl Setback {
    fn reason(self) -> CloseReason {
        match self {
            Self::Here(reason) | Self::There(reason) => reason,
        }
    }
}

/// How to get to an address.
enum Way<'workload> {
    /// Straight: outside, not in the mesh, or this very pod.
    Plain,
    /// By tunnel or not at all, with our certificate: the mesh knows that this pod is captured.
    Tunnel(&'workload Arc<Workload>, Arc<TlsIdentity>),
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
    match target {
        Target::Service(port) => journey.to_service(port).await,
        Target::Pod(workload, address) => journey.to_only(*address, Some(workload)).await,
        Target::Outside(address) => journey.to_only(*address, None).await,
        Target::Application { address, client } => {
            let far = journey.to_application(*address, *client).await?;
            Ok(Reached { far, outstanding: None })
        }
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
                Err(Setback::Here(reason)) => return Err(reason),
                Err(Setback::There(reason)) => last = reason,
            }
            tried.push(endpoint.address);
        }
        Err(last)
    }

    /// The only address there is.
    async fn to_only(
        &self,
        address: SocketAddr,
        workload: Option<&Arc<Workload>>,
    ) -> Result<Reached, CloseReason> {
        let way = self.way(workload).await.map_err(Setback::reason)?;
        let (far, _) = self.to_endpoint(address, &way).await.map_err(Setback::reason)?;
        Ok(Reached { far, outstanding: None })
    }

    fn pick<'port>(&self, port: &'port ServicePort, tried: &[SocketAddr]) -> Option<&'port Endpoint> {
        let mut random = || fastrand::u64(..);
        let client = identify::own_address(self.here, self.client.ip()).unwrap_or(self.client.ip());
        let index = balance::pick_affine(port, client, tried, monotonic_ns(), &mut random)?;
        port.endpoints.get(index)
    }

    async fn try_endpoint(&self, port: &ServicePort, endpoint: &Endpoint) -> Result<Reached, Setback> {
        let outstanding = Outstanding::new(&endpoint.load);
        self.record.endpoint(endpoint.address);
        let way = self.way(endpoint.workload.as_ref()).await?;
        let reached = self.to_endpoint(endpoint.address, &way).await;
        let now = monotonic_ns();
        match &reached {
            Ok((_, took)) => {
                ewma::observe(&endpoint.load, u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), now);
                ejection::succeeded(&endpoint.load);
            }
            Err(Setback::There(reason)) if is_endpoints_fault(*reason) => {
                let ejected = ejection::failed(port, &endpoint.load, &EjectionPolicy::default(), now);
                tracing::debug!(address = %endpoint.address, %reason, ejected_ns = ejected, "endpoint failed");
            }
            Err(_) => {}
        }
        Ok(Reached { far: reached?.0, outstanding: Some(outstanding) })
    }

    /// How to get to a pod. A tunnel needs our certificate, for which all the time there is may be spent: no endpoint is to
    /// blame for its absence, and no other would do without.
    async fn way<'workload>(
        &self,
        workload: Option<&'workload Arc<Workload>>,
    ) -> Result<Way<'workload>, Setback> {
        self.record.peer(workload.map(Arc::clone), None);
        match workload {
            // A pod that calls itself stays inside the pod.
            Some(pod) if pod.meshed && pod.uid != self.here.workload.uid => {
                self.record.security(Security::MutualTls);
                let identity = timeout_at(self.deadline, self.identity()).await;
                Ok(Way::Tunnel(
                    pod,
                    identity.unwrap_or(Err(CloseReason::IdentityError)).map_err(Setback::Here)?,
                ))
            }
            Some(_) | None => {
                self.record.security(Security::None);
                Ok(Way::Plain)
            }
        }
    }

    /// One address, under the deadline of one attempt; and how long it took to accept. What a new tunnel took beside is no
    /// fault of the endpoint, and the next connection will not pay it.
    async fn to_endpoint(&self, address: SocketAddr, way: &Way<'_>) -> Result<(Far, Duration), Setback> {
        self.record.attempt();
        let attempt = Instant::now() + self.worker.shared.connect.attempt;
        let connected = async {
            match way {
                Way::Plain => {
                    let started = Instant::now();
                    let far = self.plain(address).await.map_err(Setback::There)?;
                    Ok((far, started.elapsed()))
                }
                Way::Tunnel(pod, identity) => self.through_tunnel(address, pod, identity).await,
            }
        };
        let too_slow = Err(Setback::There(CloseReason::ConnectFailed));
        timeout_at(attempt.min(self.deadline), connected).await.unwrap_or(too_slow)
    }

    async fn plain(&self, address: SocketAddr) -> Result<Far, CloseReason> {
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

    async fn through_tunnel(
        &self,
        address: SocketAddr,
        workload: &Arc<Workload>,
        identity: &Arc<TlsIdentity>,
    ) -> Result<(Far, Duration), Setback> {
        let key = Key {
            pod: self.pod.namespace.cookie(),
            peer: SocketAddr::new(address.ip(), TUNNEL_PORT),
            identity: identity.id.clone(),
            serial: Arc::clone(&identity.serial),
            expected: workload.identity.clone(),
        };
        let opened = self.worker.pool.open(&key, &self.request(address), || self.dial(&key, identity)).await;
        match opened {
            Ok(stream) => {
                self.record.peer(Some(Arc::clone(workload)), Some(workload.identity.clone()));
                let far = Far::Stream { send: stream.send, receive: stream.receive, socket: stream.socket };
                Ok((far, stream.waited))
            }
            Err(error) => {
                tracing::debug!(peer = %key.peer, expected = %key.expected, %error, "no tunnel");
                Err(setback_of(&error))
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
                let connected = tls::connect(&identity, &key.expected, key.peer.ip(), io).await;
                let stream = connected.map_err(|error| open_error(&error))?;
                let resumed = stream.get_ref().1.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
                worker.gauge.count_built(resumed);
                Ok(stream)
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

fn open_error(error: &tls::TlsError) -> OpenError {
    let text = error.to_string().into();
    match accept::reason_of(error) {
        CloseReason::IdentityError => OpenError::Identity(text),
        _ => OpenError::Tls(text),
    }
}

/// Whether an endpoint should be avoided for this. Whoever stands there with another's identity is no endpoint.
fn is_endpoints_fault(reason: CloseReason) -> bool {
    matches!(
        reason,
        CloseReason::ConnectFailed
            | CloseReason::IdentityError
            | CloseReason::TlsFailure
            | CloseReason::H2Handshake
            | CloseReason::Refused(503)
    )
}

/// Which endpoint's business a failure is. A policy that refuses us does so everywhere; after a reset an application may have
/// seen the connection.
fn setback_of(error: &OpenError) -> Setback {
    let reason = reason_of(error);
    match error {
        OpenError::Draining | OpenError::Request(_) | OpenError::Reset(_) | OpenError::Refused(401 | 403) => {
            Setback::Here(reason)
        }
        _ => Setback::There(reason),
    }
}

fn reason_of(error: &OpenError) -> CloseReason {
    match error {
        OpenError::Tls(_) => CloseReason::TlsFailure,
        OpenError::Identity(_) => CloseReason::IdentityError,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_business_a_failure_is() {
        let table = [
            (OpenError::Dial("refused".into()), Setback::There(CloseReason::ConnectFailed), true),
            (OpenError::Identity("an impostor".into()), Setback::There(CloseReason::IdentityError), true),
            (OpenError::Tls("alert".into()), Setback::There(CloseReason::TlsFailure), true),
            (OpenError::Refused(503), Setback::There(CloseReason::Refused(503)), true),
            (OpenError::Refused(400), Setback::There(CloseReason::Refused(400)), false),
            (OpenError::Refused(401), Setback::Here(CloseReason::Refused(401)), false),
            (OpenError::Reset(2), Setback::Here(CloseReason::ConnectFailed), false),
            (OpenError::Draining, Setback::Here(CloseReason::Shutdown), false),
        ];
        for (error, setback, fault) in table {
            assert_eq!(setback_of(&error), setback, "{error}");
            let counted = matches!(setback, Setback::There(reason) if is_endpoints_fault(reason));
            assert_eq!(counted, fault, "{error}");
        }
    }
}
