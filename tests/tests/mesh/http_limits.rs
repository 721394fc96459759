//! Limits of a node towards a service, and of a calling pod inside the agent: what is above is refused at once, and says which
//! limit it was.

use crate::http_shop::{Shop, answering, at_once, policy, slow};
use posthaste_tests::{
    Family, Mesh, eventually,
    peer::{self, faulty::Plan, load::Spec},
    wait::{eventually_within, holds},
};
use serde_json::json;
use std::time::Duration;

const OVERFLOW: &str = "posthaste_overflow_total";
const DELAYED: &str = "posthaste_delayed_requests_total";

/// All pods of the client's node are served by one thread.
pub(crate) fn shop_with_one_worker() -> Shop {
    let mut mesh = Mesh::prepare(&[("mtls", "strict")]).unwrap();
    mesh.a.settings.workers = 1;
    mesh.run().unwrap();
    Shop::of(mesh, "http")
}

#[test]
fn what_is_above_a_limit_is_refused_at_once() {
    // Idle connections of another worker would count as well, and cannot make room.
    let mut shop = shop_with_one_worker();
    let names = ["few-requests", "few-connections", "none-pending", "no-retries"];
    let to = names.map(|name| shop.service(name, &[0, 1, 2]));
    let limits = [
        json!({"requests": 2}),
        json!({"connections": 1}),
        json!({"pendingRequests": 0}),
        json!({"retries": 0}),
    ];
    let policies: Vec<_> =
        names.iter().zip(limits).map(|(name, limits)| policy(name, json!({"limits": limits}))).collect();
    shop.put_all(&policies);
    let refused = |limit: &str, count: f64| {
        assert_eq!(shop.count(OVERFLOW, &[("limit", limit)]), count, "{limit}\n{}", shop.logs());
        let line = shop.line(limit, |line| line["limit"] == limit);
        assert_eq!((&line["flags"], &line["status"]), (&json!("UO"), &json!(503)), "{line}");
    };

    // Before there is a connection that stands already: that would not have to be waited for.
    let answer = shop.ask(to[2], "/", &[]);
    assert_eq!((answer.status, &*answer.flag()), (503, "UO"), "{answer:?}");
    assert!(answer.body.contains("`pending`"), "{answer:?}");
    refused("pending", 1.0);

    shop.plan_all(&slow(1500));
    let report = shop.load_to(to[0], &at_once(6));
    assert_eq!((report.status(200), report.status(503)), (2, 4), "{report:?}\n{}", shop.logs());
    assert!(report.p50_ms < 1000.0, "refused late: {report:?}");
    assert_eq!(shop.seen().0, 2);
    refused("requests", 4.0);

    shop.forget();
    let report = shop.load_to(to[1], &at_once(4));
    assert_eq!((report.status(200), report.status(503)), (1, 3), "{report:?}\n{}", shop.logs());
    assert!(report.p50_ms < 1000.0, "refused late: {report:?}");
    refused("connections", 3.0);

    shop.plan_all(&answering(503));
    shop.forget();
    let answer = shop.ask(to[3], "/", &[]);
    assert_eq!((answer.status, &*answer.body), (503, "as planned"), "what the endpoint said: {answer:?}");
    assert_eq!((shop.seen().0, shop.count(OVERFLOW, &[("limit", "retries")])), (1, 1.0));
    // What is done is given back, and an idle connection makes room for another one: each endpoint is asked in turn.
    shop.clear();
    for _ in 0..8 {
        assert_eq!(shop.load_to(to[1], &Spec::requests(1, 1)).status(200), 1, "{}", shop.logs());
    }
    let used = (0..3).filter(|server| shop.seen_by(*server).requests > 0).count();
    assert!(used > 1, "{:?}", shop.seen());
    shop.clear();
    for service in [to[0], to[1]] {
        assert_eq!(shop.ask(service, "/", &[]).status, 200, "{}", shop.logs());
    }
}

