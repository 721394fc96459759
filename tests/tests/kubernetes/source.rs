//! The agent follows an API server with the rights that are shipped: objects made through the API are what the mesh goes by.

use posthaste_tests::{
    Agent, Family, Mesh, Pod, ServiceSpec, Sniffer,
    agent::wait_json,
    eventually,
    mesh::NAMESPACE,
    objects, peer,
    wait::{eventually_within, holds},
};
use serde_json::{Value, json};
use std::{net::SocketAddr, time::Duration};

const SECRET: &str = "never-in-plaintext";

pub(crate) struct Scene {
    client: Pod,
    pub(crate) server: Pod,
    service: ServiceSpec,
    // Last: pods end before the world.
    pub(crate) mesh: Mesh,
}

impl Scene {
    pub(crate) fn start(annotations: &[(&str, &str)]) -> Self {
        let mut mesh = Mesh::start_in_cluster(annotations).unwrap();
        let client = mesh.pod("a", "client").unwrap();
        let server = mesh.pod("b", "server").unwrap();
        let service = mesh.service("server", 8080, &[&server]).unwrap();
        Self { client, server, service, mesh }
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::new(*self.service.cluster_ips.iter().find(|ip| ip.is_ipv4()).unwrap(), 80)
    }

    pub(crate) fn exchange(&self, text: &str) -> Value {
        peer::call(&self.client, "exchange", self.address(), &[text]).unwrap()
    }

    pub(crate) fn works(&self) {
        let answer = self.exchange(SECRET);
        assert_eq!(answer["answer"], SECRET, "{answer}\n{}", self.logs());
    }

    /// For the text of a failure.
    fn logs(&self) -> String {
        // The access log is written a moment later.
        std::thread::sleep(Duration::from_secs(1));
        let of = |agent: &Agent| format!("--- {}\n{}\n{:?}\n", agent.node(), agent.log(), agent.access_log());
        of(&self.mesh.a) + &of(&self.mesh.b)
    }

    /// Waits until node `a` has the service and its pod on disk.
    pub(crate) fn kept(&self) {
        let file = self.mesh.a.state().join("inputs.json");
        eventually("the objects to be on disk", || {
            let text = std::fs::read_to_string(&file).map_err(|error| error.to_string())?;
            let objects: Vec<Value> =
                text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            let named = |object: &Value| {
                object["metadata"]["name"].as_str().is_some_and(|name| name.starts_with("server"))
            };
            let has = |kind: &str| objects.iter().any(|object| object["kind"] == kind && named(object));
            holds(has("EndpointSlice") && has("Pod"), text)
        })
        .unwrap();
    }

    pub(crate) fn cluster(&self) -> std::sync::MutexGuard<'_, posthaste_tests::Cluster> {
        self.mesh.cluster.as_ref().unwrap().lock()
    }
}

pub(crate) fn mentions(value: &Value, words: &[&str]) -> bool {
    let text = value.to_string();
    words.iter().all(|word| text.contains(word))
}

#[test]
fn objects_of_the_api_are_encrypted_and_balanced() {
    let mut scene = Scene::start(&[("mtls", "strict")]);
    let second = scene.mesh.pod("b", "second").unwrap();
    let both = scene.mesh.service("both", 8080, &[&scene.server, &second]).unwrap();
    let _first_echo = peer::serve(&scene.server, "echo", 8080).unwrap();
    let _second_echo = peer::serve(&second, "echo", 8080).unwrap();
    let sniffer = Sniffer::start(scene.mesh.world.bridge(), &[SECRET]).unwrap();
    scene.works();
    let to = SocketAddr::new(both.cluster_ips[0], 80);
    for _ in 0..40 {
        let answer = peer::call(&scene.client, "exchange", to, &[SECRET]).unwrap();
        assert_eq!(answer["answer"], SECRET, "{answer}\n{}", scene.logs());
    }
    assert_eq!(sniffer.hits(), 0, "{:?}", sniffer.seen());
    let records: Vec<Value> = scene.mesh.a.access_log();
    for pod in [&scene.server, &second] {
        let address = pod.at(Family::V4, 8080).to_string();
        assert!(records.iter().any(|record| mentions(record, &[&address])), "nothing went to {address}");
    }
}

#[test]
fn the_namespace_label_gives_and_takes() {
    let mut scene = Scene::start(&[]);
    let _echo = peer::serve(&scene.server, "echo", 8080).unwrap();
    let sniffer = Sniffer::start(scene.mesh.world.bridge(), &[SECRET]).unwrap();
    scene.works();
    assert_eq!(sniffer.hits(), 0);
    scene.mesh.manifests.put(objects::namespace(NAMESPACE, false, &[]));
    scene.mesh.manifests.apply().unwrap();
    let direct =
        || peer::call(&scene.client, "exchange", scene.server.at(Family::V4, 8080), &[SECRET]).unwrap();
    eventually("the pods to be let go", || {
        let answer = direct();
        holds(answer["answer"] == SECRET && sniffer.hits() > 0, answer.to_string())
    })
    .unwrap();
    scene.mesh.manifests.put(objects::namespace(NAMESPACE, true, &[("mtls", "strict")]));
    scene.mesh.manifests.apply().unwrap();
    scene.mesh.settle(&scene.client).unwrap();
    scene.mesh.settle(&scene.server).unwrap();
    let before = sniffer.hits();
    eventually("calls to be protected again", || {
        let answer = scene.exchange(SECRET);
        holds(answer["answer"] == SECRET, format!("{answer}\n{}", scene.logs()))
    })
    .unwrap();
    assert_eq!(sniffer.hits(), before);
}

