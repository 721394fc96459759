//! The called side: takes the CONNECTs of one connection and hands each to a handler.
//!
//! Answers 400 itself to what is no CONNECT to an authority; what even HTTP/2 forbids `h2` resets.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use h2::{
    RecvStream,
    server::{Builder, Connection, SendResponse},
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, request::Parts};
use tokio::time::{Sleep, sleep, timeout};

use super::{
    credit::Credit,
    drive::{Entered, Heartbeat, Life, describe},
    halves::{ReferenceReceive, ReferenceSend, both},
    inbox::Inbox,
};
use crate::tunnel::{
    Incoming, RequestHead, Settings, StreamError, TunnelEnd, headers,
    stream::{Coalesced, Pass, Sealed},
};

/// Why a peer's connection never came to carry streams.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServeError {
    /// No HTTP/2 preface and settings within the deadline.
    #[error("the caller did not start HTTP/2 within {0:?}")]
    HandshakeTimeout(Duration),
    /// What came was not HTTP/2.
    #[error("HTTP/2 with the caller: {0}")]
    Handshake(std::sync::Arc<str>),
}

/// Serves one connection after its TLS handshake. `handler` gets each CONNECT and must not do the work itself but start a task,
/// which may outlive this function. When `drain` resolves, a GOAWAY is sent and streams have that long to end.
///
/// # Errors
/// The HTTP/2 handshake failed; afterwards the connection's end is a value.
pub async fn serve<S, H>(
    mut stream: S,
    settings: &Settings,
    handler: H,
    drain: impl Future<Output = Duration>,
) -> Result<TunnelEnd, ServeError>
where
    S: Sealed,
    H: Fn(ReferenceIncoming),
{
    stream.widen();
    let life = Rc::new(Life::default());
    let (stream, flusher) = Coalesced::new(stream, life.counters.clone());
    let mut pass = Pass::new(flusher);
    let mut handshake = Box::pin(builder(settings).handshake(stream));
    let shaken = poll_fn(|context| pass.poll_now(context, |context| handshake.as_mut().poll(context)));
    let deadline = settings.handshake_deadline;
    let mut connection = timeout(deadline, shaken)
        .await
        .map_err(|_| ServeError::HandshakeTimeout(deadline))?
        .map_err(|error| ServeError::Handshake(error.to_string().into()))?;
    drop(handshake);
    let heartbeat = Heartbeat::new(connection.ping_pong(), settings.server_times());
    let credit = Credit::new(settings, &life);
    let mut serving = Serving { connection, pass, heartbeat, credit, life, leaving: None };
    let mut drain = pin!(drain);
    let end = poll_fn(|context| {
        if serving.leaving.is_none()
            && let Poll::Ready(within) = drain.as_mut().poll(context)
        {
            serving.leave(within);
        }
        serving.poll(context, &handler)
    })
    .await;
    serving.life.set_end(end.clone());
    Ok(end)
}

fn builder(settings: &Settings) -> Builder {
    let mut builder = Builder::new();
    builder
        .initial_window_size(settings.stream_window)
        .initial_connection_window_size(settings.connection_window)
        .max_frame_size(settings.frame)
        .max_header_list_size(settings.header_list)
        .header_table_size(settings.header_table)
        .max_concurrent_streams(settings.server_streams)
        .max_send_buffer_size(settings.send_queue)
        .data_frame_budget(settings.small_frames)
        // Rapid reset (CVE-2023-44487): streams reset before they were accepted, and streams that we had to reset. All callers of a
        // tunnel may give up before we come to read, as where their application ends; that is no reason to end the others.
        .max_pending_accept_reset_streams(settings.server_streams as usize)
        .max_concurrent_reset_streams(50)
        .max_local_error_reset_streams(Some(1024));
    builder
}

struct Serving<S> {
    connection: Connection<Coalesced<S>, Bytes>,
    pass: Pass<S>,
    heartbeat: Heartbeat,
    credit: Credit,
    life: Rc<Life>,
    /// GOAWAY was sent; at its end so is the connection.
    leaving: Option<Pin<Box<Sleep>>>,
}

impl<S: Sealed> Serving<S> {
    fn leave(&mut self, within: Duration) {
        self.connection.graceful_shutdown();
        self.leaving = Some(Box::pin(sleep(within)));
    }

