//! What the agent does for each request: routes, retries, budgets, breakers; with servers that do wrong what they are told.

use crate::{
    http_shop::{Shop, backend, route},
    scene::logs,
};
use posthaste_tests::peer::{
    faulty::{Plan, Trouble},
    load::Spec,
};
use serde_json::json;

#[test]
fn one_endpoint_of_three_fails_every_call_and_callers_see_none_of_it() {
    for trouble in [Trouble::Status, Trouble::ResetBeforeHead, Trouble::ResetMidHead, Trouble::Refuse] {
        let shop = Shop::start("http");
        shop.plan(0, &Plan::always(trouble));
        let report = shop.load(&Spec::requests(2000, 8));
        let good = report.status(200);
        assert!(good >= 1998, "{trouble:?}: {report:?}\n{}", logs(&shop.mesh));
        let (requests, _) = shop.seen();
        assert!(requests < 2500, "{trouble:?}: {requests} requests reached the servers");
        assert!(shop.count("istio_requests_total", &[]) > 0.0, "{}", logs(&shop.mesh));
    }
}

#[test]
fn what_must_not_be_repeated_never_is() {
    let troubles = [
        Trouble::Status,
        Trouble::ResetMidRequest,
        Trouble::ResetBeforeHead,
        Trouble::CloseBeforeHead,
        Trouble::ResetMidHead,
        Trouble::ResetMidBody,
        Trouble::CloseAfterAnswer,
        Trouble::Garbage,
        Trouble::ResetOnAccept,
    ];
    let shop = Shop::start("http");
    for (number, trouble) in troubles.into_iter().enumerate() {
        for server in 0..3 {
            shop.plan(server, &Plan { share: 0.5, ..Plan::always(trouble) });
        }
        let id = format!("post{number}");
        let spec = Spec { method: "POST".to_owned(), body: 500, id, ..Spec::requests(200, 4) };
        let report = shop.load(&spec);
        let (_, twice) = shop.seen();
        assert_eq!(twice, 0, "{trouble:?}: {report:?}\n{}", logs(&shop.mesh));
    }
}

#[test]
fn a_full_outage_stays_within_the_budget() {
    let shop = Shop::start("http");
    for server in 0..3 {
        shop.plan(server, &Plan::always(Trouble::Status));
    }
    let report = shop.load(&Spec::requests(3000, 8));
    assert_eq!(report.status(503), 3000, "{report:?}");
    let (requests, _) = shop.seen();
    // A fifth of the requests, and ten a second.
    let most = 3000.0 * 1.2 + 10.0 * (report.seconds + 2.0);
    assert!((requests as f64) <= most, "{requests} requests in {} s", report.seconds);
    assert!(shop.count("posthaste_retry_budget_refused_total", &[]) > 0.0, "{}", logs(&shop.mesh));
}

#[test]
fn requests_follow_their_routes() {
    let mut shop = Shop::start("http");
    shop.service("stable", &[0]);
    shop.service("canary", &[1]);
    let rules = json!([
        {"matches": [{"headers": [{"name": "x-canary", "value": "yes"}]}], "backendRefs": [backend("canary", 1)]},
        {"matches": [{"path": {"type": "Exact", "value": "/old"}}],
         "filters": [{"type": "RequestRedirect", "requestRedirect": {"path": {"type": "ReplaceFullPath", "replaceFullPath": "/new"}, "statusCode": 301}}]},
        {"matches": [{"path": {"type": "Exact", "value": "/broken"}}], "backendRefs": [backend("nobody", 1)]},
        {"backendRefs": [backend("stable", 90), backend("canary", 10)]}
    ]);
    shop.put(route("shop-web", &rules));
    let split = shop.load(&Spec::requests(1000, 4));
    let canaries = split.servers.get("two").copied().unwrap_or_default();
    // Five standard deviations of a binomial distribution around 100.
    assert!((53..=147).contains(&canaries), "{split:?}\n{}", logs(&shop.mesh));
    assert_eq!(split.servers.get("one").copied().unwrap_or_default() + canaries, 1000, "{split:?}");
    let header = vec![("x-canary".to_owned(), "yes".to_owned())];
    let matched = shop.load(&Spec { headers: header, ..Spec::requests(50, 2) });
    assert_eq!(matched.servers.get("two"), Some(&50), "{matched:?}");
    let moved = shop.load(&Spec { path: "/old".to_owned(), ..Spec::requests(5, 1) });
    assert_eq!(moved.status(301), 5, "{moved:?}");
    let broken = shop.load(&Spec { path: "/broken".to_owned(), ..Spec::requests(5, 1) });
    assert_eq!(broken.status(500), 5, "{broken:?}");
    let problems = shop.mesh.a.json(&["status"]).unwrap()["problems"].to_string();
    assert!(problems.contains("HTTPRoute/shop/shop-web") && problems.contains("nobody"), "{problems}");
}
