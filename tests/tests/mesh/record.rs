//! What the agents tell: access log, metrics, connection table, commands.

use crate::scene::{Scene, mentions};
use posthaste_tests::{Family, agent::wait_json, eventually, peer, wait::holds};

const CLIENT: &str = "spiffe://cluster.local/ns/shop/sa/client";
const SERVER: &str = "spiffe://cluster.local/ns/shop/sa/server";

#[test]
fn the_access_log_has_a_line_at_open_and_at_close() {
    let scene = Scene::strict();
    let _echo = peer::serve(&scene.server, "echo", 8080).unwrap();
    let keep = peer::start_call(&scene.client, "keep", scene.address(Family::V4), &["50"]).unwrap();
    peer::wait_line(&keep, "the connection", |line| line["open"] == true).unwrap();
    for agent in [&scene.mesh.a, &scene.mesh.b] {
        let words = [CLIENT, SERVER, "mutual_tls"];
        agent
            .wait_for_log("a line at open", |line| line["event"] == "open" && mentions(line, &words))
            .unwrap();
    }
    drop(keep);
    let words = [CLIENT, SERVER, "mutual_tls", "server.shop.svc.cluster.local"];
    scene
        .mesh
        .a
        .wait_for_log("a line at close", |line| line["event"] == "close" && mentions(line, &words))
        .unwrap();
}

#[test]
fn metrics_have_istios_names_and_the_right_values() {
    let scene = Scene::strict();
    let _echo = peer::serve(&scene.server, "echo", 8080).unwrap();
    for _ in 0..10 {
        assert_eq!(scene.exchange("0123456789")["answer"], "0123456789", "{}", scene.logs());
    }
    let labels = [
        ("source_principal", CLIENT),
        ("destination_principal", SERVER),
        ("source_workload", "client"),
        ("source_workload_namespace", "shop"),
        ("destination_workload", "server"),
        ("request_protocol", "tcp"),
        ("connection_security_policy", "mutual_tls"),
    ];
    for (agent, reporter) in [(&scene.mesh.a, "source"), (&scene.mesh.b, "destination")] {
        let labels = [&labels[..], &[("reporter", reporter)]].concat();
        eventually("ten connections in the metrics", || {
            let metrics = agent.metrics().map_err(|fault| fault.to_string())?;
            let sums = ["connections_opened", "connections_closed", "sent_bytes", "received_bytes"]
                .map(|name| metrics.sum(&format!("istio_tcp_{name}_total"), &labels));
            holds(sums == [10.0, 10.0, 100.0, 100.0], format!("{reporter}: {sums:?}"))
        })
        .unwrap();
    }
    let service =
        [("destination_service", "server.shop.svc.cluster.local"), ("destination_service_name", "server")];
    let metrics = scene.mesh.a.metrics().unwrap();
    assert_eq!(metrics.sum("istio_tcp_connections_opened_total", &service), 10.0);
    assert_eq!(metrics.sum("istio_tcp_connections_failed_total", &[]), 0.0);
    // A failure is counted with its flag.
    let nobody = peer::call(&scene.client, "exchange", scene.server.at(Family::V4, 9999), &["x"]).unwrap();
    assert!(crate::scene::failed(&nobody), "{nobody}");
    eventually("the failure in the metrics", || {
        let metrics = scene.mesh.a.metrics().map_err(|fault| fault.to_string())?;
        let failed = metrics.sum("istio_tcp_connections_failed_total", &[("response_flags", "CONNECT")]);
        holds(failed >= 1.0, format!("{failed}"))
    })
    .unwrap();
}

#[test]
fn the_connection_table_shows_who_talks_to_whom() {
    let scene = Scene::strict();
    let _echo = peer::serve(&scene.server, "echo", 8080).unwrap();
    let keep = peer::start_call(&scene.client, "keep", scene.address(Family::V4), &["5"]).unwrap();
    peer::wait_line(&keep, "the connection", |line| line["open"] == true).unwrap();
    let endpoint = scene.server.at(Family::V4, 8080).to_string();
    for agent in [&scene.mesh.a, &scene.mesh.b] {
        let words = [CLIENT, SERVER, &endpoint, "mutual_tls", "srtt", "retrans"];
        wait_json(agent, &["connections"], |answer| mentions(answer, &words)).unwrap();
        let table = agent.cli(&["connections"]).unwrap();
        assert!(table.contains("client") && table.contains("server"), "{table}");
        assert!(table.lines().all(|line| line.chars().count() <= 240), "{table}");
    }
    drop(keep);
}

#[test]
fn every_command_answers_in_words_and_in_json() {
    let scene = Scene::strict();
    let _echo = peer::serve(&scene.server, "echo", 8080).unwrap();
    scene.works();
    for command in ["status", "connections", "workloads", "services", "certs"] {
        let words = scene.mesh.a.cli(&[command]).unwrap();
        assert!(!words.trim().is_empty(), "{command}");
        scene.mesh.a.json(&[command]).unwrap();
    }
    let check = scene.mesh.a.json(&["check"]).unwrap();
    assert!(check.to_string().contains("found"), "{check}");
    wait_json(&scene.mesh.a, &["certs"], |answer| mentions(answer, &[CLIENT])).unwrap();
    wait_json(&scene.mesh.a, &["services"], |answer| {
        mentions(answer, &["server", &scene.server.at(Family::V4, 8080).to_string()])
    })
    .unwrap();
    let completions = scene.mesh.a.cli(&["completions", "bash"]).unwrap();
    assert!(completions.contains("posthaste"), "{completions}");
}

#[test]
fn health_and_readiness() {
    let mut mesh = posthaste_tests::Mesh::start(&[]).unwrap();
    assert_eq!(mesh.a.get("/healthz").unwrap().0, 200);
    assert_eq!(mesh.a.get("/readyz").unwrap().0, 200);
    mesh.a.stop().unwrap();
    assert!(mesh.a.get("/healthz").is_err());
}
