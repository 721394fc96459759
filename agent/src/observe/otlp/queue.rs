//! Finished requests on their way to the exporter. Workers only ever take a short lock; nobody is woken: the exporter comes
//! round by itself.

use crate::observe::{locked, requests::Finished};
use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// Requests that wait; more are dropped.
const QUEUE: usize = 8192;

/// Handle on the queue; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct SpanQueue(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    share: u64,
    waiting: Mutex<VecDeque<Arc<Finished>>>,
    exported: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
}

/// Requests with spans since the start, by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpanCounts {
    /// The collector took them.
    pub exported: u64,
    /// The queue was full.
    pub dropped: u64,
    /// The collector did not take them.
    pub failed: u64,
}

impl SpanQueue {
    /// No spans at all.
    #[must_use]
    pub fn off() -> Self {
        Self(None)
    }

    /// Spans of requests whose caller has decided so, and of this share (0 to 1) of the traces that begin here.
    #[must_use]
    pub fn on(share: f64) -> Self {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "saturates"
        )]
        let share = (share.clamp(0.0, 1.0) * u64::MAX as f64) as u64;
        let zero = || AtomicU64::new(0);
        Self(Some(Arc::new(Shared {
            share,
            waiting: Mutex::default(),
            exported: zero(),
            dropped: zero(),
            failed: zero(),
        })))
    }

    /// Whether spans are exported.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Which part of 2^64 of the traces that begin here is recorded.
    #[must_use]
    pub fn share(&self) -> u64 {
        self.0.as_ref().map_or(0, |shared| shared.share)
    }

    /// What became of them so far.
    #[must_use]
    pub fn counts(&self) -> SpanCounts {
        self.0.as_ref().map_or_else(SpanCounts::default, |shared| SpanCounts {
            exported: shared.exported.load(Relaxed),
            dropped: shared.dropped.load(Relaxed),
            failed: shared.failed.load(Relaxed),
        })
    }

    pub(crate) fn push(&self, request: &Arc<Finished>) {
        let Some(shared) = &self.0 else { return };
        let mut waiting = locked(&shared.waiting);
        if waiting.len() < QUEUE {
            waiting.push_back(request.clone());
        } else {
            shared.dropped.fetch_add(1, Relaxed);
        }
    }

    /// At most so many, the oldest first.
    pub(super) fn take(&self, most: usize) -> Vec<Arc<Finished>> {
        let Some(shared) = &self.0 else { return Vec::new() };
        let mut waiting = locked(&shared.waiting);
        let count = waiting.len().min(most);
        waiting.drain(..count).collect()
    }

    pub(super) fn count_sent(&self, requests: u64, taken: bool) {
        let Some(shared) = &self.0 else { return };
        let counter = if taken { &shared.exported } else { &shared.failed };
        counter.fetch_add(requests, Relaxed);
    }
}
