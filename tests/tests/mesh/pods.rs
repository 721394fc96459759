//! Pods that come, go, and come back; enrolment that is given and taken.

use std::time::Duration;

use crate::scene::{Scene, logs};
use posthaste_tests::{
    Family, Mesh, Sniffer, eventually, mesh::NAMESPACE, objects, peer, site::FAMILIES, wait::holds,
};

#[test]
fn a_pod_comes_back_with_its_address_and_another_namespace() {
    let mut mesh = Mesh::start_strict().unwrap();
    let client = mesh.pod("a", "client").unwrap();
    let sniffer = Sniffer::start(mesh.world.bridge(), &["same address"]).unwrap();
    for round in 0..3 {
        let server = mesh.pod_at("b", "server", 77, |spec| spec.name = format!("server-{round}")).unwrap();
        mesh.settle(&server).unwrap();
        let echo = peer::serve(&server, "echo", 8080).unwrap();
        for family in FAMILIES {
            // The first call may meet the tunnel of the pod that was there before; it must not wait for long.
            eventually("the call to work", || {
                let answer =
                    peer::call(&client, "exchange", server.at(family, 8080), &["same address"]).unwrap();
                holds(answer["answer"] == "same address", format!("round {round}: {answer}\n{}", logs(&mesh)))
            })
            .unwrap();
        }
        mesh.remove(&server).unwrap();
        drop((echo, server));
    }
    assert_eq!(sniffer.hits(), 0);
}

#[test]
fn the_callers_pod_comes_back_too() {
    let mut mesh = Mesh::start_strict().unwrap();
    let server = mesh.pod("b", "server").unwrap();
    let _echo = peer::serve(&server, "echo", 8080).unwrap();
    for round in 0..3 {
        let client = mesh.pod_at("a", "client", 78, |_| {}).unwrap();
        mesh.settle(&client).unwrap();
        let answer = eventually("the call to work", || {
            let answer = peer::call(&client, "exchange", server.at(Family::V4, 8080), &["again"]).unwrap();
            holds(answer["answer"] == "again", format!("round {round}: {answer}\n{}", logs(&mesh)))
        });
        answer.unwrap();
        mesh.remove(&client).unwrap();
    }
}

/// The annotation of a pod that is there names another namespace, in one write.
#[test]
fn a_pod_is_replaced_in_one_step() {
    let mut mesh = Mesh::start_strict().unwrap();
    let client = mesh.pod("a", "client").unwrap();
    let first = mesh.pod_at("b", "server", 77, |_| {}).unwrap();
    mesh.settle(&first).unwrap();
    let echo = peer::serve(&first, "echo", 8080).unwrap();
    let to = first.at(Family::V4, 8080);
    assert_eq!(peer::call(&client, "exchange", to, &["x"]).unwrap()["answer"], "x", "{}", logs(&mesh));
    drop((echo, first));
    let site = mesh.world.site("server-again", 3, 77).unwrap();
    let object = mesh.manifests.object("Pod", NAMESPACE, "server").unwrap();
    object["metadata"]["annotations"]["posthaste.dev/netns"] =
        site.namespace().path().display().to_string().into();
    mesh.manifests.apply().unwrap();
    let _echo = peer::serve(&site, "echo", 8080).unwrap();
    eventually("the call to work", || {
        let answer = peer::call(&client, "exchange", to, &["y"]).unwrap();
        holds(answer["answer"] == "y", format!("{answer}\n{}", logs(&mesh)))
    })
    .unwrap();
}

