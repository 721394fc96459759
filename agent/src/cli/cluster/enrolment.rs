//! What enrolling a namespace would change, pod by pod. Pure: objects in, a plan out.

use super::{
    conflicts,
    nodes::{node_of, place},
    policies::{Blocked, MeshedPod, blocked},
    selector::Labels,
};
use k8s_openapi::{
    api::{
        core::v1::{Namespace, Pod, Service},
        networking::v1::NetworkPolicy,
    },
    apimachinery::pkg::util::intstr::IntOrString,
};
use serde::Serialize;

/// The label that enrols a namespace and by which a pod opts out.
pub(super) const LABEL: &str = "posthaste.dev/mesh";

/// Protocols whose servers speak first, by their usual ports (IANA) and by words in the names of ports.
const SERVER_FIRST: [(&str, &[i32]); 8] = [
    ("mysql", &[3306, 33060]),
    ("smtp", &[25, 465, 587]),
    ("ssh", &[22]),
    ("ftp", &[21]),
    ("imap", &[143, 993]),
    ("pop3", &[110, 995]),
    ("vnc", &[5900]),
    ("mariadb", &[]),
];

/// The whole answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Plan {
    /// The namespace.
    pub namespace: String,
    /// It has the label already.
    pub enrolled: bool,
    /// Its pods, by name.
    pub pods: Vec<PodPlan>,
    /// Ports where the server probably speaks first.
    pub server_first: Vec<ServerFirst>,
    /// Policies that would cut the mesh's tunnels.
    pub policies: Vec<Blocked>,
    /// What else stands in the way.
    pub conflicts: Vec<String>,
}

/// One pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct PodPlan {
    /// Its name.
    pub pod: String,
    /// Its node.
    pub node: Option<String>,
    /// What happens to it.
    pub change: Change,
    /// Connections that it has now and that stay as they are; none where no agent tells.
    pub connections: Option<u64>,
}

/// What happens to a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Change {
    /// It will be captured, without a restart.
    Captured,
    /// It is in the mesh already.
    Already,
    /// Its own label keeps it out.
    OptedOut,
    /// It shares the network of its node and cannot be captured.
    HostNetwork,
    /// It has ended.
    Ended,
    /// Another mesh's sidecar is in it.
    Sidecar,
}

impl Change {
    /// For people.
    #[must_use]
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Captured => "captured, no restart",
            Self::Already => "already in the mesh",
            Self::OptedOut => "stays out: its label",
            Self::HostNetwork => "cannot be: host network",
            Self::Ended => "has ended",
            Self::Sidecar => "captured twice: sidecar",
        }
    }
}

/// A port of a service or container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct ServerFirst {
    /// `Service/NAME:PORT` or `Pod/NAME:PORT`.
    pub port: String,
    /// Why it looks so.
    pub protocol: String,
    /// The port says what it speaks, so that nothing is guessed.
    pub declared: bool,
}

/// Objects of a namespace. `connections` tells how many a pod has, where an agent knows.
pub(super) struct Scene<'objects> {
    pub(super) namespace: &'objects Namespace,
    pub(super) pods: &'objects [Pod],
    pub(super) services: &'objects [Service],
    pub(super) policies: &'objects [NetworkPolicy],
    pub(super) connections: &'objects dyn Fn(&str) -> Option<u64>,
}

/// Looks at everything.
pub(super) fn plan(scene: &Scene<'_>) -> Plan {
    let enrolled = conflicts::is_enrolled(scene.namespace);
    let row = |pod: &Pod| {
        let name = place(pod).1.to_owned();
        PodPlan {
            node: node_of(pod).map(str::to_owned),
            change: change(pod, enrolled),
            connections: (scene.connections)(&name),
            pod: name,
        }
    };
    let mut pods: Vec<PodPlan> = scene.pods.iter().map(row).collect();
    pods.sort_by(|one, two| one.pod.cmp(&two.pod));
    let meshed: Vec<MeshedPod> =
        scene.pods.iter().filter(|pod| is_in(change(pod, enrolled))).map(meshed).collect();
    let mut labelled = scene.namespace.clone();
    labelled.metadata.labels.get_or_insert_default().insert(LABEL.to_owned(), "enabled".to_owned());
    Plan {
        namespace: scene.namespace.metadata.name.clone().unwrap_or_default(),
        enrolled,
        pods,
        server_first: server_first(scene),
        policies: blocked(scene.policies, &meshed),
        conflicts: conflicts::claimed_namespaces(&[labelled])
            .into_iter()
            .map(|finding| format!("{}: {}", finding.detail, finding.advice))
            .collect(),
    }
}

fn is_in(change: Change) -> bool {
    matches!(change, Change::Captured | Change::Already | Change::Sidecar)
}

pub(super) fn meshed(pod: &Pod) -> MeshedPod {
    let (namespace, name) = place(pod);
    let labels = pod.metadata.labels.clone().unwrap_or_default();
    MeshedPod { namespace: namespace.to_owned(), name: name.to_owned(), labels }
}

/// What happens to a pod of a namespace that is enrolled.
pub(super) fn change(pod: &Pod, enrolled: bool) -> Change {
    let labels: Option<&Labels> = pod.metadata.labels.as_ref();
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    if matches!(phase, Some("Succeeded" | "Failed")) {
        return Change::Ended;
    }
    if pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true) {
        return Change::HostNetwork;
    }
    if labels.and_then(|labels| labels.get(LABEL)).is_some_and(|value| value == "disabled") {
        return Change::OptedOut;
    }
    if conflicts::sidecar(pod).is_some() {
        return Change::Sidecar;
    }
    if enrolled { Change::Already } else { Change::Captured }
}

