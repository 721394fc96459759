//! The commands from outside: a kubeconfig, the right agent by node or pod, through the API server's own port-forward.

use posthaste_tests::{
    Cluster, Family, Mesh, Site, World, agent,
    cluster::{AGENT, SYSTEM},
    eventually,
    kubelet::Driver,
    mesh::NAMESPACE,
    objects, peer,
    wait::{eventually_within, holds},
};
use serde_json::{Value, json};
use std::{path::PathBuf, time::Duration};

const ADMIN: &str = "127.0.0.1:15000";

/// Two nodes whose agents have pods in the API, as their DaemonSet would make them; `/run/netns` stands for the node's network.
fn prepare() -> Mesh {
    run(Mesh::prepare_in_cluster(&[]).unwrap())
}

fn run(mut mesh: Mesh) -> Mesh {
    {
        let cluster = mesh.cluster.as_ref().unwrap().lock();
        for (node, agent) in [("a", &mesh.a), ("b", &mesh.b)] {
            let netns = agent.site.namespace().path().display().to_string();
            cluster.apply(&agent_pod(node, &netns)).unwrap();
        }
    }
    for agent in [&mut mesh.a, &mut mesh.b] {
        agent.settings.extra.extend(["--admin-address", ADMIN].map(str::to_owned));
    }
    mesh.run().unwrap();
    mesh
}

fn agent_pod(node: &str, netns: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": format!("posthaste-agent-{node}"), "namespace": SYSTEM,
            "labels": {"app.kubernetes.io/name": AGENT}, "annotations": {"posthaste.dev/netns": netns},
        },
        "spec": {"nodeName": node, "hostNetwork": true, "containers": [{"name": "agent", "image": "posthaste:0.1.0"}]},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    })
}

#[test]
fn agents_are_asked_by_node_and_by_pod() {
    let mut mesh = prepare();
    let _client = mesh.pod("a", "client").unwrap();
    let _server = mesh.pod("b", "server").unwrap();
    let cluster = mesh.cluster.as_ref().unwrap().lock();
    let admin = cluster.admin_kubeconfig();
    let ask = |line: &[&str]| cluster.posthaste(&admin, line);
    let status = |line: &[&str]| -> Value {
        let text = ask(&[line, &["status", "-o", "json"]].concat()).unwrap();
        serde_json::from_str(&text).unwrap()
    };
    assert_eq!(status(&["--node", "a"])["node"], "a");
    assert_eq!(status(&["--node", "b"])["node"], "b");
    assert_eq!(status(&["--pod", "shop/server"])["node"], "b");
    let workloads = ask(&["--pod", "shop/client", "workloads"]).unwrap();
    assert!(workloads.contains("client"), "{workloads}");
    let dump = ask(&["--node", "a", "dump"]).unwrap();
    assert!(dump.contains("kind: Pod") && dump.contains("name: client"), "{dump}");
    let refusals: [(&[&str], &[&str]); 4] = [
        (&["status"], &["2 agents answer", "--node", "nodes: a, b"]),
        (&["--node", "c", "status"], &["no agent on node c; agents are on a, b"]),
        (&["--pod", "shop/nobody", "status"], &["nobody", "not found"]),
        (&["--pod", "server", "status"], &["NAMESPACE/NAME"]),
    ];
    for (line, words) in refusals {
        let said = ask(line).unwrap_err().to_string();
        assert!(words.iter().all(|word| said.contains(word)), "{line:?}: {said}");
    }
}

/// A `PATH` with the program under the name that makes it a plugin of kubectl.
fn plugin(mesh: &Mesh) -> String {
    let folder = mesh.world.folder().join("plugins");
    std::fs::create_dir_all(&folder).unwrap();
    let program = agent::binary().unwrap().canonicalize().unwrap();
    std::os::unix::fs::symlink(program, folder.join("kubectl-posthaste")).unwrap();
    format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default())
}

/// `kubectl posthaste dashboard`. No node is named: all of them are asked, each by a port-forward of its own.
#[test]
fn the_dashboard_shows_the_whole_cluster() {
    let mut mesh = prepare();
    let _client = mesh.pod("a", "client").unwrap();
    let _server = mesh.pod("b", "server").unwrap();
    let cluster = mesh.cluster.as_ref().unwrap().lock();
    let (admin, path) = (cluster.admin_kubeconfig(), plugin(&mesh));
    let line = ["posthaste", "dashboard", "-o", "json"];
    let mut running = cluster.start_kubectl(&admin, &[("PATH", &path)], &line).unwrap();
    running.wait_for_output("#token=").unwrap();
    let printed: Value = serde_json::from_str(&running.stdout()).unwrap();
    let (page, token) = printed["url"].as_str().unwrap().split_once("#token=").unwrap();
    let (bearer, url) = (format!("authorization: Bearer {token}"), format!("{page}api/state"));
    let state = eventually_within(Duration::from_secs(120), "both nodes", || {
        let asked = cluster.site.run(&["curl", "-sS", "--max-time", "20", "-H", &bearer, &url]).unwrap();
        let state: Value = serde_json::from_str(&asked.stdout).unwrap_or_default();
        let all = state["agents"].as_array().into_iter().flatten();
        let nodes: Vec<&str> = all.filter_map(|agent| agent["node"].as_str()).collect();
        holds(nodes == ["a", "b"], format!("{state}{}{}", asked.stderr, running.stderr())).map(|()| state)
    })
    .unwrap();
    for pod in ["shop/client", "shop/server"] {
        assert!(state["pods"].as_array().unwrap().contains(&json!(pod)), "{pod}: {state}");
    }
}

