//! `posthaste coverage`: what goes through the mesh and what does not, and whether everything is encrypted.

use super::{
    CliError, Options, client, present,
    table::{Column, Fit, WIDE, draw},
};
use crate::observe::{
    coverage::word,
    views::{CoverageView, PlainView, PodCoverageView},
};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
};

/// Which pods.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct CoverageArguments {
    /// Only pods of this namespace
    #[arg(short, long)]
    pub namespace: Option<String>,
}

/// What the agents that were asked say together.
#[derive(Debug, Default, Serialize)]
pub(super) struct Whole {
    /// Everything that these agents can see is encrypted.
    pub(super) everything_encrypted: bool,
    /// Why not, or what could not be seen.
    pub(super) because: Vec<String>,
    nodes: Vec<String>,
    /// Nodes with pods of the mesh whose agents were not asked, and how many pods.
    nodes_not_asked: BTreeMap<String, usize>,
    namespaces: Vec<OfNamespace>,
    pub(super) pods: Vec<PodCoverageView>,
}

/// The pods of a namespace together.
#[derive(Clone, Debug, Default, Serialize)]
struct OfNamespace {
    namespace: String,
    pods: usize,
    captured: usize,
    mutual_tls: u64,
    plain: u64,
    outside: u64,
    uncaptured_connections: u64,
    udp_flows: u64,
    quic_flows: u64,
    connections_before: u64,
}

/// Asks the agent, and those at `--peer-socket`, and shows what they say together.
pub(super) fn show(
    options: &Options,
    arguments: &CoverageArguments,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let mut views = Vec::new();
    for place in options.places() {
        views.push(client::ask::<CoverageView>(&place, "/coverage")?);
    }
    let whole = whole(views, arguments.namespace.as_deref());
    present(options, &whole, out, |fit| text(&whole, fit))
}

pub(super) fn whole(views: Vec<CoverageView>, namespace: Option<&str>) -> Whole {
    let meant = |name: &str| namespace.is_none_or(|wanted| wanted == name);
    let nodes: Vec<String> = views.iter().map(|view| view.node.clone()).collect();
    let mut far = BTreeSet::new();
    for pod in views.iter().flat_map(|view| &view.elsewhere) {
        if meant(&pod.namespace) && !nodes.contains(&pod.node) {
            far.insert((pod.node.clone(), pod.namespace.clone(), pod.pod.clone()));
        }
    }
    let mut nodes_not_asked = BTreeMap::new();
    for (node, ..) in far {
        *nodes_not_asked.entry(node).or_default() += 1;
    }
    let pods: Vec<_> =
        views.into_iter().flat_map(|view| view.pods).filter(|pod| meant(&pod.namespace)).collect();
    let namespaces = namespaces(&pods);
    let because = because(&pods, &namespaces, &nodes_not_asked);
    Whole { everything_encrypted: because.is_empty(), because, nodes, nodes_not_asked, namespaces, pods }
}

fn namespaces(pods: &[PodCoverageView]) -> Vec<OfNamespace> {
    let mut all: BTreeMap<&str, OfNamespace> = BTreeMap::new();
    for pod in pods {
        let of = all.entry(&pod.namespace).or_default();
        of.namespace.clone_from(&pod.namespace);
        of.pods += 1;
        of.captured += usize::from(pod.captured);
        of.mutual_tls += pod.mutual_tls;
        of.plain += sum(pod, |one| !one.outside);
        of.outside += sum(pod, |one| one.outside);
        of.uncaptured_connections += pod.uncaptured_connections;
        of.connections_before += pod.connections_before as u64;
        of.udp_flows += pod.udp_flows;
        of.quic_flows += pod.quic_flows;
    }
    all.into_values().collect()
}

fn sum(pod: &PodCoverageView, meant: impl Fn(&PlainView) -> bool) -> u64 {
    pod.plain.iter().filter(|one| meant(one)).map(|one| one.connections).sum()
}

/// What keeps the answer from being yes.
fn because(
    pods: &[PodCoverageView],
    namespaces: &[OfNamespace],
    not_asked: &BTreeMap<String, usize>,
) -> Vec<String> {
    let total = |field: fn(&OfNamespace) -> u64| namespaces.iter().map(field).sum::<u64>();
    let uncaptured = pods.iter().filter(|pod| !pod.captured).count() as u64;
    let excluding = pods
        .iter()
        .filter(|pod| !(pod.excluded_outbound_ports.is_empty() && pod.excluded_inbound_ports.is_empty()));
    let facts = [
        (uncaptured, "pods are not captured"),
        (total(|of| of.plain), "connections with pods in plain text"),
        (total(|of| of.outside), "connections with who is outside the mesh in plain text"),
        (total(|of| of.uncaptured_connections), "connections went past the agent"),
        (
            total(|of| of.connections_before),
            "connections from before the capture of their pod go on past the agent",
        ),
        (excluding.count() as u64, "pods exclude ports"),
        (total(|of| of.udp_flows), "destinations of UDP, which is not captured"),
        (total(|of| of.quic_flows), "destinations of QUIC (UDP to port 443), which is not captured"),
    ];
    let some =
        facts.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
    let far = not_asked.iter().map(|(node, pods)| {
        format!("node {node} was not asked, which has {pods} pods of the mesh (--peer-socket)")
    });
    let reasons = pods.iter().flat_map(|pod| {
        pod.reasons.iter().map(|reason| format!("pod {}/{}: {reason}", pod.namespace, pod.pod))
    });
    some.chain(far).chain(reasons).collect()
}

