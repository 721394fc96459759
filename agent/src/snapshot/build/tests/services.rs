//! Addresses and ports of services, and what is carried over.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::{Arc, atomic::Ordering::Relaxed};

use super::{build, context, fields, inputs, snapshot};
use crate::snapshot::Route;

fn service(name: &str, metadata: &str, spec: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: shop, {metadata}}}, spec: {{{spec}}}}}\n---\n"
    )
}

#[test]
fn who_has_an_address() {
    let ports = "ports: [{port: 80}]";
    let table = [
        (format!("clusterIP: 10.9.0.1, {ports}"), 1, vec![]),
        (format!("clusterIPs: [10.9.0.1, 'fd00::9'], {ports}"), 2, vec![]),
        (format!("clusterIP: None, {ports}"), 0, vec![]),
        (format!("type: ExternalName, externalName: a.b, {ports}"), 0, vec![]),
        (format!("type: LoadBalancer, clusterIP: 10.9.0.1, {ports}"), 1, vec![]),
        (ports.to_owned(), 0, vec!["spec.clusterIP"]),
        (format!("clusterIP: 10.9.0, {ports}"), 0, vec!["spec.clusterIPs[0]"]),
        (format!("type: Clusterip, clusterIP: 10.9.0.1, {ports}"), 0, vec!["spec.type"]),
        ("clusterIP: 10.9.0.1, ports: [{port: 0}, {port: 70000}]".into(), 0, vec!["spec.ports[0].port", "spec.ports[1].port"]),
        ("clusterIP: 10.9.0.1, ports: [{port: 80, name: a}, {port: 80, name: b}, {port: 80, protocol: UDP, name: c}]".into(), 1, vec!["spec.ports[1].port"]),
        ("clusterIP: 10.9.0.1, ports: [{port: 80, protocol: tcp}]".into(), 0, vec!["spec.ports[0].protocol"]),
        (format!("clusterIP: 10.9.0.1, internalTrafficPolicy: local, trafficDistribution: Near, {ports}"), 1, vec!["spec.internalTrafficPolicy", "spec.trafficDistribution"]),
    ];
    for (spec, count, problems) in table {
        let (snapshot, found) = snapshot(&service("cart", "", &spec));
        assert_eq!((snapshot.service_ports.len(), fields(&found)), (count, problems), "{spec}");
        assert_eq!(snapshot.services.len(), 1);
    }
}

#[test]
fn affinity_and_its_time_out() {
    let table = [
        ("", None, 0),
        ("sessionAffinity: None", None, 0),
        ("sessionAffinity: ClientIP", Some(10_800), 0),
        ("sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 5}}", Some(5), 0),
        (
            "sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 0}}",
            Some(10_800),
            1,
        ),
        ("sessionAffinity: ClientIp", None, 1),
    ];
    for (spec, seconds, problems) in table {
        let (snapshot, found) =
            snapshot(&service("cart", "", &format!("clusterIP: 10.9.0.1, ports: [{{port: 80}}], {spec}")));
        let port = &snapshot.service_ports[&("10.9.0.1".parse().unwrap(), 80)];
        assert_eq!((port.affinity_seconds, found.len()), (seconds, problems), "{spec}");
    }
}

#[test]
fn the_oldest_service_keeps_an_address() {
    let spec = "clusterIP: 10.9.0.1, ports: [{port: 80}]";
    let created = |time: &str| format!("creationTimestamp: '{time}'");
    let (old, new) = (created("2025-01-01T00:00:00Z"), created("2026-01-01T00:00:00Z"));
    for (a, b, winner) in [(&*old, &*new, "a"), (&new, &old, "b"), ("", "", "a"), ("", &old, "b")] {
        let (snapshot, problems) = snapshot(&(service("a", a, spec) + &service("b", b, spec)));
        assert_eq!(&*snapshot.service_ports[&("10.9.0.1".parse().unwrap(), 80)].service_name, winner);
        assert_eq!(fields(&problems), ["spec.clusterIPs[0]"]);
    }
}

#[test]
fn shows_the_endpoints_of_a_headless_service() {
    let yaml = service("cart", "", "clusterIP: None, ports: [{port: 80}]")
        + "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: c, namespace: shop, labels: {kubernetes.io/service-name: cart}}, addressType: IPv6, ports: [{port: 8080}], endpoints: [{addresses: ['fd00::1']}]}";
    let (snapshot, problems) = snapshot(&yaml);
    assert!(snapshot.service_ports.is_empty() && problems.is_empty());
    assert_eq!(snapshot.services[0].ports.len(), 1);
    assert_eq!(snapshot.services[0].ports[0].endpoints.len(), 1);
}

#[test]
fn routes_by_service_pod_and_outside() {
    let yaml = service("cart", "", "clusterIP: 10.9.0.1, ports: [{port: 80}]")
        + "{apiVersion: v1, kind: Pod, metadata: {name: p}, status: {podIP: 10.1.0.1}}";
    let (snapshot, _) = snapshot(&yaml);
    let route = |text: &str| snapshot.route(text.parse().unwrap());
    assert!(matches!(route("10.9.0.1:80"), Route::Service(port) if port.port == 80));
    assert!(matches!(route("[::ffff:10.9.0.1]:80"), Route::Service(_)));
    assert!(matches!(route("10.9.0.1:81"), Route::UnknownPort(service) if &*service.name == "cart"));
    assert!(matches!(route("10.1.0.1:5"), Route::Workload(workload) if &*workload.name == "p"));
    assert!(matches!(route("192.0.2.1:80"), Route::Outside));
}

#[test]
fn carries_over_what_was_learnt_and_what_did_not_change() {
    let slice = |address: &str| {
        format!(
            "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: c, namespace: shop, labels: {{kubernetes.io/service-name: cart}}}}, addressType: IPv4, ports: [{{port: 8080}}], endpoints: [{{addresses: [10.1.0.1]}}, {{addresses: [{address}]}}]}}\n---\n"
        )
    };
    let pod = "{apiVersion: v1, kind: Pod, metadata: {name: p}, status: {podIP: 10.1.0.1}}";
    let before = service("cart", "", "clusterIP: 10.9.0.1, ports: [{port: 80}]") + &slice("10.1.0.2") + pod;
    let after = service("cart", "", "clusterIP: 10.9.0.7, ports: [{port: 81}]") + &slice("10.1.0.3") + pod;
    let (first, _) = build(&inputs(&before), &context(), None);
    let old = &first.service_ports[&("10.9.0.1".parse().unwrap(), 80)];
    old.endpoints.iter().for_each(|endpoint| endpoint.load.outstanding.store(7, Relaxed));
    let (second, _) = build(&inputs(&after), &context(), Some(&first));
    let new = &second.service_ports[&("10.9.0.7".parse().unwrap(), 81)];
    let loads: Vec<u32> =
        new.endpoints.iter().map(|endpoint| endpoint.load.outstanding.load(Relaxed)).collect();
    assert_eq!(loads, [7, 0]);
    // The first endpoints of a port are not new beside any other; one that is added is, from the first look at it.
    let since: Vec<u64> = new.endpoints.iter().map(|endpoint| endpoint.load.since_ns.load(Relaxed)).collect();
    assert_eq!(since, [1, 0]);
    assert!(Arc::ptr_eq(&old.state, &new.state));
    let workload = new.endpoints[0].workload.as_ref().unwrap();
    assert!(Arc::ptr_eq(workload, old.endpoints[0].workload.as_ref().unwrap()));
}
