//! `RequestMirror`: a copy of a request to another service, whose answer nobody sees. Copies never hold the request up, and
//! are made only of requests whose body is here whole. They are counted by what became of them.

use std::{rc::Rc, sync::Arc, task::Poll, time::Duration};

use http::{HeaderValue, Request, header};
use tokio::time::timeout;

use super::{
    attempts::Call,
    body::Body,
    filters,
    upstream::{self, Asked, Caller, SendOptions},
};
use crate::{
    observe::monotonic_ns,
    resilience::{
        balance::{self, Outstanding},
        limits, load,
        outlier::{self, Outcome},
    },
    snapshot::{Endpoint, ServicePort},
};

/// For a copy, answer included.
const PATIENCE: Duration = Duration::from_secs(30);

/// Sends the copies that the filters ask for, whatever became of the request itself.
pub(super) fn copies(call: &Call<'_>) {
    let mut random = || fastrand::u64(..);
    for filter in call.plan.filters() {
        for port in filters::mirrors(filter, &mut random) {
            if call.replay.is_complete() && !call.upgrade {
                copy(call, Arc::clone(port));
            }
        }
    }
}

fn copy(call: &Call<'_>, port: Arc<ServicePort>) {
    let mut parts = call.parts.clone();
    mark_host(&mut parts);
    let (session, here) = (call.session, Arc::clone(call.here));
    let (worker, pod, connection) =
        (Rc::clone(&session.worker), Rc::clone(&session.pod), Rc::clone(&session.connection));
    let (client, request) = (session.client, Request::from_parts(parts, call.replay.body()));
    let asked = Asked { http2: call.http2, grpc: call.grpc, direct: false };
    let options = SendOptions { fresh: false, mark: None, upgrade: false, asked };
    session.pod.spawn(async move {
        let caller = Caller { worker: &worker, pod: &pod, here: &here, client, record: &connection };
        let outcome = send(&caller, &port, request, &options).await;
        worker.shared.requests.mirrored(worker.index(), &port, outcome);
    });
}

/// Sends a copy; a word for what became of it.
async fn send(
    caller: &Caller<'_>,
    port: &ServicePort,
    request: Request<Body>,
    options: &SendOptions,
) -> &'static str {
    let Ok(_permit) = limits::try_request(&port.state, &port.policy.limits) else { return "overflow" };
    let started_ns = monotonic_ns();
    let picked = balance::pick_request(port, None, &[], started_ns, &mut || fastrand::u64(..));
    let Some(endpoint) = picked.and_then(|index| port.endpoints.get(index)) else { return "no_endpoint" };
    let _outstanding = Outstanding::request(&endpoint.load);
    let sent = async {
        match upstream::send(caller, port, endpoint, request, options, &mut |_, _| {}).await {
            Ok(answer) => {
                let took_ns = monotonic_ns().saturating_sub(started_ns);
                load::observe_response(&endpoint.load, took_ns, monotonic_ns());
                learn(port, endpoint, Outcome::of_status(answer.response.status().as_u16()), Some(took_ns));
                discard(answer.response.into_body()).await;
                "answered"
            }
            Err(error) => {
                tracing::debug!(%error, service = %port.hostname, "a mirrored request failed");
                if error.endpoints_fault {
                    learn(port, endpoint, Outcome::GatewayFailure, None);
                }
                "failed"
            }
        }
    };
    timeout(PATIENCE, sent).await.unwrap_or("timeout")
}

/// Copies too may find an endpoint out, or be the probe of one that is half-open.
fn learn(port: &ServicePort, endpoint: &Endpoint, outcome: Outcome, took_ns: Option<u64>) {
    load::observe_outcome(&endpoint.load, outcome, monotonic_ns());
    for ejection in outlier::record(port, &endpoint.load, outcome, took_ns, monotonic_ns()) {
        tracing::info!(service = %port.hostname, address = %ejection.address, why = ejection.why.as_str(), "endpoint ejected");
    }
}

/// Envoy marks copies by the host, so that their receiver can tell.
fn mark_host(parts: &mut http::request::Parts) {
    let Some(host) = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok()) else { return };
    let (name, port) = host.rsplit_once(':').map_or((host, None), |(name, port)| (name, Some(port)));
    let marked = port.map_or_else(|| format!("{name}-shadow"), |port| format!("{name}-shadow:{port}"));
    if let Ok(marked) = HeaderValue::from_str(&marked) {
        parts.headers.insert(header::HOST, marked);
    }
}

async fn discard(mut body: Body) {
    std::future::poll_fn(|cx| {
        loop {
            match body.poll_frame(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await;
}
