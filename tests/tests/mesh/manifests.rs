//! Manifests that do not parse or do not fit: said where, and everything else works on.

use crate::scene::{Scene, logs};
use posthaste_tests::{agent::wait_json, eventually, peer, wait::holds};

const BAD_PORT: &str = "\
apiVersion: v1
kind: Service
metadata:
  name: crooked
  namespace: shop
spec:
  clusterIPs: [10.96.0.200]
  ports:
  - port: eighty
---
apiVersion: v1
kind: Pod
metadata:
  name: nowhere
  namespace: shop
  annotations:
    posthaste.dev/netns: /run/netns/there-is-no-such-namespace
spec:
  nodeName: a
status:
  podIPs:
  - ip: 10.77.2.222
";

#[test]
fn a_bad_object_is_shown_and_the_rest_works() {
    let mut scene = Scene::strict();
    let _echo = peer::serve(&scene.server, "echo", 8080).unwrap();
    scene.works();
    scene.mesh.manifests.raw("bad.yaml", BAD_PORT).unwrap();
    let words = ["bad.yaml", "crooked", "spec.ports[0].port", "nowhere", "there-is-no-such-namespace"];
    wait_json(&scene.mesh.a, &["status"], |status| crate::scene::mentions(status, &words)).unwrap();
    scene.works();
    // Also an object that comes later is taken.
    let late = scene.mesh.pod("a", "late").unwrap();
    let answer =
        peer::call(&late, "exchange", scene.address(posthaste_tests::Family::V4), &["late"]).unwrap();
    assert_eq!(answer["answer"], "late", "{answer}\n{}", logs(&scene.mesh));
    let table = scene.mesh.a.cli(&["status"]).unwrap();
    assert!(table.contains("bad.yaml") && table.contains("crooked"), "{table}");
    scene.mesh.manifests.remove_file("bad.yaml").unwrap();
    wait_json(&scene.mesh.a, &["status"], |status| !crate::scene::mentions(status, &["crooked"])).unwrap();
}

#[test]
fn a_bad_reload_keeps_the_last_good_snapshot() {
    let scene = Scene::strict();
    let _echo = peer::serve(&scene.server, "echo", 8080).unwrap();
    scene.works();
    let good = scene.mesh.manifests.text().unwrap();
    for bad in ["kind: [unclosed", "\u{0}\u{1}\u{2}", "{}\n---\n- just\n- a list\n"] {
        scene.mesh.manifests.raw("mesh.yaml", bad).unwrap();
        for agent in [&scene.mesh.a, &scene.mesh.b] {
            wait_json(agent, &["status"], |status| crate::scene::mentions(status, &["mesh.yaml"])).unwrap();
        }
        scene.works();
    }
    scene.mesh.manifests.raw("mesh.yaml", &good).unwrap();
    eventually("no problem is left", || {
        let status = scene.mesh.a.json(&["status"]).map_err(|fault| fault.to_string())?;
        holds(!crate::scene::mentions(&status, &["mesh.yaml"]), status.to_string())
    })
    .unwrap();
    scene.works();
}
