//! `posthaste check` against a cluster: nodes, agents, what else works on the same connections, policies in the way.

use super::{
    conflicts,
    connect::{ClusterError, agents, client, refused},
    enrolment::{Change, change, meshed},
    finding::{Finding, Verdict},
    nodes,
    place::Place,
    policies::blocked,
};
use crate::cli::{
    CliError, Options, present,
    table::{Column, Fit, draw},
};
use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{ConfigMap, Namespace, Node, Pod},
    networking::v1::NetworkPolicy,
};
use kube::{Api, Client, api::ListParams, core::NamespaceResourceScope};
use serde::de::DeserializeOwned;
use std::{collections::BTreeSet, fmt::Debug, io::Write, process::ExitCode};

/// Where kube-proxy and Cilium keep their settings.
const KUBE_SYSTEM: &str = "kube-system";

/// Looks and shows; fails where something is bad.
///
/// # Errors
/// The cluster cannot be asked at all.
pub fn run(options: &Options, out: &mut dyn Write) -> Result<ExitCode, CliError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ClusterError::from)?;
    let findings = runtime.block_on(look(&options.place))?;
    present(options, &findings, out, |fit| text(&findings, fit))?;
    let bad = findings.iter().any(|one| one.verdict == Verdict::Bad);
    Ok(if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn look(place: &Place) -> Result<Vec<Finding>, ClusterError> {
    let client = client(place).await?;
    let version = client.apiserver_version().await.map_err(|error| refused("ask the API server", &error))?;
    let mut findings = vec![Finding::good("API server", format!("Kubernetes {}", version.git_version))];
    let mut see = |found: Result<Vec<Finding>, ClusterError>| match found {
        Ok(found) => findings.extend(found),
        // What one may not read is said, and the rest is looked at.
        Err(error) => findings.push(Finding::doubtful(
            "not checked",
            error.to_string(),
            "give the rights to read it, and check again",
        )),
    };
    see(of_nodes(&client, place).await);
    see(of_node_meshes(&client).await);
    see(setting(&client, "cilium-config")
        .await
        .map(|config| vec![conflicts::socket_load_balancer(config.as_ref())]));
    see(setting(&client, "kube-proxy").await.map(|config| vec![conflicts::kube_proxy(config.as_ref())]));
    see(of_namespaces(&client).await);
    Ok(findings)
}

async fn of_nodes(client: &Client, place: &Place) -> Result<Vec<Finding>, ClusterError> {
    let nodes: Vec<Node> = all(client, "nodes").await?;
    let mut findings = nodes::kernels(&nodes);
    let agents = agents(client, &place.system_namespace).await?;
    findings.extend(nodes::agents(&nodes, &agents, env!("CARGO_PKG_VERSION")));
    Ok(findings)
}

async fn of_node_meshes(client: &Client) -> Result<Vec<Finding>, ClusterError> {
    let sets: Vec<DaemonSet> = all(client, "daemonsets").await?;
    Ok(conflicts::node_meshes(&sets))
}

async fn of_namespaces(client: &Client) -> Result<Vec<Finding>, ClusterError> {
    let namespaces: Vec<Namespace> = all(client, "namespaces").await?;
    let mut findings = conflicts::claimed_namespaces(&namespaces);
    let enrolled: BTreeSet<&str> = namespaces
        .iter()
        .filter(|one| conflicts::is_enrolled(one))
        .filter_map(|one| one.metadata.name.as_deref())
        .collect();
    if enrolled.is_empty() {
        findings.push(Finding::doubtful(
            "namespaces",
            "none is enrolled",
            "posthaste enroll NAMESPACE --dry-run",
        ));
        return Ok(findings);
    }
    findings.push(Finding::good(
        "namespaces",
        format!("enrolled: {}", enrolled.iter().copied().collect::<Vec<_>>().join(", ")),
    ));
    let (mut pods, mut policies): (Vec<Pod>, Vec<NetworkPolicy>) = (Vec::new(), Vec::new());
    for name in enrolled {
        pods.extend(within::<Pod>(client, name, "pods").await?);
        policies.extend(within::<NetworkPolicy>(client, name, "network policies").await?);
    }
    findings.extend(conflicts::sidecars(&pods));
    findings.extend(of_pods(&pods, &policies));
    Ok(findings)
}

fn of_pods(pods: &[Pod], policies: &[NetworkPolicy]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let host: Vec<&str> = pods
        .iter()
        .filter(|pod| change(pod, true) == Change::HostNetwork)
        .filter_map(|pod| pod.metadata.name.as_deref())
        .collect();
    if !host.is_empty() {
        findings.push(Finding::doubtful(
            "host network",
            format!("pods that cannot be captured: {}", host.join(", ")),
            "they talk in plain TCP, and strict namespaces refuse them",
        ));
    }
    let meshed: Vec<_> = pods.iter().filter(|pod| change(pod, true) == Change::Already).map(meshed).collect();
    let blocked = blocked(policies, &meshed);
    if blocked.is_empty() {
        findings.push(Finding::good(
            "network policies",
            format!("{} of enrolled namespaces let the tunnel's port through", policies.len()),
        ));
    }
    findings.extend(blocked.into_iter().map(|one| {
        Finding::bad(
            "network policies",
            format!("{} ({}) cuts tunnels of {}", one.policy, one.direction, one.pods.join(", ")),
            one.advice,
        )
    }));
    findings
}

async fn setting(client: &Client, name: &str) -> Result<Option<ConfigMap>, ClusterError> {
    let found = Api::<ConfigMap>::namespaced(client.clone(), KUBE_SYSTEM).get_opt(name).await;
    found.map_err(|error| refused(&format!("read ConfigMap {KUBE_SYSTEM}/{name}"), &error))
}

async fn all<K>(client: &Client, what: &str) -> Result<Vec<K>, ClusterError>
where
    K: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let found = Api::<K>::all(client.clone()).list(&ListParams::default()).await;
    Ok(found.map_err(|error| refused(&format!("list {what}"), &error))?.items)
}

