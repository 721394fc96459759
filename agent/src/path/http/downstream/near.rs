//! The client's HTTP/1 connection, as the loop, the request's body and the reply share it.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::{Context, Poll, Waker, ready},
};

use http::{HeaderMap, StatusCode};

use crate::{
    http1::{Idle, Reader, Writer},
    path::http::{
        body::{Body, BodyError, BodySource, Frame, content},
        io::{Wire, WireSink, WireSource},
    },
};

/// What is done for a client at the moment.
pub(super) struct Near {
    pub(super) reader: RefCell<Option<Reader<WireSource>>>,
    pub(super) writer: RefCell<Option<Writer<WireSink>>>,
    /// Bytes of the request's body that were taken.
    pub(super) received: Cell<u64>,
    /// The client holds its body back until it is told to go on.
    pub(super) holds_body: Cell<bool>,
    /// The request allows another one after it.
    pub(super) keeps_alive: Cell<bool>,
    /// No more requests are taken.
    pub(super) leaving: Cell<bool>,
    /// How far the answer is.
    pub(super) stage: Cell<Stage>,
    /// What is wrong with the request's body.
    pub(super) malformed: Cell<Option<&'static str>>,
}

/// How far the answer to a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nothing of it was sent.
    Waiting,
    /// It has begun.
    Answering,
    /// It was sent whole, and said whether another request may follow.
    Answered { keep: bool },
    /// Somebody else has the connection now.
    Upgraded,
}

impl Near {
    pub(super) fn new(reader: Reader<WireSource>, writer: Writer<WireSink>) -> Rc<Self> {
        Rc::new(Self {
            reader: RefCell::new(Some(reader)),
            writer: RefCell::new(Some(writer)),
            received: Cell::new(0),
            holds_body: Cell::new(false),
            keeps_alive: Cell::new(false),
            leaving: Cell::new(false),
            stage: Cell::new(Stage::Waiting),
            malformed: Cell::new(None),
        })
    }

    /// Does something with the reader, unless it was handed over.
    pub(super) fn read<R>(&self, read: impl FnOnce(&mut Reader<WireSource>) -> R) -> Option<R> {
        self.reader.borrow_mut().as_mut().map(read)
    }

    /// Does something with the writer, unless it was handed over.
    pub(super) fn write<R>(&self, write: impl FnOnce(&mut Writer<WireSink>) -> R) -> Option<R> {
        self.writer.borrow_mut().as_mut().map(write)
    }

    /// Whether all of the request was taken.
    pub(super) fn has_request(&self) -> bool {
        self.read(|reader| reader.body_ended()).unwrap_or(false)
    }

    /// Sends an answer that is not the last one, unless that has begun. What the socket does not take now leaves with the next.
    pub(super) fn inform(&self, status: StatusCode, headers: &HeaderMap) {
        if status == StatusCode::CONTINUE {
            self.holds_body.set(false);
        }
        if self.stage.get() != Stage::Waiting {
            return;
        }
        self.write(|writer| {
            writer.informational(status, headers);
            // An error shows again at the next write.
            let _ = writer.poll_flush(&mut Context::from_waker(Waker::noop()));
        });
    }

    /// Ready when the client has gone, as far as that can be seen: after its request, and before it sent another one.
    /// An end of file from a client that will not use the connection again is no more than that.
    pub(super) fn poll_gone(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut reader = self.reader.borrow_mut();
        let Some(reader) = reader.as_mut() else { return Poll::Pending };
        if !reader.body_ended() || reader.has_buffered() || !self.keeps_alive.get() {
            return Poll::Pending;
        }
        match ready!(reader.poll_idle(context)) {
            Idle::Closed => Poll::Ready(()),
            // The next request, before this one is answered.
            Idle::Unexpected => Poll::Pending,
        }
    }

    /// Both halves, for whatever comes after HTTP.
    pub(super) fn hand_over(&self) -> Option<Wire> {
        let (reader, writer) = (self.reader.take()?, self.writer.take()?);
        self.stage.set(Stage::Upgraded);
        let (source, ahead) = reader.into_parts();
        Some(Wire { source: source.with_ahead(ahead), sink: writer.into_sink() })
    }
}

/// The body of a request, read while it is asked for.
pub(super) struct RequestBody {
    near: Rc<Near>,
    /// A frame that came with the head.
    first: Option<Frame>,
}

impl RequestBody {
    /// The body of the request whose head was read. What came whole with the head needs no source.
    pub(super) fn begin(near: &Rc<Near>, context: &mut Context<'_>) -> Body {
        if near.has_request() {
            return Body::Empty;
        }
        let mut body = Self { near: Rc::clone(near), first: None };
        if !near.holds_body.get() {
            match body.poll_frame(context) {
                Poll::Ready(Some(Ok(Frame::Data(data)))) if near.has_request() => return Body::Whole(data),
                Poll::Ready(Some(Ok(frame))) => body.first = Some(frame),
                // An error or an end the reader tells again.
                _ => {}
            }
        }
        Body::Source(Box::new(body))
    }
}

impl BodySource for RequestBody {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        if self.near.holds_body.get() {
            self.near.inform(StatusCode::CONTINUE, &HeaderMap::new());
        }
        let upgraded = Poll::Ready(Some(Err(BodyError::Cut("the connection was upgraded"))));
        let frame = ready!(self.near.read(|reader| reader.poll_body(context)).unwrap_or(upgraded));
        match &frame {
            Some(Ok(Frame::Data(data))) => {
                self.near.received.set(self.near.received.get() + data.len() as u64);
            }
            Some(Err(BodyError::Malformed(what))) => self.near.malformed.set(Some(*what)),
            _ => {}
        }
        Poll::Ready(frame)
    }

    fn remaining(&self) -> Option<u64> {
        let first = content(self.first.as_ref());
        self.near.read(|reader| reader.remaining()).flatten().map(|left| left + first)
    }

    fn is_end(&self) -> bool {
        self.first.is_none() && self.near.has_request()
    }
}
