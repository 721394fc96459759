//! Which rule a request follows, whose routes are in force for whom, and that changes lose nothing.

use crate::{
    http_shop::{Shop, backend, route, route_of},
    scene::cluster_ip,
};
use posthaste_tests::{
    Family, Pod, eventually, objects,
    peer::load::{self, Spec},
    wait::holds,
};
use serde_json::{Value, json};
use std::{thread::sleep, time::Duration};

/// A rule that leads to one service.
fn to(service: &str, matches: &Value) -> Value {
    json!({"matches": [matches], "backendRefs": [backend(service, 1)]})
}

#[test]
fn requests_follow_the_match_that_is_most_specific() {
    let mut shop = Shop::start("http");
    shop.service("first", &[0]);
    shop.service("second", &[1]);
    shop.service("third", &[2]);
    shop.put_all(&[route(
        "shop-web",
        &json!([
            to("first", &json!({"path": {"type": "PathPrefix", "value": "/"}})),
            to("second", &json!({"path": {"type": "RegularExpression", "value": "/items/[0-9]+(/.*)?"}})),
            to("third", &json!({"path": {"type": "Exact", "value": "/items/7"}})),
            to("second", &json!({"path": {"type": "PathPrefix", "value": "/query"}, "queryParams": [{"name": "beta", "value": "yes"}]})),
            to("third", &json!({"path": {"type": "PathPrefix", "value": "/query"},
                "queryParams": [{"type": "RegularExpression", "name": "v", "value": "[23]"}]})),
            to("second", &json!({"path": {"type": "PathPrefix", "value": "/method"}, "method": "DELETE"})),
            to("third", &json!({"path": {"type": "PathPrefix", "value": "/header"},
                "headers": [{"type": "RegularExpression", "name": "X-Who", "value": "an+"}, {"name": "x-two", "value": "2"}]})),
        ]),
    )]);
    let table: [(&str, &[&str], &str); 14] = [
        ("/", &[], "one"),
        ("/items", &[], "one"),
        ("/items/12", &[], "two"),
        ("/items/12/parts?x", &[], "two"),
        ("/items/7", &[], "three"),
        ("/items/x", &[], "one"),
        ("/query?beta=yes", &[], "two"),
        ("/query?a=1&v=3", &[], "three"),
        ("/query?v=33", &[], "one"),
        ("/query?beta=no", &[], "one"),
        ("/method", &["-X", "DELETE"], "two"),
        ("/method", &["-X", "PUT"], "one"),
        ("/header", &["-H", "x-who: ann", "-H", "X-Two: 2"], "three"),
        ("/header", &["-H", "x-who: ann"], "one"),
    ];
    for (path, more, server) in table {
        let answer = shop.ask(shop.service, path, more);
        assert_eq!(
            answer.header("x-server").as_deref(),
            Some(server),
            "{path} {more:?}: {answer:?}\n{}",
            shop.logs()
        );
    }
    // Without a rule that matches everything the rest is nobody's.
    shop.put_all(&[route(
        "shop-web",
        &json!([to("first", &json!({"path": {"type": "Exact", "value": "/only"}}))]),
    )]);
    let answer = shop.ask(shop.service, "/other", &[]);
    assert_eq!((answer.status, &*answer.flag()), (404, "NR"), "{answer:?}");
    changes_lose_nothing(&mut shop);
}

fn changes_lose_nothing(shop: &mut Shop) {
    let spec = Spec { seconds: 4.0, rate: 400.0, connections: 8, ..Spec::default() };
    let split = |weight: u32| {
        route(
            "shop-web",
            &json!([{"backendRefs": [backend("first", weight), backend("second", 100 - weight)]}]),
        )
    };
    shop.put(split(100));
    let running = load::start(&shop.client, shop.service, &spec).unwrap();
    for change in 0..12 {
        sleep(Duration::from_millis(200));
        shop.put(split(if change % 2 == 0 { 0 } else { 100 }));
    }
    let report = load::finish(running, &spec).unwrap();
    assert_eq!((report.success(), report.errors.len()), (1.0, 0), "{report:?}\n{}", shop.logs());
    assert!(report.requests > 50 && report.servers.len() == 2, "{report:?}");
}

