//! Two histograms: the fixed bounds that Istio's dashboards expect, and a finer one from which percentiles are read. Pure.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Upper bounds of Istio's histograms (Envoy's default) in thousandths of the unit; one more bucket is for the rest.
const BOUNDS: [u64; 19] = [
    500,
    1_000,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
    600_000_000,
    1_800_000_000,
    3_600_000_000,
];

const BUCKETS: usize = BOUNDS.len() + 1;

/// Counts of one worker since it handed them over; plain numbers under the worker's own lock.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    buckets: [u64; BUCKETS],
    sum: u64,
}

impl Counts {
    /// Counts a value given in thousandths of the unit; `amount` is added to the sum, in whatever the reader expects.
    pub(crate) fn add(&mut self, thousandths: u64, amount: u64) {
        let place = BOUNDS.partition_point(|bound| *bound < thousandths);
        if let Some(bucket) = self.buckets.get_mut(place) {
            *bucket += 1;
        }
        self.sum = self.sum.wrapping_add(amount);
    }
}

/// The sum of what all workers handed over.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum: AtomicU64,
}

impl Histogram {
    pub(crate) fn add(&self, counts: &Counts) {
        for (total, more) in self.buckets.iter().zip(counts.buckets).filter(|(_, more)| *more > 0) {
            total.fetch_add(more, Relaxed);
        }
        self.sum.fetch_add(counts.sum, Relaxed);
    }

    /// Bounds in the unit with the number of values in each bucket, the last without bound.
    pub(crate) fn buckets(&self) -> Vec<(f64, u64)> {
        #[allow(clippy::cast_precision_loss, reason = "the bounds are small")]
        let bounds = BOUNDS.iter().map(|bound| *bound as f64 / 1000.0).chain([f64::INFINITY]);
        bounds.zip(self.buckets.iter().map(|bucket| bucket.load(Relaxed))).collect()
    }

    pub(crate) fn sum(&self) -> u64 {
        self.sum.load(Relaxed)
    }
}

/// Values below this have a bucket each; above, each doubling has as many buckets, so that none is wider than 1/16 of its values.
const LINEAR: u64 = 16;
const LINEAR_BITS: u32 = LINEAR.trailing_zeros();
/// Up to 2^32 microseconds, which is more than an hour.
const DOUBLINGS: usize = 28;
const LATENCIES: usize = LINEAR as usize * (DOUBLINGS + 1);

/// Response times in microseconds, log-linear; written by all workers, since the start of the agent.
#[derive(Debug)]
pub(crate) struct Latencies([AtomicU64; LATENCIES]);

impl Default for Latencies {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; LATENCIES])
    }
}

impl Latencies {
    pub(crate) fn add(&self, microseconds: u64) {
        if let Some(bucket) = self.0.get(place(microseconds)) {
            bucket.fetch_add(1, Relaxed);
        }
    }

    /// The buckets that are not empty, by place.
    pub(crate) fn counts(&self) -> Vec<(u16, u64)> {
        let all = (0_u16..).zip(self.0.iter().map(|bucket| bucket.load(Relaxed)));
        all.filter(|(_, count)| *count > 0).collect()
    }
}

fn place(microseconds: u64) -> usize {
    let value = microseconds.min((1 << 32) - 1);
    if value < LINEAR {
        return value as usize;
    }
    let doubling = value.ilog2() - LINEAR_BITS;
    let within = (value >> doubling) - LINEAR;
    (LINEAR * (u64::from(doubling) + 1) + within) as usize
}

/// The largest value of a bucket of [`Latencies::counts`], in microseconds.
fn largest(place: u16) -> u64 {
    let place = u64::from(place);
    if place < LINEAR {
        return place;
    }
    let (doubling, within) = (place / LINEAR - 1, place % LINEAR);
    ((LINEAR + within + 1) << doubling) - 1
}

/// The value below which `share` (0 to 1) of the counted values are, in microseconds, at most 1/16 too large; none without values.
/// `counts` are as those of the admin answer `/top`, in order.
#[must_use]
pub fn percentile(counts: &[(u16, u64)], share: f64) -> Option<u64> {
    let total: u64 = counts.iter().map(|(_, count)| count).sum();
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank"
    )]
    let rank = ((total as f64 * share).ceil() as u64).clamp(1, total.max(1));
    let mut seen = 0;
    let found = counts.iter().find(|(_, count)| {
        seen += count;
        seen >= rank
    });
    found.map(|(place, _)| largest(*place))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_on_a_bound_are_below_it() {
        let mut counts = Counts::default();
        for value in [0, 500, 501, 1_000, 3_600_000_000, 3_600_000_001, u64::MAX] {
            counts.add(value, 1);
        }
        let histogram = Histogram::default();
        histogram.add(&counts);
        let buckets = histogram.buckets();
        assert_eq!((buckets[0], buckets[1]), ((0.5, 2), (1.0, 2)));
        assert_eq!((buckets[18], buckets[19]), ((3_600_000.0, 1), (f64::INFINITY, 2)));
        assert_eq!(histogram.sum(), 7);
    }

    #[test]
    fn percentiles_of_a_known_set() {
        let latencies = Latencies::default();
        (1..=1000).for_each(|value| latencies.add(value));
        let counts = latencies.counts();
        for (share, exact) in [(0.5, 500), (0.99, 990), (1.0, 1000), (0.0, 1)] {
            let found = percentile(&counts, share).unwrap();
            assert!((exact..=exact + exact / 16 + 1).contains(&found), "{share}: {found}");
        }
        assert_eq!(percentile(&[], 0.5), None);
    }

    proptest! {
        #[test]
        fn a_value_is_in_its_bucket(value in 0_u64..1 << 32) {
            let at = place(value);
            prop_assert!(at < LATENCIES);
            let top = largest(u16::try_from(at).unwrap());
            prop_assert!(top >= value && top - value <= value / 16, "{} for {}", top, value);
            prop_assert!(at == 0 || largest(u16::try_from(at - 1).unwrap()) < value);
        }
    }
}
