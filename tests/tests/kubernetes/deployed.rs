//! The manifests as users apply them: every overlay fits the server's schemas, and the rights hold what they promise.

use posthaste_tests::{
    World,
    cluster::{Cluster, SYSTEM},
    eventually,
};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

pub(crate) struct Served {
    pub(crate) cluster: Cluster,
    // Last: the server ends before its world.
    world: World,
}

impl Served {
    /// For files of the test's own.
    pub(crate) fn folder(&self) -> &Path {
        self.world.folder()
    }
}

pub(crate) fn serve() -> Served {
    let world = World::create().unwrap();
    let mut cluster = Cluster::prepare(world.site("api", 1, 3).unwrap(), world.folder());
    cluster.start().unwrap();
    Served { cluster, world }
}

fn folder(name: &str) -> String {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name).display().to_string()
}

/// Folder of an overlay of the user's own: one of ours with components and images.
pub(crate) fn overlay_with(served: &Served, base: &str, components: &[String], images: &Value) -> String {
    let up = "../".repeat(served.cluster.admin_kubeconfig().components().count());
    let ours = |name: &str| format!("{up}{}", PathBuf::from(folder(name)).canonicalize().unwrap().display());
    let components: Vec<String> = components.iter().map(|name| ours(name)).collect();
    let text = json!({"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
        "resources": [ours(base)], "components": components, "images": images});
    let file = served.cluster.file("kustomization.yaml", &text.to_string()).unwrap();
    file.parent().unwrap().display().to_string()
}

#[test]
fn every_overlay_applies_with_strict_validation_and_again_changes_nothing() {
    let served = serve();
    for overlay in ["", "overlays/strict", "overlays/istio-ca"] {
        let folder = folder(overlay);
        let apply = ["apply", "--server-side", "--force-conflicts", "--validate=strict", "-k", &folder];
        let first = served.cluster.kubectl(&apply).unwrap();
        assert!(first.contains("daemonset.apps/posthaste-agent"), "{overlay}: {first}");
        assert_eq!(first.contains("posthaste-ca"), overlay != "overlays/istio-ca", "{overlay}: {first}");
        let same = served.cluster.kubectl(&["diff", "--server-side", "--force-conflicts", "-k", &folder]);
        assert!(same.is_ok(), "{overlay}: {same:?}");
    }
    let settings = served.cluster.kubectl(&["-n", SYSTEM, "get", "configmaps", "-o", "yaml"]).unwrap();
    assert!(
        settings.contains("POSTHASTE_MTLS: strict") && settings.contains("istiod.istio-system.svc:15012")
    );
    // Two clients of the same field would be refused without force; unknown fields are, by name.
    let typo = json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "typo", "namespace": "default"}, "spec": {"prots": []}});
    let file = served.cluster.file("typo.json", &typo.to_string()).unwrap().display().to_string();
    let refused =
        served.cluster.kubectl(&["apply", "--validate=strict", "-f", &file]).unwrap_err().to_string();
    assert!(refused.contains("spec.prots"), "{refused}");
}

/// For clusters with the Prometheus operator, whose kinds this server does not have.
#[test]
fn the_component_for_monitoring_fits_into_an_overlay() {
    let served = serve();
    let folder = overlay_with(&served, "", &["components/monitoring".to_owned()], &json!([]));
    let built = served.cluster.kubectl(&["kustomize", &folder]).unwrap();
    assert_eq!(built.matches("kind: PodMonitor").count(), 2, "{built}");
    assert!(built.contains("portNumber: 15020") && built.contains("kind: DaemonSet"), "{built}");
}

