//! Until when a request is worth working on: the smallest of route time-out, `grpc-timeout` and an inherited deadline. Pure.

pub mod grpc_timeout;

/// A point of the agent's monotonic clock in nanoseconds, or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deadline(Option<u64>);

impl Deadline {
    /// There is none.
    #[must_use]
    pub fn none() -> Self {
        Self(None)
    }

    /// So many nanoseconds after `now_ns`.
    #[must_use]
    pub fn after(now_ns: u64, span_ns: u64) -> Self {
        Self(Some(now_ns.saturating_add(span_ns)))
    }

    /// So many nanoseconds after `now_ns`, where there is a span.
    #[must_use]
    pub fn after_any(now_ns: u64, span_ns: Option<u64>) -> Self {
        span_ns.map_or(Self::none(), |span| Self::after(now_ns, span))
    }

    /// The earlier of two.
    #[must_use]
    pub fn smallest(self, other: Self) -> Self {
        match (self.0, other.0) {
            (Some(one), Some(two)) => Self(Some(one.min(two))),
            (one, two) => Self(one.or(two)),
        }
    }

    /// When it is, nanoseconds of the agent's monotonic clock.
    #[must_use]
    pub fn at_ns(self) -> Option<u64> {
        self.0
    }

    /// What is left of it in nanoseconds; 0 when it is gone, none where there is none.
    #[must_use]
    pub fn remaining(self, now_ns: u64) -> Option<u64> {
        self.0.map(|at| at.saturating_sub(now_ns))
    }

    /// Whether it has passed.
    #[must_use]
    pub fn is_gone(self, now_ns: u64) -> bool {
        self.remaining(now_ns) == Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_counts() {
        let (none, early, late) = (Deadline::none(), Deadline::after(10, 5), Deadline::after(10, 50));
        for (one, two, smallest) in [
            (none, none, none),
            (none, late, late),
            (early, none, early),
            (late, early, early),
            (early, late, early),
        ] {
            assert_eq!(one.smallest(two), smallest);
        }
        assert_eq!(
            (early.remaining(12), early.remaining(15), early.remaining(99)),
            (Some(3), Some(0), Some(0))
        );
        assert!(!early.is_gone(14) && early.is_gone(15) && !none.is_gone(u64::MAX));
        assert_eq!(Deadline::after(5, u64::MAX).remaining(5), Some(u64::MAX - 5));
        assert_eq!(Deadline::after_any(1, None), none);
    }
}
