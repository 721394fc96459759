//! Pods as kubelet makes them, found by their cgroups: captured before they send anything, enrolled while they run, let go.

use crate::scene::{failed, logs};
use posthaste_tests::{
    Driver, Family, KubeletPod, Mesh, Sniffer,
    agent::wait_json,
    http::fetch_unix,
    mesh::NAMESPACE,
    objects, peer,
    wait::{eventually_within, holds},
};
use serde_json::Value;
use std::{
    fmt::Display,
    fs,
    path::Path,
    time::{Duration, Instant},
};

const SECRET: &str = "never-in-plaintext";
/// New pods, one after the other.
const ROUNDS: usize = 8;
/// Longer than anybody would wait for a watch.
const LONG: Duration = Duration::from_secs(8);

/// A machine that is busy with other tests takes its time.
fn eventually<T, E: Display>(
    what: &str,
    check: impl FnMut() -> Result<T, E>,
) -> Result<T, posthaste_tests::Fault> {
    eventually_within(Duration::from_secs(60), what, check)
}

/// Both agents look for pods below roots of their own.
pub(crate) fn mesh(annotations: &[(&str, &str)]) -> Mesh {
    let mut mesh = Mesh::prepare(annotations).unwrap();
    mesh.split_cgroups();
    mesh.authority.start().unwrap();
    mesh.a.restart().unwrap();
    mesh.b.restart().unwrap();
    mesh
}

fn strict() -> Mesh {
    mesh(&[("mtls", "strict")])
}

fn call(mesh: &Mesh, from: &KubeletPod, to: &KubeletPod, text: &str) -> Result<(), String> {
    let answer = peer::call(from, "exchange", to.at(Family::V4, 8080), &[text]).unwrap();
    holds(answer["answer"] == text, format!("{answer}\n{}", logs(mesh)))
}

/// Whether the agent waits for the first process of a pod.
fn known(mesh: &Mesh, pod: &KubeletPod) -> Result<(), String> {
    let row = row(mesh, pod);
    holds(row["not_captured"].as_str().is_some_and(|why| why.contains("no process")), row.to_string())
}

/// The row of a pod in `posthaste workloads -o json` of its node.
fn row(mesh: &Mesh, pod: &KubeletPod) -> Value {
    let rows = mesh.agent(&pod.spec.node).json(&["workloads"]).unwrap();
    let is_it = |row: &&Value| row["pod"] == *pod.spec.name;
    rows.as_array().unwrap().iter().find(is_it).cloned().unwrap_or_default()
}

fn before(mesh: &Mesh, pod: &KubeletPod) -> usize {
    row(mesh, pod)["connections_before"].as_array().map_or(0, Vec::len)
}

/// What the agent leaves in a pod's namespace: the rule for replies and the switch that goes with it.
fn traces(pod: &KubeletPod) -> (bool, String) {
    let rules = pod.namespace().ask_ip(&["rule"]).unwrap();
    let read = || fs::read_to_string("/proc/sys/net/ipv4/tcp_fwmark_accept").unwrap();
    (rules.contains("fwmark"), pod.namespace().inside(read).unwrap().trim().to_owned())
}

#[test]
fn a_new_pod_is_captured_before_it_sends_anything() {
    let mut mesh = strict();
    let server = mesh.running_pod("b", "server", Driver::Systemd).unwrap();
    let _echo = peer::serve(&server, "echo", 8080).unwrap();
    let sniffer = Sniffer::start(mesh.world.bridge(), &[SECRET]).unwrap();
    let mut windows = Vec::new();
    for round in 0..ROUNDS {
        let driver = [Driver::Systemd, Driver::Cgroupfs][round % 2];
        let mut pod = mesh.kubelet_pod("a", &format!("client-{round}"), driver).unwrap();
        mesh.announce(&pod).unwrap();
        if round % 4 < 2 {
            // As in a cluster, where the object is there long before; else the agent learns of both at once.
            eventually("the agent to know it", || known(&mesh, &pod)).unwrap();
        }
        pod.start_pause().unwrap();
        // At once, and again until it works: what is not captured yet must not leave.
        eventually("the first call to work", || call(&mesh, &pod, &server, SECRET)).unwrap();
        // It is told a little after it works.
        let window = eventually("the window to be told", || {
            row(&mesh, &pod)["capture_window_us"].as_u64().ok_or_else(|| logs(&mesh))
        });
        windows.push(window.unwrap());
        mesh.remove(&pod).unwrap();
    }
    println!("from the first process to the capture, microseconds: {windows:?}");
    assert_eq!(sniffer.hits(), 0, "{:?}", sniffer.seen());
    assert_eq!(sniffer.seen().lost, 0);
    let text = mesh.a.get("/metrics").unwrap().1;
    assert!(
        text.contains(&format!("posthaste_capture_window_seconds_count{{node=\"a\"}} {ROUNDS}")),
        "{text}"
    );
}

