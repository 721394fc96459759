//! What the page is told: the answers of all agents put together. Pure.

use super::sample::{Added, Sample, Watched};
use crate::{
    cli::{
        coverage,
        graph::{Edge, OUTSIDE},
        joined::{self, Joined},
        top,
    },
    observe::views::{ConnectionView, PartyView, ServicePortView, ServiceView, TopView},
};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

/// Rows of a table; more than anybody reads.
const ROWS: usize = 1000;

/// Everything, of all agents that were asked.
#[derive(Debug, Default, Serialize)]
pub(super) struct State {
    agents: Vec<AgentState>,
    /// What rates are about; none before each agent answered twice.
    window_seconds: Option<f64>,
    encryption: Encryption,
    /// Requests of all services together.
    all: Rates,
    edges: Vec<EdgeState>,
    services: Vec<ServiceState>,
    /// Services beside those that are listed.
    more_services: usize,
    connections: Vec<ConnectionState>,
    /// Connections that live, of all agents; one between two of them counts at both.
    live_connections: usize,
    /// There are more connections than are listed.
    more_connections: bool,
    /// Pods that may call, `namespace/name`.
    pods: BTreeSet<String>,
}

#[derive(Debug, Serialize)]
struct AgentState {
    place: String,
    node: Option<String>,
    version: Option<String>,
    ready: bool,
    not_ready_reason: Option<String>,
    problems: usize,
    /// Of its last good answers.
    age_ms: Option<u64>,
    /// Why the last question failed.
    error: Option<String>,
}

/// See `posthaste coverage`.
#[derive(Debug, Default, Serialize)]
struct Encryption {
    everything: bool,
    because: Vec<String>,
}

/// Of the requests of the last seconds.
#[derive(Debug, Default, Serialize)]
struct Rates {
    requests_per_second: f64,
    /// None without requests.
    success_percent: Option<f64>,
    p50_us: Option<u64>,
    p99_us: Option<u64>,
    retries_per_second: f64,
}

#[derive(Debug, Default, Serialize)]
struct EdgeState {
    from: String,
    to: String,
    /// `namespace/name` of the services that were called.
    services: BTreeSet<String>,
    /// All of it since the agents started was protected by mutual TLS.
    encrypted: bool,
    requests_per_second: f64,
    connections_per_second: f64,
    bytes_per_second: f64,
    /// Of the requests of the last seconds, else of the connections; none where there were neither.
    success_percent: Option<f64>,
    open_connections: f64,
    total_requests: f64,
    total_connections: f64,
}

#[derive(Debug, Default, Serialize)]
struct ServiceState {
    namespace: String,
    name: String,
    port: u16,
    rates: Rates,
    total_requests: u64,
    /// That may be used, as the agent sees it that sees most.
    endpoints: usize,
    known_endpoints: usize,
    ejected: usize,
}

#[derive(Debug, Serialize)]
struct ConnectionState {
    id: String,
    /// As the ends of an edge.
    from: String,
    to: String,
    service: Option<String>,
    source: String,
    destination: String,
    endpoint: Option<String>,
    protocol: Option<&'static str>,
    security: &'static str,
    source_identity: Option<String>,
    destination_identity: Option<String>,
    state: String,
    reason: Option<String>,
    ended_by: Option<&'static str>,
    policy: Option<String>,
    sent_bytes: u64,
    received_bytes: u64,
    age_ms: u64,
    /// Between the agents, or to the other side.
    round_trip_us: Option<u32>,
}

/// `agents`: what each is called, and what it said.
pub(super) fn state(agents: &[(&str, &Watched)], now: Instant) -> State {
    let samples: Vec<&Sample> = agents.iter().filter_map(|(_, one)| Some(&one.last()?.1)).collect();
    let added: Vec<Added> = agents.iter().filter_map(|(_, one)| one.added()).collect();
    let covered = coverage::whole(samples.iter().map(|sample| sample.coverage.clone()).collect(), None);
    let (services, more_services) = services(&samples, &added);
    let (connections, more) = connections(&samples);
    State {
        agents: agents.iter().map(|(place, one)| agent(place, one, now)).collect(),
        window_seconds: added.iter().map(|one| one.seconds).reduce(f64::max),
        all: rates(added.iter().flat_map(|one| one.top.iter().map(|top| (top, one.seconds)))),
        edges: edges(&samples, &added),
        services,
        more_services,
        connections,
        live_connections: samples.iter().map(|sample| sample.connections.active).sum(),
        more_connections: more || samples.iter().any(|sample| sample.connections.truncated),
        pods: covered.pods.iter().map(|pod| format!("{}/{}", pod.namespace, pod.pod)).collect(),
        encryption: Encryption { everything: covered.everything_encrypted, because: covered.because },
    }
}

