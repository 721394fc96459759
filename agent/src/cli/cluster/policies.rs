//! NetworkPolicies that let the application's port through and not the tunnel's: between two pods of the mesh bytes travel to
//! port 15008 of the called pod, whatever port the caller asked for. Policies add up, so a rule is named only where no
//! other rule makes up for it. Pure.

use super::selector::{Labels, fits};
use crate::config::TUNNEL_PORT;
use k8s_openapi::{
    api::networking::v1::{NetworkPolicy, NetworkPolicyPort},
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use serde::Serialize;

/// A pod that is in the mesh, or will be.
#[derive(Clone, Debug, Default)]
pub(super) struct MeshedPod {
    /// `metadata.namespace`.
    pub(super) namespace: String,
    /// `metadata.name`.
    pub(super) name: String,
    /// `metadata.labels`.
    pub(super) labels: Labels,
}

/// A policy that keeps tunnels out of, or in, some pods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Blocked {
    /// `namespace/name` of the policy.
    pub policy: String,
    /// `ingress` or `egress`.
    pub direction: &'static str,
    /// Pods that it concerns, by name.
    pub pods: Vec<String>,
    /// What to do.
    pub advice: String,
}

/// One rule of either direction: with whom, over what.
struct Rule {
    peers: serde_json::Value,
    ports: Vec<NetworkPolicyPort>,
}

#[derive(Clone, Copy, PartialEq)]
enum Direction {
    Ingress,
    Egress,
}

/// All policies that block, in the order given.
pub(super) fn blocked(policies: &[NetworkPolicy], pods: &[MeshedPod]) -> Vec<Blocked> {
    let both = |policy| [Direction::Ingress, Direction::Egress].map(|direction| (policy, direction));
    let all = policies.iter().flat_map(both);
    all.filter_map(|(policy, direction)| one(policy, direction, policies, pods)).collect()
}

fn one(
    policy: &NetworkPolicy,
    direction: Direction,
    policies: &[NetworkPolicy],
    pods: &[MeshedPod],
) -> Option<Blocked> {
    let is_short =
        |rule: &Rule| is_of_tcp(&rule.ports) && !lets_tunnel_in(&rule.ports) && !is_outside(&rule.peers);
    let short: Vec<Rule> = rules(policy, direction).into_iter().filter(is_short).collect();
    let stranded = |pod: &&MeshedPod| {
        selects(policy, pod) && short.iter().any(|rule| !is_made_up(rule, pod, direction, policies))
    };
    let names: Vec<String> = pods.iter().filter(stranded).map(|pod| pod.name.clone()).collect();
    let direction = match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    };
    (!names.is_empty()).then(|| Blocked {
        policy: format!("{}/{}", namespace(policy), policy.metadata.name.as_deref().unwrap_or_default()),
        direction,
        pods: names,
        advice: format!("add `- {{port: {TUNNEL_PORT}, protocol: TCP}}` to spec.{direction}[].ports: pods of the mesh talk over it"),
    })
}

/// Blocks of addresses are what is not a pod; no tunnel leads there.
fn is_outside(peers: &serde_json::Value) -> bool {
    let peers = peers.as_array().map(Vec::as_slice).unwrap_or_default();
    !peers.is_empty() && peers.iter().all(|peer| peer.get("ipBlock").is_some_and(|block| !block.is_null()))
}

/// Another rule for the same pod lets the tunnel through for everybody, or for exactly these peers.
fn is_made_up(rule: &Rule, pod: &MeshedPod, direction: Direction, policies: &[NetworkPolicy]) -> bool {
    let others =
        policies.iter().filter(|other| selects(other, pod)).flat_map(|other| rules(other, direction));
    let wide = |other: &Rule| other.peers.as_array().is_none_or(Vec::is_empty) || other.peers == rule.peers;
    others.filter(|other| lets_tunnel_in(&other.ports)).any(|other| wide(&other))
}

/// The rules of a direction that the policy restricts at all.
fn rules(policy: &NetworkPolicy, direction: Direction) -> Vec<Rule> {
    let Some(spec) = &policy.spec else { return Vec::new() };
    let peers = |peers: &Option<Vec<_>>| serde_json::to_value(peers).unwrap_or_default();
    let types = spec.policy_types.as_deref().unwrap_or_default();
    match direction {
        // `policyTypes` defaults to Ingress, and to Egress as well where there is an egress section.
        Direction::Ingress if types.is_empty() || types.iter().any(|one| one == "Ingress") => {
            let rules = spec.ingress.iter().flatten();
            rules
                .map(|rule| Rule { peers: peers(&rule.from), ports: rule.ports.clone().unwrap_or_default() })
                .collect()
        }
        Direction::Egress if types.is_empty() || types.iter().any(|one| one == "Egress") => {
            let rules = spec.egress.iter().flatten();
            rules
                .map(|rule| Rule { peers: peers(&rule.to), ports: rule.ports.clone().unwrap_or_default() })
                .collect()
        }
        _ => Vec::new(),
    }
}

