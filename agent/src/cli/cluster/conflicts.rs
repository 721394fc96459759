//! What else in a cluster hides service addresses from the agent or captures the same connections: other meshes, and load
//! balancers at the socket. Pure: objects in, findings out.

use super::finding::Finding;
use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{ConfigMap, Namespace, Pod},
};
use std::collections::BTreeMap;

/// Containers that a mesh puts into pods, by the mesh's name.
const SIDECARS: [(&str, &str); 3] =
    [("istio-proxy", "Istio"), ("linkerd-proxy", "Linkerd"), ("consul-dataplane", "Consul")];
/// Agents of other meshes that need no sidecar, by the name of their DaemonSet.
const NODE_MESHES: [(&str, &str); 2] = [("ztunnel", "Istio ambient"), ("kmesh", "Kmesh")];
/// Labels and annotations by which a namespace is given to another mesh: key, value (none: any but a refusal), mesh.
const CLAIMS: [(&str, Option<&str>, &str); 5] = [
    ("istio-injection", Some("enabled"), "Istio"),
    ("istio.io/rev", None, "Istio"),
    ("istio.io/dataplane-mode", None, "Istio ambient or Kmesh"),
    ("linkerd.io/inject", None, "Linkerd"),
    ("kuma.io/sidecar-injection", None, "Kuma"),
];
/// Values of such labels that mean "not here".
const REFUSALS: [&str; 4] = ["none", "disabled", "false", ""];

/// Cilium translates a service's address in connect(2), maybe before our program sees it.
pub(super) fn socket_load_balancer(cilium_config: Option<&ConfigMap>) -> Finding {
    let name = "socket load balancer";
    let Some(config) = cilium_config else {
        return Finding::good(name, "no cilium-config: nothing translates at the socket");
    };
    let setting = |key: &str| {
        config.data.as_ref().and_then(|data| data.get(key)).map(String::as_str).unwrap_or_default()
    };
    let replaces = matches!(setting("kube-proxy-replacement"), "true" | "strict" | "partial");
    let translates = setting("bpf-lb-sock") == "true" || replaces;
    match (translates, setting("bpf-lb-sock-hostns-only")) {
        (false, _) => Finding::good(name, "Cilium does not translate at the socket"),
        (true, "true") => Finding::good(name, "Cilium translates at the socket in the host's namespace only"),
        (true, _) => Finding::bad(
            name,
            "Cilium replaces service addresses in pods at the socket: routes and balancing of the mesh are not seen",
            "set socketLB.hostNamespaceOnly=true (Helm), that is bpf-lb-sock-hostns-only: \"true\" in ConfigMap kube-system/cilium-config, and restart DaemonSet cilium",
        ),
    }
}

/// How kube-proxy works; all its modes are fine, since the connect hook sees the service's address first.
pub(super) fn kube_proxy(config: Option<&ConfigMap>) -> Finding {
    let name = "kube-proxy";
    let Some(config) = config else {
        return Finding::good(name, "not found: the network plug-in translates service addresses");
    };
    let text = config.data.as_ref().and_then(|data| data.get("config.conf"));
    let mode = text.and_then(|text| {
        let value: serde_json::Value = serde_yaml_ng::from_str(text).ok()?;
        Some(value.get("mode")?.as_str()?.to_owned())
    });
    match mode.as_deref() {
        None | Some("") => Finding::good(name, "mode iptables (the default)"),
        Some(mode @ ("iptables" | "ipvs" | "nftables")) => Finding::good(name, format!("mode {mode}")),
        Some(mode) => Finding::doubtful(
            name,
            format!("mode `{mode}` is not one that is known here"),
            "check that a meshed pod's calls appear in `posthaste connections`",
        ),
    }
}

/// Agents of other meshes on the nodes.
pub(super) fn node_meshes(sets: &[DaemonSet]) -> Vec<Finding> {
    let named = |set: &DaemonSet| {
        let name = set.metadata.name.as_deref()?;
        let (_, mesh) = NODE_MESHES.into_iter().find(|(known, _)| *known == name)?;
        let place = format!("{}/{name}", set.metadata.namespace.as_deref().unwrap_or_default());
        Some(Finding::doubtful(
            "other mesh",
            format!("{mesh} runs (DaemonSet {place})"),
            "keep the two apart by namespace: a namespace belongs to one mesh",
        ))
    };
    sets.iter().filter_map(named).collect()
}

/// Namespaces of ours that another mesh claims as well.
pub(super) fn claimed_namespaces(namespaces: &[Namespace]) -> Vec<Finding> {
    let claims = namespaces.iter().filter(|namespace| is_enrolled(namespace)).flat_map(|namespace| {
        let name = namespace.metadata.name.clone().unwrap_or_default();
        claims_of(namespace).map(move |(key, value, mesh)| {
            Finding::bad(
                "other mesh",
                format!("Namespace {name} is enrolled and belongs to {mesh} as well ({key}: {value})"),
                format!("kubectl label namespace {name} {key}-   (or take posthaste.dev/mesh off it)"),
            )
        })
    });
    claims.collect()
}

/// Whether the label says so.
pub(super) fn is_enrolled(namespace: &Namespace) -> bool {
    let labels = namespace.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get("posthaste.dev/mesh")).is_some_and(|value| value == "enabled")
}

