//! What `/metrics` shows, in the OpenMetrics text format: Istio's connection metrics from the series, and what the agent says of
//! itself as `posthaste_*`. Everything is read when it is asked for; nothing is copied in between.

use super::{
    ResponseFlag,
    series::{Party, Series, SeriesLabels, SeriesTable},
    sources::Sources,
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, LabelSetEncoder, MetricEncoder, text::encode},
    metrics::{MetricType, exemplar::Exemplar},
    registry::Registry,
};
use std::{collections::HashMap, fmt, sync::Arc};

/// The registry behind `/metrics`.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
}

pub(crate) type Labels<'a> = Vec<(&'static str, &'a str)>;

impl Metrics {
    /// Metrics of these sources and series.
    #[must_use]
    pub fn new(sources: &Arc<Sources>, series: &Arc<SeriesTable>) -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(SeriesCollector(series.clone())));
        registry.register_collector(Box::new(super::requests::RequestCollector(sources.clone())));
        registry.register_collector(Box::new(super::breakers::BreakerCollector(sources.clone())));
        registry.register_collector(Box::new(super::agent_metrics::AgentCollector(sources.clone())));
        registry.register_collector(Box::new(super::coverage::CoverageCollector(sources.clone())));
        Self { registry }
    }

    /// The text of a scrape.
    ///
    /// # Errors
    /// Never in practice: writing to a string does not fail.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// Writes one counter with its labels.
pub(crate) fn count(family: &mut MetricEncoder<'_>, labels: &[(&str, &str)], value: u64) -> fmt::Result {
    type None = Option<&'static Exemplar<[(&'static str, &'static str); 0], u64>>;
    let absent: None = Option::None;
    if labels.is_empty() {
        return family.encode_counter(&value, absent);
    }
    family.encode_family(&Pairs(labels))?.encode_counter(&value, absent)
}

/// Writes one gauge with its labels.
pub(crate) fn gauge(family: &mut MetricEncoder<'_>, labels: &[(&str, &str)], value: i64) -> fmt::Result {
    if labels.is_empty() {
        return family.encode_gauge(&value);
    }
    family.encode_family(&Pairs(labels))?.encode_gauge(&value)
}

/// Writes one histogram with its labels; the last of `buckets` has no bound.
pub(crate) fn histogram(
    family: &mut MetricEncoder<'_>,
    labels: &[(&str, &str)],
    sum: f64,
    buckets: &[(f64, u64)],
) -> fmt::Result {
    let count = buckets.iter().map(|(_, count)| count).sum();
    type NoExemplars<'a> = Option<&'a HashMap<usize, Exemplar<[(&'static str, &'static str); 0], f64>>>;
    let absent: NoExemplars<'_> = None;
    family.encode_family(&Pairs(labels))?.encode_histogram(sum, count, buckets, absent)
}

struct Pairs<'a>(&'a [(&'a str, &'a str)]);

impl EncodeLabelSet for Pairs<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        self.0.encode(encoder)
    }
}

type Field = fn(&Series) -> u64;

#[derive(Debug)]
struct SeriesCollector(Arc<SeriesTable>);

impl Collector for SeriesCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let all = self.0.all();
        let counters: [(&str, &str, Field); 4] = [
            ("istio_tcp_connections_opened", "Connections whose other side was reached", Series::opened),
            ("istio_tcp_connections_closed", "Connections that ended after being opened", Series::closed),
            ("istio_tcp_sent_bytes", "Bytes from the server to the client", Series::sent),
            ("istio_tcp_received_bytes", "Bytes from the client to the server", Series::received),
        ];
        for (name, help, value) in counters {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for series in all.iter().filter(|series| series.opened() > 0) {
                counter(&mut family, series, ResponseFlag::None, value(series))?;
            }
        }
        let name = "istio_tcp_connections_failed";
        let help = "Connections that ended before their other side was reached";
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for series in &all {
            for flag in ResponseFlag::ALL.into_iter().filter(|flag| series.failed(*flag) > 0) {
                counter(&mut family, series, flag, series.failed(flag))?;
            }
        }
        Ok(())
    }
}

fn counter(family: &mut MetricEncoder<'_>, series: &Series, flag: ResponseFlag, value: u64) -> fmt::Result {
    count(family, &labels(&series.labels, "tcp", flag.as_str()), value)
}

/// Istio's standard labels.
pub(crate) fn labels<'a>(labels: &'a SeriesLabels, protocol: &'a str, flags: &'a str) -> Labels<'a> {
    let service = labels.service.as_ref();
    let mut pairs: Labels<'_> = vec![("reporter", labels.direction.reporter())];
    party(&mut pairs, &labels.source, SOURCE);
    party(&mut pairs, &labels.destination, DESTINATION);
    pairs.extend([
        ("destination_service", known(service.map(|service| &*service.hostname))),
        ("destination_service_name", known(service.map(|service| &*service.name))),
        ("destination_service_namespace", known(service.map(|service| &*service.namespace))),
        ("request_protocol", protocol),
        ("response_flags", flags),
        ("connection_security_policy", labels.security.as_str()),
    ]);
    pairs
}

const SOURCE: [&str; 8] = [
    "source_workload",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_canonical_service",
    "source_canonical_revision",
    "source_cluster",
];

const DESTINATION: [&str; 8] = [
    "destination_workload",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_cluster",
];

fn party<'a>(pairs: &mut Labels<'a>, party: &'a Party, names: [&'static str; 8]) {
    let values = [
        Some(&*party.workload),
        Some(&*party.namespace),
        party.principal.as_ref().map(crate::snapshot::SpiffeId::as_str),
        Some(&*party.app),
        Some(&*party.version),
        Some(&*party.canonical_service),
        Some(&*party.canonical_revision),
        Some(&*party.cluster),
    ];
    pairs.extend(names.into_iter().zip(values.map(known)));
}

fn known(value: Option<&str>) -> &str {
    value.filter(|text| !text.is_empty()).unwrap_or("unknown")
}
