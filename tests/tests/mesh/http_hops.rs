//! Retries over two hops: a client calls an application that calls another one, which fails. What the first hop repeats the second one
//! does not multiply, as long as the application passes on what joins its requests; and no application can say otherwise.

use crate::http_shop::{Shop, answering, policy, publish};
use posthaste_tests::{peer::faulty::Plan, python};
use serde_json::json;

#[test]
fn attempts_are_not_multiplied() {
    let mut shop = Shop::start("http");
    // Room for all that would be tried, and nobody ejected: marks alone hold it.
    let generous = json!({
        "retryConstraint": {"budget": {"percent": 100, "interval": "10s"}, "minRetryRate": {"count": 1000, "interval": "1s"}},
        "outlierDetection": {"consecutiveGatewayFailures": 0, "latencyFactor": 0, "successRateStdevTenths": 0},
    });
    let behind = shop.service;
    let (near, far) = (shop.mesh.pod("a", "near").unwrap(), shop.mesh.pod("b", "far").unwrap());
    let url = format!("http://{behind}");
    let _programs = [&near, &far].map(|pod| python::forward(pod, 8080, &url).unwrap());
    let between = publish(&mut shop.mesh, "between", "http", &[&near, &far]);
    shop.put_all(&[policy("shop-web", generous.clone()), policy("between", generous)]);
    assert_eq!(shop.ask(between, "/", &[]).status, 200, "{}", shop.logs());

    shop.plan_all(&answering(503));
    // The first hop tries three times; the second one thrice for the first of them, and once for each of the others.
    let table: [(&[&str], u64, &str); 4] = [
        (&[], 5, "marked"),
        (&["-H", "x-posthaste-attempt: 0;x"], 5, "an application's own header is nothing"),
        (
            &["-H", "x-request-id: mine", "-H", "x-posthaste-attempt: 7;mine"],
            5,
            "with the client's own request id",
        ),
        (&["-H", "x-drop: yes"], 9, "what is not passed on cannot be joined"),
    ];
    for (more, times, what) in table {
        shop.forget();
        assert_eq!(shop.ask(between, "/", more).status, 503);
        assert_eq!(shop.seen().0, times, "{what}\n{}", shop.logs());
    }
    // It does not last: a new request is tried as often as the first one was.
    shop.forget();
    shop.ask(between, "/", &[]);
    assert_eq!(shop.seen().0, 5);
    // A request id that is used again within a minute is taken for the same request: one attempt, which is on the safe side.
    shop.forget();
    shop.ask(behind, "/", &["-H", "x-request-id: mine"]);
    assert_eq!(shop.seen().0, 3, "the client's pod was marked by nobody");
    shop.plan_all(&Plan::default());
}