/// The API server is away, or slower than the runtime: nobody knows the pod when it sends for the first time, and for long after.
#[test]
fn a_pod_that_is_announced_late_sends_nothing_meanwhile() {
    let mut mesh = strict();
    let server = mesh.running_pod("b", "server", Driver::Systemd).unwrap();
    let _echo = peer::serve(&server, "echo", 8080).unwrap();
    let sniffer = Sniffer::start(mesh.world.bridge(), &[SECRET]).unwrap();
    let mut pod = mesh.kubelet_pod("a", "client", Driver::Systemd).unwrap();
    pod.start_pause().unwrap();
    let end = Instant::now() + LONG;
    while Instant::now() < end {
        let answer = peer::call(&pod, "exchange", server.at(Family::V4, 8080), &[SECRET]).unwrap();
        assert_eq!(answer["error"], "PermissionDenied", "{answer}\n{}", logs(&mesh));
        std::thread::sleep(Duration::from_millis(100));
    }
    let names = |problem: &Value| {
        problem["object"] == format!("Pod/{}", pod.spec.uid)
            && problem["reason"].as_str().is_some_and(|reason| reason.contains("until it is known"))
    };
    let status = mesh.a.json(&["status"]).unwrap();
    assert!(status["problems"].as_array().unwrap().iter().any(names), "{status}");
    assert!(mesh.a.log().lines().any(|line| line.contains("WARN") && line.contains(&pod.spec.uid)));
    mesh.announce(&pod).unwrap();
    eventually("calls to work", || call(&mesh, &pod, &server, SECRET)).unwrap();
    assert_eq!(sniffer.hits(), 0, "{:?}", sniffer.seen());
    let metrics = mesh.a.get("/metrics").unwrap().1;
    assert!(!metrics.contains("posthaste_uncaptured_connections_total{verdict=\"refused\"} 0"), "{metrics}");
}

#[test]
fn pods_that_run_are_enrolled_with_their_connections_left_alone() {
    let mut mesh = mesh(&[]);
    mesh.manifests.put(objects::namespace(NAMESPACE, false, &[]));
    let mut pods =
        [("a", "client", Driver::Kind), ("b", "server", Driver::Cgroupfs)].map(|(node, name, driver)| {
            let mut pod = mesh.kubelet_pod(node, name, driver).unwrap();
            mesh.announce(&pod).unwrap();
            pod.start_pause().unwrap();
            pod
        });
    let [client, server] = &mut pods;
    let _echo = peer::serve(server, "echo", 8080).unwrap();
    let keep = peer::start_call(client, "keep", server.at(Family::V4, 8080), &["20"]).unwrap();
    peer::wait_line(&keep, "the connection", |line| line["open"] == true).unwrap();
    eventually("the agent to say why", || {
        let row = row(&mesh, client);
        holds(
            row["not_captured"].as_str().is_some_and(|why| why.contains("lacks the label")),
            row.to_string(),
        )
    })
    .unwrap();
    // Who asks learns which connections they have, before anything is changed.
    eventually("the present connection to be found", || {
        let rows =
            fetch_unix(&mesh.a.socket(), "/workloads?present=shop").map_err(|fault| fault.to_string())?.1;
        holds(rows.contains("\"connections_present\":1"), rows)
    })
    .unwrap();
    mesh.manifests.put(objects::namespace(NAMESPACE, true, &[("mtls", "strict")]));
    mesh.manifests.apply().unwrap();
    mesh.settle(client).unwrap();
    mesh.settle(server).unwrap();
    eventually("the connection to be listed on both sides", || {
        let counts = (before(&mesh, client), before(&mesh, server));
        holds(counts == (1, 1), format!("{counts:?}\n{}", logs(&mesh)))
    })
    .unwrap();
    assert_eq!(
        row(&mesh, client)["connections_before"][0]["remote"],
        server.at(Family::V4, 8080).to_string()
    );
    assert!(row(&mesh, client)["capture_window_us"].is_null(), "it did not just appear");
    let table = mesh.a.cli(&["workloads", "-o", "wide"]).unwrap();
    assert!(table.contains("1 connection from before"), "{table}");
    let said = "1 connection from before its capture goes on past the mesh";
    let coverage = mesh.a.json(&["coverage"]).unwrap();
    let covered = coverage["pods"].as_array().unwrap().iter().find(|pod| pod["pod"] == "client").unwrap();
    assert_eq!(
        (&covered["connections_before"], &covered["reasons"][0]),
        (&1.into(), &said.into()),
        "{covered}"
    );
    assert_eq!(coverage["everything_encrypted"], false);
    let text = mesh.a.cli(&["coverage"]).unwrap();
    assert!(text.contains(&format!("pod shop/client: {said}")), "{text}");
    let counted =
        mesh.a.metrics().unwrap().sum("posthaste_coverage_connections_before", &[("pod", "client")]);
    assert_eq!(counted, 1.0);
    let sniffer = Sniffer::start(mesh.world.bridge(), &[SECRET]).unwrap();
    call(&mesh, client, server, SECRET).unwrap();
    assert_eq!(sniffer.hits(), 0);
    // The old one goes on, and is forgotten when it ends.
    assert!(keep.stdout().lines().all(|line| !line.contains("end")), "{}", keep.stdout());
    drop(keep);
    eventually("nothing to be left", || {
        let counts = (before(&mesh, client), before(&mesh, server));
        holds(counts == (0, 0), format!("{counts:?}"))
    })
    .unwrap();
    assert_eq!(traces(client), (true, "1".to_owned()));
    // A connection through the agents goes on when the label is taken; when it has ended nothing of them stays.
    let keep = peer::start_call(client, "keep", server.at(Family::V4, 8080), &["20"]).unwrap();
    peer::wait_line(&keep, "the connection", |line| line["open"] == true).unwrap();
    mesh.manifests.put(objects::namespace(NAMESPACE, false, &[]));
    mesh.manifests.apply().unwrap();
    eventually("the pods to be let go", || {
        let straight = call(&mesh, client, server, SECRET).is_ok() && sniffer.hits() > 0;
        holds(straight, logs(&mesh))
    })
    .unwrap();
    assert!(keep.stdout().lines().all(|line| !line.contains("end")), "{}", keep.stdout());
    drop(keep);
    eventually("nothing of the agents to be left", || {
        let traces = (traces(client), traces(server));
        let clean = (false, "0".to_owned());
        holds(traces == (clean.clone(), clean), format!("{traces:?}\n{}", logs(&mesh)))
    })
    .unwrap();
}

