//! `posthaste graph`: who calls whom, as a picture in text. Read from Istio's standard metrics of the agents that are asked, the same that
//! dashboards are drawn from, so that both agree. Counts are since the agents started.

mod picture;
mod samples;

use super::{CliError, Options, Output, client};
use samples::Sample;
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
};

/// Who is no workload that the mesh knows.
pub(super) const OUTSIDE: &str = "outside";

/// What to draw.
#[derive(Clone, Debug, clap::Args)]
pub struct GraphArguments {
    /// How to write it; `-o json` gives nodes and edges instead
    #[arg(short, long, value_enum, default_value_t = Format::Mermaid)]
    pub format: Format,
    /// Only calls from or to this namespace
    #[arg(short, long)]
    pub namespace: Option<String>,
}

/// How to write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Mermaid's flowchart, for Markdown
    Mermaid,
    /// DOT, for Graphviz
    Dot,
    /// A picture, for a browser
    Svg,
}

/// Workloads as `namespace/name`, and calls between them.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Graph {
    pub(super) nodes: Vec<String>,
    pub(super) edges: Vec<Edge>,
}

/// Calls from one workload to another.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Edge {
    pub(super) from: String,
    pub(super) to: String,
    /// Services that were called, `namespace/name`; none where pods were called by their own addresses.
    pub(super) services: BTreeSet<String>,
    /// Requests that are over; 0 where only connections are seen.
    pub(super) requests: f64,
    /// Of them, failed: no answer, 5xx, or a gRPC status that is the server's fault.
    pub(super) failed: f64,
    /// Connections that were opened.
    pub(super) connections: f64,
    /// Of them, ended.
    pub(super) closed: f64,
    /// Connections that could not be.
    pub(super) refused: f64,
    /// Bytes that connections carried, both ways.
    pub(super) bytes: f64,
    /// All of it was protected by mutual TLS.
    pub(super) encrypted: bool,
}

impl Edge {
    /// Share of what went well, 0 to 1: of the requests, else of the connections. None where there was neither.
    pub(super) fn success(&self) -> Option<f64> {
        let (all, bad) = if self.requests > 0.0 {
            (self.requests, self.failed)
        } else {
            (self.connections + self.refused, self.refused)
        };
        (all > 0.0).then(|| 1.0 - bad / all)
    }

    /// What came since one agent counted this `before`, or all where it was started again.
    pub(super) fn added_to(&self, before: &Self) -> Self {
        let since = |field: fn(&Self) -> f64| {
            let (before, now) = (field(before), field(self));
            if now < before { now } else { now - before }
        };
        Self {
            requests: since(|edge| edge.requests),
            failed: since(|edge| edge.failed),
            connections: since(|edge| edge.connections),
            closed: since(|edge| edge.closed),
            refused: since(|edge| edge.refused),
            bytes: since(|edge| edge.bytes),
            ..self.clone()
        }
    }

    /// What is written at the arrow.
    fn label(&self) -> String {
        let (count, what) = if self.requests > 0.0 {
            (self.requests, "requests")
        } else {
            (self.connections + self.refused, "connections")
        };
        let lock = if self.encrypted { "mTLS" } else { "plain" };
        format!("{count} {what}, {:.1}% good, {lock}", self.success().unwrap_or(1.0) * 100.0)
    }
}

/// Asks and writes.
pub(super) fn show(
    options: &Options,
    arguments: &GraphArguments,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let mut found = Vec::new();
    for place in options.places() {
        found.extend(samples::read(&String::from_utf8_lossy(&client::fetch(&place, "/metrics")?)));
    }
    let graph = graph(&found, arguments.namespace.as_deref());
    let text = match (options.output, arguments.format) {
        (Output::Json, _) => serde_json::to_string_pretty(&graph)? + "\n",
        (_, Format::Mermaid) => picture::mermaid(&graph),
        (_, Format::Dot) => picture::dot(&graph),
        (_, Format::Svg) => picture::svg(&graph),
    };
    out.write_all(text.as_bytes())?;
    Ok(())
}

/// Of a text of metrics.
pub(super) fn read(metrics: &str) -> Graph {
    graph(&samples::read(metrics), None)
}

