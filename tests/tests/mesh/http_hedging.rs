//! Hedging: a second attempt beside a slow first one, within the retry budget, never for what must not be repeated.

use crate::http_shop::{Shop, at_once, policy, slow};
use posthaste_tests::{
    eventually,
    peer::{faulty::Plan, load::Spec},
    wait::holds,
};
use serde_json::json;

const HEDGES: &str = "posthaste_request_hedges_total";

#[test]
fn a_slow_endpoint_is_not_waited_for() {
    let mut shop = Shop::start("http");
    // Only hedging shall help: the slow endpoint is not ejected, and the budget allows for all.
    let hedging = json!({
        "hedging": {"delay": "50ms", "extraAttempts": 1}, "outlierDetection": {"latencyFactor": 0},
        "retryConstraint": {"budget": {"percent": 100, "interval": "10s"}, "minRetryRate": {"count": 100, "interval": "1s"}},
    });
    let tight = json!({
        "hedging": {"delay": "50ms"}, "outlierDetection": {"latencyFactor": 0},
        "retryConstraint": {"budget": {"percent": 0, "interval": "10s"}, "minRetryRate": {"count": 1, "interval": "1h"}},
    });
    let tight_web = shop.service("tight-web", &[0, 1]);
    shop.put_all(&[policy("shop-web", hedging), policy("tight-web", tight)]);

    // New connections to the service each time, so that a request meets the slow one until its slowness is known.
    shop.plan(0, &slow(3000));
    let report = shop.load(&Spec { id: "hedged".to_owned(), ..Spec::requests(200, 4) });
    assert_eq!(report.status(200), 200, "{report:?}\n{}", shop.logs());
    assert!(report.max_ms < 2500.0, "{report:?}");
    assert_eq!(report.servers.get("one"), None, "{report:?}");
    // The losers were cancelled, and the application behind saw its caller go.
    eventually("the losers to be gone", || {
        let seen = shop.seen_by(0);
        holds(
            seen.requests > 0 && seen.abandoned == seen.requests,
            format!("{} {}", seen.requests, seen.abandoned),
        )
    })
    .unwrap();
    let asked_slow = shop.seen_by(0).requests;
    let line = shop.line("a hedged request", |line| line["hedges"] == 1);
    assert_eq!((&line["status"], line["retries"].as_u64()), (&json!(200), None), "{line}");
    let hedged = shop.count(HEDGES, &[]);
    assert!(hedged >= asked_slow as f64, "{hedged} hedges, {asked_slow} requests at the slow one");
    assert_eq!(shop.count("posthaste_request_retries_total", &[]), 0.0);
    // That it is slow was learnt from attempts that never ended.
    let (_, one) = shop.endpoint("shop-web", 0);
    assert!(one["response_us"].as_u64() > Some(20_000), "{one}");

    // A POST waits, however slow.
    shop.clear();
    shop.plan_all(&slow(300));
    let post = Spec { method: "POST".to_owned(), body: 10, id: "post".to_owned(), ..at_once(6) };
    let report = shop.load(&post);
    assert!(report.status(200) == 6 && report.p50_ms > 250.0, "{report:?}");
    assert_eq!(shop.seen(), (6, 0));
    assert_eq!(shop.count(HEDGES, &[]), hedged);

    // One hedge is allowed, in an hour.
    shop.clear();
    shop.plan_all(&slow(300));
    let report = shop.load_to(tight_web, &at_once(6));
    assert_eq!(report.status(200), 6, "{report:?}\n{}", shop.logs());
    assert_eq!(shop.seen().0, 7);
    let labels = [("service", "tight-web.shop.svc.cluster.local")];
    assert_eq!(shop.count(HEDGES, &labels), 1.0);
    assert_eq!(shop.count("posthaste_retry_budget_refused_total", &labels), 5.0);
    shop.plan_all(&Plan::default());
}

#[test]
fn without_a_delay_the_observed_times_say_when_to_hedge() {
    let mut shop = Shop::start("http");
    let hedging = json!({
        "hedging": {}, "outlierDetection": {"latencyFactor": 0},
        "retryConstraint": {"budget": {"percent": 100, "interval": "10s"}, "minRetryRate": {"count": 100, "interval": "1s"}},
    });
    shop.put(policy("shop-web", hedging));
    // What the 95th percentile is made of.
    assert_eq!(shop.load(&Spec::requests(400, 2)).status(200), 400, "{}", shop.logs());
    shop.forget();
    shop.plan(0, &slow(8000));
    let report = shop.load(&Spec { timeout_ms: 20_000, ..Spec::requests(200, 4) });
    assert!(report.status(200) == 200 && report.max_ms < 7000.0, "{report:?}\n{}", shop.logs());
    assert!(shop.seen_by(0).requests > 0 && !report.servers.contains_key("one"), "{report:?}");
    assert!(shop.count(HEDGES, &[]) >= shop.seen_by(0).requests as f64);
}
