//! Peak-EWMA of connect and of response time, as Finagle and Linkerd define it: a slower sample counts at once, faster ones pull the
//! average down over [`DECAY_NS`], and an endpoint that is not used is forgiven at the same pace. Pure.
//!
//! Cells are written without a lock: two workers that write at once may lose one sample, which the next mends.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::snapshot::EndpointLoad;

/// Time constant of the decay, nanoseconds.
pub const DECAY_NS: u64 = 10_000_000_000;

/// An average and when it was last updated.
pub(super) struct Cells<'load> {
    average_ns: &'load AtomicU64,
    at_ns: &'load AtomicU64,
}

/// Takes in the time that a connect took, in nanoseconds.
pub fn observe(load: &EndpointLoad, sample_ns: u64, now_ns: u64) {
    Cells::of_connects(load).observe(sample_ns, now_ns);
}

/// The average connect time as it stands at `now_ns`, in nanoseconds; 0 where nothing is known.
#[must_use]
pub fn current(load: &EndpointLoad, now_ns: u64) -> u64 {
    Cells::of_connects(load).current(now_ns)
}

impl<'load> Cells<'load> {
    fn of_connects(load: &'load EndpointLoad) -> Self {
        Self { average_ns: &load.ewma_ns, at_ns: &load.ewma_at_ns }
    }

    pub(super) fn of_responses(load: &'load EndpointLoad) -> Self {
        Self { average_ns: &load.response_ns, at_ns: &load.response_at_ns }
    }

    pub(super) fn observe(&self, sample_ns: u64, now_ns: u64) {
        let last = self.average_ns.load(Relaxed);
        let average = if sample_ns >= last {
            sample_ns
        } else {
            let weight = self.remaining(now_ns);
            (last as f64 * weight + sample_ns as f64 * (1.0 - weight)) as u64
        };
        // Zero means that nothing is known.
        self.average_ns.store(average.max(1), Relaxed);
        self.at_ns.store(now_ns, Relaxed);
    }

    pub(super) fn current(&self, now_ns: u64) -> u64 {
        match self.average_ns.load(Relaxed) {
            0 => 0,
            last => (last as f64 * self.remaining(now_ns)) as u64,
        }
    }

    /// What is left of the last average: `exp(-elapsed / decay)`.
    fn remaining(&self, now_ns: u64) -> f64 {
        let elapsed = now_ns.saturating_sub(self.at_ns.load(Relaxed));
        (-(elapsed as f64) / DECAY_NS as f64).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peaks_count_at_once_and_fade() {
        let load = EndpointLoad::default();
        assert_eq!(current(&load, 5), 0);
        observe(&load, 1_000_000, 0);
        observe(&load, 9_000_000, 1);
        assert_eq!(current(&load, 1), 9_000_000);
        let faded = current(&load, DECAY_NS + 1);
        assert!((3_300_000..3_320_000).contains(&faded), "{faded}");
        observe(&load, 1_000_000, DECAY_NS + 1);
        let mixed = load.ewma_ns.load(Relaxed);
        assert!((3_900_000..4_000_000).contains(&mixed), "{mixed}");
        assert_eq!(current(&load, u64::MAX), 0);
        observe(&load, 0, 0);
        assert!(load.ewma_ns.load(Relaxed) > 0);
    }
}
