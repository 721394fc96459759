//! Load and health of the endpoints of service ports, and what limits their requests: `/endpoints` and the metrics
//! `posthaste_breaker_*`, `posthaste_endpoint_ejected` and `posthaste_route_endpoint_ejected`.

use super::{
    Sources,
    clock::monotonic_ns,
    metrics::gauge,
    query::Query,
    request_answers::is_meant,
    requests::{RouteKey, RouteText},
    views::{EndpointsView, HealthView, RunningView},
};
use crate::{
    resilience::{
        balance,
        outlier::{self, State},
    },
    snapshot::{
        Endpoint, ServicePort, Snapshot,
        policy::{Balancer, HashKey, Limits},
    },
};
use prometheus_client::{collector::Collector, encoding::DescriptorEncoder, metrics::MetricType};
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
};

pub(super) fn endpoints(snapshot: &Snapshot, query: &Query<'_>, now_ns: u64) -> Vec<EndpointsView> {
    let ports = snapshot.services.iter().flat_map(|service| &service.ports);
    ports.filter(|port| is_meant(query, port)).map(|port| view(port, now_ns)).collect()
}

pub(crate) fn view(port: &ServicePort, now_ns: u64) -> EndpointsView {
    let weights = balance::pick_weights(port, now_ns);
    let weight =
        |place: usize| weights.iter().find(|(at, _)| *at == place).map_or(0.0, |(_, weight)| *weight);
    let endpoints = port.endpoints.iter().enumerate();
    EndpointsView {
        namespace: port.service_namespace.to_string(),
        service: port.service_name.to_string(),
        port: port.port,
        balancer: balancer(&port.policy.balancer),
        policies: port.policy.origins.iter().map(ToString::to_string).collect(),
        running: running(port)
            .map(|(name, now, limit)| RunningView { name: name.to_owned(), now, limit })
            .to_vec(),
        panic: !outlier::are_honoured(port, now_ns),
        endpoints: endpoints.map(|(place, endpoint)| health(endpoint, weight(place), now_ns)).collect(),
    }
}

fn balancer(balancer: &Balancer) -> String {
    match balancer {
        Balancer::PowerOfTwo => "power_of_two".to_owned(),
        Balancer::ConsistentHash(HashKey::Header(name)) => format!("consistent_hash header {name}"),
        Balancer::ConsistentHash(HashKey::Cookie(name)) => format!("consistent_hash cookie {name}"),
        Balancer::ConsistentHash(HashKey::Source) => "consistent_hash source".to_owned(),
    }
}

/// What is under way, and its limit.
fn running(port: &ServicePort) -> [(&'static str, u32, u32); 4] {
    let now = &port.state.running;
    let Limits { connections, pending, requests, retries, .. } = port.policy.limits;
    [
        ("connections", now.connections.load(Relaxed), connections),
        ("pending", now.pending.load(Relaxed), pending),
        ("requests", now.requests.load(Relaxed), requests),
        ("retries", now.retries.load(Relaxed), retries),
    ]
}

fn health(endpoint: &Endpoint, weight: f64, now_ns: u64) -> HealthView {
    let load = &endpoint.load;
    let left = |until_ns: u64| (until_ns > now_ns).then(|| (until_ns - now_ns) / 1_000_000);
    let (state, why, ejected_ms) = match outlier::state(load, now_ns) {
        State::Healthy => ("healthy", None, None),
        State::HalfOpen => ("half_open", None, None),
        State::Ejected { until_ns, why } => ("ejected", Some(why.as_str().to_owned()), left(until_ns)),
    };
    HealthView {
        address: endpoint.address.to_string(),
        pod: endpoint.workload.as_ref().map(|pod| format!("{}/{}", pod.namespace, pod.name)),
        weight_percent: weight * 100.0,
        response_us: load.response_ns.load(Relaxed) / 1000,
        connect_us: load.ewma_ns.load(Relaxed) / 1000,
        requests: load.requests.load(Relaxed),
        connections: load.outstanding.load(Relaxed),
        state: state.to_owned(),
        why,
        ejected_ms,
        penalised_ms: left(load.penalised_until_ns.load(Relaxed)),
        failures: load.breaker.failures.load(Relaxed),
    }
}

/// Endpoints that requests are kept away from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct OutOfRotation {
    pub(super) ejected: u32,
    pub(super) half_open: u32,
}

