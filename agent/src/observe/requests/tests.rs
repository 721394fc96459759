//! A request from its beginning to its end, as counters, lines, taps and commands show it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod commands;

use super::*;
use crate::{
    observe::{
        ConnectionLimits, Connections, Metrics, Security, SeriesTable, Sources, monotonic_ns,
        series::FORGET_AFTER_NS,
        tests::{Captured, pod, samples},
    },
    snapshot::{Endpoint, Protocol, Workload, protocol::Why, routes::RouteName},
};
use ::http::{HeaderValue, Request, request::Parts};
use arc_swap::ArcSwap;
use std::net::SocketAddr;

pub(crate) fn head(method: &str, uri: &str, headers: &[(&str, &str)]) -> Parts {
    let builder = Request::builder().method(method).uri(uri);
    let builder = headers.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value));
    builder.body(()).unwrap().into_parts().0
}

pub(crate) fn opening<'a>(pod: &'a Arc<Workload>, head: &'a Parts) -> RequestOpening<'a> {
    RequestOpening {
        connection_id: 0xff,
        pod,
        client: "10.0.0.5:40000".parse().unwrap(),
        protocol: RequestProtocol::Http1,
        head,
        request_id: None,
        trace: None,
        started_ns: 1_000_000_000,
    }
}

pub(crate) fn refused(pod: &Arc<Workload>, what: &'static str) -> RefusedRequest {
    let (client, at_ns) = (endpoint(9), 1_000_000_000);
    let pod = Some(pod.clone());
    RefusedRequest { connection_id: 0xff, pod, client, status: 400, what, limit: None, at_ns }
}

pub(crate) fn service_port(name: &str) -> ServicePort {
    let endpoint = Endpoint { address: endpoint(1), workload: None, load: Arc::default() };
    ServicePort {
        service_name: name.into(),
        service_namespace: "shop".into(),
        hostname: format!("{name}.shop.svc.cluster.local").into(),
        port: 80,
        name: "http".into(),
        app_protocol: None,
        protocol: Protocol::Http,
        protocol_why: Why::PortName,
        policy: Arc::default(),
        affinity_seconds: None,
        endpoints: vec![endpoint],
        known_endpoints: 1,
        state: Arc::default(),
    }
}

pub(crate) fn endpoint(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 1, last], 8080))
}

fn route() -> Arc<RouteName> {
    Arc::new(RouteName {
        kind: "HTTPRoute",
        namespace: "shop".into(),
        name: "cart".into(),
        rule: 1,
        rule_name: None,
    })
}

pub(crate) fn note(last: u8, outcome: AttemptOutcome, hedge: bool) -> AttemptNote {
    AttemptNote { address: endpoint(last), outcome, started_ns: 1_000_000_000, took_ns: 2_000_000, hedge }
}

fn sources(requests: &Requests, snapshot: Snapshot) -> Arc<Sources> {
    let series = SeriesTable::new(10);
    let connections = Connections::new(1, ConnectionLimits::default(), series, AccessLog::off());
    let snapshot = Arc::new(ArcSwap::from_pointee(snapshot));
    Arc::new(Sources::new("node-a".to_owned(), snapshot, Arc::default(), connections, requests.clone()))
}

fn scrape(requests: &Requests) -> String {
    let sources = sources(requests, Snapshot::default());
    sources.prepare_scrape();
    Metrics::new(&sources, &sources.series).encode().unwrap()
}

/// One request with everything: a retry, a hedge, a limit, an ejection.
fn eventful(requests: &Requests, worker: usize, status: u16) {
    let (caller, called, port) = (pod("web-1", "web"), pod("cart-1", "cart"), service_port("cart"));
    let head =
        head("GET", "/items?secret=1", &[("host", "cart"), ("user-agent", "curl"), ("x-token", "hidden")]);
    let record = requests.begin(worker, &opening(&caller, &head));
    assert_eq!(requests.active(), 1);
    record.route(&route());
    record.service(&port);
    record.endpoint(endpoint(1), None, Security::None);
    record.attempt(note(1, AttemptOutcome::Failed("reset"), false));
    record.ejected(endpoint(1), "consecutive_failures", u64::MAX);
    record.endpoint(endpoint(2), Some(&called), Security::MutualTls);
    record.attempt(note(3, AttemptOutcome::Failed("cancelled"), true));
    record.attempt(note(2, AttemptOutcome::Status(status), false));
    record.budget_refused();
    record.overflow("retries");
    record.request_bytes(10);
    record.response(status, None);
    record.response_headers(&HeaderMap::from_iter([(
        ::http::header::SERVER,
        HeaderValue::from_static("nginx"),
    )]));
    record.first_byte(1_002_000_000);
    record.first_byte(1_009_000_000);
    record.response_bytes(600);
    record.response_bytes(400);
    record.finish(1_003_500_000);
    record.finish(9_000_000_000);
}