    fn poll(&mut self, context: &mut Context<'_>, handler: &impl Fn(ReferenceIncoming)) -> Poll<TunnelEnd> {
        if let Poll::Ready(end) = self.heartbeat.poll(context, &self.life) {
            return Poll::Ready(end);
        }
        if self.leaving.as_mut().is_some_and(|deadline| deadline.as_mut().poll(context).is_ready()) {
            return Poll::Ready(TunnelEnd::Drained);
        }
        let Self { connection, pass, credit, life, leaving, .. } = self;
        pass.poll(context, |context| {
            credit.look(life, connection);
            loop {
                match connection.poll_accept(context) {
                    Poll::Pending => return Credit::pending(life, context),
                    Poll::Ready(Some(Ok((request, respond)))) => dispatch(life, request, respond, handler),
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(describe(&error)),
                    Poll::Ready(None) if leaving.is_some() => return Poll::Ready(TunnelEnd::Drained),
                    Poll::Ready(None) => return Poll::Ready(TunnelEnd::Peer),
                }
            }
        })
    }
}

fn dispatch(
    life: &Rc<Life>,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    handler: &impl Fn(ReferenceIncoming),
) {
    let (parts, body) = request.into_parts();
    match read_head(&parts) {
        Ok(head) => {
            let entered = life.enter();
            // What comes before the answer waits for the application as well.
            let inbox = entered.receives(body);
            let pending = Pending { respond, inbox, entered };
            let incoming = ReferenceIncoming { head, pending: Some(pending) };
            handler(incoming);
        }
        Err(status) => answer(&mut respond, status),
    }
}

/// The parts that matter, or the status of the refusal.
fn read_head(parts: &Parts) -> Result<RequestHead, StatusCode> {
    let authority = parts.uri.authority().filter(|_| parts.method == Method::CONNECT);
    let plain = parts.uri.scheme().is_none() && parts.uri.path_and_query().is_none();
    let authority = authority.filter(|_| plain).ok_or(StatusCode::BAD_REQUEST)?;
    Ok(RequestHead {
        authority: authority.as_str().parse().map_err(|_| StatusCode::BAD_REQUEST)?,
        baggage: text(&parts.headers, headers::BAGGAGE),
        forwarded: text(&parts.headers, headers::FORWARDED),
        traceparent: text(&parts.headers, headers::TRACEPARENT),
        connection: text(&parts.headers, headers::CONNECTION).and_then(|text| text.parse().ok()),
        attempt: text(&parts.headers, headers::ATTEMPT).and_then(|text| text.parse().ok()),
    })
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

fn answer(respond: &mut SendResponse<Bytes>, status: StatusCode) {
    let mut response = Response::new(());
    *response.status_mut() = status;
    // Fails only if the caller is gone.
    let _ = respond.send_response(response, true);
}

/// A CONNECT that waits for its answer.
pub struct ReferenceIncoming {
    head: RequestHead,
    pending: Option<Pending>,
}

struct Pending {
    respond: SendResponse<Bytes>,
    inbox: Inbox,
    entered: Entered,
}

impl fmt::Debug for ReferenceIncoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReferenceIncoming").field("head", &self.head).finish_non_exhaustive()
    }
}

impl Incoming for ReferenceIncoming {
    type Send = ReferenceSend;
    type Receive = ReferenceReceive;

    fn head(&self) -> &RequestHead {
        &self.head
    }

    fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<StreamError> {
        let Some(pending) = &mut self.pending else { return Poll::Ready(StreamError::Ended) };
        pending.respond.poll_reset(context).map(|reset| match reset {
            Ok(reason) => StreamError::Reset(reason.into()),
            Err(error) => pending.entered.life().stream_error(&error),
        })
    }

    fn accept(mut self, baggage: Option<&str>) -> Result<(ReferenceSend, ReferenceReceive), StreamError> {
        let Some(Pending { mut respond, inbox, entered }) = self.pending.take() else {
            return Err(StreamError::Ended);
        };
        let mut response = Response::new(());
        if let Some(value) = baggage.and_then(|text| HeaderValue::from_str(text).ok()) {
            response.headers_mut().insert(headers::BAGGAGE, value);
        }
        let send = respond.send_response(response, false);
        let send = send.map_err(|error| entered.life().stream_error(&error))?;
        Ok(both(entered, send, inbox))
    }

    fn refuse(mut self, status: u16) {
        self.answer(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR));
    }
}

impl ReferenceIncoming {
    fn answer(&mut self, status: StatusCode) {
        if let Some(Pending { mut respond, .. }) = self.pending.take() {
            answer(&mut respond, status);
        }
    }
}

impl Drop for ReferenceIncoming {
    fn drop(&mut self) {
        self.answer(StatusCode::SERVICE_UNAVAILABLE);
    }
}
