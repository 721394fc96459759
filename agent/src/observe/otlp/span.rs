//! A finished request as OpenTelemetry spans, by the conventions for HTTP and RPC clients
//! (<https://opentelemetry.io/docs/specs/semconv/http/http-spans/>). The query is left out: it may hold secrets. Pure.

use crate::{
    observe::requests::{AttemptNote, AttemptOutcome, Finished, RequestProtocol, RouteText, is_grpc_failure},
    resilience::bulkhead::Bulkhead,
    snapshot::Workload,
};
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span::SpanKind, status::StatusCode},
};
use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

/// W3C flag `sampled`.
const SAMPLED: u32 = 1;

/// The spans of some requests, by the pod that called. `wall_offset_ns` turns agent time into nanoseconds since 1970.
pub(super) fn batch(
    requests: &[Arc<Finished>],
    wall_offset_ns: u64,
    random: &mut impl FnMut() -> u64,
) -> Vec<ResourceSpans> {
    let mut pods: BTreeMap<&str, (&Workload, Vec<Span>)> = BTreeMap::new();
    for request in requests {
        let (_, spans) = pods.entry(&request.pod.uid).or_insert_with(|| (&request.pod, Vec::new()));
        spans.extend(of_request(request, wall_offset_ns, random));
    }
    pods.into_values().map(|(pod, spans)| of_pod(pod, spans)).collect()
}

fn of_pod(pod: &Workload, spans: Vec<Span>) -> ResourceSpans {
    let attributes = [
        ("service.name", &pod.labels.canonical_service),
        ("service.namespace", &pod.namespace),
        ("service.version", &pod.labels.version),
        ("k8s.cluster.name", &pod.labels.cluster),
        ("k8s.namespace.name", &pod.namespace),
        ("k8s.pod.name", &pod.name),
        ("k8s.node.name", &pod.node),
    ];
    let attributes = attributes.into_iter().filter(|(_, value)| !value.is_empty());
    let scope = InstrumentationScope {
        name: env!("CARGO_PKG_NAME").to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    ResourceSpans {
        resource: Some(Resource {
            attributes: attributes.map(|(key, value)| text(key, value)).collect(),
            ..Resource::default()
        }),
        scope_spans: vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }],
        ..ResourceSpans::default()
    }
}

/// One for the request, and one for each attempt where there were several.
fn of_request(request: &Finished, wall_offset_ns: u64, random: &mut impl FnMut() -> u64) -> Vec<Span> {
    let Some(trace) = request.details.trace else { return Vec::new() };
    let own = Span {
        trace_id: trace.own.trace_id.to_be_bytes().to_vec(),
        span_id: trace.own.span_id.to_be_bytes().to_vec(),
        parent_span_id: trace.parent.map_or_else(Vec::new, |parent| parent.to_be_bytes().to_vec()),
        flags: SAMPLED,
        name: name(request),
        kind: SpanKind::Client.into(),
        start_time_unix_nano: request.started_ns.saturating_add(wall_offset_ns),
        end_time_unix_nano: request.finished_ns.saturating_add(wall_offset_ns),
        attributes: attributes(request),
        status: error_of(request).map(|what| failed(&what)),
        ..Span::default()
    };
    let attempts = &request.details.attempts;
    let mut spans = vec![own];
    if attempts.len() > 1 {
        for (number, attempt) in attempts.iter().enumerate() {
            let span = of_attempt(request, attempt, number, wall_offset_ns, random());
            spans.push(Span { trace_id: trace.own.trace_id.to_be_bytes().to_vec(), ..span });
        }
        let parent = trace.own.span_id.to_be_bytes().to_vec();
        spans.iter_mut().skip(1).for_each(|span| span.parent_span_id.clone_from(&parent));
    }
    spans
}

fn of_attempt(request: &Finished, attempt: &AttemptNote, number: usize, offset_ns: u64, id: u64) -> Span {
    let mut attributes = vec![
        text("http.request.method", request.details.method.as_str()),
        number_of("http.request.resend_count", number as u64),
        boolean("posthaste.hedge", attempt.hedge),
    ];
    attributes.extend(peer(attempt.address));
    let error = match attempt.outcome {
        AttemptOutcome::Status(status) => {
            attributes.push(number_of("http.response.status_code", u64::from(status)));
            (status >= 400).then(|| status.to_string())
        }
        AttemptOutcome::Failed(why) => Some(why.to_owned()),
    };
    attributes.extend(error.as_deref().map(|error| text("error.type", error)));
    let start = attempt.started_ns.saturating_add(offset_ns);
    Span {
        span_id: id.max(1).to_be_bytes().to_vec(),
        flags: SAMPLED,
        name: format!("{} attempt", request.details.method),
        kind: SpanKind::Client.into(),
        start_time_unix_nano: start,
        end_time_unix_nano: start.saturating_add(attempt.took_ns),
        attributes,
        status: error.map(|what| failed(&what)),
        ..Span::default()
    }
}

