//! The tasks of one pod on one worker, run in turns: whatever a pod has ready, other pods wait for at most [`TURN`] polls of
//! it. The runtime sees one task for each pod, so its queue is as long as there are busy pods, not busy connections. A task that has to
//! wait while another pod has its turn is told so, for its record.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    rc::Rc,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use slab::Slab;
use tokio::task::yield_now;

use crate::observe::requests::turn::{self, PutOff};

/// Tasks of one pod that are polled before the next pod has its turn. With more of them what a pod sends
/// by one tunnel leaves in larger heaps: the 99th percentile of its answers grows; with fewer it costs more writes.
pub const TURN: usize = 16;

thread_local! {
    /// Turns that the pods of this thread have had.
    static TURNS: Cell<u64> = const { Cell::new(0) };
}

type Work = Pin<Box<dyn Future<Output = ()>>>;

/// The tasks of a pod.
#[derive(Default)]
pub struct Tasks {
    slots: RefCell<Slab<Slot>>,
    ready: Arc<Ready>,
    left: Cell<Left>,
}

/// What a turn that was used up left to the next one.
#[derive(Clone, Copy, Default)]
struct Left {
    /// Tasks that were ready; so many of those that are taken up next.
    tasks: usize,
    /// The first of them, which another pod's turn had already come before.
    put_off: usize,
    /// [`TURNS`] at its end.
    turn: u64,
}

struct Slot {
    /// Absent while it is polled.
    work: Option<Work>,
    alarm: Arc<Alarm>,
    /// How often it was put off; `now` until it is taken up, where whoever added it was.
    put_off: PutOff,
}

/// Which tasks want to be polled.
#[derive(Default)]
struct Ready(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    queue: VecDeque<Arc<Alarm>>,
    driver: Option<Waker>,
}

/// Wakes one task. A task that has ended leaves its alarm behind, which then finds another task or none in its place, and
/// at worst polls that once for nothing.
struct Alarm {
    key: usize,
    is_queued: AtomicBool,
    ready: Arc<Ready>,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        if self.is_queued.swap(true, Ordering::AcqRel) {
            return;
        }
        let ready = Arc::clone(&self.ready);
        let driver = {
            let mut waiting = ready.0.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.queue.push_back(self);
            waiting.driver.take()
        };
        if let Some(driver) = driver {
            driver.wake();
        }
    }
}

impl Ready {
    fn next(&self) -> Option<Arc<Alarm>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).queue.pop_front()
    }

    fn waiting(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).queue.len()
    }

    /// Whether nothing waits; then the driver is woken by what comes next.
    fn rest(&self, cx: &Context<'_>) -> bool {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !waiting.queue.is_empty() {
            return false;
        }
        waiting.driver = Some(cx.waker().clone());
        true
    }
}

impl Tasks {
    /// Adds a task; it is polled when the pod has its turn.
    pub fn add(&self, work: impl Future<Output = ()> + 'static) {
        let mut slots = self.slots.borrow_mut();
        let entry = slots.vacant_entry();
        let alarm = Arc::new(Alarm {
            key: entry.key(),
            is_queued: AtomicBool::new(false),
            ready: Arc::clone(&self.ready),
        });
        // What is begun by work that was put off is late as well.
        let put_off = PutOff { times: 0, now: turn::running().now };
        entry.insert(Slot { work: Some(Box::pin(work)), alarm: Arc::clone(&alarm), put_off });
        drop(slots);
        alarm.wake();
    }

    /// Tasks that have not ended.
    pub fn running(&self) -> usize {
        self.slots.borrow().len()
    }

    /// Polls every task once more, for what is not told to each of them.
    pub fn wake_all(&self) {
        let alarms: Vec<_> = self.slots.borrow().iter().map(|(_, slot)| Arc::clone(&slot.alarm)).collect();
        alarms.into_iter().for_each(Wake::wake);
    }

    /// Drops all tasks, but for one that asks for it itself.
    pub fn abort(&self) {
        let dropped: Vec<Slot> = {
            let mut slots = self.slots.borrow_mut();
            let keys: Vec<usize> =
                slots.iter().filter(|(_, slot)| slot.work.is_some()).map(|(key, _)| key).collect();
            keys.into_iter().filter_map(|key| slots.try_remove(key)).collect()
        };
        // Outside of the borrow: what is dropped may look here.
        drop(dropped);
    }

    /// Runs the tasks, for as long as it is polled. One driver for each set.
    pub async fn drive(self: Rc<Self>) {
        loop {
            poll_fn(|cx| if self.ready.rest(cx) { Poll::Pending } else { Poll::Ready(()) }).await;
            let left = self.take_turn();
            self.left.set(left);
            if left.tasks > 0 || self.ready.waiting() > 0 {
                // The runtime looks for what the kernel has to say before it comes back here: others are served first.
                yield_now().await;
            }
        }
    }

    fn take_turn(&self) -> Left {
        let before = self.left.get();
        let mut put_off = if before.turn == TURNS.get() { before.put_off } else { before.tasks };
        let turn = TURNS.get() + 1;
        TURNS.set(turn);
        for _ in 0..TURN {
            let Some(alarm) = self.ready.next() else { return Left::default() };
            self.poll_one(&alarm, put_off > 0);
            put_off = put_off.saturating_sub(1);
        }
        Left { tasks: self.ready.waiting(), put_off, turn }
    }

