//! `posthaste explain` against what then happens: generated configurations in one mesh, changed in steps; each is explained, then the
//! request is really sent, and what came of it must be among what was said.

use crate::http_shop::{Shop, backend, policy, route};
use posthaste_tests::{
    Family, Mesh, Pod, ServiceSpec, Site, eventually,
    http::fetch_unix,
    mesh::endpoint,
    objects,
    peer::{
        faulty::Faulty,
        load::{self, Spec},
    },
    wait::holds,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Services that are configured anew in each step.
const SERVICES: usize = 25;
/// Steps; with one question for each service and step, and some more, that is three hundred configurations.
const STEPS: u64 = 12;

/// Repeatable chance: SplitMix64.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    fn of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }

    fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

/// Everything that can be asked about.
struct World {
    callers: Vec<Pod>,
    servers: Vec<(Pod, Faulty)>,
    services: Vec<ServiceSpec>,
    outside: (Site, Faulty),
    mesh: Mesh,
}

/// One request and who makes it.
#[derive(Debug, Clone)]
struct Asked {
    caller: usize,
    destination: String,
    url_host: String,
    method: String,
    path: String,
    headers: Vec<String>,
}

/// What really came of it.
#[derive(Debug, PartialEq, Eq)]
struct Happened {
    status: u16,
    server: String,
    flag: String,
}

impl World {
    fn start() -> Self {
        let mut mesh = Mesh::start_strict().unwrap();
        let client = mesh.pod("a", "client").unwrap();
        let excluding = |spec: &mut objects::PodSpec| {
            spec.annotations.push(("exclude-outbound-ports".into(), "8080".into()));
        };
        let loner = mesh.pod_with("a", "loner", excluding).unwrap();
        let bare = mesh
            .pod_with("a", "bare", |spec| spec.labels.push(("posthaste.dev/mesh".into(), "disabled".into())));
        let bare = bare.unwrap();
        mesh.settle(&loner).unwrap();
        let servers: Vec<(Pod, Faulty)> = [("b", "one"), ("b", "two"), ("a", "three")]
            .into_iter()
            .map(|(node, name)| {
                let pod = mesh.pod(node, name).unwrap();
                let program = Faulty::start(&pod, 8080, name).unwrap();
                (pod, program)
            })
            .collect();
        let site = mesh.outsider("outside").unwrap();
        let program = Faulty::start(&site, 8080, "outside").unwrap();
        let services =
            (0..SERVICES).map(|number| mesh.service_spec(&format!("s{number}"), 8080, &[])).collect();
        Self { callers: vec![client, loner, bare], servers, services, outside: (site, program), mesh }
    }

    /// Configures everything anew and waits until both agents go by it.
    fn configure(&mut self, chance: &mut Chance) {
        let mode = chance.of(&["strict", "permissive"]);
        self.mesh.manifests.put(objects::namespace("shop", true, &[("mtls", mode)]));
        for number in 0..SERVICES {
            let some: Vec<usize> = (0..self.servers.len()).filter(|_| !chance.one_in(3)).collect();
            let service = &mut self.services[number];
            service.app_protocol = chance
                .of(&[Some("http"), Some("http"), Some("kubernetes.io/h2c"), Some("tcp"), None])
                .map(str::to_owned);
            service.endpoints = some.into_iter().map(|server| endpoint(&self.servers[server].0)).collect();
            service.spec = if chance.one_in(6) { json!({"sessionAffinity": "ClientIP"}) } else { json!({}) };
            let name = service.name.clone();
            service.objects().into_iter().for_each(|object| self.mesh.manifests.put(object));
            if chance.one_in(3) {
                self.mesh.manifests.remove("HTTPRoute", "shop", &name);
            } else {
                self.mesh.manifests.put(route(&name, &rules(chance)));
            }
            if chance.one_in(3) {
                let by =
                    json!({"type": "ConsistentHash", "consistentHash": {"type": "Header", "name": "x-user"}});
                self.mesh.manifests.put(policy(&name, json!({"loadBalancer": by})));
            } else {
                self.mesh.manifests.remove("TrafficPolicy", "shop", &name);
            }
        }
        let before = [&self.mesh.a, &self.mesh.b]
            .map(|agent| agent.json(&["status"]).unwrap()["snapshot_generation"].clone());
        self.mesh.manifests.apply().unwrap();
        eventually("new snapshots on both nodes", || {
            let now = [&self.mesh.a, &self.mesh.b].map(|agent| {
                agent
                    .json(&["status"])
                    .map(|status| status["snapshot_generation"].clone())
                    .unwrap_or_default()
            });
            holds(now[0] != before[0] && now[1] != before[1], format!("{now:?}"))
        })
        .unwrap();
    }

    /// One question about each service, and some about what is no service.
    fn questions(&self, step: u64, chance: &mut Chance) -> Vec<Asked> {
        let mut questions = Vec::new();
        for service in &self.services {
            let address = format!("{}:80", service.cluster_ips[0]);
            let caller = chance.below(2);
            let name = if chance.one_in(2) {
                service.name.clone()
            } else {
                format!("{}.shop.svc.cluster.local:80", service.name)
            };
            questions.push(asked(chance, caller, &name, &address));
        }
        if step.is_multiple_of(4) {
            // Who is not captured waits in vain at an address that nothing but the mesh leads on, which takes its time.
            let address = format!("{}:80", self.services[0].cluster_ips[0]);
            questions.push(asked(chance, 2, &address, &address));
        }
        let wrong_port = format!("{}:81", self.services[0].cluster_ips[0]);
        let pod = self.servers[chance.below(3)].0.at(Family::V4, 8080).to_string();
        let outside = self.outside.0.at(Family::V4, 8080).to_string();
        for (caller, destination) in [(chance.below(3), wrong_port), (chance.below(3), pod), (0, outside)] {
            questions.push(asked(chance, caller, &destination, &destination));
        }
        questions
    }

    fn explain(&self, asked: &Asked) -> Value {
        let mut target = format!(
            "/explain?source=shop/{}&destination={}&method={}&path={}",
            self.callers[asked.caller].name,
            asked.destination,
            asked.method,
            asked.path.replace('?', "%3F").replace('&', "%26")
        );
        for header in asked.headers.iter().chain([&format!("host: {}", asked.url_host)]) {
            target.push_str(&format!("&header={}", header.replace(": ", ":")));
        }
        let (status, body) = fetch_unix(&self.mesh.a.socket(), &target).unwrap();
        assert_eq!(status, 200, "{target}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Sends all of them with one curl for each caller.
    fn send(&self, questions: &[Asked]) -> Vec<Happened> {
        let mut answers = BTreeMap::new();
        for (caller, pod) in self.callers.iter().enumerate() {
            let mine: Vec<usize> =
                (0..questions.len()).filter(|place| questions[*place].caller == caller).collect();
            if mine.is_empty() {
                continue;
            }
            let mut line: Vec<String> = vec!["curl".into()];
            for place in &mine {
                let asked = &questions[*place];
                if line.len() > 1 {
                    line.push("--next".into());
                }
                let url = format!("http://{}{}", asked.url_host, asked.path);
                let format = "%{http_code}|%header{x-server}|%header{x-posthaste-flag}\\n";
                let plain = [
                    "-s",
                    "-g",
                    "--connect-timeout",
                    "3",
                    "--max-time",
                    "20",
                    "--noproxy",
                    "*",
                    "-o",
                    "/dev/null",
                    "-w",
                    format,
                    "-X",
                ];
                line.extend(plain.map(str::to_owned));
                line.extend([asked.method.clone(), url]);
                asked.headers.iter().for_each(|header| line.extend(["-H".to_owned(), header.clone()]));
            }
            let said = pod.run(&line).unwrap().stdout;
            let lines: Vec<&str> = said.lines().collect();
            assert_eq!(lines.len(), mine.len(), "{said}");
            for (place, line) in mine.into_iter().zip(lines) {
                let words: Vec<&str> = line.split('|').collect();
                let (server, flag) = (words[1].to_owned(), words[2].to_owned());
                answers.insert(place, Happened { status: words[0].parse().unwrap(), server, flag });
            }
        }
        answers.into_values().collect()
    }

    /// Name of the server at an endpoint.
    fn server_at(&self, address: &str) -> String {
        let found = self.servers.iter().find(|(pod, _)| pod.at(Family::V4, 8080).to_string() == address);
        found.map_or_else(|| "outside".to_owned(), |(pod, _)| pod.name.clone())
    }

    /// Whether one of the outcomes that were said to be possible is what happened.
    fn agrees(&self, explained: &Value, happened: &Happened) -> bool {
        let outcomes = explained["outcomes"].as_array().unwrap();
        let sum: f64 = outcomes.iter().map(|one| one["probability"].as_f64().unwrap()).sum();
        assert!((sum - 1.0).abs() < 1e-6, "{explained}");
        outcomes.iter().any(|one| match one["kind"].as_str().unwrap() {
            "refused" => happened.status == 0,
            "answered" => {
                one["status"] == happened.status && one["flag"].as_str().unwrap_or_default() == happened.flag
            }
            // Nothing but the mesh leads on from a service address.
            "uncaptured" if one["endpoints"] == json!([]) => happened.status == 0,
            _ => one["endpoints"].as_array().unwrap().iter().any(|chance| {
                let server = self.server_at(chance["address"].as_str().unwrap());
                if chance["refused"].is_null() {
                    (happened.status, &happened.server) == (200, &server)
                } else {
                    happened.status == 0
                }
            }),
        })
    }
}

fn asked(chance: &mut Chance, caller: usize, destination: &str, address: &str) -> Asked {
    let mut headers = vec![format!("x-user: {}", chance.of(&["ann", "bob", "cid", "dee"]))];
    if chance.one_in(2) {
        headers.push("x-stage: beta".to_owned());
    }
    Asked {
        caller,
        destination: destination.to_owned(),
        url_host: address.to_owned(),
        method: chance.of(&["GET", "GET", "POST", "DELETE"]).to_owned(),
        path: chance.of(&["/", "/items", "/items/7", "/items/7/parts", "/cart?v=2", "/cartoon"]).to_owned(),
        headers,
    }
}

/// Some rules with some matches and some backends, of which some do not exist.
fn rules(chance: &mut Chance) -> Value {
    let count = 1 + chance.below(4);
    (0..count).map(|_| rule(chance)).collect()
}

fn rule(chance: &mut Chance) -> Value {
    let path = chance.of(&[
        json!({"type": "PathPrefix", "value": "/"}),
        json!({"type": "PathPrefix", "value": "/items"}),
        json!({"type": "PathPrefix", "value": "/cart"}),
        json!({"type": "Exact", "value": "/items/7"}),
        json!({"type": "RegularExpression", "value": "/items/[0-9]+(/.*)?"}),
    ]);
    let mut one = json!({"path": path});
    if chance.one_in(4) {
        one["method"] = json!(chance.of(&["GET", "POST"]));
    }
    if chance.one_in(4) {
        one["headers"] = json!([{"name": "x-stage", "value": "beta"}]);
    }
    if chance.one_in(6) {
        one["queryParams"] = json!([{"name": "v", "value": "2"}]);
    }
    let mut rule = json!({"matches": [one], "timeouts": {"request": "10s"}});
    if chance.one_in(8) {
        rule["filters"] = json!([{"type": "RequestRedirect", "requestRedirect": {"hostname": "else.where", "statusCode": 302}}]);
        return rule;
    }
    let name = |chance: &mut Chance| match chance.below(SERVICES + 3) {
        number if number < SERVICES => format!("s{number}"),
        _ => "gone".to_owned(),
    };
    let mut backends = vec![backend(&name(chance), 1)];
    if chance.one_in(3) {
        let weight = u32::try_from(chance.below(3)).unwrap();
        backends.push(backend(&name(chance), weight));
    }
    rule["backendRefs"] = json!(backends);
    rule
}

#[test]
fn what_is_explained_is_what_happens() {
    let mut world = World::start();
    let mut chance = Chance(6);
    let (mut kinds, mut asked, mut certain) = (BTreeMap::<String, u32>::new(), 0, 0);
    for step in 0..STEPS {
        world.configure(&mut chance);
        let questions = world.questions(step, &mut chance);
        let explained: Vec<Value> = questions.iter().map(|asked| world.explain(asked)).collect();
        let happened = world.send(&questions);
        for ((question, said), came) in questions.iter().zip(&explained).zip(&happened) {
            assert!(
                world.agrees(said, came),
                "step {step}: {question:?} came to {came:?}, and was explained as {said:#}\n{}",
                crate::scene::logs(&world.mesh)
            );
            let outcomes = said["outcomes"].as_array().unwrap();
            asked += 1;
            certain += u32::from(outcomes.len() == 1);
            *kinds.entry(outcomes[0]["kind"].as_str().unwrap().to_owned()).or_default() += 1;
        }
    }
    // Agreement says something only where much was possible and little was left open.
    assert!(asked >= 300 && certain * 10 >= asked * 7, "{certain} of {asked}");
    for kind in ["forwarded", "answered", "refused", "uncaptured", "outside"] {
        assert!(kinds.get(kind).copied().unwrap_or_default() >= 3, "{kind}: {kinds:?}");
    }
}

#[test]
fn people_are_told_stage_by_stage() {
    let mut shop = Shop::start("http");
    shop.service("first", &[0]);
    shop.service("second", &[1]);
    shop.put(route(
        "shop-web",
        &json!([
            {"matches": [{"path": {"type": "PathPrefix", "value": "/a"}, "method": "POST"}], "backendRefs": [backend("first", 1)]},
            {"matches": [{"path": {"type": "PathPrefix", "value": "/a"}}], "backendRefs": [backend("first", 3), backend("second", 1)],
             "timeouts": {"request": "2s"}},
        ]),
    ));
    let arguments = ["explain", "shop/client", "shop-web", "--path", "/a/b"];
    let text = shop.mesh.a.cli(&arguments).unwrap();
    for words in [
        "captured by on_connect4 (program ",
        "port 80 of shop-web.shop.svc.cluster.local",
        "http by app-protocol",
        "passed over: the method is not POST",
        "chosen",
        "spiffe://cluster.local/ns/shop/sa/client, expected spiffe://cluster.local/ns/shop/sa/one",
        "whole request: 2000 ms",
        "75.0%: to an endpoint of first.shop:80",
        "the budget has 10 left",
        "healthy",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    // The probabilities are those of the requests: nine times the deviation of chance is allowed.
    let spec = Spec { path: "/a/b".to_owned(), ..Spec::requests(400, 4) };
    let report = load::of(&shop.client, shop.service, &spec).unwrap();
    let share = report.servers.get("one").copied().unwrap_or_default() as f64 / 400.0;
    assert!((share - 0.75).abs() < 0.2, "{report:?}");
    // The agent of another node answers where it is named beside this one; a question that means nothing is refused with the reason.
    let other = shop.mesh.b.socket().display().to_string();
    let answer = shop.mesh.a.json(&["explain", "shop/one", "shop-web:80", "--peer-socket", &other]).unwrap();
    assert_eq!(answer["node"], "b", "{answer}");
    for (arguments, words) in [
        (["explain", "shop/nobody", "shop-web"], "no pod `shop/nobody`"),
        (["explain", "shop/one", "shop-web"], "runs on node `b`"),
        (["explain", "shop/client", "shop-web:x"], "`x` is no port"),
        (["explain", "shop/client", "nothing"], "no service `nothing.shop`"),
    ] {
        let fault = shop.mesh.a.cli(&arguments).unwrap_err().to_string();
        assert!(fault.contains(words), "{fault}");
    }
}
