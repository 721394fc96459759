//! Which identity's certificate is asked for next. Pure: time (milliseconds since the Unix epoch) and jitter are arguments.
//!
//! One request in flight per identity; those that a connection waits for go first and find a slot that prefetching leaves
//! free. A failed one backs off, less far while a connection waits.

use std::collections::HashMap;

use super::renewal;
use crate::snapshot::spiffe::SpiffeId;

#[derive(Debug, Default)]
struct Entry {
    /// When the next request is due; 0 for at once.
    due: u64,
    failures: u32,
    running: bool,
    /// Order of the demand of a connection that waits; `None` when nobody does.
    demanded: Option<u64>,
}

/// The wanted identities and how far each is.
#[derive(Debug)]
pub(crate) struct Schedule {
    entries: HashMap<SpiffeId, Entry>,
    running: usize,
    concurrency: usize,
    demands: u64,
}

impl Schedule {
    /// At most `concurrency` requests at once (at least one).
    pub(crate) fn new(concurrency: usize) -> Self {
        Self { entries: HashMap::new(), running: 0, concurrency: concurrency.max(1), demands: 0 }
    }

    /// Prefetches `id` if it is new.
    pub(crate) fn want(&mut self, id: SpiffeId) {
        self.entries.entry(id).or_default();
    }

    /// A connection waits for `id`.
    pub(crate) fn demand(&mut self, id: SpiffeId, now: u64) {
        self.demands += 1;
        let order = self.demands;
        let entry = self.entries.entry(id).or_default();
        entry.demanded.get_or_insert(order);
        entry.due = entry.due.min(now.saturating_add(renewal::LONGEST_DEMANDED_RETRY));
    }

    /// The next request for `id` is due now.
    pub(crate) fn hurry(&mut self, id: &SpiffeId, now: u64) {
        if let Some(entry) = self.entries.get_mut(id) {
            entry.due = entry.due.min(now);
        }
    }

    /// Forgets `id`; a request in flight still counts until it is done.
    pub(crate) fn forget(&mut self, id: &SpiffeId) {
        self.entries.remove(id);
    }

    /// The next identity to ask for, now counted as running; `None` when none is due or all slots are taken.
    pub(crate) fn start(&mut self, now: u64) -> Option<SpiffeId> {
        let reserved = self.concurrency / 4;
        let prefetch = self.running < self.concurrency - reserved;
        if self.running >= self.concurrency {
            return None;
        }
        let rank = |entry: &Entry| (entry.demanded.is_none(), entry.demanded, entry.due);
        let due =
            |entry: &Entry| !entry.running && entry.due <= now && (prefetch || entry.demanded.is_some());
        let best =
            self.entries.iter_mut().filter(|(_, entry)| due(entry)).min_by_key(|(_, entry)| rank(entry));
        let (id, entry) = best?;
        entry.running = true;
        self.running += 1;
        Some(id.clone())
    }

    /// A request ended with a certificate that is renewed at `renew_at`.
    pub(crate) fn issued(&mut self, id: &SpiffeId, renew_at: u64) {
        if let Some(entry) = self.end(id) {
            *entry = Entry { due: renew_at, ..Entry::default() };
        }
    }

    /// A request failed; `jitter` from -1.0 to 1.0. Says when the next try is due.
    pub(crate) fn failed(&mut self, id: &SpiffeId, now: u64, jitter: f64) -> Option<u64> {
        let entry = self.end(id)?;
        entry.failures = entry.failures.saturating_add(1);
        let mut after = renewal::retry_after(entry.failures, jitter);
        if entry.demanded.is_some() {
            after = after.min(renewal::LONGEST_DEMANDED_RETRY);
        }
        entry.due = now.saturating_add(after);
        Some(entry.due)
    }

    /// Nobody waits for `id` any more: back to the ordinary back-off.
    pub(crate) fn relax(&mut self, id: &SpiffeId) {
        if let Some(entry) = self.entries.get_mut(id) {
            entry.demanded = None;
        }
    }

    /// When [`Self::start`] may have something, if nothing else happens; `None` while all slots are taken.
    pub(crate) fn wake_at(&self) -> Option<u64> {
        if self.running >= self.concurrency {
            return None;
        }
        let prefetch = self.running < self.concurrency - self.concurrency / 4;
        let waiting = |entry: &&Entry| !entry.running && (prefetch || entry.demanded.is_some());
        self.entries.values().filter(waiting).map(|entry| entry.due).min()
    }

    /// Requests in flight.
    #[cfg(test)]
    fn running(&self) -> usize {
        self.running
    }

    fn end(&mut self, id: &SpiffeId) -> Option<&mut Entry> {
        self.running = self.running.saturating_sub(1);
        let entry = self.entries.get_mut(id)?;
        entry.running = false;
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn id(name: &str) -> SpiffeId {
        SpiffeId::new("t", "n", name)
    }

    #[test]
    fn demanded_identities_go_first_in_their_order() {
        let mut schedule = Schedule::new(8);
        for name in ["a", "b", "c", "d"] {
            schedule.want(id(name));
        }
        schedule.demand(id("c"), 0);
        schedule.demand(id("b"), 0);
        schedule.demand(id("c"), 0);
        assert_eq!(schedule.start(0), Some(id("c")));
        assert_eq!(schedule.start(0), Some(id("b")));
        assert!(schedule.start(0).is_some() && schedule.start(0).is_some());
        assert_eq!(schedule.start(0), None, "each is asked for once");
    }

    #[test]
    fn prefetch_leaves_slots_for_connections() {
        let mut schedule = Schedule::new(4);
        for name in ["a", "b", "c", "d", "e"] {
            schedule.want(id(name));
        }
        let started: Vec<_> = std::iter::from_fn(|| schedule.start(0)).collect();
        assert_eq!(started.len(), 3);
        assert_eq!(schedule.wake_at(), None);
        schedule.demand(id("z"), 0);
        assert_eq!(schedule.start(0), Some(id("z")));
        schedule.demand(id("y"), 0);
        assert_eq!(schedule.start(0), None);
        schedule.issued(&id("z"), 500);
        assert_eq!(schedule.start(0), Some(id("y")));
    }

    #[test]
    fn failures_back_off_and_demand_shortens() {
        let mut schedule = Schedule::new(8);
        schedule.want(id("a"));
        let mut now = 0;
        for after in [250, 500, 1000, 2000, 4000] {
            schedule.start(now).unwrap();
            assert_eq!(schedule.failed(&id("a"), now, 0.0), Some(now + after));
            assert_eq!(schedule.start(now + after - 1), None);
            assert_eq!(schedule.wake_at(), Some(now + after));
            now += after;
        }
        schedule.start(now).unwrap();
        schedule.failed(&id("a"), now, 0.0);
        schedule.demand(id("a"), now);
        assert_eq!(schedule.wake_at(), Some(now + 1000));
        schedule.start(now + 1000).unwrap();
        assert_eq!(schedule.failed(&id("a"), now, 1.0), Some(now + 1000));
        schedule.issued(&id("a"), 99_000);
        assert_eq!(schedule.wake_at(), Some(99_000));
    }

    #[test]
    fn a_forgotten_identity_frees_its_slot() {
        let mut schedule = Schedule::new(1);
        schedule.want(id("a"));
        schedule.start(0).unwrap();
        schedule.forget(&id("a"));
        schedule.want(id("b"));
        assert_eq!(schedule.start(0), None);
        schedule.issued(&id("a"), 5);
        assert_eq!((schedule.running(), schedule.start(0)), (1 - 1, Some(id("b"))));
    }
}
