//! The connection: is it captured, where does its address lead, what does it speak, and where does it go as bytes.

use std::{net::SocketAddr, sync::Arc};

use http::request::Parts;

use super::{
    Comer, Question, Told, World,
    question::Source,
    reach::{self, Caller},
    request,
};
use crate::{
    bpf::Outbound,
    observe::{CloseReason, Security, breakers, views::OutcomeKind},
    path::{
        detect::{Approach, approach},
        identify,
        route::{self, Target},
    },
    resilience::{balance, bulkhead},
    snapshot::{LocalPod, ServicePort},
};

/// Says all of it.
pub(super) fn explain(
    world: &World<'_>,
    question: &Question,
    source: &Source<'_>,
    destination: SocketAddr,
    told: &mut Told,
) {
    let caller = Caller { workload: &source.workload, destination };
    let Some(here) = source.here else {
        let why = source.uncaptured.unwrap_or("its agent has not enrolled it");
        told.step("capture", format!("not captured: {why}"));
        return straight(world, question, &caller, told);
    };
    if !capture(world, question, here, &caller, told) {
        return;
    }
    if let Err(limit @ bulkhead::Bulkhead::Connections) = bulkhead::has_room(&here.load, &here.bulkhead) {
        told.stop("admission", format!("the pod has reached its bulkhead `{}`", limit.as_str()));
        return refused(told, CloseReason::Overflow);
    }
    let target = match route::outbound(world.snapshot, destination) {
        Ok(target) => target,
        Err(reason) => {
            told.stop("route", said_of(world, destination, reason));
            return refused(told, reason);
        }
    };
    match target {
        Target::Service(port) => service(world, question, here, &caller, port, told),
        Target::Pod(workload, address) => {
            told.step(
                "route",
                format!("the address of pod {}/{}, and of no service", workload.namespace, workload.name),
            );
            told.step("protocol", "not asked: only ports of services are looked at");
            let request = question.request.as_ref();
            let chance = reach::endpoint(world, here, address, Some(workload), 1.0, request, told);
            reach::conclude(told, "to the pod itself", vec![chance]);
        }
        Target::Outside(address) => {
            told.step("route", format!("{address} is no service and no pod of the mesh: plain TCP to there"));
            let chance = reach::endpoint(world, here, address, None, 1.0, None, told);
            told.certain(OutcomeKind::Outside, format!("in plain TCP to {address}")).endpoints = vec![chance];
        }
        // Only what comes in has this target.
        Target::Application { address, .. } => told.step("route", format!("the application at {address}")),
    }
}

/// Whether the agent gets it.
fn capture(
    world: &World<'_>,
    question: &Question,
    here: &LocalPod,
    caller: &Caller<'_>,
    told: &mut Told,
) -> bool {
    let Some(judged) = (world.outbound)(&here.workload.uid, caller.destination) else {
        told.step("capture", "not captured: the kernel does not have the pod (`posthaste status` says why)");
        straight(world, question, caller, told);
        return false;
    };
    let number =
        judged.number.map_or_else(|| "not in its hook".to_owned(), |number| format!("program {number}"));
    let program = format!("{} ({number})", judged.program);
    match judged.verdict {
        Outbound::Capture => {
            told.step("capture", format!("captured by {program}, which sends it to the agent"));
            true
        }
        Outbound::Pass => {
            told.step("capture", format!("left alone by {program}: loopback, or this host"));
            straight(world, question, caller, told);
            false
        }
        Outbound::PassCounted(counter) => {
            told.step("capture", format!("left alone by {program}: {}", words(counter)));
            straight(world, question, caller, told);
            false
        }
        Outbound::Refuse(counter) => {
            told.stop("capture", format!("refused by {program}: {}", words(counter)));
            let says = "connect fails with EPERM";
            told.certain(OutcomeKind::Refused, says);
            false
        }
    }
}

fn words(counter: agent_common::Counter) -> &'static str {
    use agent_common::Counter;
    match counter {
        Counter::ExcludedOutbound => "the pod excludes this port (posthaste.dev/exclude-outbound-ports)",
        Counter::ExcludedInbound => "the pod excludes this port (posthaste.dev/exclude-inbound-ports)",
        Counter::NodeInbound => "it comes from the node itself, as probes do",
        Counter::RefusedOutbound | Counter::RefusedInbound => "no agent lives, and the fail mode is closed",
        Counter::PassedOutbound | Counter::PassedInbound => "no agent lives, and the fail mode is open",
        Counter::MapFull => "a map is full",
        _ => "it cannot be captured",
    }
}

