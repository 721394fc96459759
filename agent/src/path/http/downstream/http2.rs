//! Serves the requests of one HTTP/2 connection (RFC 9113), each in a task of its own.
//!
//! `h2` speaks the protocol and keeps its limits: streams at once, windows, the size of heads, floods of resets and of
//! CONTINUATION. What is malformed in its terms it answers with RST_STREAM or GOAWAY, which is counted as well; [`head`] refuses the rest
//! with 400.
//!
//! ```text
//! head     a request's head in the form that requests have between both sides
//! stream   what a request's task, its body and the reply share
//! body     the request's body
//! resets   how many requests `h2` refused; heads: whether one is not whole
//! reply    the way back
//! ```

mod body;
mod head;
mod heads;
mod reply;
mod resets;
mod stream;

use std::{
    cell::Cell,
    future::poll_fn,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use h2::{
    Reason, RecvStream,
    server::{Builder, Connection, SendResponse},
};
use http::{Method, Request, Response, StatusCode, Version, request::Parts};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Handler, Incoming, Reply, late::HeadTime};
use crate::{
    http1::HeadError,
    path::http::body::Body,
    tunnel::{
        reference::{Inbox, Unread},
        stream::{Coalesced, Counters, Pass},
        windows::Windows,
    },
};
use body::RequestBody;
use head::Said;
pub(super) use reply::OverHttp2;
use resets::{Seen, Watched};
use stream::Stream;

/// Requests that a client may have under way on one connection; it waits with more. As Envoy's, since a client that keeps that many
/// streams open for good would wait for ever.
const STREAMS: u32 = 1024;
/// Bytes of a request's head; the same as for HTTP/1.
const HEAD_BYTES: u32 = 64 * 1024;
/// Bytes of an answer that a stream may queue.
const QUEUED: usize = 64 * 1024;
/// Bound on the bookkeeping of small unread frames, as `h2` counts it: 256 bytes less a frame's length for each. Above it the connection
/// is closed; what stays unread is taken out long before.
const SMALL_FRAMES: usize = 16 << 20;
/// Streams that were reset before we saw their request (CVE-2023-44487).
const RESET_UNSEEN: usize = 100;

/// What a request did that `h2` resets.
const BROKEN: &str = "the request broke HTTP/2's rules";

impl Windows {
    /// A connection's share of 64 MiB, where the pod has so many at the moment, but no less than HTTP/2 begins with.
    /// Wide enough for some streams that nobody reads to leave room for the others.
    #[must_use]
    pub fn of_one_in(connections: u32) -> Self {
        let share = (64 << 20) / connections.max(1);
        let connection = share.clamp(65_535, 8 << 20);
        Self { stream: connection.min(256 << 10), connection }
    }
}

/// Serves a connection until the client closes it or breaks the protocol, or `leaving` resolves: then no new streams are taken, and
/// the connection is closed when the running ones have ended.
pub async fn serve_http2<S, H>(near: S, windows: Windows, handler: Rc<H>, leaving: impl Future<Output = ()>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    H: Handler,
{
    let counters: Rc<Counters> = Rc::default();
    let (near, flusher) = Coalesced::new(near, Rc::clone(&counters));
    let mut pass = Pass::new(flusher);
    let seen: Rc<Seen> = Rc::default();
    let near = Watched::new(near, Rc::clone(&seen));
    let mut handshake = Box::pin(builder(windows).handshake::<_, Bytes>(near));
    let shaken = poll_fn(|context| pass.poll_now(context, |context| handshake.as_mut().poll(context))).await;
    drop(handshake);
    let ended = match shaken {
        Ok(mut connection) => {
            let mut leaving = pin!(leaving);
            let (mut has_left, mut is_late, mut head_time) = (false, false, HeadTime::default());
            let unread: Rc<Unread> = Rc::default();
            counters.go_on(Unread::often(SMALL_FRAMES));
            poll_fn(|context| {
                if !has_left && leaving.as_mut().poll(context).is_ready() {
                    has_left = true;
                    connection.graceful_shutdown();
                }
                let served =
                    pass.poll(context, |context| poll_serve(&mut connection, &handler, &unread, context));
                if counters.pauses() {
                    unread.gather();
                    counters.go_on(Unread::often(SMALL_FRAMES));
                }
                tell_malformed(&*handler, &seen.resets);
                let begun = seen.within_head.get();
                if served.is_pending() && !is_late && head_time.is_over(begun, &*handler, context) {
                    is_late = true;
                    handler.late(None);
                    connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                    context.waker().wake_by_ref();
                }
                served
            })
            .await
        }
        Err(error) => Err(error),
    };
    if let Err(error) = ended
        && error.is_library()
    {
        handler.malformed(&HeadError::malformed(400, "HTTP/2 protocol error"));
    }
}

/// Of requests that were reset for what they are.
fn tell_malformed<H: Handler>(handler: &H, resets: &Cell<u32>) {
    for _ in 0..resets.take() {
        handler.malformed(&HeadError::malformed(400, BROKEN));
    }
}

fn builder(windows: Windows) -> Builder {
    let mut builder = Builder::new();
    builder
        .initial_window_size(windows.stream)
        .initial_connection_window_size(windows.connection)
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEAD_BYTES)
        .max_send_buffer_size(QUEUED)
        .data_frame_budget(SMALL_FRAMES)
        .max_pending_accept_reset_streams(RESET_UNSEEN)
        .max_local_error_reset_streams(Some(1024));
    builder
}

