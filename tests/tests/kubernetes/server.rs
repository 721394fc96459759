//! The API server itself and the harness around it: what the other tests stand on.

use posthaste_tests::{
    World,
    cluster::{Channel, Cluster},
    eventually,
    wait::holds,
};
use serde_json::{Value, json};
use std::path::Path;

struct Served {
    cluster: Cluster,
    // Last: the server ends before its world.
    _world: World,
}

fn serve() -> Served {
    let world = World::create().unwrap();
    let site = world.site("api", 1, 3).unwrap();
    let mut cluster = Cluster::prepare(site, world.folder());
    cluster.start().unwrap();
    Served { cluster, _world: world }
}

#[test]
fn objects_are_kept_over_a_restart_and_kubectl_sees_them() {
    let mut served = serve();
    let cluster = &mut served.cluster;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}});
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"clusterIP": "10.96.0.77", "clusterIPs": ["10.96.0.77"], "ports": [{"port": 80}]},
    });
    cluster.apply(&namespace).unwrap();
    cluster.apply(&service).unwrap();
    // The columns of built-in kinds are not in the table that this server prints.
    let list = ["-n", "shop", "get", "services", "--output=jsonpath={.items[*].spec.clusterIP}"];
    assert_eq!(cluster.kubectl(&list).unwrap(), "10.96.0.77");
    cluster.stop().unwrap();
    assert!(cluster.kubectl(&["-n", "shop", "get", "services", "--request-timeout=2s"]).is_err());
    cluster.start().unwrap();
    assert_eq!(cluster.read(&service).unwrap()["spec"]["clusterIP"], "10.96.0.77");
    cluster.delete(&service).unwrap();
    cluster.delete(&service).unwrap();
    assert!(cluster.read(&service).is_err());
}

#[test]
fn a_token_may_do_what_its_roles_allow_and_no_more() {
    let served = serve();
    let cluster = &served.cluster;
    let kubeconfig = cluster.kubeconfig_of("posthaste-system", "reader").unwrap();
    let list = ["get", "services", "--all-namespaces"];
    let refused = cluster.kubectl_as(&kubeconfig, &list).unwrap_err().to_string();
    assert!(refused.contains("forbidden") && refused.contains("services"), "{refused}");
    let role = ["create", "clusterrole", "reader", "--verb=list", "--resource=services"];
    cluster.kubectl(&role).unwrap();
    let account = "--serviceaccount=posthaste-system:reader";
    cluster.kubectl(&["create", "clusterrolebinding", "reader", "--clusterrole=reader", account]).unwrap();
    // The server's view of roles comes from a watch.
    eventually("the role to count", || cluster.kubectl_as(&kubeconfig, &list)).unwrap();
    assert!(cluster.kubectl_as(&kubeconfig, &["get", "pods", "--all-namespaces"]).is_err());
}

#[test]
fn both_bundles_of_the_gateway_api_and_our_own_definitions_are_served() {
    for (channel, experiments) in [(Channel::Standard, false), (Channel::Experimental, true)] {
        let served = serve();
        let cluster = &served.cluster;
        cluster.install_gateway_api(channel).unwrap();
        cluster.install_crds().unwrap();
        let kinds = cluster.kubectl(&["api-resources", "--output=name"]).unwrap();
        for kind in
            ["httproutes.gateway.networking.k8s.io", "grpcroutes.gateway", "trafficpolicies.posthaste.dev"]
        {
            assert!(kinds.contains(kind), "{channel:?} {kind}: {kinds}");
        }
        assert_eq!(kinds.contains("xbackendtrafficpolicies.gateway"), experiments, "{kinds}");
    }
}

#[test]
fn the_examples_fit_the_schema_and_a_bad_value_does_not() {
    let served = serve();
    let cluster = &served.cluster;
    cluster.install_gateway_api(Channel::Experimental).unwrap();
    cluster.install_crds().unwrap();
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples/policies");
    let mut count = 0;
    cluster.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})).unwrap();
    for entry in std::fs::read_dir(examples).unwrap().flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "yaml") {
            cluster.apply_file(&entry.path()).unwrap();
            count += 1;
        }
    }
    assert!(count >= 3, "{count}");
    let policy = |spec: Value| ("posthaste.dev/v1alpha1", "TrafficPolicy", spec);
    let callers = |spec: Value| ("posthaste.dev/v1alpha1", "AuthorizationPolicy", spec);
    let target = json!([{"kind": "Service", "name": "web"}]);
    let grant = json!({"from": [], "to": [{"group": "", "kind": "Service"}]});
    let refusals = [
        (policy(json!({"targetRefs": target, "retry": {"attempts": 11}})), "spec.retry.attempts"),
        (policy(json!({"targetRefs": target, "retry": {"codes": [200]}})), "spec.retry.codes[0]"),
        (policy(json!({"targetRefs": target, "hedging": {"delay": "soon"}})), "spec.hedging.delay"),
        (
            policy(json!({"targetRefs": target, "loadBalancer": {"type": "ConsistentHash"}})),
            "consistentHash is given with type ConsistentHash",
        ),
        (policy(json!({"targetRefs": [{"kind": "Pod", "name": "web"}]})), "spec.targetRefs[0].kind"),
        (callers(json!({"action": "ALLOWED"})), "spec.action: Unsupported value"),
        (callers(json!({"targetRefs": [{"kind": "Pod", "name": "web"}]})), "spec.targetRefs[0].kind"),
        (
            callers(json!({"targetRefs": target, "selector": {"matchLabels": {"app": "web"}}})),
            "give targetRefs or selector, not both",
        ),
        (callers(json!({"rules": [{"to": [{"operation": {"methods": "GET"}}]}]})), "methods"),
        (("gateway.networking.k8s.io/v1beta1", "ReferenceGrant", grant), "spec.from"),
    ];
    for ((version, kind, spec), words) in refusals {
        let metadata = json!({"name": "bad", "namespace": "shop"});
        let bad = json!({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec});
        let refused = cluster.apply(&bad).expect_err(words).to_string();
        assert!(refused.contains(words), "{words}: {refused}");
    }
}

#[test]
fn history_is_gone_after_a_compaction() {
    let served = serve();
    let cluster = &served.cluster;
    let client = cluster.client().unwrap();
    let list = client.read("/api/v1/namespaces?limit=1").unwrap().success().unwrap();
    let next = list["metadata"]["continue"].as_str().unwrap().to_owned();
    for number in 0..5 {
        let name = format!("n{number}");
        cluster.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})).unwrap();
    }
    let page = format!("/api/v1/namespaces?limit=1&continue={next}");
    assert_eq!(client.read(&page).unwrap().status, 200);
    cluster.compact();
    eventually("410 for what is gone", || {
        let answer = client.read(&page).map_err(|fault| fault.to_string())?;
        holds(answer.status == 410, format!("{answer:?}"))
    })
    .unwrap();
}
