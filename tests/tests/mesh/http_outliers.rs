//! Outlier detection: who is ejected, why, for how long, how many at most, and how one comes back.

use crate::http_shop::{Shop, answering, backend, policy, route, slow};
use posthaste_tests::{
    Running, eventually,
    peer::{
        faulty::{Plan, Trouble},
        load::{self, Spec},
    },
    wait::holds,
};
use serde_json::{Value, json};
use std::net::SocketAddr;

/// Requests at a steady rate, until they are dropped.
fn traffic(shop: &Shop, to: SocketAddr) -> Running {
    let spec = Spec { seconds: 120.0, rate: 120.0, connections: 4, timeout_ms: 5000, ..Spec::default() };
    load::start(&shop.client, to, &spec).unwrap()
}

/// Every check off but those of `more`.
fn detection(mut more: Value) -> Value {
    let all = json!({
        "consecutiveGatewayFailures": 0, "successRateStdevTenths": 0, "latencyFactor": 0, "interval": "1s", "requestVolume": 10,
        "baseEjectionTime": "1s",
    });
    for (field, value) in all.as_object().unwrap() {
        if more.get(field).is_none() {
            more[field] = value.clone();
        }
    }
    json!({"outlierDetection": more})
}

fn ejected(why: &'static str) -> impl Fn(&Value) -> bool {
    move |one| one["state"] == "ejected" && one["why"] == why
}

#[test]
fn failing_endpoints_are_ejected_longer_each_time_and_return() {
    let mut shop = Shop::start("http");
    let rules = json!([{"backendRefs": [backend("shop-web", 1)]}]);
    let by_failures = detection(json!({"consecutiveGatewayFailures": 3}));
    shop.put_all(&[policy("shop-web", by_failures), route("shop-web", &rules)]);
    shop.plan(0, &answering(503));
    let _traffic = traffic(&shop, shop.service);
    let first = shop.wait_endpoint("shop-web", 0, "an ejection", ejected("consecutive_failures"));
    assert!(first["ejected_ms"].as_u64() <= Some(1000) && first["weight_percent"] == 0.0, "{first}");
    let text = shop.mesh.a.cli(&["endpoints", "shop-web"]).unwrap();
    let address = first["address"].as_str().unwrap();
    let row = text.lines().find(|line| line.starts_with(address)).unwrap_or_else(|| panic!("{text}"));
    assert!(row.contains("ejected") || row.contains("half_open"), "{text}");
    // The probe fails, and the next one.
    of_the_route(&shop);
    shop.wait_endpoint("shop-web", 0, "a second ejection", |one| one["ejected_ms"].as_u64() > Some(1100));
    shop.wait_endpoint("shop-web", 0, "a third ejection", |one| one["ejected_ms"].as_u64() > Some(2100));
    assert!(shop.count("posthaste_endpoint_ejections_total", &[("why", "consecutive_failures")]) >= 3.0);
    // It is well again: one probe brings it back, and it takes its share.
    shop.plan(0, &Plan::default());
    shop.wait_endpoint("shop-web", 0, "the return", |one| one["state"] == "healthy");
    shop.forget();
    shop.wait_endpoint("shop-web", 0, "requests", |_| shop.seen_by(0).requests > 50);

    // Two of three fail: one is ejected, and not more than half.
    shop.plan(0, &answering(503));
    shop.plan(1, &answering(503));
    shop.wait_endpoint("shop-web", 0, "one of two ejections", |_| {
        let states = [0, 1].map(|server| shop.endpoint("shop-web", server).1["state"].clone());
        assert!(states != ["ejected", "ejected"], "{states:?}");
        states.contains(&json!("ejected"))
    });
    for _ in 0..20 {
        let out = (0..3).filter(|server| shop.endpoint("shop-web", *server).1["state"] != "healthy").count();
        assert!(out <= 1, "{out} of three");
    }
}

/// What is ejected, and what that has cost, is seen by rule and backend as well.
fn of_the_route(shop: &Shop) {
    let backend = eventually("an endpoint of the rule that is out", || {
        let routes = shop.mesh.a.json(&["routes", "shop-web"]).unwrap();
        let backend = routes[0]["matches"][0]["backends"][0].clone();
        holds(backend["ejected"] == 1 && backend["endpoints"] == 3, routes.to_string()).map(|()| backend)
    })
    .unwrap();
    let count = |what: &str| backend["counts"][what].as_u64();
    assert!(
        count("ejections") > Some(0) && count("retries") > Some(2) && count("requests") > count("retries"),
        "{backend}"
    );
    let text = shop.mesh.a.cli(&["routes", "shop-web", "-o", "wide"]).unwrap();
    assert!(text.contains("2/3 1 ejected") || text.contains("2/3 1 half-open"), "{text}");
    let of_rule = [("route", "HTTPRoute/shop/shop-web[0]"), ("port", "80")];
    assert!(shop.count("posthaste_route_endpoint_ejections_total", &of_rule) > 0.0);
    let out = || shop.count("posthaste_route_endpoint_ejected", &of_rule);
    eventually("the gauge", || holds(out() == 1.0, out().to_string())).unwrap();
}