#[test]
fn endpoints_come_and_go_under_load_without_a_failed_request() {
    let mut scene = Scene::start(&[("mtls", "strict")]);
    let others: Vec<Pod> = (0..3).map(|n| scene.mesh.pod("b", &format!("more-{n}")).unwrap()).collect();
    let to = scene.address();
    let Scene { client, server, mut service, mut mesh } = scene;
    let all = [&server, &others[0], &others[1], &others[2]];
    let _echoes: Vec<_> = all.iter().map(|pod| peer::serve(pod, "echo", 8080).unwrap()).collect();
    let report = std::thread::scope(|threads| {
        let load = threads.spawn(|| peer::call(&client, "repeat", to, &["15000"]).unwrap());
        for few in (0..4).chain((0..3).rev()).cycle() {
            if load.is_finished() {
                break;
            }
            service.endpoints = all[..=few].iter().map(|pod| posthaste_tests::mesh::endpoint(pod)).collect();
            mesh.publish(&service).unwrap();
            std::thread::sleep(Duration::from_millis(200));
        }
        load.join().unwrap()
    });
    let logs = || format!("{}\n{}", mesh.a.log(), mesh.b.log());
    assert!(report["failures"].as_object().unwrap().is_empty(), "{report}\n{}", logs());
    let address = |pod: &Pod| pod.at(Family::V4, 8080).to_string();
    eventually("connections to each of the endpoints in the access log", || {
        let text = Value::Array(mesh.a.access_log()).to_string();
        holds(all.iter().all(|pod| text.contains(&address(pod))), format!("{report}\n{}", logs()))
    })
    .unwrap();
}

#[test]
fn a_restarted_agent_goes_on_even_without_an_api_server() {
    let mut scene = Scene::start(&[("mtls", "strict")]);
    let _echo = peer::serve(&scene.server, "echo", 8080).unwrap();
    scene.works();
    // An agent that is restarted with the server there.
    scene.mesh.a.kill();
    scene.mesh.a.restart().unwrap();
    scene.works();
    scene.kept();
    scene.cluster().stop().unwrap();
    for agent in [&scene.mesh.a, &scene.mesh.b] {
        wait_json(agent, &["status"], |status| mentions(status, &["api-server", "has not answered since"]))
            .unwrap();
    }
    let minute =
        peer::call_within(Duration::from_mins(2), &scene.client, "repeat", scene.address(), &["60000"]);
    let minute = minute.unwrap();
    assert!(minute["failures"].as_object().unwrap().is_empty(), "{minute}\n{}", scene.logs());
    scene.works();
    let sniffer = Sniffer::start(scene.mesh.world.bridge(), &[SECRET]).unwrap();
    scene.mesh.a.kill();
    scene.mesh.a.restart().unwrap();
    wait_json(&scene.mesh.a, &["status"], |status| mentions(status, &["kept on disk"])).unwrap();
    eventually("calls to work from what was kept", || {
        let answer = scene.exchange(SECRET);
        holds(answer["answer"] == SECRET, format!("{answer}\n{}", scene.logs()))
    })
    .unwrap();
    scene.cluster().start().unwrap();
    for agent in [&scene.mesh.a, &scene.mesh.b] {
        // After a minute without an answer the next attempt is up to half a minute away.
        eventually_within(Duration::from_mins(2), "the API server to be followed again", || {
            let status = agent.json(&["status"]).map_err(|fault| fault.to_string())?;
            holds(!mentions(&status, &["api-server"]), status.to_string())
        })
        .unwrap();
    }
    let late = scene.mesh.pod("a", "late").unwrap();
    // Until it is captured it is refused.
    eventually("calls of a new pod to work", || {
        let answer =
            peer::call(&late, "exchange", scene.address(), &[SECRET]).map_err(|fault| fault.to_string())?;
        holds(answer["answer"] == SECRET, format!("{answer}\n{}", scene.logs()))
    })
    .unwrap();
    assert_eq!(sniffer.hits(), 0);
}

