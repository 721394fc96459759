//! The nodes of a cluster and the agents on them: kernels, versions, who has none. Pure: objects in, findings out.

use super::finding::Finding;
use k8s_openapi::api::core::v1::{Node, Pod};
use std::collections::BTreeMap;

/// The oldest kernel that has what the agent needs: major, minor.
const LEAST_KERNEL: (u32, u32) = (5, 15);

/// Kernels, by version, each with how many nodes have it; a node whose kernel is too old is named.
pub(super) fn kernels(nodes: &[Node]) -> Vec<Finding> {
    let mut good: BTreeMap<&str, usize> = BTreeMap::new();
    let mut bad = Vec::new();
    for node in nodes.iter().filter(|node| is_linux(node)) {
        let version = kernel(node);
        match parse(version) {
            Some(found) if found >= LEAST_KERNEL => *good.entry(version).or_default() += 1,
            _ => bad.push(Finding::bad(
                "kernel",
                format!("node {}: Linux {version}", name_of(node)),
                format!(
                    "needs {}.{} or newer; run `posthaste check` on the node to see which features are missing",
                    LEAST_KERNEL.0, LEAST_KERNEL.1
                ),
            )),
        }
    }
    if !good.is_empty() {
        let shown: Vec<String> =
            good.iter().map(|(version, count)| format!("{version} on {count}")).collect();
        bad.insert(0, Finding::good("kernel", format!("Linux {}", shown.join(", "))));
    }
    bad
}

/// Agents: one that is ready on each Linux node, of the version of this command.
pub(super) fn agents(nodes: &[Node], agents: &[Pod], own_version: &str) -> Vec<Finding> {
    if agents.is_empty() {
        return vec![Finding::bad("agents", "no agent runs in this cluster", "posthaste install")];
    }
    let linux = nodes.iter().filter(|node| is_linux(node));
    let on =
        |node: &Node| agents.iter().filter(|pod| node_of(pod) == Some(name_of(node))).collect::<Vec<_>>();
    let mut findings = Vec::new();
    let (mut ready, mut all) = (0, 0);
    for node in linux {
        all += 1;
        let here = on(node);
        if here.iter().any(|pod| is_ready(pod)) {
            ready += 1;
        } else {
            findings.push(without_agent(name_of(node), here.first().copied()));
        }
    }
    findings.insert(0, Finding::good("agents", format!("ready on {ready} of {all} Linux nodes")));
    findings.extend(versions(agents, own_version));
    findings
}

fn without_agent(node: &str, agent: Option<&Pod>) -> Finding {
    match agent {
        None => Finding::bad(
            "agents",
            format!("node {node} has no agent"),
            "kubectl -n posthaste-system describe daemonset posthaste-agent   (taints, resources, quota)",
        ),
        Some(pod) => {
            let (namespace, name) = place(pod);
            Finding::bad(
                "agents",
                format!("node {node}: agent {name} is not ready"),
                format!("kubectl -n {namespace} logs {name}   and   posthaste status --node {node}"),
            )
        }
    }
}

fn versions(agents: &[Pod], own: &str) -> Option<Finding> {
    let mut found: BTreeMap<&str, usize> = BTreeMap::new();
    for version in agents.iter().filter_map(version) {
        *found.entry(version).or_default() += 1;
    }
    if found.is_empty() || found.keys().all(|version| *version == own) {
        return None;
    }
    let shown: Vec<String> = found.iter().map(|(version, count)| format!("{version} on {count}")).collect();
    Some(Finding::doubtful(
        "versions",
        format!("agents: {}; this command: {own}", shown.join(", ")),
        "use the posthaste of the agents, or finish the update: kubectl -n posthaste-system rollout status daemonset posthaste-agent",
    ))
}

/// Tag of the image; none for a digest or no tag.
fn version(pod: &Pod) -> Option<&str> {
    let image = pod.spec.as_ref()?.containers.first()?.image.as_deref()?;
    let name = image.split('@').next()?;
    let (_, tag) = name.rsplit('/').next()?.split_once(':')?;
    Some(tag.trim_start_matches('v'))
}

