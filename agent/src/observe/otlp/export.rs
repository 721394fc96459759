//! The task that sends spans to a collector: it comes round once in a while, takes what waits, and sends it in batches. A batch
//! that a collector does not take at the second time is dropped, so that the newest spans are never held up by old ones.

use super::{SpanQueue, span};
use crate::observe::{clock::wall_offset_ns, requests::Finished};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, trace_service_client::TraceServiceClient,
};
use std::{sync::Arc, time::Duration};
use tonic::transport::{Channel, Endpoint};

/// How often it looks.
const PERIOD: Duration = Duration::from_millis(500);
/// Requests in one message.
const BATCH: usize = 512;
/// For one message.
const PATIENCE: Duration = Duration::from_secs(5);

/// The endpoint cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "--otlp-endpoint `{endpoint}`: {reason}; give http://HOST:PORT of a collector that takes OTLP over gRPC (port 4317)"
)]
pub struct OtlpError {
    endpoint: String,
    reason: String,
}

/// Starts to send what comes into `queue`, on the calling runtime, until it ends. The collector need not be there yet.
///
/// # Errors
/// The address is not one. TLS to the collector is not supported: it is meant to be one of this node, or in the mesh.
pub fn start(endpoint: &str, queue: SpanQueue) -> Result<(), OtlpError> {
    let wrong = |reason: String| OtlpError { endpoint: endpoint.to_owned(), reason };
    let address = Endpoint::from_shared(endpoint.to_owned()).map_err(|error| wrong(error.to_string()))?;
    match (address.uri().scheme_str(), address.uri().authority()) {
        (Some("http"), Some(_)) => {}
        _ => return Err(wrong("is not an address with http://".to_owned())),
    }
    let channel = address.connect_timeout(PATIENCE).timeout(PATIENCE).connect_lazy();
    tokio::spawn(send(TraceServiceClient::new(channel), queue));
    Ok(())
}

async fn send(mut client: TraceServiceClient<Channel>, queue: SpanQueue) {
    let mut rounds = tokio::time::interval(PERIOD);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut reachable = true;
    loop {
        rounds.tick().await;
        loop {
            let requests = queue.take(BATCH);
            if requests.is_empty() {
                break;
            }
            let sent = send_batch(&mut client, &requests).await;
            queue.count_sent(requests.len() as u64, sent.is_ok());
            match (&sent, reachable) {
                (Err(status), true) => {
                    tracing::warn!(%status, "the collector of --otlp-endpoint does not take spans")
                }
                (Ok(()), false) => tracing::info!("the collector of --otlp-endpoint takes spans again"),
                _ => {}
            }
            reachable = sent.is_ok();
        }
    }
}

async fn send_batch(
    client: &mut TraceServiceClient<Channel>,
    requests: &[Arc<Finished>],
) -> Result<(), tonic::Status> {
    let resource_spans = span::batch(requests, wall_offset_ns(), &mut || fastrand::u64(..));
    let request = ExportTraceServiceRequest { resource_spans };
    if client.export(request.clone()).await.is_ok() {
        return Ok(());
    }
    // The connection may have been an old one that the collector had closed.
    client.export(request).await.map(drop)
}
