//! A request: which rule it follows, to which backends, which endpoints of them, with what times and limits.

use std::sync::Arc;

use http::request::Parts;

use super::{
    Told, World,
    reach::{self, Caller},
};
use crate::{
    observe::{
        breakers,
        requests::RouteText,
        views::{ChanceView, OutcomeKind, OutcomeView, RuleView},
    },
    path::http::{
        answer::Local,
        attempts, exchange, head,
        plan::{self, Decision, Plan},
    },
    resilience::{balance, bulkhead, limits},
    snapshot::{LocalPod, ServicePort, policy::RetryPolicy, routes::RouteTable},
};

/// Says what becomes of a request on a connection to a service port.
pub(super) fn explain(
    world: &World<'_>,
    here: &Arc<LocalPod>,
    caller: &Caller<'_>,
    parts: &Parts,
    told: &mut Told,
) {
    let place = (caller.destination.ip(), caller.destination.port());
    let Some(port) = world.snapshot.service_ports.get(&place) else { return };
    let routes = world.snapshot.routes.get(&place).map(|routes| &**routes);
    let namespace = &*here.workload.namespace;
    let table = routes.and_then(|routes| routes.of(namespace));
    let draws = match table {
        Some(table) => rules(table, parts, told),
        None => {
            told.step(
                "rule",
                format!("no route is attached for callers of namespace {namespace}: the service itself"),
            );
            vec![(0, 1.0)]
        }
    };
    for (random, share) in draws {
        let decision = plan::decide(port, routes, namespace, parts, random);
        outcome(world, here, parts, (&decision, share), told);
    }
}

/// Tells of each match why it is followed or passed over; the numbers that draw each backend of the rule, with their shares.
fn rules(table: &RouteTable, parts: &Parts, told: &mut Told) -> Vec<(u64, f64)> {
    let view = plan::view(parts);
    let chosen = table.choose(&view).map(|choice| choice.rule);
    let mut found = false;
    for entry in table.entries() {
        let unmet = entry.unmet(&view).map(|unmet| unmet.to_string());
        let is_it = !found && unmet.is_none() && chosen.is_some_and(|rule| Arc::ptr_eq(rule, &entry.rule));
        found |= is_it;
        let after = || "it matches as well, and comes after the one that is chosen".to_owned();
        told.0.rules.push(RuleView {
            route: RouteText(&entry.rule.name).to_string(),
            matches: entry.to_string(),
            chosen: is_it,
            why: (!is_it).then(|| unmet.unwrap_or_else(after)),
        });
    }
    match chosen {
        Some(rule) => {
            told.step("rule", format!("{} matches", rule.name));
            rule.draws()
        }
        None => {
            told.stop("rule", format!("none of {} matches fits", table.entries().len()));
            vec![(0, 1.0)]
        }
    }
}

fn outcome(
    world: &World<'_>,
    here: &Arc<LocalPod>,
    parts: &Parts,
    (decision, share): (&Decision, f64),
    told: &mut Told,
) {
    match decision {
        Decision::Forward(plan) => forward(world, here, parts, (plan, share), told),
        Decision::Answer(name, response) => {
            let status = response.status().as_u16();
            told.outcome(OutcomeView {
                probability: share,
                kind: OutcomeKind::Answered,
                says: format!("the rule answers {status} itself"),
                status: Some(status),
                route: name.as_ref().map(|name| RouteText(name).to_string()),
                ..OutcomeView::default()
            });
        }
        Decision::Refuse(name, local) => {
            let route = name.as_ref().map(|name| RouteText(name).to_string());
            answered(told, share, local, route);
        }
    }
}

/// The agent answers on its own behalf.
fn answered(told: &mut Told, share: f64, local: &Local, route: Option<String>) {
    told.outcome(OutcomeView {
        probability: share,
        kind: OutcomeKind::Answered,
        says: local.text.clone(),
        status: Some(local.status.as_u16()),
        flag: Some(local.flag.as_str().to_owned()),
        route,
        ..OutcomeView::default()
    });
}

