//! What a route's filters do to requests and answers that pass through real agents.

use crate::http_shop::{Shop, backend, route};
use posthaste_tests::{eventually, peer::load::Spec, wait::holds};
use serde_json::{Value, json};

fn rule(path: &str, filters: &Value) -> Value {
    let matches = json!([{"path": {"type": "PathPrefix", "value": path}}]);
    json!({"matches": matches, "filters": filters, "backendRefs": [backend("plain", 1)]})
}

fn rewrite(path: &Value) -> Value {
    json!({"type": "URLRewrite", "urlRewrite": path})
}

fn mirror(percent: &Value) -> Value {
    let mut mirror = json!({"backendRef": {"name": "copies", "port": 80}});
    percent.as_object().unwrap().iter().for_each(|(field, value)| mirror[field] = value.clone());
    json!({"type": "RequestMirror", "requestMirror": mirror})
}

/// The last server takes copies only.
fn start() -> Shop {
    let mut shop = Shop::start("http");
    shop.service("plain", &[0, 1]);
    shop.service("copies", &[2]);
    let to_echo = rewrite(&json!({"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/echo"}}));
    let request = json!({"type": "RequestHeaderModifier", "requestHeaderModifier": {
        "set": [{"name": "x-set", "value": "new"}], "add": [{"name": "x-add", "value": "more"}], "remove": ["x-secret"]}});
    let response = json!({"type": "ResponseHeaderModifier", "responseHeaderModifier": {
        "set": [{"name": "x-server", "value": "hidden"}], "add": [{"name": "x-seen", "value": "by the mesh"}]}});
    let cors = |origins: Value, credentials: bool| {
        json!({"type": "CORS", "cors": {
            "allowOrigins": origins, "allowCredentials": credentials, "allowMethods": ["GET", "PUT"],
            "allowHeaders": ["x-token"], "exposeHeaders": ["x-server"], "maxAge": 600}})
    };
    shop.put_all(&[route(
        "shop-web",
        &json!([
            rule("/api", &json!([to_echo])),
            rule(
                "/full",
                &json!([rewrite(
                    &json!({"path": {"type": "ReplaceFullPath", "replaceFullPath": "/echo/all"}})
                )])
            ),
            rule("/echo/host", &json!([rewrite(&json!({"hostname": "other.example"}))])),
            rule("/echo/request", &json!([request])),
            rule("/response", &json!([response])),
            rule("/cors", &json!([cors(json!(["https://*.shop.example"]), true)])),
            rule("/any", &json!([cors(json!(["*"]), false)])),
            rule("/mirror/all", &json!([mirror(&json!({}))])),
            rule("/mirror/half", &json!([mirror(&json!({"percent": 50}))])),
            rule(
                "/mirror/quarter",
                &json!([mirror(&json!({"fraction": {"numerator": 1, "denominator": 4}}))])
            ),
            rule("/status", &json!([mirror(&json!({}))])),
        ]),
    )]);
    shop
}

#[test]
fn requests_and_answers_are_changed_as_the_filters_say() {
    let shop = start();
    rewrites_and_headers(&shop);
    cross_origin(&shop);
    mirrors(&shop);
}

fn rewrites_and_headers(shop: &Shop) {
    let echo = |path: &str, more: &[&str]| shop.echo(shop.service, path, more);
    for (asked, got) in [
        ("/api", "/echo"),
        ("/api/a/b?x=1&y=%20", "/echo/a/b?x=1&y=%20"),
        ("/api/?z", "/echo/?z"),
        ("/full/whatever?q=2", "/echo/all?q=2"),
    ] {
        assert_eq!(echo(asked, &[]).target(), got, "{asked}");
    }
    let host = echo("/echo/host", &["-H", "Host: mine.example"]);
    assert_eq!(host.header("host").as_deref(), Some("other.example"));
    let sent = [
        "-H",
        "X-Set: old",
        "-H",
        "X-Set: older",
        "-H",
        "X-Add: some",
        "-H",
        "X-Secret: s",
        "-H",
        "X-Kept: k",
    ];
    let request = echo("/echo/request", &sent);
    assert_eq!(request.header("x-set").as_deref(), Some("new"));
    assert_eq!(request.header("x-add").as_deref(), Some("some, more"));
    assert_eq!((request.header("x-secret"), request.header("x-kept").as_deref()), (None, Some("k")));
    let answer = shop.ask(shop.service, "/response", &[]);
    assert_eq!((answer.status, answer.header("x-server").as_deref()), (200, Some("hidden")), "{answer:?}");
    assert_eq!(answer.header("x-seen").as_deref(), Some("by the mesh"));
}

