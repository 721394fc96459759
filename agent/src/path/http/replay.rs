//! A request's body that more than one attempt may read: what was read is kept for replay up to a limit, beyond which only the
//! attempt that is furthest may go on.

use std::{
    cell::RefCell,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use super::body::{Body, BodyError, BodySource, Frame};

/// Bytes of a body that are kept for another attempt.
pub const REPLAY_BYTES: usize = 64 * 1024;

/// Grants memory for what is kept, and counts it until it is dropped.
pub trait Allowance {
    /// Whether so many bytes more may be kept.
    fn grow(&mut self, bytes: usize) -> bool;
}

/// The body of a request, shared by its attempts.
pub struct Replay<A> {
    shared: Rc<RefCell<Shared<A>>>,
}

struct Shared<A> {
    source: Body,
    kept: Vec<Frame>,
    bytes: usize,
    /// Bytes that the allowance has granted.
    allowed: usize,
    /// Something was read and not kept: no attempt can start from the beginning any more.
    torn: bool,
    /// Bytes that it may have, and how many of them have come.
    most: Option<u64>,
    come: u64,
    /// What comes next is not to be kept.
    sealed: bool,
    failed: Option<BodyError>,
    ended: bool,
    allowance: A,
    /// Attempts that wait for what another one reads.
    waiting: Vec<Waker>,
}

impl<A: Allowance + 'static> Replay<A> {
    /// Nothing is read before an attempt asks. A body with more than `most` bytes is none.
    pub fn new(source: Body, most: Option<u64>, allowance: A) -> Self {
        let ended = source.is_end();
        let shared = Shared {
            source,
            kept: Vec::new(),
            bytes: 0,
            allowed: 0,
            torn: false,
            most,
            come: 0,
            sealed: false,
            failed: None,
            ended,
            allowance,
            waiting: Vec::new(),
        };
        Self { shared: Rc::new(RefCell::new(shared)) }
    }

    /// Whether an attempt could be given the whole body, as far as it was read.
    pub fn is_whole(&self) -> bool {
        let shared = self.shared.borrow();
        !shared.torn && shared.failed.is_none()
    }

    /// Whether all of it is here and kept, so that two attempts may send it at their own pace.
    pub fn is_complete(&self) -> bool {
        let shared = self.shared.borrow();
        shared.ended && !shared.torn && shared.failed.is_none()
    }

    /// Why the client's body ended early, if it did.
    pub fn failure(&self) -> Option<BodyError> {
        self.shared.borrow().failed.clone()
    }

    /// The body from its beginning, for one attempt. To be asked for only while [`Replay::is_whole`].
    pub fn body(&self) -> Body {
        let shared = self.shared.borrow();
        if shared.ended && shared.kept.is_empty() {
            return Body::Empty;
        }
        drop(shared);
        Body::Source(Box::new(Reading { shared: Rc::clone(&self.shared), next: 0 }))
    }

    /// No attempt follows: what is read from now on is not kept.
    pub fn keep_no_more(&self) {
        self.shared.borrow_mut().sealed = true;
    }
}

struct Reading<A> {
    shared: Rc<RefCell<Shared<A>>>,
    /// Place of the next frame.
    next: usize,
}

