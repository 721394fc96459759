//! What HTTP tests begin with: a client on node `a`, a server on node `b`, and a service for each protocol that a port may
//! say it speaks.

use crate::scene::{cluster_ip, logs};
use posthaste_tests::{Family, Mesh, Pod, ServiceSpec, peer, python};
use std::{collections::BTreeMap, net::SocketAddr};

pub(crate) struct Web {
    pub(crate) client: Pod,
    pub(crate) server: Pod,
    services: BTreeMap<String, ServiceSpec>,
    // Last: pods end before the world.
    pub(crate) mesh: Mesh,
}

impl Web {
    pub(crate) fn start() -> Self {
        let mut mesh = Mesh::start_strict().unwrap();
        let client = mesh.pod("a", "client").unwrap();
        let server = mesh.pod("b", "server").unwrap();
        Self { client, server, services: BTreeMap::new(), mesh }
    }

    /// Address of the service whose port (80, to 8080 of the server) has this `appProtocol`.
    pub(crate) fn address(&mut self, protocol: Option<&str>, family: Family) -> SocketAddr {
        let key = protocol.unwrap_or("undeclared").to_owned();
        if !self.services.contains_key(&key) {
            let name = format!("web-{}", key.rsplit('/').next().unwrap_or_default());
            let mut service = self.mesh.service_spec(&name, 8080, &[&self.server]);
            service.app_protocol = protocol.map(str::to_owned);
            self.mesh.publish(&service).unwrap();
            self.services.insert(key.clone(), service);
        }
        cluster_ip(&self.services[&key], family)
    }

    /// All checks of a script, run in the client's pod, must pass.
    pub(crate) fn checks(&self, script: &str, target: &str) {
        if let Err(fault) = python::checks(&self.client, script, target) {
            panic!("{fault}\n{}", logs(&self.mesh));
        }
    }

    /// Output of a program in the client's pod, which must end well.
    pub(crate) fn run(&self, line: &[&str]) -> String {
        let output = self.client.run(line).unwrap().success();
        output.unwrap_or_else(|fault| panic!("{line:?}: {fault}\n{}", logs(&self.mesh)))
    }

    /// `curl -sS` with a time limit.
    pub(crate) fn curl(&self, arguments: &[&str]) -> String {
        self.run(&[&["curl", "-sS", "-g", "--max-time", "20", "--noproxy", "*"], arguments].concat())
    }

    /// Bytes as they are; what came back.
    pub(crate) fn raw(&self, to: SocketAddr, text: &str) -> String {
        peer::raw(&self.client, to, text.as_bytes()).unwrap().0
    }
}
