//! What of the pods of this node goes through the mesh, and what does not: `/coverage` and the metrics `posthaste_coverage_*`.

use super::{
    Direction, Enrolments, Sources,
    carried::OfPod,
    metrics::{count, gauge},
    views::{CaptureCount, CoverageView, ElsewhereView, PodCoverageView, UdpView},
};
use crate::snapshot::{LocalPod, MtlsMode, Snapshot, Workload};
use prometheus_client::{collector::Collector, encoding::DescriptorEncoder, metrics::MetricType};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    sync::Arc,
};

/// Destinations of UDP that are told of one pod.
const UDP_SHOWN: usize = 20;

pub(super) fn coverage(sources: &Sources) -> CoverageView {
    let snapshot = sources.snapshot.load();
    let seen = Seen::of(sources);
    let captured = snapshot.local_pods.values().map(|pod| seen.pod(pod));
    let uncaptured = snapshot.uncaptured.iter().map(|(pod, reason)| uncaptured(pod, reason));
    let mut pods: Vec<PodCoverageView> = captured.chain(uncaptured).collect();
    pods.sort_by(|one, two| (&one.namespace, &one.pod).cmp(&(&two.namespace, &two.pod)));
    CoverageView { node: sources.node.clone(), pods, elsewhere: elsewhere(&snapshot, &sources.node) }
}

/// Everything that was counted of the pods, by uid or by name.
struct Seen {
    carried: HashMap<Arc<str>, OfPod>,
    kernel: HashMap<(String, String), CaptureCount>,
    udp: HashMap<String, Vec<UdpView>>,
    captured: Option<HashSet<String>>,
    enrolments: Enrolments,
}

impl Seen {
    fn of(sources: &Sources) -> Self {
        let mut udp: HashMap<String, Vec<UdpView>> = HashMap::new();
        for (uid, address, times) in (sources.udp_flows)() {
            udp.entry(uid).or_default().push(UdpView { address: address.to_string(), times });
        }
        for views in udp.values_mut() {
            views.sort_by(|one, two| (two.times, &one.address).cmp(&(one.times, &two.address)));
            views.truncate(UDP_SHOWN);
        }
        let kernel = (sources.capture)().pods.into_iter();
        Self {
            carried: sources.connections.carried(),
            kernel: kernel.map(|count| ((count.namespace.clone(), count.pod.clone()), count)).collect(),
            udp,
            captured: (sources.captured)(),
            enrolments: sources.enrolments.clone(),
        }
    }

    fn pod(&self, pod: &LocalPod) -> PodCoverageView {
        let workload = &pod.workload;
        let in_kernel = self.captured.as_ref().is_none_or(|uids| uids.contains(&*workload.uid));
        let why = (!in_kernel).then(|| "the kernel does not have it; `posthaste status` says why".to_owned());
        let name = (workload.namespace.to_string(), workload.name.to_string());
        let kernel = self.kernel.get(&name).cloned().unwrap_or_default();
        let carried = self.carried.get(&workload.uid).cloned().unwrap_or_default();
        let connections_before = self.enrolments.of(&workload.uid).connections_before.len();
        PodCoverageView {
            captured: in_kernel,
            why,
            reasons: reasons(pod, connections_before),
            connections_before,
            excluded_outbound_ports: pod.exclude_outbound_ports.clone(),
            excluded_inbound_ports: pod.exclude_inbound_ports.clone(),
            mutual_tls: carried.mutual_tls().iter().map(|(_, count)| count).sum(),
            plain: carried.plain(),
            uncaptured_connections: kernel.excluded + kernel.passed + kernel.uncapturable,
            udp_flows: kernel.udp_flows,
            quic_flows: kernel.quic_flows,
            udp: self.udp.get(&*workload.uid).cloned().unwrap_or_default(),
            ..named(workload)
        }
    }
}

/// Why not all of a captured pod goes through the mesh.
fn reasons(pod: &LocalPod, before: usize) -> Vec<String> {
    let before = match before {
        0 => None,
        1 => Some("1 connection from before its capture goes on past the mesh".to_owned()),
        count => Some(format!("{count} connections from before its capture go on past the mesh")),
    };
    let excluded = |ports: &[u16], what: &str| {
        let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
        (!ports.is_empty()).then(|| format!("{what} {} are excluded", ports.join(", ")))
    };
    let out = excluded(&pod.exclude_outbound_ports, "connections to ports");
    let inward = excluded(&pod.exclude_inbound_ports, "connections that come to its ports");
    before.into_iter().chain(out).chain(inward).collect()
}

fn named(workload: &Workload) -> PodCoverageView {
    let mtls = match workload.mtls {
        MtlsMode::Permissive => "permissive",
        MtlsMode::Strict => "strict",
    };
    PodCoverageView {
        namespace: workload.namespace.to_string(),
        pod: workload.name.to_string(),
        mtls: mtls.to_owned(),
        ..PodCoverageView::default()
    }
}

