//! The way back to the client over one stream. Content is queued as the client's windows have room for it; it leaves when the
//! connection has its turn, together with what other streams have.

use std::{
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version, header::CONTENT_LENGTH};

use super::stream::{Gone, Stage, Stream};
use crate::{
    http1::{BodyLength, hop::strip_hop_by_hop},
    path::http::{
        body::{Body, Frame},
        downstream::{
            Broken,
            reply::{Replied, ReplyOutcome, Rest},
        },
        io::Wire,
        upgrade::{Upgraded, relay},
        upstream::Sending,
    },
};

/// An answer over HTTP/2.
pub(in super::super) struct OverHttp2 {
    pub(super) stream: Rc<Stream>,
    pub(super) method: Method,
}

impl OverHttp2 {
    pub(in super::super) fn inform(&self, status: StatusCode, headers: &HeaderMap) {
        self.stream.inform(status, headers);
    }

    pub(in super::super) fn received(&self) -> u64 {
        self.stream.received.get()
    }

    pub(in super::super) async fn respond(self, response: Response<Body>, also: Option<Sending>) -> Replied {
        let (mut head, body) = response.into_parts();
        let length = BodyLength::of_response(head.status, &self.method, body.remaining());
        let body = if length == BodyLength::None { Body::Empty } else { body };
        frame(&mut head.headers, length);
        head.version = Version::HTTP_2;
        let stream = &*self.stream;
        let ended = body.is_end();
        let begun = stream.head(Response::from_parts(head, ()), ended);
        let mut answering =
            Answering { stream, body, content: Bytes::new(), rest: Rest(also), sent: 0, ended };
        let answered = match begun {
            Ok(()) => poll_fn(|context| answering.poll(context)).await,
            Err(Gone) => Err(Broken::Client),
        };
        let outcome = match answered {
            Ok(()) => {
                stream.stage.set(Stage::Answered);
                answering.rest.finish().await;
                ReplyOutcome::Finished
            }
            Err(Broken::Client) => ReplyOutcome::ClientGone,
            Err(Broken::Body(error)) => ReplyOutcome::BodyFailed(error),
        };
        Replied { outcome, received: stream.received.get(), sent: answering.sent }
    }

    pub(in super::super) async fn upgrade(self, response: Response<()>, upgraded: Upgraded) -> Replied {
        let (mut head, ()) = response.into_parts();
        frame(&mut head.headers, BodyLength::None);
        head.version = Version::HTTP_2;
        let opened = self.stream.head(Response::from_parts(head, ()), false).is_ok();
        let Some((send, receive)) = self.stream.hand_over().filter(|_| opened) else {
            return Replied { outcome: ReplyOutcome::ClientGone, received: 0, sent: 0 };
        };
        let carried = relay(Wire::of_http2(send, receive), upgraded.wire).await;
        let outcome = if carried.in_order { ReplyOutcome::Finished } else { ReplyOutcome::ClientGone };
        Replied { outcome, received: carried.up, sent: carried.down }
    }
}

/// What the fields say about the length is what will come; nothing is said about the connection.
fn frame(headers: &mut HeaderMap, length: BodyLength) {
    strip_hop_by_hop(headers, false);
    match length {
        BodyLength::Exact(bytes) => drop(headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes))),
        BodyLength::Chunked | BodyLength::UntilClose => drop(headers.remove(CONTENT_LENGTH)),
        // To HEAD it says what GET would get.
        BodyLength::None => {}
    }
}

/// An answer on its way, behind its head.
struct Answering<'stream> {
    stream: &'stream Stream,
    body: Body,
    /// What waits for room.
    content: Bytes,
    rest: Rest,
    sent: u64,
    ended: bool,
}

impl From<Gone> for Broken {
    fn from(_: Gone) -> Self {
        Self::Client
    }
}

impl Answering<'_> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        self.rest.poll(context)?;
        while !self.ended {
            if self.content.is_empty() {
                ready!(self.poll_body(context))?;
            } else {
                ready!(self.poll_send(context))?;
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_body(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        match ready!(self.body.poll_frame(context)) {
            Some(Ok(Frame::Data(data))) => self.content = data,
            Some(Ok(Frame::Trailers(mut trailers))) => {
                strip_hop_by_hop(&mut trailers, false);
                self.stream.trailers(trailers)?;
                self.end();
            }
            Some(Err(error)) => return Poll::Ready(Err(Broken::Body(error))),
            None => {
                self.stream.data(Bytes::new(), true)?;
                self.end();
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let room = ready!(self.stream.poll_room(context, self.content.len()))?;
        let piece = self.content.split_to(room.min(self.content.len()));
        let ends = self.content.is_empty() && self.body.is_end();
        self.sent += piece.len() as u64;
        self.stream.data(piece, ends)?;
        if ends {
            self.end();
        }
        Poll::Ready(Ok(()))
    }

    fn end(&mut self) {
        self.ended = true;
        // Its connection may serve another request at once.
        self.body = Body::Empty;
    }
}
