//! The service `catalog`: four pods whose program fails or is slow when it is told to, behind one HTTP port, and the two
//! services that split it into stable and canary.

use std::net::SocketAddr;

use posthaste_tests::peer::faulty::{Faulty, Plan, Seen};
use posthaste_tests::peer::load::{self, Report, Spec};
use posthaste_tests::{Fault, Mesh, Pod, ServiceSpec, eventually};
use serde_json::Value;

use crate::bars::Bar;

const PORT: u16 = 8080;

/// One pod: the server that runs in it ends first.
struct Server {
    program: Faulty,
    pod: Pod,
}

/// Pods are numbered from 0; the last one is the canary.
pub(crate) struct Catalog {
    servers: Vec<Server>,
    pub(crate) service: ServiceSpec,
}

impl Catalog {
    /// Pods, programs, services.
    ///
    /// # Errors
    /// The first thing that does not start, with what it said.
    pub(crate) fn start(mesh: &mut Mesh) -> Result<Self, Fault> {
        let mut servers = Vec::new();
        for (node, name) in [("a", "catalog-1"), ("b", "catalog-2"), ("b", "catalog-3"), ("b", "catalog-4")] {
            let pod = mesh.pod(node, name)?;
            let program = Faulty::start(&pod, PORT, name)?;
            servers.push(Server { program, pod });
        }
        let pods: Vec<&Pod> = servers.iter().map(|server| &server.pod).collect();
        let service = publish(mesh, "catalog", &pods)?;
        let (canary, stable) = pods.split_last().ok_or_else(|| Fault::new("no pods"))?;
        publish(mesh, "catalog-stable", stable)?;
        publish(mesh, "catalog-canary", &[canary])?;
        Ok(Self { servers, service })
    }

    pub(crate) fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.servers.iter().map(|server| &server.pod)
    }

    /// What one of them does from now on; all counts begin anew.
    ///
    /// # Errors
    /// It does not answer.
    pub(crate) fn plan(&self, number: usize, plan: &Plan) -> Result<(), Fault> {
        let server = self.servers.get(number).ok_or_else(|| Fault::new(format!("no pod {number}")))?;
        server.program.plan(&server.pod, plan)?;
        self.forget()
    }

    /// What all of them do from now on; all counts begin anew.
    ///
    /// # Errors
    /// One does not answer.
    pub(crate) fn plan_all(&self, plan: &Plan) -> Result<(), Fault> {
        (0..self.servers.len()).try_for_each(|number| self.plan(number, plan))
    }

    /// All counts begin anew.
    ///
    /// # Errors
    /// One does not answer.
    pub(crate) fn forget(&self) -> Result<(), Fault> {
        self.servers.iter().try_for_each(|server| server.program.forget(&server.pod))
    }

    /// What each has received, by its own count.
    ///
    /// # Errors
    /// One does not answer.
    pub(crate) fn seen(&self) -> Result<Vec<Seen>, Fault> {
        self.servers.iter().map(|server| server.program.seen(&server.pod)).collect()
    }

    /// What each has received, as bars.
    ///
    /// # Errors
    /// One does not answer.
    pub(crate) fn bars(&self) -> Result<Vec<Bar>, Fault> {
        let bar = |(server, seen): (&Server, Seen)| Bar {
            label: server.pod.name.clone(),
            good: seen.requests - seen.troubled,
            bad: seen.troubled,
            note: if seen.troubled > 0 { format!("{} of them failed", seen.troubled) } else { String::new() },
        };
        Ok(self.servers.iter().zip(self.seen()?).map(bar).collect())
    }

    /// Where requests go to: the service's IPv4 address.
    ///
    /// # Errors
    /// It has none.
    pub(crate) fn address(&self) -> Result<SocketAddr, Fault> {
        let ip = self.service.cluster_ips.first().ok_or_else(|| Fault::new("catalog has no address"))?;
        Ok(SocketAddr::new(*ip, 80))
    }

    /// Requests of a client to their end.
    ///
    /// # Errors
    /// The client cannot run.
    pub(crate) fn load(&self, client: &Pod, spec: &Spec) -> Result<Report, Fault> {
        load::of(client, self.address()?, spec)
    }
}

fn publish(mesh: &mut Mesh, name: &str, pods: &[&Pod]) -> Result<ServiceSpec, Fault> {
    let mut service = mesh.service_spec(name, PORT, pods);
    service.app_protocol = Some("http".to_owned());
    mesh.publish(&service)?;
    Ok(service)
}

/// Writes an object as a user would, into the folder of manifests, and waits until node a follows it: until
/// `posthaste QUESTION catalog` names it.
///
/// # Errors
/// It does not in time.
pub(crate) fn put(mesh: &Mesh, file: &str, text: &str, question: &str) -> Result<(), Fault> {
    mesh.manifests.raw(file, text)?;
    named(mesh, question, true)
}

/// The opposite.
///
/// # Errors
/// It is followed still.
pub(crate) fn remove(mesh: &Mesh, file: &str, question: &str) -> Result<(), Fault> {
    mesh.manifests.remove_file(file)?;
    named(mesh, question, false)
}

fn named(mesh: &Mesh, question: &str, wanted: bool) -> Result<(), Fault> {
    eventually(&format!("node a to follow the object (`posthaste {question} catalog`)"), || {
        let answer = mesh.a.json(&[question, "catalog"]).map_err(|fault| fault.to_string())?.to_string();
        let is_named =
            ["HTTPRoute/shop/catalog", "TrafficPolicy/shop/catalog"].iter().any(|name| answer.contains(name));
        if is_named == wanted { Ok(()) } else { Err(answer) }
    })
}

/// How a pod of `catalog` stands with the agent of node a: state and reason.
///
/// # Errors
/// The agent does not answer.
pub(crate) fn health(mesh: &Mesh, pod: &str) -> Result<(String, String), Fault> {
    let answer = mesh.a.json(&["endpoints", "catalog"])?;
    let endpoints = answer.pointer("/0/endpoints").and_then(Value::as_array);
    let found = endpoints
        .into_iter()
        .flatten()
        .find(|one| one.get("pod").and_then(Value::as_str).is_some_and(|name| name.ends_with(pod)));
    let word = |field: &str| found.and_then(|one| one.get(field)?.as_str()).unwrap_or_default().to_owned();
    Ok((word("state"), word("why")))
}
