//! What the agent says of itself: the metrics `posthaste_*`, read from the sources at each scrape.

use super::{
    clock::monotonic_ns,
    metrics::{count, gauge, histogram},
    sources::{Sources, seconds_now},
    views::{CaptureCount, CaptureView},
};
use crate::snapshot::Snapshot;
use prometheus_client::{collector::Collector, encoding::DescriptorEncoder, metrics::MetricType};
use std::{
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
};

#[derive(Debug)]
pub(crate) struct AgentCollector(pub(crate) Arc<Sources>);

type Encoder<'a, 'b> = &'a mut DescriptorEncoder<'b>;

impl Collector for AgentCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let sources = &*self.0;
        about(&mut encoder, sources)?;
        world(&mut encoder, sources)?;
        connections(&mut encoder, sources)?;
        capture(&mut encoder, &(sources.capture)())?;
        enrolment(&mut encoder, sources)?;
        certificates(&mut encoder, sources)
    }
}

fn one_gauge(encoder: Encoder<'_, '_>, name: &str, help: &str, value: usize) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    gauge(&mut family, &[], whole(value as u64))
}

fn one_count(encoder: Encoder<'_, '_>, name: &str, help: &str, value: u64) -> fmt::Result {
    count(&mut encoder.encode_descriptor(name, help, None, MetricType::Counter)?, &[], value)
}

