//! Stage `route`: where a connection may go. Pure.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use super::arrival::Arrival;
use crate::{
    config::{INBOUND_PORT, OUTBOUND_PORT, TUNNEL_PORT},
    observe::CloseReason,
    snapshot::{LocalPod, MtlsMode, Route, ServicePort, Snapshot, Workload},
    tunnel::{Authority, Incoming},
};

/// Where to.
#[derive(Debug)]
pub enum Target<'snapshot> {
    /// Any endpoint of a service port.
    Service(&'snapshot ServicePort),
    /// That pod and no other.
    Pod(&'snapshot Arc<Workload>, SocketAddr),
    /// Not of the mesh: plain TCP.
    Outside(SocketAddr),
    /// The pod's own application, in the caller's name.
    Application {
        /// The pod's address and the application's port.
        address: SocketAddr,
        /// Whose address the application shall see.
        client: IpAddr,
    },
}

/// Chooses the target of an arrival.
///
/// # Errors
/// Why it is refused.
pub fn choose<'snapshot, I: Incoming>(
    snapshot: &'snapshot Snapshot,
    here: &LocalPod,
    arrival: &Arrival<I>,
    destination: SocketAddr,
) -> Result<Target<'snapshot>, CloseReason> {
    match arrival {
        Arrival::Captured { .. } => outbound(snapshot, destination),
        Arrival::Plaintext { client, .. } => plaintext(&here.workload, destination, client.ip()),
        Arrival::Tunnelled { request, client, own, .. } => {
            let address = stream(snapshot, here, &request.head().authority, *own)?;
            Ok(Target::Application { address, client: client.ip() })
        }
    }
}

/// Where a captured connection goes.
///
/// # Errors
/// Why it is refused.
pub fn outbound(snapshot: &Snapshot, destination: SocketAddr) -> Result<Target<'_>, CloseReason> {
    match snapshot.route(destination) {
        Route::Service(port) if port.endpoints.is_empty() => Err(CloseReason::NoEndpoints),
        Route::Service(port) => Ok(Target::Service(port)),
        Route::UnknownPort(_) => Err(CloseReason::UnknownPort),
        Route::Workload(workload) => Ok(Target::Pod(workload, destination)),
        Route::Outside => Ok(Target::Outside(destination)),
    }
}

/// Ports of the agent in a pod, which are nobody's destination: what is delivered to one would come in again.
fn is_reserved(port: u16) -> bool {
    [OUTBOUND_PORT, INBOUND_PORT, TUNNEL_PORT].contains(&port)
}

/// What becomes of a connection from outside to a pod that came without a tunnel.
///
/// # Errors
/// Why it is refused.
pub fn plaintext<'any>(
    pod: &Workload,
    address: SocketAddr,
    client: IpAddr,
) -> Result<Target<'any>, CloseReason> {
    // From outside a loopback address cannot be reached: a process of the pod dialled the agent's listener itself.
    if address.ip().is_loopback() || is_reserved(address.port()) {
        return Err(CloseReason::NotCaptured);
    }
    match pod.mtls_at(address.port()) {
        MtlsMode::Permissive => Ok(Target::Application { address, client }),
        MtlsMode::Strict => Err(CloseReason::PlaintextRefused),
    }
}

/// What a CONNECT may name: an address of the pod itself, or a service that this pod serves at that address.
///
/// # Errors
/// [`CloseReason::BadRequest`] for anything else.
pub fn stream(
    snapshot: &Snapshot,
    here: &LocalPod,
    authority: &Authority,
    own: IpAddr,
) -> Result<SocketAddr, CloseReason> {
    let address = match authority {
        Authority::Address(address) => *address,
        Authority::Host(host, port) => {
            served(snapshot, host, *port, own).ok_or(CloseReason::BadRequest(400))?
        }
    };
    let ours =
        address.ip().to_canonical() == own.to_canonical() || here.workload.addresses.contains(&address.ip());
    if ours && !is_reserved(address.port()) { Ok(address) } else { Err(CloseReason::BadRequest(400)) }
}

/// The target port of `host:port` at the pod with the address `own`.
fn served(snapshot: &Snapshot, host: &str, port: u16, own: IpAddr) -> Option<SocketAddr> {
    let mut labels = host.split('.');
    let (name, namespace) = (labels.next()?, labels.next()?);
    let place = snapshot
        .services
        .binary_search_by(|service| (&*service.namespace, &*service.name).cmp(&(namespace, name)))
        .ok()?;
    let service = snapshot.services.get(place).filter(|service| *service.hostname == *host)?;
    let ports = service.ports.iter().filter(|candidate| candidate.port == port);
    ports
        .flat_map(|found| &found.endpoints)
        .map(|endpoint| endpoint.address)
        .find(|address| address.ip() == own)
}