#[test]
fn a_scrape_shows_istios_metrics_and_ours() {
    let requests = Requests::new(2, RequestOptions::default());
    eventful(&requests, 0, 200);
    eventful(&requests, 1, 200);
    eventful(&requests, 1, 503);
    requests.refused(0, &refused(&pod("web-1", "web"), "bare_lf"), None);
    let late =
        RefusedRequest { limit: Some("request_headers_timeout"), ..refused(&pod("web-1", "web"), "late") };
    requests.refused(0, &late, None);
    requests.refused(1, &late, Some(&service_port("cart")));
    let text = scrape(&requests);
    let totals = samples(&text, "istio_requests_total");
    let good = totals.iter().find(|(labels, _)| labels.contains("response_code=\"200\"")).unwrap();
    assert_eq!((totals.len(), good.1), (2, 2), "{totals:?}");
    for label in [
        "reporter=\"source\"",
        "source_workload=\"web\"",
        "destination_workload=\"cart\"",
        "destination_principal=\"spiffe://cluster.local/ns/shop/sa/cart\"",
        "destination_service=\"cart.shop.svc.cluster.local\"",
        "request_protocol=\"http\"",
        "grpc_response_status=\"\"",
        "response_flags=\"-\"",
        "connection_security_policy=\"mutual_tls\"",
    ] {
        assert!(good.0.contains(label), "{label} in {}", good.0);
    }
    let bucket = |name: &str, bound: &str| {
        let all = samples(&text, &format!("{name}_bucket"));
        let found = all.iter().find(|(labels, _)| {
            labels.contains("response_code=\"200\"") && labels.contains(&format!("le=\"{bound}\""))
        });
        found.unwrap_or_else(|| panic!("{all:?}")).1
    };
    let duration = "istio_request_duration_milliseconds";
    assert_eq!((bucket(duration, "1.0"), bucket(duration, "5.0"), bucket(duration, "+Inf")), (0, 2, 2));
    assert_eq!((bucket("istio_request_bytes", "5.0"), bucket("istio_request_bytes", "10.0")), (0, 2));
    assert_eq!((bucket("istio_response_bytes", "500.0"), bucket("istio_response_bytes", "1000.0")), (0, 2));
    let sums: Vec<_> = text.lines().filter(|line| line.starts_with(&format!("{duration}_sum"))).collect();
    assert!(sums.iter().any(|line| line.ends_with(" 7.0")), "{sums:?}");
    for line in [
        "posthaste_request_retries_total{service=\"cart.shop.svc.cluster.local\",port=\"80\"} 3",
        "posthaste_request_hedges_total{service=\"cart.shop.svc.cluster.local\",port=\"80\"} 3",
        "posthaste_retry_budget_refused_total{service=\"cart.shop.svc.cluster.local\",port=\"80\"} 3",
        "posthaste_overflow_total{service=\"cart.shop.svc.cluster.local\",port=\"80\",limit=\"retries\"} 3",
        "posthaste_endpoint_ejections_total{service=\"cart.shop.svc.cluster.local\",port=\"80\",why=\"consecutive_failures\"} 3",
        "posthaste_route_retries_total{route=\"HTTPRoute/shop/cart[1]\",backend=\"cart.shop.svc.cluster.local\",port=\"80\"} 3",
        "posthaste_route_hedges_total{route=\"HTTPRoute/shop/cart[1]\",backend=\"cart.shop.svc.cluster.local\",port=\"80\"} 3",
        "posthaste_route_budget_refused_total{route=\"HTTPRoute/shop/cart[1]\",backend=\"cart.shop.svc.cluster.local\",port=\"80\"} 3",
        "posthaste_route_overflow_total{route=\"HTTPRoute/shop/cart[1]\",backend=\"cart.shop.svc.cluster.local\",port=\"80\"} 3",
        "posthaste_route_endpoint_ejections_total{route=\"HTTPRoute/shop/cart[1]\",backend=\"cart.shop.svc.cluster.local\",port=\"80\"} 3",
        "posthaste_malformed_requests_total{what=\"bare_lf\"} 1",
        "posthaste_overflow_total{service=\"unknown\",port=\"\",limit=\"request_headers_timeout\"} 1",
        "posthaste_overflow_total{service=\"cart.shop.svc.cluster.local\",port=\"80\",limit=\"request_headers_timeout\"} 1",
        "posthaste_requests_active 0",
    ] {
        assert!(text.contains(&format!("{line}\n")), "{line} in {text}");
    }
    let routes = samples(&text, "posthaste_route_requests_total");
    assert!(routes[0].0.contains("route=\"HTTPRoute/shop/cart[1]\",backend=\"cart.shop"), "{routes:?}");
    let mut classes: Vec<_> = routes.iter().map(|(_, count)| *count).collect();
    classes.sort_unstable();
    assert_eq!(classes, [1, 2]);
    let again = scrape(&requests);
    assert_eq!(
        samples(&again, "istio_requests_total").iter().map(|one| one.1).sum::<u64>(),
        3,
        "counted once"
    );
    let top = requests.top();
    assert_eq!((top[0].requests, top[0].failures, top[0].retries), (3, 1, 3));
    assert_eq!(percentile(&top[0].latencies, 0.5).map(|us| us / 256), Some(3500 / 256));
}

