//! Stages `balance` and `connect`: reaches the target, and where that is a service, one endpoint after the other until one
//! accepts, within a bounded number of tries and time. The application notices nothing: none of its bytes was read yet.
//!
//! ```text
//! endpoint   one given endpoint: straight, or through a tunnel
//! setback    whose business a failure is
//! ```

pub mod endpoint;
pub mod setback;

use std::{
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
};

use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};

use super::{arrival::Arrival, identify, route::Target};
use crate::{
    observe::{CloseReason, Connection, SocketWatch, Stage, TunnelSocket, monotonic_ns},
    resilience::{
        balance::{self, Outstanding},
        ejection::{self, EjectionPolicy},
        ewma,
    },
    snapshot::{Endpoint, LocalPod, ServicePort, Workload},
    tunnel::{
        Incoming, Tunnel,
        reference::{self, Carrier},
    },
    worker::{PodHere, Worker},
};

pub use endpoint::{Dialled, Journey};
pub use setback::Setback;

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
        socket: Option<Arc<TunnelSocket>>,
    },
}

impl Far {
    /// The tunnel below, where there is one.
    #[must_use]
    pub fn carrier(&self) -> Option<Carrier> {
        match self {
            Self::Stream { send, .. } => Some(send.carrier()),
            Self::Socket(_) => None,
        }
    }

    /// The tunnel's socket, to ask the kernel about for as long as the tunnel stands.
    #[must_use]
    pub fn watch_tunnel(&self) -> Option<SocketWatch> {
        match self {
            Self::Stream { socket, .. } => {
                socket.as_ref().map(|socket| SocketWatch::Tunnel(Arc::downgrade(socket)))
            }
            Self::Socket(_) => None,
        }
    }
}

/// A far side, and the load that it is on its endpoint while it lives.
pub struct Reached {
    /// Where the bytes go.
    pub far: Far,
    /// Counts on the endpoint until it is dropped.
    pub outstanding: Option<Outstanding>,
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
    let journey = Journey { worker, pod, here, client, service, record, deadline, mark: None };
    match target {
        Target::Service(port) => to_service(&journey, port).await,
        Target::Pod(workload, address) => to_only(&journey, *address, Some(workload)).await,
        Target::Outside(address) => to_only(&journey, *address, None).await,
        Target::Application { address, client } => {
            let far = to_application(&journey, *address, *client).await?;
            Ok(Reached { far, outstanding: None })
        }
    }
}

/// Tries endpoints until one accepts.
async fn to_service(journey: &Journey<'_>, port: &ServicePort) -> Result<Reached, CloseReason> {
    let mut tried = Vec::new();
    let mut last = CloseReason::NoEndpoints;
    for _ in 0..journey.worker.shared.connect.attempts {
        if Instant::now() >= journey.deadline {
            break;
        }
        let Some(endpoint) = pick(journey, port, &tried) else { break };
        match try_endpoint(journey, port, endpoint).await {
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
    journey: &Journey<'_>,
    address: SocketAddr,
    workload: Option<&Arc<Workload>>,
) -> Result<Reached, CloseReason> {
    let dialled = journey.to_endpoint(address, workload).await.map_err(Setback::reason)?;
    Ok(Reached { far: dialled.far, outstanding: None })
}

fn pick<'port>(
    journey: &Journey<'_>,
    port: &'port ServicePort,
    tried: &[SocketAddr],
) -> Option<&'port Endpoint> {
    let mut random = || fastrand::u64(..);
    let client = identify::own_address(journey.here, journey.client.ip()).unwrap_or(journey.client.ip());
    let index = balance::pick_affine(port, client, tried, monotonic_ns(), &mut random)?;
    port.endpoints.get(index)
}

async fn try_endpoint(
    journey: &Journey<'_>,
    port: &ServicePort,
    endpoint: &Endpoint,
) -> Result<Reached, Setback> {
    let outstanding = Outstanding::new(&endpoint.load);
    journey.record.endpoint(endpoint.address);
    let reached = journey.to_endpoint(endpoint.address, endpoint.workload.as_ref()).await;
    let now = monotonic_ns();
    match &reached {
        Ok(dialled) => {
            ewma::observe(&endpoint.load, u64::try_from(dialled.took.as_nanos()).unwrap_or(u64::MAX), now);
            ejection::succeeded(&endpoint.load);
        }
        Err(setback) if setback.is_endpoints_fault() => {
            let ejected = ejection::failed(port, &endpoint.load, &EjectionPolicy::default(), now);
            let reason = setback.reason();
            tracing::debug!(address = %endpoint.address, %reason, ejected_ns = ejected, "endpoint failed");
        }
        Err(_) => {}
    }
    Ok(Reached { far: reached?.far, outstanding: Some(outstanding) })
}

async fn to_application(
    journey: &Journey<'_>,
    address: SocketAddr,
    client: IpAddr,
) -> Result<Far, CloseReason> {
    journey.record.attempt();
    let delivered = journey.worker.stock.deliver(&journey.pod.namespace, client, address);
    match timeout_at(journey.deadline, delivered).await {
        Ok(Ok(application)) => {
            journey.record.stage(Stage::Dialled);
            Ok(Far::Socket(application))
        }
        Ok(Err(error)) => {
            tracing::debug!(%address, %client, %error, "the application does not accept");
            Err(CloseReason::ApplicationRefused)
        }
        Err(_) => Err(CloseReason::TimedOut),
    }
}
