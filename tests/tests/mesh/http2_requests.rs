//! HTTP/2 and gRPC by request: unmodified clients that keep one connection, two servers, and what the agent does for each request of
//! it. On ports that say what they speak and on one that does not.

use crate::scene::{cluster_ip, logs};
use posthaste_tests::{Family, Fault, Mesh, Pod, Running, Site, eventually, python, wait::holds};
use serde_json::{Value, json};
use std::net::SocketAddr;

/// Two servers behind one port, the second also behind one of its own.
struct Pair {
    client: Pod,
    service: SocketAddr,
    _servers: [(Pod, Running); 2],
    // Last: pods end before the world.
    mesh: Mesh,
}

type Start = fn(&Site, u16) -> Result<Running, Fault>;

impl Pair {
    fn start(server: Start, protocol: Option<&str>) -> Self {
        let mut mesh = Mesh::start_strict().unwrap();
        let client = mesh.pod("a", "client").unwrap();
        let servers = [("b", "one"), ("a", "two")].map(|(node, name)| {
            let pod = mesh.pod(node, name).unwrap();
            let program = server(&pod, 8080).unwrap();
            (pod, program)
        });
        let mut publish = |name: &str, pods: &[&Pod]| {
            let mut service = mesh.service_spec(name, 8080, pods);
            service.app_protocol = protocol.map(str::to_owned);
            mesh.publish(&service).unwrap();
            cluster_ip(&service, Family::V4)
        };
        publish("second", &[&servers[1].0]);
        let service = publish("both", &[&servers[0].0, &servers[1].0]);
        Self { client, service, _servers: servers, mesh }
    }

    /// Adds a route of both servers' port.
    fn route(&mut self, kind: &str, rules: &Value) {
        let generation =
            |mesh: &Mesh| mesh.a.json(&["status"]).unwrap()["snapshot_generation"].as_u64().unwrap();
        let before = generation(&self.mesh);
        self.mesh.manifests.put(json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": kind,
            "metadata": {"name": "pinned", "namespace": "shop"},
            "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": "both", "port": 80}], "rules": rules}
        }));
        self.mesh.manifests.apply().unwrap();
        eventually("the new snapshot", || holds(generation(&self.mesh) > before, "the old one")).unwrap();
    }

    fn checks(&self, script: &str, target: &str) {
        if let Err(fault) = python::checks(&self.client, script, target) {
            panic!("{fault}\n{}", logs(&self.mesh));
        }
    }

    /// Requests that the client's agent has counted with these labels.
    fn counted(&self, labels: &[(&str, &str)]) -> f64 {
        self.mesh.a.metrics().unwrap().sum("istio_requests_total", labels)
    }

    /// Connections of which the client's agent knows that they speak this.
    fn speaking(&self, protocol: &str) -> f64 {
        self.mesh.a.metrics().unwrap().sum("posthaste_protocol_decisions_total", &[("protocol", protocol)])
    }
}

fn to(name: &str) -> Value {
    json!([{"name": name, "port": 80}])
}

#[test]
fn calls_of_grpc() {
    for protocol in [Some("grpc"), None] {
        let mut pair = Pair::start(python::grpc_server, protocol);
        let pinned = json!([{"headers": [{"name": "x-pin", "value": "two"}]}]);
        let method = |name: &str| json!([{"method": {"service": "test.Echo", "method": name}}]);
        pair.route(
            "GRPCRoute",
            &json!([
                {"matches": pinned, "backendRefs": to("second")},
                {"matches": method("Slow"), "backendRefs": to("both"), "timeouts": {"request": "500ms"}},
                {"matches": method("Drip"), "backendRefs": to("both"), "timeouts": {"request": "1s"}},
                {"backendRefs": to("both"), "retry": {"codes": [503], "attempts": 3}},
            ]),
        );
        pair.checks("by_request_grpcio.py", &pair.service.to_string());
        let grpc = [("request_protocol", "grpc"), ("reporter", "source")];
        assert!(pair.counted(&grpc) >= 600.0, "{}", logs(&pair.mesh));
        let late = [grpc[0], ("grpc_response_status", "4")];
        assert_eq!(pair.counted(&late), 2.0, "{}", logs(&pair.mesh));
        // All of it over one connection.
        assert_eq!(pair.speaking(protocol.unwrap_or("http2")), 1.0, "{}", logs(&pair.mesh));
    }
}

#[test]
fn requests_of_http2() {
    for protocol in [Some("kubernetes.io/h2c"), None] {
        let mut pair = Pair::start(python::hypercorn, protocol);
        let pinned = json!([{"headers": [{"name": "x-pin", "value": "two"}]}]);
        let slow = json!([{"path": {"type": "PathPrefix", "value": "/slow"}}]);
        pair.route(
            "HTTPRoute",
            &json!([
                {"matches": pinned, "backendRefs": to("second")},
                {"matches": slow, "backendRefs": to("both"), "timeouts": {"request": "500ms"}},
                {"backendRefs": to("both")},
            ]),
        );
        pair.checks("by_request_httpx.py", &format!("http://{}", pair.service));
        let good = [("request_protocol", "http"), ("response_code", "200")];
        assert!(pair.counted(&good) >= 360.0, "{}", logs(&pair.mesh));
        assert_eq!(pair.speaking("http2"), 4.0, "one for each check\n{}", logs(&pair.mesh));
    }
}

#[test]
fn a_client_of_http1_on_a_port_of_http2() {
    let pair = Pair::start(python::hypercorn, Some("kubernetes.io/h2c"));
    pair.checks("with_requests.py", &format!("http://{}", pair.service));
    assert!(pair.speaking("http") > 0.0 && pair.speaking("http2") == 0.0, "{}", logs(&pair.mesh));
}
