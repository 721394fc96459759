//! Time: retries and their backoff, what `Retry-After` does, time-outs, deadlines that are inherited and passed on.

use crate::http_shop::{Answer, Shop, answering, at_once, backend, policy, route, slow};
use posthaste_tests::peer::{faulty::Plan, load::Spec};
use serde_json::json;
use std::time::{Duration, Instant};

fn timed(shop: &Shop, path: &str, more: &[&str]) -> (Answer, Duration) {
    let begun = Instant::now();
    (shop.ask(shop.service, path, more), begun.elapsed())
}

/// `seconds` are what it shall take at least and at most.
fn took(took: Duration, seconds: (f64, f64)) {
    let given = took.as_secs_f64();
    assert!(given >= seconds.0 && given < seconds.1, "{given} s, not {seconds:?}");
}

#[test]
fn an_endpoint_that_asks_to_be_spared_is() {
    let mut shop = Shop::start("http");
    // Ejections off: what is seen is the raised load.
    let outliers = json!({"outlierDetection": {"consecutiveGatewayFailures": 0, "latencyFactor": 0, "successRateStdevTenths": 0}});
    shop.put(policy("shop-web", outliers));
    for (status, retry_after, at_most) in [(503, None, 1000), (429, Some("30"), 30_000)] {
        // What was asked for before is over.
        std::thread::sleep(Duration::from_millis(1100));
        shop.clear();
        shop.plan(0, &Plan { retry_after: retry_after.map(str::to_owned), ..answering(status) });
        let report = shop.load(&Spec { method: "POST".to_owned(), ..Spec::requests(200, 2) });
        assert!(
            report.status(status) > 0 && report.status(200) > 180,
            "{status}: {report:?}\n{}",
            shop.logs()
        );
        let (_, one) = shop.endpoint("shop-web", 0);
        let spared = one["penalised_ms"].as_u64();
        assert!(spared <= Some(at_most), "{one}");
        if retry_after.is_some() {
            // Longer than without the header, and seldom asked meanwhile.
            assert!(spared > Some(1000) && one["weight_percent"].as_f64() < Some(1.0), "{one}");
            assert!(shop.mesh.a.cli(&["endpoints", "shop-web"]).unwrap().contains("spared"));
            assert!(shop.seen_by(0).requests < 10, "{report:?}");
        }
    }
}

#[test]
fn routes_say_what_is_retried_and_for_how_long() {
    let mut shop = Shop::start("http");
    let to = json!([backend("plain", 1)]);
    shop.service("plain", &[0, 1, 2]);
    let generous = json!({
        "retryConstraint": {"budget": {"percent": 100, "interval": "10s"}, "minRetryRate": {"count": 1000, "interval": "1s"}},
        "outlierDetection": {"consecutiveGatewayFailures": 0, "latencyFactor": 0, "successRateStdevTenths": 0},
    });
    let rule = |path: &str, more: serde_json::Value| {
        let mut rule =
            json!({"matches": [{"path": {"type": "PathPrefix", "value": path}}], "backendRefs": to});
        more.as_object().unwrap().iter().for_each(|(field, value)| rule[field] = value.clone());
        rule
    };
    let rules = json!([
        rule("/codes", json!({"retry": {"codes": [500], "attempts": 2, "backoff": "10ms"}})),
        rule("/off", json!({"retry": {"attempts": 0}})),
        rule("/wait", json!({"retry": {"codes": [500], "attempts": 1, "backoff": "1s"}})),
        rule("/try", json!({"timeouts": {"backendRequest": "2s", "request": "9s"}})),
        rule("/whole", json!({"timeouts": {"request": "400ms"}})),
        rule("/echo", json!({"timeouts": {"request": "9s"}})),
    ]);
    shop.put_all(&[policy("plain", generous), route("shop-web", &rules)]);
    retries(&shop);
    timeouts(&shop);
    deadlines(&shop);
    asked_to_wait(&shop);
}

fn retries(shop: &Shop) {
    shop.plan_all(&answering(500));
    // Three attempts, for a POST as well since the route names the code.
    for method in ["GET", "POST"] {
        shop.forget();
        assert_eq!(shop.ask(shop.service, "/codes", &["-X", method]).status, 500);
        let each: Vec<u64> = (0..3).map(|server| shop.seen_by(server).requests).collect();
        assert_eq!(each, [1, 1, 1], "{method}: each attempt goes elsewhere\n{}", shop.logs());
    }
    let line = shop.line("a request with retries", |line| line["retries"] == 2);
    assert_eq!((&line["status"], &line["flags"]), (&json!(500), &json!("URX")), "{line}");
    shop.forget();
    let (_, waited) = timed(shop, "/wait", &[]);
    took(waited, (0.5, 8.0));
    assert_eq!(shop.seen().0, 2);
    shop.forget();
    shop.plan_all(&answering(502));
    // A code that is not named, and retries that are off.
    for (path, times) in [("/codes", 1), ("/off", 1), ("/try", 3)] {
        shop.forget();
        assert_eq!(shop.ask(shop.service, path, &[]).status, 502);
        assert_eq!(shop.seen().0, times, "{path}");
    }
    shop.clear();
}

