//! Faults under load: slow and broken answers, endpoints that vanish, an agent that dies, bursts of failures; and connections that are
//! silent for long.

use crate::{
    http_scene::Web,
    http_shop::{Shop, answering, backend, policy, publish, route},
};
use posthaste_tests::{
    Family,
    peer::{
        self,
        faulty::{self, Faulty, Plan, Trouble},
        load::{self, Report, Spec},
    },
};
use serde_json::json;
use std::{thread::sleep, time::Duration};

/// Requests at a steady rate while something happens to the servers.
fn during(shop: &mut Shop, spec: &Spec, happens: impl FnOnce(&mut Shop)) -> Report {
    let running = load::start(&shop.client, shop.service, spec).unwrap();
    sleep(Duration::from_secs(1));
    happens(shop);
    load::finish(running, spec).unwrap()
}

fn steady(seconds: f64) -> Spec {
    Spec { seconds, rate: 80.0, connections: 8, ..Spec::default() }
}

/// One request in a thousand may fail; a machine that stands still for seconds gives two of few.
fn good(report: &Report, what: &str, shop: &Shop) {
    let failed = report.requests - report.status(200);
    let fine = failed <= (report.requests / 1000).max(2) && report.requests > 50;
    assert!(fine, "{what}: {report:?}\n{}", shop.logs());
}

#[test]
fn slow_and_broken_answers() {
    let shop = Shop::start("http");
    // Slow bodies arrive whole.
    shop.plan_all(&Plan { delay_ms: 800, body: 50_000, ..Plan::always(Trouble::SlowBody) });
    let report = shop.load(&Spec::requests(12, 6));
    assert_eq!((report.status(200), report.bytes), (12, 12 * 50_000), "{report:?}\n{}", shop.logs());
    assert!(report.p50_ms >= 700.0, "{report:?}");
    // A body that breaks is an error for the client, whichever way it broke, and not a shorter answer.
    for trouble in [Trouble::ResetMidBody, Trouble::CloseMidBody] {
        shop.forget();
        shop.plan_all(&Plan { share: 0.5, body: 50_000, ..Plan::always(trouble) });
        let report = shop.load(&Spec::requests(60, 3));
        let broken: u64 = report.errors.values().sum();
        assert_eq!(report.status(200) + broken, 60, "{trouble:?}: {report:?}");
        assert!((10..=40).contains(&broken), "{trouble:?}: {report:?}");
        // No attempt more, once the client has a part of it. A reset may overtake what was sent, and then it has none.
        let (requests, repeated) = shop.seen();
        assert_eq!(requests, 60 + repeated as u64, "{trouble:?}: {report:?}");
        assert!(repeated == 0 || trouble == Trouble::ResetMidBody, "{trouble:?}: {report:?}");
        let line = shop.line("a broken answer", |line| line["flags"] == "UC");
        assert_eq!(line["status"], 200, "{line}");
    }
    // Garbage and ends that come too early are answered by another endpoint.
    for trouble in [Trouble::Garbage, Trouble::CloseBeforeHead] {
        shop.clear();
        shop.plan(0, &Plan::always(trouble));
        let report = shop.load(&Spec::requests(300, 4));
        assert_eq!(report.status(200), 300, "{trouble:?}: {report:?}\n{}", shop.logs());
    }
}

#[test]
fn endpoints_and_agents_that_vanish_under_load() {
    let mut shop = Shop::start("http");
    // Bursts: one server fails all it gets, again and again.
    let spec = steady(5.0);
    let report = during(&mut shop, &spec, |shop| {
        for turn in 0..6 {
            shop.plan(turn % 3, &answering(503));
            sleep(Duration::from_millis(400));
            shop.plan(turn % 3, &Plan::default());
            sleep(Duration::from_millis(100));
        }
    });
    good(&report, "bursts", &shop);
    // A program ends, and comes back.
    let report = during(&mut shop, &spec, |shop| {
        shop.servers[0].1.running.kill();
        sleep(Duration::from_secs(1));
        shop.servers[0].1 = Faulty::start(&shop.servers[0].0, 8080, "one").unwrap();
    });
    good(&report, "a program that ends", &shop);
    // The agent of two of three endpoints is killed, and comes back.
    let report = during(&mut shop, &spec, |shop| {
        shop.mesh.b.kill();
        sleep(Duration::from_secs(1));
        shop.mesh.b.restart().unwrap();
    });
    good(&report, "an agent that is killed", &shop);
    // A pod is silent all at once. Attempts with a time of their own go elsewhere.
    shop.service("plain", &[0, 1, 2]);
    let rules = json!([{"backendRefs": [backend("plain", 1)], "timeouts": {"backendRequest": "2s", "request": "9s"}}]);
    let budget = json!({"retryConstraint": {"budget": {"percent": 50, "interval": "10s"}, "minRetryRate": {"count": 100, "interval": "1s"}}});
    shop.put_all(&[route("shop-web", &rules), policy("plain", budget)]);
    let spec = steady(10.0);
    let report = during(&mut shop, &spec, |shop| faulty::vanish(&shop.servers[1].0).unwrap());
    good(&report, "a pod that vanishes", &shop);
}