#[test]
fn explain_asks_the_agents_of_both_nodes() {
    let mut mesh = prepare();
    let _client = mesh.pod("a", "client").unwrap();
    let server = mesh.pod("b", "server").unwrap();
    let mut service = mesh.service_spec("server", 8080, &[&server]);
    service.app_protocol = Some("http".to_owned());
    mesh.publish(&service).unwrap();
    mesh.manifests.put(json!({
        "apiVersion": "posthaste.dev/v1alpha1", "kind": "AuthorizationPolicy",
        "metadata": {"name": "closed", "namespace": NAMESPACE},
        "spec": {"action": "DENY", "rules": [{"to": [{"operation": {"paths": ["/secret*"]}}]}]},
    }));
    mesh.manifests.apply().unwrap();
    let cluster = mesh.cluster.as_ref().unwrap().lock();
    let admin = cluster.admin_kubeconfig();
    let explain = |path: &str| -> Value {
        let line = ["explain", "shop/client", "server:80", "--path", path, "-o", "json"];
        serde_json::from_str(&cluster.posthaste(&admin, &line).unwrap()).unwrap()
    };
    eventually("the called pod's policy", || {
        let said = explain("/secret/x");
        let outcome = &said["outcomes"][0];
        let denied = (&outcome["status"], &outcome["flag"]) == (&json!(403), &json!("DENY"));
        holds(
            denied && said.to_string().contains("AuthorizationPolicy shop/closed rules[0]"),
            said.to_string(),
        )
    })
    .unwrap();
    let said = explain("/open");
    assert_eq!(said["outcomes"][0]["kind"], "forwarded", "{said}");
    assert!(said.to_string().contains("let in: no AuthorizationPolicy applies"), "{said}");
    // Without an agent to ask, the step stays, and says why it is open.
    cluster
        .kubectl(&["-n", SYSTEM, "delete", "pod", "posthaste-agent-b", "--grace-period=0", "--force"])
        .unwrap();
    let said = explain("/secret/x");
    let open = said["steps"].as_array().unwrap().iter().find(|step| step["unknown"] == true);
    let says = open.unwrap_or_else(|| panic!("{said}"))["says"].as_str().unwrap();
    assert!(says.contains("could not be asked: no agent on node b"), "{says}");
}

#[test]
fn it_works_as_a_plugin_of_kubectl_with_the_rights_of_a_reader() {
    let mesh = prepare();
    let cluster = mesh.cluster.as_ref().unwrap().lock();
    let reader = cluster.kubeconfig_of(SYSTEM, "reader").unwrap();
    let path = plugin(&mesh);
    let ask = || cluster.kubectl_with(&reader, &[("PATH", &path)], &["posthaste", "--node", "b", "status"]);
    let denied = ask().unwrap_err().to_string();
    assert!(denied.contains("pods is forbidden") && denied.contains("--context"), "{denied}");
    let role = ["-n", SYSTEM, "create", "role", "reader", "--verb=list", "--resource=pods"];
    cluster.kubectl(&role).unwrap();
    let account = format!("--serviceaccount={SYSTEM}:reader");
    cluster.kubectl(&["-n", SYSTEM, "create", "rolebinding", "reader", "--role=reader", &account]).unwrap();
    eventually("the missing right to be named", || {
        let said = ask().unwrap_err().to_string();
        holds(said.contains("get and create pods/portforward in namespace posthaste-system"), said)
    })
    .unwrap();
    let role =
        ["-n", SYSTEM, "create", "role", "forwarder", "--verb=create,get", "--resource=pods/portforward"];
    cluster.kubectl(&role).unwrap();
    cluster
        .kubectl(&["-n", SYSTEM, "create", "rolebinding", "forwarder", "--role=forwarder", &account])
        .unwrap();
    let shown = eventually("the right to count", ask).unwrap();
    assert!(shown.contains("Ready") && shown.contains("Node          b"), "{shown}");
}