#[test]
fn containers_restart_agents_restart_and_pods_go() {
    let mut mesh = strict();
    let mut client = mesh.running_pod("a", "client", Driver::Systemd).unwrap();
    let server = mesh.running_pod("b", "server", Driver::Systemd).unwrap();
    let _echo = peer::serve(&server, "echo", 8080).unwrap();
    let sniffer = Sniffer::start(mesh.world.bridge(), &[SECRET]).unwrap();
    call(&mesh, &client, &server, SECRET).unwrap();
    // No process is left in the pod for a while, as where a container crashes and there is no pause container.
    client.end_pause();
    std::thread::sleep(Duration::from_millis(1500));
    call(&mesh, &client, &server, SECRET).unwrap();
    assert!(!mesh.a.log().contains("released"), "{}", mesh.a.log());
    client.start_pause().unwrap();
    mesh.a.kill();
    assert!(failed(&peer::call(&client, "exchange", server.at(Family::V4, 8080), &[SECRET]).unwrap()));
    mesh.a.restart().unwrap();
    eventually("calls to work again", || call(&mesh, &client, &server, SECRET)).unwrap();
    assert_eq!(sniffer.hits(), 0, "{:?}", sniffer.seen());
    // The pod is deleted; kubelet removes its cgroup.
    mesh.remove(&client).unwrap();
    drop(client);
    wait_json(&mesh.a, &["status"], |status| {
        status["capture"]["pods"].as_array().is_some_and(Vec::is_empty) && map(status, "CGROUPS") == Some(2)
    })
    .unwrap();
}

fn map(status: &Value, name: &str) -> Option<u64> {
    let maps = status["capture"]["maps"].as_array()?;
    maps.iter().find(|map| map["name"] == name)?["entries"].as_u64()
}

#[test]
fn pods_of_the_host_network_are_reported() {
    let mut mesh = strict();
    let mut pod = mesh.kubelet_pod("a", "agent-of-something", Driver::Systemd).unwrap();
    let host = posthaste_tests::objects::PodSpec { host_network: true, ..pod.spec.clone() };
    mesh.manifests.put(host.object());
    mesh.manifests.apply().unwrap();
    pod.start_pause().unwrap();
    let reported = |rows: &Value| {
        let rows = rows.as_array().unwrap();
        rows.iter().any(|row| {
            row["pod"] == "agent-of-something"
                && row["captured_here"] == false
                && row["not_captured"].as_str().is_some_and(|why| why.contains("host's network"))
        })
    };
    wait_json(&mesh.a, &["workloads"], reported).unwrap();
    assert!(Path::new(pod.folder()).exists());
}
