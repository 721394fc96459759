//! The way back to the client. Head and first piece of an answer leave in one write; the rest of a request goes up while the
//! answer comes down.

use std::{
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderMap, Method, Response, StatusCode, Version};
use tokio::time::timeout;

use super::{
    Broken,
    http2::OverHttp2,
    near::{Near, Stage},
};
use crate::{
    http1::BodyLength,
    path::http::{
        body::{Body, BodyError, Frame},
        upgrade::{Upgraded, relay},
        upstream::Sending,
    },
};

/// Bytes of an answer that are queued before they are written.
const QUEUED: usize = 64 * 1024;
/// How long a request may go on after its answer is complete.
const AFTER_ANSWER: Duration = Duration::from_secs(5);

/// How an answer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplyOutcome {
    /// The client has all of it.
    Finished,
    /// The client went away.
    ClientGone,
    /// The answer's body broke, and the client was told by a reset.
    BodyFailed(BodyError),
}

/// An answer that was sent, or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replied {
    /// How it ended.
    pub outcome: ReplyOutcome,
    /// Bytes of the request's body that were taken (after an upgrade: bytes from the client).
    pub received: u64,
    /// Bytes of the answer's body (after an upgrade: bytes to the client).
    pub sent: u64,
}

/// Where an answer goes. Dropped unused, it ends the connection or the stream without one.
pub struct Reply(To);

enum To {
    Http1(OverHttp1),
    Http2(OverHttp2),
}

impl Reply {
    pub(super) fn over_http1(near: Rc<Near>, method: Method, version: Version) -> Self {
        Self(To::Http1(OverHttp1 { near, method, version }))
    }

    pub(super) fn over_http2(stream: OverHttp2) -> Self {
        Self(To::Http2(stream))
    }

    /// Sends an answer before the answer: 100 or 103.
    pub fn informational(&self, status: StatusCode, headers: &HeaderMap) {
        match &self.0 {
            // 1xx came with HTTP/1.1 (RFC 9110, section 15.2).
            To::Http1(http1) if http1.version == Version::HTTP_10 => {}
            To::Http1(http1) => http1.near.inform(status, headers),
            To::Http2(http2) => http2.inform(status, headers),
        }
    }

    /// Bytes of the request's body that were taken up to now.
    #[must_use]
    pub fn received(&self) -> u64 {
        match &self.0 {
            To::Http1(http1) => http1.near.received.get(),
            To::Http2(http2) => http2.received(),
        }
    }

    /// Sends the answer, and the rest of the request upstream along with it.
    pub async fn respond(self, response: Response<Body>, also: Option<Sending>) -> Replied {
        match self.0 {
            To::Http1(http1) => http1.respond(response, also).await,
            To::Http2(http2) => http2.respond(response, also).await,
        }
    }

    /// Sends 101, or 2xx to CONNECT, then carries bytes both ways until both sides have ended. Only where
    /// [`super::Incoming::upgrade`] says so.
    pub async fn upgrade(self, response: Response<()>, upgraded: Upgraded) -> Replied {
        match self.0 {
            To::Http1(http1) => http1.upgrade(response, upgraded).await,
            To::Http2(http2) => http2.upgrade(response, upgraded).await,
        }
    }
}

struct OverHttp1 {
    near: Rc<Near>,
    method: Method,
    version: Version,
}

impl OverHttp1 {
    async fn respond(self, response: Response<Body>, also: Option<Sending>) -> Replied {
        let (head, body) = response.into_parts();
        let near = &*self.near;
        let length = match BodyLength::of_response(head.status, &self.method, body.remaining()) {
            BodyLength::Chunked if self.version == Version::HTTP_10 => BodyLength::UntilClose,
            length => length,
        };
        // A body that nobody takes would stand before the next request.
        let taken = near.has_request() || also.is_some();
        let keep = near.keeps_alive.get() && !near.leaving.get() && taken && length != BodyLength::UntilClose;
        near.stage.set(Stage::Answering);
        near.write(|writer| writer.response(&head, length, keep, self.version));
        let body = if length == BodyLength::None { Body::Empty } else { body };
        let mut answering = Answering { near, body, rest: Rest(also), keep, sent: 0, ended: false };
        let outcome = match poll_fn(|context| answering.poll(context)).await {
            Ok(()) => {
                answering.rest.finish().await;
                near.stage.set(Stage::Answered { keep });
                ReplyOutcome::Finished
            }
            Err(Broken::Client) => ReplyOutcome::ClientGone,
            Err(Broken::Body(error)) => ReplyOutcome::BodyFailed(error),
        };
        Replied { outcome, received: near.received.get(), sent: answering.sent }
    }

