//! The body of a request, read while it is asked for.

use std::{
    collections::VecDeque,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::RecvStream;
use http::{HeaderMap, StatusCode};

use super::stream::Stream;
use crate::{
    http1::allowed_trailers,
    path::http::{
        body::{Body, BodyError, BodySource, Frame, content},
        io::http2::{poll_content, release},
    },
};

/// What the client sends. Window is given back when the next frame is asked for, or none will follow.
pub(super) struct RequestBody {
    stream: Rc<Stream>,
    receive: RecvStream,
    /// Frames that were here when the request began.
    ahead: VecDeque<Frame>,
    /// Bytes of the last frame, whose window the client has not got back.
    held: usize,
    /// By `content-length`; `h2` holds the client to it.
    left: Option<u64>,
    ended: bool,
}

impl RequestBody {
    /// The body of a request that has one. What is whole already needs no source.
    pub(super) fn begin(
        stream: &Rc<Stream>,
        receive: RecvStream,
        length: Option<u64>,
        context: &mut Context<'_>,
    ) -> Body {
        let stream = Rc::clone(stream);
        let mut body = Self { stream, receive, ahead: VecDeque::new(), held: 0, left: length, ended: false };
        if body.is_end() {
            return Body::Empty;
        }
        if !body.stream.holds_body.get() {
            body.look_ahead(context);
        }
        if !body.ended || body.ahead.len() > 1 {
            return Body::Source(Box::new(body));
        }
        match body.ahead.pop_front() {
            None => Body::Empty,
            Some(Frame::Data(data)) => Body::Whole(data),
            Some(trailers) => {
                body.ahead.push_front(trailers);
                Body::Source(Box::new(body))
            }
        }
    }

    /// Takes the first frame, and what tells whether it is the last. An error the source tells again.
    fn look_ahead(&mut self, context: &mut Context<'_>) {
        while self.ahead.len() < 2 && !self.ended {
            match self.poll_next(context) {
                Poll::Ready(Some(Ok(frame))) => self.ahead.push_back(frame),
                _ => return,
            }
        }
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        self.give_back();
        match ready!(poll_content(&mut self.receive, context)) {
            Some(Ok(data)) => Poll::Ready(Some(Ok(self.take(data)))),
            Some(Err(error)) => Poll::Ready(Some(Err(cut(&error)))),
            None => self.poll_trailers(context),
        }
    }

    fn take(&mut self, data: Bytes) -> Frame {
        self.held = data.len();
        self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
        self.stream.received.set(self.stream.received.get() + data.len() as u64);
        if self.receive.is_end_stream() {
            self.ended = true;
            self.give_back();
        }
        Frame::Data(data)
    }

    fn poll_trailers(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let trailers = ready!(self.receive.poll_trailers(context));
        self.ended = true;
        Poll::Ready(match trailers {
            Ok(None) => None,
            Ok(Some(trailers)) => Some(Ok(Frame::Trailers(allowed_trailers(trailers)))),
            Err(error) => Some(Err(cut(&error))),
        })
    }

    fn give_back(&mut self) {
        let bytes = std::mem::take(&mut self.held);
        if bytes > 0 {
            release(&mut self.receive, bytes);
        }
    }
}

impl BodySource for RequestBody {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        if let Some(frame) = self.ahead.pop_front() {
            return Poll::Ready(Some(Ok(frame)));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        if self.stream.holds_body.get() {
            self.stream.inform(StatusCode::CONTINUE, &HeaderMap::new());
        }
        self.poll_next(context)
    }

    fn remaining(&self) -> Option<u64> {
        let ahead: u64 = self.ahead.iter().map(|frame| content(Some(frame))).sum();
        if self.ended { Some(ahead) } else { self.left.map(|left| left + ahead) }
    }

    fn is_end(&self) -> bool {
        self.ahead.is_empty() && (self.ended || self.receive.is_end_stream())
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        self.give_back();
    }
}

fn cut(error: &h2::Error) -> BodyError {
    match (error.is_reset(), error.is_remote()) {
        (true, true) => BodyError::Cut("the client reset the stream"),
        (true, false) => BodyError::Malformed("the request broke HTTP/2's rules"),
        (false, _) => BodyError::Cut("the client's connection ended"),
    }
}