/// Few different ones, as the conventions ask: the method; for gRPC the full method.
fn name(request: &Finished) -> String {
    match grpc_method(request) {
        Some((service, method)) => format!("{service}/{method}"),
        None => request.details.method.to_string(),
    }
}

fn grpc_method(request: &Finished) -> Option<(&str, &str)> {
    let is_grpc = request.protocol == RequestProtocol::Grpc;
    let path = request.details.uri.path().strip_prefix('/').filter(|_| is_grpc)?;
    path.split_once('/')
}

fn attributes(request: &Finished) -> Vec<KeyValue> {
    let details = &request.details;
    let mut all = vec![
        text("http.request.method", details.method.as_str()),
        text("url.scheme", "http"),
        text("url.path", details.uri.path()),
        text("network.protocol.name", "http"),
        text(
            "network.protocol.version",
            if request.protocol == RequestProtocol::Http1 { "1.1" } else { "2" },
        ),
        number_of("http.request.body.size", request.request_bytes),
        number_of("http.response.body.size", request.response_bytes),
        text("posthaste.response_flags", &request.flags.text()),
    ];
    if let Some(authority) = details.authority() {
        all.push(text("url.full", &format!("http://{authority}{}", details.uri.path())));
    }
    let address = request.service.as_ref().map(|service| (&*service.name.hostname, service.port));
    all.extend(address.iter().map(|(host, _)| text("server.address", host)));
    all.extend(address.iter().map(|(_, port)| number_of("server.port", u64::from(*port))));
    all.extend(request.endpoint.into_iter().flat_map(peer));
    let agent = details.user_agent.as_ref().map(|agent| String::from_utf8_lossy(agent.as_bytes()));
    all.extend(agent.map(|agent| text("user_agent.original", &agent)));
    if request.status != 0 {
        all.push(number_of("http.response.status_code", u64::from(request.status)));
    }
    if let Some((service, method)) = grpc_method(request) {
        all.extend([text("rpc.system", "grpc"), text("rpc.service", service), text("rpc.method", method)]);
    }
    all.extend(request.grpc.map(|status| number_of("rpc.grpc.status_code", u64::from(status))));
    all.extend(request.route.as_ref().map(|route| text("posthaste.route", &RouteText(route).to_string())));
    if request.retries > 0 {
        all.push(number_of("http.request.resend_count", u64::from(request.retries)));
    }
    all.extend(request.limit.map(|limit| text("posthaste.limit", limit)));
    if request.put_off > 0 {
        all.push(text("posthaste.delayed_by", Bulkhead::Turn.as_str()));
    }
    all.extend(error_of(request).map(|error| text("error.type", &error)));
    all
}

/// What makes it an error for a client: 4xx too; without answer, the flags say why.
fn error_of(request: &Finished) -> Option<String> {
    match (request.status, request.grpc) {
        (0, _) => Some(request.flags.text().into_owned()),
        (400.., _) => Some(request.status.to_string()),
        (_, Some(status)) if is_grpc_failure(status) => Some(status.to_string()),
        _ => (!request.flags.is_empty()).then(|| request.flags.text().into_owned()),
    }
}

fn peer(address: SocketAddr) -> [KeyValue; 2] {
    [
        text("network.peer.address", &address.ip().to_string()),
        number_of("network.peer.port", u64::from(address.port())),
    ]
}

fn failed(what: &str) -> Status {
    Status { message: what.to_owned(), code: StatusCode::Error.into() }
}

fn text(key: &str, value: &str) -> KeyValue {
    pair(key, Value::StringValue(value.to_owned()))
}

fn number_of(key: &str, value: u64) -> KeyValue {
    pair(key, Value::IntValue(i64::try_from(value).unwrap_or(i64::MAX)))
}

fn boolean(key: &str, value: bool) -> KeyValue {
    pair(key, Value::BoolValue(value))
}

fn pair(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}