fn poll_serve<S, H>(
    connection: &mut Connection<S, Bytes>,
    handler: &Rc<H>,
    unread: &Rc<Unread>,
    context: &mut Context<'_>,
) -> Poll<Result<(), h2::Error>>
where
    S: AsyncRead + AsyncWrite + Unpin,
    H: Handler,
{
    loop {
        match connection.poll_accept(context) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(None) => return Poll::Ready(Ok(())),
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
            Poll::Ready(Some(Ok((request, respond)))) => begin(handler, unread, request, respond),
        }
    }
}

/// Starts the work for a request, or refuses it.
fn begin<H: Handler>(
    handler: &Rc<H>,
    unread: &Rc<Unread>,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let (mut parts, receive) = request.into_parts();
    match head::normalise(&mut parts) {
        Ok(said) => {
            let stream = Stream::new(respond, said.expects_continue);
            let opens = said.connects || !receive.is_end_stream();
            let receive = opens.then(|| unread.watch(receive));
            handler.spawn(serve(Rc::clone(handler), stream, parts, said, receive));
        }
        Err(error) => {
            handler.malformed(&error);
            let mut response = Response::new(());
            *response.status_mut() = StatusCode::from_u16(error.status).unwrap_or(StatusCode::BAD_REQUEST);
            // Fails only if the client is gone.
            let _ = respond.send_response(response, true);
        }
    }
}

/// One request from its head to its answer.
async fn serve<H: Handler>(
    handler: Rc<H>,
    stream: Rc<Stream>,
    parts: Parts,
    said: Said,
    mut receive: Option<Inbox>,
) {
    let body = poll_fn(|context| {
        let body = match receive.take() {
            Some(receive) if !said.connects => RequestBody::begin(&stream, receive, said.length, context),
            opened => {
                *stream.receive.borrow_mut() = opened;
                Body::Empty
            }
        };
        Poll::Ready(body)
    })
    .await;
    let reply = Reply::over_http2(OverHttp2 { stream: Rc::clone(&stream), method: parts.method.clone() });
    let upgrade = parts.method == Method::CONNECT;
    let request = Request::from_parts(parts, body);
    let expects_continue = said.expects_continue;
    let incoming = Incoming { request, version: Version::HTTP_2, upgrade, expects_continue };
    let mut work = pin!(handler.handle(incoming, reply));
    poll_fn(|context| poll_work(&stream, work.as_mut(), context)).await;
    stream.close();
}

/// The handler's work, until it is done or nobody waits for it.
fn poll_work(
    stream: &Stream,
    work: Pin<&mut impl Future<Output = ()>>,
    context: &mut Context<'_>,
) -> Poll<()> {
    if work.poll(context).is_ready() {
        return Poll::Ready(());
    }
    stream.poll_gone(context)
}
