//! Retries that came in: which requests a pod works on because a hop before tried them again. Shared by all workers, since a pod
//! may be called through one and call through another. Pure.
//!
//! Retries are few: while none is remembered, asking costs one relaxed load.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use crate::tunnel::RetryMark;

/// How long a mark is remembered, nanoseconds.
pub const REMEMBERED_NS: u64 = 60_000_000_000;
/// Marks that are remembered at once; the oldest are forgotten first.
pub const MOST: usize = 4096;

/// What hops before have tried, by pod and request.
#[derive(Debug, Default)]
pub struct InheritedAttempts {
    known: AtomicUsize,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    /// By the pod's cookie and the request's key: attempts, and when they were noted.
    pods: HashMap<u64, HashMap<Arc<str>, (u32, u64)>>,
    /// In the order in which they were noted; one that was noted again is here twice.
    order: VecDeque<(u64, Arc<str>, u64)>,
}

impl InheritedAttempts {
    /// A stream for the pod carries a retry.
    pub fn note(&self, pod: u64, mark: &RetryMark, now_ns: u64) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.forget_old(now_ns);
        let requests = table.pods.entry(pod).or_default();
        let attempts = requests.get(&mark.key).map_or(mark.attempt, |(before, _)| mark.attempt.max(*before));
        requests.insert(Arc::clone(&mark.key), (attempts, now_ns));
        table.order.push_back((pod, Arc::clone(&mark.key), now_ns));
        self.known.store(table.order.len(), Relaxed);
    }

    /// Attempts of hops before for a request that the pod's application makes with the same key; 0 for one that was not
    /// retried, or too long ago.
    #[must_use]
    pub fn of(&self, pod: u64, key: &str, now_ns: u64) -> u32 {
        if self.known.load(Relaxed) == 0 {
            return 0;
        }
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.forget_old(now_ns);
        self.known.store(table.order.len(), Relaxed);
        table.pods.get(&pod).and_then(|requests| requests.get(key)).map_or(0, |(attempts, _)| *attempts)
    }
}

impl Table {
    fn forget_old(&mut self, now_ns: u64) {
        while let Some((_, _, noted)) = self.order.front()
            && (now_ns.saturating_sub(*noted) >= REMEMBERED_NS || self.order.len() >= MOST)
        {
            if let Some((pod, key, noted)) = self.order.pop_front() {
                self.forget(pod, &key, noted);
            }
        }
    }

    /// Unless it was noted again since.
    fn forget(&mut self, pod: u64, key: &str, noted: u64) {
        let Some(requests) = self.pods.get_mut(&pod) else { return };
        if requests.get(key).is_some_and(|(_, last)| *last == noted) {
            requests.remove(key);
        }
        if requests.is_empty() {
            self.pods.remove(&pod);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn mark(attempt: u32, key: &str) -> RetryMark {
        RetryMark { attempt, key: key.into() }
    }

    #[test]
    fn remembered_by_pod_and_key_for_a_minute() {
        let inherited = InheritedAttempts::default();
        assert_eq!(inherited.of(1, "a", 0), 0);
        inherited.note(1, &mark(1, "a"), 10);
        inherited.note(1, &mark(3, "b"), 20);
        assert_eq!((inherited.of(1, "a", 30), inherited.of(1, "b", 30)), (1, 3));
        assert_eq!((inherited.of(2, "a", 30), inherited.of(1, "c", 30)), (0, 0));
        // Noted again: the larger number, and a minute from then.
        inherited.note(1, &mark(2, "a"), 40);
        inherited.note(1, &mark(1, "a"), 50);
        assert_eq!(inherited.of(1, "a", REMEMBERED_NS + 45), 2);
        assert_eq!(inherited.of(1, "b", REMEMBERED_NS + 45), 0);
        assert_eq!(inherited.of(1, "a", REMEMBERED_NS + 50), 0);
        assert!(inherited.table.lock().unwrap().pods.is_empty());
        assert_eq!(inherited.known.load(Relaxed), 0);
    }

    #[test]
    fn bounded() {
        let inherited = InheritedAttempts::default();
        for number in 0..3 * MOST as u64 {
            inherited.note(number % 7, &mark(1, &number.to_string()), number);
        }
        let table = inherited.table.lock().unwrap();
        assert!(table.order.len() <= MOST);
        assert!(table.pods.values().map(HashMap::len).sum::<usize>() <= MOST);
    }
}
