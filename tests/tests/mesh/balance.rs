//! Which endpoint a connection goes to.

use crate::scene::{cluster_ip, failed, logs};
use posthaste_tests::{
    Family, Mesh, Pod, Running, ServiceSpec, eventually, peer,
    wait::{eventually_within, holds},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};

/// Two servers on node `b` and one on node `a`, all behind the service `many`.
struct Fleet {
    client: Pod,
    servers: Vec<Pod>,
    programs: Vec<Running>,
    service: ServiceSpec,
    mesh: Mesh,
}

impl Fleet {
    fn start(behaviour: &str) -> Self {
        let mut mesh = Mesh::start_strict().unwrap();
        let client = mesh.pod("a", "client").unwrap();
        let servers: Vec<Pod> = [("b", "one"), ("b", "two"), ("a", "three")]
            .into_iter()
            .map(|(node, name)| mesh.pod(node, name).unwrap())
            .collect();
        let programs = servers.iter().map(|pod| peer::serve(pod, behaviour, 8080).unwrap()).collect();
        let service = mesh.service("many", 8080, &servers.iter().collect::<Vec<_>>()).unwrap();
        Self { client, servers, programs, service, mesh }
    }

    /// Changes the service and waits until the caller's agent has taken it.
    fn change(&mut self, change: impl FnOnce(&mut ServiceSpec)) {
        change(&mut self.service);
        let before = generation(&self.mesh);
        self.mesh.publish(&self.service).unwrap();
        eventually("the new snapshot", || holds(generation(&self.mesh) > before, "the old one")).unwrap();
    }

    /// How often each server answered; `address` is what the servers do.
    fn answers(&self, calls: u32, family: Family) -> BTreeMap<String, u32> {
        let mut counts = BTreeMap::new();
        for _ in 0..calls {
            let answer =
                peer::call(&self.client, "exchange", cluster_ip(&self.service, family), &[""]).unwrap();
            let said = answer["answer"].as_str().unwrap_or_default().to_owned();
            let local = said.rsplit_once("local=").map_or("", |(_, local)| local);
            let from = |pod: &&Pod| {
                [pod.v4.to_string(), pod.v6.to_string()].iter().any(|ip| local.contains(&format!("{ip}]")))
            };
            let name =
                self.servers.iter().find(from).map_or(format!("nobody: {answer}"), |pod| pod.name.clone());
            *counts.entry(name).or_insert(0) += 1;
        }
        counts
    }

    fn names(&self, calls: u32) -> Vec<String> {
        self.answers(calls, Family::V4).into_keys().collect()
    }

    /// Calls until each of the three has answered. One that was slow once, as on a busy machine, has to be forgiven first.
    fn all_answer(&self, family: Family) {
        let mut seen = BTreeMap::new();
        eventually_within(Duration::from_secs(60), "an answer of each endpoint", || {
            seen.append(&mut self.answers(20, family));
            holds(seen.len() == 3, format!("{seen:?}"))
        })
        .unwrap();
    }
}

/// Number of the caller's snapshot.
fn generation(mesh: &Mesh) -> u64 {
    mesh.a.json(&["status"]).unwrap()["snapshot_generation"].as_u64().unwrap()
}

#[test]
fn all_endpoints_are_used() {
    let fleet = Fleet::start("address");
    for family in [Family::V4, Family::V6] {
        fleet.all_answer(family);
    }
}

#[test]
fn an_endpoint_dies_and_the_client_does_not_notice() {
    let mut fleet = Fleet::start("echo");
    let to = cluster_ip(&fleet.service, Family::V4);
    let repeat = |fleet: &Fleet| {
        let report = peer::call(&fleet.client, "repeat", to, &["1500"]).unwrap();
        assert_eq!(report["failures"], json!({}), "{report}\n{}", logs(&fleet.mesh));
        assert!(report["right"].as_u64() > Some(20), "{report}");
    };
    repeat(&fleet);
    // The program ends: its port refuses.
    fleet.programs.remove(0).kill();
    repeat(&fleet);
    // A whole pod is gone, its object is not: its address is silent.
    fleet.programs.remove(0).kill();
    drop(fleet.servers.remove(1));
    repeat(&fleet);
}

#[test]
fn an_endpoint_that_refuses_is_ejected_and_comes_back() {
    let mut fleet = Fleet::start("address");
    fleet.programs.remove(0).kill();
    assert!(!fleet.names(60).contains(&"one".to_owned()));
    let address = fleet.servers[0].at(Family::V4, 8080).to_string();
    let is_ejected = |answer: &Value| {
        let ports = answer
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|service| service["ports"].as_array())
            .flatten();
        let mut endpoints = ports.filter_map(|port| port["endpoints"].as_array()).flatten();
        endpoints.any(|endpoint| endpoint["address"] == *address && endpoint["ejected_ms"].as_u64() > Some(0))
    };
    eventually_within(Duration::from_secs(60), "the endpoint to be ejected", || {
        assert!(!fleet.names(10).contains(&"one".to_owned()));
        let services = fleet.mesh.a.json(&["services"]).map_err(|fault| fault.to_string())?;
        holds(is_ejected(&services), services.to_string())
    })
    .unwrap();
    let _again = peer::serve(&fleet.servers[0], "address", 8080).unwrap();
    eventually_within(Duration::from_secs(60), "the endpoint to be used again", || {
        let names = fleet.names(20);
        holds(names.contains(&"one".to_owned()), format!("{names:?}"))
    })
    .unwrap();
}

#[test]
fn session_affinity_keeps_a_client_at_its_endpoint() {
    let mut fleet = Fleet::start("address");
    fleet.change(|service| {
        service.spec = json!({
            "sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 3}},
        });
    });
    let first = fleet.names(30);
    assert_eq!(first.len(), 1, "{first:?}");
}

#[test]
fn internal_traffic_policy_local() {
    let mut fleet = Fleet::start("address");
    fleet.change(|service| service.spec = json!({"internalTrafficPolicy": "Local"}));
    assert_eq!(fleet.names(20), ["three"]);
    fleet.change(|service| service.endpoints.truncate(2));
    let answer =
        peer::call(&fleet.client, "exchange", cluster_ip(&fleet.service, Family::V4), &[""]).unwrap();
    assert!(failed(&answer), "no endpoint of this node is left: {answer}");
}

#[test]
fn conditions_choose() {
    let mut fleet = Fleet::start("address");
    fleet.change(|service| service.endpoints[0].conditions = (false, false, false));
    assert_eq!(fleet.names(40), ["three", "two"]);
    // Nobody is ready, one still serves while it terminates.
    fleet.change(|service| {
        service.endpoints[1].conditions = (false, true, true);
        service.endpoints[2].conditions = (false, false, true);
    });
    assert_eq!(fleet.names(20), ["two"]);
    fleet.change(|service| {
        service.spec = json!({"publishNotReadyAddresses": true});
        service.endpoints.iter_mut().for_each(|endpoint| endpoint.conditions = (true, false, false));
    });
    fleet.all_answer(Family::V4);
}

#[test]
fn topology_hints_and_traffic_distribution() {
    let mut fleet = Fleet::start("address");
    fleet.change(|service| {
        for endpoint in &mut service.endpoints {
            endpoint.hints = endpoint.zone.iter().cloned().collect();
        }
    });
    assert_eq!(fleet.names(20), ["three"]);
    // An endpoint without a hint: hints are ignored for all.
    fleet.change(|service| service.endpoints[0].hints.clear());
    fleet.all_answer(Family::V4);
}
