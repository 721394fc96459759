//! The body of an answer, read while it is asked for.

use std::{
    rc::Rc,
    task::{Context, Poll, ready},
};

use h2::RecvStream;

use super::head;
use crate::{
    path::http::{
        body::{Body, BodyError, BodySource, Frame, content},
        io::frames::Frames,
    },
    tunnel::reference::Entered,
};

/// What the endpoint sends.
pub(super) struct Received {
    frames: Frames,
    /// A frame that came with the head.
    first: Option<Frame>,
    /// The stream counts.
    _entered: Rc<Entered>,
}

impl Received {
    /// The body of an answer. What came whole with its head needs no source.
    pub(super) fn body(
        stream: RecvStream,
        left: Option<u64>,
        entered: Rc<Entered>,
        context: &mut Context<'_>,
    ) -> Body {
        if stream.is_end_stream() {
            return Body::Empty;
        }
        let frames = Frames::new(entered.receives(stream), left);
        let mut received = Self { frames, first: None, _entered: entered };
        // An error or an end the stream tells again.
        if let Poll::Ready(Some(Ok(frame))) = received.poll_next(context) {
            match frame {
                Frame::Data(data) if received.is_end() => return Body::Whole(data),
                frame => received.first = Some(frame),
            }
        }
        Body::Source(Box::new(received))
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        Poll::Ready(ready!(self.frames.poll_next(context)).map(|next| match next {
            Ok(Frame::Trailers(trailers)) => {
                head::trailers(trailers).map(Frame::Trailers).map_err(BodyError::Malformed)
            }
            next => next.map_err(|error| cut(&error)),
        }))
    }
}

impl BodySource for Received {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        match self.first.take() {
            Some(first) => Poll::Ready(Some(Ok(first))),
            None if self.frames.ended() => Poll::Ready(None),
            None => self.poll_next(context),
        }
    }

    fn remaining(&self) -> Option<u64> {
        let first = content(self.first.as_ref());
        if self.is_end() { Some(0) } else { self.frames.left().map(|left| left + first) }
    }

    fn is_end(&self) -> bool {
        self.first.is_none() && self.frames.is_end()
    }
}

fn cut(error: &h2::Error) -> BodyError {
    match (error.is_remote(), error.is_library()) {
        (true, _) => BodyError::Cut("the endpoint reset the stream"),
        (_, true) => BodyError::Malformed("the answer broke HTTP/2's rules"),
        (false, false) => BodyError::Cut("the endpoint's connection ended"),
    }
}