impl<A: Allowance> Shared<A> {
    /// The frame at `place`, from what is kept or from the source.
    fn poll(&mut self, place: usize, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        if let Some(frame) = self.kept.get(place) {
            return Poll::Ready(Some(Ok(frame.clone())));
        }
        if let Some(failed) = &self.failed {
            return Poll::Ready(Some(Err(failed.clone())));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        let Poll::Ready(next) = self.source.poll_frame(cx) else {
            // Asked again while its answer goes on, an attempt waits only once.
            if !self.waiting.iter().any(|waiting| waiting.will_wake(cx.waker())) {
                self.waiting.push(cx.waker().clone());
            }
            return Poll::Pending;
        };
        for waiting in self.waiting.drain(..) {
            waiting.wake();
        }
        match self.bounded(next) {
            None => {
                self.ended = true;
                Poll::Ready(None)
            }
            Some(Err(error)) => {
                self.failed = Some(error.clone());
                Poll::Ready(Some(Err(error)))
            }
            Some(Ok(frame)) => {
                self.keep(&frame);
                self.ended = self.source.is_end();
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    /// Counts what came against the limit.
    fn bounded(&mut self, next: Option<Result<Frame, BodyError>>) -> Option<Result<Frame, BodyError>> {
        if let Some(Ok(Frame::Data(data))) = &next {
            self.come += data.len() as u64;
        }
        match self.most {
            Some(most) if self.come > most => Some(Err(BodyError::TooLong(most))),
            _ => next,
        }
    }

    /// Room for so many bytes more, and at once for what is announced behind them: of bodies that come side by side in pieces, all would
    /// stop halfway otherwise.
    fn allow(&mut self, bytes: usize) -> bool {
        let wanted = self.bytes + bytes;
        if wanted <= self.allowed {
            return true;
        }
        let rest = self.source.remaining().and_then(|rest| usize::try_from(rest).ok()).unwrap_or(0);
        let whole = wanted.saturating_add(rest).min(REPLAY_BYTES);
        if !self.allowance.grow(whole - self.allowed) {
            return false;
        }
        self.allowed = whole;
        true
    }

    fn keep(&mut self, frame: &Frame) {
        if self.torn {
            return;
        }
        let bytes = match frame {
            Frame::Data(data) => data.len(),
            Frame::Trailers(_) => 0,
        };
        if self.sealed || self.bytes + bytes > REPLAY_BYTES || !self.allow(bytes) {
            self.torn = true;
            // Attempts that have read it all need nothing kept; others find the body torn and were told so before.
            self.kept = Vec::new();
            return;
        }
        self.bytes += bytes;
        self.kept.push(frame.clone());
    }
}

impl<A: Allowance> BodySource for Reading<A> {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let mut shared = self.shared.borrow_mut();
        let place = if shared.torn { usize::MAX } else { self.next };
        let polled = shared.poll(place, cx);
        if polled.is_ready() {
            self.next += 1;
        }
        polled
    }

    fn remaining(&self) -> Option<u64> {
        let shared = self.shared.borrow();
        let kept = shared.kept.iter().skip(self.next).map(|frame| match frame {
            Frame::Data(data) => Some(data.len() as u64),
            // A body with an announced length has no trailers.
            Frame::Trailers(_) => None,
        });
        Some(shared.source.remaining()? + kept.sum::<Option<u64>>()?)
    }

    fn is_end(&self) -> bool {
        let shared = self.shared.borrow();
        shared.ended && self.next >= shared.kept.len() && shared.failed.is_none()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use bytes::Bytes;
    use std::collections::VecDeque;

    struct Purse(usize);

    impl Allowance for Purse {
        fn grow(&mut self, bytes: usize) -> bool {
            self.0 = match self.0.checked_sub(bytes) {
                Some(left) => left,
                None => return false,
            };
            true
        }
    }

    struct Pieces(VecDeque<Result<Frame, BodyError>>);

    impl BodySource for Pieces {
        fn poll_frame(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
            Poll::Ready(self.0.pop_front())
        }

        fn remaining(&self) -> Option<u64> {
            None
        }

        fn is_end(&self) -> bool {
            self.0.is_empty()
        }
    }

    fn pieces(sizes: &[usize]) -> Body {
        let frames = sizes.iter().map(|size| Ok(Frame::Data(Bytes::from(vec![b'x'; *size]))));
        Body::Source(Box::new(Pieces(frames.collect())))
    }

    fn read(body: &mut Body, most: usize) -> (usize, Option<BodyError>) {
        let mut cx = Context::from_waker(Waker::noop());
        let mut bytes = 0;
        for _ in 0..most {
            match body.poll_frame(&mut cx) {
                Poll::Ready(Some(Ok(Frame::Data(data)))) => bytes += data.len(),
                Poll::Ready(Some(Ok(Frame::Trailers(_)))) => {}
                Poll::Ready(Some(Err(error))) => return (bytes, Some(error)),
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        (bytes, None)
    }

    #[test]
    fn what_was_read_is_read_again() {
        let replay = Replay::new(pieces(&[10, 20, 30]), Some(60), Purse(1000));
        assert_eq!(read(&mut replay.body(), 2), (30, None));
        assert!(replay.is_whole() && !replay.is_complete());
        assert_eq!(read(&mut replay.body(), 9), (60, None));
        assert!(replay.is_complete());
        assert_eq!(read(&mut replay.body(), 9), (60, None));
    }

    #[test]
    fn beyond_the_limit_only_the_furthest_goes_on() {
        for (sizes, purse) in [(&[40_000, 30_000, 10][..], 1 << 20), (&[40, 30, 10], 60)] {
            let replay = Replay::new(pieces(sizes), None, Purse(purse));
            let mut first = replay.body();
            assert!(read(&mut first, 1).0 > 0);
            assert!(replay.is_whole());
            read(&mut first, 1);
            assert!(!replay.is_whole(), "{sizes:?}");
            assert_eq!(read(&mut first, 9), (10, None), "the rest still reaches the attempt that reads it");
            assert!(!replay.is_complete());
        }
    }

    #[test]
    fn a_client_that_breaks_off_is_seen_by_every_attempt() {
        let cut = BodyError::Cut("reset");
        let frames = [Ok(Frame::Data(Bytes::from_static(b"abc"))), Err(cut.clone())];
        let replay = Replay::new(Body::Source(Box::new(Pieces(frames.into()))), None, Purse(100));
        assert_eq!(read(&mut replay.body(), 9), (3, Some(cut.clone())));
        assert!(!replay.is_whole());
        assert_eq!(replay.failure(), Some(cut));
    }

    #[test]
    fn a_body_that_is_too_long_fails_where_it_becomes_so() {
        let replay = Replay::new(pieces(&[10, 20, 30]), Some(59), Purse(1000));
        assert_eq!(read(&mut replay.body(), 9), (30, Some(BodyError::TooLong(59))));
        assert_eq!(read(&mut replay.body(), 9), (30, Some(BodyError::TooLong(59))), "for every attempt");
        assert_eq!((replay.is_whole(), replay.failure()), (false, Some(BodyError::TooLong(59))));
    }

    #[test]
    fn an_empty_body_is_no_source() {
        let replay = Replay::new(Body::Empty, None, Purse(0));
        assert!(matches!(replay.body(), Body::Empty));
        assert!(replay.is_complete());
    }

    /// Pieces of one byte, of which so many are to come.
    struct Announced(usize);

    impl BodySource for Announced {
        fn poll_frame(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
            let left = self.0.checked_sub(1);
            self.0 = left.unwrap_or(0);
            Poll::Ready(left.map(|_| Ok(Frame::Data(Bytes::from_static(b"x")))))
        }

        fn remaining(&self) -> Option<u64> {
            Some(self.0 as u64)
        }

        fn is_end(&self) -> bool {
            self.0 == 0
        }
    }

    struct SharedPurse(Rc<std::cell::Cell<usize>>);

    impl Allowance for SharedPurse {
        fn grow(&mut self, bytes: usize) -> bool {
            let left = self.0.get().checked_sub(bytes);
            self.0.set(left.unwrap_or(self.0.get()));
            left.is_some()
        }
    }

    #[test]
    fn one_of_two_bodies_that_come_side_by_side_is_kept_whole() {
        let purse = Rc::new(std::cell::Cell::new(6));
        let replays = [4, 4].map(|bytes| {
            Replay::new(Body::Source(Box::new(Announced(bytes))), None, SharedPurse(Rc::clone(&purse)))
        });
        let mut bodies = replays.each_ref().map(Replay::body);
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..4 {
            for body in &mut bodies {
                assert!(matches!(body.poll_frame(&mut context), Poll::Ready(Some(Ok(Frame::Data(_))))));
            }
        }
        assert_eq!(replays.each_ref().map(Replay::is_complete), [true, false]);
        assert_eq!(purse.get(), 2, "no more is taken than is announced");
    }
}