fn server_first(scene: &Scene<'_>) -> Vec<ServerFirst> {
    let mut found = Vec::new();
    for service in scene.services {
        let name = service.metadata.name.as_deref().unwrap_or_default();
        for port in service.spec.iter().flat_map(|spec| spec.ports.iter().flatten()) {
            let target = match &port.target_port {
                Some(IntOrString::Int(number)) => *number,
                _ => port.port,
            };
            let words = [port.name.as_deref(), port.app_protocol.as_deref()];
            let protocol = words.into_iter().flatten().find_map(by_name);
            if let Some(protocol) = protocol.or_else(|| by_port(port.port)).or_else(|| by_port(target)) {
                let declared = port.app_protocol.is_some();
                found.push(ServerFirst {
                    port: format!("Service/{name}:{}", port.port),
                    protocol: protocol.to_owned(),
                    declared,
                });
            }
        }
    }
    found
}

fn by_port(number: i32) -> Option<&'static str> {
    SERVER_FIRST.into_iter().find(|(_, ports)| ports.contains(&number)).map(|(name, _)| name)
}

/// `mysql`, `mysql-primary`, `tcp-mysql`.
fn by_name(text: &str) -> Option<&'static str> {
    SERVER_FIRST
        .into_iter()
        .find(|(name, _)| text.split(['-', '.', '/']).any(|word| word == *name))
        .map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    // JSON is written where it is handed over.
    #![allow(clippy::needless_pass_by_value)]
    use super::*;
    use serde_json::{Value, json};

    fn pod(name: &str, labels: Value, spec: Value, phase: &str) -> Pod {
        let mut spec = spec;
        if spec.get("containers").is_none() {
            spec["containers"] = json!([{"name": "main"}]);
        }
        spec["nodeName"] = json!("one");
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "shop", "labels": labels}, "spec": spec, "status": {"phase": phase},
        }))
        .unwrap()
    }

    fn service(name: &str, ports: Value) -> Service {
        serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"ports": ports}})).unwrap()
    }

    fn namespace(labels: Value) -> Namespace {
        serde_json::from_value(json!({"metadata": {"name": "shop", "labels": labels}})).unwrap()
    }

    #[test]
    fn each_pod_is_told_what_happens_to_it() {
        let running = |name, labels, spec| pod(name, labels, spec, "Running");
        for (pod, before, after) in [
            (running("web", json!({}), json!({})), Change::Captured, Change::Already),
            (running("out", json!({LABEL: "disabled"}), json!({})), Change::OptedOut, Change::OptedOut),
            (
                running("host", json!({}), json!({"hostNetwork": true})),
                Change::HostNetwork,
                Change::HostNetwork,
            ),
            (pod("job", json!({}), json!({}), "Succeeded"), Change::Ended, Change::Ended),
            (
                running(
                    "istio",
                    json!({}),
                    json!({"containers": [{"name": "main"}, {"name": "istio-proxy"}]}),
                ),
                Change::Sidecar,
                Change::Sidecar,
            ),
        ] {
            assert_eq!((change(&pod, false), change(&pod, true)), (before, after), "{:?}", pod.metadata.name);
        }
    }

    #[test]
    fn ports_where_the_server_speaks_first_are_found() {
        let services = [
            service("db", json!([{"port": 3306}])),
            service("mail", json!([{"name": "tcp-smtp", "port": 2525}])),
            service("git", json!([{"port": 2222, "targetPort": 22, "appProtocol": "tcp"}])),
            service("web", json!([{"name": "http", "port": 80, "targetPort": "http"}])),
        ];
        let namespace = namespace(json!({}));
        let connections = |_: &str| None;
        let scene = Scene {
            namespace: &namespace,
            pods: &[],
            services: &services,
            policies: &[],
            connections: &connections,
        };
        let found: Vec<_> =
            server_first(&scene).into_iter().map(|one| (one.port, one.protocol, one.declared)).collect();
        let expected = [
            ("Service/db:3306", "mysql", false),
            ("Service/mail:2525", "smtp", false),
            ("Service/git:2222", "ssh", true),
        ];
        assert_eq!(
            found,
            expected.map(|(port, protocol, declared)| (port.to_owned(), protocol.to_owned(), declared))
        );
    }

    #[test]
    fn the_plan_names_policies_conflicts_and_present_connections() {
        let namespace = namespace(json!({"istio-injection": "enabled"}));
        let pods = [
            pod("web", json!({"app": "web"}), json!({}), "Running"),
            pod("a", json!({}), json!({}), "Running"),
        ];
        let policy: NetworkPolicy = serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [{"ports": [{"port": 8080}]}]},
        }))
        .unwrap();
        let connections = |name: &str| (name == "web").then_some(3);
        let plan = plan(&Scene {
            namespace: &namespace,
            pods: &pods,
            services: &[],
            policies: &[policy],
            connections: &connections,
        });
        assert!(!plan.enrolled);
        let rows: Vec<_> = plan.pods.iter().map(|one| (one.pod.as_str(), one.connections)).collect();
        assert_eq!(rows, [("a", None), ("web", Some(3))]);
        assert_eq!((plan.policies.len(), plan.policies[0].policy.as_str()), (1, "shop/web"));
        assert!(plan.conflicts[0].contains("istio-injection"), "{:?}", plan.conflicts);
    }
}