/// Whoever may use the node's network must not read what goes on in the mesh, unless it is root.
#[test]
fn the_loopback_port_answers_root_alone() {
    let mesh = prepare();
    let url = format!("http://{ADMIN}/status");
    let run =
        |line: &[&str]| mesh.a.site.start(line).unwrap().finish(Duration::from_secs(20)).unwrap().success();
    let curl = ["curl", "--silent", "--show-error", "--max-time", "5", &url];
    let answer = run(&curl).unwrap();
    assert!(answer.contains("\"node\":\"a\""), "{answer}");
    let stranger = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    assert!(run(&[&stranger[..], &curl].concat()).is_err());
}

struct Served {
    cluster: Cluster,
    // Last: the server ends before its world.
    _world: World,
}

fn serve() -> Served {
    let world = World::create().unwrap();
    let site: Site = world.site("api", 1, 3).unwrap();
    let mut cluster = Cluster::prepare(site, world.folder());
    cluster.start().unwrap();
    Served { cluster, _world: world }
}

#[test]
fn enrolling_says_which_connections_pods_have_now() {
    let mut mesh = Mesh::prepare_in_cluster(&[]).unwrap();
    mesh.split_cgroups();
    let mut mesh = run(mesh);
    mesh.manifests.put(objects::namespace(NAMESPACE, false, &[]));
    mesh.manifests.apply().unwrap();
    let [client, server] =
        [("a", "client", Driver::Systemd), ("b", "server", Driver::Cgroupfs)].map(|(node, name, driver)| {
            let mut pod = mesh.kubelet_pod(node, name, driver).unwrap();
            // The server gives uids of its own: these pods are known as static ones are, by the uid that kubelet gave them.
            let mut object = pod.spec.object();
            object["metadata"]["annotations"]["kubernetes.io/config.mirror"] = json!(pod.spec.uid);
            mesh.manifests.put(object);
            mesh.manifests.apply().unwrap();
            pod.start_pause().unwrap();
            pod
        });
    let _echo = peer::serve(&server, "echo", 8080).unwrap();
    let keep = peer::start_call(&client, "keep", server.at(Family::V4, 8080), &["60"]).unwrap();
    peer::wait_line(&keep, "the connection", |line| line["open"] == true).unwrap();
    let cluster = mesh.cluster.as_ref().unwrap().lock();
    let admin = cluster.admin_kubeconfig();
    eventually("the connections of pods that are not captured", || {
        let text = cluster.posthaste(&admin, &["enroll", NAMESPACE, "--dry-run", "-o", "json"]);
        let plan: Value = serde_json::from_str(&text.map_err(|fault| fault.to_string())?).unwrap();
        let of = |name: &str| {
            let pods = plan["pods"].as_array().unwrap();
            pods.iter().find(|pod| pod["pod"] == name).map(|pod| pod["connections"].clone())
        };
        holds((of("client"), of("server")) == (Some(json!(1)), Some(json!(1))), plan.to_string())
    })
    .unwrap();
}

