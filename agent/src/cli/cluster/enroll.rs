//! `posthaste enroll NAMESPACE [--dry-run]`: what enrolling a namespace changes, and the label that does it.

use super::{
    connect::{ClusterError, client, refused},
    enrolment::{Change, LABEL, Plan, PodPlan, Scene, plan},
    place::Place,
};
use crate::{
    cli::{
        CliError, Options, client as admin, present,
        table::{Column, Fit, draw},
    },
    observe::{query::encode, views::WorkloadView},
};
use k8s_openapi::api::{
    core::v1::{Namespace, Pod, Service},
    networking::v1::NetworkPolicy,
};
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeSet, HashMap},
    io::Write,
    time::Duration,
};

/// Nodes whose agents are asked for present connections.
const NODES: usize = 32;

/// Which, and whether for good.
#[derive(Clone, Debug, clap::Args)]
pub struct EnrollArguments {
    /// The namespace
    #[arg(value_name = "NAMESPACE")]
    pub name: String,
    /// Only show what would change
    #[arg(long)]
    pub dry_run: bool,
    /// Take it out of the mesh instead
    #[arg(long)]
    pub undo: bool,
}

/// Shows the plan, and sets the label unless it is a rehearsal.
///
/// # Errors
/// The cluster cannot be asked, or refuses.
pub fn run(options: &Options, arguments: &EnrollArguments, out: &mut dyn Write) -> Result<(), CliError> {
    let place = &options.place;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ClusterError::from)?;
    let plan = runtime.block_on(look(place, &arguments.name))?;
    present(options, &plan, out, |fit| text(&plan, arguments, fit))?;
    if arguments.dry_run || plan.enrolled != arguments.undo {
        return Ok(());
    }
    runtime.block_on(label(place, &arguments.name, !arguments.undo))?;
    Ok(())
}

async fn look(place: &Place, name: &str) -> Result<Plan, ClusterError> {
    let client = client(place).await?;
    let namespace = Api::<Namespace>::all(client.clone()).get(name).await;
    let namespace = namespace.map_err(|error| refused(&format!("read namespace {name}"), &error))?;
    let pods = Api::<Pod>::namespaced(client.clone(), name).list(&ListParams::default()).await;
    let pods = pods.map_err(|error| refused(&format!("list pods in namespace {name}"), &error))?.items;
    let services = Api::<Service>::namespaced(client.clone(), name).list(&ListParams::default()).await;
    let services =
        services.map_err(|error| refused(&format!("list services in namespace {name}"), &error))?.items;
    let policies = policies(&client, name).await?;
    let known = connections(place, &pods, name);
    let connections = |pod: &str| known.get(pod).copied();
    Ok(plan(&Scene {
        namespace: &namespace,
        pods: &pods,
        services: &services,
        policies: &policies,
        connections: &connections,
    }))
}

async fn policies(client: &Client, namespace: &str) -> Result<Vec<NetworkPolicy>, ClusterError> {
    let found =
        Api::<NetworkPolicy>::namespaced(client.clone(), namespace).list(&ListParams::default()).await;
    Ok(found
        .map_err(|error| refused(&format!("list network policies in namespace {namespace}"), &error))?
        .items)
}

/// Between two looks at what an agent has found.
const PAUSE: Duration = Duration::from_millis(300);
/// Looks at most: an agent lists the connections of pods within a second of the first question.
const LOOKS: u32 = 12;

/// The pods of a namespace as the agent of one node knows them, when those that run and are not captured tell their connections.
fn workloads(place: &Place, namespace: &str, running: &BTreeSet<&str>) -> Vec<WorkloadView> {
    let target = format!("/workloads?present={}", encode(namespace));
    let mut last = Vec::new();
    for look in 0..LOOKS {
        if look > 0 {
            std::thread::sleep(PAUSE);
        }
        let Ok(rows) = admin::ask::<Vec<WorkloadView>>(place, &target) else { return last };
        last = rows.into_iter().filter(|row| row.namespace == namespace).collect();
        let is_open = |row: &WorkloadView| {
            let here = !row.captured_here && row.not_captured.is_some();
            here && running.contains(&*row.pod) && row.connections_present.is_none()
        };
        if !last.iter().any(is_open) {
            break;
        }
    }
    last
}

/// By pod, as far as agents answer: one that does not is no reason not to show the rest.
fn connections(place: &Place, pods: &[Pod], namespace: &str) -> HashMap<String, u64> {
    let node = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    let nodes: BTreeSet<String> = pods.iter().filter_map(node).collect();
    let running: BTreeSet<&str> = pods.iter().filter(|pod| has_connections(pod)).map(name_of).collect();
    let mut known = HashMap::new();
    for node in nodes.into_iter().take(NODES) {
        let there = Place { node: Some(node), pod: None, ..place.clone() };
        for row in workloads(&there, namespace, &running) {
            let before = row.captured_here.then_some(row.connections_before.len());
            if let Some(count) = before.or(row.connections_present) {
                known.insert(row.pod, count as u64);
            }
        }
    }
    known
}

