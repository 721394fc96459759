//! What is told of requests: spans over OTLP to a real collector, the access log with its filters, and the commands that show what
//! requests do right now, all of a mesh that works.

use crate::http_shop::{Shop, answering, backend, publish, route};
use posthaste_tests::{
    Mesh, Running,
    collector::{Collector, Span},
    eventually,
    peer::{
        faulty::Plan,
        lines,
        load::{self, Spec},
    },
    python,
    wait::holds,
};
use serde_json::{Value, json};
use std::time::Duration;

/// Both agents send all spans of what they are asked to trace, and nothing of what they begin themselves.
fn traced() -> (Collector, Shop) {
    let mut mesh = Mesh::prepare(&[("mtls", "strict")]).unwrap();
    let site = mesh.outsider("collector").unwrap();
    let collector = Collector::start(site, 4317).unwrap();
    let endpoint = format!("http://{}", collector.address);
    for agent in [&mut mesh.a, &mut mesh.b] {
        let flags = ["--otlp-endpoint", &endpoint, "--trace-sample", "0"];
        agent.settings.extra = flags.map(str::to_owned).to_vec();
    }
    mesh.run().unwrap();
    (collector, Shop::of(mesh, "http"))
}

#[test]
fn spans_of_two_hops_reach_a_collector() {
    let (collector, mut shop) = traced();
    let behind = shop.service;
    let between_pod = shop.mesh.pod("b", "between").unwrap();
    let _program = python::forward(&between_pod, 8080, &format!("http://{behind}")).unwrap();
    let between = publish(&mut shop.mesh, "between", "http", &[&between_pod]);
    // Not sampled: no span.
    assert_eq!(shop.ask(between, "/echo", &[]).status, 200, "{}", shop.logs());
    let (trace, parent) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    let header = format!("traceparent: 00-{trace}-{parent}-01");
    let seen = shop.echo(between, "/echo?secret=1", &["-H", &header]);
    let spans = collector.wait_trace(trace, 2).unwrap_or_else(|fault| panic!("{fault}\n{}", shop.logs()));
    let by = |pod: &str| -> &Span { spans.iter().find(|span| span.resource["k8s.pod.name"] == pod).unwrap() };
    let (first, second) = (by("client"), by("between"));
    assert_eq!((&*first.parent, &second.parent), (parent, &first.id), "{spans:?}");
    assert_eq!(seen.header("traceparent"), Some(format!("00-{trace}-{}-01", second.id)));
    for (key, value) in [
        ("http.request.method", "GET"),
        ("url.path", "/echo"),
        ("server.address", "between.shop.svc.cluster.local"),
        ("server.port", "80"),
        ("network.peer.address", &*between_pod.v4.to_string()),
        ("network.peer.port", "8080"),
        ("network.protocol.version", "1.1"),
        ("http.response.status_code", "200"),
        ("posthaste.response_flags", "-"),
    ] {
        assert_eq!(first.attributes.get(key).map(String::as_str), Some(value), "{key}: {first:?}");
    }
    assert_eq!((&*first.name, first.failed, &*first.resource["k8s.node.name"]), ("GET", false, "a"));
    assert_eq!((&*second.resource["service.name"], &*second.resource["k8s.node.name"]), ("between", "b"));
    assert!(!format!("{spans:?}").contains("secret"));

    // Every attempt has a span of its own below that of its request.
    shop.plan_all(&answering(503));
    let trace = "11112222333344445555666677778888";
    shop.ask(behind, "/", &["-H", &format!("traceparent: 00-{trace}-{parent}-01")]);
    let spans = collector.wait_trace(trace, 4).unwrap();
    let own = spans.iter().find(|span| span.parent == parent).unwrap();
    let attempts: Vec<&Span> = spans.iter().filter(|span| span.parent == own.id).collect();
    assert!(own.failed && own.attributes["http.request.resend_count"] == "2", "{own:?}");
    assert_eq!(attempts.len(), 3, "{spans:?}");
    assert!(
        attempts.iter().all(|span| span.failed && span.attributes["http.response.status_code"] == "503"),
        "{spans:?}"
    );
    assert_eq!(shop.count("posthaste_otlp_requests_total", &[("outcome", "dropped")]), 0.0);
    assert!(collector.spans().iter().all(|span| span.trace == trace || span.trace.starts_with("4bf9")));
}

/// Lines about requests with this status, in what the access log has gained.
fn logged(shop: &Shop, before: usize, status: u16) -> usize {
    let log = shop.mesh.a.access_log();
    log[before..].iter().filter(|line| line["event"] == "request" && line["status"] == status).count()
}

#[test]
fn the_access_log_takes_what_it_is_asked_to() {
    let mut mesh = Mesh::prepare(&[("mtls", "strict")]).unwrap();
    mesh.a.settings.extra = ["--access-log-sample", "0.1"].map(str::to_owned).to_vec();
    mesh.run().unwrap();
    let mut shop = Shop::of(mesh, "http");
    let (good, bad) = (
        Spec { path: "/size/1".to_owned(), ..Spec::requests(200, 4) },
        Spec { path: "/status/500".to_owned(), ..Spec::requests(20, 2) },
    );
    shop.load(&good);
    shop.load(&bad);
    eventually("all failures in the log", || {
        let found = logged(&shop, 0, 500);
        holds(found == 20, found.to_string())
    })
    .unwrap();
    let sampled = logged(&shop, 0, 200);
    assert!((10..=30).contains(&sampled), "{sampled} of 200");

    shop.mesh.a.settings.extra = ["--access-log-min-status", "404"].map(str::to_owned).to_vec();
    shop.mesh.a.stop().unwrap();
    shop.mesh.a.restart().unwrap();
    shop.mesh.settle(&shop.client).unwrap();
    let before = shop.mesh.a.access_log().len();
    for status in [200, 403, 404, 500] {
        assert_eq!(
            shop.ask(shop.service, &format!("/status/{status}"), &[]).status,
            status,
            "{}",
            shop.logs()
        );
    }
    eventually("the last failure", || holds(logged(&shop, before, 500) == 1, "none")).unwrap();
    let found = [200, 403, 404].map(|status| logged(&shop, before, status));
    assert_eq!(found, [0, 0, 1]);
}

