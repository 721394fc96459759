//! Namespaces and pods.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::{fields, snapshot};
use crate::snapshot::{FailMode, MtlsMode};

fn namespace(labels: &str, annotations: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Namespace, metadata: {{name: shop, labels: {{{labels}}}, annotations: {{{annotations}}}}}}}\n---\n"
    )
}

fn pod(name: &str, metadata: &str, spec: &str, status: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: shop, {metadata}}}, spec: {{nodeName: one, {spec}}}, status: {{{status}}}}}\n---\n"
    )
}

const ENABLED: &str = "posthaste.dev/mesh: enabled";
const NETNS: &str = "annotations: {posthaste.dev/netns: /run/netns/cart}";
const ADDRESS: &str = "podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}]";

#[test]
fn a_mistyped_setting_never_opens() {
    use FailMode::{Closed, Open};
    use MtlsMode::{Permissive, Strict};
    let table = [
        ("", Permissive, Open, 0),
        ("posthaste.dev/mtls: strict", Strict, Closed, 0),
        ("posthaste.dev/mtls: Strict", Strict, Closed, 1),
        ("posthaste.dev/mtls: strict, posthaste.dev/fail-mode: open", Strict, Open, 0),
        ("posthaste.dev/fail-mode: closed", Permissive, Closed, 0),
        ("posthaste.dev/fail-mode: opne", Permissive, Closed, 1),
    ];
    for (annotations, mtls, fail_mode, problems) in table {
        let yaml = namespace(ENABLED, annotations) + &pod("cart", NETNS, "", ADDRESS);
        let (snapshot, found) = snapshot(&yaml);
        let local = &snapshot.local_pods["shop/cart"];
        assert_eq!(
            (local.workload.mtls, local.fail_mode, found.len()),
            (mtls, fail_mode, problems),
            "{annotations}"
        );
    }
}

#[test]
fn says_why_a_pod_is_not_captured() {
    let disabled =
        "labels: {posthaste.dev/mesh: disabled}, annotations: {posthaste.dev/netns: /run/netns/cart}";
    let table = [
        (ENABLED, NETNS, "", ADDRESS, None, true),
        (ENABLED, NETNS, "", "phase: Running", None, true),
        (ENABLED, NETNS, "hostNetwork: true", ADDRESS, Some("host"), false),
        (ENABLED, "", "", ADDRESS, Some("posthaste.dev/netns"), true),
        (ENABLED, "annotations: {posthaste.dev/netns: cart}", "", ADDRESS, Some("absolute"), true),
        (ENABLED, disabled, "", ADDRESS, Some("opts out"), false),
        ("posthaste.dev/mesh: 'true'", NETNS, "", ADDRESS, Some("lacks the label"), false),
        ("", NETNS, "", ADDRESS, Some("lacks the label"), false),
    ];
    for (labels, metadata, spec, status, reason, meshed) in table {
        let (snapshot, _) = snapshot(&(namespace(labels, "") + &pod("cart", metadata, spec, status)));
        let (workload, found) = match snapshot.uncaptured.first() {
            Some((workload, reason)) => (workload, Some(reason)),
            None => (&snapshot.local_pods["shop/cart"].workload, None),
        };
        assert_eq!(workload.meshed, meshed, "{labels} {metadata} {spec}");
        assert_eq!(found.is_some(), reason.is_some(), "{found:?}");
        assert!(found.is_none_or(|found| found.contains(reason.unwrap())), "{found:?}");
    }
}

#[test]
fn leaves_out_pods_that_ended_or_live_elsewhere() {
    let elsewhere = pod("cart", NETNS, "", ADDRESS).replace("nodeName: one", "nodeName: two");
    let (one, _) = snapshot(&(namespace(ENABLED, "") + &elsewhere));
    assert!(one.local_pods.is_empty() && one.uncaptured.is_empty());
    assert!(one.workloads[&"fd00::1".parse().unwrap()].meshed);
    for phase in ["Succeeded", "Failed"] {
        let ended = pod("cart", NETNS, "", &format!("phase: {phase}, {ADDRESS}"));
        let (snapshot, _) = snapshot(&(namespace(ENABLED, "") + &ended));
        assert!(
            snapshot.workloads.is_empty() && snapshot.local_pods.is_empty() && snapshot.uncaptured.is_empty()
        );
    }
}

