//! Who is blamed where a way is made long, or an agent is stopped for a while. What is injected is ten times what a busy machine adds.

use crate::scene::Scene;
use posthaste_tests::{Family, Pod, eventually, peer};
use rustix::process::Signal;
use serde_json::Value;
use std::{thread::sleep, time::Duration};

/// The joined record of the call to the server's pod that took longest, when both agents know how all of them went.
fn longest(scene: &Scene, calls: usize) -> Value {
    let other = scene.mesh.b.socket().display().to_string();
    eventually("the call in both records", || {
        let all = scene.mesh.a.json(&["connections", "--joined", "--peer-socket", &other]);
        let all = all.map_err(|fault| fault.to_string())?;
        let whole = |one: &&Value| {
            one["caller"]["state"] == "closed"
                && one["called"].is_object()
                && one["called"]["state"] == "closed"
        };
        let found: Vec<&Value> = all.as_array().unwrap().iter().filter(whole).collect();
        let longest = found.iter().max_by_key(|one| one["caller"]["age_ms"].as_u64()).copied();
        longest.filter(|_| found.len() == calls).cloned().ok_or_else(|| all.to_string())
    })
    .unwrap()
}

/// Makes what leaves the pod slow: by a delay where the kernel has one, else by a rate at which a handshake takes as long. Whether the
/// kernel can do either.
fn slow_down(pod: &Pod) -> bool {
    let delay = ["tc", "qdisc", "add", "dev", "eth0", "root", "netem", "delay", "300ms"];
    let rate = [
        "tc", "qdisc", "add", "dev", "eth0", "root", "tbf", "rate", "20kbit", "burst", "1600", "latency",
        "20s",
    ];
    [&delay[..], &rate].into_iter().any(|line| pod.run(line).unwrap().success().is_ok())
}

fn assert_blames(record: &Value, party: &str, least_ms: u64) {
    let slowest = &record["shares"][0];
    assert_eq!(slowest["party"], party, "{record:#}");
    assert!(slowest["took_us"].as_u64() >= Some(least_ms * 1000), "{record:#}");
}

#[test]
fn a_long_way_is_the_networks() {
    let scene = Scene::strict();
    let _echo = peer::serve(&scene.server, "echo", 8080).unwrap();
    if !slow_down(&scene.server) {
        println!(
            "this kernel can neither delay nor limit what leaves a device: the network is not made slow here"
        );
        return;
    }
    // The first call builds the tunnel: its certificates are what a slow way takes long for.
    let answer = peer::call(&scene.client, "exchange", scene.server.at(Family::V4, 8080), &["x"]).unwrap();
    assert_eq!(answer["answer"], "x", "{answer}\n{}", scene.logs());
    assert_blames(&longest(&scene, 1), "network", 250);
}

#[test]
fn an_agent_that_stands_still_is_the_peers() {
    let scene = Scene::strict();
    let _echo = peer::serve(&scene.server, "echo", 8080).unwrap();
    let to = scene.server.at(Family::V4, 8080);
    let answer = peer::call(&scene.client, "exchange", to, &["the tunnel stands then"]).unwrap();
    assert_eq!(answer["answer"], "the tunnel stands then", "{answer}\n{}", scene.logs());
    longest(&scene, 1);
    scene.mesh.b.signal(Signal::STOP);
    let call = peer::start_call(&scene.client, "exchange", to, &["x"]).unwrap();
    sleep(Duration::from_millis(1000));
    scene.mesh.b.signal(Signal::CONT);
    let said = call.finish(Duration::from_secs(20)).unwrap().stdout;
    assert!(said.contains("\"x\""), "{said}\n{}", scene.logs());
    let record = longest(&scene, 2);
    assert_blames(&record, "peer", 300);
    let other = scene.mesh.b.socket().display().to_string();
    let table = scene.mesh.a.cli(&["connections", "--joined", "--peer-socket", &other]).unwrap();
    assert!(table.contains("peer "), "{table}");
}
