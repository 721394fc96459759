//! Agents that end in order, while unmodified clients go on: an update on the caller's and on the called node, and a clean stop. No call
//! fails, what is under way finishes, HTTP/2 clients are told by GOAWAY, and whoever comes back finds somebody.

use crate::scene::{cluster_ip, logs};
use posthaste_tests::{
    Family, Finished, Mesh, Pod, Running,
    agent::Agent,
    eventually,
    kube_proxy::{Mode, ServicePort, load},
    peer, python,
    wait::holds,
};
use rustix::process::Signal;
use serde_json::Value;
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

/// Long enough for what the clients have under way.
const DRAIN: &str = "10";

struct Change {
    client: Pod,
    server: Pod,
    _programs: [Running; 2],
    mesh: Mesh,
}

impl Change {
    /// Programs on node `b`, a client on node `a`.
    fn start(mtls: &str, flags: &[&str]) -> Self {
        let mut mesh = Mesh::prepare(&[("mtls", mtls)]).unwrap();
        for agent in [&mut mesh.a, &mut mesh.b] {
            agent
                .settings
                .extra
                .extend(["--drain", DRAIN].iter().chain(flags).map(|flag| (*flag).to_owned()));
        }
        mesh.run().unwrap();
        let client = mesh.pod("a", "client").unwrap();
        let server = mesh.pod("b", "server").unwrap();
        let web = python::hypercorn(&server, 8080).unwrap();
        let grpc = python::grpc_server(&server, 9090).unwrap();
        Self { client, server, _programs: [web, grpc], mesh }
    }

    fn service(&mut self, name: &str, port: u16, protocol: Option<&str>) -> SocketAddr {
        let mut service = self.mesh.service_spec(name, port, &[&self.server]);
        service.app_protocol = protocol.map(str::to_owned);
        self.mesh.publish(&service).unwrap();
        cluster_ip(&service, Family::V4)
    }

    fn folder(&self) -> PathBuf {
        self.mesh.world.folder().join("clients")
    }

    /// All clients at work.
    fn clients(&self, web: SocketAddr, grpc: SocketAddr) -> Running {
        let folder = self.folder();
        fs::create_dir_all(&folder).unwrap();
        let _ = fs::remove_file(folder.join("end"));
        let line = ["while_agents_change.py", &web.to_string(), &grpc.to_string(), folder.to_str().unwrap()];
        let mut clients = python::start(&self.client, "python3", &line).unwrap();
        if let Err(fault) = clients.wait_for_output("going") {
            panic!("{fault}: {}{}\n{}", clients.stdout(), clients.stderr(), logs(&self.mesh));
        }
        clients
    }

    /// What they saw until now: nothing that failed, and GOAWAY where `told`.
    fn judge(&self, clients: Running, told: bool) -> Value {
        fs::write(self.folder().join("end"), "").unwrap();
        let Finished { stdout, stderr, .. } = clients.finish(Duration::from_secs(60)).unwrap();
        let report: Value =
            serde_json::from_str(stdout.lines().last().unwrap_or_default()).unwrap_or_default();
        let said = || format!("{report}\n{stderr}\n{}", logs(&self.mesh));
        assert!(report["failed"].as_array().is_some_and(Vec::is_empty), "{}", said());
        for name in ["unary", "stream", "post", "new", "idle"] {
            assert!(report["calls"][name].as_u64() > Some(0), "{name}: {}", said());
        }
        let seen: Vec<&str> =
            report["witness"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        assert!(seen.contains(&"answer 1") && seen.contains(&"answer 3"), "{}", said());
        assert!(!seen.iter().any(|event| event.starts_with("reset")), "{}", said());
        assert_eq!(seen.contains(&"goaway 0"), told, "{}", said());
        report
    }
}

/// Starts the next agent of a node, ends the present one, and waits until the next one serves and the present one is gone.
fn update(agent: &mut Agent, socket: &Path) -> Running {
    let next = agent.start_next(socket).unwrap();
    eventually("the next agent to stand by", || holds(next.stderr().contains("standing by"), next.stderr()))
        .unwrap();
    agent.signal(Signal::TERM);
    eventually("the next agent to serve", || holds(next.stderr().contains("ready"), next.stderr())).unwrap();
    agent.stop().unwrap();
    next
}

#[test]
fn an_update_of_either_agent_costs_no_call() {
    let mut change = Change::start("strict", &["--stand-by", "--on-stop", "keep"]);
    let web = change.service("web", 8080, None);
    let grpc = change.service("grpc", 9090, Some("grpc"));
    let socket = |name: &str| change.mesh.world.folder().join(name);
    let sockets = ["a.sock", "b.sock"].map(socket);
    let [of_a, of_b] = sockets;
    let clients = change.clients(web, grpc);
    let _a = update(&mut change.mesh.a, &of_a);
    change.judge(clients, true);
    // The agent of the server's node: the clients need not notice.
    let clients = change.clients(web, grpc);
    let _b = update(&mut change.mesh.b, &of_b);
    change.judge(clients, false);
}

#[test]
fn a_clean_stop_costs_no_call() {
    // Nobody comes after it: what is new goes straight, where that is allowed.
    let mut change = Change::start("permissive", &[]);
    let ports = [("web", 8080, None), ("grpc", 9090, Some("grpc"))];
    let ports = ports.map(|(name, port, protocol)| ServicePort {
        service: format!("shop/{name}"),
        port: "main".to_owned(),
        address: change.service(name, port, protocol),
        endpoints: vec![change.server.at(Family::V4, port)],
    });
    load(change.mesh.world.bridge(), Mode::Nftables, &ports).unwrap();
    let [web, grpc] = ports.map(|port| port.address);
    let clients = change.clients(web, grpc);
    change.mesh.a.stop().unwrap();
    change.judge(clients, true);
}

#[test]
fn what_has_not_ended_in_time_is_cut_and_counted() {
    let mut mesh = Mesh::prepare(&[("mtls", "strict")]).unwrap();
    mesh.a.settings.extra.extend(["--drain", "1"].map(str::to_owned));
    mesh.run().unwrap();
    let client = mesh.pod("a", "client").unwrap();
    let server = mesh.pod("b", "server").unwrap();
    let _echo = peer::serve(&server, "echo", 8080).unwrap();
    let talks =
        [(); 2].map(|()| peer::start_call(&client, "keep", server.at(Family::V4, 8080), &[]).unwrap());
    for talk in &talks {
        peer::wait_line(talk, "an open connection", |line| line["open"] == true).unwrap();
    }
    let said = mesh.a.stop_and_tell().unwrap().unwrap().stderr;
    let last = said.lines().last().unwrap_or_default();
    assert!(last.contains("cut 2 connections") && last.contains("2 of plain bytes, 0 of HTTP"), "{said}");
}
