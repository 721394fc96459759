//! What the task of a connection does beside HTTP/2 itself: ping, remember why it ended.

use std::{
    cell::{Cell, RefCell},
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use h2::{Ping, PingPong, RecvStream};
use tokio::{
    sync::Notify,
    time::{Instant, Sleep, sleep},
};

use super::inbox::{Inbox, Unread};
use crate::tunnel::{
    StreamError, TunnelEnd,
    liveness::{Action, Liveness, Seen, Times},
    stream::Counters,
};

/// What a connection's task and its streams know together.
#[derive(Default)]
pub(super) struct Life {
    pub(super) open: Cell<usize>,
    pub(super) opened: Cell<u64>,
    pub(super) counters: Rc<Counters>,
    pub(super) unread: Rc<Unread>,
    /// No stream is begun any more.
    pub(super) leaving: Cell<bool>,
    end: RefCell<Option<TunnelEnd>>,
    changed: Notify,
}

impl Life {
    /// Counts a stream.
    pub(super) fn enter(self: &Rc<Self>) -> Entered {
        self.open.set(self.open.get() + 1);
        self.opened.set(self.opened.get() + 1);
        Entered { life: Rc::clone(self) }
    }

    pub(super) fn end(&self) -> Option<TunnelEnd> {
        self.end.borrow().clone()
    }

    /// The first reason counts.
    pub(super) fn set_end(&self, end: TunnelEnd) {
        self.end.borrow_mut().get_or_insert(end);
        self.changed.notify_waiters();
    }

    pub(super) fn notify(&self) {
        self.changed.notify_waiters();
    }

    /// Waits until `found` finds something; it is asked again after each change.
    pub(super) async fn wait<R>(&self, found: impl Fn(&Self) -> Option<R>) -> R {
        loop {
            let changed = self.changed.notified();
            if let Some(found) = found(self) {
                return found;
            }
            changed.await;
        }
    }

    /// An error of `h2` for the whole connection, in our words.
    pub(super) fn describe(&self, error: &h2::Error) -> TunnelEnd {
        self.counters.alert.borrow().clone().map_or_else(|| describe(error), TunnelEnd::Alert)
    }

    /// An error of `h2` for a stream, in our words.
    pub(super) fn stream_error(&self, error: &h2::Error) -> StreamError {
        match error.reason() {
            Some(reason) if error.is_reset() => StreamError::Reset(reason.into()),
            _ => StreamError::Tunnel(self.end().unwrap_or_else(|| self.describe(error))),
        }
    }
}

/// The tunnel below a stream, for whoever keeps the stream for later.
#[derive(Clone)]
pub struct Carrier(Rc<Life>);

impl Carrier {
    /// Whether it goes away, or is gone: it was drained, or its peer said GOAWAY. What is under way on it may finish.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.0.leaving.get() || self.0.end.borrow().is_some()
    }
}

impl std::fmt::Debug for Carrier {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Carrier").field("is_leaving", &self.is_leaving()).finish()
    }
}

/// A stream counts while this lives.
pub struct Entered {
    life: Rc<Life>,
}

impl Entered {
    pub(super) fn life(&self) -> &Life {
        &self.life
    }

    pub(super) fn carrier(&self) -> Carrier {
        Carrier(Rc::clone(&self.life))
    }

    /// From now on what lies unread on the stream counts for the windows of its connection.
    #[must_use]
    pub fn receives(&self, stream: RecvStream) -> Inbox {
        self.life.unread.watch(stream)
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.life.open.set(self.life.open.get().saturating_sub(1));
    }
}

/// An error of `h2` for a whole connection, in our words.
pub(super) fn describe(error: &h2::Error) -> TunnelEnd {
    let closed = error.get_io().is_some_and(|error| error.kind() == io::ErrorKind::UnexpectedEof);
    let goodbye = error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR);
    if closed || goodbye { TunnelEnd::Peer } else { TunnelEnd::Broken(error.to_string().into()) }
}

/// Pings the peer and watches the times.
pub(super) struct Heartbeat {
    pings: Option<PingPong>,
    waiting: bool,
    liveness: Liveness,
    silent: TunnelEnd,
    started: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Heartbeat {
    pub(super) fn new(pings: Option<PingPong>, times: Times) -> Self {
        let liveness = Liveness::new(times, 0);
        let timer = Box::pin(sleep(liveness.look_every()));
        let silent = TunnelEnd::Silent(times.ping_timeout);
        Self { pings, waiting: false, liveness, silent, started: Instant::now(), timer }
    }

    /// Ready when the connection should end: `Idle` in peace, `Silent` at once.
    pub(super) fn poll(&mut self, context: &mut Context<'_>, life: &Life) -> Poll<TunnelEnd> {
        self.poll_answer(context);
        while self.timer.as_mut().poll(context).is_ready() {
            let now = Instant::now();
            self.timer.as_mut().reset(now + self.liveness.look_every());
            let seen = Seen {
                streams: life.open.get(),
                opened: life.opened.get(),
                received: life.counters.received.get(),
                answered: !self.waiting,
            };
            let since = u64::try_from((now - self.started).as_nanos()).unwrap_or(u64::MAX);
            match self.liveness.look(since, seen) {
                Action::Wait => {}
                Action::Ping => self.ping(context),
                Action::Dead => return Poll::Ready(self.silent.clone()),
                Action::Idle => return Poll::Ready(TunnelEnd::Idle),
            }
        }
        Poll::Pending
    }

    fn ping(&mut self, context: &mut Context<'_>) {
        if let Some(pings) = &mut self.pings
            && pings.send_ping(Ping::opaque()).is_ok()
        {
            self.waiting = true;
            self.poll_answer(context);
        }
    }

    fn poll_answer(&mut self, context: &mut Context<'_>) {
        if self.waiting
            && let Some(pings) = &mut self.pings
            && pings.poll_pong(context).is_ready()
        {
            self.waiting = false;
        }
    }
}