async fn within<K>(client: &Client, namespace: &str, what: &str) -> Result<Vec<K>, ClusterError>
where
    K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    let found = Api::<K>::namespaced(client.clone(), namespace).list(&ListParams::default()).await;
    Ok(found.map_err(|error| refused(&format!("list {what} in namespace {namespace}"), &error))?.items)
}

fn text(findings: &[Finding], fit: Fit) -> String {
    let columns = [
        Column { title: "WHAT", rank: 0, least: 12 },
        Column { title: "", rank: 0, least: 4 },
        Column { title: "FOUND", rank: 0, least: 24 },
    ];
    let mark = |one: &Finding| match one.verdict {
        Verdict::Good => "ok",
        Verdict::Doubtful => "look",
        Verdict::Bad => "BAD",
    };
    let row = |one: &Finding| vec![one.name.clone(), mark(one).to_owned(), one.detail.clone()];
    let mut text = draw(&columns, &findings.iter().map(row).collect::<Vec<_>>(), fit);
    // In full: the table may have shortened them.
    for one in findings.iter().filter(|one| one.verdict != Verdict::Good) {
        text.push_str(&format!("\n{}: {}\n  {}\n", one.name, one.detail, one.advice));
    }
    let bad = findings.iter().filter(|one| one.verdict == Verdict::Bad).count();
    text.push_str(&match bad {
        0 => "\nThe mesh can work in this cluster.\n".to_owned(),
        1 => "\n1 finding keeps the mesh from working as it should.\n".to_owned(),
        count => format!("\n{count} findings keep the mesh from working as it should.\n"),
    });
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn what_is_bad_is_said_in_full_with_what_to_do() {
        let long = "node with-a-rather-long-name.example.internal: Linux 4.18.0-513.el8.x86_64";
        let findings = [
            Finding::good("API server", "Kubernetes v1.34.0"),
            Finding::bad("kernel", long, "needs 5.15 or newer"),
        ];
        let text = text(&findings, Fit { width: Some(60), wide: false });
        assert!(text.contains(long) && text.contains("  needs 5.15 or newer"), "{text}");
        assert!(text.ends_with("1 finding keeps the mesh from working as it should.\n"), "{text}");
    }
}
