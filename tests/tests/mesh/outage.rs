//! In `strict` nothing leaves in plaintext, whatever is down.

use crate::scene::{Scene, failed, logs};
use posthaste_tests::{Family, Mesh, Sniffer, eventually, peer, wait::holds};

const SECRET: &str = "never-in-plaintext";

#[test]
fn the_ca_is_down_from_the_start() {
    let mut mesh = Mesh::prepare(&[("mtls", "strict")]).unwrap();
    // It has run once, so that there is a root; no agent has ever got a certificate.
    mesh.authority.start().unwrap();
    mesh.authority.kill();
    mesh.a.start().unwrap();
    mesh.b.start().unwrap();
    mesh.a.wait_ready().unwrap();
    mesh.b.wait_ready().unwrap();
    let client = mesh.pod("a", "client").unwrap();
    let server = mesh.pod("b", "server").unwrap();
    let _echo = peer::serve(&server, "echo", 8080).unwrap();
    let sniffer = Sniffer::start(mesh.world.bridge(), &[SECRET]).unwrap();
    let answer = peer::call(&client, "exchange", server.at(Family::V4, 8080), &[SECRET]).unwrap();
    assert!(failed(&answer), "{answer}");
    assert_eq!(sniffer.hits(), 0);
    mesh.authority.start().unwrap();
    eventually("calls to work once the CA is there", || {
        let answer = peer::call(&client, "exchange", server.at(Family::V4, 8080), &[SECRET]).unwrap();
        holds(answer["answer"] == SECRET, format!("{answer} {}", logs(&mesh)))
    })
    .unwrap();
    assert_eq!(sniffer.hits(), 0);
}

#[test]
fn the_old_certificates_serve_while_the_ca_is_away() {
    let mut scene = Scene::strict();
    let _echo = peer::serve(&scene.server, "echo", 8080).unwrap();
    scene.works();
    scene.mesh.authority.kill();
    for _ in 0..10 {
        scene.works();
    }
    // A new identity waits for the CA, and gets its certificate when it is back.
    let fresh = scene.mesh.pod("a", "fresh").unwrap();
    let sniffer = Sniffer::start(scene.mesh.world.bridge(), &[SECRET]).unwrap();
    let to = scene.server.at(Family::V4, 8080);
    assert!(failed(&peer::call(&fresh, "exchange", to, &[SECRET]).unwrap()));
    scene.mesh.authority.start().unwrap();
    eventually("the new identity to work", || {
        let answer = peer::call(&fresh, "exchange", to, &[SECRET]).unwrap();
        holds(answer["answer"] == SECRET, format!("{answer} {}", scene.logs()))
    })
    .unwrap();
    assert_eq!(sniffer.hits(), 0);
}

#[test]
fn the_peers_agent_is_down() {
    let mut scene = Scene::strict();
    let _echo = peer::serve(&scene.server, "echo", 8080).unwrap();
    scene.works();
    scene.mesh.b.kill();
    let sniffer = Sniffer::start(scene.mesh.world.bridge(), &[SECRET]).unwrap();
    for to in
        [scene.address(Family::V4), scene.server.at(Family::V4, 8080), scene.server.at(Family::V6, 8080)]
    {
        let answer = peer::call(&scene.client, "exchange", to, &[SECRET]).unwrap();
        assert!(failed(&answer), "{answer}");
    }
    assert_eq!(sniffer.hits(), 0, "{:?}", sniffer.seen());
    scene.mesh.b.restart().unwrap();
    eventually("calls to work again", || {
        let answer = scene.exchange(SECRET);
        holds(answer["answer"] == SECRET, format!("{answer} {}", scene.logs()))
    })
    .unwrap();
}

#[test]
fn the_peers_agent_was_stopped_cleanly() {
    let mut scene = Scene::strict();
    let _echo = peer::serve(&scene.server, "echo", 8080).unwrap();
    scene.works();
    scene.mesh.b.stop().unwrap();
    let sniffer = Sniffer::start(scene.mesh.world.bridge(), &[SECRET]).unwrap();
    let answer = scene.exchange(SECRET);
    assert!(failed(&answer), "{answer}");
    assert_eq!(sniffer.hits(), 0, "{:?}", sniffer.seen());
}

#[test]
fn there_is_no_snapshot_yet() {
    let mut scene = Scene::strict();
    let _echo = peer::serve(&scene.server, "echo", 8080).unwrap();
    scene.works();
    scene.mesh.a.kill();
    let manifests = scene.mesh.a.settings.manifests.clone();
    scene.mesh.a.settings.manifests = scene.mesh.world.folder().join("not-there-yet");
    let sniffer = Sniffer::start(scene.mesh.world.bridge(), &[SECRET]).unwrap();
    scene.mesh.a.start().unwrap();
    for to in [scene.address(Family::V4), scene.server.at(Family::V4, 8080)] {
        let answer = peer::call(&scene.client, "exchange", to, &[SECRET]).unwrap();
        assert!(failed(&answer), "{answer}");
    }
    assert_ne!(scene.mesh.a.get("/readyz").map_or(0, |(status, _)| status), 200);
    assert_eq!(sniffer.hits(), 0, "{:?}", sniffer.seen());
    scene.mesh.a.kill();
    scene.mesh.a.settings.manifests = manifests;
    scene.mesh.a.restart().unwrap();
    eventually("calls to work again", || {
        let answer = scene.exchange(SECRET);
        holds(answer["answer"] == SECRET, format!("{answer} {}", scene.logs()))
    })
    .unwrap();
    assert_eq!(sniffer.hits(), 0);
}