    async fn upgrade(self, response: Response<()>, upgraded: Upgraded) -> Replied {
        let (head, ()) = response.into_parts();
        let near = &*self.near;
        near.stage.set(Stage::Answering);
        near.write(|writer| writer.response(&head, BodyLength::None, true, self.version));
        near.write(|writer| writer.end(None));
        let flushed =
            poll_fn(|context| near.write(|writer| writer.poll_flush(context)).unwrap_or(Poll::Ready(Ok(()))));
        let gone = Replied { outcome: ReplyOutcome::ClientGone, received: 0, sent: 0 };
        if flushed.await.is_err() {
            return gone;
        }
        let Some(wire) = near.hand_over() else { return gone };
        let carried = relay(wire, upgraded.wire).await;
        let outcome = if carried.in_order { ReplyOutcome::Finished } else { ReplyOutcome::ClientGone };
        Replied { outcome, received: carried.up, sent: carried.down }
    }
}

/// The rest of the request, which goes up while the answer comes down.
pub(super) struct Rest(pub(super) Option<Sending>);

impl Rest {
    /// Goes on with it.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Result<(), Broken> {
        if let Some(sending) = &mut self.0
            && let Poll::Ready(sent) = sending.poll_sending(context)
        {
            self.0 = None;
            sent.map_err(|_| Broken::Client)?;
        }
        Ok(())
    }

    /// Lets it go on for a while after the answer: the endpoint may still read it.
    pub(super) async fn finish(&mut self) {
        if let Some(mut sending) = self.0.take() {
            let _ = timeout(AFTER_ANSWER, poll_fn(|context| sending.poll_sending(context))).await;
        }
    }
}

/// An answer on its way.
struct Answering<'near> {
    near: &'near Near,
    body: Body,
    rest: Rest,
    /// Another request may follow.
    keep: bool,
    sent: u64,
    ended: bool,
}

impl Answering<'_> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        self.rest.poll(context)?;
        loop {
            let waits = self.fill(context)?;
            let flushed = self.near.write(|writer| writer.poll_flush(context));
            match flushed.unwrap_or(Poll::Ready(Ok(()))) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Broken::Client)),
                Poll::Ready(Ok(())) if self.ended => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) if waits => return Poll::Pending,
                Poll::Ready(Ok(())) => {}
            }
        }
    }

    /// Queues what there is of the answer; whether more is to be waited for.
    fn fill(&mut self, context: &mut Context<'_>) -> Result<bool, Broken> {
        while !self.ended && self.queued() < QUEUED {
            match self.body.poll_frame(context) {
                Poll::Pending => return Ok(true),
                Poll::Ready(None) => self.end(None),
                Poll::Ready(Some(Ok(Frame::Trailers(trailers)))) => self.end(Some(&trailers)),
                Poll::Ready(Some(Ok(Frame::Data(data)))) => {
                    self.sent += data.len() as u64;
                    self.near.write(|writer| writer.data(data));
                    if self.body.is_end() {
                        self.end(None);
                    }
                }
                Poll::Ready(Some(Err(error))) => return Err(Broken::Body(error)),
            }
        }
        Ok(false)
    }

    fn queued(&self) -> usize {
        self.near.write(|writer| writer.queued()).unwrap_or(0)
    }

    fn end(&mut self, trailers: Option<&HeaderMap>) {
        self.near.write(|writer| {
            writer.end(trailers);
            // The connection ends at once, unless the rest of a request is still under way.
            if !self.keep && self.rest.0.is_none() {
                writer.last();
            }
        });
        self.ended = true;
        // Its connection may serve another request at once.
        self.body = Body::Empty;
    }
}