fn selects(policy: &NetworkPolicy, pod: &MeshedPod) -> bool {
    let everything = LabelSelector::default();
    let selector = policy.spec.as_ref().and_then(|spec| spec.pod_selector.as_ref()).unwrap_or(&everything);
    namespace(policy) == pod.namespace && fits(selector, &pod.labels)
}

fn namespace(policy: &NetworkPolicy) -> &str {
    policy.metadata.namespace.as_deref().unwrap_or("default")
}

/// A rule for other protocols alone (DNS over UDP) is none for connections of the mesh.
fn is_of_tcp(ports: &[NetworkPolicyPort]) -> bool {
    ports.is_empty() || of_tcp(ports).next().is_some()
}

/// No list of ports is all ports.
fn lets_tunnel_in(ports: &[NetworkPolicyPort]) -> bool {
    ports.is_empty() || of_tcp(ports).any(holds_tunnel)
}

fn of_tcp(ports: &[NetworkPolicyPort]) -> impl Iterator<Item = &NetworkPolicyPort> {
    ports.iter().filter(|port| port.protocol.as_deref().unwrap_or("TCP") == "TCP")
}

fn holds_tunnel(port: &NetworkPolicyPort) -> bool {
    let tunnel = i32::from(TUNNEL_PORT);
    match (&port.port, port.end_port) {
        (None, _) => true,
        (Some(IntOrString::Int(first)), Some(last)) => (*first..=last).contains(&tunnel),
        (Some(IntOrString::Int(only)), None) => *only == tunnel,
        (Some(IntOrString::String(_)), _) => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use serde_json::{Value, json};

    fn policy(name: &str, spec: &Value) -> NetworkPolicy {
        let object = json!({"metadata": {"name": name, "namespace": "shop"}, "spec": spec});
        serde_json::from_value(object).unwrap()
    }

    fn found(specs: &[Value]) -> Vec<(String, &'static str, Vec<String>)> {
        let policies: Vec<_> =
            specs.iter().enumerate().map(|(number, spec)| policy(&format!("p{number}"), spec)).collect();
        let pod = |name: &str| MeshedPod {
            namespace: "shop".to_owned(),
            name: name.to_owned(),
            labels: Labels::from([("app".to_owned(), name.to_owned())]),
        };
        let blocked = blocked(&policies, &[pod("web"), pod("db")]);
        blocked.into_iter().map(|one| (one.policy, one.direction, one.pods)).collect()
    }

    fn ingress(ports: &Value) -> Value {
        json!({"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"],
               "ingress": [{"from": [{"podSelector": {}}], "ports": ports}]})
    }

    #[test]
    fn a_rule_for_the_application_port_alone_is_named() {
        let web = |policy: &str| vec![(policy.to_owned(), "ingress", vec!["web".to_owned()])];
        for (ports, blocks) in [
            (json!([{"port": 8080}]), true),
            (json!([{"port": "http"}]), true),
            (json!([{"port": 8080, "protocol": "TCP"}, {"port": 15008}]), false),
            (json!([{"port": 15000, "endPort": 15010}]), false),
            (json!([{"port": 8000, "endPort": 9000}]), true),
            (json!([{"protocol": "TCP"}]), false),
            (json!([{"port": 53, "protocol": "UDP"}]), false),
            (json!([]), false),
        ] {
            let expected = if blocks { web("shop/p0") } else { Vec::new() };
            assert_eq!(found(&[ingress(&ports)]), expected, "{ports}");
        }
    }

    #[test]
    fn policies_add_up() {
        let short = ingress(&json!([{"port": 8080}]));
        let same_peers = ingress(&json!([{"port": 15008}]));
        assert_eq!(found(&[short.clone(), same_peers]), []);
        let everybody =
            json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"ports": [{"port": 15008}]}]});
        assert_eq!(found(&[short.clone(), everybody]), []);
        let others = json!({"podSelector": {}, "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"namespaceSelector": {}}], "ports": [{"port": 15008}]}]});
        assert_eq!(found(&[short, others]).len(), 1);
    }

    #[test]
    fn addresses_outside_the_cluster_need_no_tunnel() {
        let spec = json!({"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}], "ports": [{"port": 8080}]}]});
        assert_eq!(found(&[spec]), []);
    }

    #[test]
    fn what_is_closed_on_purpose_is_no_mistake() {
        assert_eq!(found(&[json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})]), []);
    }

    #[test]
    fn egress_counts_as_well() {
        let spec = json!({"podSelector": {"matchLabels": {"app": "db"}}, "policyTypes": ["Egress"],
            "egress": [{"ports": [{"port": 53, "protocol": "UDP"}]}, {"to": [{"podSelector": {}}], "ports": [{"port": 5432}]}]});
        assert_eq!(found(&[spec]), [("shop/p0".to_owned(), "egress", vec!["db".to_owned()])]);
    }
}