#[test]
fn endpoints_are_compared_and_panic_honours_no_ejection() {
    let mut shop = Shop::start("http");
    let rate_web = shop.service("rate-web", &[0, 1, 2]);
    let panic_web = shop.service("panic-web", &[0, 1, 2]);
    shop.put_all(&[
        policy("shop-web", detection(json!({"latencyFactor": 5, "baseEjectionTime": "30s"}))),
        policy("rate-web", detection(json!({"successRateStdevTenths": 19, "baseEjectionTime": "30s"}))),
        policy(
            "panic-web",
            detection(json!({"consecutiveGatewayFailures": 3, "panicThresholdPercent": 80, "baseEjectionTime": "30s"})),
        ),
    ]);
    // Slow: ejected by comparison with the others.
    shop.plan(0, &slow(150));
    let slow_traffic = traffic(&shop, shop.service);
    let one = shop.wait_endpoint("shop-web", 0, "an ejection of the slow one", ejected("latency"));
    assert!(one["ejected_ms"].as_u64() > Some(20_000), "{one}");
    let text = shop.mesh.a.cli(&["endpoints", "shop-web"]).unwrap();
    let address = one["address"].as_str().unwrap();
    let row = text.lines().find(|line| line.starts_with(address)).unwrap_or_else(|| panic!("{text}"));
    assert!(row.contains("ejected") && row.contains("latency") && row.contains("s "), "{text}");
    drop(slow_traffic);
    shop.forget();
    let report = shop.load(&Spec::requests(200, 4));
    assert_eq!((report.status(200), shop.seen_by(0).requests), (200, 0), "{report:?}");
    // What one pod has found out holds for all pods of the node.
    let other = shop.mesh.pod("a", "other").unwrap();
    let report = load::of(&other, shop.service, &Spec::requests(100, 4)).unwrap();
    assert_eq!((report.status(200), shop.seen_by(0).requests), (100, 0), "{report:?}");

    // 500 is no failure of the gateway, and no reason to retry: its rate gives it away.
    shop.plan(0, &answering(500));
    let failing = traffic(&shop, rate_web);
    shop.wait_endpoint("rate-web", 0, "an ejection by success rate", ejected("success_rate"));
    drop(failing);

    // Two of three are left, which is less than the threshold: all are used, as soon as it is forgiven that this one failed.
    shop.plan(0, &answering(502));
    let panicking = traffic(&shop, panic_web);
    shop.wait_endpoint("panic-web", 0, "an ejection", |one| one["state"] == "ejected");
    drop(panicking);
    assert_eq!(shop.endpoint("panic-web", 0).0["panic"], true);
    assert!(shop.mesh.a.cli(&["endpoints", "panic-web"]).unwrap().contains("ejections are not honoured"));
    shop.plan(0, &Plan::default());
    shop.wait_endpoint("panic-web", 0, "requests to the ejected one", |one| {
        assert_eq!(one["state"], "ejected", "{one}");
        shop.forget();
        shop.load_to(panic_web, &Spec::requests(60, 2));
        shop.seen_by(0).requests > 5
    });
    assert_eq!(shop.endpoint("rate-web", 0).0["panic"], false);
}

/// An endpoint that is never ejected, and fails at once: that it is quick draws no requests.
#[test]
fn failing_quickly_draws_no_requests() {
    let mut shop = Shop::start("http");
    shop.put(policy("shop-web", detection(json!({}))));
    for trouble in [answering(502), Plan::always(Trouble::ResetMidHead)] {
        shop.plan(0, &trouble);
        shop.forget();
        let report = shop.load(&Spec::requests(600, 4));
        let failed = shop.seen_by(0).requests;
        assert!(
            (1..90).contains(&failed) && report.status(200) == 600,
            "{failed} of 600, {trouble:?}: {report:?}"
        );
        assert_eq!(shop.endpoint("shop-web", 0).1["state"], "healthy");
    }
    // It is well again, and gets its share as soon as that is forgiven.
    shop.plan(0, &Plan::default());
    shop.wait_endpoint("shop-web", 0, "its share", |_| {
        shop.forget();
        shop.load(&Spec::requests(90, 1));
        shop.seen_by(0).requests > 15
    });
}
