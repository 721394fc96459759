//! Spans of requests as a real collector receives them over gRPC.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::{SpanQueue, start};
use crate::observe::{
    RequestProtocol, Requests, Security,
    requests::{
        AttemptOutcome, RequestOptions, RequestTrace,
        tests::{endpoint, head, note, opening, service_port},
        trace::TRACEPARENT,
    },
    tests::pod,
};
use hyper::{server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{ResourceSpans, Span},
};
use std::{collections::BTreeMap, time::Duration};
use tokio::{net::TcpListener, sync::mpsc, time::timeout};
use tonic::{Request, Response, Status, codegen::Service};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

struct Collector(mpsc::UnboundedSender<ResourceSpans>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for spans in request.into_inner().resource_spans {
            self.0.send(spans).unwrap();
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn collector(listener: TcpListener) -> mpsc::UnboundedReceiver<ResourceSpans> {
    let (sender, received) = mpsc::unbounded_channel();
    let service = TraceServiceServer::new(Collector(sender));
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let service = service.clone();
            let answer = service_fn(move |request| service.clone().call(request));
            let server = http2::Builder::new(TokioExecutor::new());
            tokio::spawn(server.serve_connection(TokioIo::new(socket), answer));
        }
    });
    received
}

fn requests(queue: &SpanQueue) -> Requests {
    Requests::new(1, RequestOptions { spans: queue.clone(), ..RequestOptions::default() })
}

/// One request; `headers` beside the host.
fn request(
    requests: &Requests,
    protocol: RequestProtocol,
    uri: &str,
    headers: &[(&str, &str)],
    failed: bool,
) -> RequestTrace {
    let caller = pod("web-1", "web");
    let mut head = head("GET", uri, headers);
    let mut draws = 0;
    let trace = requests.trace(&mut head.headers, &mut || {
        draws += 1;
        draws
    });
    let record = requests
        .begin(0, &super::super::RequestOpening { protocol, trace: Some(trace), ..opening(&caller, &head) });
    record.service(&service_port("cart"));
    record.endpoint(endpoint(2), None, Security::MutualTls);
    if failed {
        record.attempt(note(1, AttemptOutcome::Failed("reset"), false));
    }
    record.attempt(note(2, AttemptOutcome::Status(if failed { 503 } else { 200 }), false));
    let grpc = (protocol == RequestProtocol::Grpc).then_some(14);
    record.response(if failed { 503 } else { 200 }, grpc);
    record.finish(1_005_000_000);
    trace
}

fn attributes(all: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |pair: &KeyValue| match pair.value.clone().unwrap().value.unwrap() {
        Value::StringValue(text) => text,
        Value::IntValue(number) => number.to_string(),
        Value::BoolValue(flag) => flag.to_string(),
        other => panic!("{other:?}"),
    };
    all.iter().map(|pair| (pair.key.clone(), text(pair))).collect()
}

async fn spans(
    received: &mut mpsc::UnboundedReceiver<ResourceSpans>,
    count: usize,
) -> (BTreeMap<String, String>, Vec<Span>) {
    let mut resource = BTreeMap::new();
    let mut all = Vec::new();
    while all.len() < count {
        let next = timeout(Duration::from_secs(10), received.recv()).await.unwrap().unwrap();
        resource = attributes(&next.resource.unwrap().attributes);
        all.extend(next.scope_spans.into_iter().flat_map(|scope| scope.spans));
    }
    assert_eq!(all.len(), count);
    (resource, all)
}

