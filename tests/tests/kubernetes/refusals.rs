//! What the agent cannot follow or may not read costs itself alone, and is named.

use crate::source::{Scene, mentions};
use posthaste_tests::{
    agent::wait_json,
    cluster::{Channel, SYSTEM},
    eventually,
    mesh::NAMESPACE,
    peer,
    wait::{eventually_within, holds},
};
use serde_json::{Value, json};
use std::time::Duration;

#[test]
fn an_invalid_object_of_each_kind_costs_itself_alone() {
    let scene = Scene::start(&[("mtls", "strict")]);
    let _echo = peer::serve(&scene.server, "echo", 8080).unwrap();
    {
        let cluster = scene.cluster();
        cluster.install_gateway_api(Channel::Experimental).unwrap();
        for object in invalid() {
            cluster.apply(&object).unwrap();
        }
    }
    for agent in [&scene.mesh.a, &scene.mesh.b] {
        let words: Vec<String> = invalid()
            .iter()
            .filter(|object| object["spec"].get("nodeName").is_none_or(|node| node == agent.node()))
            .map(|object| {
                let name = object["metadata"]["name"].as_str().unwrap();
                match object["kind"].as_str().unwrap() {
                    "Namespace" => format!("Namespace/{name}"),
                    kind => format!("{kind}/{NAMESPACE}/{name}"),
                }
            })
            .collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        wait_json(agent, &["status"], |status| mentions(status, &words)).unwrap();
    }
    scene.works();
}

/// The pods of a node are watched; those of other nodes are asked for one by one, by another right.
#[test]
fn a_denied_question_about_pods_of_other_nodes_is_named_as_well() {
    let scene = Scene::start(&[("mtls", "strict")]);
    let _echo = peer::serve(&scene.server, "echo", 8080).unwrap();
    let role = |patch: Value| {
        let role = ["patch", "clusterrole", "posthaste-agent", "--type=json", "-p", &patch.to_string()];
        scene.cluster().kubectl(&role).unwrap();
    };
    let watched = json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]});
    role(json!([{"op": "replace", "path": "/rules/0/resources", "value": ["namespaces", "services"]},
        {"op": "add", "path": "/rules/0", "value": watched}]));
    let kubeconfig = scene.mesh.a.settings.kubeconfig.clone().unwrap();
    eventually("the role to count", || {
        match scene.cluster().kubectl_as(&kubeconfig, &["auth", "can-i", "get", "pods", "-n", NAMESPACE]) {
            Ok(answer) => Err(answer),
            Err(_) => Ok(()),
        }
    })
    .unwrap();
    let answer = scene.exchange("to whom?");
    assert!(answer.get("error").is_some() || answer["answer"] == "", "{answer}");
    let words = ["the API server denies those of other nodes", "forbidden", "`get` and `list`", SYSTEM];
    wait_json(&scene.mesh.a, &["status"], |status| mentions(status, &words)).unwrap();
    assert!(
        scene.mesh.a.log().contains("cannot learn who pods of other nodes are"),
        "{}",
        scene.mesh.a.log()
    );
    role(json!([{"op": "add", "path": "/rules/0/verbs/-", "value": "get"}]));
    eventually("calls to work", || {
        let answer = scene.exchange("to whom?");
        holds(answer["answer"] == "to whom?", answer.to_string())
    })
    .unwrap();
    wait_json(&scene.mesh.a, &["status"], |status| !mentions(status, &words[..1])).unwrap();
}