#[test]
fn the_newest_pod_keeps_an_address() {
    let at = |time: &str| {
        format!(
            "creationTimestamp: '{time}', annotations: {{posthaste.dev/netns: /run/netns/{}}}",
            &time[..4]
        )
    };
    let (old, new) = ("2025-01-01T00:00:00Z", "2026-01-01T00:00:00Z");
    for (first, second, winner) in [(old, new, "b"), (new, old, "a")] {
        let yaml = namespace(ENABLED, "")
            + &pod("a", &at(first), "", "podIP: 10.0.0.1")
            + &pod("b", &at(second), "", "podIP: 10.0.0.1");
        let (snapshot, problems) = snapshot(&yaml);
        assert_eq!(&*snapshot.workloads[&"10.0.0.1".parse().unwrap()].name, winner);
        assert_eq!(fields(&problems), ["status.podIPs"]);
        assert_eq!(snapshot.local_pods.len(), 2);
    }
    // Without times the later in order; with one network namespace the other is not captured.
    let yaml = namespace(ENABLED, "")
        + &pod("a", NETNS, "", "podIP: 10.0.0.1")
        + &pod("b", NETNS, "", "podIP: 10.0.0.1");
    let (snapshot, problems) = snapshot(&yaml);
    assert_eq!(&*snapshot.workloads[&"10.0.0.1".parse().unwrap()].name, "b");
    assert_eq!(problems.len(), 2);
    assert_eq!((snapshot.local_pods.len(), snapshot.uncaptured.len()), (1, 1));
}

#[test]
fn reads_excluded_ports_and_bad_addresses() {
    let metadata = "annotations: {posthaste.dev/netns: /n, posthaste.dev/exclude-outbound-ports: ' 443, 80,443,', posthaste.dev/exclude-inbound-ports: '0,1000-2000,65536,7'}";
    let yaml = namespace(ENABLED, "")
        + &pod("cart", metadata, "", "podIPs: [{ip: 10.0.0.300}, {ip: 127.0.0.1}, {ip: '::ffff:10.0.0.9'}]");
    let (snapshot, problems) = snapshot(&yaml);
    let local = &snapshot.local_pods["shop/cart"];
    assert_eq!(local.exclude_outbound_ports, [80, 443]);
    assert_eq!(local.exclude_inbound_ports, [7]);
    assert_eq!(local.workload.addresses, ["10.0.0.9".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(problems.len(), 5, "{problems:?}");
}

#[test]
fn names_workloads_as_people_deployed_them() {
    let owner = |kind: &str, name: &str| {
        format!(
            "ownerReferences: [{{apiVersion: apps/v1, kind: {kind}, name: {name}, uid: x, controller: true}}]"
        )
    };
    let hash = "labels: {pod-template-hash: abc123}";
    let table = [
        ("web-0", owner("StatefulSet", "web"), "web"),
        ("web-7d4b9c-x2x4p", owner("ReplicaSet", "web-7d4b9c"), "web"),
        ("w", owner("ReplicaSet", "web-abc123") + ", " + hash, "web"),
        ("w", owner("ReplicaSet", "web-server"), "web-server"),
        ("w", owner("Job", "backup-28012345"), "backup"),
        ("w", owner("Job", "migrate-1"), "migrate-1"),
        ("w", format!("generateName: web-abc123-, {hash}"), "web"),
        ("w", "generateName: web-".to_owned(), "web"),
        ("web-abc123-x2x4p", hash.to_owned(), "web"),
        ("web-7d4b9c-x2x4p", "uid: y".to_owned(), "web-7d4b9c-x2x4p"),
    ];
    for (name, metadata, workload) in table {
        let (snapshot, _) = snapshot(&pod(name, &metadata, "", "podIP: 10.0.0.1"));
        let labels = &snapshot.workloads[&"10.0.0.1".parse().unwrap()].labels;
        assert_eq!(&*labels.workload, workload, "{name} {metadata}");
        assert_eq!((&*labels.canonical_service, &*labels.canonical_revision), (workload, "latest"));
        assert_eq!((&*labels.app, &*labels.version, &*labels.cluster), ("unknown", "unknown", "Kubernetes"));
    }
}
