//! Which endpoints a port gets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::{fields, snapshot};

/// Endpoints written as `(last number of the address, fields)`.
fn chosen(service: &str, endpoints: &[(u8, &str)]) -> Vec<u8> {
    let list: Vec<String> =
        endpoints.iter().map(|(last, fields)| format!("{{addresses: [10.1.0.{last}], {fields}}}")).collect();
    let yaml = format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: cart, namespace: shop}}, spec: {{clusterIP: 10.9.0.1, ports: [{{port: 80}}], {service}}}}}\n---\n\
         {{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: cart-1, namespace: shop, labels: {{kubernetes.io/service-name: cart}}}}, addressType: IPv4, ports: [{{port: 8080}}], endpoints: [{}]}}",
        list.join(", ")
    );
    let (snapshot, problems) = snapshot(&yaml);
    assert_eq!(problems, []);
    let port = &snapshot.service_ports[&("10.9.0.1".parse().unwrap(), 80)];
    assert_eq!(port.known_endpoints, endpoints.len());
    let last = |ip: std::net::IpAddr| match ip {
        std::net::IpAddr::V4(ip) => ip.octets()[3],
        std::net::IpAddr::V6(_) => panic!(),
    };
    port.endpoints.iter().map(|endpoint| last(endpoint.address.ip())).collect()
}

#[test]
fn follows_conditions_as_kube_proxy_does() {
    const NOT: &str = "conditions: {ready: false}";
    const LEAVING: &str = "conditions: {ready: false, serving: true, terminating: true}";
    const GONE: &str = "conditions: {ready: false, serving: false, terminating: true}";
    let all = [(1, ""), (2, "conditions: {ready: true}"), (3, NOT), (4, LEAVING)];
    assert_eq!(chosen("", &all), [1, 2]);
    assert_eq!(chosen("publishNotReadyAddresses: true", &all), [1, 2, 3, 4]);
    assert_eq!(chosen("", &[(3, NOT), (4, LEAVING), (5, GONE)]), [4]);
    assert_eq!(chosen("", &[(3, NOT), (5, GONE)]), [0u8; 0]);
    assert_eq!(chosen("", &[]), [0u8; 0]);
}

#[test]
fn local_policy_never_leaves_the_node() {
    let local = "internalTrafficPolicy: Local";
    let leaving = "nodeName: one, conditions: {ready: false, serving: true, terminating: true}";
    let hint = "nodeName: one, hints: {forZones: [{name: b}]}";
    assert_eq!(chosen(local, &[(1, "nodeName: one"), (2, "nodeName: two"), (3, "")]), [1]);
    assert_eq!(chosen(local, &[(2, "nodeName: two")]), [0u8; 0]);
    assert_eq!(chosen(local, &[(2, "nodeName: two"), (4, leaving)]), [4]);
    assert_eq!(chosen(local, &[(1, hint), (2, "nodeName: two, hints: {forZones: [{name: a}]}")]), [1]);
}

#[test]
fn hints_count_only_where_all_have_them_and_one_is_ours() {
    const A: &str = "zone: a, hints: {forZones: [{name: a}]}";
    const B: &str = "zone: b, hints: {forZones: [{name: b}]}";
    const NODE: &str = "hints: {forZones: [{name: a}], forNodes: [{name: one}]}";
    const OTHER: &str = "hints: {forZones: [{name: a}], forNodes: [{name: two}]}";
    assert_eq!(chosen("", &[(1, A), (2, B)]), [1]);
    assert_eq!(chosen("", &[(1, A), (2, B), (3, "zone: b")]), [1, 2, 3]);
    assert_eq!(chosen("", &[(1, A), (2, B), (3, "zone: b, conditions: {ready: false}")]), [1]);
    assert_eq!(chosen("", &[(2, B)]), [2]);
    assert_eq!(chosen("", &[(1, NODE), (2, OTHER)]), [1]);
    assert_eq!(chosen("", &[(2, OTHER), (3, B)]), [2]);
}

#[test]
fn distribution_is_computed_where_hints_are_absent() {
    let all = [(1, "zone: a, nodeName: one"), (2, "zone: a, nodeName: two"), (3, "zone: b, nodeName: three")];
    let far = [(3, "zone: b, nodeName: three")];
    type Case<'case> = (&'case str, &'case [(u8, &'case str)], &'case [u8]);
    let table: [Case<'_>; 6] = [
        ("trafficDistribution: PreferClose", &all, &[1, 2]),
        ("trafficDistribution: PreferSameZone", &all, &[1, 2]),
        ("trafficDistribution: PreferSameNode", &all, &[1]),
        ("trafficDistribution: PreferSameNode", &all[1..], &[2]),
        ("trafficDistribution: PreferSameNode", &far, &[3]),
        ("", &all, &[1, 2, 3]),
    ];
    for (service, endpoints, expected) in table {
        assert_eq!(chosen(service, endpoints), expected, "{service}");
    }
}

#[test]
fn merges_slices_and_says_what_does_not_fit() {
    let slice = |name: &str, rest: &str| {
        format!(
            "\n---\n{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: {name}, namespace: shop, labels: {{kubernetes.io/service-name: cart}}}}, {rest}}}"
        )
    };
    let yaml = "{apiVersion: v1, kind: Service, metadata: {name: cart, namespace: shop}, spec: {clusterIPs: [10.9.0.1, 'fd09::1'], ports: [{name: web, port: 80, targetPort: http}, {name: admin, port: 81}, {name: dns, port: 53, protocol: UDP}]}}"
        .to_owned()
        + &slice("a", "addressType: IPv4, ports: [{name: web, port: 8080}, {name: admin, port: 0}], endpoints: [{addresses: [10.1.0.1], conditions: {ready: false}}, {addresses: [10.1.0.2]}]")
        + &slice("b", "addressType: IPv4, ports: [{name: web, port: 8080}], endpoints: [{addresses: [10.1.0.1]}, {addresses: ['fd01::1']}, {addresses: [10.1.0.x]}]")
        + &slice("c", "addressType: IPv6, ports: [{name: web, port: 8081}], endpoints: [{addresses: ['fd01::2']}]")
        + &slice("d", "addressType: FQDN, endpoints: [{addresses: [example.com]}]");
    let (snapshot, problems) = snapshot(&yaml);
    let addresses = |ip: &str, port| -> Vec<String> {
        let port = &snapshot.service_ports[&(ip.parse().unwrap(), port)];
        port.endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect()
    };
    assert_eq!(addresses("10.9.0.1", 80), ["10.1.0.1:8080", "10.1.0.2:8080"]);
    assert_eq!(addresses("fd09::1", 80), ["[fd01::2]:8081"]);
    assert_eq!(addresses("10.9.0.1", 81), [""; 0]);
    assert_eq!(snapshot.service_ports.len(), 4);
    assert_eq!(
        fields(&problems),
        ["ports[1].port", "endpoints[1].addresses[0]", "endpoints[2].addresses[0]"]
    );
}
