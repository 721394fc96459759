//! How long to wait after failures in a row: doubling from a first to a longest pause, each drawn from its upper half, so that
//! thousands of agents do not come back at once. Pure: the random number is an argument.

use std::time::Duration;

/// Failures in a row, and what they cost.
#[derive(Debug, Clone)]
pub(super) struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    /// None yet.
    pub(super) fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, failures: 0 }
    }

    /// It works again.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// The pause after one more failure; `random` is from 0 to 1.
    pub(super) fn next(&mut self, random: f64) -> Duration {
        let doubled = self.first.saturating_mul(1 << self.failures.min(16));
        self.failures += 1;
        jittered(doubled.min(self.longest), random)
    }
}

/// Between half of a pause and all of it.
pub(super) fn jittered(pause: Duration, random: f64) -> Duration {
    pause.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn doubles_up_to_the_longest_and_starts_again() {
        let seconds = Duration::from_secs;
        let mut backoff = Backoff::new(seconds(1), seconds(30));
        let pauses: Vec<u64> = (0..7).map(|_| backoff.next(1.0).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        backoff.reset();
        assert_eq!(backoff.next(0.0), Duration::from_millis(500));
        for _ in 0..1000 {
            assert!(backoff.next(1.0) <= seconds(30));
        }
    }
}