/// What the API server takes and the mesh cannot follow, one for each kind (a Pod's is on node `a` and `b`).
fn invalid() -> Vec<Value> {
    let of = |version: &str, kind: &str, name: &str, rest: Value| {
        let mut object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}});
        if kind != "Namespace" {
            object["metadata"]["namespace"] = json!(NAMESPACE);
        }
        for (field, value) in rest.as_object().unwrap() {
            match (field.as_str(), object.get(field).is_some()) {
                ("metadata", true) => {
                    value.as_object().unwrap().iter().for_each(|(k, v)| object["metadata"][k] = v.clone());
                }
                _ => object[field] = value.clone(),
            }
        }
        object
    };
    let gateway = "gateway.networking.k8s.io/v1";
    let service = |name: &str| json!([{"group": "", "kind": "Service", "name": name, "port": 80}]);
    let mut objects = vec![
        of(
            "v1",
            "Namespace",
            "bad-namespace",
            json!({"metadata": {"annotations": {"posthaste.dev/mtls": "maybe"}}}),
        ),
        of(
            "v1",
            "Service",
            "bad-service",
            json!({"spec": {"ports": [{"port": 80}], "trafficDistribution": "Nowhere"}}),
        ),
        of(
            "discovery.k8s.io/v1",
            "EndpointSlice",
            "bad-slice",
            json!({"addressType": "IPv4", "endpoints": [{"addresses": ["127.0.0.1"]}], "ports": []}),
        ),
        of(
            "posthaste.dev/v1alpha1",
            "TrafficPolicy",
            "bad-policy",
            json!({"spec": {"targetRefs": [{"kind": "Service", "name": "nobody"}], "retry": {"attempts": 1}}}),
        ),
        of(
            "posthaste.dev/v1alpha1",
            "AuthorizationPolicy",
            "bad-callers",
            json!({"spec": {"action": "DENY", "targetRefs": [{"kind": "Service", "name": "nobody"}]}}),
        ),
        of(
            "gateway.networking.x-k8s.io/v1alpha1",
            "XBackendTrafficPolicy",
            "bad-budget",
            json!({"spec": {"targetRefs": [{"group": "", "kind": "Service", "name": "nobody"}],
                "retryConstraint": {"budget": {"percent": 20, "interval": "10s"}}}}),
        ),
        of(
            gateway,
            "HTTPRoute",
            "bad-http",
            json!({"spec": {"parentRefs": service("bad-service"), "rules": [{"backendRefs": [{"name": "nobody", "port": 80}]}]}}),
        ),
        of(
            gateway,
            "GRPCRoute",
            "bad-grpc",
            json!({"spec": {"parentRefs": service("server"), "rules": [{"backendRefs": [{"name": "nobody", "port": 80}]}]}}),
        ),
    ];
    for node in ["a", "b"] {
        objects.push(of(
            "v1",
            "Pod",
            &format!("bad-pod-{node}"),
            json!({
                "metadata": {"annotations": {"posthaste.dev/netns": "relative"}},
                "spec": {"nodeName": node, "containers": [{"name": "main", "image": "none"}]},
            }),
        ));
    }
    objects
}

#[test]
fn a_denied_permission_is_named_in_the_log_and_in_status() {
    let mut scene = Scene::start(&[("mtls", "strict")]);
    let _echo = peer::serve(&scene.server, "echo", 8080).unwrap();
    scene.works();
    let patch = json!([{"op": "test", "path": "/rules/1/resources/0", "value": "endpointslices"},
        {"op": "replace", "path": "/rules/1/resources/0", "value": "nothing"}]);
    scene
        .cluster()
        .kubectl(&["patch", "clusterrole", "posthaste-agent", "--type=json", "-p", &patch.to_string()])
        .unwrap();
    let kubeconfig = scene.mesh.a.settings.kubeconfig.clone().unwrap();
    eventually("the role to count", || {
        let may = ["auth", "can-i", "watch", "endpointslices.discovery.k8s.io", "--all-namespaces"];
        match scene.cluster().kubectl_as(&kubeconfig, &may) {
            Ok(answer) => Err(answer),
            Err(_) => Ok(()),
        }
    })
    .unwrap();
    scene.kept();
    // A watch that is open stays; a restart has to ask again.
    scene.mesh.a.kill();
    scene.mesh.a.start().unwrap();
    let words = ["endpointslices", "forbidden", "list", "watch", "discovery.k8s.io", SYSTEM];
    wait_json(&scene.mesh.a, &["status"], |status| mentions(status, &words)).unwrap();
    assert!(scene.mesh.a.log().contains("endpointslices"), "{}", scene.mesh.a.log());
    // With what was kept the node goes on meanwhile.
    scene.mesh.a.wait_ready().unwrap();
    scene.works();
    let back = json!([{"op": "replace", "path": "/rules/1/resources/0", "value": "endpointslices"}]);
    scene
        .cluster()
        .kubectl(&["patch", "clusterrole", "posthaste-agent", "--type=json", "-p", &back.to_string()])
        .unwrap();
    let gone = eventually_within(Duration::from_secs(90), "the problem to go", || {
        let status = scene.mesh.a.json(&["status"]).map_err(|fault| fault.to_string())?;
        holds(!mentions(&status, &["endpointslices"]), status.to_string())
    });
    gone.unwrap();
}