    fn poll_one(&self, alarm: &Arc<Alarm>, put_off: bool) {
        let key = alarm.key;
        alarm.is_queued.store(false, Ordering::Release);
        let taken = {
            let mut slots = self.slots.borrow_mut();
            let slot = slots.get_mut(key).filter(|slot| Arc::ptr_eq(&slot.alarm, alarm));
            slot.and_then(|slot| slot.work.take().zip(Some(slot.put_off.taken_up(put_off))))
        };
        let Some((mut work, put_off)) = taken else { return };
        turn::runs(put_off);
        let waker = Waker::from(Arc::clone(alarm));
        let mut cx = Context::from_waker(&waker);
        // One connection's defect is not the others'. What panicked is dropped and never seen again.
        let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(&mut cx)));
        match polled {
            Ok(Poll::Pending) => {
                if let Some(slot) = self.slots.borrow_mut().get_mut(key) {
                    slot.work = Some(work);
                }
            }
            Ok(Poll::Ready(())) | Err(_) => {
                let _ = self.slots.borrow_mut().try_remove(key);
                drop(work);
            }
        }
        turn::runs(PutOff::default());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use std::cell::Cell;
    use tokio::task::{LocalSet, spawn_local};

    fn on_a_worker(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, test);
    }

    fn started() -> Rc<Tasks> {
        let tasks = Rc::new(Tasks::default());
        spawn_local(Rc::clone(&tasks).drive());
        tasks
    }

    #[test]
    fn a_pod_with_much_to_do_does_not_hold_another_up() {
        on_a_worker(async {
            let (heavy, light) = (started(), started());
            let (polls, turns, longest) =
                (Rc::new(Cell::new(0_usize)), Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
            for _ in 0..500 {
                let polls = Rc::clone(&polls);
                heavy.add(async move {
                    loop {
                        polls.set(polls.get() + 1);
                        yield_now().await;
                    }
                });
            }
            let (seen, count, most) = (Rc::clone(&polls), Rc::clone(&turns), Rc::clone(&longest));
            light.add(async move {
                let mut before = seen.get();
                for _ in 0..200 {
                    yield_now().await;
                    most.set(most.get().max(seen.get() - before));
                    before = seen.get();
                    count.set(count.get() + 1);
                }
            });
            while turns.get() < 200 {
                yield_now().await;
            }
            assert!(polls.get() > 1000, "the heavy pod goes on too: {}", polls.get());
            assert!(
                longest.get() <= 4 * TURN,
                "{} polls of the other pod between two of ours",
                longest.get()
            );
            heavy.abort();
            assert_eq!(heavy.running(), 0);
        });
    }

    /// Tasks of one pod that are all ready at once, beside another pod that always is where `beside` says so: how often each was
    /// put off before it was taken up.
    fn put_off(tasks: usize, beside: bool) -> Vec<u64> {
        let seen = Rc::new(RefCell::new(Vec::new()));
        on_a_worker(async {
            let (heavy, light) = (started(), started());
            if beside {
                light.add(async {
                    loop {
                        yield_now().await;
                    }
                });
            }
            for _ in 0..tasks {
                let seen = Rc::clone(&seen);
                heavy.add(async move { seen.borrow_mut().push(turn::running().times) });
            }
            while heavy.running() > 0 {
                yield_now().await;
            }
            assert_eq!(turn::running(), PutOff::default());
        });
        seen.take()
    }

    #[test]
    fn who_waits_for_another_pods_turn_is_told_so() {
        let late = |tasks: usize| (0..tasks).map(|place| u64::from(place >= TURN)).collect::<Vec<_>>();
        assert_eq!(put_off(TURN, true), late(TURN), "all in one turn");
        assert_eq!(put_off(3 * TURN, true), late(3 * TURN), "behind the turns of another pod");
        assert_eq!(put_off(3 * TURN, false), vec![0; 3 * TURN], "nobody else had a turn");
    }

    #[test]
    fn tasks_end_wake_one_another_and_survive_a_panic() {
        on_a_worker(async {
            let tasks = started();
            let (sender, receiver) = tokio::sync::oneshot::channel();
            let done = Rc::new(Cell::new(false));
            let flag = Rc::clone(&done);
            tasks.add(async move { flag.set(receiver.await.is_ok()) });
            yield_now().await;
            tasks.add(async { std::panic::resume_unwind(Box::new("a defect")) });
            tasks.add(async move {
                let _ = sender.send(());
            });
            for _ in 0..10 {
                yield_now().await;
            }
            assert!(done.get());
            assert_eq!(tasks.running(), 0);
        });
    }

    #[test]
    fn all_tasks_look_again_when_they_are_woken() {
        on_a_worker(async {
            let tasks = started();
            let leaving = Rc::new(Cell::new(false));
            for _ in 0..3 {
                let leaving = Rc::clone(&leaving);
                tasks.add(poll_fn(move |_| if leaving.get() { Poll::Ready(()) } else { Poll::Pending }));
            }
            yield_now().await;
            leaving.set(true);
            assert_eq!(tasks.running(), 3);
            tasks.wake_all();
            for _ in 0..10 {
                yield_now().await;
            }
            assert_eq!(tasks.running(), 0);
        });
    }

    #[test]
    fn what_is_aborted_is_dropped_at_once() {
        on_a_worker(async {
            let tasks = started();
            let held = Rc::new(());
            for _ in 0..3 {
                let held = Rc::clone(&held);
                tasks.add(async move {
                    let _held = held;
                    std::future::pending::<()>().await;
                });
            }
            yield_now().await;
            assert_eq!(Rc::strong_count(&held), 4);
            tasks.abort();
            assert_eq!(Rc::strong_count(&held), 1);
        });
    }
}