/// Without the mesh: what the other side says to plain text is known where it is a pod of the mesh.
fn straight(world: &World<'_>, question: &Question, caller: &Caller<'_>, told: &mut Told) {
    let destination = caller.destination;
    if world.snapshot.cluster_ips.contains_key(&destination.ip()) {
        let says = format!(
            "straight to {destination}, a service address, which only kube-proxy or the like can lead on"
        );
        told.certain(OutcomeKind::Uncaptured, says);
        return;
    }
    let workload = world.snapshot.workloads.get(&destination.ip());
    let own = &caller.workload.addresses;
    let client = own.iter().copied().find(|own| own.is_ipv4() == destination.is_ipv4());
    let comes = workload.zip(client).map(|(pod, client)| {
        let comer = Comer {
            pod: format!("{}/{}", pod.namespace, pod.name),
            address: destination,
            client,
            identity: None,
            request: question.request.clone(),
        };
        reach::arrival(world, pod, &comer, told)
    });
    let arrived = comes.unwrap_or_default();
    let refused = arrived.refused.filter(|_| arrived.status.is_none());
    let chance = reach::chance(destination, workload, 1.0, (Security::None, None), arrived);
    let outcome = told.certain(OutcomeKind::Uncaptured, format!("straight to {destination}, in plain text"));
    outcome.endpoints = vec![chance];
    outcome.reason = refused;
    if refused.is_some() {
        outcome.kind = OutcomeKind::Refused;
    }
}

fn said_of(world: &World<'_>, destination: SocketAddr, reason: CloseReason) -> String {
    let service = world.snapshot.cluster_ips.get(&destination.ip());
    let name = service.map_or_else(|| destination.to_string(), |service| service.hostname.to_string());
    match reason {
        CloseReason::UnknownPort => {
            let mut ports: Vec<u16> =
                service.map_or_else(Vec::new, |service| service.ports.iter().map(|port| port.port).collect());
            ports.dedup();
            format!("{name} has no port {}; it has {ports:?}", destination.port())
        }
        CloseReason::NoEndpoints => format!("{name} has no endpoint that may be used from this node"),
        reason => format!("{name}: {reason}"),
    }
}

fn refused(told: &mut Told, reason: CloseReason) {
    told.certain(OutcomeKind::Refused, format!("the connection is reset: {reason}")).reason = Some(reason);
}

fn service(
    world: &World<'_>,
    question: &Question,
    here: &Arc<LocalPod>,
    caller: &Caller<'_>,
    port: &ServicePort,
    told: &mut Told,
) {
    let (usable, known) = (port.endpoints.len(), port.known_endpoints);
    told.step(
        "route",
        format!(
            "port {} of {}: {usable} of its {known} endpoints may be used from this node",
            port.port, port.hostname
        ),
    );
    let (says, http) = protocol(port, question.request.is_some());
    told.step("protocol", says);
    match &question.request {
        Some(parts) if http => request::explain(world, here, caller, parts, told),
        request => bytes(world, here, port, request.as_ref(), told),
    }
}

/// What the connection is taken for, and whether as requests.
fn protocol(port: &ServicePort, asked: bool) -> (String, bool) {
    let guess = if asked { "a request, as is asked about here" } else { "bytes, as is asked about here" };
    match approach(port) {
        Approach::Connect(why) => (format!("tcp by {}: carried byte by byte", why.as_str()), false),
        Approach::Name(why) => {
            (format!("tls by {}: carried byte by byte, its server name is noted", why.as_str()), false)
        }
        Approach::Request(protocol, why) => {
            (format!("{} by {}: each request is routed by itself", protocol.as_str(), why.as_str()), true)
        }
        Approach::Expect => (format!("http, as earlier connections were (learnt): {guess}"), asked),
        Approach::Race => (format!("nothing says: the first bytes decide; {guess}"), asked),
    }
}

/// Carried byte by byte: balanced once.
fn bytes(world: &World<'_>, here: &LocalPod, port: &ServicePort, request: Option<&Parts>, told: &mut Told) {
    told.0.services.push(breakers::view(port, world.now_ns));
    let like = port.endpoints.first().map(|endpoint| endpoint.address.ip());
    let client = like.and_then(|like| identify::own_address(here, like));
    let Some(client) = client.or_else(|| here.workload.addresses.first().copied()) else { return };
    let weights = balance::connection_weights(port, client, world.now_ns);
    let affinity = port.affinity_seconds.map(|_| ", sessionAffinity: ClientIP").unwrap_or_default();
    let crate::worker::ConnectLimits { attempts, attempt, total, .. } = world.connect;
    told.step(
        "balance",
        format!("the better of two endpoints drawn, by connections and connect time{affinity}"),
    );
    told.step("times", format!("up to {attempts} endpoints, {attempt:?} for each, {total:?} in all"));
    let may_win = |endpoint| port.affinity_seconds.is_none() && reach::may_win(world, endpoint);
    let all = port.endpoints.iter().zip(weights);
    let chances: Vec<_> = all
        .filter(|(endpoint, weight)| *weight > 0.0 || may_win(endpoint))
        .map(|(endpoint, weight)| {
            let (address, pod) = (endpoint.address, endpoint.workload.as_ref());
            reach::endpoint(world, here, address, pod, weight, request, told)
        })
        .collect();
    let service = format!("{}.{}:{}", port.service_name, port.service_namespace, port.port);
    reach::conclude(told, &format!("to an endpoint of {service}"), chances);
    if let Some(outcome) = told.0.outcomes.last_mut() {
        outcome.service = Some(service);
    }
}