fn agent(place: &str, watched: &Watched, now: Instant) -> AgentState {
    let status = watched.last().map(|(_, sample)| &sample.status);
    let age = watched.last().map(|(at, _)| now.saturating_duration_since(*at).as_millis());
    AgentState {
        place: place.to_owned(),
        node: status.map(|status| status.node.clone()),
        version: status.map(|status| status.version.clone()),
        ready: status.is_some_and(|status| status.ready),
        not_ready_reason: status.and_then(|status| status.not_ready_reason.clone()),
        problems: status.map_or(0, |status| status.problems.len()),
        age_ms: age.map(|age| u64::try_from(age).unwrap_or(u64::MAX)),
        error: watched.error().map(str::to_owned),
    }
}

fn edges(samples: &[&Sample], added: &[Added]) -> Vec<EdgeState> {
    let mut all: BTreeMap<(&str, &str), EdgeState> = BTreeMap::new();
    for edge in samples.iter().flat_map(|sample| &sample.graph.edges) {
        let fresh = || EdgeState {
            from: edge.from.clone(),
            to: edge.to.clone(),
            encrypted: true,
            ..EdgeState::default()
        };
        let state = all.entry((&edge.from, &edge.to)).or_insert_with(fresh);
        state.services.extend(edge.services.iter().cloned());
        state.encrypted &= edge.encrypted;
        state.open_connections += (edge.connections - edge.closed).max(0.0);
        state.total_requests += edge.requests;
        state.total_connections += edge.connections + edge.refused;
    }
    let mut sums: BTreeMap<(&str, &str), Edge> = BTreeMap::new();
    for (edge, seconds) in added.iter().flat_map(|one| one.edges.iter().map(|edge| (edge, one.seconds))) {
        let sum = sums.entry((&edge.from, &edge.to)).or_default();
        sum.requests += edge.requests;
        sum.failed += edge.failed;
        sum.connections += edge.connections;
        sum.refused += edge.refused;
        if let Some(state) = all.get_mut(&(&*edge.from, &*edge.to)) {
            state.requests_per_second += edge.requests / seconds;
            state.connections_per_second += (edge.connections + edge.refused) / seconds;
            state.bytes_per_second += edge.bytes / seconds;
        }
    }
    for (ends, sum) in sums {
        if let Some(state) = all.get_mut(&ends) {
            state.success_percent = sum.success().map(|share| share * 100.0);
        }
    }
    all.into_values().collect()
}

/// The busiest first, and how many more there are.
fn services(samples: &[&Sample], added: &[Added]) -> (Vec<ServiceState>, usize) {
    type Key<'sample> = (&'sample str, &'sample str, u16);
    let mut all: BTreeMap<Key<'_>, ServiceState> = BTreeMap::new();
    for sample in samples {
        for service in &sample.services {
            for port in &service.ports {
                // A port of two address families comes twice.
                let state = all.entry((&service.namespace, &service.name, port.port)).or_default();
                place(state, service, port);
            }
        }
        for one in &sample.top {
            if let Some(state) = all.get_mut(&(&*one.namespace, &*one.service, one.port)) {
                state.total_requests += one.requests;
            }
        }
    }
    let mut busy: BTreeMap<Key<'_>, Vec<(&TopView, f64)>> = BTreeMap::new();
    for (one, seconds) in added.iter().flat_map(|one| one.top.iter().map(|top| (top, one.seconds))) {
        busy.entry((&one.namespace, &one.service, one.port)).or_default().push((one, seconds));
    }
    for (key, all_of_it) in busy {
        if let Some(state) = all.get_mut(&key) {
            state.rates = rates(all_of_it.into_iter());
        }
    }
    let mut all: Vec<ServiceState> = all.into_values().collect();
    all.sort_by(|a, b| b.rates.requests_per_second.total_cmp(&a.rates.requests_per_second));
    let more = all.len().saturating_sub(ROWS);
    all.truncate(ROWS);
    (all, more)
}

