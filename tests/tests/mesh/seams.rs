//! Where the kernel, the agent and a pod's own processes meet: listeners that are not meant for anybody, namespaces that must
//! die with their pods, starts that fail.

use crate::scene::{Scene, failed, logs};
use posthaste_tests::{Family, Mesh, eventually, peer, wait::holds};

/// Names of the bridge's ports; a port goes when the network namespace of its other end is gone.
fn ports(mesh: &Mesh) -> Vec<String> {
    let shown = mesh.world.bridge().ask_ip(&["-o", "link", "show", "type", "veth"]).unwrap();
    shown.lines().filter_map(|line| Some(line.split_whitespace().nth(1)?.to_owned())).collect()
}

#[test]
fn a_namespace_dies_with_its_pod() {
    let mut mesh = Mesh::start_strict().unwrap();
    let server = mesh.pod("b", "server").unwrap();
    let _echo = peer::serve(&server, "echo", 8080).unwrap();
    let before = ports(&mesh);
    let pod = mesh.pod("a", "visitor").unwrap();
    mesh.settle(&pod).unwrap();
    let _served = peer::serve(&pod, "echo", 8080).unwrap();
    for _ in 0..5 {
        let answer = peer::call(&pod, "exchange", server.at(Family::V4, 8080), &["hello"]).unwrap();
        assert_eq!(answer["answer"], "hello", "{answer}\n{}", logs(&mesh));
        let answer = peer::call(&server, "exchange", pod.at(Family::V4, 8080), &["hello"]).unwrap();
        assert_eq!(answer["answer"], "hello", "{answer}\n{}", logs(&mesh));
    }
    assert_eq!(ports(&mesh).len(), before.len() + 1);
    mesh.remove(&pod).unwrap();
    drop((_served, pod));
    eventually("the namespace of the pod to die", || {
        let now = ports(&mesh);
        holds(now.len() == before.len(), format!("before {before:?} now {now:?}\n{}", logs(&mesh)))
    })
    .unwrap();
}

#[test]
fn the_agents_listeners_serve_nobody_who_dials_them() {
    let scene = Scene::permissive();
    let before = scene.mesh.a.descriptors().unwrap();
    let rows = scene.mesh.a.access_log().len();
    for port in [15001, 15006] {
        let loopback = std::net::SocketAddr::from(([127, 0, 0, 1], port));
        for to in [loopback, scene.client.at(Family::V4, port), scene.client.at(Family::V6, port)] {
            let answer = peer::call(&scene.client, "exchange", to, &["anybody?"]).unwrap();
            assert!(failed(&answer), "{to}: {answer}");
        }
    }
    let outside = peer::call(&scene.server, "exchange", scene.client.at(Family::V4, 15006), &["x"]).unwrap();
    assert!(failed(&outside), "{outside}");
    let descriptors = scene.mesh.a.descriptors().unwrap();
    let rows = scene.mesh.a.access_log().len() - rows;
    assert!(
        descriptors < before + 40 && rows < 40,
        "{before} then {descriptors} descriptors, {rows} log lines"
    );
}

#[test]
fn a_start_that_fails_leaves_nothing() {
    let mut mesh = Mesh::prepare(&[]).unwrap();
    mesh.authority.start().unwrap();
    // What comes last at a start: the port of the metrics is taken.
    let _taken = peer::serve(&mesh.a.site, "echo", posthaste_tests::agent::METRICS_PORT).unwrap();
    mesh.a.start().unwrap();
    eventually("the agent to give up", || holds(!mesh.a.alive(), "it runs".to_owned())).unwrap();
    let pins: Vec<_> = std::fs::read_dir(mesh.a.bpffs()).into_iter().flatten().collect();
    assert!(pins.is_empty(), "{pins:?} are left\n{}", mesh.a.log());
}