fn claims_of(namespace: &Namespace) -> impl Iterator<Item = (&'static str, String, &'static str)> {
    let empty = BTreeMap::new();
    let value_of = |key: &str| {
        let places = [&namespace.metadata.labels, &namespace.metadata.annotations];
        places.into_iter().find_map(|place| place.as_ref().unwrap_or(&empty).get(key).cloned())
    };
    let claims = CLAIMS.into_iter().filter_map(|(key, wanted, mesh)| {
        let value = value_of(key)?;
        let claims = wanted.map_or(!REFUSALS.contains(&&*value), |wanted| wanted == value);
        claims.then_some((key, value, mesh))
    });
    claims.collect::<Vec<_>>().into_iter()
}

/// The mesh whose sidecar a pod carries.
pub(super) fn sidecar(pod: &Pod) -> Option<&'static str> {
    let spec = pod.spec.as_ref()?;
    // Native sidecars are init containers that go on.
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let mut names = containers.map(|container| container.name.as_str());
    names.find_map(|name| SIDECARS.into_iter().find(|(known, _)| *known == name)).map(|(_, mesh)| mesh)
}

/// Pods of ours with a sidecar of another mesh: both would capture the same connections.
pub(super) fn sidecars<'pods>(pods: impl IntoIterator<Item = &'pods Pod>) -> Option<Finding> {
    let named = |pod: &'pods Pod| {
        let meta = &pod.metadata;
        let mesh = sidecar(pod)?;
        Some((mesh, format!("{}/{}", meta.namespace.as_deref()?, meta.name.as_deref()?)))
    };
    let found: Vec<(&str, String)> = pods.into_iter().filter_map(named).collect();
    let (mesh, first) = found.first()?;
    let more = if found.len() > 1 { format!(" and {} more pods", found.len() - 1) } else { String::new() };
    Some(Finding::bad(
        "sidecars",
        format!("{first}{more} carry a sidecar of {mesh}"),
        "switch its injection off for the namespace and restart the pods",
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::{super::finding::Verdict, *};
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    fn object<T: DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn cilium_may_hide_service_addresses() {
        for (data, verdict) in [
            (json!({"kube-proxy-replacement": "true"}), Verdict::Bad),
            (json!({"kube-proxy-replacement": "strict", "bpf-lb-sock-hostns-only": "false"}), Verdict::Bad),
            (json!({"bpf-lb-sock": "true", "kube-proxy-replacement": "false"}), Verdict::Bad),
            (json!({"kube-proxy-replacement": "true", "bpf-lb-sock-hostns-only": "true"}), Verdict::Good),
            (json!({"kube-proxy-replacement": "false"}), Verdict::Good),
            (json!({}), Verdict::Good),
        ] {
            let config: ConfigMap = object(json!({"data": data.clone()}));
            assert_eq!(socket_load_balancer(Some(&config)).verdict, verdict, "{data}");
        }
        assert_eq!(socket_load_balancer(None).verdict, Verdict::Good);
    }

    #[test]
    fn the_mode_of_kube_proxy_is_read() {
        let found = |text: &str| kube_proxy(Some(&object(json!({"data": {"config.conf": text}})))).detail;
        assert_eq!(found("kind: KubeProxyConfiguration\nmode: ipvs\n"), "mode ipvs");
        assert_eq!(found("mode: \"\"\n"), "mode iptables (the default)");
        assert!(found("mode: userspace\n").contains("`userspace`"));
        assert!(kube_proxy(None).detail.starts_with("not found"));
    }

    #[test]
    fn other_meshes_are_found_on_nodes_namespaces_and_pods() {
        let set = |name: &str| {
            object(json!({"metadata": {"name": name, "namespace": "istio-system"}, "spec": {
            "selector": {}, "template": {}}}))
        };
        let found = node_meshes(&[set("ztunnel"), set("kube-proxy")]);
        assert_eq!(found.len(), 1);
        assert!(found[0].detail.contains("istio-system/ztunnel"));

        let namespace = |labels: Value, annotations: Value| -> Namespace {
            object(json!({"metadata": {"name": "shop", "labels": labels, "annotations": annotations}}))
        };
        let ours = json!({"posthaste.dev/mesh": "enabled", "istio.io/dataplane-mode": "ambient"});
        assert_eq!(claimed_namespaces(&[namespace(ours, json!({}))]).len(), 1);
        let released = json!({"posthaste.dev/mesh": "enabled", "istio.io/dataplane-mode": "none"});
        assert_eq!(claimed_namespaces(&[namespace(released, json!({}))]).len(), 0);
        let linkerd =
            namespace(json!({"posthaste.dev/mesh": "enabled"}), json!({"linkerd.io/inject": "enabled"}));
        assert!(claimed_namespaces(&[linkerd])[0].advice.contains("linkerd.io/inject-"));
        let theirs = namespace(json!({"istio-injection": "enabled"}), json!({}));
        assert_eq!(claimed_namespaces(&[theirs]).len(), 0);

        let pod = |containers: Value, init: Value| -> Pod {
            object(
                json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": {"containers": containers, "initContainers": init}}),
            )
        };
        let native = pod(json!([{"name": "main"}]), json!([{"name": "istio-proxy"}]));
        let plain = pod(json!([{"name": "main"}]), json!([]));
        assert_eq!((sidecar(&native), sidecar(&plain)), (Some("Istio"), None));
        assert!(sidecars([&native, &plain, &native]).unwrap().detail.contains("shop/web and 1 more"));
        assert!(sidecars([&plain]).is_none());
    }
}
