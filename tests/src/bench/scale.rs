//! The case `scale-100k`: one agent that follows a real API server with 10,000 Services and 100,000 endpoints, in enrolled namespaces.
//! What the rest of such a cluster does to one node is there; the other nodes are not.

use super::{report::Sample, usage};
use crate::{
    Agent, Cluster, Fault, World,
    agent::AgentSettings,
    metrics::Metrics,
    objects,
    wait::{eventually_within, holds},
};
use http::Method;
use serde_json::{Value, json};
use std::{
    net::Ipv4Addr,
    thread::sleep,
    time::{Duration, Instant},
};

const NAMESPACES: u32 = 100;
const SERVICES_EACH: u32 = 100;
const ENDPOINTS_EACH: u32 = 10;
/// Changes of single endpoints in a second.
const CHURN: u32 = 100;
/// Changes that are sent together.
const BURST: u32 = 10;
/// After the first reading has gone to disk and the allocator has given back what it took.
const SETTLE: Duration = Duration::from_secs(10);

/// One run: fills a server, starts an agent, changes endpoints for `seconds`.
///
/// # Errors
/// Something does not start, or the agent does not follow.
pub fn measure(seconds: u32) -> Result<Sample, Fault> {
    let world = World::create()?;
    let mut cluster = Cluster::prepare(world.site("api", 1, 3)?, world.folder());
    cluster.start()?;
    cluster.install_crds()?;
    fill(&cluster)?;
    let mut agent = agent(&world, &cluster)?;
    let before = requests(&cluster)?;
    let begun = Instant::now();
    agent.start()?;
    eventually_within(Duration::from_secs(120), "the agent to be ready", || match agent.get("/readyz") {
        Ok((200, _)) => Ok(()),
        Ok((status, body)) => Err(format!("{status} {body}")),
        Err(error) => Err(error.to_string()),
    })?;
    let ready_s = begun.elapsed().as_secs_f64();
    whole(&agent)?;
    sleep(SETTLE);
    let pids = [agent.pid()?];
    let quiet = usage::of(&pids)?;
    let changed = churn(&cluster, Duration::from_secs(u64::from(seconds.max(20))))?;
    let busy = usage::of(&pids)?;
    let cpu = busy.cpu_seconds - quiet.cpu_seconds;
    Ok(Sample {
        ready_s: Some(ready_s),
        rss_mib: Some(busy.rss_kib.max(quiet.rss_kib) / 1024.0),
        cpu_percent: Some(cpu / changed.as_secs_f64() * 100.0),
        requests: Some(requests(&cluster)? - before),
        ..Sample::default()
    })
}

fn agent(world: &World, cluster: &Cluster) -> Result<Agent, Fault> {
    let settings = AgentSettings {
        manifests: world.folder().to_owned(),
        kubeconfig: Some(cluster.agent_kubeconfig()?),
        ca_address: None,
        ca_root: world.folder().to_owned(),
        join_token: world.folder().to_owned(),
        cgroup_root: world.cgroup().path().to_owned(),
        workers: 1,
        congestion: "cubic".to_owned(),
        zone: Some("zone-a".to_owned()),
        extra: Vec::new(),
    };
    Agent::prepare(world.site("node-a", 1, 11)?, settings, world.folder(), world.prefix())
}

/// Everything that was made is in the snapshot.
fn whole(agent: &Agent) -> Result<(), Fault> {
    let wanted = f64::from(NAMESPACES * SERVICES_EACH);
    eventually_within(Duration::from_secs(60), "all services", || {
        let metrics = agent.metrics().map_err(|fault| fault.to_string())?;
        let found = metrics.sum("posthaste_services", &[]);
        holds(found >= wanted, format!("{found} services"))
    })
}

