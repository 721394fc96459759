//! What tests of requests begin with: a client, three servers that do wrong what they are told, services before them, and the
//! objects that say what shall happen to requests.

use crate::scene::{cluster_ip, logs};
use posthaste_tests::{
    Family, Mesh, Pod, eventually,
    peer::{
        faulty::{Faulty, Plan, Seen, Trouble},
        load::{self, Report, Spec},
    },
    wait::holds,
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

/// Three servers, `one`, `two` and `three`, behind port 80 of `shop-web`; the last one on the client's node.
pub(crate) struct Shop {
    pub(crate) client: Pod,
    pub(crate) servers: Vec<(Pod, Faulty)>,
    pub(crate) service: SocketAddr,
    // Last: pods end before the world.
    pub(crate) mesh: Mesh,
}

/// Pods by node and name, each with a server that does what a test tells it.
pub(crate) fn faulty<const N: usize>(mesh: &mut Mesh, places: [(&str, &str); N]) -> Vec<(Pod, Faulty)> {
    let start = |(node, name)| {
        let pod = mesh.pod(node, name).unwrap();
        let program = Faulty::start(&pod, 8080, name).unwrap();
        (pod, program)
    };
    places.into_iter().map(start).collect()
}

impl Shop {
    /// Servers whose port is declared so (`appProtocol`).
    pub(crate) fn start(protocol: &str) -> Self {
        Self::of(Mesh::start_strict().unwrap(), protocol)
    }

    /// In a mesh that runs.
    pub(crate) fn of(mut mesh: Mesh, protocol: &str) -> Self {
        let client = mesh.pod("a", "client").unwrap();
        let servers = faulty(&mut mesh, [("b", "one"), ("b", "two"), ("a", "three")]);
        let pods: Vec<&Pod> = servers.iter().map(|(pod, _)| pod).collect();
        let service = publish(&mut mesh, "shop-web", protocol, &pods);
        Self { client, servers, service, mesh }
    }

    /// Another service that speaks HTTP, before these servers.
    pub(crate) fn service(&mut self, name: &str, servers: &[usize]) -> SocketAddr {
        let pods: Vec<&Pod> = servers.iter().map(|server| &self.servers[*server].0).collect();
        publish(&mut self.mesh, name, "http", &pods)
    }

    pub(crate) fn plan(&self, server: usize, plan: &Plan) {
        let (pod, program) = &self.servers[server];
        program.plan(pod, plan).unwrap();
    }

    pub(crate) fn plan_all(&self, plan: &Plan) {
        (0..self.servers.len()).for_each(|server| self.plan(server, plan));
    }

    /// All servers are good, and have seen nothing.
    pub(crate) fn clear(&self) {
        self.plan_all(&Plan::default());
        self.forget();
    }

    pub(crate) fn forget(&self) {
        self.servers.iter().for_each(|(pod, program)| program.forget(pod).unwrap());
    }

    pub(crate) fn seen_by(&self, server: usize) -> Seen {
        let (pod, program) = &self.servers[server];
        program.seen(pod).unwrap()
    }

    /// Requests that all servers have seen, and the ids that came more than once.
    pub(crate) fn seen(&self) -> (u64, usize) {
        let mut ids = BTreeMap::new();
        let mut requests = 0;
        for seen in (0..self.servers.len()).map(|server| self.seen_by(server)) {
            requests += seen.requests;
            for (id, times) in seen.ids {
                *ids.entry(id).or_insert(0) += times;
            }
        }
        (requests, ids.values().filter(|times| **times > 1).count())
    }

    pub(crate) fn load(&self, spec: &Spec) -> Report {
        self.load_to(self.service, spec)
    }

    pub(crate) fn load_to(&self, to: SocketAddr, spec: &Spec) -> Report {
        load::of(&self.client, to, spec).unwrap()
    }

    /// `curl -sS` with a time limit, in the client's pod; what it printed, also where it failed.
    pub(crate) fn curl(&self, arguments: &[&str]) -> String {
        let line = [&["curl", "-sS", "-g", "--max-time", "20", "--noproxy", "*"], arguments].concat();
        self.client.run(&line).unwrap().stdout
    }

    /// Status, head and body of an answer.
    pub(crate) fn ask(&self, to: SocketAddr, path: &str, more: &[&str]) -> Answer {
        let url = format!("http://{to}{path}");
        let text = self.curl(&[&["-i"], more, &[&url]].concat());
        Answer::read(&text).unwrap_or_else(|| panic!("{url} {more:?}: `{text}`\n{}", self.logs()))
    }

    /// The request as a server has read it.
    pub(crate) fn echo(&self, to: SocketAddr, path: &str, more: &[&str]) -> Echo {
        let answer = self.ask(to, path, more);
        let read = serde_json::from_str(&answer.body);
        Echo(read.unwrap_or_else(|error| panic!("{error}: {answer:?}\n{}", self.logs())))
    }

    /// Writes an object and waits until the client's agent has read it.
    pub(crate) fn put(&mut self, object: Value) {
        self.put_all(&[object]);
    }

    /// The same with several at once.
    pub(crate) fn put_all(&mut self, objects: &[Value]) {
        let before = generation(&self.mesh);
        objects.iter().for_each(|object| self.mesh.manifests.put(object.clone()));
        self.mesh.manifests.apply().unwrap();
        eventually("the new snapshot", || holds(generation(&self.mesh) > before, "the old one")).unwrap();
    }

    /// What is counted at the client's node.
    pub(crate) fn count(&self, metric: &str, labels: &[(&str, &str)]) -> f64 {
        self.mesh.a.metrics().unwrap().sum(metric, labels)
    }

    /// `posthaste endpoints SERVICE`: the service port, and its endpoint at a server.
    pub(crate) fn endpoint(&self, service: &str, server: usize) -> (Value, Value) {
        let ports = self.mesh.a.json(&["endpoints", service]).unwrap();
        let address = self.servers[server].0.at(Family::V4, 8080).to_string();
        let all = ports.as_array().unwrap().iter();
        let mut found =
            all.flat_map(|port| port["endpoints"].as_array().unwrap().iter().map(move |one| (port, one)));
        let (port, one) = found.find(|(_, one)| one["address"] == *address).unwrap();
        (port.clone(), one.clone())
    }

    /// Waits until an endpoint is as it shall be.
    pub(crate) fn wait_endpoint(
        &self,
        service: &str,
        server: usize,
        what: &str,
        fits: impl Fn(&Value) -> bool,
    ) -> Value {
        let asked = posthaste_tests::wait::eventually_within(Duration::from_secs(40), what, || {
            let (_, one) = self.endpoint(service, server);
            if fits(&one) { Ok(one) } else { Err(one.to_string()) }
        });
        asked.unwrap_or_else(|fault| panic!("{fault}\n{}", self.logs()))
    }

    /// A line of the access log about a request, which `fits`.
    pub(crate) fn line(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        self.mesh.a.wait_for_log(what, |line| line["event"] == "request" && fits(line)).unwrap()
    }

    pub(crate) fn logs(&self) -> String {
        logs(&self.mesh)
    }
}

/// An answer as curl shows it.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Answer {
    fn read(text: &str) -> Option<Self> {
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some(Self { status, head: head.to_owned(), body: body.to_owned() })
    }

    /// The values of a header, which is named in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        let values: Vec<&str> =
            lines.filter(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    /// Why the agent answered, where it did.
    pub(crate) fn flag(&self) -> String {
        self.header("x-posthaste-flag").unwrap_or_default()
    }
}

/// What `/echo` of a server says of the request that it got.
#[derive(Debug)]
pub(crate) struct Echo(Value);

impl Echo {
    pub(crate) fn target(&self) -> &str {
        self.0["target"].as_str().unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let pairs = self.0["headers"].as_array().unwrap().iter();
        let values: Vec<&str> =
            pairs.filter(|pair| pair[0] == name).map(|pair| pair[1].as_str().unwrap()).collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.header(name)?.parse().ok()
    }
}

/// A service on port 80, declared so, to port 8080 of the pods.
pub(crate) fn publish(mesh: &mut Mesh, name: &str, protocol: &str, pods: &[&Pod]) -> SocketAddr {
    let mut service = mesh.service_spec(name, 8080, pods);
    service.app_protocol = Some(protocol.to_owned());
    mesh.publish(&service).unwrap();
    cluster_ip(&service, Family::V4)
}

pub(crate) fn generation(mesh: &Mesh) -> u64 {
    mesh.a.json(&["status"]).unwrap()["snapshot_generation"].as_u64().unwrap()
}

/// A `TrafficPolicy` for a service of the shop.
pub(crate) fn policy(service: &str, mut spec: Value) -> Value {
    spec["targetRefs"] = json!([{"kind": "Service", "name": service}]);
    json!({"apiVersion": "posthaste.dev/v1alpha1", "kind": "TrafficPolicy", "metadata": {"name": service, "namespace": "shop"}, "spec": spec})
}

/// An `HTTPRoute` of the shop for calls of a service, named like it.
pub(crate) fn route(service: &str, rules: &Value) -> Value {
    route_of("shop", service, rules)
}

/// The same in another namespace: for the callers of that one.
pub(crate) fn route_of(namespace: &str, service: &str, rules: &Value) -> Value {
    let parent = json!({"group": "", "kind": "Service", "name": service, "namespace": "shop", "port": 80});
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": service, "namespace": namespace},
        "spec": {"parentRefs": [parent], "rules": rules},
    })
}

/// A reference to port 80 of a service.
pub(crate) fn backend(name: &str, weight: u32) -> Value {
    json!({"name": name, "port": 80, "weight": weight})
}

/// All requests are answered so late, in milliseconds.
pub(crate) fn slow(delay_ms: u64) -> Plan {
    Plan { delay_ms, ..Plan::always(Trouble::SlowHead) }
}

/// All requests are answered with this status.
pub(crate) fn answering(status: u16) -> Plan {
    Plan { status, ..Plan::always(Trouble::Status) }
}

/// One `GET` by each of so many connections, at once.
pub(crate) fn at_once(connections: u32) -> Spec {
    Spec::requests(u64::from(connections), connections)
}