#[test]
fn what_enrolling_would_change_is_said_before_it_is_done() {
    let served = serve();
    let cluster = &served.cluster;
    let object = |version: &str, kind: &str, name: &str, rest: Value| {
        let mut object =
            json!({"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": NAMESPACE}});
        for (field, value) in rest.as_object().unwrap() {
            object[field] = value.clone();
        }
        cluster.apply(&object).unwrap();
    };
    cluster
        .apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}))
        .unwrap();
    cluster.running_pod(NAMESPACE, "web", "default", "a").unwrap();
    let containers = json!([{"name": "main", "image": "main"}]);
    object(
        "v1",
        "Pod",
        "host",
        json!({"spec": {"nodeName": "b", "hostNetwork": true, "containers": containers}, "status": {"phase": "Running"}}),
    );
    object("v1", "Service", "db", json!({"spec": {"ports": [{"port": 3306}]}}));
    object(
        "networking.k8s.io/v1",
        "NetworkPolicy",
        "narrow",
        json!({"spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"ports": [{"port": 8080}]}]}}),
    );
    let admin = cluster.admin_kubeconfig();
    let enrol = |more: &[&str]| cluster.posthaste(&admin, &[&["enroll", NAMESPACE], more].concat());
    let label = || {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
        cluster.read(&namespace).unwrap()["metadata"]["labels"]["posthaste.dev/mesh"].clone()
    };
    let said = enrol(&["--dry-run"]).unwrap();
    for words in [
        "web",
        "captured, no restart",
        "cannot be: host network",
        "mysql speaks first",
        "shop/narrow",
        "15008",
        "Would capture 1",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert_eq!(label(), Value::Null, "a rehearsal changes nothing");
    enrol(&[]).unwrap();
    assert_eq!(label(), "enabled");
    assert!(enrol(&["--dry-run"]).unwrap().contains("enrolled already"));
    enrol(&["--undo"]).unwrap();
    assert_eq!(label(), Value::Null);
    let missing = cluster.posthaste(&admin, &["enroll", "nowhere"]).unwrap_err().to_string();
    assert!(missing.contains("read namespace nowhere") && missing.contains("not found"), "{missing}");
}

#[test]
fn check_names_what_keeps_the_mesh_from_working() {
    let served = serve();
    let cluster = &served.cluster;
    let admin = cluster.admin_kubeconfig();
    cluster.deploy("").unwrap();
    let node = |name: &str, kernel: &str| {
        let info = json!({"architecture": "amd64", "bootID": "", "containerRuntimeVersion": "", "kernelVersion": kernel,
            "kubeProxyVersion": "", "kubeletVersion": "", "machineID": "", "operatingSystem": "linux", "osImage": "",
            "systemUUID": ""});
        let object = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": {"nodeInfo": info}});
        cluster.apply(&object).unwrap();
    };
    node("a", "6.8.0-31-generic");
    cluster.apply(&agent_pod("a", "/run/netns/none")).unwrap();
    let good = cluster.posthaste(&admin, &["check"]).unwrap();
    assert!(good.contains("Linux 6.8.0-31-generic") && good.contains("ready on 1 of 1"), "{good}");
    assert!(good.contains("The mesh can work in this cluster."), "{good}");

    node("old", "4.18.0-513.el8.x86_64");
    let enrolled = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE,
        "labels": {"posthaste.dev/mesh": "enabled", "istio-injection": "enabled"}}});
    cluster.apply(&enrolled).unwrap();
    cluster.running_pod(NAMESPACE, "web", "default", "a").unwrap();
    let policy = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "narrow", "namespace": NAMESPACE},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"ports": [{"port": 8080}]}]}});
    cluster.apply(&policy).unwrap();
    let cilium = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cilium-config", "namespace": "kube-system"},
        "data": {"kube-proxy-replacement": "true", "bpf-lb-sock-hostns-only": "false"}});
    cluster.apply(&cilium).unwrap();
    let bad = cluster.posthaste(&admin, &["check"]).unwrap_err().to_string();
    for words in [
        "node old: Linux 4.18.0-513.el8.x86_64",
        "node old has no agent",
        "socketLB.hostNamespaceOnly=true",
        "istio-injection",
        "shop/narrow",
        "15008",
    ] {
        assert!(bad.contains(words), "{words}: {bad}");
    }
}

#[test]
fn install_makes_what_the_manifests_make() {
    let served = serve();
    let cluster = &served.cluster;
    let admin = cluster.admin_kubeconfig();
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    let kustomized = cluster.kubectl(&["kustomize", &folder.display().to_string()]).unwrap();
    let printed = cluster.posthaste(&admin, &["install", "--dry-run"]).unwrap();
    assert_eq!(sorted(&printed), sorted(&kustomized));
    let applied = cluster.posthaste(&admin, &["install", "--set", "POSTHASTE_MTLS=strict"]).unwrap();
    assert!(applied.contains("DaemonSet/posthaste-agent applied"), "{applied}");
    let settings = cluster.kubectl(&["-n", SYSTEM, "get", "configmaps", "-o", "yaml"]).unwrap();
    assert!(settings.contains("POSTHASTE_MTLS: strict"), "{settings}");
    let file = cluster.file("printed.yaml", &printed).unwrap().display().to_string();
    cluster
        .kubectl(&["apply", "--server-side", "--validate=strict", "--force-conflicts", "-f", &file])
        .unwrap();
    let unknown = cluster.posthaste(&admin, &["install", "--dry-run", "--set", "MTLS=strict"]).unwrap_err();
    assert!(unknown.to_string().contains("POSTHASTE_MTLS"), "{unknown}");
}

/// The objects as text, sorted; the ConfigMap's name ends in a hash that each makes in its own way.
fn sorted(text: &str) -> Vec<String> {
    let documents = serde_yaml_ng::Deserializer::from_str(text);
    let objects = documents.map(|document| serde::Deserialize::deserialize(document).unwrap());
    let mut objects: Vec<Value> = objects.filter(|object: &Value| !object.is_null()).collect();
    // kubectl's kustomize does not know that these belong to no namespace, and gives them ours; the server ignores it.
    for object in
        objects.iter_mut().filter(|object| object["apiVersion"] == "admissionregistration.k8s.io/v1")
    {
        object["metadata"].as_object_mut().unwrap().remove("namespace");
    }
    let map = objects.iter().find(|object| object["kind"] == "ConfigMap").unwrap();
    let name = map["metadata"]["name"].as_str().unwrap().to_owned();
    let mut texts: Vec<String> =
        objects.iter().map(|object| object.to_string().replace(&name, "posthaste-settings")).collect();
    texts.sort();
    texts
}