fn fill(cluster: &Cluster) -> Result<(), Fault> {
    for number in 0..NAMESPACES {
        cluster.apply(&objects::namespace(&format!("ns-{number}"), true, &[]))?;
    }
    let services = numbers().map(|(namespace, number)| {
        let name = format!("svc-{number}");
        let object = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": format!("ns-{namespace}")},
            "spec": {"selector": {"app": name}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
        });
        (Method::POST, format!("/api/v1/namespaces/ns-{namespace}/services"), object)
    });
    let client = cluster.client()?;
    client.all(services)?;
    let slices = numbers().map(|(namespace, number)| {
        let path = format!("/apis/discovery.k8s.io/v1/namespaces/ns-{namespace}/endpointslices");
        (Method::POST, path, slice(namespace, number))
    });
    client.all(slices).map(drop)
}

fn numbers() -> impl Iterator<Item = (u32, u32)> {
    (0..NAMESPACES).flat_map(|namespace| (0..SERVICES_EACH).map(move |number| (namespace, number)))
}

/// As the endpoint controller writes it.
fn slice(namespace: u32, number: u32) -> Value {
    let name = format!("svc-{number}");
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{name}-x7k2p"), "namespace": format!("ns-{namespace}"),
            "labels": {
                "kubernetes.io/service-name": name,
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
            },
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": endpoints(namespace, number, 0),
    })
}

/// `round` decides which pod of the service is a new one.
fn endpoints(namespace: u32, number: u32, round: u32) -> Vec<Value> {
    (0..ENDPOINTS_EACH)
        .map(|place| {
            let born = if round > 0 && place == round % ENDPOINTS_EACH { round } else { 0 };
            let address = 0x0a80_0000 + (namespace * SERVICES_EACH + number) * 16 + place;
            let pod = format!("svc-{number}-7d4b9c6f5-{place:02}{born:03}");
            json!({
                "addresses": [Ipv4Addr::from(address).to_string()],
                "conditions": {"ready": true, "serving": true, "terminating": false},
                "nodeName": format!("node-{}", address % 5000), "zone": format!("zone-{}", place % 3),
                "targetRef": {
                    "kind": "Pod", "namespace": format!("ns-{namespace}"), "name": pod,
                    "uid": format!("00000000-0000-4000-8000-{:08x}{born:04x}", address),
                },
            })
        })
        .collect()
}

/// Changes one endpoint after the other, all over the cluster; how long it took.
fn churn(cluster: &Cluster, length: Duration) -> Result<Duration, Fault> {
    let begun = Instant::now();
    let client = cluster.client()?;
    let mut count = 0_u32;
    while begun.elapsed() < length {
        let burst = (count..count + BURST).map(|change| {
            // A step that meets every service in turn, far from the one before.
            let place = change.wrapping_mul(7919) % (NAMESPACES * SERVICES_EACH);
            let (namespace, number) = (place / SERVICES_EACH, place % SERVICES_EACH);
            let path = format!(
                "/apis/discovery.k8s.io/v1/namespaces/ns-{namespace}/endpointslices/svc-{number}-x7k2p"
            );
            (Method::PATCH, path, json!({"endpoints": endpoints(namespace, number, 1 + change % 999)}))
        });
        client.all(burst.collect::<Vec<_>>())?;
        count += BURST;
        let due = Duration::from_secs_f64(f64::from(count) / f64::from(CHURN));
        sleep(due.saturating_sub(begun.elapsed()));
    }
    Ok(begun.elapsed())
}

/// Reads that the server has answered or is answering: the churn only writes.
fn requests(cluster: &Cluster) -> Result<f64, Fault> {
    let answer = cluster.client()?.read("/metrics")?.success()?;
    let metrics = Metrics::parse(answer.as_str().unwrap_or_default());
    let of = |name: &str| -> f64 {
        ["GET", "LIST", "WATCH"].iter().map(|verb| metrics.sum(name, &[("verb", verb)])).sum()
    };
    Ok(of("apiserver_request_total") + of("apiserver_longrunning_requests"))
}
