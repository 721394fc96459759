//! AuthorizationPolicy, enforced by the called pod's agent: who is let in, what is denied before a byte arrives, and connections that
//! live when their right ends.

use crate::scene::{Scene, failed, mentions};
use posthaste_tests::{Family, eventually, peer, wait::holds};
use serde_json::{Value, json};

impl Scene {
    /// Writes a policy of the pods' namespace.
    fn policy(&mut self, name: &str, spec: &Value) {
        self.mesh.manifests.put(json!({
            "apiVersion": "posthaste.dev/v1alpha1", "kind": "AuthorizationPolicy",
            "metadata": {"name": name, "namespace": "shop"}, "spec": spec,
        }));
        self.mesh.manifests.apply().unwrap();
    }

    fn without_policy(&mut self, name: &str) {
        self.mesh.manifests.remove("AuthorizationPolicy", "shop", name);
        self.mesh.manifests.apply().unwrap();
    }
}

fn only(principal: &str) -> Value {
    json!({"action": "ALLOW", "selector": {"matchLabels": {}}, "rules": [{"from": [{"source": {"principals": [principal]}}]}]})
}

#[test]
fn who_is_not_allowed_never_reaches_the_application() {
    let mut scene = Scene::strict();
    let _echo = peer::serve(&scene.server, "echo", 8080).unwrap();
    let counting = peer::serve(&scene.server, "count", 8081).unwrap();
    let count = |scene: &Scene| {
        let answer =
            peer::call(&scene.client, "exchange", scene.server.at(Family::V4, 8081), &["x"]).unwrap();
        (answer, peer::lines(&counting.stdout()).len())
    };
    scene.works();
    scene.policy("callers", &only("cluster.local/ns/shop/sa/somebody-else"));
    scene.answers(false);
    scene
        .mesh
        .b
        .wait_for_log("the denial with its reason", |line| {
            mentions(line, &["policy_denied", "no AuthorizationPolicy allows it", "DENY"])
        })
        .unwrap();
    let before = peer::lines(&counting.stdout()).len();
    for _ in 0..20 {
        let (answer, seen) = count(&scene);
        assert!(
            failed(&answer) && seen == before,
            "the application saw a connection that was denied: {answer}"
        );
    }
    scene.policy("callers", &only("cluster.local/ns/shop/sa/client"));
    scene.answers(true);
    eventually("an allowed connection is seen", || {
        let (answer, seen) = count(&scene);
        holds(seen > before, answer.to_string())
    })
    .unwrap();
    scene.policy(
        "but-not",
        &json!({"action": "DENY", "rules": [{"to": [{"operation": {"ports": ["8080"]}}]}]}),
    );
    scene.answers(false);
    scene
        .mesh
        .b
        .wait_for_log("the denying rule", |line| {
            mentions(
                line,
                &[
                    "AuthorizationPolicy shop/but-not rules[0]",
                    "rbac_access_denied_matched_policy[ns[shop]-policy[but-not]-rule[0]]",
                ],
            )
        })
        .unwrap();
    scene.policy(
        "but-not",
        &json!({"action": "DENY", "rules": [{"to": [{"operation": {"ports": ["9090"]}}]}]}),
    );
    scene.answers(true);
}

#[test]
fn a_connection_that_loses_its_right_is_closed() {
    let mut scene = Scene::strict();
    let _echo = peer::serve(&scene.server, "echo", 8080).unwrap();
    let mut keep = peer::start_call(&scene.client, "keep", scene.address(Family::V4), &["20"]).unwrap();
    peer::wait_line(&keep, "the connection", |line| line["open"] == true).unwrap();
    // A policy that goes on allowing it changes nothing.
    scene.policy("callers", &only("cluster.local/ns/shop/sa/client"));
    scene.answers(true);
    assert!(keep.alive(), "the connection ended without reason");
    scene.policy("callers", &only("cluster.local/ns/shop/sa/somebody-else"));
    scene
        .mesh
        .b
        .wait_for_log("the end of the live connection", |line| {
            line["event"] == "close"
                && mentions(line, &["policy_denied", "no AuthorizationPolicy allows it", "connect_ms"])
        })
        .unwrap();
    peer::wait_line(&keep, "the end at the client", |line| line.get("end").is_some()).unwrap();
    scene.without_policy("callers");
    scene.answers(true);
}

#[test]
fn trials_and_default_access() {
    let mut scene = Scene::permissive();
    let _echo = peer::serve(&scene.server, "echo", 8080).unwrap();
    let mut tried = only("cluster.local/ns/shop/sa/somebody-else");
    tried["dryRun"] = json!(true);
    scene.policy("callers", &tried);
    eventually("the trial is recorded", || {
        scene.works();
        let metrics = scene.mesh.b.metrics().map_err(|fault| fault.to_string())?;
        let trials = metrics.sum("posthaste_policy_dry_run_denials_total", &[]);
        holds(trials >= 1.0, format!("{trials}"))
    })
    .unwrap();
    scene
        .mesh
        .b
        .wait_for_log("the trial", |line| mentions(line, &["shop/callers (dry run) would deny"]))
        .unwrap();
    scene.without_policy("callers");
    let namespace = scene.mesh.manifests.object("Namespace", "", "shop").unwrap();
    namespace["metadata"]["annotations"]["posthaste.dev/default-access"] = json!("deny");
    scene.mesh.manifests.apply().unwrap();
    scene.answers(false);
    // Plain text has no identity: a policy for a principal does not let it in, one for its address does.
    let outsider = scene.mesh.outsider("outsider").unwrap();
    let knock =
        |scene: &Scene| peer::call(&outsider, "exchange", scene.server.at(Family::V4, 8080), &["x"]).unwrap();
    scene.policy("callers", &only("*"));
    scene.answers(true);
    assert!(failed(&knock(&scene)));
    let block = format!("{}/32", outsider.v4);
    scene.policy("outside", &json!({"rules": [{"from": [{"source": {"ipBlocks": [block]}}]}]}));
    eventually("the address is let in", || holds(!failed(&knock(&scene)), scene.logs())).unwrap();
}
