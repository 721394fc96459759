//! When a second attempt starts beside a slow first one: after a fixed delay, or at the observed 95th percentile of
//! response times. Pure. The caller asks the retry budget too, and cancels the loser.
//!
//! The histogram is log-linear, eight buckets to a power of two: a percentile is at most an eighth too long, never too
//! short. All counts are halved each time [`WINDOW`] were observed, so that newer ones weigh more.

use std::sync::atomic::Ordering::Relaxed;

pub use crate::snapshot::load::Percentiles;
use crate::snapshot::{
    load::BUCKETS,
    policy::{HedgeDelay, Hedging},
};

/// Observations without which there is no percentile.
pub const ENOUGH: u32 = 100;
/// Observations at which all counts are halved.
pub const WINDOW: u32 = 4096;
/// Observations between two reckonings.
const EVERY: u32 = 64;
/// Logarithm of the shortest time that is told apart.
const SHORTEST: u32 = 13;

impl Percentiles {
    /// Takes in a response time in nanoseconds.
    pub fn observe(&self, ns: u64) {
        if let Some(bucket) = self.buckets.get(bucket_of(ns)) {
            bucket.fetch_add(1, Relaxed);
        }
        let total = self.total.fetch_add(1, Relaxed).saturating_add(1);
        if total >= ENOUGH && total.is_multiple_of(EVERY) || total == ENOUGH || total >= WINDOW {
            self.reckon();
        }
    }

    /// The 95th percentile in nanoseconds; none before [`ENOUGH`] were observed.
    #[must_use]
    pub fn p95(&self) -> Option<u64> {
        Some(self.p95_ns.load(Relaxed)).filter(|ns| *ns > 0)
    }

    /// The 99th percentile likewise.
    #[must_use]
    pub fn p99(&self) -> Option<u64> {
        Some(self.p99_ns.load(Relaxed)).filter(|ns| *ns > 0)
    }

    /// By one at a time; whoever comes meanwhile goes on with what is known.
    fn reckon(&self) {
        let Ok(_alone) = self.reckoning.try_lock() else { return };
        let counts: Vec<u32> = self.buckets.iter().map(|bucket| bucket.load(Relaxed)).collect();
        let total: u64 = counts.iter().map(|count| u64::from(*count)).sum();
        self.p95_ns.store(percentile(&counts, total * 95), Relaxed);
        self.p99_ns.store(percentile(&counts, total * 99), Relaxed);
        if total >= u64::from(WINDOW) {
            self.halve(&counts);
        }
    }

    /// What is observed meanwhile is kept: counts are taken away, not stored.
    fn halve(&self, counts: &[u32]) {
        let mut taken = 0;
        for (bucket, count) in self.buckets.iter().zip(counts) {
            let half = count.div_ceil(2);
            bucket.fetch_sub(half, Relaxed);
            taken += half;
        }
        self.total.fetch_sub(taken, Relaxed);
    }
}

/// The end of the bucket below which so many hundredths of the observations are, nanoseconds.
fn percentile(counts: &[u32], hundredths: u64) -> u64 {
    let mut below = 0;
    for (index, count) in counts.iter().enumerate() {
        below += u64::from(*count) * 100;
        if below >= hundredths {
            return end_of(index);
        }
    }
    end_of(BUCKETS - 1)
}

fn bucket_of(ns: u64) -> usize {
    let Some(log) = ns.checked_ilog2().filter(|log| *log >= SHORTEST) else { return 0 };
    let eighth = (ns >> (log - 3)) & 7;
    ((u64::from(log - SHORTEST) * 8 + eighth) as usize).min(BUCKETS - 1)
}

/// The first time beyond the bucket.
fn end_of(bucket: usize) -> u64 {
    let (power, eighth) = (bucket as u64 / 8, bucket as u64 % 8);
    (8 + eighth + 1) << (u64::from(SHORTEST) + power - 3)
}

/// When a hedge starts after the attempt before it, in nanoseconds; none where it is not known yet.
#[must_use]
pub fn delay(hedging: &Hedging, percentiles: &Percentiles) -> Option<u64> {
    match hedging.delay {
        HedgeDelay::After(ns) => Some(ns),
        HedgeDelay::P95 { at_least_ns } => percentiles.p95().map(|p95| p95.max(at_least_ns)),
    }
}

/// When the next hedge starts, where so many have been started already; none where there shall be no more.
#[must_use]
pub fn next(hedging: &Hedging, percentiles: &Percentiles, started: u32) -> Option<u64> {
    if started < hedging.extra { delay(hedging, percentiles) } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn percentiles_of_known_times() {
        let percentiles = Percentiles::default();
        for number in 1..ENOUGH {
            percentiles.observe(u64::from(number) * 1_000_000);
        }
        assert_eq!(percentiles.p95(), None, "too few");
        percentiles.observe(100_000_000);
        for (value, exact) in [(percentiles.p95(), 95_000_000), (percentiles.p99(), 99_000_000)] {
            let value = value.unwrap_or_default();
            assert!(value >= exact && value <= exact + exact / 8 + 1, "{value} {exact}");
        }
    }

    #[test]
    fn newer_ones_weigh_more() {
        let percentiles = Percentiles::default();
        for _ in 0..10 * WINDOW {
            percentiles.observe(1_000_000);
        }
        assert!(percentiles.total.load(Relaxed) < WINDOW);
        for _ in 0..WINDOW / 2 {
            percentiles.observe(100_000_000);
        }
        assert!(percentiles.p95() >= Some(100_000_000));
        for _ in 0..8 * WINDOW {
            percentiles.observe(1_000_000);
        }
        assert!(percentiles.p95() < Some(1_200_000), "the slow time is forgotten");
    }

    #[test]
    fn delays() {
        let percentiles = Percentiles::default();
        let fixed = Hedging { delay: HedgeDelay::After(5), extra: 2 };
        let observed = Hedging { delay: HedgeDelay::P95 { at_least_ns: 3_000_000 }, extra: 1 };
        assert_eq!((delay(&fixed, &percentiles), delay(&observed, &percentiles)), (Some(5), None));
        for _ in 0..ENOUGH {
            percentiles.observe(1_000_000);
        }
        assert_eq!(delay(&observed, &percentiles), Some(3_000_000), "never earlier");
        let low = Hedging { delay: HedgeDelay::P95 { at_least_ns: 1 }, extra: 1 };
        assert!((1_000_000..1_130_000).contains(&delay(&low, &percentiles).unwrap_or_default()));
    }

    proptest! {
        #[test]
        fn buckets_hold_what_is_in_them(ns in 0u64..1 << 39) {
            let bucket = bucket_of(ns);
            prop_assert!(bucket < BUCKETS && ns < end_of(bucket));
            prop_assert!(bucket == 0 || ns >= end_of(bucket - 1));
        }

        #[test]
        fn any_time_is_taken(times in proptest::collection::vec(any::<u64>(), 0..300)) {
            let percentiles = Percentiles::default();
            times.iter().for_each(|ns| percentiles.observe(*ns));
            prop_assert!(percentiles.p95() <= percentiles.p99());
            prop_assert_eq!(percentiles.p95().is_some(), times.len() >= ENOUGH as usize);
        }

        #[test]
        fn never_more_hedges_than_extra(extra in 0u32..6, delay_ns in any::<u64>()) {
            let (hedging, percentiles) = (Hedging { delay: HedgeDelay::After(delay_ns), extra }, Percentiles::default());
            let mut started = 0;
            while next(&hedging, &percentiles, started).is_some() && started < 100 {
                started += 1;
            }
            prop_assert_eq!(started, extra);
        }
    }
}
