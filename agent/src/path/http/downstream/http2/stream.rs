//! One stream of the client's HTTP/2 connection, as the request's task, its body and the reply share it.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use h2::{Reason, SendStream, server::SendResponse};
use http::{HeaderMap, Response, StatusCode};

use crate::{path::http::io::http2::poll_room, tunnel::reference::Inbox};

/// What is done for one request.
pub(in super::super) struct Stream {
    way: RefCell<Way>,
    /// What CONNECT's answer opens; taken by it.
    pub(super) receive: RefCell<Option<Inbox>>,
    /// Bytes of the request's body that were taken.
    pub(super) received: Cell<u64>,
    /// The client holds its body back until it is told to go on.
    pub(super) holds_body: Cell<bool>,
    /// How far the answer is.
    pub(super) stage: Cell<Stage>,
}

/// The way back.
enum Way {
    Closed(SendResponse<Bytes>),
    Open(SendStream<Bytes>),
    /// Somebody else has it.
    Gone,
}

/// How far the answer to a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It is not complete.
    Begun,
    /// It was queued whole.
    Answered,
    /// Somebody else has the stream now.
    Upgraded,
}

/// The client has reset the stream, or its connection is gone.
pub(super) struct Gone;

impl Stream {
    pub(super) fn new(respond: SendResponse<Bytes>, holds_body: bool) -> Rc<Self> {
        Rc::new(Self {
            way: RefCell::new(Way::Closed(respond)),
            receive: RefCell::default(),
            received: Cell::new(0),
            holds_body: Cell::new(holds_body),
            stage: Cell::new(Stage::Begun),
        })
    }

    /// Sends an answer that is not the last one, unless that has begun.
    pub(super) fn inform(&self, status: StatusCode, headers: &HeaderMap) {
        if status == StatusCode::CONTINUE {
            self.holds_body.set(false);
        }
        if let Way::Closed(respond) = &mut *self.way.borrow_mut() {
            let mut response = Response::new(());
            *response.status_mut() = status;
            *response.headers_mut() = headers.clone();
            // Who cannot be told this cannot be told the answer either.
            let _ = respond.send_informational(response);
        }
    }

    /// Sends the head of the answer, which is all of it where it `ends`.
    pub(super) fn head(&self, response: Response<()>, ends: bool) -> Result<(), Gone> {
        let mut way = self.way.borrow_mut();
        let Way::Closed(respond) = &mut *way else { return Err(Gone) };
        let opened = respond.send_response(response, ends).map_err(|_| Gone)?;
        *way = Way::Open(opened);
        Ok(())
    }

    /// Room for up to `wanted` bytes of content.
    pub(super) fn poll_room(&self, context: &mut Context<'_>, wanted: usize) -> Poll<Result<usize, Gone>> {
        match &mut *self.way.borrow_mut() {
            Way::Open(send) => poll_room(send, context, wanted).map(|room| room.ok_or(Gone)),
            Way::Closed(_) | Way::Gone => Poll::Ready(Err(Gone)),
        }
    }

    /// Queues content for which there is room, and the end where nothing follows.
    pub(super) fn data(&self, data: Bytes, ends: bool) -> Result<(), Gone> {
        self.open(|send| send.send_data(data, ends))
    }

    /// Ends the answer with trailers.
    pub(super) fn trailers(&self, trailers: HeaderMap) -> Result<(), Gone> {
        self.open(|send| send.send_trailers(trailers))
    }

    fn open(&self, act: impl FnOnce(&mut SendStream<Bytes>) -> Result<(), h2::Error>) -> Result<(), Gone> {
        match &mut *self.way.borrow_mut() {
            Way::Open(send) => act(send).map_err(|_| Gone),
            Way::Closed(_) | Way::Gone => Err(Gone),
        }
    }

    /// Both directions, for whatever comes after HTTP.
    pub(super) fn hand_over(&self) -> Option<(SendStream<Bytes>, Inbox)> {
        let receive = self.receive.take()?;
        match self.way.replace(Way::Gone) {
            Way::Open(send) => {
                self.stage.set(Stage::Upgraded);
                Some((send, receive))
            }
            Way::Closed(_) | Way::Gone => None,
        }
    }

    /// Ready when the client has reset the stream or is gone itself, before it has the whole answer.
    pub(super) fn poll_gone(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.stage.get() != Stage::Begun {
            return Poll::Pending;
        }
        match &mut *self.way.borrow_mut() {
            Way::Closed(respond) => respond.poll_reset(context).map(drop),
            Way::Open(send) => send.poll_reset(context).map(drop),
            Way::Gone => Poll::Pending,
        }
    }

    /// The work is over: where there is no whole answer, the client must not take what it has for one.
    pub(super) fn close(&self) {
        if self.stage.get() != Stage::Begun {
            return;
        }
        match &mut *self.way.borrow_mut() {
            Way::Closed(respond) => respond.send_reset(Reason::INTERNAL_ERROR),
            Way::Open(send) => send.send_reset(Reason::INTERNAL_ERROR),
            Way::Gone => {}
        }
    }
}
