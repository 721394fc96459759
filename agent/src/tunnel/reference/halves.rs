//! The two halves of a stream, on the `h2` crate.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};

use super::{
    drive::{Carrier, Entered, Life},
    inbox::Inbox,
};
use crate::tunnel::{ReceiveHalf, Reset, SendHalf, StreamError};

/// What both halves hold; with the last of them the stream is no longer counted.
pub(super) struct Shared {
    entered: Entered,
    send: RefCell<SendStream<Bytes>>,
    sent_all: Cell<bool>,
    received_all: Cell<bool>,
    reset: Cell<bool>,
    /// What was looked at and not taken yet; here, because it is rare and the receiving half is in every connection's task.
    held: Cell<Option<Box<Next>>>,
}

/// What a receiving half gives.
type Next = Option<Result<Bytes, StreamError>>;

impl Shared {
    pub(super) fn new(entered: Entered, send: SendStream<Bytes>) -> Rc<Self> {
        let no = || Cell::new(false);
        Rc::new(Self {
            entered,
            send: RefCell::new(send),
            sent_all: no(),
            received_all: no(),
            reset: no(),
            held: Cell::default(),
        })
    }

    pub(super) fn life(&self) -> &Life {
        self.entered.life()
    }

    fn reset(&self, reason: Reason) {
        if !self.reset.replace(true) {
            self.send.borrow_mut().send_reset(reason);
        }
    }

    fn check(&self) -> Result<(), StreamError> {
        if self.sent_all.get() || self.reset.get() { Err(StreamError::Ended) } else { Ok(()) }
    }

    /// Why the peer or the tunnel ended the stream; `Ended` if nothing of it is known.
    fn why(&self, context: &mut Context<'_>) -> StreamError {
        match self.send.borrow_mut().poll_reset(context) {
            Poll::Ready(Ok(reason)) => StreamError::Reset(reason.into()),
            Poll::Ready(Err(error)) => self.life().stream_error(&error),
            Poll::Pending => self.life().end().map_or(StreamError::Ended, StreamError::Tunnel),
        }
    }
}

/// Both halves of a stream whose answer has come.
#[must_use]
pub fn both(entered: Entered, send: SendStream<Bytes>, inbox: Inbox) -> (ReferenceSend, ReferenceReceive) {
    let shared = Shared::new(entered, send);
    (ReferenceSend(Rc::clone(&shared)), ReferenceReceive { inbox, shared })
}

/// To the peer.
pub struct ReferenceSend(pub(super) Rc<Shared>);

impl ReferenceSend {
    /// The tunnel below.
    #[must_use]
    pub fn carrier(&self) -> Carrier {
        self.0.entered.carrier()
    }
}

impl SendHalf for ReferenceSend {
    fn poll_capacity(
        &mut self,
        context: &mut Context<'_>,
        wanted: usize,
    ) -> Poll<Result<usize, StreamError>> {
        self.0.check()?;
        let mut send = self.0.send.borrow_mut();
        send.reserve_capacity(wanted);
        loop {
            let room = send.capacity().min(wanted);
            if room > 0 {
                return Poll::Ready(Ok(room));
            }
            match ready!(send.poll_capacity(context)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(self.0.life().stream_error(&error))),
                None => break,
            }
        }
        drop(send);
        Poll::Ready(Err(self.0.why(context)))
    }

    fn send(&mut self, data: Bytes) -> Result<(), StreamError> {
        self.0.check()?;
        // An empty frame that does not end the stream is noise, of which peers bear only so many.
        if data.is_empty() {
            return Ok(());
        }
        self.0.send.borrow_mut().send_data(data, false).map_err(|error| self.0.life().stream_error(&error))
    }

    fn give_back(&mut self) {
        self.0.send.borrow_mut().reserve_capacity(0);
    }

    fn finish(&mut self) -> Result<(), StreamError> {
        self.0.check()?;
        self.0.sent_all.set(true);
        let ended = self.0.send.borrow_mut().send_data(Bytes::new(), true);
        ended.map_err(|error| self.0.life().stream_error(&error))
    }

    fn reset(&mut self, reset: Reset) {
        self.0.reset(match reset {
            Reset::ConnectError => Reason::CONNECT_ERROR,
            Reset::Cancel => Reason::CANCEL,
            Reset::Internal => Reason::INTERNAL_ERROR,
        });
    }

    fn poll_reset(&mut self, context: &mut Context<'_>) -> Poll<StreamError> {
        let reset = ready!(self.0.send.borrow_mut().poll_reset(context));
        Poll::Ready(match reset {
            Ok(reason) => StreamError::Reset(reason.into()),
            Err(error) => self.0.life().stream_error(&error),
        })
    }
}

impl Drop for ReferenceSend {
    fn drop(&mut self) {
        if !self.0.sent_all.get() {
            self.0.reset(Reason::CANCEL);
        }
    }
}

/// From the peer.
pub struct ReferenceReceive {
    inbox: Inbox,
    shared: Rc<Shared>,
}

impl ReferenceReceive {
    pub(super) fn new(stream: RecvStream, shared: Rc<Shared>) -> Self {
        Self { inbox: shared.entered.receives(stream), shared }
    }

    fn poll_stream(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, StreamError>>> {
        let error = match ready!(self.inbox.poll_data(context)) {
            Some(Ok(data)) => return Poll::Ready(Some(Ok(data))),
            Some(Err(error)) => error,
            None => {
                self.shared.received_all.set(true);
                return Poll::Ready(None);
            }
        };
        self.shared.received_all.set(true);
        let peaceful = [Some(Reason::NO_ERROR), Some(Reason::CANCEL)].contains(&error.reason());
        if error.is_reset() && error.is_remote() && peaceful {
            return Poll::Ready(None);
        }
        let ended = self.shared.reset.get();
        let error = if ended { StreamError::Ended } else { self.shared.life().stream_error(&error) };
        Poll::Ready(Some(Err(error)))
    }
}

impl ReceiveHalf for ReferenceReceive {
    fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, StreamError>>> {
        match self.shared.held.take() {
            Some(held) => Poll::Ready(*held),
            None => self.poll_stream(context),
        }
    }

    fn poll_peek(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let next = ready!(self.poll_data(context));
        let seen = next.as_ref().and_then(|next| next.as_ref().ok()).cloned();
        self.shared.held.set(Some(Box::new(next)));
        Poll::Ready(seen)
    }

    fn release(&mut self, bytes: usize) {
        self.inbox.release(bytes);
    }
}

impl Drop for ReferenceReceive {
    fn drop(&mut self) {
        if !self.shared.received_all.get() {
            self.shared.reset(Reason::CANCEL);
        }
    }
}
