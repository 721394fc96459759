//! What `/metrics` shows of requests: Istio's request metrics, and what is ours: routes, retries, limits, ejections.

use super::{
    line::RouteText,
    series::RequestSeries,
    tally::{Reasons, RouteKey, RouteTally, ServiceTally},
};
use crate::{
    observe::{
        Sources,
        metrics::{Labels, count, gauge, histogram, labels},
    },
    resilience::bulkhead::Bulkhead,
};
use prometheus_client::{collector::Collector, encoding::DescriptorEncoder, metrics::MetricType};
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

#[derive(Debug)]
pub(crate) struct RequestCollector(pub(crate) Arc<Sources>);

type Encoder<'a, 'b> = &'a mut DescriptorEncoder<'b>;

impl Collector for RequestCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let requests = &self.0.requests.0;
        let series: Vec<_> = requests.books.series.all();
        let all: Vec<_> = series.iter().map(|series| Named::of(series)).collect();
        standard(&mut encoder, &all)?;
        let tallies = requests.books.services();
        services(&mut encoder, &tallies)?;
        reasons(&mut encoder, &tallies, &requests.overflow)?;
        routes(&mut encoder, &requests.books.routes())?;
        let help = "Requests that were refused because they are not unambiguous HTTP";
        let name = "posthaste_malformed_requests";
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (what, value) in requests.malformed.all() {
            count(&mut family, &[("what", what)], value)?;
        }
        about(&mut encoder, &self.0)
    }
}

/// A series with the texts of its numbers.
struct Named<'a> {
    series: &'a RequestSeries,
    status: String,
    grpc: String,
    flags: std::borrow::Cow<'static, str>,
}

impl<'a> Named<'a> {
    fn of(series: &'a RequestSeries) -> Self {
        let labels = &series.labels;
        Self {
            series,
            status: labels.status.to_string(),
            grpc: labels.grpc.map_or_else(String::new, |status| status.to_string()),
            flags: labels.flags.text(),
        }
    }

    fn labels(&self) -> Labels<'_> {
        let all = &self.series.labels;
        let mut pairs = labels(&all.parties, all.protocol.label(), &self.flags);
        pairs.extend([("response_code", &*self.status), ("grpc_response_status", &*self.grpc)]);
        pairs
    }
}