/// Nobody has talked to the server yet, and the API server cannot say who it is: it gets nothing, whatever the namespace allows.
#[test]
fn an_endpoint_that_nobody_knows_yet_gets_no_plaintext() {
    let scene = Scene::start(&[]);
    let _echo = peer::serve(&scene.server, "echo", 8080).unwrap();
    let sniffer = Sniffer::start(scene.mesh.world.bridge(), &[SECRET]).unwrap();
    scene.cluster().stop().unwrap();
    let straight = scene.server.at(Family::V4, 8080);
    for to in [scene.address(), straight] {
        let answer = peer::call(&scene.client, "exchange", to, &[SECRET]).unwrap();
        assert!(answer.get("error").is_some() || answer["answer"] == "", "{answer}\n{}", scene.logs());
    }
    scene.mesh.a.wait_for_log("the reason", |line| mentions(line, &["unresolved_peer"])).unwrap();
    scene.cluster().start().unwrap();
    for to in [scene.address(), straight] {
        eventually("the server to be known", || {
            let answer = peer::call(&scene.client, "exchange", to, &[SECRET]).unwrap();
            holds(answer["answer"] == SECRET, format!("{answer}\n{}", scene.logs()))
        })
        .unwrap();
    }
    assert_eq!(sniffer.hits(), 0, "{:?}", sniffer.seen());
}

#[test]
fn a_compacted_history_is_listed_anew() {
    let mut scene = Scene::start(&[("mtls", "strict")]);
    let _echo = peer::serve(&scene.server, "echo", 8080).unwrap();
    scene.works();
    // Watches that come back after a compaction that happened while they were away find their place gone.
    scene.cluster().stop().unwrap();
    scene.cluster().start().unwrap();
    for number in 0..20 {
        let name = format!("filler-{number}");
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        scene.cluster().apply(&object).unwrap();
    }
    scene.cluster().compact();
    for agent in [&scene.mesh.a, &scene.mesh.b] {
        eventually("the agent to hear that its place is gone", || {
            let log = agent.log();
            holds(log.contains("has forgotten where this watch was"), log)
        })
        .unwrap();
    }
    let late = scene.mesh.pod("a", "late").unwrap();
    let answer = peer::call(&late, "exchange", scene.address(), &[SECRET]).unwrap();
    assert_eq!(answer["answer"], SECRET, "{answer}\n{}", scene.logs());
}

/// Kubernetes before 1.34, and clusters that switch it off.
#[test]
fn a_server_without_streamed_lists_is_followed_as_well() {
    let mut mesh = Mesh::prepare_in_cluster(&[("mtls", "strict")]).unwrap();
    {
        let mut cluster = mesh.cluster.as_ref().unwrap().lock();
        cluster.stop().unwrap();
        cluster.extra = ["--feature-gates", "WatchList=false"].map(str::to_owned).to_vec();
        cluster.start().unwrap();
        let streamed =
            "/api/v1/namespaces?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
        let refused = cluster.client().unwrap().read(streamed).unwrap();
        assert_eq!(refused.status, 422, "{refused:?}");
    }
    // Before the agents start: they list them, and then watch.
    let mut service = mesh.service_spec("server", 8080, &[]);
    mesh.manifests.put(objects::namespace("listed", true, &[("mtls", "maybe")]));
    mesh.manifests.apply().unwrap();
    mesh.run().unwrap();
    wait_json(&mesh.a, &["status"], |status| mentions(status, &["Namespace/listed"])).unwrap();
    let client = mesh.pod("a", "client").unwrap();
    let server = mesh.pod("b", "server").unwrap();
    service.endpoints = vec![posthaste_tests::mesh::endpoint(&server)];
    mesh.publish(&service).unwrap();
    let scene = Scene { client, server, service, mesh };
    let _echo = peer::serve(&scene.server, "echo", 8080).unwrap();
    scene.works();
}

#[test]
fn gateway_kinds_may_come_later() {
    let scene = Scene::start(&[("mtls", "strict")]);
    let status = scene.mesh.a.json(&["status"]).unwrap();
    assert!(!mentions(&status, &["httproutes"]), "a kind that is not installed is no problem: {status}");
    scene.cluster().install_gateway_api(posthaste_tests::cluster::Channel::Standard).unwrap();
    let route = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": "late", "namespace": NAMESPACE},
        "spec": {
            "parentRefs": [{"group": "", "kind": "Service", "name": "server", "port": 80}],
            "rules": [{"backendRefs": [{"name": "server", "port": 80}]}],
        },
    });
    scene.cluster().apply(&route).unwrap();
    wait_json(&scene.mesh.a, &["routes"], |routes| mentions(routes, &["late"])).unwrap();
}

#[test]
fn a_dump_is_replayed_from_files() {
    let mut scene = Scene::start(&[("mtls", "strict")]);
    let _echo = peer::serve(&scene.server, "echo", 8080).unwrap();
    scene.works();
    let dump = scene.mesh.a.cli(&["dump"]).unwrap();
    for words in ["kind: Namespace", "kind: EndpointSlice", "kind: Service", "name: client"] {
        assert!(dump.contains(words), "{words}: {dump}");
    }
    let folder = scene.mesh.world.folder().join("replayed");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("dump.yaml"), &dump).unwrap();
    scene.mesh.a.stop().unwrap();
    scene.mesh.a.settings.kubeconfig = None;
    scene.mesh.a.settings.manifests = folder;
    scene.mesh.a.restart().unwrap();
    scene.works();
    assert_eq!(scene.mesh.a.cli(&["dump"]).unwrap(), dump);
}
