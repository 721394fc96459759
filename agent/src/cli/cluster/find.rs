//! Which agent answers for a node or for a pod. Pure.

use super::nodes::{is_ready, node_of, place};
use k8s_openapi::api::core::v1::Pod;

/// Why there is no agent to ask.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FindError {
    /// None at all.
    #[error(
        "no agent in namespace {0}: run `posthaste install`, or name its namespace with --system-namespace"
    )]
    NoAgents(String),
    /// None there.
    #[error("no agent on node {node}; agents are on {}", others.join(", "))]
    NoAgentOn {
        /// The node.
        node: String,
        /// Nodes that have one.
        others: Vec<String>,
    },
    /// There, and not ready.
    #[error(
        "agent {namespace}/{name} on node {node} is not running yet: kubectl -n {namespace} describe pod {name}"
    )]
    NotRunning {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// The node.
        node: String,
    },
    /// Pods that have no node have no agent.
    #[error("pod {0} is not on a node yet, so no agent knows it")]
    NotScheduled(String),
    /// `--pod` is not NAMESPACE/NAME.
    #[error("--pod {0}: give NAMESPACE/NAME")]
    NotAPod(String),
    /// Several agents and no choice.
    #[error("{count} agents answer, each for its node: choose with --node NAME or --pod NAMESPACE/NAME; nodes: {}", nodes.join(", "))]
    Which {
        /// How many.
        count: usize,
        /// Where.
        nodes: Vec<String>,
    },
}

/// Parts of `--pod NAMESPACE/NAME`.
pub(super) fn pod_name(text: &str) -> Result<(&str, &str), FindError> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok((namespace, name))
        }
        _ => Err(FindError::NotAPod(text.to_owned())),
    }
}

/// The node of a pod.
pub(super) fn node_of_pod(pod: &Pod) -> Result<&str, FindError> {
    let (namespace, name) = place(pod);
    node_of(pod)
        .filter(|node| !node.is_empty())
        .ok_or_else(|| FindError::NotScheduled(format!("{namespace}/{name}")))
}

/// The agent of a node, or the only one where no node is named. Of two (an update is under way) the one that is ready.
pub(super) fn agent<'pods>(
    agents: &'pods [Pod],
    node: Option<&str>,
    system: &str,
) -> Result<&'pods Pod, FindError> {
    let mut nodes: Vec<String> = agents.iter().filter_map(|pod| node_of(pod).map(str::to_owned)).collect();
    nodes.sort();
    nodes.dedup();
    let node = match (node, nodes.as_slice()) {
        (_, []) => return Err(FindError::NoAgents(system.to_owned())),
        (Some(node), _) => node,
        (None, [only]) => only,
        (None, _) => return Err(FindError::Which { count: nodes.len(), nodes }),
    };
    let here: Vec<&Pod> = agents.iter().filter(|pod| node_of(pod) == Some(node)).collect();
    let best = here.iter().find(|pod| is_ready(pod)).or_else(|| here.iter().find(|pod| is_running(pod)));
    match (best, here.first()) {
        (Some(pod), _) => Ok(pod),
        (None, Some(pod)) => {
            let (namespace, name) = place(pod);
            Err(FindError::NotRunning {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                node: node.to_owned(),
            })
        }
        (None, None) => Err(FindError::NoAgentOn { node: node.to_owned(), others: nodes }),
    }
}

/// An agent that is not ready is the one that people want to ask.
fn is_running(pod: &Pod) -> bool {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use serde_json::json;

    fn pod(name: &str, node: &str, phase: &str, ready: bool) -> Pod {
        let ready = if ready { "True" } else { "False" };
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "posthaste-system"},
            "spec": {"nodeName": node, "containers": []},
            "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready}]},
        }))
        .unwrap()
    }

    #[test]
    fn the_agent_of_the_node_is_found() {
        let agents = [
            pod("old", "one", "Running", false),
            pod("new", "one", "Running", true),
            pod("lame", "two", "Running", false),
            pod("pending", "three", "Pending", false),
        ];
        let found =
            |node| agent(&agents, node, "posthaste-system").map(|pod| pod.metadata.name.clone().unwrap());
        assert_eq!(found(Some("one")), Ok("new".to_owned()));
        assert_eq!(found(Some("two")), Ok("lame".to_owned()));
        let said = found(Some("three")).unwrap_err().to_string();
        assert!(said.contains("kubectl -n posthaste-system describe pod pending"), "{said}");
        let said = found(Some("four")).unwrap_err().to_string();
        assert_eq!(said, "no agent on node four; agents are on one, three, two");
        let said = found(None).unwrap_err().to_string();
        assert!(said.starts_with("3 agents answer") && said.contains("--node"), "{said}");
        assert_eq!(
            agent(&agents[..2], None, "posthaste-system").unwrap().metadata.name.as_deref(),
            Some("new")
        );
        assert!(agent(&[], None, "mesh").unwrap_err().to_string().starts_with("no agent in namespace mesh"));
    }

    #[test]
    fn a_pod_is_named_with_its_namespace() {
        assert_eq!(pod_name("shop/web-1"), Ok(("shop", "web-1")));
        for wrong in ["web-1", "/web-1", "shop/", "a/b/c"] {
            assert_eq!(pod_name(wrong), Err(FindError::NotAPod(wrong.to_owned())));
        }
        let error = node_of_pod(&pod("web", "", "Pending", false)).unwrap_err();
        assert!(error.to_string().contains("not on a node"), "{error}");
    }
}
