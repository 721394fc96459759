//! What is made from the snapshot before is what a whole build makes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use proptest::prelude::*;

use super::{build, context, inputs};
use crate::snapshot::{
    Problem, Snapshot,
    build::{Context, PodScope, update},
    input::{EndpointSlice, Inputs},
};

const SERVICES: usize = 7;

/// One of each sort: plain, with two families, headless, declared as TCP, with a problem, routed to, and in a namespace that is not
/// enrolled; and one whose slices have no Service.
const WORLD: &str = r#"
{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {posthaste.dev/mesh: enabled}}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: plain}}
---
{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: shop, annotations: {posthaste.dev/netns: /run/netns/a}}, spec: {nodeName: one}, status: {podIPs: [{ip: 10.0.0.1}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: s0, namespace: shop}, spec: {clusterIP: 10.96.0.10, ports: [{name: x, port: 80}, {name: y, port: 81}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: s1, namespace: shop}, spec: {clusterIPs: [10.96.0.11, "fd96::11"], ports: [{name: x, port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: s2, namespace: shop}, spec: {clusterIP: None, ports: [{name: x, port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: s3, namespace: shop}, spec: {clusterIP: 10.96.0.13, ports: [{name: x, port: 80, appProtocol: tcp}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: s4, namespace: shop}, spec: {clusterIP: 10.96.0.14, sessionAffinity: Wrong, ports: [{name: x, port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: s5, namespace: shop}, spec: {clusterIP: 10.96.0.15, ports: [{name: x, port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: s6, namespace: plain}, spec: {clusterIP: 10.96.0.16, trafficDistribution: PreferSameZone, ports: [{name: x, port: 80}]}}
---
"#;

/// Objects that look at endpoints, each of which a world may have.
const LOOKING: [&str; 4] = [
    "{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: r, namespace: shop}, spec: {parentRefs: [{kind: Service, name: s0}], rules: [{backendRefs: [{name: s5, port: 80}]}]}}",
    "{apiVersion: posthaste.dev/v1alpha1, kind: AuthorizationPolicy, metadata: {name: p, namespace: shop}, spec: {rules: [{to: [{operation: {paths: [/a]}}]}]}}",
    "{apiVersion: posthaste.dev/v1alpha1, kind: AuthorizationPolicy, metadata: {name: q, namespace: shop}, spec: {targetRefs: [{kind: Service, name: s1}], rules: [{}]}}",
    "{apiVersion: posthaste.dev/v1alpha1, kind: TrafficPolicy, metadata: {name: t, namespace: shop}, spec: {targetRefs: [{kind: Service, name: s0}], retry: {attempts: 7}}}",
];

/// A slice as the endpoint controller may write it, or not quite.
#[derive(Clone, Debug)]
struct Written {
    name: u8,
    service: usize,
    ipv6: bool,
    unlabelled: bool,
    endpoints: Vec<(u8, bool)>,
}

impl Written {
    fn yaml(&self) -> String {
        let namespace = if self.service == 6 { "plain" } else { "shop" };
        let label = if self.unlabelled { "other" } else { "kubernetes.io/service-name" };
        let family = if self.ipv6 { "IPv6" } else { "IPv4" };
        let mut endpoints = String::new();
        for (last, ready) in &self.endpoints {
            let address = if self.ipv6 { format!("'fd00::{last}'") } else { format!("10.0.0.{last}") };
            let zone = if last % 2 == 0 { "a" } else { "b" };
            write!(endpoints, "{{addresses: [{address}], zone: {zone}, conditions: {{ready: {ready}}}, targetRef: {{kind: Pod, name: p{last}, uid: u{last}}}}}, ").unwrap();
        }
        format!(
            "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: e{}, namespace: {namespace}, labels: {{{label}: s{}}}}}, addressType: {family}, ports: [{{name: x, port: 8080}}, {{name: y, port: 8081}}], endpoints: [{endpoints}]}}",
            self.name, self.service
        )
    }

    fn slice(&self) -> Arc<EndpointSlice> {
        inputs(&self.yaml()).endpoint_slices.remove(0)
    }
}

fn written() -> impl Strategy<Value = Written> {
    let endpoints = proptest::collection::vec((1..12_u8, proptest::bool::weighted(0.8)), 0..4);
    let rare = || proptest::bool::weighted(0.05);
    (0..12_u8, 0..=SERVICES, rare(), rare(), endpoints).prop_map(
        |(name, service, ipv6, unlabelled, endpoints)| Written { name, service, ipv6, unlabelled, endpoints },
    )
}

/// Slices that are written, and the number of one that goes.
type Step = (Vec<Written>, u8);

/// What is done to the objects, what it is, and whether the snapshot before is enough.
type Deed = (&'static str, fn(&mut Inputs), bool);

/// By name, as a source holds them.
type Held = BTreeMap<(Arc<str>, Arc<str>), Arc<EndpointSlice>>;

fn reading(others: &Inputs, held: &Held) -> Inputs {
    Inputs { endpoint_slices: held.values().cloned().collect(), ..others.clone() }
}

/// Everything that a slice may decide.
fn told(snapshot: &Snapshot) -> String {
    let mut told = String::new();
    for service in &snapshot.services {
        writeln!(told, "{}/{} {:?}", service.namespace, service.name, service.cluster_ips).unwrap();
        for port in &service.ports {
            writeln!(told, "  {} {} {} {:?}", port.port, port.name, port.known_endpoints, port.policy)
                .unwrap();
            for endpoint in &port.endpoints {
                let pod = endpoint.workload.as_ref().map(|pod| &pod.uid);
                writeln!(told, "    {} {pod:?}", endpoint.address).unwrap();
            }
            for ip in &service.cluster_ips {
                let there = snapshot.service_ports.get(&(*ip, port.port));
                let same = there.is_some_and(|there| Arc::ptr_eq(there, port));
                writeln!(told, "    at {ip} {same}").unwrap();
            }
        }
        for ip in &service.cluster_ips {
            let same = Arc::ptr_eq(&snapshot.cluster_ips[ip], service);
            writeln!(told, "  at {ip} {same}").unwrap();
        }
    }
    let of_routes = snapshot.routes.values().flat_map(|routes| routes.producer.iter());
    for port in of_routes.flat_map(|table| table.rules()).flat_map(|rule| rule.ports()) {
        let same = snapshot.service_ports.values().any(|there| Arc::ptr_eq(there, port));
        writeln!(told, "route to {} {same}", port.hostname).unwrap();
    }
    for last in 0..12_u8 {
        let ipv6: IpAddr = format!("fd00::{last}").parse().unwrap();
        for address in [Ipv4Addr::new(10, 0, 0, last).into(), ipv6] {
            let found = snapshot.elsewhere.find(address).map(|key| (key.namespace, key.name));
            writeln!(told, "{address} {found:?}").unwrap();
        }
    }
    let mut not_http: Vec<_> = snapshot.not_http.iter().collect();
    not_http.sort();
    let head_times: BTreeMap<_, _> = snapshot.head_times.iter().collect();
    let pods: BTreeMap<_, _> =
        snapshot.local_pods.iter().map(|(uid, pod)| (uid, &pod.authorization)).collect();
    let counts = (snapshot.service_ports.len(), snapshot.cluster_ips.len());
    writeln!(told, "{not_http:?} {head_times:?} {pods:?} {counts:?}").unwrap();
    told
}

fn after(
    context: &Context,
    before: &Inputs,
    now: &Inputs,
    last: &Snapshot,
) -> (Snapshot, Vec<Problem>, bool) {
    let (whole, problems) = build(now, context, Some(last));
    match update(before, now, context, last) {
        None => (whole, problems, false),
        Some(updated) => {
            assert_eq!(told(&updated), told(&whole));
            (updated, problems, true)
        }
    }
}

#[test]
fn it_is_what_a_whole_build_makes() {
    let counted: [AtomicUsize; 2] = Default::default();
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let steps = proptest::collection::vec((proptest::collection::vec(written(), 1..4), 0..12_u8), 1..6);
    let worlds = (proptest::collection::vec(any::<bool>(), LOOKING.len()), any::<bool>());
    let all = (worlds, proptest::collection::vec(written(), 12..30), steps);
    let check = |((looking, all_pods), first, steps): ((Vec<bool>, bool), Vec<Written>, Vec<Step>)| {
        let mut world = WORLD.to_owned();
        for (object, _) in LOOKING.iter().zip(&looking).filter(|(_, there)| **there) {
            world.push_str(object);
            world.push_str("\n---\n");
        }
        let pods = if all_pods { PodScope::All } else { PodScope::OfThisNode };
        let context = Context { pods, ..context() };
        let others = inputs(&world);
        let key = |slice: &EndpointSlice| (slice.metadata.namespace.clone(), slice.metadata.name.clone());
        let mut held: Held = first.iter().map(Written::slice).map(|slice| (key(&slice), slice)).collect();
        // Others enough that a few changes are few.
        for name in 100..140_u8 {
            let one =
                Written { name, service: SERVICES, ipv6: false, unlabelled: false, endpoints: Vec::new() };
            let slice = one.slice();
            held.insert(key(&slice), slice);
        }
        let mut before = reading(&others, &held);
        let (mut last, mut problems) = build(&before, &context, None);
        for (changes, gone) in &steps {
            changes.iter().map(Written::slice).for_each(|slice| _ = held.insert(key(&slice), slice));
            held.retain(|(_, name), _| **name != *format!("e{gone}"));
            let now = reading(&others, &held);
            let (next, found, updated) = after(&context, &before, &now, &last);
            counted[usize::from(updated)].fetch_add(1, Relaxed);
            if updated {
                assert_eq!(found, problems, "problems are those of before");
            }
            (before, last, problems) = (now, next, found);
        }
        Ok(())
    };
    runner.run(&all, check).unwrap();
    let [whole, updated] = counted.map(|count| count.load(Relaxed));
    assert!(whole > 100 && updated > 100, "{whole} whole, {updated} updated");
}

#[test]
fn anything_else_is_built_whole() {
    let slice = |endpoints| Written { name: 1, service: 0, ipv6: false, unlabelled: false, endpoints };
    let mut before = inputs(&(WORLD.to_owned() + &slice(vec![(1, true)]).yaml()));
    before.endpoint_slices.extend((10..30).map(|name| Written { name, ..slice(Vec::new()) }.slice()));
    let (last, _) = build(&before, &context(), None);
    let changes: [Deed; 5] = [
        ("nothing", |_| (), true),
        ("a pod", |now| Arc::make_mut(&mut now.pods[0]).phase = "Failed".into(), false),
        ("a service", |now| Arc::make_mut(&mut now.services[0]).ports[0].port = 90, false),
        ("a namespace", |now| drop(now.namespaces.pop()), false),
        ("most slices", |now| now.endpoint_slices.truncate(9), false),
    ];
    for (what, change, expected) in changes {
        let mut now = before.clone();
        change(&mut now);
        assert_eq!(update(&before, &now, &context(), &last).is_some(), expected, "{what}");
    }
    assert!(update(&before, &before, &context(), &Snapshot::default()).is_none(), "there is none before");
}
