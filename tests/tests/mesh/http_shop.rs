//! What tests of requests begin with: a client, and three servers that do wrong what they are told.

use crate::scene::cluster_ip;
use posthaste_tests::{
    Family, Mesh, Pod, eventually,
    peer::{
        faulty::{Faulty, Plan},
        load::{self, Report, Spec},
    },
    wait::holds,
};
use serde_json::Value;
use std::net::SocketAddr;

/// Three servers behind one HTTP port; two of them on the other node.
pub(crate) struct Shop {
    pub(crate) client: Pod,
    pub(crate) servers: Vec<(Pod, Faulty)>,
    pub(crate) service: SocketAddr,
    // Last: pods end before the world.
    pub(crate) mesh: Mesh,
}

impl Shop {
    /// Servers whose port is declared so (`appProtocol`).
    pub(crate) fn start(protocol: &str) -> Self {
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
        let service = publish(&mut mesh, "shop-web", protocol, &pods);
        Self { client, servers, service, mesh }
    }

    pub(crate) fn plan(&self, server: usize, plan: &Plan) {
        let (pod, program) = &self.servers[server];
        program.plan(pod, plan).unwrap();
    }

    pub(crate) fn load(&self, spec: &Spec) -> Report {
        load::of(&self.client, self.service, spec).unwrap()
    }

    /// Requests that all servers have seen, and the ids that came more than once.
    pub(crate) fn seen(&self) -> (u64, usize) {
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

    pub(crate) fn put(&mut self, object: Value) {
        let before = generation(&self.mesh);
        self.mesh.manifests.put(object);
        self.mesh.manifests.apply().unwrap();
        eventually("the new snapshot", || holds(generation(&self.mesh) > before, "the old one")).unwrap();
    }

    pub(crate) fn counted(&self, metric: &str) -> bool {
        self.mesh.a.metrics().unwrap().sum(metric, &[]) > 0.0
    }
}

/// A service on port 80, declared so, to port 8080 of the pods.
pub(crate) fn publish(mesh: &mut Mesh, name: &str, protocol: &str, pods: &[&Pod]) -> SocketAddr {
    let mut service = mesh.service_spec(name, 8080, pods);
    service.app_protocol = Some(protocol.to_owned());
    mesh.publish(&service).unwrap();
    cluster_ip(&service, Family::V4)
}

fn generation(mesh: &Mesh) -> u64 {
    mesh.a.json(&["status"]).unwrap()["snapshot_generation"].as_u64().unwrap()
}