fn whole(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn about(encoder: Encoder<'_, '_>, sources: &Sources) -> fmt::Result {
    let mut family =
        encoder.encode_descriptor("posthaste_build_info", "Version of the agent", None, MetricType::Gauge)?;
    gauge(&mut family, &[("version", &sources.version), ("node", &sources.node)], 1)?;
    let uptime = monotonic_ns().saturating_sub(sources.started_ns) / 1_000_000_000;
    one_gauge(
        encoder,
        "posthaste_uptime_seconds",
        "Since the agent started",
        usize::try_from(uptime).unwrap_or(0),
    )?;
    let help = "1 where this agent took the programs over from one before it";
    one_gauge(encoder, "posthaste_took_over", help, usize::from((sources.took_over)()))?;
    let ready = usize::from(sources.not_ready_reason().is_none());
    one_gauge(encoder, "posthaste_ready", "1 where the agent is ready", ready)
}

fn world(encoder: Encoder<'_, '_>, sources: &Sources) -> fmt::Result {
    let snapshot = sources.snapshot.load();
    let generation = usize::try_from(snapshot.generation).unwrap_or(usize::MAX);
    one_gauge(encoder, "posthaste_snapshot_generation", "Snapshots published by this agent", generation)?;
    let problems = sources.problems.load().len();
    one_gauge(encoder, "posthaste_snapshot_problems", "What does not fit in the objects", problems)?;
    one_gauge(
        encoder,
        "posthaste_workload_addresses",
        "Pod addresses in the snapshot",
        snapshot.workloads.len(),
    )?;
    one_gauge(encoder, "posthaste_services", "Services in the snapshot", snapshot.services.len())?;
    one_gauge(encoder, "posthaste_local_pods", "Captured pods of this node", snapshot.local_pods.len())?;
    let ejected = endpoints_ejected(&snapshot, monotonic_ns());
    one_gauge(encoder, "posthaste_endpoints_ejected", "Endpoints that are not picked for now", ejected)
}

fn endpoints_ejected(snapshot: &Snapshot, now_ns: u64) -> usize {
    let ports = snapshot.services.iter().flat_map(|service| &service.ports);
    let endpoints = ports.flat_map(|port| &port.endpoints);
    let loads = endpoints.filter_map(|endpoint| endpoint.load.known());
    loads.filter(|load| load.ejected_until_ns.load(Relaxed) > now_ns).count()
}

fn connections(encoder: Encoder<'_, '_>, sources: &Sources) -> fmt::Result {
    let table = &sources.connections;
    one_gauge(encoder, "posthaste_connections_active", "Live connections", table.active())?;
    one_count(encoder, "posthaste_dial_attempts", "Dials to endpoints", table.attempts())?;
    denials(encoder, sources)?;
    decisions(encoder, sources)?;
    let tunnels = (sources.tunnels)();
    let (up, streams) = (usize::try_from(tunnels.connections), usize::try_from(tunnels.streams));
    one_gauge(encoder, "posthaste_tunnels_active", "Tunnels that are up", up.unwrap_or(0))?;
    one_gauge(encoder, "posthaste_tunnel_streams_active", "Streams on tunnels", streams.unwrap_or(0))?;
    one_count(encoder, "posthaste_tunnels_built", "Tunnels since the start", tunnels.built)?;
    one_count(encoder, "posthaste_tunnels_resumed", "Tunnels with a resumed TLS session", tunnels.resumed)?;
    let series = &sources.series;
    one_gauge(encoder, "posthaste_series", "Label sets of connection metrics", series.len())?;
    one_count(encoder, "posthaste_series_overflowed", "Label sets counted as unknown", series.overflowed())?;
    let log = &sources.access_log;
    one_count(encoder, "posthaste_access_log_lines", "Lines written", log.written())?;
    one_count(encoder, "posthaste_access_log_dropped_lines", "Lines dropped", log.dropped())
}

fn denials(encoder: Encoder<'_, '_>, sources: &Sources) -> fmt::Result {
    let counts = sources.connections.denials().counts();
    let groups = [
        (
            "posthaste_policy_denials",
            "Connections and requests that AuthorizationPolicies denied; no policy: none allows",
            false,
        ),
        ("posthaste_policy_dry_run_denials", "The same that policies with dryRun would have denied", true),
    ];
    for (name, help, trials) in groups {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for ((policy, what, _), value) in counts.iter().filter(|((_, _, trial), _)| *trial == trials) {
            count(&mut family, &[("policy", &**policy), ("of", what.as_str())], *value)?;
        }
    }
    Ok(())
}

fn decisions(encoder: Encoder<'_, '_>, sources: &Sources) -> fmt::Result {
    let help = "Connections to service ports, by what they speak and how that is known";
    let name = "posthaste_protocol_decisions";
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (protocol, why, value) in sources.connections.decisions() {
        count(&mut family, &[("protocol", protocol.as_str()), ("why", why.as_str())], value)?;
    }
    Ok(())
}

fn capture(encoder: Encoder<'_, '_>, view: &CaptureView) -> fmt::Result {
    type Field = fn(&CaptureCount) -> u64;
    let fields: [(&str, Field); 5] = [
        ("captured", |count| count.captured),
        ("refused", |count| count.refused),
        ("passed", |count| count.passed),
        ("excluded", |count| count.excluded),
        ("map_full", |count| count.map_full),
    ];
    let groups = [
        ("posthaste_capture_connections", "New connections by what the kernel did", &view.pods),
        ("posthaste_capture_meanwhile_connections", "The same while no agent lived", &view.meanwhile),
    ];
    for (name, help, pods) in groups {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for pod in pods {
            for (verdict, field) in fields {
                let labels = [("namespace", &*pod.namespace), ("pod", &*pod.pod), ("verdict", verdict)];
                count(&mut family, &labels, field(pod))?;
            }
        }
    }
    maps(encoder, view)
}

fn enrolment(encoder: Encoder<'_, '_>, sources: &Sources) -> fmt::Result {
    let (windows, before) = sources.enrolments.totals();
    let help = "From the appearance of a pod's first process to its capture";
    let name = "posthaste_capture_window_seconds";
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    histogram(&mut family, &[("node", &sources.node)], windows.sum, &windows.buckets())?;
    let help = "Connections of strict or unknown pods that were not captured, by what the kernel did";
    let name = "posthaste_uncaptured_connections";
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    let (refused, passed) = sources.enrolments.held();
    count(&mut family, &[("verdict", "refused")], refused)?;
    count(&mut family, &[("verdict", "passed")], passed)?;
    let help = "Connections from before the capture of their pod that live on";
    one_gauge(encoder, "posthaste_connections_before", help, before)
}

fn maps(encoder: Encoder<'_, '_>, view: &CaptureView) -> fmt::Result {
    let help = "Entries in a kernel map";
    let mut family = encoder.encode_descriptor("posthaste_map_entries", help, None, MetricType::Gauge)?;
    for map in &view.maps {
        gauge(&mut family, &[("map", &map.name)], whole(map.entries))?;
    }
    let help = "Entries that a kernel map can hold";
    let mut family = encoder.encode_descriptor("posthaste_map_capacity", help, None, MetricType::Gauge)?;
    for map in &view.maps {
        gauge(&mut family, &[("map", &map.name)], whole(map.capacity))?;
    }
    Ok(())
}

fn certificates(encoder: Encoder<'_, '_>, sources: &Sources) -> fmt::Result {
    let now = seconds_now();
    let name = "posthaste_certificate_expiry_seconds";
    let help = "Until the certificate of an identity expires";
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for certificate in (sources.certificates)() {
        let left = certificate.not_after.map_or(0, |end| end.saturating_sub(now));
        gauge(&mut family, &[("identity", &certificate.identity)], left)?;
    }
    Ok(())
}
