//! Cells of a histogram of response times; `resilience::hedge` has the rules. Pure.

use std::sync::{
    Mutex,
    atomic::{AtomicU32, AtomicU64},
};

/// Buckets: eight to each power of two between 2^13 ns (8 µs) and 2^39 ns (9 minutes).
pub const BUCKETS: usize = 26 * 8;

/// Response times of a service port, newer ones counting more.
#[derive(Debug)]
pub struct Percentiles {
    /// Observations by bucket.
    pub(crate) buckets: [AtomicU32; BUCKETS],
    /// Observations in all buckets.
    pub(crate) total: AtomicU32,
    /// 95th percentile in nanoseconds at the last reckoning; 0 before.
    pub(crate) p95_ns: AtomicU64,
    /// 99th percentile likewise.
    pub(crate) p99_ns: AtomicU64,
    /// Held by who reckons and halves.
    pub(crate) reckoning: Mutex<()>,
}

impl Default for Percentiles {
    fn default() -> Self {
        Self {
            buckets: std::array::from_fn(|_| AtomicU32::new(0)),
            total: AtomicU32::default(),
            p95_ns: AtomicU64::default(),
            p99_ns: AtomicU64::default(),
            reckoning: Mutex::default(),
        }
    }
}