impl OutOfRotation {
    pub(super) fn of(port: &ServicePort, now_ns: u64) -> Self {
        let mut out = Self::default();
        for endpoint in &port.endpoints {
            match outlier::state(&endpoint.load, now_ns) {
                State::Healthy => {}
                State::HalfOpen => out.half_open += 1,
                State::Ejected { .. } => out.ejected += 1,
            }
        }
        out
    }

    fn by_state(self) -> [(&'static str, u32); 2] {
        [("ejected", self.ejected), ("half_open", self.half_open)]
    }
}

/// Only of service ports that had requests: a cluster has many that this node never calls.
#[derive(Debug)]
pub(super) struct BreakerCollector(pub(super) Arc<Sources>);

impl Collector for BreakerCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let snapshot = self.0.snapshot.load();
        let called = self.0.requests.services();
        let all = snapshot.services.iter().flat_map(|service| &service.ports);
        let ports: Vec<_> =
            all.filter(|port| called.contains(&(port.hostname.clone(), port.port))).map(Port::of).collect();
        breakers(&mut encoder, &ports)?;
        let states = ejected(&mut encoder, &ports, monotonic_ns())?;
        let routes = self.0.requests.routes();
        ejected_by_route(&mut encoder, &states, routes.keys())
    }
}

/// A port with the texts of its labels.
struct Port<'a> {
    port: &'a ServicePort,
    number: String,
    /// Ports of a service with two address families come twice.
    family: &'static str,
}

impl<'a> Port<'a> {
    fn of(port: &'a Arc<ServicePort>) -> Self {
        let is_v6 = port.endpoints.first().is_some_and(|endpoint| endpoint.address.is_ipv6());
        Self { port, number: port.port.to_string(), family: if is_v6 { "ipv6" } else { "ipv4" } }
    }

    fn labels(&self) -> [(&'static str, &str); 3] {
        [("service", &self.port.hostname), ("port", &self.number), ("family", self.family)]
    }
}

fn breakers(encoder: &mut DescriptorEncoder<'_>, ports: &[Port<'_>]) -> fmt::Result {
    let metrics = [
        ("posthaste_breaker_connections", "Upstream connections to a service"),
        ("posthaste_breaker_pending", "Requests that wait for a connection"),
        ("posthaste_breaker_requests", "Requests under way"),
        ("posthaste_breaker_retries", "Retries and hedges under way"),
    ];
    for (place, (name, help)) in metrics.into_iter().enumerate() {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for port in ports {
            let now = running(port.port).into_iter().nth(place).map_or(0, |(_, now, _)| now);
            gauge(&mut family, &port.labels(), i64::from(now))?;
        }
    }
    Ok(())
}

/// Also returns them, by host name and port, for each address family.
fn ejected<'a>(
    encoder: &mut DescriptorEncoder<'_>,
    ports: &'a [Port<'a>],
    now_ns: u64,
) -> Result<States<'a>, fmt::Error> {
    let help = "Endpoints that requests are kept away from, by the state of their breaker";
    let mut family =
        encoder.encode_descriptor("posthaste_endpoint_ejected", help, None, MetricType::Gauge)?;
    let mut states = States::new();
    for port in ports {
        let [service, number, ip] = port.labels();
        let out = OutOfRotation::of(port.port, now_ns);
        for (state, count) in out.by_state() {
            gauge(&mut family, &[service, number, ip, ("state", state)], count.into())?;
        }
        states.entry((&port.port.hostname, port.port.port)).or_default().push((port.family, out));
    }
    Ok(states)
}

type States<'a> = HashMap<(&'a str, u16), Vec<(&'static str, OutOfRotation)>>;

/// The same for the backends of rules that had requests.
fn ejected_by_route<'a>(
    encoder: &mut DescriptorEncoder<'_>,
    states: &States<'_>,
    routes: impl Iterator<Item = &'a RouteKey>,
) -> fmt::Result {
    let (name, help) = (
        "posthaste_route_endpoint_ejected",
        "Endpoints that requests are kept away from, by rule of a route, backend and the state of their breaker",
    );
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for key in routes {
        let (route, port) = (RouteText(&key.route).to_string(), key.port.to_string());
        let backend = [("route", &*route), ("backend", &*key.backend), ("port", &*port)];
        for (ip, out) in states.get(&(&*key.backend, key.port)).into_iter().flatten() {
            for (state, count) in out.by_state() {
                let labels = [&backend[..], &[("family", *ip), ("state", state)]].concat();
                gauge(&mut family, &labels, count.into())?;
            }
        }
    }
    Ok(())
}
