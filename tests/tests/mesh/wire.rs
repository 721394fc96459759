//! What can be seen between the nodes.

use crate::scene::Scene;
use posthaste_tests::{Sniffer, eventually, peer, site::FAMILIES, wait::holds};

const SECRET: &str = "a-secret-that-must-not-be-seen";

#[test]
fn the_payload_is_never_seen() {
    let scene = Scene::strict();
    let _echo = peer::serve(&scene.server, "echo", 8080).unwrap();
    let sniffer = Sniffer::start(scene.mesh.world.bridge(), &[SECRET]).unwrap();
    for family in FAMILIES {
        for _ in 0..20 {
            let answer = peer::call(&scene.client, "exchange", scene.address(family), &[SECRET]).unwrap();
            assert_eq!(answer["answer"], SECRET, "{answer}\n{}", scene.logs());
        }
    }
    let seen = sniffer.seen();
    assert_eq!((seen.hits[0], seen.lost), (0, 0), "{seen:?}");
    assert!(seen.tls_records >= 40, "{seen:?}");
    assert!(seen.ports.contains_key(&15008) && !seen.ports.contains_key(&8080), "{seen:?}");
}

/// The same eyes do see it where there is no mesh: the test above proves something.
#[test]
fn the_payload_is_seen_without_a_mesh() {
    let mut scene = Scene::permissive();
    let _echo = peer::serve(&scene.server, "echo", 8080).unwrap();
    let outsider = scene.mesh.outsider("outsider").unwrap();
    let sniffer = Sniffer::start(scene.mesh.world.bridge(), &[SECRET]).unwrap();
    for family in FAMILIES {
        let answer = peer::call(&outsider, "exchange", scene.server.at(family, 8080), &[SECRET]).unwrap();
        assert_eq!(answer["answer"], SECRET, "{answer}\n{}", scene.logs());
    }
    eventually("both directions of both families", || {
        holds(sniffer.hits() >= 4, format!("{:?}", sniffer.seen()))
    })
    .unwrap();
}

/// Neither the first connection nor any before the tunnel stands leaks a byte.
#[test]
fn not_even_the_first_bytes() {
    let mut scene = Scene::strict();
    let _echo = peer::serve(&scene.server, "echo", 8080).unwrap();
    let sniffer = Sniffer::start(scene.mesh.world.bridge(), &[SECRET]).unwrap();
    let fresh = scene.mesh.pod_with("a", "fresh", |_| {}).unwrap();
    scene.mesh.settle(&fresh).unwrap();
    let answer = peer::call(&fresh, "exchange", scene.address(FAMILIES[0]), &[SECRET]).unwrap();
    assert_eq!(answer["answer"], SECRET, "{answer}\n{}", scene.logs());
    assert_eq!(sniffer.hits(), 0);
}