/// Starts a tap, which says nothing before the first request.
fn tap(shop: &Shop, arguments: &[&str]) -> Running {
    shop.mesh.a.start_cli(&[&["tap"], arguments].concat()).unwrap()
}

/// Makes requests until the tap has seen enough of them and ends; what it said.
fn tapped(shop: &Shop, mut running: Running, path: &str, more: &[&str]) -> String {
    eventually("the tap to end", || {
        shop.ask(shop.service, path, more);
        holds(!running.alive(), running.stdout())
    })
    .unwrap();
    running.finish(Duration::from_secs(5)).unwrap().success().unwrap()
}

#[test]
fn commands_show_what_requests_do() {
    let mut shop = Shop::start("http");
    shop.service("plain", &[0, 1]);
    shop.put_all(&[route(
        "shop-web",
        &json!([
            {"matches": [{"path": {"type": "PathPrefix", "value": "/shown"}}], "backendRefs": [backend("plain", 3), backend("nobody", 1)],
             "timeouts": {"request": "3s"}},
            {"backendRefs": [backend("plain", 1)]},
        ]),
    )]);
    let routes = shop.mesh.a.cli(&["routes", "shop-web.shop", "-o", "wide"]).unwrap();
    for word in ["/shown/*", "HTTPRoute/shop/shop-web[0]", "plain.shop:80", "75%", "nobody"] {
        assert!(routes.contains(word), "{word}: {routes}");
    }
    let routes = shop.mesh.a.json(&["routes", "shop-web"]).unwrap();
    let first = &routes[0]["matches"][0];
    assert_eq!(
        (&first["action"], &first["request_timeout_ms"]),
        (&json!("forward"), &json!(3000)),
        "{routes}"
    );
    assert!(first["backends"][1]["problem"].as_str().is_some_and(|why| why.contains("nobody")), "{routes}");

    let secret = ["-H", "Authorization: Bearer forty-two", "-H", "X-Shown: plain to see"];
    let fault = shop.mesh.a.cli(&["tap", "shop-wbe", "--max", "1"]).unwrap_err().to_string();
    assert!(fault.contains("no service `shop-wbe` (did you mean `shop-web.shop`?): "), "{fault}");
    let running = tap(&shop, &["--max", "2", "--path", "/tapped", "-o", "json"]);
    let text = tapped(&shop, running, "/tapped?q=1", &secret);
    assert!(!text.contains("forty-two") && !text.contains("plain to see"), "{text}");
    let line = lines(&text).into_iter().find(|line| line["event"] == "request").unwrap();
    assert_eq!(
        (&line["path"], &line["status"], &line["method"]),
        (&json!("/tapped?q=1"), &json!(200), &json!("GET")),
        "{line}"
    );
    assert_eq!(line["attempts"].as_array().map(Vec::len), Some(1), "{line}");
    let named = |side: &str, name: &str| {
        line[side].as_array().unwrap().iter().any(|pair| pair[0] == name && pair[1] == "[redacted]")
    };
    assert!(named("request_headers", "authorization") && named("response_headers", "x-server"), "{line}");
    let running = tap(&shop, &["--max", "1", "--path", "/tapped", "--headers", "x-shown"]);
    let text = tapped(&shop, running, "/tapped", &secret);
    assert!(text.contains("x-shown: plain to see") && !text.contains("forty-two"), "{text}");
    let party = text.lines().next().unwrap_or_default();
    assert!(party.contains("shop/client -> shop/") && party.contains(" 200 "), "{text}");

    shop.plan(0, &answering(500));
    let spec = Spec { seconds: 30.0, rate: 100.0, connections: 4, ..Spec::default() };
    let running = load::start(&shop.client, shop.service, &spec).unwrap();
    let rates = eventually("requests at a rate", || {
        let rates = shop
            .mesh
            .a
            .json(&["top", "plain", "--once", "--interval", "1"])
            .map_err(|fault| fault.to_string())?;
        let rate = rates[0]["requests_per_second"].as_f64().unwrap_or_default();
        let success = rates[0]["success_percent"].as_f64().unwrap_or_default();
        // Balancing decides who gets how much, which a peak of either endpoint sways for a while.
        let seen = (70.0..130.0).contains(&rate) && success > 0.0 && success < 100.0;
        holds(seen, rates.to_string()).map(|()| rates)
    })
    .unwrap();
    assert!(rates[0]["p99_us"].as_u64() > Some(0), "{rates}");
    let text = shop.mesh.a.cli(&["top", "--once", "--interval", "0.5"]).unwrap();
    assert!(text.contains("plain") && text.lines().count() >= 2, "{text}");
    drop(running);
    shop.plan(0, &Plan::default());
    for command in [&["endpoints", "plain"][..], &["routes"], &["top", "--once", "--interval", "0.2"]] {
        let (words, value): (String, Value) =
            (shop.mesh.a.cli(command).unwrap(), shop.mesh.a.json(command).unwrap());
        assert!(!words.trim().is_empty() && value.is_array(), "{command:?}: {words} {value}");
        assert!(words.lines().all(|line| line.chars().count() <= 240), "{words}");
    }
}