fn text(whole: &Whole, fit: Fit) -> String {
    let column = Column::new;
    let answer = if whole.everything_encrypted { "yes" } else { "no" };
    let mut text = format!("Is everything encrypted, as nodes {} see it? {answer}\n", whole.nodes.join(", "));
    whole.because.iter().for_each(|fact| text.push_str(&format!("  {fact}\n")));
    let of_namespace = |of: &OfNamespace| {
        vec![
            of.namespace.clone(),
            format!("{}/{}", of.captured, of.pods),
            of.mutual_tls.to_string(),
            of.plain.to_string(),
            of.outside.to_string(),
            of.uncaptured_connections.to_string(),
            of.udp_flows.to_string(),
            of.quic_flows.to_string(),
        ]
    };
    let columns = [
        column("NAMESPACE", 0, 9),
        column("CAPTURED", 0, 8),
        column("MTLS", 1, 4),
        column("PLAIN", 1, 5),
        column("OUTSIDE", 2, 7),
        column("PAST", 3, 4),
        column("UDP", 4, 3),
        column("QUIC", 4, 4),
    ];
    text.push('\n');
    text.push_str(&draw(&columns, &whole.namespaces.iter().map(of_namespace).collect::<Vec<_>>(), fit));
    text.push('\n');
    text.push_str(&pods(&whole.pods, fit));
    text
}

fn pods(pods: &[PodCoverageView], fit: Fit) -> String {
    let column = Column::new;
    let columns = [
        column("POD", 0, 12),
        column("CAPTURED", 0, 8),
        column("MTLS", 2, 4),
        column("PLAIN WITH", 1, 14),
        column("PAST", 4, 4),
        column("BEFORE", 4, 6),
        column("EXCLUDES", 3, 8),
        column("UDP TO", 3, 12),
        column("MODE", WIDE, 6),
    ];
    draw(&columns, &pods.iter().map(pod).collect::<Vec<_>>(), fit)
}

fn pod(pod: &PodCoverageView) -> Vec<String> {
    let dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    let plain: Vec<String> = pod
        .plain
        .iter()
        .map(|one| format!("{} {} ({})", word(one.direction), one.other, one.connections))
        .collect();
    let excludes = [("out", &pod.excluded_outbound_ports), ("in", &pod.excluded_inbound_ports)];
    let excludes = excludes.into_iter().filter(|(_, ports)| !ports.is_empty());
    let excludes: Vec<String> = excludes.map(|(way, ports)| format!("{way} {ports:?}")).collect();
    let udp: Vec<String> = pod.udp.iter().map(|one| format!("{} ({})", one.address, one.times)).collect();
    vec![
        format!("{}/{}", pod.namespace, pod.pod),
        pod.why.clone().map_or_else(|| "yes".to_owned(), |why| format!("no: {why}")),
        pod.mutual_tls.to_string(),
        dash(plain.join(", ")),
        pod.uncaptured_connections.to_string(),
        pod.connections_before.to_string(),
        dash(excludes.join(", ")),
        dash(udp.join(", ")),
        pod.mtls.clone(),
    ]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use crate::observe::{Direction, views::ElsewhereView};

    fn pod_of(name: &str) -> PodCoverageView {
        PodCoverageView {
            namespace: "shop".to_owned(),
            pod: name.to_owned(),
            captured: true,
            mutual_tls: 7,
            ..PodCoverageView::default()
        }
    }

    #[test]
    fn yes_is_said_only_where_nothing_speaks_against_it() {
        let view = |pods, far: &str| CoverageView {
            node: "a".to_owned(),
            pods,
            elsewhere: vec![ElsewhereView {
                namespace: "shop".to_owned(),
                pod: "far".to_owned(),
                node: far.to_owned(),
            }],
        };
        let good = whole(vec![view(vec![pod_of("good")], "a")], None);
        assert!(
            good.everything_encrypted && text(&good, Fit { width: None, wide: false }).contains("? yes\n")
        );
        let plain = |outside| PlainView {
            direction: Direction::Outbound,
            other: "x".to_owned(),
            outside,
            connections: 2,
        };
        let table: [(PodCoverageView, &str); 7] = [
            (
                PodCoverageView { captured: false, why: Some("host network".to_owned()), ..pod_of("x") },
                "1 pods are not captured",
            ),
            (
                PodCoverageView { plain: vec![plain(false)], ..pod_of("x") },
                "2 connections with pods in plain text",
            ),
            (
                PodCoverageView { plain: vec![plain(true)], ..pod_of("x") },
                "2 connections with who is outside",
            ),
            (PodCoverageView { excluded_inbound_ports: vec![25], ..pod_of("x") }, "1 pods exclude ports"),
            (PodCoverageView { uncaptured_connections: 3, ..pod_of("x") }, "3 connections went past"),
            (PodCoverageView { connections_before: 2, ..pod_of("x") }, "2 connections from before"),
            (PodCoverageView { quic_flows: 4, ..pod_of("x") }, "4 destinations of QUIC"),
        ];
        for (pod, words) in table {
            let no = whole(vec![view(vec![pod_of("good"), pod], "a")], None);
            assert!(!no.everything_encrypted && no.because[0].contains(words), "{words}: {:?}", no.because);
        }
        let reasons = vec!["connections to ports 25 are excluded".to_owned()];
        let told = whole(
            vec![view(
                vec![PodCoverageView { excluded_outbound_ports: vec![25], reasons, ..pod_of("x") }],
                "a",
            )],
            None,
        );
        assert_eq!(
            told.because,
            ["1 pods exclude ports", "pod shop/x: connections to ports 25 are excluded"]
        );
        let far = whole(vec![view(vec![pod_of("good")], "b")], None);
        assert!(far.because[0].contains("node b was not asked, which has 1 pods"), "{:?}", far.because);
        assert!(whole(vec![view(vec![pod_of("good")], "b")], Some("other")).pods.is_empty());
    }
}
