//! `posthaste explain` against what then happens: generated configurations in one mesh, changed in steps; each is explained, then the
//! request is really sent, and what came of it must be among what was said.

mod answer;
mod draw;

use crate::http_shop::{Shop, answering, backend, faulty, policy, publish, route};
use posthaste_tests::{
    Family, Mesh, Pod, ServiceSpec, Site, eventually,
    mesh::endpoint,
    objects,
    peer::{
        faulty::{Faulty, Plan},
        load::{self, Spec},
    },
    wait::holds,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

use answer::{Happened, agrees, classes};
use draw::{Chance, access, rules};

/// Services that are configured anew in each step.
const SERVICES: usize = 25;
/// Steps; with one question for each service and step, and some more, that is three hundred configurations.
const STEPS: u64 = 12;
/// Servers whose policies and modes are configured anew in each step; two more are left alone.
const GENERATED: usize = 3;

/// Everything that can be asked about.
struct World {
    callers: Vec<Pod>,
    servers: Vec<(Pod, Faulty)>,
    services: Vec<ServiceSpec>,
    outside: (Site, Faulty),
    /// Port 80 of `ill`, of whose two endpoints one is ejected.
    ill: std::net::SocketAddr,
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
        let servers = faulty(&mut mesh, [("b", "one"), ("b", "two"), ("a", "three")]);
        let site = mesh.outsider("outside").unwrap();
        let program = Faulty::start(&site, 8080, "outside").unwrap();
        let services =
            (0..SERVICES).map(|number| mesh.service_spec(&format!("s{number}"), 8080, &[])).collect();
        let callers = vec![client, loner, bare];
        let mut world = Self {
            callers,
            servers,
            services,
            outside: (site, program),
            ill: ([0, 0, 0, 0], 0).into(),
            mesh,
        };
        world.eject();
        world
    }

    /// A service one of whose endpoints fails until it is ejected, for longer than the test takes.
    fn eject(&mut self) {
        for name in ["well", "sick"] {
            let pod = self.mesh.pod("b", name).unwrap();
            let program = Faulty::start(&pod, 8080, name).unwrap();
            self.servers.push((pod, program));
        }
        let [(well, _), (sick, program)] = &self.servers[3..] else { panic!("two more servers") };
        // By its first failure: balancing keeps requests away from who has failed, and a third one might not come.
        let detection = json!({"consecutiveGatewayFailures": 1, "successRateStdevTenths": 0, "latencyFactor": 0, "baseEjectionTime": "30m", "maxEjectionPercent": 50});
        self.mesh.manifests.put(policy("ill", json!({"outlierDetection": detection})));
        program.plan(sick, &answering(503)).unwrap();
        self.ill = publish(&mut self.mesh, "ill", "http", &[well, sick]);
        eventually("an ejection", || {
            load::of(&self.callers[0], self.ill, &Spec::requests(20, 1))
                .map_err(|fault| fault.to_string())?;
            let ports = self.mesh.a.json(&["endpoints", "ill"]).map_err(|fault| fault.to_string())?;
            holds(ports.to_string().contains("\"ejected\""), ports.to_string())
        })
        .unwrap();
        program.plan(sick, &Plan::default()).unwrap();
    }

    /// Configures everything anew and waits until both agents go by it.
    fn configure(&mut self, chance: &mut Chance) {
        let mode = chance.of(&["strict", "permissive"]);
        self.mesh.manifests.put(objects::namespace("shop", true, &[("mtls", mode)]));
        for number in 0..SERVICES {
            let some: Vec<usize> = (0..GENERATED).filter(|_| !chance.one_in(3)).collect();
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
            // What policies refuse counts as failures, and an ejection that begins or ends between question and answer would be no fault.
            let mut spec = json!({"outlierDetection": {"consecutiveGatewayFailures": 0, "successRateStdevTenths": 0, "latencyFactor": 0}});
            if chance.one_in(3) {
                let key = json!({"type": "Header", "name": "x-user"});
                spec["loadBalancer"] = json!({"type": "ConsistentHash", "consistentHash": key});
            }
            self.mesh.manifests.put(policy(&name, spec));
        }
        self.configure_policies(chance);
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

    /// Who may call, and which ports take plain text.
    fn configure_policies(&mut self, chance: &mut Chance) {
        for (pod, _) in &mut self.servers[..GENERATED] {
            let name = pod.name.clone();
            let modes =
                chance.of(&[None, None, Some("8080=permissive"), Some("8080=strict"), Some("8081=strict")]);
            pod.spec.annotations =
                modes.map(|modes| ("mtls-ports".to_owned(), modes.to_owned())).into_iter().collect();
            self.mesh.manifests.put(pod.spec.object());
            if chance.one_in(2) {
                self.mesh.manifests.remove("AuthorizationPolicy", "shop", &name);
                continue;
            }
            let rules: Vec<Value> = (0..=chance.below(2)).map(|_| access(chance)).collect();
            let spec = json!({
                "action": chance.of(&["ALLOW", "DENY", "DENY"]), "rules": rules,
                "selector": {"matchLabels": {"app": &name}},
            });
            self.mesh.manifests.put(json!({
                "apiVersion": "posthaste.dev/v1alpha1", "kind": "AuthorizationPolicy",
                "metadata": {"name": name, "namespace": "shop"}, "spec": spec,
            }));
        }
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
        let pod = self.servers[chance.below(GENERATED)].0.at(Family::V4, 8080).to_string();
        let ill = self.ill.to_string();
        questions.push(asked(chance, 0, "ill", &ill));
        let outside = self.outside.0.at(Family::V4, 8080).to_string();
        let other = self.servers[chance.below(GENERATED)].0.at(Family::V4, 8080).to_string();
        let more = [
            (chance.below(3), wrong_port),
            (chance.below(3), pod.clone()),
            (1, pod),
            (2, other),
            (0, outside),
        ];
        for (caller, destination) in more {
            questions.push(asked(chance, caller, &destination, &destination));
        }
        questions
    }

    /// As people ask it: the command asks the agents of both nodes.
    fn explain(&self, asked: &Asked) -> Value {
        let source = format!("shop/{}", self.callers[asked.caller].name);
        let other = self.mesh.b.socket().display().to_string();
        let host = format!("host: {}", asked.url_host);
        let mut line = vec!["explain", &source, &asked.destination, "--peer-socket", &other];
        line.extend(["--method", &asked.method, "--path", &asked.path, "--header", &host]);
        asked.headers.iter().for_each(|header| line.extend(["--header", header]));
        self.mesh.a.json(&line).unwrap()
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
                agrees(said, came, |address| world.server_at(address)),
                "step {step}: {question:?} came to {came:?}, and was explained as {said:#}\n{}",
                crate::scene::logs(&world.mesh)
            );
            let outcomes = said["outcomes"].as_array().unwrap();
            asked += 1;
            certain += u32::from(outcomes.len() == 1);
            *kinds.entry(outcomes[0]["kind"].as_str().unwrap().to_owned()).or_default() += 1;
            classes(said, came)
                .into_iter()
                .for_each(|class| *kinds.entry(class.to_owned()).or_default() += 1);
            assert!(!said.to_string().contains("\"unknown\":true"), "both agents were asked: {said:#}");
        }
    }
    // Agreement says something only where much was possible and little was left open.
    assert!(asked >= 300 && certain * 10 >= asked * 7, "{certain} of {asked}");
    println!("{certain} of {asked} certain: {kinds:?}");
    let kinds_of_outcome = ["forwarded", "answered", "refused", "uncaptured", "outside"];
    let kinds_of_reason = [
        "a policy let it in",
        "a policy denied the request",
        "a policy denied the connection",
        "plain text was refused",
        "plain text was taken",
        "an endpoint is ejected",
    ];
    for kind in kinds_of_outcome.into_iter().chain(kinds_of_reason) {
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
    assert!(
        text.contains("?   shop/one: the agent of node b decides, and could not be asked: name the socket"),
        "{text}"
    );
    // The probabilities are those of the requests: nine times the deviation of chance is allowed.
    let spec = Spec { path: "/a/b".to_owned(), ..Spec::requests(400, 4) };
    let report = load::of(&shop.client, shop.service, &spec).unwrap();
    let share = report.servers.get("one").copied().unwrap_or_default() as f64 / 400.0;
    assert!((share - 0.75).abs() < 0.2, "{report:?}");
    // The agent of another node answers where it is named beside this one; a question that means nothing is refused with the reason.
    let other = shop.mesh.b.socket().display().to_string();
    let answer = shop.mesh.a.json(&["explain", "shop/one", "shop-web:80", "--peer-socket", &other]).unwrap();
    assert_eq!(answer["node"], "b", "{answer}");
    assert!(!answer.to_string().contains("unknown"), "the agent of node a was asked of its pod: {answer}");
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