fn forward(
    world: &World<'_>,
    here: &Arc<LocalPod>,
    parts: &Parts,
    (plan, share): (&Plan, f64),
    told: &mut Told,
) {
    let port = &plan.port;
    let service = format!("{}.{}:{}", port.service_name, port.service_namespace, port.port);
    let route = plan.name().map(|name| RouteText(name).to_string());
    told.0.services.push(breakers::view(port, world.now_ns));
    if let Some(local) = without_room(here, plan) {
        told.stop("limits", local.text.clone());
        return answered(told, share, &local, route);
    }
    if port.endpoints.is_empty() {
        let local = attempts::nobody(port);
        told.stop("balance", local.text.clone());
        return answered(told, share, &local, route);
    }
    let mut changed = parts.clone();
    plan.change_request(&mut changed);
    if changed.uri != parts.uri {
        told.step("rule", format!("the path becomes {}", changed.uri));
    }
    let chances = endpoints(world, here, &changed, port, told);
    times(world, plan, &changed, told);
    retries(world, here, plan, &changed, told);
    let outcome = told.outcome(OutcomeView {
        probability: share,
        kind: OutcomeKind::Forwarded,
        says: format!("to an endpoint of {service}"),
        route,
        service: Some(service),
        request: true,
        endpoints: chances,
        ..OutcomeView::default()
    });
    outcome.settle();
}

fn without_room(here: &LocalPod, plan: &Plan) -> Option<Local> {
    match bulkhead::has_room(&here.load, &here.bulkhead) {
        Err(limit) => Some(exchange::pod_is_full(here, limit)),
        Ok(()) => limits::has_room(&plan.port.state, &plan.port.policy.limits)
            .err()
            .map(|limit| exchange::service_is_full(&plan.port, limit)),
    }
}

/// The endpoints that may get it, with their probabilities of the moment.
fn endpoints(
    world: &World<'_>,
    here: &LocalPod,
    parts: &Parts,
    port: &ServicePort,
    told: &mut Told,
) -> Vec<ChanceView> {
    let source = here.workload.addresses.first().copied();
    let key = source.and_then(|source| balance::key_of(&port.policy.balancer, &parts.headers, source));
    let by_key = key.and_then(|key| balance::of_key(port, key, world.now_ns));
    let weights: Vec<(usize, f64)> = match by_key {
        Some(index) => {
            let says =
                "by the key of the request on the hash ring; others only where that one is not reached";
            told.step("balance", says);
            let share = |place| if place == index { 1.0 } else { 0.0 };
            (0..port.endpoints.len()).map(|place| (place, share(place))).collect()
        }
        None => {
            told.step("balance", "the better of two endpoints drawn, by running requests and response time");
            balance::pick_weights(port, world.now_ns)
        }
    };
    let all = weights.into_iter().filter_map(|(index, weight)| Some((port.endpoints.get(index)?, weight)));
    let possible = all.filter(|(endpoint, weight)| *weight > 0.0 || reach::may_win(world, endpoint));
    let reached = possible.map(|(endpoint, weight)| {
        reach::endpoint(world, here, endpoint.address, endpoint.workload.as_ref(), weight, Some(parts), told)
    });
    reached.collect()
}

fn times(world: &World<'_>, plan: &Plan, parts: &Parts, told: &mut Told) {
    let grpc = head::is_grpc(&parts.headers);
    let brought = head::deadline(&parts.headers, grpc, world.now_ns).remaining(world.now_ns);
    let said = |ns: Option<u64>| ns.map_or_else(|| "none".to_owned(), |ns| format!("{} ms", ns / 1_000_000));
    told.step(
        "times",
        format!(
            "whole request: {}; each attempt: {}; brought by the caller: {}",
            said(plan.request_timeout_ns()),
            said(plan.attempt_timeout_ns()),
            said(brought)
        ),
    );
}

fn retries(world: &World<'_>, here: &LocalPod, plan: &Plan, parts: &Parts, told: &mut Told) {
    let RetryPolicy { attempts, codes, any_method, .. } = plan.retry();
    let (workload, port) = (&here.workload, &plan.port);
    let budget = port.state.budget(&workload.namespace, &workload.labels.workload, world.now_ns);
    let left = budget.left(&port.policy.budget, world.now_ns);
    let idempotent = head::is_idempotent(&parts.method, head::is_grpc(&parts.headers));
    let whom = match (idempotent, any_method) {
        (true, _) => "after failures and these codes",
        (false, true) => "after these codes only, for the method is not idempotent",
        (false, false) => "never once it may have been seen, for the method is not idempotent",
    };
    told.step(
        "retries",
        format!("up to {attempts}, {whom}: {codes:?}; the budget has {left} left at the moment"),
    );
}