fn name_of(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

/// Whether an agent can list connections that are the pod's own.
fn has_connections(pod: &Pod) -> bool {
    let on_host = pod.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or_default();
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    !on_host && phase == Some("Running")
}

async fn label(place: &Place, name: &str, enrol: bool) -> Result<(), ClusterError> {
    let value = if enrol { json!("enabled") } else { Value::Null };
    let patch = Patch::Merge(json!({"metadata": {"labels": {LABEL: value}}}));
    let namespaces = Api::<Namespace>::all(client(place).await?);
    let patched = namespaces.patch(name, &PatchParams::default(), &patch).await;
    patched.map(drop).map_err(|error| refused(&format!("label namespace {name}"), &error))
}

fn text(plan: &Plan, arguments: &EnrollArguments, fit: Fit) -> String {
    let mut text = if plan.pods.is_empty() {
        format!("namespace {} has no pods yet: those that come are captured as they start\n", plan.namespace)
    } else {
        pod_table(&plan.pods, fit)
    };
    for port in &plan.server_first {
        let what = if port.declared {
            "its appProtocol says so: nothing to do"
        } else {
            "it is never held up; `appProtocol: tcp` on the port spares the look at its first bytes"
        };
        text.push_str(&format!("\n{}: {} speaks first; {what}\n", port.port, port.protocol));
    }
    for policy in &plan.policies {
        text.push_str(&format!(
            "\nNetworkPolicy {} would cut tunnels ({}) of {}: {}\n",
            policy.policy,
            policy.direction,
            policy.pods.join(", "),
            policy.advice
        ));
    }
    for conflict in &plan.conflicts {
        text.push_str(&format!("\n{conflict}\n"));
    }
    text.push_str(&conclusion(plan, arguments));
    text
}

fn pod_table(pods: &[PodPlan], fit: Fit) -> String {
    let columns = [
        Column { title: "POD", rank: 0, least: 16 },
        Column { title: "NODE", rank: 2, least: 8 },
        Column { title: "CHANGE", rank: 0, least: 16 },
        Column { title: "CONNECTIONS FROM BEFORE", rank: 1, least: 5 },
    ];
    let row = |pod: &PodPlan| {
        let dash = || "-".to_owned();
        vec![
            pod.pod.clone(),
            pod.node.clone().unwrap_or_else(dash),
            pod.change.text().to_owned(),
            pod.connections.map_or_else(dash, |count| count.to_string()),
        ]
    };
    draw(&columns, &pods.iter().map(row).collect::<Vec<_>>(), fit)
}

fn conclusion(plan: &Plan, arguments: &EnrollArguments) -> String {
    let name = &plan.namespace;
    let count = |change: Change| plan.pods.iter().filter(|pod| pod.change == change).count();
    match (arguments.undo, plan.enrolled, arguments.dry_run) {
        (false, true, _) => format!("\nNamespace {name} is enrolled already.\n"),
        (true, false, _) => format!("\nNamespace {name} is not enrolled.\n"),
        (true, true, true) => format!(
            "\nWould take {} pods out of the mesh; new connections go straight.\n",
            count(Change::Already)
        ),
        (true, true, false) => {
            format!("\nNamespace {name} leaves the mesh: {} pods.\n", count(Change::Already))
        }
        (false, false, dry) => {
            let verb = if dry { "Would capture" } else { "Captures" };
            format!(
                "\n{verb} {} pods without a restart. Connections that they have stay as they are until they end.\n",
                count(Change::Captured) + count(Change::Sidecar)
            )
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::{super::enrolment::ServerFirst, *};

    fn plan_of(enrolled: bool) -> Plan {
        let pod = |name: &str, change, connections| PodPlan {
            pod: name.to_owned(),
            node: Some("one".to_owned()),
            change,
            connections,
        };
        let first = if enrolled { Change::Already } else { Change::Captured };
        Plan {
            namespace: "shop".to_owned(),
            enrolled,
            pods: vec![pod("web", first, Some(3)), pod("host", Change::HostNetwork, None)],
            server_first: vec![ServerFirst {
                port: "Service/db:3306".to_owned(),
                protocol: "mysql".to_owned(),
                declared: false,
            }],
            policies: Vec::new(),
            conflicts: Vec::new(),
        }
    }

    fn shown(enrolled: bool, undo: bool, dry_run: bool) -> String {
        let arguments = EnrollArguments { name: "shop".to_owned(), dry_run, undo };
        text(&plan_of(enrolled), &arguments, Fit { width: Some(80), wide: false })
    }

    #[test]
    fn a_rehearsal_says_what_would_change() {
        let text = shown(false, false, true);
        for part in [
            "captured, no restart",
            "cannot be: host network",
            "Service/db:3306: mysql speaks first",
            "Would capture 1 pods",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        assert!(shown(false, false, false).contains("Captures 1 pods"));
        assert!(shown(true, false, false).contains("enrolled already"));
        assert!(shown(true, true, true).contains("Would take 1 pods out"));
        assert!(shown(false, true, false).contains("not enrolled"));
    }
}
