//! Whether the task that this thread runs was put off: its pod had used up its turn of the worker, and another pod had one before it
//! went on. The worker says so before it runs a task; the records of requests ask. Two plain numbers of the thread, no clock.

use std::{cell::Cell, mem::take};

/// How often a task was put off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PutOff {
    /// Since it began, with `now`.
    pub times: u64,
    /// Before it was taken up this time.
    pub now: bool,
}

impl PutOff {
    /// The task is taken up, after it was put off or not. What it was told before its beginning counts once.
    pub fn taken_up(&mut self, put_off: bool) -> Self {
        let now = take(&mut self.now) || put_off;
        self.times += u64::from(now);
        Self { times: self.times, now }
    }
}

thread_local! {
    static RUNNING: Cell<PutOff> = const { Cell::new(PutOff { times: 0, now: false }) };
}

/// The worker takes up a task, or (`PutOff::default()`) has left it.
pub fn runs(task: PutOff) {
    RUNNING.set(task);
}

/// The task that runs.
#[must_use]
pub fn running() -> PutOff {
    RUNNING.get()
}

/// How often it was put off before the work that begins now: what delayed this time delayed that work as well.
pub(super) fn before() -> u64 {
    let PutOff { times, now } = running();
    times - u64::from(now)
}

/// How often it was put off since then. None outside of a task: whoever ends work from there does not know.
pub(super) fn since(before: u64) -> u64 {
    running().times.saturating_sub(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_beginning_counts_once() {
        let mut task = PutOff { times: 0, now: true };
        let taken = [false, false, true, true].map(|put_off| task.taken_up(put_off));
        let expected = [(1, true), (1, false), (2, true), (3, true)];
        assert_eq!(taken, expected.map(|(times, now)| PutOff { times, now }));
    }

    #[test]
    fn what_delayed_the_beginning_counts() {
        runs(PutOff { times: 3, now: true });
        let first = before();
        assert_eq!(since(first), 1);
        runs(PutOff { times: 3, now: false });
        let second = before();
        assert_eq!((since(first), since(second)), (1, 0));
        runs(PutOff { times: 4, now: true });
        assert_eq!((since(first), since(second)), (2, 1));
        runs(PutOff::default());
        assert_eq!((before(), since(second)), (0, 0));
    }
}
