//! How the pods of this node came to be captured: what they wait for, how long they were not captured, which connections they
//! had before. Written by the node, read by the admin socket and the metrics.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::views::EnrolmentView;

/// Upper bounds of the histogram of windows, seconds.
pub const WINDOW_BOUNDS: [f64; 12] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// The windows of all pods: from the appearance of a pod's first process to its capture.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Windows {
    /// How many fell under each of [`WINDOW_BOUNDS`], and how many above all.
    pub counts: [u64; WINDOW_BOUNDS.len() + 1],
    /// Seconds of all together.
    pub sum: f64,
}

/// A handle; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Enrolments(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    pods: HashMap<Arc<str>, EnrolmentView>,
    windows: Windows,
    refused: u64,
    passed: u64,
    /// Namespaces whose uncaptured pods somebody asks about, and when that was last, agent time.
    asked: HashMap<Arc<str>, u64>,
    /// How many connections those pods have, by uid.
    present: HashMap<Arc<str>, usize>,
}

/// So long an answer is kept up to date for who asked, nanoseconds.
const ASKED_NS: u64 = 10_000_000_000;

impl Enrolments {
    /// Replaces what is known of the pods, by uid.
    pub fn replace(&self, pods: HashMap<Arc<str>, EnrolmentView>) {
        self.lock().pods = pods;
    }

    /// A pod was captured so long after its first process appeared.
    pub fn note_window(&self, microseconds: u64) {
        self.lock().windows.note(microseconds);
    }

    /// The kernel refused, and let go, so many connections of pods that were not captured.
    pub fn note_held(&self, refused: u64, passed: u64) {
        let mut table = self.lock();
        table.refused += refused;
        table.passed += passed;
    }

    /// What the kernel refused, and let go, of pods that were not captured.
    #[must_use]
    pub fn held(&self) -> (u64, u64) {
        let table = self.lock();
        (table.refused, table.passed)
    }

    /// Somebody wants to know which connections the pods of a namespace have that are not captured. The answer comes in time.
    pub fn ask_present(&self, namespace: &str, now_ns: u64) {
        self.lock().asked.insert(namespace.into(), now_ns);
    }

    /// The namespaces that somebody asks about.
    #[must_use]
    pub fn asked(&self, now_ns: u64) -> Vec<Arc<str>> {
        let mut table = self.lock();
        table.asked.retain(|_, asked_ns| now_ns.saturating_sub(*asked_ns) < ASKED_NS);
        table.asked.keys().cloned().collect()
    }

    /// Replaces how many connections pods have that are not captured, by uid.
    pub fn replace_present(&self, present: HashMap<Arc<str>, usize>) {
        self.lock().present = present;
    }

    /// How many connections a pod has that is not captured, where that was asked and found.
    #[must_use]
    pub fn present(&self, uid: &str) -> Option<usize> {
        self.lock().present.get(uid).copied()
    }

    /// What is known of a pod.
    #[must_use]
    pub fn of(&self, uid: &str) -> EnrolmentView {
        self.lock().pods.get(uid).cloned().unwrap_or_default()
    }

    /// The histogram, and how many connections from before are left over all pods.
    #[must_use]
    pub fn totals(&self) -> (Windows, usize) {
        let table = self.lock();
        let before = table.pods.values().map(|pod| pod.connections_before.len()).sum();
        (table.windows.clone(), before)
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Windows {
    fn note(&mut self, microseconds: u64) {
        let seconds = microseconds as f64 / 1e6;
        let place = WINDOW_BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(WINDOW_BOUNDS.len());
        if let Some(count) = self.counts.get_mut(place) {
            *count += 1;
        }
        self.sum += seconds;
    }

    /// Bounds with counts, as a histogram shows them; the last has no bound.
    #[must_use]
    pub fn buckets(&self) -> Vec<(f64, u64)> {
        let bounds = WINDOW_BOUNDS.iter().copied().chain([f64::MAX]);
        bounds.zip(self.counts).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn who_asks_is_answered_for_a_while() {
        let enrolments = Enrolments::default();
        assert!(enrolments.asked(1).is_empty());
        enrolments.ask_present("shop", 1);
        assert_eq!(enrolments.asked(ASKED_NS), ["shop".into()]);
        assert!(enrolments.asked(ASKED_NS + 1).is_empty());
        enrolments.replace_present(HashMap::from([("u".into(), 3)]));
        assert_eq!((enrolments.present("u"), enrolments.present("v")), (Some(3), None));
    }

    #[test]
    fn windows_fall_into_their_buckets() {
        let enrolments = Enrolments::default();
        for microseconds in [0, 1_000, 1_001, 60_000_000] {
            enrolments.note_window(microseconds);
        }
        let (windows, before) = enrolments.totals();
        assert_eq!((windows.counts[0], windows.counts[1], windows.counts[12], before), (2, 1, 1, 0));
        assert!((windows.sum - 60.002_001).abs() < 1e-9);
        assert_eq!(windows.buckets().len(), 13);
    }
}