#[tokio::test]
async fn a_collector_gets_a_span_for_the_request_and_one_for_each_of_several_attempts() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let queue = SpanQueue::on(0.0);
    start(&format!("http://{address}"), queue.clone()).unwrap();
    let mut received = collector(listener);
    let requests = requests(&queue);
    let not = request(&requests, RequestProtocol::Http1, "/unsampled", &[], false);
    assert!(!not.recorded && !not.own.sampled);
    let trace = request(
        &requests,
        RequestProtocol::Http1,
        "/items?secret=1",
        &[("host", "cart:80"), ("user-agent", "curl"), (TRACEPARENT.as_str(), PARENT)],
        true,
    );
    let (resource, spans) = spans(&mut received, 3).await;
    assert_eq!((&*resource["service.namespace"], &*resource["k8s.pod.name"]), ("shop", "web-1"));
    let own = &spans[0];
    assert_eq!(own.trace_id, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes());
    assert_eq!(own.parent_span_id, 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes());
    assert_eq!(own.span_id, trace.own.span_id.to_be_bytes());
    assert_eq!((&*own.name, own.kind, own.status.as_ref().unwrap().code), ("GET", 3, 2));
    assert_eq!(own.end_time_unix_nano - own.start_time_unix_nano, 5_000_000);
    let shown = attributes(&own.attributes);
    for (key, value) in [
        ("http.request.method", "GET"),
        ("url.full", "http://cart:80/items"),
        ("server.address", "cart.shop.svc.cluster.local"),
        ("server.port", "80"),
        ("network.peer.address", "10.0.1.2"),
        ("network.protocol.version", "1.1"),
        ("http.response.status_code", "503"),
        ("http.request.resend_count", "1"),
        ("user_agent.original", "curl"),
        ("error.type", "503"),
    ] {
        assert_eq!(shown.get(key).map(String::as_str), Some(value), "{key}");
    }
    assert!(!format!("{spans:?}").contains("secret"));
    for (number, attempt) in spans[1..].iter().enumerate() {
        assert_eq!((&attempt.trace_id, &attempt.parent_span_id), (&own.trace_id, &own.span_id));
        assert_eq!(attributes(&attempt.attributes)["http.request.resend_count"], number.to_string());
        assert_ne!(attempt.span_id, own.span_id);
    }
    assert_eq!(attributes(&spans[1].attributes)["error.type"], "reset");
    let counts = queue.counts();
    assert_eq!((counts.dropped, counts.failed), (0, 0));
}

#[tokio::test]
async fn a_collector_that_comes_late_gets_what_comes_after() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let queue = SpanQueue::on(1.0);
    start(&format!("http://{address}"), queue.clone()).unwrap();
    let requests = requests(&queue);
    request(&requests, RequestProtocol::Http2, "/lost", &[], false);
    for _ in 0..200 {
        if queue.counts().failed > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert_eq!(queue.counts().failed, 1);
    let mut received = collector(TcpListener::bind(address).await.unwrap());
    request(&requests, RequestProtocol::Grpc, "http://cart/shop.Cart/Add", &[], false);
    let (_, spans) = spans(&mut received, 1).await;
    let shown = attributes(&spans[0].attributes);
    assert_eq!(spans[0].name, "shop.Cart/Add");
    assert_eq!(
        (&*shown["rpc.service"], &*shown["rpc.method"], &*shown["rpc.grpc.status_code"]),
        ("shop.Cart", "Add", "14")
    );
    assert_eq!((&*shown["error.type"], spans[0].status.as_ref().unwrap().code), ("14", 2));
    assert!(spans[0].parent_span_id.is_empty());
}

#[tokio::test]
async fn a_worker_never_waits_for_a_collector() {
    let queue = SpanQueue::on(1.0);
    let requests = requests(&queue);
    for _ in 0..10_000 {
        request(&requests, RequestProtocol::Http1, "/", &[], false);
    }
    assert_eq!(queue.counts().dropped, 10_000 - 8192);
}

#[tokio::test]
async fn an_endpoint_that_cannot_be_used_is_said_at_once() {
    for endpoint in ["", "collector:4317", "https://collector:4317", "http://", "ftp://x"] {
        let error = start(endpoint, SpanQueue::on(1.0)).unwrap_err().to_string();
        assert!(error.contains("--otlp-endpoint") && error.contains("http://HOST:PORT"), "{error}");
    }
}
