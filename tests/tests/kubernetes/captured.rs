//! What an agent captures it says on the pods, with the rights that are shipped, and takes it back.

use posthaste_tests::{
    Family, Mesh, Pod, Sniffer,
    agent::wait_json,
    mesh::NAMESPACE,
    objects, peer,
    wait::{eventually_within, holds},
};
use serde_json::json;
use std::time::Duration;

/// What a pod says in the API.
fn said(mesh: &Mesh, pod: &Pod) -> Option<String> {
    let cluster = mesh.cluster.as_ref().unwrap().lock();
    let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod.spec.name, "namespace": NAMESPACE}});
    let pod = cluster.read(&object).unwrap();
    pod["metadata"]["annotations"]["posthaste.dev/captured"].as_str().map(str::to_owned)
}

fn says(mesh: &Mesh, pod: &Pod, what: &str, wanted: Option<&str>) -> Option<String> {
    eventually_within(Duration::from_secs(60), what, || {
        let found = said(mesh, pod);
        let fits = match (&found, wanted) {
            (Some(found), Some(node)) => found.split_once('/').is_some_and(|(from, _)| from == node),
            (found, _) => found.is_none() && wanted.is_none(),
        };
        holds(fits, format!("{found:?}\n{}", mesh.agent(&pod.spec.node).log())).map(|()| found.clone())
    })
    .unwrap()
}

fn label(mesh: &mut Mesh, enabled: bool) {
    mesh.manifests.put(objects::namespace(NAMESPACE, enabled, &[]));
    mesh.manifests.apply().unwrap();
}

#[test]
fn pods_say_that_they_are_captured_as_long_as_they_are() {
    let mut mesh = Mesh::start_in_cluster(&[]).unwrap();
    let pods = [mesh.pod("a", "client").unwrap(), mesh.pod("b", "server").unwrap()];
    let [client, server] = &pods;
    let first = says(&mesh, client, "the client to be annotated", Some("a"));
    says(&mesh, server, "the server to be annotated", Some("b"));
    // Who dies takes nothing back, and the next agent has nothing to write.
    mesh.a.kill();
    assert_eq!(said(&mesh, client), first);
    mesh.a.restart().unwrap();
    mesh.settle(client).unwrap();
    assert_eq!(said(&mesh, client), first);
    label(&mut mesh, false);
    says(&mesh, client, "the annotation to go with the label", None);
    says(&mesh, server, "the same on the other node", None);
    label(&mut mesh, true);
    says(&mesh, client, "the client to be annotated again", Some("a"));
    says(&mesh, server, "the server to be annotated again", Some("b"));
    mesh.b.stop().unwrap();
    assert_eq!(said(&mesh, server), None, "a clean stop lets go of everything\n{}", mesh.b.log());
}

#[test]
fn a_right_that_is_missing_is_named_and_the_annotation_follows_when_it_comes() {
    let mut mesh = Mesh::prepare_in_cluster(&[]).unwrap();
    // The last rule of the role is the one that lets agents write.
    let role = |mesh: &Mesh, part: &str| {
        let rule = json!([{"op": "replace", "path": "/rules/LAST/resources/0", "value": part}]);
        let cluster = mesh.cluster.as_ref().unwrap().lock();
        let text = cluster.kubectl(&["get", "clusterrole", "posthaste-agent", "-o", "json"]).unwrap();
        let rules =
            serde_json::from_str::<serde_json::Value>(&text).unwrap()["rules"].as_array().unwrap().clone();
        assert_eq!(rules.last().unwrap()["verbs"], json!(["patch"]), "{text}");
        let rule = rule.to_string().replace("LAST", &(rules.len() - 1).to_string());
        cluster.kubectl(&["patch", "clusterrole", "posthaste-agent", "--type=json", "-p", &rule]).unwrap();
    };
    role(&mesh, "nothing");
    mesh.run().unwrap();
    let client = mesh.pod("a", "client").unwrap();
    let named = |status: &serde_json::Value| {
        let text = status.to_string();
        text.contains("Pod/shop/client") && text.contains("patch `pods/status`")
    };
    wait_json(&mesh.a, &["status"], named).unwrap();
    assert!(mesh.a.log().contains("posthaste.dev/captured"), "{}", mesh.a.log());
    role(&mesh, "pods/status");
    says(&mesh, &client, "the client to be annotated after all", Some("a"));
    wait_json(&mesh.a, &["status"], |status| !named(status)).unwrap();
}

/// A pod of a labelled namespace on a node without an agent.
#[test]
fn a_pod_that_nobody_captures_gets_plaintext_where_its_namespace_permits_and_nowhere_else() {
    const TEXT: &str = "to-whom-it-may-concern";
    let mut mesh = Mesh::start_in_cluster(&[]).unwrap();
    let client = mesh.pod("a", "client").unwrap();
    let captured = mesh.pod("b", "captured").unwrap();
    says(&mesh, &captured, "the captured pod to be annotated", Some("b"));
    let alone = mesh.pod_with("c", "alone", |_| {}).unwrap();
    for pod in [&alone, &captured] {
        mesh.service(&pod.spec.name, 8080, &[pod]).unwrap();
    }
    let _echoes = [&alone, &captured].map(|pod| peer::serve(pod, "echo", 8080).unwrap());
    let sniffer = Sniffer::start(mesh.world.bridge(), &[TEXT]).unwrap();
    let call = |pod: &Pod| peer::call(&client, "exchange", pod.at(Family::V4, 8080), &[TEXT]).unwrap();
    assert_eq!(call(&captured)["answer"], TEXT, "{}", mesh.a.log());
    assert_eq!(sniffer.hits(), 0, "{:?}", sniffer.seen());
    let answer = call(&alone);
    assert_eq!(answer["answer"], TEXT, "{answer}\n{}", mesh.a.log());
    let in_plain = sniffer.hits();
    assert!(in_plain > 0);
    // One that is known to be captured gets none, also when nobody takes a tunnel there.
    mesh.b.kill();
    assert_ne!(call(&captured)["answer"], TEXT);
    assert_eq!(sniffer.hits(), in_plain, "{:?}", sniffer.seen());
    mesh.manifests.put(objects::namespace(NAMESPACE, true, &[("mtls", "strict")]));
    mesh.manifests.apply().unwrap();
    wait_json(&mesh.a, &["workloads"], |rows| {
        rows.as_array().unwrap().iter().all(|row| row["namespace"] != NAMESPACE || row["mtls"] == "strict")
    })
    .unwrap();
    assert_ne!(call(&alone)["answer"], TEXT);
    assert_eq!(sniffer.hits(), in_plain, "{:?}", sniffer.seen());
}
