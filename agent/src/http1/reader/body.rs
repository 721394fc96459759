//! Bodies of the messages that a [`Reader`] reads: delimited by length, chunks or the end of the connection.

use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::{
    super::{
        BodyLength, Source,
        chunked::{Chunked, Step},
    },
    Ended, Reader,
};
use crate::path::http::body::{BodyError, Frame};

/// How far the body of the current message is.
pub(super) enum Decoding {
    Done,
    Exact(u64),
    Chunked(Chunked),
    UntilClose,
    /// The coding is through; this frame is still to be handed out.
    Trailers(http::HeaderMap),
    Broken(BodyError),
}

impl<S: Source> Reader<S> {
    /// The next frame of the body whose head was read; none at its end. Asking for it gives back the window of the frame before.
    pub fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        self.pay();
        loop {
            if let Some(frame) = self.decode() {
                return Poll::Ready(frame);
            }
            if let Some(ended) = self.ended {
                return Poll::Ready(self.cut(ended));
            }
            if let Some(read) = ready!(self.poll_source(cx)) {
                self.buffer = read;
            }
        }
    }

    /// Whether the body was handed out to its end, trailers included.
    pub fn body_ended(&self) -> bool {
        matches!(self.decoding, Decoding::Done)
    }

    /// Bytes of content still to come, where known.
    pub fn remaining(&self) -> Option<u64> {
        match self.decoding {
            Decoding::Done => Some(0),
            Decoding::Exact(left) => Some(left),
            // A message with a content length has no trailers.
            Decoding::Trailers(_) => None,
            Decoding::Chunked(_) | Decoding::UntilClose | Decoding::Broken(_) => None,
        }
    }

    pub(super) fn expect_body(&mut self, body: BodyLength) {
        self.decoding = match body {
            BodyLength::None | BodyLength::Exact(0) => Decoding::Done,
            BodyLength::Exact(length) => Decoding::Exact(length),
            BodyLength::Chunked => Decoding::Chunked(Chunked::default()),
            BodyLength::UntilClose => Decoding::UntilClose,
        };
    }

    /// The next frame out of what is here; none when more must be read.
    fn decode(&mut self) -> Option<Option<Result<Frame, BodyError>>> {
        match &mut self.decoding {
            Decoding::Done => Some(None),
            Decoding::Broken(error) => Some(Some(Err(error.clone()))),
            Decoding::Trailers(trailers) => {
                let trailers = std::mem::take(trailers);
                self.decoding = Decoding::Done;
                Some(Some(Ok(Frame::Trailers(trailers))))
            }
            Decoding::Chunked(_) => self.decode_chunked(),
            Decoding::Exact(_) | Decoding::UntilClose if self.buffer.is_empty() => None,
            Decoding::UntilClose => {
                let data = std::mem::take(&mut self.buffer);
                self.consumed(data.len());
                Some(Some(Ok(Frame::Data(data))))
            }
            Decoding::Exact(left) => {
                let length =
                    usize::try_from(*left).map_or(self.buffer.len(), |left| left.min(self.buffer.len()));
                *left -= length as u64;
                if *left == 0 {
                    self.decoding = Decoding::Done;
                }
                Some(Some(Ok(Frame::Data(self.split(length)))))
            }
        }
    }

    fn decode_chunked(&mut self) -> Option<Option<Result<Frame, BodyError>>> {
        if self.advance_chunks() {
            let Decoding::Chunked(chunked) = &mut self.decoding else { return None };
            let data = chunked.content(&mut self.buffer);
            self.consumed(data.len());
            self.release_empty();
            // The end may be here already: whoever asks `body_ended` now need not wait for another frame.
            self.advance_chunks();
            return Some(Some(Ok(Frame::Data(data))));
        }
        if matches!(self.decoding, Decoding::Chunked(_)) { None } else { self.decode() }
    }

    /// Works through chunk framing. Whether content is at the front of the buffer.
    fn advance_chunks(&mut self) -> bool {
        let Decoding::Chunked(chunked) = &mut self.decoding else { return false };
        let before = self.buffer.len();
        let step = chunked.advance(&mut self.buffer, &self.limits);
        let used = before - self.buffer.len();
        let content = matches!(step, Ok(Step::Content));
        match step {
            Ok(Step::More | Step::Content) => {}
            Ok(Step::End(trailers)) if trailers.is_empty() => self.decoding = Decoding::Done,
            Ok(Step::End(trailers)) => self.decoding = Decoding::Trailers(trailers),
            Err(what) => self.break_body(BodyError::Malformed(what)),
        }
        self.consumed(used);
        self.release_empty();
        content
    }

    /// The source ended within a body.
    fn cut(&mut self, ended: Ended) -> Option<Result<Frame, BodyError>> {
        let what = match ended {
            Ended::Closed if matches!(self.decoding, Decoding::UntilClose) => {
                self.decoding = Decoding::Done;
                return None;
            }
            Ended::Closed => "closed within the body",
            Ended::Reset => "reset within the body",
        };
        let error = BodyError::Cut(what);
        self.break_body(error.clone());
        Some(Err(error))
    }

    fn break_body(&mut self, error: BodyError) {
        self.buffer = Bytes::new();
        self.decoding = Decoding::Broken(error);
    }

    fn split(&mut self, length: usize) -> Bytes {
        let data = self.buffer.split_to(length);
        self.consumed(length);
        self.release_empty();
        data
    }

    /// An empty slice of a large buffer would keep the buffer.
    fn release_empty(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = Bytes::new();
        }
    }
}