#[test]
fn a_body_that_is_too_long_is_refused() {
    let mut shop = Shop::start("http");
    shop.put(policy("shop-web", json!({"limits": {"requestBodyBytes": 1000}})));
    let body = "x".repeat(1001);
    let put = |more: &[&str]| shop.ask(shop.service, "/", &[&["-X", "PUT"], more].concat());
    assert_eq!(put(&["-d", &body[1..]]).status, 200, "{}", shop.logs());
    shop.forget();
    let announced = put(&["-d", &body]);
    assert_eq!((announced.status, &*announced.flag()), (413, "UO"), "{announced:?}");
    assert!(
        announced.body.contains("at most 1000 bytes") && announced.body.contains("`request_body_bytes`"),
        "{announced:?}"
    );
    assert_eq!(shop.seen().0, 0);
    // One that does not say how long it is: found out on its way, and tried once.
    let chunked = put(&["-H", "transfer-encoding: chunked", "-d", &body]);
    assert_eq!((chunked.status, &*chunked.flag()), (413, "UO"), "{chunked:?}");
    let over_http2 =
        Spec { method: "PUT".to_owned(), body: 1001, http2: true, streams: 2, ..Spec::requests(4, 1) };
    assert_eq!(shop.load(&over_http2).status(413), 4);
    assert_eq!(shop.count(OVERFLOW, &[("limit", "request_body_bytes")]), 6.0, "{}", shop.logs());
    let line = shop.line("the limit", |line| line["limit"] == "request_body_bytes");
    assert_eq!((&line["flags"], &line["status"]), (&json!("UO"), &json!(413)), "{line}");
    assert!(
        (0..3).all(|server| shop.endpoint("shop-web", server).1["state"] == "healthy"),
        "no fault of theirs"
    );
}

#[test]
fn one_pod_cannot_take_more_than_its_bulkhead() {
    let mut shop = Shop::start("http");
    let neighbour = shop.mesh.pod("a", "neighbour").unwrap();
    let of_namespace = |bulkhead: serde_json::Value| {
        let mut object = policy("shop", json!({"bulkhead": bulkhead}));
        object["spec"]["targetRefs"] = json!([{"kind": "Namespace", "name": "shop"}]);
        object
    };
    shop.put(of_namespace(json!({"requests": 2})));

    shop.plan_all(&slow(1500));
    let running = peer::load::start(&shop.client, shop.service, &at_once(2)).unwrap();
    eventually("two requests", || holds(shop.seen().0 == 2, format!("{:?}", shop.seen()))).unwrap();
    let answer = shop.ask(shop.service, "/", &[]);
    assert_eq!((answer.status, &*answer.flag()), (503, "UO"), "{answer:?}");
    assert!(
        answer.body.contains("`bulkhead_requests`") && answer.body.contains("TrafficPolicy"),
        "{answer:?}"
    );
    let line = shop.line("the bulkhead", |line| line["limit"] == "bulkhead_requests");
    assert_eq!(line["source"]["pod"], "client", "{line}");
    // It is the client's alone.
    let report = peer::load::of(&neighbour, shop.service, &at_once(2)).unwrap();
    assert_eq!(report.status(200), 2, "{report:?}");
    assert_eq!(peer::load::finish(running, &at_once(2)).unwrap().status(200), 2);

    // Connections above five are reset, and recorded.
    shop.put(of_namespace(json!({"connections": 5})));
    let report = shop.load(&at_once(8));
    assert_eq!(
        (report.status(200), report.errors.values().sum::<u64>()),
        (5, 3),
        "{report:?}\n{}",
        shop.logs()
    );
    let line = shop.mesh.a.wait_for_log("a refused connection", |line| line["reason"] == "overflow");
    let line = line.unwrap();
    assert_eq!((&line["source"]["pod"], &line["limit"]), (&json!("client"), &json!("bulkhead_connections")));
    assert_eq!(shop.count(OVERFLOW, &[("limit", "bulkhead_connections")]), 3.0, "{}", shop.logs());
    shop.put(of_namespace(json!({"bufferedBytes": 65536})));
    shop.clear();

    // A body that may not be kept passes all the same, but cannot be sent again.
    shop.plan_all(&answering(503));
    shop.forget();
    let put = Spec { method: "PUT".to_owned(), body: 40_000, ..at_once(1) };
    assert_eq!(shop.load(&put).status(503), 1);
    assert_eq!(shop.seen().0, 3, "a body that fits is sent again");
    shop.plan_all(&Plan { work_ms: 400, ..answering(503) });
    shop.forget();
    let puts = Spec { method: "PUT".to_owned(), body: 40_000, ..at_once(2) };
    assert_eq!(shop.load(&puts).status(503), 2);
    assert_eq!(shop.seen().0, 4, "one of two fits\n{}", shop.logs());
    shop.line("the buffer", |line| line["limit"] == "bulkhead_buffered_bytes");
    shop.plan_all(&Plan::default());
}

