//! The body of a request, read while it is asked for.

use std::{
    collections::VecDeque,
    rc::Rc,
    task::{Context, Poll, ready},
};

use http::{HeaderMap, StatusCode};

use super::{BROKEN, stream::Stream};
use crate::{
    http1::allowed_trailers,
    path::http::{
        body::{Body, BodyError, BodySource, Frame, content},
        io::frames::Frames,
    },
    tunnel::reference::Inbox,
};

/// What the client sends.
pub(super) struct RequestBody {
    stream: Rc<Stream>,
    frames: Frames,
    /// Frames that were here when the request began.
    ahead: VecDeque<Frame>,
}

impl RequestBody {
    /// The body of a request that has one. What is whole already needs no source.
    pub(super) fn begin(
        stream: &Rc<Stream>,
        receive: Inbox,
        length: Option<u64>,
        context: &mut Context<'_>,
    ) -> Body {
        let stream = Rc::clone(stream);
        let mut body = Self { stream, frames: Frames::new(receive, length), ahead: VecDeque::new() };
        if body.is_end() {
            return Body::Empty;
        }
        if !body.stream.holds_body.get() {
            body.look_ahead(context);
        }
        if !body.frames.ended() || body.ahead.len() > 1 {
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
        while self.ahead.len() < 2 && !self.frames.ended() {
            match self.poll_next(context) {
                Poll::Ready(Some(Ok(frame))) => self.ahead.push_back(frame),
                _ => return,
            }
        }
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let next = ready!(self.frames.poll_next(context));
        if let Some(Ok(Frame::Data(data))) = &next {
            self.stream.received.set(self.stream.received.get() + data.len() as u64);
        }
        Poll::Ready(next.map(|next| match next {
            Ok(Frame::Trailers(trailers)) => Ok(Frame::Trailers(allowed_trailers(trailers))),
            next => next.map_err(|error| cut(&error)),
        }))
    }
}

impl BodySource for RequestBody {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        if let Some(frame) = self.ahead.pop_front() {
            return Poll::Ready(Some(Ok(frame)));
        }
        if self.frames.ended() {
            return Poll::Ready(None);
        }
        if self.stream.holds_body.get() {
            self.stream.inform(StatusCode::CONTINUE, &HeaderMap::new());
        }
        self.poll_next(context)
    }

    fn remaining(&self) -> Option<u64> {
        let ahead: u64 = self.ahead.iter().map(|frame| content(Some(frame))).sum();
        if self.frames.ended() { Some(ahead) } else { self.frames.left().map(|left| left + ahead) }
    }

    fn is_end(&self) -> bool {
        self.ahead.is_empty() && self.frames.is_end()
    }
}

fn cut(error: &h2::Error) -> BodyError {
    match (error.is_reset(), error.is_remote()) {
        (true, true) => BodyError::Cut("the client reset the stream"),
        (true, false) => BodyError::Malformed(BROKEN),
        (false, _) => BodyError::Cut("the client's connection ended"),
    }
}