#[test]
fn bodies_are_kept_for_another_attempt_up_to_64_kib() {
    const KEPT: usize = 64 * 1024;
    let mut shop = Shop::start("http");
    let services = ["http", "kubernetes.io/h2c"].map(|protocol| {
        let name = format!("kept-{}", protocol.len());
        publish(&mut shop.mesh, &name, protocol, &[&shop.servers[0].0])
    });
    for (to, http2) in services.into_iter().flat_map(|to| [(to, false), (to, true)]) {
        for (body, status, times) in [(KEPT - 1, 200, 2), (KEPT, 200, 2), (KEPT + 1, 503, 1)] {
            // The second request is read whole and reset, the third one would be good.
            shop.plan(0, &Plan { share: 0.5, ..Plan::always(Trouble::ResetBeforeHead) });
            shop.forget();
            let put = |id: &str, body| Spec {
                method: "PUT".to_owned(),
                body,
                http2,
                id: id.to_owned(),
                ..Spec::requests(1, 1)
            };
            assert_eq!(shop.load_to(to, &put("first", 1)).status(200), 1, "{}", shop.logs());
            let report = shop.load_to(to, &put("second", body));
            let seen = shop.seen_by(0).ids;
            let what = format!("{body} bytes to {to}, {http2}: {report:?} {seen:?}");
            assert_eq!(
                (report.status(status), seen.get("second-0")),
                (1, Some(&times)),
                "{what}\n{}",
                shop.logs()
            );
            assert_eq!(seen.get("first-0"), Some(&1), "{what}");
        }
    }
}

#[test]
fn switched_connections_may_be_silent_for_long() {
    let mut web = Web::start();
    let _server = Faulty::start(&web.server, 8080, "one").unwrap();
    let heads = [
        ("CONNECT", "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n", "HTTP/1.1 200 "),
        (
            "upgrade",
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n",
            "HTTP/1.1 101 ",
        ),
    ];
    let (plain, timed) =
        (web.address(Some("http"), Family::V4), web.address(Some("kubernetes.io/ws"), Family::V4));
    // A route's time is that of the answer, not of what comes after 101.
    let rules = json!([{"backendRefs": [backend("web-http", 1)], "timeouts": {"request": "2s", "backendRequest": "1s"}}]);
    web.mesh.manifests.put(route("web-ws", &rules));
    web.mesh.manifests.apply().unwrap();
    posthaste_tests::agent::wait_json(&web.mesh.a, &["routes"], |routes| {
        routes.to_string().contains("web-ws")
    })
    .unwrap();
    let runs: Vec<_> = [plain, timed]
        .into_iter()
        .flat_map(|to| heads.map(|head| (to, head)))
        .map(|(to, (what, head, begin))| {
            let head = peer::hexadecimal(head.as_bytes());
            (peer::start_call(&web.client, "switch", to, &[&head, "12000"]).unwrap(), what, begin)
        })
        .collect();
    for (run, what, begin) in runs {
        let text = run.finish(Duration::from_secs(40)).unwrap().stdout;
        let said = peer::lines(&text).pop().unwrap_or_default();
        let head = said["head"].as_str().unwrap_or_default();
        assert!(
            head.starts_with(begin) && said["echo"] == "again",
            "{what}: {text}\n{}",
            crate::scene::logs(&web.mesh)
        );
    }
}
