//! The agent is killed under load; the kernel decides alone until the next one takes over.

use crate::scene::{Scene, failed, logs};
use posthaste_tests::{Family, Mesh, Sniffer, agent::wait_json, eventually, peer, wait::holds};
use std::{
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

/// What `peer repeat` sends.
const NEEDLE: &str = "repeat";

/// A scene whose kernel takes an agent for dead after one second.
fn scene(annotations: &[(&str, &str)]) -> Scene {
    let mut mesh = Mesh::prepare(annotations).unwrap();
    for agent in [&mut mesh.a, &mut mesh.b] {
        agent.settings.extra.extend(["--heartbeat-limit".to_owned(), "1".to_owned()]);
    }
    mesh.authority.start().unwrap();
    mesh.a.restart().unwrap();
    mesh.b.restart().unwrap();
    let client = mesh.pod("a", "client").unwrap();
    let server = mesh.pod("b", "server").unwrap();
    let service = mesh.service("server", 8080, &[&server]).unwrap();
    Scene { client, server, service, mesh }
}

/// Restarts the agent of a node and returns how long after its readiness the first call was captured.
fn captured_again(scene: &mut Scene, sniffer: &Sniffer, node: &str) -> Duration {
    let agent = if node == "a" { &mut scene.mesh.a } else { &mut scene.mesh.b };
    agent.restart().unwrap();
    let ready = Instant::now();
    let to = scene.server.at(Family::V4, 8080);
    eventually("a captured call", || {
        let before = sniffer.hits();
        let answer = peer::call(&scene.client, "exchange", to, &[NEEDLE]).unwrap();
        holds(answer["answer"] == NEEDLE && sniffer.hits() == before, answer.to_string())
    })
    .unwrap();
    ready.elapsed()
}

#[test]
fn strict_the_callers_agent_is_killed_under_load() {
    let mut scene = scene(&[("mtls", "strict")]);
    let _echo = peer::serve(&scene.server, "echo", 8080).unwrap();
    let sniffer = Sniffer::start(scene.mesh.world.bridge(), &[NEEDLE]).unwrap();
    let to = scene.server.at(Family::V4, 8080);
    let load = peer::start_call(&scene.client, "repeat", to, &["5000"]).unwrap();
    sleep(Duration::from_secs(1));
    scene.mesh.a.kill();
    let report = peer::lines(&load.finish(Duration::from_secs(30)).unwrap().stdout).pop().unwrap();
    assert!(report["right"].as_u64() > Some(0), "{report}");
    assert!(
        !report["failures"].as_object().unwrap().is_empty(),
        "calls must fail while no agent lives: {report}"
    );
    // Towards the pod of the dead agent neither.
    let _own = peer::serve(&scene.client, "echo", 8080).unwrap();
    let inbound =
        peer::call(&scene.mesh.b.site, "exchange", scene.client.at(Family::V4, 8080), &[NEEDLE]).unwrap();
    assert!(failed(&inbound), "{inbound}");
    assert_eq!(sniffer.hits(), 0, "{:?}", sniffer.seen());
    let took = captured_again(&mut scene, &sniffer, "a");
    assert!(took < Duration::from_secs(1), "{took:?}\n{}", scene.logs());
    // What was refused meanwhile is known to the new agent.
    wait_json(&scene.mesh.a, &["status"], |status| meanwhile(status, "refused") > 0).unwrap();
    assert_eq!(sniffer.hits(), 0);
}

#[test]
fn strict_the_called_agent_is_killed_under_load() {
    let mut scene = scene(&[("mtls", "strict")]);
    let outside = scene.mesh.outsider("outsider").unwrap();
    let _echo = peer::serve(&scene.server, "echo", 8080).unwrap();
    let sniffer = Sniffer::start(scene.mesh.world.bridge(), &[NEEDLE]).unwrap();
    let to = scene.server.at(Family::V4, 8080);
    let load = peer::start_call(&scene.client, "repeat", to, &["5000"]).unwrap();
    sleep(Duration::from_secs(1));
    scene.mesh.b.kill();
    let report = peer::lines(&load.finish(Duration::from_secs(60)).unwrap().stdout).pop().unwrap();
    assert!(!report["failures"].as_object().unwrap().is_empty(), "{report}");
    let plain = peer::call(&outside, "exchange", to, &["from outside"]).unwrap();
    assert!(failed(&plain), "{plain}");
    assert_eq!(sniffer.hits(), 0, "{:?}", sniffer.seen());
    let took = captured_again(&mut scene, &sniffer, "b");
    assert!(took < Duration::from_secs(1), "{took:?}\n{}", scene.logs());
    wait_json(&scene.mesh.b, &["status"], |status| meanwhile(status, "refused") > 0).unwrap();
}

#[test]
fn permissive_calls_go_on_directly() {
    let mut scene = scene(&[]);
    let _echo = peer::serve(&scene.server, "echo", 8080).unwrap();
    let sniffer = Sniffer::start(scene.mesh.world.bridge(), &[NEEDLE]).unwrap();
    let to = scene.server.at(Family::V4, 8080);
    assert_eq!(
        peer::call(&scene.client, "exchange", to, &[NEEDLE]).unwrap()["answer"],
        NEEDLE,
        "{}",
        scene.logs()
    );
    assert_eq!(sniffer.hits(), 0);
    scene.mesh.a.kill();
    scene.mesh.b.kill();
    sleep(Duration::from_millis(1500));
    let report = peer::call(&scene.client, "repeat", to, &["1000"]).unwrap();
    assert_eq!(report["failures"], serde_json::json!({}), "{report}");
    assert!(sniffer.hits() > 0);
    scene.mesh.b.restart().unwrap();
    let took = captured_again(&mut scene, &sniffer, "a");
    assert!(took < Duration::from_secs(1), "{took:?}\n{}", scene.logs());
    wait_json(&scene.mesh.a, &["status"], |status| meanwhile(status, "passed") > 0).unwrap();
    wait_json(&scene.mesh.b, &["status"], |status| meanwhile(status, "passed") > 0).unwrap();
}

/// The namespace's own choice against the default.
#[test]
fn fail_mode_can_be_chosen() {
    let mut scene = scene(&[("fail-mode", "closed")]);
    let _echo = peer::serve(&scene.server, "echo", 8080).unwrap();
    scene.works();
    scene.mesh.a.kill();
    sleep(Duration::from_millis(1500));
    let answer = peer::call(&scene.client, "exchange", scene.server.at(Family::V4, 8080), &["x"]).unwrap();
    assert!(failed(&answer), "{answer}");
    let local: serde_json::Value =
        peer::call(&scene.client, "exchange", "127.0.0.1:9".parse().unwrap(), &["x"]).unwrap();
    assert_eq!(local["error"], "ConnectionRefused", "loopback is nobody's business: {local}");
    scene.mesh.a.restart().unwrap();
    eventually("calls to work again", || {
        let answer = scene.exchange("does it work?");
        holds(answer["answer"] == "does it work?", format!("{answer} {}", logs(&scene.mesh)))
    })
    .unwrap();
}

/// The way out that `deploy/README.md` names for a node whose agent does not come back.
#[test]
fn a_node_lets_everything_go_once_the_pins_are_removed() {
    let mut scene = scene(&[("mtls", "strict")]);
    let outside = scene.mesh.outsider("outsider").unwrap();
    let _echoes = [&outside, &scene.server.site, &scene.client.site]
        .map(|site| peer::serve(site, "echo", 8080).unwrap());
    let sniffer = Sniffer::start(scene.mesh.world.bridge(), &[NEEDLE]).unwrap();
    let both_ways = |scene: &Scene| {
        let (to, from) = (outside.at(Family::V4, 8080), scene.client.at(Family::V4, 8080));
        let out = peer::call(&scene.client, "exchange", to, &[NEEDLE]).unwrap();
        [out, peer::call(&outside, "exchange", from, &[NEEDLE]).unwrap()]
    };
    scene.mesh.a.kill();
    sleep(Duration::from_millis(1500));
    for answer in both_ways(&scene) {
        assert!(failed(&answer), "strict, and no agent lives: {answer}");
    }
    let removed = Command::new("rm").arg("-r").arg(scene.mesh.a.bpffs()).status().unwrap();
    assert!(removed.success(), "{removed}");
    // The kernel frees the links a moment after their pins.
    eventually("calls to go straight, out and in", || {
        let answers = both_ways(&scene);
        holds(answers.iter().all(|answer| answer["answer"] == NEEDLE), format!("{answers:?}"))
    })
    .unwrap();
    let took = captured_again(&mut scene, &sniffer, "a");
    assert!(took < Duration::from_secs(5), "{took:?}\n{}", scene.logs());
}

/// Counts of the time without an agent, summed over pods: `refused` or `passed`.
fn meanwhile(status: &serde_json::Value, kind: &str) -> u64 {
    let pods = status["capture"]["meanwhile"].as_array();
    pods.into_iter().flatten().filter_map(|pod| pod[kind].as_u64()).sum()
}
