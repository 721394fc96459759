//! Endpoints that are spoken to in HTTP/2: their failures stay theirs, nothing is sent twice, and clients of HTTP/1.1 reach them.

use crate::{
    http_shop::{Shop, backend, policy, publish, route},
    scene::logs,
};
use posthaste_tests::{
    Pod,
    peer::{
        faulty::{Plan, Trouble},
        load::Spec,
    },
};
use serde_json::{Value, json};

const H2C: &str = "kubernetes.io/h2c";

#[test]
fn one_endpoint_of_three_fails_every_call_over_http2_and_callers_see_none_of_it() {
    let troubles = [
        Trouble::Status,
        Trouble::RefusedStream,
        Trouble::GoAway,
        Trouble::ResetBeforeHead,
        Trouble::CloseBeforeHead,
        Trouble::Refuse,
    ];
    for trouble in troubles {
        for http2 in [false, true] {
            let shop = Shop::start(H2C);
            shop.plan(0, &Plan::always(trouble));
            let report = shop.load(&Spec { http2, ..Spec::requests(2000, 8) });
            let good = report.status(200);
            assert!(good >= 1998, "{trouble:?} {http2}: {report:?}\n{}", logs(&shop.mesh));
            let (requests, _) = shop.seen();
            assert!(requests < 2500, "{trouble:?} {http2}: {requests} requests reached the servers");
        }
    }
}

#[test]
fn what_must_not_be_repeated_never_is_over_http2() {
    let troubles = [
        Trouble::Status,
        Trouble::RefusedStream,
        Trouble::GoAway,
        Trouble::ResetMidRequest,
        Trouble::ResetBeforeHead,
        Trouble::CloseBeforeHead,
        Trouble::ResetMidBody,
        Trouble::CloseMidBody,
        Trouble::ResetOnAccept,
    ];
    let shop = Shop::start(H2C);
    for (number, trouble) in troubles.into_iter().enumerate() {
        for server in 0..3 {
            shop.plan(server, &Plan { share: 0.5, ..Plan::always(trouble) });
        }
        for http2 in [false, true] {
            let id = format!("post{number}{http2}");
            let method = "POST".to_owned();
            let spec = Spec { method, body: 500, id, http2, streams: 4, ..Spec::requests(200, 4) };
            let report = shop.load(&spec);
            let (_, twice) = shop.seen();
            assert_eq!(twice, 0, "{trouble:?} {http2}: {report:?}\n{}", logs(&shop.mesh));
            if trouble == Trouble::RefusedStream {
                // Half of them is refused by the first server. Nobody has seen those, so they go elsewhere as far as the budget goes.
                assert!(report.status(200) > 105, "{http2}: {report:?}\n{}", logs(&shop.mesh));
            }
        }
    }
}

#[test]
fn requests_share_connections() {
    let shop = Shop::start(H2C);
    let report = shop.load(&Spec::requests(3000, 16));
    assert_eq!(report.status(200), 3000, "{report:?}\n{}", logs(&shop.mesh));
    for (pod, server) in &shop.servers {
        let seen = server.seen(pod).unwrap();
        assert!(
            seen.requests > 0 && seen.connections <= 4,
            "{seen:?}: one for each worker, and room for a race"
        );
    }
}

fn curl(client: &Pod, arguments: &[&str]) -> String {
    let line = [&["curl", "-sS", "-g", "--max-time", "20", "--noproxy", "*"], arguments].concat();
    client.run(&line).unwrap().success().unwrap()
}

/// What the server of `/echo` says that it was asked.
fn echo(shop: &Shop, arguments: &[&str]) -> Value {
    let url = format!("http://{}/echo/a?b=c", shop.service);
    let text = curl(&shop.client, &[arguments, &[&url]].concat());
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}\n{}", logs(&shop.mesh)))
}

