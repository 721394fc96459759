//! The endpoint's side: one attempt of one request, on a pooled connection or a new one.
//!
//! ```text
//! application the pod's own, for requests that came in
//! pool       connections of a worker, by calling pod, endpoint and protocol
//! link       reaches an endpoint for a pool
//! version    HTTP/1.1 or HTTP/2; pure
//! http1      one request on an HTTP/1.1 connection; http2: one on a stream of HTTP/2
//! sending    the request's body, also after its answer began
//! ```
//!
//! What was not sent can be sent elsewhere, whatever the request: [`Progress::NotSent`] is said only where it is proved, that is
//! the connect failed, the stream was refused or above the last one of a GOAWAY, or not a byte was taken from us.

mod application;
mod http1;
mod http2;
mod link;
mod pool;
mod sending;
mod version;

use std::{borrow::Cow, net::SocketAddr, rc::Rc, sync::Arc};

use http::{HeaderMap, Request, Response, StatusCode};
use tokio::time::Instant;

use super::{
    body::{Body, BodyError},
    upgrade::Upgraded,
};
use crate::{
    observe::{CloseReason, Connection, Security},
    path::connect,
    resilience::limits::Overflow,
    snapshot::{Endpoint, LocalPod, ServicePort, SpiffeId, protocol::ServerSpeaks},
    tunnel::RetryMark,
    worker::{PodHere, Worker},
};

pub use application::Application;
pub use pool::Upstream;
pub use sending::Sending;
pub use version::Asked;
use version::Version;

/// Who asks.
pub struct Caller<'a> {
    /// The worker that serves it.
    pub worker: &'a Rc<Worker>,
    /// The calling pod.
    pub pod: &'a Rc<PodHere>,
    /// The same in the snapshot.
    pub here: &'a Arc<LocalPod>,
    /// The application's end of its connection.
    pub client: SocketAddr,
    /// The record of that connection.
    pub record: &'a Connection,
}

/// How one attempt is made.
#[derive(Clone, Debug)]
pub struct SendOptions {
    /// On a new connection. (Without it a request with a method that is not idempotent still takes only one that was used within
    /// the last second.)
    pub fresh: bool,
    /// Tells the called agent that this is a retry; implies a connection of its own, which is not pooled after.
    pub mark: Option<RetryMark>,
    /// The request asks for an upgrade and the client can take the answer 101, or it is CONNECT.
    pub upgrade: bool,
    /// What chooses the version of HTTP.
    pub asked: Asked,
}

/// Given what arrives before the answer: 100 and 103 with their headers.
pub type Informational<'a> = &'a mut dyn FnMut(StatusCode, HeaderMap);

/// The head of an answer, and what goes on.
pub struct Answer {
    /// Head and body; hop-by-hop headers are gone, but those of an upgrade.
    pub response: Response<Body>,
    /// The rest of the request's body, to be polled along with the answer's; none when all is sent.
    pub sending: Option<Sending>,
    /// After 101, or 2xx to CONNECT.
    pub upgraded: Option<Upgraded>,
    /// The connection had carried requests before.
    pub reused: bool,
    /// How long the endpoint took to accept the connection, nanoseconds; 0 where it was reused.
    pub connect_ns: u64,
    /// What protects the connection.
    pub security: Security,
    /// Who the peer proved to be.
    pub peer: Option<SpiffeId>,
}

/// Whether an application may have seen the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It certainly has not.
    NotSent,
    /// It may have.
    Sent,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The endpoint was not reached.
    #[error("not reached: {}", .0.as_str())]
    Connect(CloseReason),
    /// HTTP/2 was begun and broken off.
    #[error("HTTP/2 did not start")]
    Handshake,
    /// The endpoint speaks something else.
    #[error("it does not speak HTTP/2")]
    NotHttp2,
    /// REFUSED_STREAM.
    #[error("the stream was refused")]
    RefusedStream,
    /// The stream is above the last one of the endpoint's GOAWAY.
    #[error("the endpoint is going away")]
    GoAway,
    /// End of file where an answer should be.
    #[error("closed before an answer")]
    ClosedBeforeAnswer,
    /// The connection or the stream was reset.
    #[error("reset before an answer")]
    Reset,
    /// What came is no answer.
    #[error("malformed answer: {0}")]
    MalformedAnswer(&'static str),
    /// The client's body broke: its fault.
    #[error("the request's body: {0}")]
    Body(BodyError),
    /// The service has all that it may have from this node.
    #[error("the limit `{}` of this node is reached", .0.as_str())]
    Overflow(Overflow),
}