fn standard(encoder: Encoder<'_, '_>, all: &[Named<'_>]) -> fmt::Result {
    let name = "istio_requests";
    let mut family = encoder.encode_descriptor(name, "Requests that are over", None, MetricType::Counter)?;
    for one in all {
        count(&mut family, &one.labels(), one.series.requests.load(Relaxed))?;
    }
    let name = "istio_request_duration_milliseconds";
    let help = "From the head of a request to the end of its answer";
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    for one in all {
        let times = &one.series.duration;
        histogram(&mut family, &one.labels(), float(times.sum()) / 1e6, &times.buckets())?;
    }
    let name = "istio_request_bytes";
    let mut family = encoder.encode_descriptor(name, "Bodies of requests", None, MetricType::Histogram)?;
    for one in all {
        let bytes = &one.series.request_bytes;
        histogram(&mut family, &one.labels(), float(bytes.sum()), &bytes.buckets())?;
    }
    let name = "istio_response_bytes";
    let mut family = encoder.encode_descriptor(name, "Bodies of answers", None, MetricType::Histogram)?;
    for one in all {
        let bytes = &one.series.response_bytes;
        histogram(&mut family, &one.labels(), float(bytes.sum()), &bytes.buckets())?;
    }
    Ok(())
}

#[allow(clippy::cast_precision_loss, reason = "sums of a scrape are floats")]
fn float(value: u64) -> f64 {
    value as f64
}

fn services(encoder: Encoder<'_, '_>, tallies: &[Arc<ServiceTally>]) -> fmt::Result {
    let fields: [Field<ServiceTally>; 3] = [
        ("posthaste_request_retries", "Attempts beside the first", |tally| &tally.retries),
        ("posthaste_request_hedges", "Attempts started while another was under way", |tally| &tally.hedges),
        ("posthaste_retry_budget_refused", "Attempts that the retry budget did not allow", |tally| {
            &tally.budget_refused
        }),
    ];
    let ports: Vec<String> = tallies.iter().map(|tally| tally.port.to_string()).collect();
    let rows = tallies.iter().zip(&ports);
    let rows = rows.map(|(tally, port)| (&**tally, [("service", &*tally.name.hostname), ("port", &**port)]));
    let rows: Vec<_> = rows.collect();
    single(encoder, fields, &rows)?;
    // By limit, of which one delays.
    let limit = ("limit", Bulkhead::Turn.as_str());
    let rows: Vec<_> =
        rows.into_iter().map(|(tally, [service, port])| (tally, [service, port, limit])).collect();
    let delayed: Field<ServiceTally> =
        ("posthaste_delayed_requests", "Requests that waited for a limit", |tally| &tally.put_off);
    single(encoder, [delayed], &rows)
}

/// A counter's name, what it counts, and where it stands.
type Field<T> = (&'static str, &'static str, fn(&T) -> &AtomicU64);

/// Counters of which each row has one.
fn single<T, const N: usize, const L: usize>(
    encoder: Encoder<'_, '_>,
    fields: [Field<T>; N],
    rows: &[(&T, [(&str, &str); L])],
) -> fmt::Result {
    for (name, help, field) in fields {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (row, labels) in rows {
            count(&mut family, labels, field(row).load(Relaxed))?;
        }
    }
    Ok(())
}

fn reasons(encoder: Encoder<'_, '_>, tallies: &[Arc<ServiceTally>], before: &Reasons) -> fmt::Result {
    let help = "Connections, requests and attempts that a limit refused";
    let mut family = encoder.encode_descriptor("posthaste_overflow", help, None, MetricType::Counter)?;
    for (limit, value) in before.all() {
        count(&mut family, &[("service", "unknown"), ("port", ""), ("limit", limit)], value)?;
    }
    for tally in tallies {
        let (service, port) = (&*tally.name.hostname, tally.port.to_string());
        for (limit, value) in tally.overflow.all() {
            count(&mut family, &[("service", service), ("port", &port), ("limit", limit)], value)?;
        }
    }
    let (name, help) = ("posthaste_endpoint_ejections", "Endpoints that were ejected because of requests");
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for tally in tallies {
        let (service, port) = (&*tally.name.hostname, tally.port.to_string());
        for (why, value) in tally.ejections.all() {
            count(&mut family, &[("service", service), ("port", &port), ("why", why)], value)?;
        }
    }
    let (name, help) = ("posthaste_mirrored_requests", "Copies of requests by what became of them");
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for tally in tallies {
        let (service, port) = (&*tally.name.hostname, tally.port.to_string());
        for (outcome, value) in tally.mirrored.all() {
            count(&mut family, &[("service", service), ("port", &port), ("outcome", outcome)], value)?;
        }
    }
    Ok(())
}

fn routes(encoder: Encoder<'_, '_>, routes: &[(RouteKey, Arc<RouteTally>)]) -> fmt::Result {
    let texts: Vec<(String, String)> =
        routes.iter().map(|(key, _)| (RouteText(&key.route).to_string(), key.port.to_string())).collect();
    let rows = routes.iter().zip(&texts).map(|((key, tally), (route, port))| {
        (&**tally, [("route", &**route), ("backend", &*key.backend), ("port", &**port)])
    });
    let rows: Vec<_> = rows.collect();
    let help = "Requests by rule of a route, backend and hundred of the status";
    let mut family =
        encoder.encode_descriptor("posthaste_route_requests", help, None, MetricType::Counter)?;
    for (tally, [route, backend, port]) in &rows {
        for (class, value) in tally.classes() {
            count(&mut family, &[*route, *backend, *port, ("code_class", class)], value)?;
        }
    }
    let fields: [Field<RouteTally>; 5] = [
        ("posthaste_route_retries", "Attempts beside the first, by rule of a route", |tally| &tally.retries),
        ("posthaste_route_hedges", "Attempts beside another one, by rule of a route", |tally| &tally.hedges),
        (
            "posthaste_route_budget_refused",
            "Attempts that the retry budget did not allow, by rule",
            |tally| &tally.budget_refused,
        ),
        ("posthaste_route_overflow", "Requests and attempts that a limit refused, by rule", |tally| {
            &tally.overflow
        }),
        (
            "posthaste_route_endpoint_ejections",
            "Endpoints that were ejected because of requests, by rule",
            |tally| &tally.ejections,
        ),
    ];
    single(encoder, fields, &rows)
}

fn about(encoder: Encoder<'_, '_>, sources: &Sources) -> fmt::Result {
    let requests = &sources.requests;
    let help = "Requests under way";
    let mut family = encoder.encode_descriptor("posthaste_requests_active", help, None, MetricType::Gauge)?;
    gauge(&mut family, &[], i64::try_from(requests.active()).unwrap_or(i64::MAX))?;
    let help = "Label sets of request metrics that were counted as unknown";
    let name = "posthaste_request_series_overflowed";
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    count(&mut family, &[], requests.0.books.series.overflowed())?;
    let counts = requests.0.options.spans.counts();
    let (name, help) = ("posthaste_otlp_requests", "Requests with spans by what became of them");
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (outcome, value) in
        [("exported", counts.exported), ("dropped", counts.dropped), ("failed", counts.failed)]
    {
        count(&mut family, &[("outcome", outcome)], value)?;
    }
    Ok(())
}
