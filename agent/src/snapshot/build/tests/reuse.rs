//! What is taken over from the previous snapshot, and what must not be.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::Arc;

use super::{build, context, inputs};
use crate::snapshot::{
    Snapshot,
    input::{EndpointRef, Inputs, Labels},
};

const OBJECTS: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {posthaste.dev/mesh: enabled}}
---
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: shop}
spec: {nodeName: two}
status: {podIPs: [{ip: 10.0.0.1}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIPs: [10.96.0.1, "fd96::1"], ports: [{name: x, port: 80}, {name: y, port: 81}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: w4, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: x, port: 8080}, {name: y, port: 8081}]
endpoints: [{addresses: [10.0.0.1]}, {addresses: [10.0.0.2]}]
---
apiVersion: v1
kind: Service
metadata: {name: other, namespace: shop}
spec: {clusterIPs: [10.96.0.2], ports: [{port: 80}]}
"#;

fn web(snapshot: &Snapshot) -> Arc<crate::snapshot::Service> {
    snapshot.services.iter().find(|service| &*service.name == "web").unwrap().clone()
}

/// Whether `web` is taken over when `change` was made to the same objects, and what became of them.
fn after(change: impl FnOnce(&mut Inputs)) -> (bool, Snapshot) {
    let mut objects = inputs(OBJECTS);
    let (first, _) = build(&objects, &context(), None);
    change(&mut objects);
    let (second, _) = build(&objects, &context(), Some(&first));
    (Arc::ptr_eq(&web(&first), &web(&second)), second)
}

#[test]
fn what_did_not_change_is_taken_over_with_all_its_places() {
    let (same, snapshot) = after(|_| ());
    assert!(same);
    assert_eq!(snapshot.service_ports.len(), 5);
    for (address, port, target) in [("10.96.0.1", 80, 8080), ("10.96.0.1", 81, 8081)] {
        let found = &snapshot.service_ports[&(address.parse().unwrap(), port)];
        assert_eq!(found.endpoints[0].address.port(), target);
    }
    assert!(snapshot.service_ports.contains_key(&("fd96::1".parse().unwrap(), 81)));
    assert!(snapshot.cluster_ips.contains_key(&"fd96::1".parse().unwrap()));
    // Also over several snapshots.
    let mut last = snapshot;
    let objects = inputs(OBJECTS);
    for _ in 0..3 {
        last = build(&objects, &context(), Some(&last)).0;
        assert_eq!(last.service_ports.len(), 5);
    }
}

#[test]
fn another_service_changes_nothing() {
    let (same, _) = after(|objects| {
        let other = objects.services.iter_mut().find(|service| &*service.metadata.name == "other").unwrap();
        Arc::make_mut(other).ports[0].port = 90;
    });
    assert!(same);
}

#[test]
fn a_slice_a_pod_or_a_policy_that_changed_is_seen() {
    let (same, snapshot) = after(|objects| {
        let slice = Arc::make_mut(&mut objects.endpoint_slices[0]);
        slice.endpoints = slice.endpoints.iter().take(1).map(EndpointRef::unpacked).collect();
    });
    assert!(!same);
    assert_eq!(web(&snapshot).ports[0].endpoints.len(), 1);

    let (same, snapshot) =
        after(|objects| Arc::make_mut(&mut objects.pods[0]).service_account = "another".into());
    assert!(!same);
    let workload = web(&snapshot).ports[0].endpoints[0].workload.clone().unwrap();
    assert!(workload.identity.to_string().ends_with("/sa/another"));

    let (same, snapshot) = after(|objects| objects.pods.clear());
    assert!(!same);
    assert!(web(&snapshot).ports[0].endpoints[0].workload.is_none());

    let policy = "apiVersion: posthaste.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: p, namespace: shop}\n\
        spec: {targetRefs: [{kind: Service, name: web}], retry: {attempts: 7}}\n";
    let (same, snapshot) = after(|objects| objects.traffic_policies = inputs(policy).traffic_policies);
    assert!(!same);
    assert_eq!(web(&snapshot).ports[0].policy.origins.len(), 1);

    let (same, _) =
        after(|objects| Arc::make_mut(&mut objects.namespaces[0]).metadata.labels = Labels::default());
    assert!(!same, "its pods are not captured any more");
}

#[test]
fn an_address_that_another_claims_is_judged_anew() {
    let (_, snapshot) = after(|objects| {
        let other = objects.services.iter_mut().find(|service| &*service.metadata.name == "other").unwrap();
        let other = Arc::make_mut(other);
        (other.cluster_ips, other.metadata.created) = (vec!["10.96.0.1".into()], Some(1));
    });
    assert_eq!(&*snapshot.cluster_ips[&"10.96.0.1".parse().unwrap()].name, "other");
    assert_eq!(web(&snapshot).cluster_ips, ["fd96::1".parse::<std::net::IpAddr>().unwrap()]);
}
