//! The body of a request on its way up, as the client gives it and the endpoint takes it.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http::HeaderMap;

use crate::{
    path::http::{
        body::{Body, BodyError, Frame},
        io::http2::poll_room,
    },
    tunnel::reference::Entered,
};
use std::rc::Rc;

/// Why a body cannot be sent further.
#[derive(Debug)]
pub(super) enum Stopped {
    /// It broke itself; the stream is cancelled.
    Body(BodyError),
    /// The endpoint takes no more of it, which its answer tells.
    Refused,
}

/// Sends a body.
pub(super) struct Upload {
    pub(super) send: SendStream<Bytes>,
    body: Body,
    /// What the client gave and the endpoint has not taken yet.
    held: Bytes,
    pub(super) ended: bool,
}

impl Upload {
    /// For a stream whose head is queued; `ended` where the head was all.
    pub(super) fn new(send: SendStream<Bytes>, body: Body, ended: bool) -> Self {
        Self { send, body, held: Bytes::new(), ended }
    }

    /// Ready when all was sent. The body is asked only when `open`.
    pub(super) fn poll(&mut self, open: bool, context: &mut Context<'_>) -> Poll<Result<(), Stopped>> {
        while !self.ended {
            if !self.held.is_empty() {
                ready!(self.poll_held(context))?;
                continue;
            }
            let next = if open { self.body.poll_frame(context) } else { Poll::Pending };
            match next {
                Poll::Pending => return self.poll_refused(context),
                Poll::Ready(None) => self.end(None)?,
                Poll::Ready(Some(Ok(Frame::Data(data)))) => self.held = data,
                Poll::Ready(Some(Ok(Frame::Trailers(trailers)))) => self.end(Some(trailers))?,
                Poll::Ready(Some(Err(error))) => {
                    self.ended = true;
                    // An end would tell the endpoint that it has all of it.
                    self.send.send_reset(Reason::CANCEL);
                    return Poll::Ready(Err(Stopped::Body(error)));
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_held(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Stopped>> {
        let room = ready!(poll_room(&mut self.send, context, self.held.len())).ok_or(Stopped::Refused)?;
        let piece = self.held.split_to(room);
        let last = self.held.is_empty() && self.body.is_end();
        self.ended = last;
        if last {
            self.body = Body::Empty;
        }
        Poll::Ready(self.send.send_data(piece, last).map_err(|_| Stopped::Refused))
    }

    /// While nothing is to be sent: whether the endpoint wants no more.
    fn poll_refused(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Stopped>> {
        self.send.poll_reset(context).map(|_| Err(Stopped::Refused))
    }

    fn end(&mut self, trailers: Option<HeaderMap>) -> Result<(), Stopped> {
        self.ended = true;
        self.body = Body::Empty;
        let ended = match trailers {
            Some(trailers) => self.send.send_trailers(trailers),
            None => self.send.send_data(Bytes::new(), true),
        };
        ended.map_err(|_| Stopped::Refused)
    }
}

/// The rest of a request whose answer has begun. Dropped before its end, the stream is cancelled when its answer is read.
pub(in crate::path::http::upstream) struct Rest {
    pub(super) upload: Upload,
    /// The stream counts.
    pub(super) _entered: Rc<Entered>,
}

impl Rest {
    /// Ready when all was sent, or the endpoint takes no more.
    ///
    /// # Errors
    /// The client's body broke.
    pub(in crate::path::http::upstream) fn poll(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), BodyError>> {
        match ready!(self.upload.poll(true, context)) {
            Ok(()) | Err(Stopped::Refused) => {
                self.upload.ended = true;
                Poll::Ready(Ok(()))
            }
            Err(Stopped::Body(error)) => Poll::Ready(Err(error)),
        }
    }
}