fn place(state: &mut ServiceState, service: &ServiceView, port: &ServicePortView) {
    state.namespace.clone_from(&service.namespace);
    state.name.clone_from(&service.name);
    state.port = port.port;
    state.endpoints = state.endpoints.max(port.endpoints.len());
    state.known_endpoints = state.known_endpoints.max(port.known_endpoints);
    let ejected = port.endpoints.iter().filter(|endpoint| endpoint.ejected_ms.is_some()).count();
    state.ejected = state.ejected.max(ejected);
}

/// Of what agents counted, each in its seconds.
fn rates<'sample>(all: impl Iterator<Item = (&'sample TopView, f64)>) -> Rates {
    let (mut sum, mut latencies) = (TopView::default(), BTreeMap::<u16, u64>::new());
    let (mut requests_per_second, mut retries_per_second) = (0.0, 0.0);
    for (one, seconds) in all {
        let rate = top::over(one, seconds);
        requests_per_second += rate.requests_per_second;
        retries_per_second += rate.retries_per_second;
        sum.requests += one.requests;
        sum.failures += one.failures;
        for (bucket, count) in &one.latencies {
            *latencies.entry(*bucket).or_default() += count;
        }
    }
    sum.latencies = latencies.into_iter().collect();
    let together = top::over(&sum, 1.0);
    Rates {
        requests_per_second,
        success_percent: together.success_percent,
        p50_us: together.p50_us,
        p99_us: together.p99_us,
        retries_per_second,
    }
}

/// Those that live first, each with both of its ends where both agents were asked; and whether there are more.
fn connections(samples: &[&Sample]) -> (Vec<ConnectionState>, bool) {
    let records = samples.iter().flat_map(|sample| sample.connections.connections.iter().cloned());
    let mut all: Vec<ConnectionState> =
        joined::join(records.collect()).iter().filter_map(connection).collect();
    all.sort_by_key(|one| one.state == "closed");
    let more = all.len() > ROWS;
    all.truncate(ROWS);
    (all, more)
}

fn connection(joined: &Joined) -> Option<ConnectionState> {
    let one = joined.first()?;
    let called = joined.called.as_ref();
    let destination = called.map_or(&one.destination, |called| &called.destination);
    let service = one.service.as_deref().and_then(named);
    let to = workload(destination).or_else(|| service.clone()).unwrap_or_else(|| OUTSIDE.to_owned());
    let either = |field: fn(&ConnectionView) -> Option<String>| field(one).or_else(|| called.and_then(field));
    Some(ConnectionState {
        id: joined.id.clone(),
        from: workload(&one.source).unwrap_or_else(|| OUTSIDE.to_owned()),
        to,
        source: crate::cli::connections::party(&one.source),
        destination: crate::cli::connections::party(destination),
        endpoint: one.endpoint.clone(),
        protocol: one.protocol.map(|protocol| protocol.as_str()),
        security: one.security.as_str(),
        source_identity: either(|record| record.source.principal.clone()),
        destination_identity: destination.principal.clone().or_else(|| one.destination.principal.clone()),
        state: one.state.clone(),
        reason: one.reason.map(|reason| reason.to_string()),
        ended_by: one.ended_by.map(|who| who.as_str()),
        policy: either(|record| record.policy.clone()),
        sent_bytes: one.sent_bytes,
        received_bytes: one.received_bytes,
        age_ms: one.age_ms,
        round_trip_us: one.network_socket.map(|socket| socket.srtt_us),
        service,
    })
}

fn workload(party: &PartyView) -> Option<String> {
    Some(format!("{}/{}", party.namespace.as_deref()?, party.workload.as_deref()?))
}

/// `namespace/name` of a service's host name.
fn named(hostname: &str) -> Option<String> {
    let mut parts = hostname.split('.');
    let (name, namespace) = (parts.next()?, parts.next()?);
    Some(format!("{namespace}/{name}"))
}

#[cfg(test)]
mod tests;