#[test]
fn the_rights_are_what_is_needed_and_no_more() {
    let served = serve();
    let cluster = &served.cluster;
    cluster.deploy("").unwrap();
    let may = |account: &str, verb: &str, what: &str, namespace: &str| {
        let whom = format!("--as=system:serviceaccount:{SYSTEM}:{account}");
        let place = if namespace.is_empty() {
            "--all-namespaces".to_owned()
        } else {
            format!("--namespace={namespace}")
        };
        // A slash behind a kind names an object; the part of an object is a flag.
        let (what, part) = what.split_once('#').unwrap_or((what, ""));
        let part = format!("--subresource={part}");
        let said = cluster.kubectl(&["auth", "can-i", verb, what, &part, &place, &whom]);
        // `no` is a failure of the command.
        said.unwrap_or_else(|fault| fault.to_string()).trim().ends_with("yes")
    };
    let (agent, ca) = ("posthaste-agent", "posthaste-ca");
    let table = [
        (agent, "watch", "endpointslices.discovery.k8s.io", "", true),
        (agent, "watch", "trafficpolicies.posthaste.dev", "", true),
        (agent, "watch", "authorizationpolicies.posthaste.dev", "", true),
        (agent, "patch", "pods#status", "shop", true),
        (agent, "patch", "pods", "shop", false),
        (agent, "get", "secrets", SYSTEM, false),
        (agent, "create", "pods", SYSTEM, false),
        (ca, "create", "tokenreviews.authentication.k8s.io", "", true),
        (ca, "watch", "pods", "", true),
        (ca, "patch", "authorizationpolicies.posthaste.dev#status", "", true),
        (ca, "patch", "authorizationpolicies.posthaste.dev", "", false),
        (ca, "get", "secrets/posthaste-ca-roots", SYSTEM, true),
        (ca, "update", "secrets/posthaste-ca-given", SYSTEM, false),
        (ca, "get", "secrets/another", SYSTEM, false),
        (ca, "list", "secrets", SYSTEM, false),
        (ca, "get", "secrets/posthaste-ca-roots", "shop", false),
        (ca, "delete", "pods", "shop", false),
    ];
    for (account, verb, what, namespace, allowed) in table {
        assert_eq!(may(account, verb, what, namespace), allowed, "{account} {verb} {what} in {namespace:?}");
    }
}

#[test]
fn an_agent_writes_annotations_of_its_own_pods_and_nothing_else() {
    let served = serve();
    let cluster = &served.cluster;
    cluster.deploy("").unwrap();
    cluster.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})).unwrap();
    let account = json!({"name": "web", "namespace": "shop"});
    cluster.apply(&json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account})).unwrap();
    let token = {
        cluster.apply(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "a"}})).unwrap();
        let agent = cluster.running_pod(SYSTEM, "agent-a", "posthaste-agent", "a").unwrap();
        cluster.projected_token(&agent, "https://kubernetes.default.svc").unwrap()
    };
    for (pod, node) in [("here", "a"), ("there", "b")] {
        cluster.running_pod("shop", pod, "web", node).unwrap();
    }
    let client = cluster.client_with("agent-a", &token).unwrap();
    let patch = |pod: &str, patch: &Value| {
        let answer = client.merge(&format!("/api/v1/namespaces/shop/pods/{pod}/status"), patch);
        answer.and_then(|answer| answer.success()).map_err(|fault| fault.to_string())
    };
    let captured = json!({"metadata": {"annotations": {"posthaste.dev/captured": "true"}}});
    eventually("the admission policy and the role to count", || patch("here", &captured)).unwrap();
    let refusals = [
        ("there", captured, "only pods of its own node"),
        (
            "here",
            json!({"metadata": {"annotations": {"vault.example/role": "admin"}}}),
            "begin with posthaste.dev/",
        ),
        ("here", json!({"metadata": {"labels": {"app": "bank"}}}), "nothing of a pod but its annotations"),
        ("here", json!({"status": {"phase": "Failed"}}), "nothing of a pod but its annotations"),
    ];
    for (pod, change, reason) in refusals {
        eventually("the refusal", || match patch(pod, &change) {
            Err(said) if said.contains(reason) => Ok(()),
            said => Err(format!("{said:?} instead of {reason}")),
        })
        .unwrap();
    }
}
