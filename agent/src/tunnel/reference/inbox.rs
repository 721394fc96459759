//! What has come on the streams of a connection and was not taken by their readers yet.
//!
//! `h2` notes each frame that lies unread, and ends the connection when it has to note too much of small ones (its budget). So from
//! time to time what readers leave is taken out, and small pieces lie together. The window is not given back before bytes are passed
//! on, so it bounds what lies here.

mod ahead;

use std::{
    cell::RefCell,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use h2::{RecvStream, StreamId};
use http::HeaderMap;

use self::ahead::Ahead;
use crate::snapshot::Map;

/// The streams of a connection.
#[derive(Default)]
pub struct Unread(RefCell<Map<StreamId, Rc<RefCell<Kept>>>>);

impl Unread {
    /// In how many received bytes small frames cannot use up more than half of a budget: the smallest, of one byte behind a head of
    /// nine, counts for 255.
    #[must_use]
    pub fn often(budget: usize) -> u64 {
        budget as u64 / 2 / 255 * 10
    }

    /// From now on what comes on the stream is looked after.
    #[must_use]
    pub fn watch(self: &Rc<Self>, stream: RecvStream) -> Inbox {
        let id = stream.stream_id();
        let kept = Rc::new(RefCell::new(Kept { stream, ahead: None, waiting: None }));
        self.0.borrow_mut().insert(id, Rc::clone(&kept));
        Inbox { kept, id, unread: Rc::clone(self) }
    }

    /// Takes out what the readers leave; says how many bytes have come and were not passed on.
    pub fn gather(&self) -> u64 {
        self.0.borrow().values().map(|kept| kept.borrow_mut().gather()).sum()
    }
}

struct Kept {
    stream: RecvStream,
    /// What was taken out. In a place of its own: few readers stop.
    ahead: Option<Box<Ahead>>,
    /// Who waits for the next piece. Whoever asks the stream for more must ask in the reader's name, or it would not be woken.
    waiting: Option<Waker>,
}

impl Kept {
    fn gather(&mut self) -> u64 {
        let unread = self.stream.flow_control().used_capacity() as u64;
        if unread > 0 {
            let waiting = self.waiting.clone();
            let mut context = Context::from_waker(waiting.as_ref().unwrap_or(Waker::noop()));
            // An end or an error the stream tells again.
            while let Poll::Ready(Some(Ok(data))) = self.stream.poll_data(&mut context) {
                self.ahead.get_or_insert_default().put(data);
            }
        }
        unread
    }

    fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, h2::Error>>> {
        if let Some(ahead) = &mut self.ahead {
            let piece = ahead.take();
            if !piece.is_empty() {
                return Poll::Ready(Some(Ok(piece)));
            }
            self.ahead = None;
        }
        loop {
            match self.stream.poll_data(context) {
                // The frame that only carries the end.
                Poll::Ready(Some(Ok(data))) if data.is_empty() => {}
                Poll::Pending => {
                    self.note(context.waker());
                    return Poll::Pending;
                }
                next => return next,
            }
        }
    }

    fn note(&mut self, waker: &Waker) {
        if !self.waiting.as_ref().is_some_and(|waiting| waiting.will_wake(waker)) {
            self.waiting = Some(waker.clone());
        }
    }
}

/// The receiving direction of one stream. Dropped before its end, it cancels the stream if nobody sends on it either.
pub struct Inbox {
    kept: Rc<RefCell<Kept>>,
    id: StreamId,
    unread: Rc<Unread>,
}

impl Inbox {
    /// The next bytes, never empty; none at the end.
    pub fn poll_data(&self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, h2::Error>>> {
        self.kept.borrow_mut().poll_data(context)
    }

    /// What follows the last bytes.
    pub fn poll_trailers(&self, context: &mut Context<'_>) -> Poll<Result<Option<HeaderMap>, h2::Error>> {
        let mut kept = self.kept.borrow_mut();
        kept.note(context.waker());
        kept.stream.poll_trailers(context)
    }

    /// Whether neither bytes nor trailers will come.
    #[must_use]
    pub fn is_end(&self) -> bool {
        let kept = self.kept.borrow();
        kept.ahead.as_ref().is_none_or(|ahead| ahead.is_empty()) && kept.stream.is_end_stream()
    }

    /// Gives window back to the peer.
    pub fn release(&self, bytes: usize) {
        // Fails only if more is released than was received, or after the end: then there is no window to give.
        let _ = self.kept.borrow_mut().stream.flow_control().release_capacity(bytes);
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        let kept = self.unread.0.borrow_mut().remove(&self.id);
        drop(kept);
    }
}
