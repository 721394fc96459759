//! The admin answers about requests: `/routes`, `/endpoints`, `/top`, `/tap`.

use super::{
    Sources,
    breakers::OutOfRotation,
    clock::wall_offset_ns,
    http::{Answer, AnswerBody, Pieces},
    query::Query,
    requests::{Requests, RouteKey, RouteTally, RouteText, TapFilter, Tapped},
    row::ServiceName,
    views::{RouteBackendView, RouteCountsView, RouteMatchView, RoutesView},
};
use crate::{
    resilience::outlier,
    snapshot::{
        ServicePort, ServiceRoutes,
        routes::{Action, Backend, Filters, RouteName, RouteTable, Rule, entry::Entry},
    },
};
use http::{HeaderName, Method};
use hyper::{StatusCode, body::Bytes};
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll},
};

/// Requests in one piece of a tap's answer.
const PIECE: usize = 64;
/// Requests of one tap unless `max` asks for fewer; then it ends.
const MOST: u64 = 1_000_000;

/// Whether the query means this port, by `namespace` and `service`.
pub(super) fn is_meant(query: &Query<'_>, port: &ServicePort) -> bool {
    query.find("namespace").is_none_or(|namespace| *port.service_namespace == *namespace)
        && query.find("service").is_none_or(|service| ServiceName::from(port).is(service))
}

/// What is asked for the state of routes.
struct Now {
    counts: HashMap<RouteKey, Arc<RouteTally>>,
    now_ns: u64,
}

pub(super) fn routes(sources: &Sources, query: &Query<'_>, now_ns: u64) -> Vec<RoutesView> {
    let snapshot = sources.snapshot.load();
    let now = Now { counts: sources.requests.routes(), now_ns };
    let mut views = Vec::new();
    let mut seen = HashSet::new();
    for service in &snapshot.services {
        for port in service.ports.iter().filter(|port| is_meant(query, port)) {
            let find = |address| snapshot.routes.get(&(address, port.port));
            let found = service.cluster_ips.iter().copied().find_map(find);
            if let Some(routes) = found.filter(|_| seen.insert((port.hostname.clone(), port.port))) {
                views.extend(tables(port, routes, &now));
            }
        }
    }
    views
}

fn tables(port: &ServicePort, routes: &ServiceRoutes, now: &Now) -> Vec<RoutesView> {
    let view = |callers: Option<&str>, table: &RouteTable| RoutesView {
        namespace: port.service_namespace.to_string(),
        service: port.service_name.to_string(),
        port: port.port,
        callers: callers.map(str::to_owned),
        matches: table.entries().iter().map(|entry| match_view(entry, now)).collect(),
    };
    let mut consumers: Vec<_> = routes.consumers.iter().collect();
    consumers.sort_by_key(|(namespace, _)| *namespace);
    let producer = routes.producer.iter().map(|table| view(None, table));
    producer.chain(consumers.into_iter().map(|(namespace, table)| view(Some(namespace), table))).collect()
}

fn match_view(entry: &Entry, now: &Now) -> RouteMatchView {
    let rule: &Rule = &entry.rule;
    let (action, backends, problem) = match &rule.action {
        Action::Forward(backends) => ("forward", backend_views(&rule.name, backends, now), None),
        Action::Redirect(_) => ("redirect", Vec::new(), None),
        Action::Invalid(reason) => ("invalid", Vec::new(), Some(reason.clone())),
    };
    RouteMatchView {
        matches: entry.to_string(),
        route: RouteText(&rule.name).to_string(),
        action: action.to_owned(),
        backends,
        filters: filter_names(&rule.filters),
        request_timeout_ms: rule.request_timeout_ns.map(|time| time / 1_000_000),
        backend_timeout_ms: rule.backend_timeout_ns.map(|time| time / 1_000_000),
        retries: rule.retry.as_ref().map(|retry| retry.attempts),
        problem,
    }
}

fn backend_views(rule: &Arc<RouteName>, backends: &[Backend], now: &Now) -> Vec<RouteBackendView> {
    let total: u64 = backends.iter().map(|backend| u64::from(backend.weight)).sum();
    let percent = |weight: u32| if total == 0 { 0.0 } else { f64::from(weight) * 100.0 / total as f64 };
    let view = |backend: &Backend| {
        let name =
            |port: &ServicePort| format!("{}.{}:{}", port.service_name, port.service_namespace, port.port);
        let share = RouteBackendView {
            weight: backend.weight,
            percent: percent(backend.weight),
            problem: backend.port.as_ref().err().cloned(),
            ..RouteBackendView::default()
        };
        let Ok(port) = &backend.port else { return share };
        let out = OutOfRotation::of(port, now.now_ns);
        RouteBackendView {
            service: Some(name(port)),
            endpoints: u32::try_from(port.endpoints.len()).unwrap_or(u32::MAX),
            ejected: out.ejected,
            half_open: out.half_open,
            panic: !outlier::are_honoured(port, now.now_ns),
            counts: counts(rule, port, now),
            ..share
        }
    };
    backends.iter().map(view).collect()
}

