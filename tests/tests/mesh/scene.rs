//! What most tests begin with: a client on node `a`, a server on node `b`, a service before it.

use posthaste_tests::{Agent, Family, Mesh, Pod, ServiceSpec, eventually, peer, wait::holds};
use serde_json::Value;
use std::net::SocketAddr;

pub(crate) struct Scene {
    pub(crate) client: Pod,
    pub(crate) server: Pod,
    pub(crate) service: ServiceSpec,
    // Last: pods end before the world.
    pub(crate) mesh: Mesh,
}

impl Scene {
    /// The service `server:80` leads to port 8080 of the server.
    pub(crate) fn start(annotations: &[(&str, &str)]) -> Self {
        Self::within(Mesh::start(annotations).unwrap())
    }

    /// The same in a mesh that runs.
    pub(crate) fn within(mut mesh: Mesh) -> Self {
        let client = mesh.pod("a", "client").unwrap();
        let server = mesh.pod("b", "server").unwrap();
        let service = mesh.service("server", 8080, &[&server]).unwrap();
        Self { client, server, service, mesh }
    }

    pub(crate) fn permissive() -> Self {
        Self::start(&[])
    }

    pub(crate) fn strict() -> Self {
        Self::start(&[("mtls", "strict")])
    }

    /// The service's address.
    pub(crate) fn address(&self, family: Family) -> SocketAddr {
        cluster_ip(&self.service, family)
    }

    /// One exchange with the service's echo.
    pub(crate) fn exchange(&self, text: &str) -> Value {
        peer::call(&self.client, "exchange", self.address(Family::V4), &[text]).unwrap()
    }

    /// One exchange that must work.
    pub(crate) fn works(&self) {
        let answer = self.exchange("does it work?");
        assert_eq!(answer["answer"], "does it work?", "{answer}\n{}", self.logs());
    }

    /// Waits until calls of the client are answered, or are not any more.
    pub(crate) fn answers(&self, expected: bool) {
        eventually(&format!("calls are answered: {expected}"), || {
            let answer = self.exchange("x");
            holds(failed(&answer) != expected, format!("{answer}\n{}", self.logs()))
        })
        .unwrap();
    }

    /// What both agents said, for failures.
    pub(crate) fn logs(&self) -> String {
        logs(&self.mesh)
    }
}

/// Port 80 of a service.
pub(crate) fn cluster_ip(service: &ServiceSpec, family: Family) -> SocketAddr {
    let fits = |ip: &&std::net::IpAddr| ip.is_ipv4() == (family == Family::V4);
    SocketAddr::new(*service.cluster_ips.iter().find(fits).unwrap(), 80)
}

/// The last lines of both agents' logs and access logs.
pub(crate) fn logs(mesh: &Mesh) -> String {
    let of = |agent: &Agent| {
        let records: Vec<String> = agent.access_log().iter().map(ToString::to_string).collect();
        format!(
            "--- agent {}\n{}\n{}\n",
            agent.node(),
            tail(agent.log().lines()),
            tail(records.iter().map(String::as_str))
        )
    };
    of(&mesh.a) + &of(&mesh.b)
}

fn tail<'line>(lines: impl Iterator<Item = &'line str>) -> String {
    let lines: Vec<&str> = lines.collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}

/// Whether an exchange failed, in whatever way, without any answer.
pub(crate) fn failed(answer: &Value) -> bool {
    answer.get("error").is_some() || answer["answer"] == ""
}

/// Whether a record (of the access log or the connection table) mentions all of these.
pub(crate) fn mentions(record: &Value, words: &[&str]) -> bool {
    let text = record.to_string();
    words.iter().all(|word| text.contains(word))
}
