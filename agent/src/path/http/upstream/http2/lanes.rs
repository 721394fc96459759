//! The shared connections from one pod to one endpoint: which one carries the next request, and who makes a new one while others
//! wait for it.

use std::{cell::RefCell, rc::Rc};

use tokio::sync::watch;

use super::{super::SendError, connection::Connection};

/// Connections, those first that were made first: what is needed less and less goes idle and closes.
#[derive(Default)]
pub(in crate::path::http::upstream) struct Lanes {
    connections: RefCell<Vec<Rc<Connection>>>,
    dial: Rc<Slot>,
}

/// Nothing yet, or why a dial failed.
type Outcome = Option<SendError>;
/// Of the dial that is under way.
type Slot = RefCell<Option<watch::Receiver<Outcome>>>;

/// Who makes the connection that is missing.
pub(in crate::path::http::upstream) enum Turn {
    /// Whoever was told this.
    Dial(Dial),
    /// Somebody else.
    Wait(Waiting),
}

/// A dial under way. Dropped, it is given up, and one of those who wait takes over.
pub(in crate::path::http::upstream) struct Dial {
    outcome: watch::Sender<Outcome>,
    slot: Rc<Slot>,
}

/// Waits for another one's dial.
pub(in crate::path::http::upstream) struct Waiting(watch::Receiver<Outcome>);

impl Lanes {
    /// A connection with room; those that take no more are let go.
    pub(in crate::path::http::upstream) fn pick(&self, now_ns: u64) -> Option<Rc<Connection>> {
        self.tidy(now_ns);
        self.connections.borrow().iter().find(|connection| connection.has_room()).cloned()
    }

    /// To be asked when none has room.
    pub(in crate::path::http::upstream) fn turn(&self) -> Turn {
        let mut dial = self.dial.borrow_mut();
        if let Some(waiting) = &*dial {
            return Turn::Wait(Waiting(waiting.clone()));
        }
        let (outcome, receiver) = watch::channel(None);
        *dial = Some(receiver);
        Turn::Dial(Dial { outcome, slot: Rc::clone(&self.dial) })
    }

    /// Shares a connection that was made.
    pub(in crate::path::http::upstream) fn add(&self, connection: Rc<Connection>) {
        self.connections.borrow_mut().push(connection);
    }

    /// Lets go of what takes no more requests.
    pub(in crate::path::http::upstream) fn tidy(&self, now_ns: u64) {
        self.connections.borrow_mut().retain(|connection| {
            let usable = connection.is_usable(now_ns);
            if !usable {
                connection.leave();
            }
            usable
        });
    }

    /// Whether there is nothing, and nothing comes.
    pub(in crate::path::http::upstream) fn is_unused(&self) -> bool {
        self.connections.borrow().is_empty() && self.dial.borrow().is_none()
    }

    /// All take no more requests, and close after their last.
    pub(in crate::path::http::upstream) fn close(&self) {
        for connection in self.connections.take() {
            connection.leave();
        }
    }
}

impl Dial {
    /// Everyone who waits is told.
    pub(in crate::path::http::upstream) fn failed(self, error: &SendError) {
        self.outcome.send_replace(Some(error.clone()));
    }
}

impl Drop for Dial {
    fn drop(&mut self) {
        self.slot.take();
    }
}

impl Waiting {
    /// Until that dial is over. Then there is a connection, or somebody has to dial again.
    ///
    /// # Errors
    /// It failed.
    pub(in crate::path::http::upstream) async fn over(mut self) -> Result<(), SendError> {
        // Changed, or the sender is gone: what it left decides.
        let _ = self.0.changed().await;
        let left = self.0.borrow().clone();
        left.map_or(Ok(()), Err)
    }
}