#[test]
fn who_has_had_its_turn_waits_for_others_and_is_told_so() {
    let mut shop = shop_with_one_worker();
    let heavy = shop.mesh.pod("a", "heavy").unwrap();
    // Much more at once than a turn holds, again and again until it was seen.
    let crowd = Spec { connections: 200, seconds: 120.0, ..Spec::default() };
    let running = peer::load::start(&heavy, shop.service, &crowd).unwrap();
    let delayed = || shop.count(DELAYED, &[("limit", "bulkhead_turn")]);
    eventually_within(Duration::from_secs(90), "a request that was put off", || {
        assert_eq!(shop.load(&Spec::requests(20, 1)).status(200), 20, "{}", shop.logs());
        holds(delayed() > 0.0, shop.logs())
    })
    .unwrap();
    drop(running);
    let line = shop.line("a delay", |line| line["delayed_by"] == "bulkhead_turn");
    assert!(
        line["source"]["pod"] == "heavy" && line["delays"].as_u64() > Some(0) && line["limit"].is_null(),
        "{line}"
    );
    // It is the heavy pod's limit alone: who asks one by one never has more to do than a turn holds.
    let lines = shop.mesh.a.access_log();
    let of_client: Vec<_> = lines.iter().filter(|line| line["source"]["pod"] == "client").collect();
    assert!(of_client.len() >= 20, "{}", of_client.len());
    assert!(of_client.iter().all(|line| line["delayed_by"].is_null()), "{of_client:?}");
}

#[test]
fn half_a_head_is_not_waited_for_without_end() {
    let mut shop = Shop::start("http");
    shop.put(policy("shop-web", json!({"limits": {"requestHeadersTimeout": "500ms"}})));
    let half = "GET /half HTTP/1.1\r\nHost: shop\r\nX-Some";
    for sent in [half.to_owned(), format!("GET /size/3 HTTP/1.1\r\nHost: shop\r\n\r\n{half}")] {
        let heard =
            peer::call(&shop.client, "raw", shop.service, &[&peer::hexadecimal(sent.as_bytes()), "20000"]);
        let heard = heard.unwrap();
        let has = |status: &str| heard["answer"].as_str().is_some_and(|answer| answer.contains(status));
        assert!(has("HTTP/1.1 408 ") && heard["end"] == "eof", "{sent:?}: {heard}\n{}", shop.logs());
        assert_eq!(has("HTTP/1.1 200 "), sent != half, "{sent:?}: {heard}");
    }
    // What follows is a GOAWAY, and the end.
    let heard = peer::call(&shop.client, "raw", shop.service, &[&half_of_http2(), "20000"]).unwrap();
    assert_eq!(heard["end"], "eof", "{heard}\n{}", shop.logs());
    // Who says nothing between two requests may take longer.
    let seldom = Spec { rate: 1.0, ..Spec::requests(3, 1) };
    assert_eq!(shop.load(&seldom).status(200), 3, "{}", shop.logs());
    assert_eq!(shop.count(OVERFLOW, &[("limit", "request_headers_timeout")]), 3.0, "{}", shop.logs());
    let late = |line: &serde_json::Value| line["limit"] == "request_headers_timeout" && line["status"] == 408;
    let line = shop.mesh.a.wait_for_log("a late head", late).unwrap();
    let told = [&line["event"], &line["status"], &line["flags"], &line["source"]["pod"]];
    assert_eq!(told, [&json!("refused"), &json!(408), &json!("UO"), &json!("client")], "{line}");
    let seen = (0..3).map(|server| shop.seen_by(server).targets);
    assert!(!seen.flatten().any(|(target, _)| target.contains("half")), "half a request has gone on");
}

