//! Rooms for the work on requests, lent by the worker's thread: such work is too large for the allocator's quick lists, and a
//! connection that waits shall hold none.

use std::{
    any::Any,
    cell::RefCell,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

/// How many unused rooms a worker keeps; more are freed when they come back.
const KEPT: usize = 64;

type Place<F> = Pin<Box<Option<F>>>;

thread_local! {
    /// For each kind of work its unused places, a `Vec<Place<F>>`. There are two: requests that the pod makes, and those that it is asked.
    static UNUSED: RefCell<Vec<Box<dyn Any>>> = const { RefCell::new(Vec::new()) };
}

/// Work in a room, until it is dropped.
pub(super) struct Room<F: Future + 'static>(Option<Place<F>>);

impl<F: Future + 'static> Room<F> {
    /// Finds a room for this work.
    pub(super) fn of(work: F) -> Self {
        let unused = UNUSED.with_borrow_mut(|unused| places(unused).and_then(Vec::pop));
        let mut place = unused.unwrap_or_else(|| Box::pin(None));
        place.set(Some(work));
        Self(Some(place))
    }

    /// Works on.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<F::Output> {
        let place = self.0.as_mut().and_then(|place| place.as_mut().as_pin_mut());
        place.map_or(Poll::Pending, |work| work.poll(context))
    }
}

impl<F: Future + 'static> Drop for Room<F> {
    fn drop(&mut self) {
        let Some(mut place) = self.0.take() else { return };
        // What is dropped here may need a room itself, so the list is not borrowed yet.
        place.set(None);
        // During the thread's end the list may be gone: then the place is just freed.
        let _ = UNUSED.try_with(|unused| {
            let mut unused = unused.borrow_mut();
            match places(&mut unused) {
                Some(places) if places.len() < KEPT => places.push(place),
                Some(_) => {}
                None => unused.push(Box::new(vec![place])),
            }
        });
    }
}

fn places<F: 'static>(unused: &mut [Box<dyn Any>]) -> Option<&mut Vec<Place<F>>> {
    unused.iter_mut().find_map(|places| places.downcast_mut())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{cell::Cell, rc::Rc, task::Waker};

    async fn count(polls: Rc<Cell<u32>>) {
        polls.set(polls.get() + 1);
        std::future::pending::<()>().await;
    }

    fn address<F: Future>(room: &Room<F>) -> *const Option<F> {
        room.0.as_ref().map_or(std::ptr::null(), |place| &raw const **place)
    }

    #[test]
    fn work_is_dropped_at_once_and_its_room_used_again() {
        let polls = Rc::new(Cell::new(0));
        let mut context = Context::from_waker(Waker::noop());
        let mut first = Room::of(count(Rc::clone(&polls)));
        let mut second = Room::of(count(Rc::clone(&polls)));
        assert!(first.poll(&mut context).is_pending() && second.poll(&mut context).is_pending());
        assert_eq!((polls.get(), Rc::strong_count(&polls)), (2, 3));
        let place = address(&first);
        drop(first);
        assert_eq!(Rc::strong_count(&polls), 2);
        let third = Room::of(count(Rc::clone(&polls)));
        assert_eq!(address(&third), place);
        assert_ne!(address(&third), address(&second));
    }
}
