//! A collector of OpenTelemetry spans: OTLP over gRPC, real but for what it does with them: it keeps them.

use crate::{Doing, Fault, Site, peer::hexadecimal, wait::eventually};
use hyper::{server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{KeyValue, any_value::Value},
};
use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex, PoisonError},
    thread,
};
use tonic::{Request, Response, Status, codegen::Service};

/// What is kept of a span.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Span {
    /// Hexadecimal, as in `traceparent`.
    pub trace: String,
    /// Its own id.
    pub id: String,
    /// Of the span that it is a part of; empty: of none.
    pub parent: String,
    /// Name.
    pub name: String,
    /// Attributes, numbers and flags as texts.
    pub attributes: BTreeMap<String, String>,
    /// Attributes of the pod that it was made for.
    pub resource: BTreeMap<String, String>,
    /// Whether its status is an error.
    pub failed: bool,
}

type Spans = Arc<Mutex<Vec<Span>>>;

/// A collector that runs; it ends with the process.
#[derive(Debug)]
pub struct Collector {
    /// Where it listens.
    pub address: SocketAddr,
    spans: Spans,
    /// Where it runs.
    _site: Site,
}

impl Collector {
    /// Listens in the network namespace of a site.
    ///
    /// # Errors
    /// The port is taken.
    pub fn start(site: Site, port: u16) -> Result<Self, Fault> {
        let address = SocketAddr::new(site.v4.into(), port);
        let listener =
            site.namespace().inside(|| TcpListener::bind(address))?.doing(format!("listen on {address}"))?;
        listener.set_nonblocking(true).doing("make a listener non-blocking")?;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().doing("make a runtime")?;
        let spans = Spans::default();
        let service = Keep(Arc::clone(&spans));
        thread::spawn(move || runtime.block_on(serve(listener, service)));
        Ok(Self { address, spans, _site: site })
    }

    /// All spans so far.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for so many spans of a trace; they are in the order in which they came.
    ///
    /// # Errors
    /// They do not come; says what did.
    pub fn wait_trace(&self, trace: &str, count: usize) -> Result<Vec<Span>, Fault> {
        eventually(&format!("{count} spans of {trace}"), || {
            let all = self.spans();
            let found: Vec<Span> = all.iter().filter(|span| span.trace == trace).cloned().collect();
            if found.len() >= count { Ok(found) } else { Err(format!("{all:?}")) }
        })
    }
}

async fn serve(listener: TcpListener, service: Keep) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let service = TraceServiceServer::new(service);
    while let Ok((socket, _)) = listener.accept().await {
        let service = service.clone();
        let answer = service_fn(move |request| service.clone().call(request));
        tokio::spawn(
            http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), answer),
        );
    }
}

struct Keep(Spans);

#[tonic::async_trait]
impl TraceService for Keep {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for of_pod in request.into_inner().resource_spans {
            let resource = texts(&of_pod.resource.unwrap_or_default().attributes);
            for span in of_pod.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                kept.push(Span {
                    trace: hexadecimal(&span.trace_id),
                    id: hexadecimal(&span.span_id),
                    parent: hexadecimal(&span.parent_span_id),
                    name: span.name,
                    attributes: texts(&span.attributes),
                    resource: resource.clone(),
                    // OTLP's STATUS_CODE_ERROR.
                    failed: span.status.is_some_and(|status| status.code == 2),
                });
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn texts(all: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |pair: &KeyValue| match pair.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(flag)) => flag.to_string(),
        other => format!("{other:?}"),
    };
    all.iter().map(|pair| (pair.key.clone(), text(pair))).collect()
}
