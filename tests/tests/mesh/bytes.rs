//! Many bytes, many connections, and memory that stays bounded.

use crate::scene::{Scene, logs};
use posthaste_tests::{
    Family, Mesh, peer,
    wait::{eventually_within, holds},
};
use std::{thread, time::Duration};

const MINUTES: Duration = Duration::from_secs(180);

#[test]
fn a_gibibyte_both_ways_at_once() {
    let scene = Scene::strict();
    let server = peer::serve(&scene.server, "both-ways", 8080).unwrap();
    let bytes = (1_u64 << 30).to_string();
    for family in [Family::V4, Family::V6] {
        let bytes = if family == Family::V4 { bytes.as_str() } else { "67108864" };
        let answer =
            peer::call_within(MINUTES, &scene.client, "both-ways", scene.address(family), &[bytes]).unwrap();
        assert_eq!(answer["right"], true, "{answer}\n{}", scene.logs());
        let served = peer::wait_line(&server, "the server's hash", |line| {
            line["served"]["bytes"].as_u64().map(|n| n.to_string()).as_deref() == Some(bytes)
        });
        assert_eq!(served.unwrap()["served"]["hash"], answer["sent_hash"]);
    }
}

#[test]
fn five_thousand_connections_at_once() {
    let scene = Scene::strict();
    let _echo = peer::serve(&scene.server, "echo", 8080).unwrap();
    let answer =
        peer::call_within(MINUTES, &scene.client, "crowd", scene.address(Family::V4), &["5000", "3"])
            .unwrap();
    assert_eq!(answer["right"], 5000, "{answer}\n{}", scene.logs());
    // All of them end, and the table empties.
    for agent in [&scene.mesh.a, &scene.mesh.b] {
        eventually_within(MINUTES, "the table to be empty", || {
            let answer = agent.json(&["connections"]).map_err(|error| error.to_string())?;
            holds(answer["active"] == 0, answer["active"].to_string())
        })
        .unwrap();
    }
}

/// Each of them has two connections in the pod's namespace, the caller's to the agent and the agent's to the application in the caller's name,
/// which must never have the same port: a handshake of the one would meet the other.
#[test]
fn a_crowd_from_outside_the_mesh_is_served() {
    let mut mesh = Mesh::prepare(&[("mtls", "permissive")]).unwrap();
    mesh.run().unwrap();
    let server = mesh.pod("b", "server").unwrap();
    let outsider = mesh.outsider("outsider").unwrap();
    let _echo = peer::serve(&server, "echo", 8080).unwrap();
    for family in [Family::V4, Family::V6] {
        let crowd = ["2000", "1"];
        let answer = peer::call_within(MINUTES, &outsider, "crowd", server.at(family, 8080), &crowd).unwrap();
        assert_eq!(answer["right"], 2000, "{answer}\n{}", logs(&mesh));
    }
}

#[test]
fn a_reader_that_stops_bounds_the_memory() {
    let scene = Scene::strict();
    let slow = peer::serve(&scene.server, "slow", 8080).unwrap();
    // Warm, so that the first connection's own cost is not counted.
    let before = (scene.mesh.a.rss_kib().unwrap(), scene.mesh.b.rss_kib().unwrap());
    let length = (256_u64 << 20).to_string();
    let flood =
        peer::start_call(&scene.client, "flood", scene.address(Family::V4), &[&length, "120"]).unwrap();
    peer::wait_line(&slow, "the pause", |line| line["paused"] == true).unwrap();
    thread::sleep(Duration::from_secs(8));
    let stalled = peer::lines(&flood.stdout()).pop().expect("the writer was never stopped");
    let written = stalled["written"].as_u64().unwrap();
    assert!(written < 64 << 20, "{written} bytes went to a reader that does not read");
    let after = (scene.mesh.a.rss_kib().unwrap(), scene.mesh.b.rss_kib().unwrap());
    for (before, after) in [(before.0, after.0), (before.1, after.1)] {
        assert!(after < before + 24 * 1024, "an agent grew from {before} to {after} KiB");
    }
    let end = flood.finish(MINUTES).unwrap();
    let end = peer::lines(&end.stdout).pop().unwrap();
    assert_eq!(end["end"], "enough");
    let rest = peer::wait_line(&slow, "the rest", |line| line["served"].is_object()).unwrap();
    assert_eq!(rest["served"]["rest"]["bytes"], end["written"].as_u64().unwrap() - (64 << 10));
}

#[test]
fn a_server_that_never_reads_stops_only_its_own_client() {
    let scene = Scene::strict();
    let stuck = peer::serve(&scene.server, "stuck", 8080).unwrap();
    let _echo = peer::serve(&scene.server, "echo", 8081).unwrap();
    let before = scene.mesh.a.rss_kib().unwrap();
    let flood =
        peer::start_call(&scene.client, "flood", scene.address(Family::V4), &["1000000000", "60"]).unwrap();
    peer::wait_line(&stuck, "the server to accept", |line| line.get("accepted").is_some()).unwrap();
    peer::wait_line(&flood, "the writer to stop", |line| line.get("written").is_some()).unwrap();
    // The same tunnel carries other connections meanwhile.
    for _ in 0..20 {
        let to = scene.server.at(Family::V4, 8081);
        let answer = peer::call(&scene.client, "exchange", to, &["still alive"]).unwrap();
        assert_eq!(answer["answer"], "still alive", "{answer}\n{}", scene.logs());
    }
    let after = scene.mesh.a.rss_kib().unwrap();
    assert!(after < before + 24 * 1024, "the agent grew from {before} to {after} KiB");
}
