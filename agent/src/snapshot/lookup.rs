//! Where a destination leads. Pure.

use super::{PodKey, Service, ServicePort, Snapshot, Workload};
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// What a destination address means in this snapshot.
#[derive(Debug)]
pub enum Route<'snapshot> {
    /// A ClusterIP and a port of it.
    Service(&'snapshot ServicePort),
    /// A ClusterIP, but no port of it: refused, as kube-proxy does.
    UnknownPort(&'snapshot Service),
    /// A pod's own address (also what the name of a headless service resolves to).
    Workload(&'snapshot Arc<Workload>),
    /// Nothing the mesh knows: passed through in plain TCP.
    Outside,
}

/// Who stands at an address that somebody wants to dial.
#[derive(Debug)]
pub enum Peer<'snapshot> {
    /// A pod that the mesh knows.
    Known(&'snapshot Arc<Workload>),
    /// A pod of an enrolled namespace of which only the name is known: it is to be asked for before anything is sent.
    Unknown(PodKey),
    /// No pod of the mesh.
    Outside,
}

impl Snapshot {
    /// Finds who stands at `address`.
    #[must_use]
    pub fn peer(&self, address: IpAddr) -> Peer<'_> {
        let address = address.to_canonical();
        if let Some(workload) = self.workloads.get(&address) {
            return Peer::Known(workload);
        }
        self.elsewhere.find(address).map_or(Peer::Outside, Peer::Unknown)
    }

    /// Finds what `destination` means, in constant time.
    #[must_use]
    pub fn route(&self, destination: SocketAddr) -> Route<'_> {
        let address = destination.ip().to_canonical();
        if let Some(port) = self.service_ports.get(&(address, destination.port())) {
            return Route::Service(port);
        }
        if let Some(service) = self.cluster_ips.get(&address) {
            return Route::UnknownPort(service);
        }
        self.workloads.get(&address).map_or(Route::Outside, Route::Workload)
    }
}