/// An attempt without an answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct SendError {
    /// Whether an application may have seen the request.
    pub progress: Progress,
    /// What went wrong.
    pub reason: Failure,
    /// Another endpoint may do better; not so where the fault is the client's or this node's.
    pub elsewhere: bool,
    /// The endpoint is to blame.
    pub endpoints_fault: bool,
}

impl SendError {
    fn not_sent(reason: Failure) -> Self {
        Self { progress: Progress::NotSent, reason, elsewhere: true, endpoints_fault: true }
    }

    fn sent(reason: Failure) -> Self {
        Self { progress: Progress::Sent, reason, elsewhere: true, endpoints_fault: true }
    }

    fn body(error: BodyError) -> Self {
        let reason = Failure::Body(error);
        Self { progress: Progress::Sent, reason, elsewhere: false, endpoints_fault: false }
    }
}

/// Sends one request to one endpoint and waits for the head of the answer. There is no deadline but that of the connect: drop
/// this to give up. A dropped attempt resets its stream or closes its connection.
///
/// # Errors
/// Why there is no answer, and whether the request may have been seen.
pub async fn send(
    caller: &Caller<'_>,
    port: &ServicePort,
    endpoint: &Endpoint,
    mut request: Request<Body>,
    options: &SendOptions,
    informational: Informational<'_>,
) -> Result<Answer, SendError> {
    normalise(&mut request);
    let endpoint = with_pod(caller, endpoint).await?;
    let endpoint = &*endpoint;
    let learnt = &port.state.learnt;
    let known = learnt.server();
    let version = version::choose(port.protocol, known, options.asked, request.method(), options.upgrade);
    let mut lesson = None;
    if let Version::Http2 { only } = version {
        match http2::lane(caller, port, endpoint, options).await {
            Ok(lane) => {
                learnt.note_server(Some(ServerSpeaks::Http2));
                return http2::exchange(lane.noted(caller), request, informational).await;
            }
            // Nothing of the request was sent: it goes in the older version.
            Err(error) if error.reason == Failure::NotHttp2 && !only => lesson = Some(ServerSpeaks::Http1),
            Err(error) => return Err(error),
        }
    }
    let answered = http1::send(caller, port, endpoint, request, options, informational).await;
    match &answered {
        Ok(_) => lesson.into_iter().for_each(|lesson| learnt.note_server(Some(lesson))),
        // Perhaps it speaks HTTP/2 by now.
        Err(SendError { reason: Failure::MalformedAnswer(_), .. }) if known == Some(ServerSpeaks::Http1) => {
            learnt.note_server(None);
        }
        Err(_) => {}
    }
    answered
}

/// The endpoint with its pod, which is asked for where no snapshot knew it: what is kept for it is kept by who it is.
async fn with_pod<'endpoint>(
    caller: &Caller<'_>,
    endpoint: &'endpoint Endpoint,
) -> Result<Cow<'endpoint, Endpoint>, SendError> {
    if endpoint.workload.is_some() {
        return Ok(Cow::Borrowed(endpoint));
    }
    let deadline = Instant::now() + caller.worker.shared.connect.total;
    let found = connect::endpoint::peer(caller.worker, endpoint.address, deadline).await;
    // No fault of the endpoint that nobody says who it is.
    let failed =
        |reason| SendError { endpoints_fault: false, ..SendError::not_sent(Failure::Connect(reason)) };
    match found.map_err(failed)? {
        None => Ok(Cow::Borrowed(endpoint)),
        workload => Ok(Cow::Owned(Endpoint { workload, ..endpoint.clone() })),
    }
}

/// A target that was rewritten to another authority says it in `host` as well, and only there.
fn normalise(request: &mut Request<Body>) {
    if request.method() == http::Method::CONNECT || request.uri().authority().is_none() {
        return;
    }
    let parts = std::mem::take(request.uri_mut()).into_parts();
    if let Some(host) = parts.authority.and_then(|name| http::HeaderValue::from_str(name.as_str()).ok()) {
        request.headers_mut().insert(http::header::HOST, host);
    }
    let path = parts.path_and_query.unwrap_or_else(|| http::uri::PathAndQuery::from_static("/"));
    *request.uri_mut() = path.into();
}