#[test]
fn pods_that_run_already_are_enrolled_by_the_label() {
    let mut mesh = Mesh::start(&[]).unwrap();
    mesh.manifests.put(objects::namespace(NAMESPACE, false, &[]));
    mesh.manifests.apply().unwrap();
    let client = mesh.pod_with("a", "client", |_| {}).unwrap();
    let server = mesh.pod_with("b", "server", |_| {}).unwrap();
    let _echo = peer::serve(&server, "echo", 8080).unwrap();
    let sniffer = Sniffer::start(mesh.world.bridge(), &["labelled"]).unwrap();
    // An agent that reads the pods before the namespace captures them for a moment.
    for agent in [&mesh.a, &mesh.b] {
        posthaste_tests::agent::wait_json(agent, &["workloads"], |rows| {
            let free = rows.as_array().into_iter().flatten();
            let lacks =
                |row: &&serde_json::Value| row["not_captured"].to_string().contains("lacks the label");
            free.filter(lacks).count() == 1
        })
        .unwrap();
    }
    let call = || peer::call(&client, "exchange", server.at(Family::V4, 8080), &["labelled"]).unwrap();
    assert_eq!(call()["answer"], "labelled");
    eventually("the sniffer to see it", || holds(sniffer.hits() > 0, "nothing in plain text")).unwrap();
    mesh.manifests.put(objects::namespace(NAMESPACE, true, &[("mtls", "strict")]));
    mesh.manifests.apply().unwrap();
    mesh.settle(&client).unwrap();
    mesh.settle(&server).unwrap();
    let before = sniffer.hits();
    assert_eq!(call()["answer"], "labelled", "{}", logs(&mesh));
    assert_eq!(sniffer.hits(), before);
    mesh.manifests.put(objects::namespace(NAMESPACE, false, &[]));
    mesh.manifests.apply().unwrap();
    eventually("the pods to be let go", || {
        let answer = call();
        holds(answer["answer"] == "labelled" && sniffer.hits() > before, answer.to_string())
    })
    .unwrap();
}

/// Established connections end with their pod, and the records say so.
#[test]
fn a_pod_that_leaves_ends_its_connections() {
    let mut scene = Scene::strict();
    let _echo = peer::serve(&scene.server, "echo", 8080).unwrap();
    let keep = peer::start_call(&scene.client, "keep", scene.address(Family::V4), &["20"]).unwrap();
    peer::wait_line(&keep, "the connection", |line| line["open"] == true).unwrap();
    scene.mesh.manifests.remove("Pod", NAMESPACE, "server");
    scene.mesh.manifests.apply().unwrap();
    peer::wait_line(&keep, "its end", |line| line.get("end").is_some()).unwrap();
    scene.mesh.b.wait_for_log("why it ended", |line| crate::scene::mentions(line, &["pod_left"])).unwrap();
}

/// What was captured stays so, both ways, until it ends; then the pod is without our rules.
#[test]
fn a_connection_goes_on_when_the_label_goes() {
    let mut mesh = Mesh::start_strict().unwrap();
    let (client, server) = (mesh.pod("a", "client").unwrap(), mesh.pod("b", "server").unwrap());
    let _echo = peer::serve(&server, "echo", 8080).unwrap();
    let keep = peer::start_call(&client, "keep", server.at(Family::V4, 8080), &["20"]).unwrap();
    peer::wait_line(&keep, "the connection", |line| line["open"] == true).unwrap();
    mesh.manifests.put(objects::namespace(NAMESPACE, false, &[]));
    mesh.manifests.apply().unwrap();
    for agent in [&mesh.a, &mesh.b] {
        eventually("the release", || holds(agent.log().contains("released"), agent.log())).unwrap();
    }
    // Longer than an agent takes to look for what it may undo.
    std::thread::sleep(Duration::from_secs(3));
    let carried = || {
        let answer = mesh.b.json(&["connections"]).unwrap();
        answer["connections"][0]["sent_bytes"].as_u64().ok_or_else(|| answer.to_string())
    };
    let before = carried().unwrap();
    eventually("more bytes on it", || {
        let now = carried()?;
        holds(now >= before + 20, format!("{before} bytes and then {now}\n{}", logs(&mesh)))
    })
    .unwrap();
    let rules = || server.namespace().ask_ip(&["rule"]).unwrap();
    assert!(rules().contains("fwmark"), "{}", rules());
    drop(keep);
    eventually("the pod to be as before", || holds(!rules().contains("fwmark"), rules())).unwrap();
}