fn cross_origin(shop: &Shop) {
    let ask = |path: &str, more: &[&str]| shop.ask(shop.service, path, more);
    let preflight = |path: &str, origin: &str| {
        let origin = format!("Origin: {origin}");
        ask(path, &["-X", "OPTIONS", "-H", &origin, "-H", "Access-Control-Request-Method: PUT"])
    };
    shop.forget();
    let good = preflight("/cors", "https://a.shop.example");
    assert!((200..300).contains(&good.status), "{good:?}");
    assert_eq!(good.header("access-control-allow-origin").as_deref(), Some("https://a.shop.example"));
    assert_eq!(good.header("access-control-allow-credentials").as_deref(), Some("true"));
    assert_eq!(good.header("access-control-allow-methods").as_deref(), Some("GET, PUT"));
    assert_eq!(good.header("access-control-allow-headers").as_deref(), Some("x-token"));
    assert_eq!(good.header("access-control-max-age").as_deref(), Some("600"));
    let stranger = preflight("/cors", "https://evil.example");
    assert_eq!(stranger.header("access-control-allow-origin"), None, "{stranger:?}");
    assert_eq!(
        preflight("/any", "https://evil.example").header("access-control-allow-origin").as_deref(),
        Some("*")
    );
    assert_eq!(shop.seen().0, 0, "a preflight is answered by the agent");
    // An OPTIONS that is no preflight, and simple requests, go on.
    assert!(ask("/cors", &["-X", "OPTIONS"]).header("x-server").is_some());
    let simple = ask("/cors", &["-H", "Origin: https://a.shop.example"]);
    assert_eq!(
        simple.header("access-control-allow-origin").as_deref(),
        Some("https://a.shop.example"),
        "{simple:?}"
    );
    assert_eq!(simple.header("access-control-expose-headers").as_deref(), Some("x-server"));
    assert!(
        simple.header("vary").is_some_and(|vary| vary.to_ascii_lowercase().contains("origin")),
        "{simple:?}"
    );
    let stranger = ask("/cors", &["-H", "Origin: https://evil.example"]);
    assert_eq!(
        (stranger.status, stranger.header("access-control-allow-origin")),
        (200, None),
        "{stranger:?}"
    );
}

fn mirrors(shop: &Shop) {
    let copies = |path: &str, least: u64, most: u64| {
        shop.forget();
        let spec = Spec { path: path.to_owned(), id: "m".to_owned(), ..Spec::requests(200, 4) };
        let report = shop.load(&spec);
        assert_eq!((report.status(200), report.servers.get("three")), (200, None), "{report:?}");
        eventually("the copies", || {
            let copied = shop.seen_by(2).requests;
            holds((least..=most).contains(&copied), format!("{copied} of 200"))
        })
        .unwrap_or_else(|fault| panic!("{path}: {fault}\n{}", shop.logs()));
    };
    copies("/mirror/all", 200, 200);
    // Five standard deviations of binomial distributions.
    copies("/mirror/half", 65, 135);
    copies("/mirror/quarter", 20, 80);
    // A body is copied whole, the host says that it is a copy, and nobody waits for the answer to it.
    shop.forget();
    let post = Spec {
        method: "POST".to_owned(),
        body: 5000,
        path: "/mirror/all".to_owned(),
        ..Spec::requests(20, 2)
    };
    assert_eq!(shop.load(&post).status(200), 20);
    eventually("copies with bodies", || {
        let seen = shop.seen_by(2);
        holds(seen.methods.get("POST") == Some(&20) && seen.ids.len() == 20, format!("{:?}", seen.methods))
    })
    .unwrap();
    // What fails is copied as well.
    shop.forget();
    assert_eq!(shop.ask(shop.service, "/status/500", &[]).status, 500);
    eventually("a copy of a failure", || holds(shop.seen_by(2).requests == 1, "none")).unwrap();
    let labels = [("service", "copies.shop.svc.cluster.local"), ("outcome", "answered")];
    let counted = shop.count("posthaste_mirrored_requests_total", &labels);
    assert!(counted >= 200.0 + 65.0 + 20.0 + 20.0 + 1.0, "{counted}");
}