fn timeouts(shop: &Shop) {
    // One endpoint is slow: another one answers, the caller sees nothing of it but the time.
    shop.plan(0, &slow(20_000));
    let report = shop.load(&Spec { path: "/try".to_owned(), ..Spec::requests(60, 6) });
    assert!(report.status(200) >= 58 && report.max_ms < 15_000.0, "{report:?}\n{}", shop.logs());
    assert!(shop.seen_by(0).requests > 0, "the slow one was never asked");
    // Nothing may be repeated: the attempt's time is the request's.
    shop.plan_all(&slow(20_000));
    shop.forget();
    let (answer, waited) = timed(shop, "/try", &["-X", "POST", "-d", "x"]);
    assert_eq!((answer.status, &*answer.flag()), (504, "UT"), "{answer:?}");
    took(waited, (2.0, 8.9));
    assert_eq!(shop.seen().0, 1);
    // The request's time: 504, whatever the number of attempts.
    let (answer, waited) = timed(shop, "/whole", &[]);
    assert_eq!((answer.status, &*answer.flag()), (504, "UT"), "{answer:?}");
    took(waited, (0.4, 8.0));
    let line = shop.line("the time-out", |line| line["path"] == "/whole");
    assert_eq!((&line["status"], &line["flags"]), (&json!(504), &json!("UT")), "{line}");
    shop.clear();
}

fn deadlines(shop: &Shop) {
    const EXPECTED: &str = "x-envoy-expected-rq-timeout-ms";
    let echo = |more: &[&str]| shop.echo(shop.service, "/echo", more);
    let header = |milliseconds: u32| format!("{EXPECTED}: {milliseconds}");
    // The route's own is passed on; of two the smallest is, in either order.
    for (given, at_most) in [(None, 9000), (Some(4000), 4000), (Some(60_000), 9000)] {
        let line = given.map(header);
        let more: Vec<&str> = line.iter().flat_map(|line| ["-H", line.as_str()]).collect();
        let left = echo(&more).number(EXPECTED).unwrap();
        assert!(left <= at_most, "{given:?}: {left}");
    }
    let grpc = ["-H", "content-type: application/grpc", "-H", "grpc-timeout: 5S"];
    let seen = echo(&grpc);
    let left = seen.header("grpc-timeout").unwrap();
    assert!(left.ends_with('m') || left.ends_with('u') || left.ends_with('n'), "{left}");
    assert!(seen.number(EXPECTED).unwrap() <= 5000);
    // When it is gone there is no retry, and the endpoint saw the request once.
    shop.plan_all(&slow(20_000));
    shop.forget();
    let (answer, waited) = timed(shop, "/echo", &["-H", &header(300)]);
    assert_eq!((answer.status, &*answer.flag()), (504, "DT"), "{answer:?}\n{}", shop.logs());
    took(waited, (0.3, 8.0));
    assert_eq!(shop.seen().0, 1);
    let (answer, waited) =
        timed(shop, "/echo", &["-H", "content-type: application/grpc", "-H", "grpc-timeout: 300m"]);
    assert_eq!((answer.status, answer.header("grpc-status").as_deref()), (200, Some("4")), "{answer:?}");
    took(waited, (0.3, 8.0));
    // No work at all for what comes too late.
    shop.forget();
    let report = shop.load(&Spec {
        path: "/echo".to_owned(),
        headers: vec![(EXPECTED.to_owned(), "1".to_owned())],
        ..at_once(4)
    });
    assert_eq!(report.status(504), 4, "{report:?}");
    assert!(shop.seen().0 <= 4);
}

/// A server that asks for more time than the backoff has gets it: no retry. (The last one: its endpoint is spared from then on.)
fn asked_to_wait(shop: &Shop) {
    shop.plan_all(&Plan { retry_after: Some("30".to_owned()), ..answering(503) });
    shop.forget();
    let answer = shop.ask(shop.service, "/try", &[]);
    assert_eq!((answer.status, answer.header("retry-after").as_deref()), (503, Some("30")));
    assert_eq!(shop.seen().0, 1);
}