#[test]
fn clients_of_http1_reach_servers_that_speak_only_http2() {
    let mut shop = Shop::start(H2C);
    let plain = echo(
        &shop,
        &["-H", "host: shop.example", "-H", "connection: x-hop", "-H", "x-hop: 1", "-H", "x-end: 2"],
    );
    assert_eq!((&plain["version"], &plain["target"]), (&"2".into(), &"/echo/a?b=c".into()), "{plain}");
    let headers = plain["headers"].to_string();
    assert!(
        headers.contains(r#"[":authority","shop.example"]"#) && headers.contains(r#"["x-end","2"]"#),
        "{plain}"
    );
    assert!(!headers.contains("x-hop") && !headers.contains("connection"), "{plain}");

    let posted = echo(&shop, &["-X", "PUT", "-d", "hello"]);
    assert_eq!((&posted["method"], &posted["body_bytes"]), (&"PUT".into(), &5.into()), "{posted}");
    let chunked = echo(&shop, &["-H", "transfer-encoding: chunked", "-d", "hello"]);
    assert_eq!((&chunked["version"], &chunked["body_bytes"]), (&"2".into(), &5.into()), "{chunked}");
    let expecting = echo(&shop, &["-H", "expect: 100-continue", "-d", "hello"]);
    assert_eq!(expecting["body_bytes"], 5, "{expecting}");

    let base = format!("http://{}", shop.service);
    let head = curl(&shop.client, &["--head", &format!("{base}/size/1000")]);
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let large =
        curl(&shop.client, &["-o", "/dev/null", "-w", "%{size_download}", &format!("{base}/size/5000000")]);
    assert_eq!(large, "5000000");
    let trailers = curl(&shop.client, &["-i", "--raw", &format!("{base}/trailers")]);
    assert!(trailers.contains("x-trailer: end"), "{trailers}");

    // A route that leads from a port of HTTP/1.1 to one that speaks only HTTP/2.
    let pods: Vec<&Pod> = shop.servers.iter().map(|(pod, _)| pod).collect();
    let front = publish(&mut shop.mesh, "front", "http", &pods);
    shop.service = front;
    shop.put(serde_json::json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": "to-h2c", "namespace": "shop"},
        "spec": {
            "parentRefs": [{"group": "", "kind": "Service", "name": "front", "port": 80}],
            "rules": [{"backendRefs": [{"name": "shop-web", "port": 80}]}]
        }
    }));
    assert_eq!(echo(&shop, &[])["version"], "2");
}

/// A status that gRPC tries again is tried elsewhere, unless the server asks for more time than there is, or for no retry at all.
#[test]
fn calls_of_grpc_are_retried_as_their_servers_say() {
    let mut shop = Shop::start("grpc");
    let pods: Vec<&Pod> = shop.servers.iter().map(|(pod, _)| pod).collect();
    publish(&mut shop.mesh, "behind", "grpc", &pods);
    let rules = json!([{"backendRefs": [backend("behind", 1)], "retry": {"codes": [503], "attempts": 2, "backoff": "10ms"}}]);
    let generous = json!({
        "retryConstraint": {"budget": {"percent": 100, "interval": "10s"}, "minRetryRate": {"count": 1000, "interval": "1s"}},
        "outlierDetection": {"consecutiveGatewayFailures": 0, "latencyFactor": 0, "successRateStdevTenths": 0},
    });
    shop.put_all(&[policy("behind", generous), route("shop-web", &rules)]);
    let call = Spec {
        method: "POST".to_owned(),
        path: "/test.Echo/Get".to_owned(),
        headers: vec![("content-type".to_owned(), "application/grpc".to_owned())],
        body: 5,
        http2: true,
        ..Spec::requests(1, 1)
    };
    // UNAVAILABLE, INTERNAL; and how often it is asked for in all.
    let table =
        [(14, None, 3), (14, Some("5"), 3), (13, None, 1), (14, Some("-1"), 1), (14, Some("30000"), 1)];
    for (status, pushback, times) in table {
        let retry_after = pushback.map(str::to_owned);
        shop.plan_all(&Plan { status, retry_after, ..Plan::always(Trouble::GrpcStatus) });
        shop.forget();
        let report = shop.load(&call);
        assert_eq!(
            (report.status(200), shop.seen().0),
            (1, times),
            "{status} {pushback:?}: {report:?}\n{}",
            shop.logs()
        );
    }
    let counted = |status: &str| shop.count("istio_requests_total", &[("grpc_response_status", status)]);
    assert_eq!((counted("14"), counted("13")), (4.0, 1.0), "{}", shop.logs());
    // Who has asked for half a minute gets it.
    let spared = (0..3).map(|server| shop.endpoint("behind", server).1["penalised_ms"].as_u64());
    assert!(spared.max().flatten() > Some(1000), "{}", shop.endpoint("behind", 0).0);
}
