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
        let named = self.elsewhere.find(address);
        match (self.workloads.get(&address), named) {
            // A slice that names another pod is newer than what is known of the address.
            (Some(workload), Some(pod)) if !pod.is(&workload.uid) => Peer::Unknown(pod),
            (Some(workload), _) => Peer::Known(workload),
            (None, Some(pod)) if self.on_host.contains(&*pod.uid) => Peer::Outside,
            (None, Some(pod)) => Peer::Unknown(pod),
            (None, None) => Peer::Outside,
        }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use crate::snapshot::build::{PodScope, build, tests};

    const OBJECTS: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {posthaste.dev/mesh: enabled}}
---
apiVersion: v1
kind: Namespace
metadata: {name: plain}
---
apiVersion: v1
kind: Pod
metadata: {name: known, namespace: shop, uid: u-known}
status: {podIPs: [{ip: 10.0.0.1}]}
---
apiVersion: v1
kind: Pod
metadata: {name: stale, namespace: shop, uid: u-stale}
status: {podIPs: [{ip: 10.0.0.2}]}
---
apiVersion: v1
kind: Pod
metadata: {name: host, namespace: shop, uid: u-host}
spec: {hostNetwork: true}
status: {podIPs: [{ip: 10.0.0.3}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: x, namespace: shop, labels: {kubernetes.io/service-name: x}}
addressType: IPv4
endpoints:
- {addresses: [10.0.0.1], targetRef: {kind: Pod, name: known, uid: u-known}}
- {addresses: [10.0.0.2], targetRef: {kind: Pod, name: fresh, uid: u-fresh}}
- {addresses: [10.0.0.3], targetRef: {kind: Pod, name: host, uid: u-host}}
- {addresses: [10.0.0.4], targetRef: {kind: Pod, name: asked, uid: u-asked}}
- {addresses: [10.0.0.5]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: y, namespace: plain, labels: {kubernetes.io/service-name: y}}
addressType: IPv4
endpoints: [{addresses: [10.0.0.6], targetRef: {kind: Pod, name: other, uid: u-other}}]
"#;

    fn shown(snapshot: &Snapshot, address: &str) -> String {
        match snapshot.peer(address.parse().unwrap()) {
            Peer::Known(workload) => format!("known {}", workload.name),
            Peer::Unknown(pod) => format!("unknown {}/{} {}", pod.namespace, pod.name, pod.uid),
            Peer::Outside => "outside".to_owned(),
        }
    }

    #[test]
    fn a_pod_that_only_a_slice_names_is_not_outside() {
        let mut context = tests::context();
        context.pods = PodScope::OfThisNode;
        let (snapshot, _) = build(&tests::inputs(OBJECTS), &context, None);
        let table = [
            ("10.0.0.1", "known known"),
            ("10.0.0.2", "unknown shop/fresh u-fresh"),
            ("10.0.0.3", "outside"),
            ("10.0.0.4", "unknown shop/asked u-asked"),
            ("::ffff:10.0.0.4", "unknown shop/asked u-asked"),
            ("10.0.0.5", "outside"),
            ("10.0.0.6", "outside"),
            ("10.0.0.7", "outside"),
        ];
        for (address, wanted) in table {
            assert_eq!(shown(&snapshot, address), wanted, "{address}");
        }
        // Where every pod is read there is nothing to ask for.
        let (whole, _) = build(&tests::inputs(OBJECTS), &tests::context(), None);
        assert_eq!(
            (shown(&whole, "10.0.0.2"), shown(&whole, "10.0.0.4")),
            ("known stale".into(), "outside".into())
        );
        // What did not change is the same.
        let inputs = tests::inputs(OBJECTS);
        let (first, _) = build(&inputs, &context, None);
        let (second, _) = build(&inputs, &context, Some(&first));
        let of = |snapshot: &Snapshot| snapshot.elsewhere.namespaces.get("shop").cloned().unwrap();
        assert!(Arc::ptr_eq(&of(&first), &of(&second)));
    }
}