fn counts(rule: &Arc<RouteName>, port: &ServicePort, now: &Now) -> RouteCountsView {
    let key = RouteKey { route: rule.clone(), backend: port.hostname.clone(), port: port.port };
    let Some(tally) = now.counts.get(&key) else { return RouteCountsView::default() };
    RouteCountsView {
        requests: tally.requests(),
        retries: tally.retries.load(Relaxed),
        hedges: tally.hedges.load(Relaxed),
        budget_refused: tally.budget_refused.load(Relaxed),
        overflow: tally.overflow.load(Relaxed),
        ejections: tally.ejections.load(Relaxed),
    }
}

fn filter_names(filters: &Filters) -> Vec<String> {
    let mut names = Vec::new();
    for (name, changes) in [("request", &filters.request_headers), ("response", &filters.response_headers)] {
        let count = changes.set.len() + changes.add.len() + changes.remove.len();
        if count > 0 {
            names.push(format!("{count} {name} headers"));
        }
    }
    if filters.rewrite.is_some() {
        names.push("rewrite".to_owned());
    }
    names.extend(filters.mirrors.iter().map(|mirror| match &mirror.port {
        Ok(port) => format!("mirror {}/{} to {}", mirror.numerator, mirror.denominator, port.service_name),
        Err(reason) => format!("mirror: {reason}"),
    }));
    if filters.cors.is_some() {
        names.push("cors".to_owned());
    }
    names
}

/// `namespace`, `service`, `path` (prefix), `method`, `status` (`404`, `5xx`, `500-503`), `max`, `header` (any number of names
/// whose values are shown). One JSON line for each request that ends, until the client leaves.
pub(super) fn tap(requests: &Requests, query: &Query<'_>) -> Answer {
    let wrong = |what: &str| Answer::text(StatusCode::BAD_REQUEST, format!("{what}\n"));
    let Ok(method) = query.find("method").map(|name| Method::from_bytes(name.as_bytes())).transpose() else {
        return wrong("`method` is not a method");
    };
    let status = query.find("status").map(status_range);
    if status == Some(None) {
        return wrong("`status` is 404, 5xx or 500-503, up to 599; 0 is no answer");
    }
    let Ok(shown) = query.all("header").map(str::parse::<HeaderName>).collect::<Result<Vec<_>, _>>() else {
        return wrong("`header` is not the name of a header");
    };
    let owned = |name| query.find(name).map(str::to_owned);
    let filter = TapFilter {
        namespace: owned("namespace"),
        service: owned("service"),
        path: owned("path"),
        method,
        status: status.flatten(),
    };
    let max = query.find("max").and_then(|max| max.parse().ok()).unwrap_or(MOST).min(MOST);
    match requests.tap(filter) {
        Some(tapped) => Answer {
            status: StatusCode::OK,
            content: "application/jsonl",
            body: AnswerBody::Pieces(pieces(tapped, shown, max)),
        },
        None => Answer::text(StatusCode::SERVICE_UNAVAILABLE, "too many taps at once; end another one\n"),
    }
}

/// `404`, `5xx`, `500-503`; 0 is no answer.
fn status_range(text: &str) -> Option<(u16, u16)> {
    if let Some(hundred) = text.strip_suffix("xx") {
        let hundred: u16 = hundred.parse().ok().filter(|hundred| (1..=5).contains(hundred))?;
        return Some((hundred * 100, hundred * 100 + 99));
    }
    let (least, most) = text.split_once('-').unwrap_or((text, text));
    let (least, most) = (least.parse().ok()?, most.parse().ok()?);
    // What nothing can have would be waited for in vain.
    (least <= most && most < 600).then_some((least, most))
}

fn pieces(mut tapped: Tapped, shown: Vec<HeaderName>, max: u64) -> Pieces {
    let mut left = max;
    Box::new(move |context: &mut Context<'_>| {
        let mut piece = Vec::new();
        let offset = wall_offset_ns();
        for _ in 0..PIECE {
            if left == 0 {
                break;
            }
            match tapped.requests.poll_recv(context) {
                Poll::Ready(Some(request)) => {
                    request.write_tap(&mut piece, offset, &shown);
                    left -= 1;
                }
                Poll::Ready(None) => left = 0,
                Poll::Pending if piece.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        match tapped.missed() {
            0 => {}
            missed => {
                piece.extend_from_slice(format!("{{\"event\":\"missed\",\"count\":{missed}}}\n").as_bytes())
            }
        }
        Poll::Ready((!piece.is_empty()).then(|| Bytes::from(piece)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_one_a_hundred_or_a_range() {
        let table = [
            ("404", Some((404, 404))),
            ("5xx", Some((500, 599))),
            ("500-503", Some((500, 503))),
            ("0", Some((0, 0))),
            ("x", None),
            ("-", None),
            ("999xx", None),
            ("99999", None),
            ("9xx", None),
            ("600", None),
            ("503-500", None),
        ];
        for (text, range) in table {
            assert_eq!(status_range(text), range, "{text}");
        }
    }
}