#[test]
fn a_dropped_request_is_recorded_as_the_clients_doing() {
    for answered in [false, true] {
        let requests = Requests::new(1, RequestOptions::default());
        let (caller, head) = (pod("web-1", "web"), head("POST", "/", &[]));
        let record = requests.begin(0, &opening(&caller, &head));
        record.service(&service_port("cart"));
        if answered {
            record.response(200, None);
        }
        drop(record);
        let total = &samples(&scrape(&requests), "istio_requests_total")[0];
        assert!(total.0.contains("response_flags=\"DC\""), "{total:?}");
        let code = if answered { "response_code=\"200\"" } else { "response_code=\"0\"" };
        assert!(total.0.contains(code), "{total:?}");
        assert_eq!((requests.active(), requests.top()[0].failures), (0, 0));
    }
}

#[test]
fn what_is_a_failure() {
    // (status, gRPC status, flag, failed)
    let table = [
        (200, None, None, false),
        (404, None, None, false),
        (429, None, None, false),
        (500, None, None, true),
        (0, None, Some(RequestFlag::UpstreamFailure), true),
        (0, None, Some(RequestFlag::ClientGone), false),
        (200, None, Some(RequestFlag::UpstreamReset), true),
        (200, Some(0), None, false),
        (200, Some(5), None, false),
        (200, Some(14), None, true),
    ];
    for (status, grpc, flag, failed) in table {
        let requests = Requests::new(1, RequestOptions::default());
        let (caller, head) = (pod("web-1", "web"), head("GET", "/", &[]));
        let record = requests.begin(0, &opening(&caller, &head));
        record.service(&service_port("cart"));
        record.response(status, None);
        record.response(status, grpc);
        flag.into_iter().for_each(|flag| record.flag(flag));
        record.finish(2_000_000_000);
        assert_eq!(requests.top()[0].failures == 1, failed, "{status} {grpc:?} {flag:?}");
    }
}