/// A pod of the namespace `other`.
fn stranger(shop: &mut Shop, node: &str, name: &str) -> Pod {
    let pod = shop.mesh.pod_with(node, name, |spec| spec.namespace = "other".to_owned()).unwrap();
    shop.mesh.settle(&pod).unwrap();
    pod
}

#[test]
fn other_namespaces_must_allow_and_callers_may_have_routes_of_their_own() {
    let mut shop = Shop::start("http");
    shop.mesh.manifests.put(objects::namespace("other", true, &[("mtls", "strict")]));
    let far = stranger(&mut shop, "b", "far");
    let _far_server = posthaste_tests::peer::faulty::Faulty::start(&far, 8080, "far").unwrap();
    let mut service = shop.mesh.service_spec("far-web", 8080, &[&far]);
    service.namespace = "other".to_owned();
    service.app_protocol = Some("http".to_owned());
    shop.mesh.publish(&service).unwrap();

    let mut across = backend("far-web", 1);
    across["namespace"] = json!("other");
    shop.put(route("shop-web", &json!([{"backendRefs": [across]}])));
    let refused = shop.ask(shop.service, "/", &[]);
    assert_eq!((refused.status, &*refused.flag()), (500, "NC"), "{refused:?}");
    let problems = shop.mesh.a.json(&["status"]).unwrap()["problems"].to_string();
    assert!(
        problems.contains("ReferenceGrant") && problems.contains("HTTPRoute/shop/shop-web"),
        "{problems}"
    );
    let grant = |namespace: &str| {
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1beta1", "kind": "ReferenceGrant",
            "metadata": {"name": "from-shop", "namespace": "other"},
            "spec": {
                "from": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": namespace}],
                "to": [{"group": "", "kind": "Service", "name": "far-web"}],
            },
        })
    };
    // One for somebody else does not help.
    shop.put(grant("elsewhere"));
    assert_eq!(shop.ask(shop.service, "/", &[]).status, 500);
    shop.put(grant("shop"));
    assert_eq!(
        shop.ask(shop.service, "/", &[]).header("x-server").as_deref(),
        Some("far"),
        "{}",
        shop.logs()
    );
    assert!(!shop.mesh.a.json(&["status"]).unwrap()["problems"].to_string().contains("shop-web"));

    // The producer's route is for all, the consumer's for those of its namespace, in place of the producer's.
    let marked = |by: &str| {
        let modifier = json!({"set": [{"name": "x-route", "value": by}]});
        json!([{"filters": [{"type": "RequestHeaderModifier", "requestHeaderModifier": modifier}],
            "backendRefs": [{"name": "shop-web", "namespace": "shop", "port": 80}]}])
    };
    let visitor = stranger(&mut shop, "a", "visitor");
    let ask = |shop: &Shop, pod: &Pod| {
        let url = format!("http://{}/echo", shop.service);
        let text =
            pod.run(&["curl", "-sS", "--max-time", "20", "--noproxy", "*", &url]).unwrap().success().unwrap();
        let seen: Value =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}\n{}", shop.logs()));
        let mut headers = seen["headers"].as_array().unwrap().iter();
        headers.find(|pair| pair[0] == "x-route").map(|pair| pair[1].as_str().unwrap().to_owned())
    };
    shop.put(route("shop-web", &marked("producer")));
    assert_eq!(ask(&shop, &shop.client), Some("producer".to_owned()));
    assert_eq!(ask(&shop, &visitor), Some("producer".to_owned()));
    shop.put(route_of("other", "shop-web", &marked("consumer")));
    assert_eq!(ask(&shop, &shop.client), Some("producer".to_owned()));
    assert_eq!(ask(&shop, &visitor), Some("consumer".to_owned()));
    let text = shop.mesh.a.cli(&["routes", "shop-web"]).unwrap();
    assert!(
        text.contains("HTTPRoute/other/shop-web[0]") && text.contains("HTTPRoute/shop/shop-web[0]"),
        "{text}"
    );
    eventually("the far service", || {
        let status = shop.ask(cluster_ip(&service, Family::V4), "/", &[]).status;
        holds(status == 200, status.to_string())
    })
    .unwrap();
}