/// Condition `Ready`, and not on its way out.
pub(super) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut ready = conditions.filter(|one| one.type_ == "Ready");
    pod.metadata.deletion_timestamp.is_none() && ready.any(|one| one.status == "True")
}

/// Namespace and name.
pub(super) fn place(pod: &Pod) -> (&str, &str) {
    (pod.metadata.namespace.as_deref().unwrap_or("default"), pod.metadata.name.as_deref().unwrap_or_default())
}

/// `spec.nodeName`.
pub(super) fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

fn name_of(node: &Node) -> &str {
    node.metadata.name.as_deref().unwrap_or_default()
}

fn kernel(node: &Node) -> &str {
    let info = node.status.as_ref().and_then(|status| status.node_info.as_ref());
    info.map(|info| info.kernel_version.as_str())
        .filter(|text| !text.is_empty())
        .unwrap_or("of unknown version")
}

fn is_linux(node: &Node) -> bool {
    let info = node.status.as_ref().and_then(|status| status.node_info.as_ref());
    info.is_none_or(|info| info.operating_system.is_empty() || info.operating_system == "linux")
}

fn parse(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split(|one: char| !one.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::{super::finding::Verdict, *};
    use serde_json::json;

    fn node(name: &str, kernel: &str) -> Node {
        node_of_system(name, kernel, "linux")
    }

    fn node_of_system(name: &str, kernel: &str, system: &str) -> Node {
        let info = json!({"architecture": "amd64", "bootID": "", "containerRuntimeVersion": "", "kernelVersion": kernel,
            "kubeProxyVersion": "", "kubeletVersion": "", "machineID": "", "operatingSystem": system, "osImage": "", "systemUUID": ""});
        serde_json::from_value(json!({"metadata": {"name": name}, "status": {"nodeInfo": info}})).unwrap()
    }

    fn agent(node: &str, ready: bool, image: &str) -> Pod {
        let status = if ready { "True" } else { "False" };
        serde_json::from_value(json!({
            "metadata": {"name": format!("posthaste-agent-{node}"), "namespace": "posthaste-system"},
            "spec": {"nodeName": node, "containers": [{"name": "agent", "image": image}]},
            "status": {"conditions": [{"type": "Ready", "status": status}]},
        }))
        .unwrap()
    }

    #[test]
    fn old_kernels_are_named_by_node() {
        let nodes = [
            node("one", "6.8.0-31-generic"),
            node("two", "6.8.0-31-generic"),
            node("old", "4.18.0-513.el8"),
            node("odd", ""),
            node_of_system("windows", "10.0.20348", "windows"),
        ];
        let found = kernels(&nodes);
        assert_eq!(found[0].detail, "Linux 6.8.0-31-generic on 2");
        let bad: Vec<_> = found[1..].iter().map(|one| (one.verdict, one.detail.as_str())).collect();
        assert_eq!(
            bad,
            [
                (Verdict::Bad, "node old: Linux 4.18.0-513.el8"),
                (Verdict::Bad, "node odd: Linux of unknown version"),
            ]
        );
        assert_eq!((parse("5.15.0"), parse("6"), parse("x.1")), (Some((5, 15)), None, None));
    }

    #[test]
    fn each_node_has_an_agent_of_this_version() {
        let nodes = [node("one", "6.8.0"), node("two", "6.8.0"), node("three", "6.8.0")];
        let pods =
            [agent("one", true, "registry:5000/posthaste:0.1.0"), agent("two", false, "posthaste:v0.2.0")];
        let found: Vec<String> = agents(&nodes, &pods, "0.1.0").into_iter().map(|one| one.detail).collect();
        assert_eq!(
            found,
            [
                "ready on 1 of 3 Linux nodes",
                "node two: agent posthaste-agent-two is not ready",
                "node three has no agent",
                "agents: 0.1.0 on 1, 0.2.0 on 1; this command: 0.1.0",
            ]
        );
        assert_eq!(agents(&nodes, &[], "0.1.0")[0].detail, "no agent runs in this cluster");
        let same = [
            agent("one", true, "posthaste:0.1.0"),
            agent("two", true, "posthaste@sha256:0"),
            agent("three", true, "posthaste"),
        ];
        assert_eq!(agents(&nodes, &same, "0.1.0").len(), 1);
    }
}
