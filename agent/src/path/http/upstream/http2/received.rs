//! The body of an answer, read while it is asked for.

use std::{
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::RecvStream;

use super::head;
use crate::{
    path::http::{
        body::{Body, BodyError, BodySource, Frame, content},
        io::http2::{poll_content, release},
    },
    tunnel::reference::Entered,
};

/// What the endpoint sends. Window is given back when the next frame is asked for.
pub(super) struct Received {
    stream: RecvStream,
    /// By `content-length`, to which `h2` holds the endpoint.
    left: Option<u64>,
    /// A frame that came with the head.
    first: Option<Frame>,
    /// Bytes of the last frame, whose window the endpoint has not got back.
    held: usize,
    ended: bool,
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
        let mut received = Self { stream, left, first: None, held: 0, ended: false, _entered: entered };
        if received.is_end() {
            return Body::Empty;
        }
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
        self.give_back();
        match ready!(poll_content(&mut self.stream, context)) {
            Some(Ok(data)) => Poll::Ready(Some(Ok(self.take(data)))),
            Some(Err(error)) => Poll::Ready(Some(Err(cut(&error)))),
            None => self.poll_trailers(context),
        }
    }

    fn take(&mut self, data: Bytes) -> Frame {
        self.held = data.len();
        self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
        if self.stream.is_end_stream() {
            self.ended = true;
            self.give_back();
        }
        Frame::Data(data)
    }

    fn poll_trailers(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let trailers = ready!(self.stream.poll_trailers(context));
        self.ended = true;
        Poll::Ready(match trailers {
            Ok(trailers) => trailers
                .map(|trailers| head::trailers(trailers).map(Frame::Trailers).map_err(BodyError::Malformed)),
            Err(error) => Some(Err(cut(&error))),
        })
    }

    fn give_back(&mut self) {
        let bytes = std::mem::take(&mut self.held);
        if bytes > 0 {
            release(&mut self.stream, bytes);
        }
    }
}

impl BodySource for Received {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        match self.first.take() {
            Some(first) => Poll::Ready(Some(Ok(first))),
            None if self.ended => Poll::Ready(None),
            None => self.poll_next(context),
        }
    }

    fn remaining(&self) -> Option<u64> {
        let first = content(self.first.as_ref());
        if self.is_end() { Some(0) } else { self.left.map(|left| left + first) }
    }

    fn is_end(&self) -> bool {
        self.first.is_none() && (self.ended || self.stream.is_end_stream())
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        self.give_back();
    }
}

fn cut(error: &h2::Error) -> BodyError {
    match (error.is_remote(), error.is_library()) {
        (true, _) => BodyError::Cut("the endpoint reset the stream"),
        (_, true) => BodyError::Malformed("the answer broke HTTP/2's rules"),
        (false, false) => BodyError::Cut("the endpoint's connection ended"),
    }
}
