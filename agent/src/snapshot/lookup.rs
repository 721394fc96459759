//! Where a destination leads. Pure.

use super::{Service, ServicePort, Snapshot, Workload};
use std::net::SocketAddr;

/// What a destination address means in this snapshot.
#[derive(Debug)]
pub enum Route<'snapshot> {
    /// A ClusterIP and a port of it.
    Service(&'snapshot ServicePort),
    /// A ClusterIP, but no port of it: refused, as kube-proxy does.
    UnknownPort(&'snapshot Service),
    /// A pod's own address (also what the name of a headless service resolves to).
    Workload(&'snapshot std::sync::Arc<Workload>),
    /// Nothing the mesh knows: passed through in plain TCP.
    Outside,
}

impl Snapshot {
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