fn graph(samples: &[Sample], namespace: Option<&str>) -> Graph {
    let mut edges: BTreeMap<(String, String), Edge> = BTreeMap::new();
    for sample in samples.iter().filter(|sample| sample.value > 0.0 && is_reported_once(sample)) {
        let field: fn(&mut Edge) -> &mut f64 = match &*sample.name {
            "istio_requests_total" => |edge| &mut edge.requests,
            "istio_tcp_connections_opened_total" => |edge| &mut edge.connections,
            "istio_tcp_connections_closed_total" => |edge| &mut edge.closed,
            "istio_tcp_sent_bytes_total" | "istio_tcp_received_bytes_total" => |edge| &mut edge.bytes,
            "istio_tcp_connections_failed_total" => |edge| &mut edge.refused,
            _ => continue,
        };
        let (from, to) = (source(sample), destination(sample));
        let is_meant = |node: &str| namespace.is_some_and(|wanted| node.starts_with(&format!("{wanted}/")));
        if namespace.is_some() && !is_meant(&from) && !is_meant(&to) {
            continue;
        }
        let fresh = || Edge { from: from.clone(), to: to.clone(), encrypted: true, ..Edge::default() };
        let edge = edges.entry((from.clone(), to.clone())).or_insert_with(fresh);
        *field(edge) += sample.value;
        if has_failed(sample) {
            edge.failed += sample.value;
        }
        edge.services.extend(service(sample));
        // What was refused went nowhere, in plain text neither.
        edge.encrypted &= sample.name == "istio_tcp_connections_failed_total"
            || sample.label("connection_security_policy") == Some("mutual_tls");
    }
    let edges: Vec<Edge> = edges.into_values().collect();
    let nodes: BTreeSet<&String> = edges.iter().flat_map(|edge| [&edge.from, &edge.to]).collect();
    Graph { nodes: nodes.into_iter().cloned().collect(), edges }
}

/// What the caller's agent says; of callers outside the mesh there is only what the called one's says.
fn is_reported_once(sample: &Sample) -> bool {
    sample.label("reporter") == Some("source") || sample.label("source_workload").is_none()
}

fn source(sample: &Sample) -> String {
    named(sample, "source_workload_namespace", "source_workload").unwrap_or_else(|| OUTSIDE.to_owned())
}

fn destination(sample: &Sample) -> String {
    named(sample, "destination_workload_namespace", "destination_workload")
        .or_else(|| service(sample))
        .unwrap_or_else(|| OUTSIDE.to_owned())
}

fn service(sample: &Sample) -> Option<String> {
    named(sample, "destination_service_namespace", "destination_service_name")
}

fn named(sample: &Sample, namespace: &str, name: &str) -> Option<String> {
    Some(format!("{}/{}", sample.label(namespace)?, sample.label(name)?))
}

/// Status 0 is no answer.
fn has_failed(sample: &Sample) -> bool {
    let bad = |code: &str| code == "0" || code.starts_with('5');
    let grpc = sample
        .label("grpc_response_status")
        .is_some_and(|status| matches!(status, "2" | "4" | "13" | "14" | "15"));
    sample.name == "istio_requests_total" && (sample.label("response_code").is_some_and(bad) || grpc)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    pub(super) fn three() -> Graph {
        let of = |name: &str, reporter: &str, from: &str, to: &str, rest: &str, value: u32| {
            format!(
                "{name}{{reporter=\"{reporter}\",source_workload=\"{from}\",source_workload_namespace=\"shop\",destination_workload=\"{to}\",destination_workload_namespace=\"shop\"{rest}}} {value}\n"
            )
        };
        let tls = ",connection_security_policy=\"mutual_tls\"";
        let text = [
            of("istio_requests_total", "source", "cart", "web", &format!("{tls},response_code=\"200\""), 90),
            of("istio_requests_total", "source", "cart", "web", &format!("{tls},response_code=\"503\""), 10),
            of(
                "istio_requests_total",
                "destination",
                "cart",
                "web",
                &format!("{tls},response_code=\"200\""),
                99,
            ),
            of(
                "istio_tcp_connections_opened_total",
                "source",
                "web",
                "db",
                &format!("{tls},response_flags=\"-\""),
                7,
            ),
            of("istio_tcp_connections_failed_total", "source", "web", "db", "", 1),
            of(
                "istio_tcp_connections_opened_total",
                "destination",
                "unknown",
                "web",
                ",connection_security_policy=\"none\"",
                3,
            ),
        ];
        graph(&samples::read(&text.concat()), None)
    }

    #[test]
    fn calls_are_counted_once_and_coloured_by_success() {
        let graph = three();
        assert_eq!(graph.nodes, ["outside", "shop/cart", "shop/db", "shop/web"]);
        let labels: Vec<_> =
            graph.edges.iter().map(|edge| format!("{} {} {}", edge.from, edge.to, edge.label())).collect();
        assert_eq!(
            labels,
            [
                "outside shop/web 3 connections, 100.0% good, plain",
                "shop/cart shop/web 100 requests, 90.0% good, mTLS",
                "shop/web shop/db 8 connections, 87.5% good, mTLS",
            ]
        );
    }
}
