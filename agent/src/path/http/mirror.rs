//! `RequestMirror`: a copy of a request to another service, whose answer nobody sees. Copies never hold the request up, and
//! are made only of requests whose body is here whole.

use std::{rc::Rc, sync::Arc, task::Poll, time::Duration};

use http::{HeaderValue, Request, header};
use tokio::time::timeout;

use super::{
    attempts::Call,
    body::Body,
    filters,
    upstream::{self, Asked, Caller, SendOptions},
};
use crate::{observe::monotonic_ns, resilience::balance, snapshot::ServicePort};

/// For a copy, answer included.
const PATIENCE: Duration = Duration::from_secs(30);

/// Sends the copies that the filters ask for.
pub(super) fn after_answer(call: &Call<'_>) {
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
    let (client, body) = (session.client, call.replay.body());
    let asked = Asked { http2: call.http2, grpc: call.grpc, direct: false };
    session.pod.spawn(async move {
        let caller = Caller { worker: &worker, pod: &pod, here: &here, client, record: &connection };
        let options = SendOptions { fresh: false, mark: None, upgrade: false, asked };
        let mut random = || fastrand::u64(..);
        let picked = balance::pick_request(&port, None, &[], monotonic_ns(), &mut random);
        let Some(endpoint) = picked.and_then(|index| port.endpoints.get(index)) else { return };
        let request = Request::from_parts(parts, body);
        let copied = async {
            match upstream::send(&caller, &port, endpoint, request, &options, &mut |_, _| {}).await {
                Ok(answer) => discard(answer.response.into_body()).await,
                Err(error) => tracing::debug!(%error, service = %port.hostname, "a mirrored request failed"),
            }
        };
        if timeout(PATIENCE, copied).await.is_err() {
            tracing::debug!(service = %port.hostname, "a mirrored request took too long");
        }
    });
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
