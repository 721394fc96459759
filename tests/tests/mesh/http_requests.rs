//! What the agent does for each request: routes, retries, budgets, breakers; with servers that do wrong what they are told.

use crate::scene::{cluster_ip, logs};
use posthaste_tests::{
    Family, Mesh, Pod, eventually,
    peer::{
        faulty::{Faulty, Plan, Trouble},
        load::{self, Report, Spec},
    },
    wait::holds,
};
use serde_json::{Value, json};
use std::net::SocketAddr;

/// Three servers behind one HTTP port; two of them on the other node.
struct Shop {
    client: Pod,
    servers: Vec<(Pod, Faulty)>,
    service: SocketAddr,
    // Last: pods end before the world.
    mesh: Mesh,
}

impl Shop {
    fn start() -> Self {
        let mut mesh = Mesh::start_strict().unwrap();
        let client = mesh.pod("a", "client").unwrap();
        let servers: Vec<(Pod, Faulty)> = [("b", "one"), ("b", "two"), ("a", "three")]
            .into_iter()
            .map(|(node, name)| {
                let pod = mesh.pod(node, name).unwrap();
                let program = Faulty::start(&pod, 8080, name).unwrap();
                (pod, program)
            })
            .collect();
        let pods: Vec<&Pod> = servers.iter().map(|(pod, _)| pod).collect();
        let service = publish(&mut mesh, "shop-web", &pods);
        Self { client, servers, service, mesh }
    }

    fn plan(&self, server: usize, plan: &Plan) {
        let (pod, program) = &self.servers[server];
        program.plan(pod, plan).unwrap();
    }

    fn load(&self, spec: &Spec) -> Report {
        load::of(&self.client, self.service, spec).unwrap()
    }

    /// Requests that all servers have seen, and the ids that came more than once.
    fn seen(&self) -> (u64, usize) {
        let seen = self.servers.iter().map(|(pod, program)| program.seen(pod).unwrap());
        let mut ids = std::collections::BTreeMap::new();
        let mut requests = 0;
        for one in seen {
            requests += one.requests;
            for (id, times) in one.ids {
                *ids.entry(id).or_insert(0) += times;
            }
        }
        (requests, ids.values().filter(|times| **times > 1).count())
    }

    fn put(&mut self, object: Value) {
        let before = generation(&self.mesh);
        self.mesh.manifests.put(object);
        self.mesh.manifests.apply().unwrap();
        eventually("the new snapshot", || holds(generation(&self.mesh) > before, "the old one")).unwrap();
    }

    fn counted(&self, metric: &str) -> bool {
        self.mesh.a.metrics().unwrap().sum(metric, &[]) > 0.0
    }
}

fn publish(mesh: &mut Mesh, name: &str, pods: &[&Pod]) -> SocketAddr {
    let mut service = mesh.service_spec(name, 8080, pods);
    service.app_protocol = Some("http".to_owned());
    mesh.publish(&service).unwrap();
    cluster_ip(&service, Family::V4)
}

fn generation(mesh: &Mesh) -> u64 {
    mesh.a.json(&["status"]).unwrap()["snapshot_generation"].as_u64().unwrap()
}

#[test]
fn one_endpoint_of_three_fails_every_call_and_callers_see_none_of_it() {
    for trouble in [Trouble::Status, Trouble::ResetBeforeHead, Trouble::ResetMidHead, Trouble::Refuse] {
        let shop = Shop::start();
        shop.plan(0, &Plan::always(trouble));
        let report = shop.load(&Spec::requests(2000, 8));
        let good = report.status(200);
        assert!(good >= 1998, "{trouble:?}: {report:?}\n{}", logs(&shop.mesh));
        let (requests, _) = shop.seen();
        assert!(requests < 2500, "{trouble:?}: {requests} requests reached the servers");
        assert!(shop.counted("istio_requests_total"), "{}", logs(&shop.mesh));
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
    let shop = Shop::start();
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
    let shop = Shop::start();
    for server in 0..3 {
        shop.plan(server, &Plan::always(Trouble::Status));
    }
    let report = shop.load(&Spec::requests(3000, 8));
    assert_eq!(report.status(503), 3000, "{report:?}");
    let (requests, _) = shop.seen();
    // A fifth of the requests, and ten a second.
    let most = 3000.0 * 1.2 + 10.0 * (report.seconds + 2.0);
    assert!((requests as f64) <= most, "{requests} requests in {} s", report.seconds);
    assert!(shop.counted("posthaste_retry_budget_refused_total"), "{}", logs(&shop.mesh));
}

#[test]
fn requests_follow_their_routes() {
    let mut shop = Shop::start();
    let (one, two) = (&shop.servers[0].0, &shop.servers[1].0);
    let (stable, canary) = ([one], [two]);
    publish(&mut shop.mesh, "stable", &stable);
    publish(&mut shop.mesh, "canary", &canary);
    let backend = |name: &str, weight: u32| json!({"name": name, "port": 80, "weight": weight});
    shop.put(json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": "split", "namespace": "shop"},
        "spec": {
            "parentRefs": [{"group": "", "kind": "Service", "name": "shop-web", "port": 80}],
            "rules": [
                {"matches": [{"headers": [{"name": "x-canary", "value": "yes"}]}], "backendRefs": [backend("canary", 1)]},
                {"matches": [{"path": {"type": "Exact", "value": "/old"}}],
                 "filters": [{"type": "RequestRedirect", "requestRedirect": {"path": {"type": "ReplaceFullPath", "replaceFullPath": "/new"}, "statusCode": 301}}]},
                {"matches": [{"path": {"type": "Exact", "value": "/broken"}}], "backendRefs": [backend("nobody", 1)]},
                {"backendRefs": [backend("stable", 90), backend("canary", 10)]}
            ]
        }
    }));
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
    assert!(problems.contains("split") && problems.contains("nobody"), "{problems}");
}