fn uncaptured(pod: &Workload, reason: &str) -> PodCoverageView {
    PodCoverageView { why: Some(reason.to_owned()), ..named(pod) }
}

/// Pods of the mesh that run on other nodes, as far as they are known here.
fn elsewhere(snapshot: &Snapshot, node: &str) -> Vec<ElsewhereView> {
    let far = snapshot.workloads.values().filter(|pod| pod.meshed && *pod.node != *node);
    let named = far.map(|pod| ((pod.namespace.to_string(), pod.name.to_string()), pod.node.to_string()));
    let unique: BTreeMap<_, _> = named.collect();
    unique.into_iter().map(|((namespace, pod), node)| ElsewhereView { namespace, pod, node }).collect()
}

/// The same as metrics: cardinality is that of the node's pods.
#[derive(Debug)]
pub(super) struct CoverageCollector(pub(super) Arc<Sources>);

impl Collector for CoverageCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let view = coverage(&self.0);
        pods(&mut encoder, &view)?;
        connections(&mut encoder, &view)?;
        past(&mut encoder, &view)?;
        udp(&mut encoder, &view)
    }
}

fn pods(encoder: &mut DescriptorEncoder<'_>, view: &CoverageView) -> fmt::Result {
    let mut sums: BTreeMap<(&str, &str), i64> = BTreeMap::new();
    for pod in &view.pods {
        let captured = if pod.captured { "true" } else { "false" };
        *sums.entry((&pod.namespace, captured)).or_default() += 1;
    }
    let help = "Pods of this node, by whether their connections go through the agent";
    let mut family = encoder.encode_descriptor("posthaste_coverage_pods", help, None, MetricType::Gauge)?;
    for ((namespace, captured), pods) in sums {
        gauge(&mut family, &[("namespace", namespace), ("captured", captured)], pods)?;
    }
    Ok(())
}

fn connections(encoder: &mut DescriptorEncoder<'_>, view: &CoverageView) -> fmt::Result {
    let help = "Connections by what protects them: mutual_tls, plain with a pod, plain with who is outside, uncaptured";
    let name = "posthaste_coverage_connections";
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for pod in view.pods.iter().filter(|pod| pod.captured) {
        let plain = |outside: bool| {
            let some = pod.plain.iter().filter(|one| one.outside == outside);
            some.map(|one| one.connections).sum::<u64>()
        };
        let kinds = [
            ("mutual_tls", pod.mutual_tls),
            ("plain", plain(false)),
            ("outside", plain(true)),
            ("uncaptured", pod.uncaptured_connections),
        ];
        for (kind, value) in kinds {
            let labels = [("namespace", &*pod.namespace), ("pod", &*pod.pod), ("protection", kind)];
            count(&mut family, &labels, value)?;
        }
    }
    Ok(())
}

fn past(encoder: &mut DescriptorEncoder<'_>, view: &CoverageView) -> fmt::Result {
    let whole = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let help = "Connections from before the capture of the pod that live on";
    let name = "posthaste_coverage_connections_before";
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for pod in view.pods.iter().filter(|pod| pod.captured) {
        let labels = [("namespace", &*pod.namespace), ("pod", &*pod.pod)];
        gauge(&mut family, &labels, whole(pod.connections_before))?;
    }
    let help = "Ports that the pod excludes from its capture";
    let name = "posthaste_coverage_excluded_ports";
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for pod in view.pods.iter().filter(|pod| pod.captured) {
        let ports = [("outbound", &pod.excluded_outbound_ports), ("inbound", &pod.excluded_inbound_ports)];
        for (direction, ports) in ports {
            let labels = [("namespace", &*pod.namespace), ("pod", &*pod.pod), ("direction", direction)];
            gauge(&mut family, &labels, whole(ports.len()))?;
        }
    }
    Ok(())
}

fn udp(encoder: &mut DescriptorEncoder<'_>, view: &CoverageView) -> fmt::Result {
    let help = "Destinations that pods sent UDP to, which is not captured";
    let mut family =
        encoder.encode_descriptor("posthaste_coverage_udp_flows", help, None, MetricType::Counter)?;
    for pod in view.pods.iter().filter(|pod| pod.captured) {
        for (kind, value) in [("udp", pod.udp_flows), ("quic", pod.quic_flows)] {
            count(&mut family, &[("namespace", &pod.namespace), ("pod", &pod.pod), ("kind", kind)], value)?;
        }
    }
    Ok(())
}

/// Which way, in a word, for tables.
pub(crate) fn word(direction: Direction) -> &'static str {
    match direction {
        Direction::Inbound => "from",
        Direction::Outbound => "to",
    }
}
