//! The whole path, as in a cluster: the API server gives pods their uids, kubelet's folders are named by them, and the agents find the one
//! by the other. Label on, encrypted and balanced, a pod that comes, a pod that nobody knows, an agent that is restarted, label off.

use posthaste_tests::{
    Agent, Driver, Family, KubeletPod, Mesh, Sniffer,
    mesh::NAMESPACE,
    objects, peer,
    wait::{eventually_within, holds},
};
use serde_json::{Value, json};
use std::{fmt::Display, net::SocketAddr, time::Duration};

const SECRET: &str = "never-in-plaintext";
const CALLS: usize = 16;

fn eventually<T, E: Display>(what: &str, check: impl FnMut() -> Result<T, E>) -> T {
    eventually_within(Duration::from_secs(60), what, check).unwrap()
}

fn logs(mesh: &Mesh) -> String {
    let of = |agent: &Agent| format!("--- {}\n{}\n{:?}\n", agent.node(), agent.log(), agent.access_log());
    of(&mesh.a) + &of(&mesh.b)
}

fn call(mesh: &Mesh, from: &KubeletPod, to: SocketAddr) -> Result<(), String> {
    let answer = peer::call(from, "exchange", to, &[SECRET]).unwrap();
    holds(answer["answer"] == SECRET, format!("{answer}\n{}", logs(mesh)))
}

/// As the scheduler and kubelet make it: the object, the folders, the pause container, the addresses in the status.
fn pod(mesh: &mut Mesh, node: &str, name: &str, driver: Driver) -> KubeletPod {
    let mut pod = mesh.scheduled_pod(node, name, driver).unwrap();
    pod.start_pause().unwrap();
    mesh.announce(&pod).unwrap();
    pod
}

fn label(mesh: &mut Mesh, enabled: bool) {
    mesh.manifests.put(objects::namespace(NAMESPACE, enabled, &[("mtls", "strict")]));
    mesh.manifests.apply().unwrap();
}

#[test]
fn pods_of_kubelet_are_captured_by_what_the_api_server_says() {
    let mut mesh = Mesh::prepare_in_cluster(&[]).unwrap();
    mesh.split_cgroups();
    label(&mut mesh, false);
    mesh.run().unwrap();
    let client = pod(&mut mesh, "a", "client", Driver::Systemd);
    let servers = [("first", Driver::Cgroupfs), ("second", Driver::Kind)]
        .map(|(name, driver)| pod(&mut mesh, "b", name, driver));
    let _echoes = servers.each_ref().map(|server| peer::serve(server, "echo", 8080).unwrap());
    let service = mesh.service("server", 8080, &[&servers[0], &servers[1]]).unwrap();
    let to = SocketAddr::new(service.cluster_ips[0], 80);
    let straight = servers[0].at(Family::V4, 8080);
    let sniffer = Sniffer::start(mesh.world.bridge(), &[SECRET]).unwrap();
    eventually("a call without the mesh", || call(&mesh, &client, straight));
    let plain = sniffer.hits();
    assert!(plain > 0, "the sniffer sees what is in plain text");

    label(&mut mesh, true);
    servers.iter().chain([&client]).for_each(|pod| mesh.settle(pod).unwrap());
    eventually("a call through the mesh", || call(&mesh, &client, to));
    for _ in 0..CALLS {
        call(&mesh, &client, to).unwrap();
    }
    eventually("both servers to have been called", || {
        let records = Value::Array(mesh.a.access_log()).to_string();
        let called = |server: &KubeletPod| records.contains(&server.at(Family::V4, 8080).to_string());
        holds(servers.iter().all(called), records.clone())
    });
    let late = pod(&mut mesh, "a", "late", Driver::Systemd);
    eventually("the first call of a new pod", || call(&mesh, &late, to));
    assert_eq!(sniffer.hits(), plain, "{:?}", sniffer.seen());

    // Kubelet starts a static pod without an API server; nobody knows it until there is one.
    mesh.cluster.as_ref().unwrap().lock().stop().unwrap();
    let mut fixed = mesh.kubelet_pod("a", "fixed", Driver::Systemd).unwrap();
    fixed.start_pause().unwrap();
    for _ in 0..CALLS {
        let answer = peer::call(&fixed, "exchange", straight, &[SECRET]).unwrap();
        assert_eq!(answer["error"], "PermissionDenied", "{answer}\n{}", logs(&mesh));
        call(&mesh, &client, to).unwrap();
    }
    mesh.a.kill();
    assert_eq!(peer::call(&fixed, "exchange", straight, &[SECRET]).unwrap()["error"], "PermissionDenied");
    mesh.a.restart().unwrap();
    eventually("the pods that were known to work", || call(&mesh, &client, to));
    assert_eq!(peer::call(&fixed, "exchange", straight, &[SECRET]).unwrap()["error"], "PermissionDenied");
    mesh.cluster.as_ref().unwrap().lock().start().unwrap();
    let mut mirror = fixed.spec.object();
    mirror["metadata"]["annotations"]["kubernetes.io/config.mirror"] = json!(fixed.spec.uid);
    mesh.manifests.put(mirror);
    mesh.manifests.apply().unwrap();
    eventually_within(Duration::from_mins(2), "the static pod to be known", || call(&mesh, &fixed, to))
        .unwrap();
    assert_eq!(sniffer.hits(), plain, "{:?}", sniffer.seen());

    label(&mut mesh, false);
    eventually("the pods to be let go", || {
        call(&mesh, &client, straight)?;
        holds(sniffer.hits() > plain, "still encrypted")
    });
}
