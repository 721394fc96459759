//! `/healthz`, `/readyz` and `/metrics` of the CA, for kubelet and Prometheus.

use std::{net::SocketAddr, sync::Arc};

use hyper::StatusCode;
use tokio::net::TcpListener;

use super::{ClusterError, gate::ClusterGate, keeper::Keeper};
use crate::{
    ca::counts::Counts,
    observe::http::{self, Answer, Answers, Listener},
};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Starts the server on the calling runtime.
pub(super) async fn start(
    address: SocketAddr,
    keeper: Arc<Keeper>,
    gate: Arc<ClusterGate>,
    counts: Counts,
) -> Result<(), ClusterError> {
    let listener = TcpListener::bind(address).await;
    let listener = listener.map_err(|source| ClusterError::Health { address, source })?;
    tokio::spawn(http::serve(Listener::Tcp(listener), answers(keeper, gate, counts)));
    Ok(())
}

fn answers(keeper: Arc<Keeper>, gate: Arc<ClusterGate>, counts: Counts) -> Answers {
    Arc::new(move |path, _| match path {
        "/healthz" => Answer::text(StatusCode::OK, "ok\n"),
        "/readyz" => match keeper.not_ready().or_else(|| gate.not_ready()) {
            None => Answer::text(StatusCode::OK, "ready\n"),
            Some(reason) => Answer::text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")),
        },
        "/metrics" => scrape(&counts),
        _ => Answer::text(StatusCode::NOT_FOUND, "no such page\n"),
    })
}

fn scrape(counts: &Counts) -> Answer {
    match counts.text() {
        Ok(text) => Answer { status: StatusCode::OK, content: OPEN_METRICS, body: text.into() },
        Err(error) => Answer::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}