/// Where the called pod's agent reads requests for its policies: it heeds the same limit, whoever the caller is.
#[test]
fn half_a_head_is_not_waited_for_by_the_called_pods_agent() {
    let mut shop = Shop::start("http");
    let generation = |shop: &Shop| shop.mesh.b.json(&["status"]).unwrap()["snapshot_generation"].as_u64();
    let before = generation(&shop);
    shop.put_all(&[
        policy("shop-web", json!({"limits": {"requestHeadersTimeout": "500ms"}})),
        json!({
            "apiVersion": "posthaste.dev/v1alpha1", "kind": "AuthorizationPolicy",
            "metadata": {"name": "by-method", "namespace": "shop"},
            "spec": {"action": "DENY", "rules": [{"to": [{"operation": {"methods": ["DELETE"]}}]}]},
        }),
    ]);
    eventually("the new snapshot", || holds(generation(&shop) > before, "the old one")).unwrap();
    // Not by the service, so that the caller's agent carries bytes.
    let to = shop.servers[0].0.at(Family::V4, 8080);
    let half = "GET /half HTTP/1.1\r\nHost: shop\r\nX-Some";
    for sent in [half.to_owned(), format!("GET /size/3 HTTP/1.1\r\nHost: shop\r\n\r\n{half}")] {
        let heard = peer::call(&shop.client, "raw", to, &[&peer::hexadecimal(sent.as_bytes()), "20000"]);
        let heard = heard.unwrap();
        let has = |status: &str| heard["answer"].as_str().is_some_and(|answer| answer.contains(status));
        assert!(has("HTTP/1.1 408 ") && heard["end"] == "eof", "{sent:?}: {heard}\n{}", shop.logs());
        assert_eq!(has("HTTP/1.1 200 "), sent != half, "{sent:?}: {heard}");
    }
    let heard = peer::call(&shop.client, "raw", to, &[&half_of_http2(), "20000"]).unwrap();
    assert_eq!(heard["end"], "eof", "{heard}\n{}", shop.logs());
    let agent = &shop.mesh.b;
    let late = agent.metrics().unwrap().sum(OVERFLOW, &[("limit", "request_headers_timeout")]);
    assert_eq!(late, 3.0, "{}", shop.logs());
    let line = agent.wait_for_log("a late head", |line| line["limit"] == "request_headers_timeout").unwrap();
    let told = [&line["event"], &line["status"], &line["flags"], &line["source"]["pod"]];
    assert_eq!(told, [&json!("refused"), &json!(408), &json!("UO"), &json!("client")], "{line}");
    assert!(
        !shop.seen_by(0).targets.keys().any(|target| target.contains("half")),
        "half a request has gone on"
    );
}

/// Half a HEADERS frame behind the preface and SETTINGS.
fn half_of_http2() -> String {
    let begun = [
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
        &[0, 0, 0, 4, 0, 0, 0, 0, 0],
        &[0, 0, 9, 1, 4, 0, 0, 0, 1, 0x82],
    ];
    peer::hexadecimal(&begun.concat())
}