fn logged(rule: LogRule, statuses: &[u16]) -> Vec<serde_json::Value> {
    let out = Captured::default();
    let log = AccessLog::start_into(Box::new(out.clone()), 1).unwrap();
    let options = RequestOptions { log: log.clone(), log_rule: rule, ..RequestOptions::default() };
    let requests = Requests::new(1, options);
    statuses.iter().for_each(|status| eventful(&requests, 0, *status));
    log.stop();
    let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_request_is_one_line() {
    let lines = logged(LogRule::default(), &[200]);
    assert_eq!(lines.len(), 1);
    let line = &lines[0];
    let expected = serde_json::json!({
        "time": line["time"], "event": "request", "connection": "00000000000000ff", "protocol": "http/1.1", "method": "GET",
        "authority": "cart", "path": "/items?secret=1", "user_agent": "curl", "status": 200, "flags": "-",
        "duration_ms": 3.5, "first_byte_ms": 2.0, "request_bytes": 10, "response_bytes": 1000,
        "source": {"workload": "web", "pod": "web-1", "namespace": "shop",
            "principal": "spiffe://cluster.local/ns/shop/sa/web", "address": "10.0.0.5:40000"},
        "destination": {"workload": "cart", "pod": "cart-1", "namespace": "shop",
            "principal": "spiffe://cluster.local/ns/shop/sa/cart", "address": "10.0.1.2:8080"},
        "service": "cart.shop.svc.cluster.local", "port": 80, "route": "HTTPRoute/shop/cart[1]", "security": "mutual_tls",
        "retries": 1, "hedges": 1, "limit": "retries", "budget_refused": true,
    });
    assert_eq!(line, &expected);
}

#[test]
fn the_log_is_sampled_and_filtered_but_failures_stay() {
    let statuses: Vec<u16> = (0..100).map(|place| if place % 50 == 0 { 503 } else { 200 }).collect();
    let count = |sample, min_status| logged(LogRule { sample, min_status }, &statuses).len();
    assert_eq!(count(1.0, 0), 100);
    assert_eq!(count(0.0, 0), 2);
    assert_eq!(count(0.25, 0), 2 + 24, "a quarter of 98");
    assert_eq!(count(1.0, 500), 2);
}

#[test]
fn series_are_bounded_shared_and_forgotten() {
    let requests = Requests::new(2, RequestOptions { series_limit: 2, ..RequestOptions::default() });
    for _ in 0..20 {
        // Other addresses, the same texts.
        eventful(&requests, 0, 200);
    }
    for status in [201, 202, 203, 203] {
        eventful(&requests, 1, status);
    }
    let text = scrape(&requests);
    let totals = samples(&text, "istio_requests_total");
    assert_eq!(totals.iter().map(|one| one.1).sum::<u64>(), 24);
    let unknown: Vec<_> = totals.iter().filter(|one| one.0.contains("source_workload=\"unknown\"")).collect();
    assert_eq!(
        (totals.len(), unknown.len()),
        (4, 2),
        "one of unknowns for each status beyond the limit: {totals:?}"
    );
    let nobody = HashSet::new();
    let now_ns = monotonic_ns();
    requests.sweep(&nobody, &Snapshot::default(), now_ns);
    requests.sweep(&nobody, &Snapshot::default(), now_ns + FORGET_AFTER_NS);
    assert_eq!(requests.0.books.series.all().len(), 2, "unknowns stay");
    eventful(&requests, 0, 200);
    requests.gather();
    let all = requests.0.books.series.all();
    assert_eq!(
        all.iter().map(|one| one.requests.load(Relaxed)).sum::<u64>(),
        4,
        "the new one is counted somewhere"
    );
}

#[test]
fn taps_hear_what_fits_and_cost_nothing_when_they_left() {
    let requests = Requests::new(1, RequestOptions::default());
    let listen = |filter| requests.tap(filter).unwrap();
    let mut all = listen(TapFilter::default());
    let mut none = listen(TapFilter { service: Some("other".to_owned()), ..TapFilter::default() });
    let mut some = listen(TapFilter {
        service: Some("cart.shop".to_owned()),
        namespace: Some("shop".to_owned()),
        path: Some("/it".to_owned()),
        method: Some(::http::Method::GET),
        status: Some((500, 599)),
    });
    for status in [200, 503] {
        eventful(&requests, 0, status);
    }
    let heard = |tapped: &mut Tapped| std::iter::from_fn(|| tapped.requests.try_recv().ok()).count();
    assert_eq!((heard(&mut all), heard(&mut none), heard(&mut some)), (2, 0, 1));
    for _ in 0..1100 {
        eventful(&requests, 0, 200);
    }
    assert_eq!((heard(&mut all), all.missed(), all.missed()), (1024, 76, 0));
    drop((all, none, some));
    assert!(!requests.0.taps.any());
    let many: Vec<_> = std::iter::repeat_with(|| requests.tap(TapFilter::default())).take(17).collect();
    assert_eq!(many.iter().flatten().count(), 16);
}

#[test]
fn header_values_are_shown_only_on_demand() {
    let requests = Requests::new(1, RequestOptions::default());
    let mut tapped = requests.tap(TapFilter::default()).unwrap();
    eventful(&requests, 0, 200);
    let finished = tapped.requests.try_recv().unwrap();
    let line = |shown: &[::http::HeaderName]| {
        let mut out = Vec::new();
        finished.write_tap(&mut out, 0, shown);
        serde_json::from_slice::<serde_json::Value>(&out).unwrap()
    };
    let redacted = line(&[]);
    assert!(!redacted.to_string().contains("hidden"), "{redacted}");
    assert_eq!(redacted["request_headers"][2], serde_json::json!(["x-token", "[redacted]"]));
    assert_eq!(redacted["attempts"].as_array().unwrap().len(), 3);
    assert_eq!(redacted["attempts"][0]["failed"], "reset");
    assert_eq!(redacted["attempts"][2]["status"], 200);
    let shown = line(&[::http::HeaderName::from_static("x-token"), ::http::header::SERVER]);
    assert_eq!(shown["request_headers"][2], serde_json::json!(["x-token", "hidden"]));
    assert_eq!(shown["response_headers"][0], serde_json::json!(["server", "nginx"]));
}
