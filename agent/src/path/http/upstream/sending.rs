//! The request on its way up: its head, then its body as the client gives it and the endpoint takes it.

use std::{
    io,
    rc::Rc,
    task::{Context, Poll},
};

use super::{http1::Joint, http2};
use crate::{
    http1::Writer,
    path::http::{
        body::{Body, BodyError, Frame},
        io::WireSink,
    },
};

/// Bytes of a request that are queued before they are written.
const QUEUED: usize = 64 * 1024;

/// The rest of a request whose answer has begun. Dropped before its end, its connection is not used again, or its stream is
/// cancelled.
pub struct Sending(pub(super) Kind);

/// By what it is sent.
pub(super) enum Kind {
    Http1(Rest),
    Http2(http2::Rest),
}

impl Sending {
    /// Goes on. Ready when all was sent, or the endpoint takes no more, which its answer tells.
    ///
    /// # Errors
    /// The client's body broke; the endpoint's connection was reset.
    pub fn poll_sending(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        match &mut self.0 {
            Kind::Http1(rest) => rest.poll(context),
            Kind::Http2(rest) => rest.poll(context),
        }
    }
}

/// Why a request cannot be sent further.
#[derive(Debug)]
pub(super) enum PumpError {
    /// Its own body broke.
    Body(BodyError),
    /// The endpoint takes no more.
    Write(io::Error),
}

/// Writes a request, as much at once as there is.
pub(super) struct Pump {
    pub(super) writer: Writer<WireSink>,
    body: Body,
    ended: bool,
    /// Something was taken from us, so the endpoint may have seen it.
    pub(super) begun: bool,
}

impl Pump {
    /// For a request whose head is queued.
    pub(super) fn new(writer: Writer<WireSink>, body: Body) -> Self {
        let mut pump = Self { writer, body, ended: false, begun: false };
        if pump.body.is_end() {
            pump.end(None);
        }
        pump
    }

    /// Ready when all was written. The body is asked only when `open`.
    pub(super) fn poll(&mut self, open: bool, context: &mut Context<'_>) -> Poll<Result<(), PumpError>> {
        loop {
            let waits = !open || self.fill(context).map_err(PumpError::Body)?;
            let queued = self.writer.queued();
            let flushed = self.writer.poll_flush(context);
            self.begun |= self.writer.queued() < queued;
            match flushed {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(PumpError::Write(error))),
                Poll::Ready(Ok(())) if self.ended => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) if waits => return Poll::Pending,
                Poll::Ready(Ok(())) => {}
            }
        }
    }

    /// Queues what there is; whether more is to be waited for.
    fn fill(&mut self, context: &mut Context<'_>) -> Result<bool, BodyError> {
        while !self.ended && self.writer.queued() < QUEUED {
            match self.body.poll_frame(context) {
                Poll::Pending => return Ok(true),
                Poll::Ready(None) => self.end(None),
                Poll::Ready(Some(Ok(Frame::Trailers(trailers)))) => self.end(Some(&trailers)),
                Poll::Ready(Some(Ok(Frame::Data(data)))) => {
                    self.writer.data(data);
                    if self.body.is_end() {
                        self.end(None);
                    }
                }
                Poll::Ready(Some(Err(error))) => return Err(error),
            }
        }
        Ok(false)
    }

    fn end(&mut self, trailers: Option<&http::HeaderMap>) {
        self.writer.end(trailers);
        self.ended = true;
        self.body = Body::Empty;
    }
}

/// The rest of a request on an HTTP/1.1 connection; its writer goes back when it is through.
pub(super) struct Rest {
    pub(super) pump: Option<Pump>,
    pub(super) joint: Rc<Joint>,
}

impl Rest {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        let Some(pump) = &mut self.pump else { return Poll::Ready(Ok(())) };
        let ended = match pump.poll(true, context) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(ended) => ended,
        };
        let Some(mut pump) = self.pump.take() else { return Poll::Ready(Ok(())) };
        Poll::Ready(match ended {
            Ok(()) => {
                self.joint.return_writer(pump.writer);
                Ok(())
            }
            Err(PumpError::Write(_)) => {
                self.joint.spoil();
                Ok(())
            }
            Err(PumpError::Body(error)) => {
                self.joint.spoil();
                pump.writer.abort();
                Err(error)
            }
        })
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        if self.pump.is_some() {
            self.joint.spoil();
        }
    }
}
