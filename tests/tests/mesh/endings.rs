//! How connections end: half-close, reset, a client that leaves at each moment of the set-up.

use crate::scene::{Scene, mentions};
use posthaste_tests::{Family, agent::wait_json, peer, site::FAMILIES};

#[test]
fn half_close_keeps_the_other_direction() {
    let scene = Scene::strict();
    let _server = peer::serve(&scene.server, "half-close", 8080).unwrap();
    for family in FAMILIES {
        let answer = peer::call(&scene.client, "exchange", scene.address(family), &["twelve bytes"]).unwrap();
        assert_eq!(answer["answer"], "after the end: 12 bytes\n", "{answer}\n{}", scene.logs());
        assert_eq!(answer["end"], "eof");
    }
}

#[test]
fn half_close_by_the_server() {
    let scene = Scene::strict();
    let server = peer::serve(&scene.server, "speak-then-read", 8080).unwrap();
    let answer = scene.exchange("said after the server was done");
    assert_eq!(answer["answer"], "done speaking\n", "{answer}\n{}", scene.logs());
    let line = peer::wait_line(&server, "the server's count", |line| line["served"].is_object());
    let line = line.unwrap_or_else(|late| panic!("{late}\n{answer}\n{}", scene.logs()));
    assert_eq!(line["served"]["bytes"], "said after the server was done".len(), "{line}");
    assert_eq!(line["served"]["end"], "eof");
}

#[test]
fn a_reset_by_the_server_arrives_as_a_reset() {
    let scene = Scene::strict();
    let _server = peer::serve(&scene.server, "reset", 8080).unwrap();
    let answer = peer::call(&scene.client, "read-after-reset", scene.address(Family::V4), &[]).unwrap();
    assert_eq!(answer["end"], "ConnectionReset", "{answer}\n{}", scene.logs());
    scene.mesh.a.wait_for_log("the reset in the record", |line| mentions(line, &["server_reset"])).unwrap();
}

#[test]
fn a_reset_by_the_client_arrives_as_a_reset() {
    let scene = Scene::strict();
    let server = peer::serve(&scene.server, "count", 8080).unwrap();
    peer::call(&scene.client, "leave", scene.address(Family::V4), &["first-byte-reset"]).unwrap();
    // Of a hundred some may be gone before the tunnel stands; those that reached the server end with a reset.
    let line = peer::wait_line(&server, "an ending", |line| line["served"].is_object()).unwrap();
    assert_eq!(line["served"]["end"], "ConnectionReset", "{line}\n{}", scene.logs());
    scene.mesh.b.wait_for_log("the reset in the record", |line| mentions(line, &["client_reset"])).unwrap();
}

#[test]
fn a_client_that_leaves_at_each_moment() {
    let scene = Scene::strict();
    let _echo = peer::serve(&scene.server, "echo", 8080).unwrap();
    scene.works();
    let moments = [
        "connecting",
        "connected",
        "connected-reset",
        "first-byte",
        "first-byte-reset",
        "half-closed",
        "unread",
    ];
    for moment in moments {
        let answer = peer::call(&scene.client, "leave", scene.address(Family::V4), &[moment]).unwrap();
        assert_eq!(answer["left"], moment, "{answer}\n{}", scene.logs());
        scene.works();
    }
    for agent in [&scene.mesh.a, &scene.mesh.b] {
        wait_json(agent, &["connections"], |answer| answer["active"] == 0).unwrap();
    }
}

/// The refusal comes back at once: the reset that the pod's kernel answers must find the agent's delivery socket.
#[test]
fn nobody_listens() {
    let scene = Scene::strict();
    for family in FAMILIES {
        let start = std::time::Instant::now();
        let answer =
            peer::call(&scene.client, "exchange", scene.address(family), &["is anybody there?"]).unwrap();
        assert!(crate::scene::failed(&answer), "{answer}");
        let took = start.elapsed();
        assert!(took < std::time::Duration::from_secs(1), "{family:?}: {took:?}\n{}", scene.logs());
    }
    scene.mesh.a.wait_for_log("the refusal", |line| mentions(line, &["CONNECT"])).unwrap();
}
