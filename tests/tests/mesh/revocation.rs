//! Trust that is taken back from tunnels that stand: a certificate in a revocation list, on either side, and a root that is gone.

use crate::scene::Scene;
use posthaste_tests::{Family, Mesh, Running, certificates::Signer, eventually, peer, wait::holds};
use std::{fs, path::PathBuf};

impl Scene {
    /// A scene whose agents follow the lists of a folder.
    fn with_lists() -> (Self, PathBuf) {
        let mut mesh = Mesh::prepare(&[("mtls", "strict")]).unwrap();
        let folder = mesh.manifests.folder().parent().unwrap().join("lists");
        fs::create_dir_all(&folder).unwrap();
        for agent in [&mut mesh.a, &mut mesh.b] {
            agent.settings.extra.extend(["--crl".to_owned(), folder.display().to_string()]);
        }
        mesh.run().unwrap();
        (Self::within(mesh), folder)
    }

    /// A connection that stays open, and is answered.
    fn held(&self) -> Running {
        let keep = peer::start_call(&self.client, "keep", self.address(Family::V4), &["20"]).unwrap();
        peer::wait_line(&keep, "the connection", |line| line["open"] == true).unwrap();
        keep
    }
}

#[test]
fn a_revoked_certificate_ends_the_tunnels_that_stand_by_it() {
    let (scene, folder) = Scene::with_lists();
    let _echo = peer::serve(&scene.server, "echo", 8080).unwrap();
    let signer = Signer::of_mesh(&scene.mesh.authority.state()).unwrap();
    // The caller's is found by the called agent, the called one's by the caller's.
    for (name, finds) in [("client", "b"), ("server", "a")] {
        scene.answers(true);
        let mut keep = scene.held();
        let certificates =
            scene.mesh.agent(if finds == "b" { "a" } else { "b" }).json(&["certs"]).unwrap().to_string();
        let serial = serial(&certificates, name);
        fs::write(folder.join("of-others.crl"), signer.revoke("0badc0de").unwrap()).unwrap();
        scene.answers(true);
        assert!(keep.alive(), "a list that does not name it ended it");
        fs::write(folder.join("revoked.crl"), signer.revoke(&serial).unwrap()).unwrap();
        let ended = peer::wait_line(&keep, "the end of the connection", |line| line.get("end").is_some());
        ended.unwrap_or_else(|fault| panic!("{fault}\n{}", scene.logs()));
        eventually("the reason in the log", || {
            let log = scene.mesh.agent(finds).log();
            holds(log.contains("the peer's certificate was revoked"), log)
        })
        .unwrap();
        scene.answers(false);
        // A list that cannot be read takes nothing back.
        fs::write(folder.join("revoked.crl"), "no list").unwrap();
        scene.answers(false);
        fs::remove_file(folder.join("revoked.crl")).unwrap();
        fs::remove_file(folder.join("of-others.crl")).unwrap();
    }
    scene.answers(true);
}

/// The serial number of a service account's certificate, in the answer of `posthaste certs`.
fn serial(certificates: &str, account: &str) -> String {
    let all: serde_json::Value = serde_json::from_str(certificates).unwrap();
    let list = all.as_array().or_else(|| all["certificates"].as_array()).unwrap();
    let own =
        |one: &&serde_json::Value| one["identity"].as_str().unwrap().ends_with(&format!("/sa/{account}"));
    list.iter().find(own).unwrap()["serial"].as_str().unwrap().to_owned()
}

#[test]
fn a_root_that_is_gone_takes_its_tunnels_along() {
    let mut scene = Scene::strict();
    let _echo = peer::serve(&scene.server, "echo", 8080).unwrap();
    scene.works();
    let keep = scene.held();
    // Another CA at the same place: its root is the only one from now on.
    scene.mesh.authority.kill();
    fs::remove_dir_all(scene.mesh.authority.state()).unwrap();
    scene.mesh.authority.start().unwrap();
    peer::wait_line(&keep, "the end of the connection", |line| line.get("end").is_some()).unwrap();
    eventually("the reason in a log", || {
        let logs = scene.mesh.a.log() + &scene.mesh.b.log();
        holds(logs.contains("does not lead to a root that is trusted now"), logs)
    })
    .unwrap();
    // Both sides got certificates of the new root without being told.
    scene.answers(true);
}
