//! How many certificates one token may ask for. Pure: the time is an argument.

/// A token bucket: `burst` at once, then `per_second`.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    per_second: u64,
    burst: u64,
    /// Thousandths of a request.
    level: u64,
    filled_at: u64,
}

impl Bucket {
    /// A full bucket at `now`, milliseconds.
    pub(crate) fn new(per_second: u64, burst: u64, now: u64) -> Self {
        Self { per_second, burst, level: burst * 1000, filled_at: now }
    }

    /// Takes one request, if there is one at `now`, milliseconds.
    pub(crate) fn take(&mut self, now: u64) -> bool {
        let gained = now.saturating_sub(self.filled_at).saturating_mul(self.per_second);
        self.level = self.level.saturating_add(gained).min(self.burst * 1000);
        self.filled_at = self.filled_at.max(now);
        let enough = self.level >= 1000;
        self.level -= if enough { 1000 } else { 0 };
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_then_drips() {
        let mut bucket = Bucket::new(2, 3, 0);
        let taken: Vec<bool> =
            [0, 0, 0, 0, 499, 500, 500, 400, 1000, 1000].map(|now| bucket.take(now)).to_vec();
        assert_eq!(taken, [true, true, true, false, false, true, false, false, true, false]);
        assert_eq!((0..9).filter(|_| bucket.take(1_000_000)).count(), 3);
    }
}
