//! Cells of retry budgets; `resilience::budget` has the rules. Pure.

use std::sync::{Arc, Mutex, atomic::AtomicU64};

use crate::snapshot::Map;

/// Slots that make an interval.
pub const SLOTS: usize = 16;

/// Requests and retries of one calling workload to one service port.
#[derive(Debug, Default)]
pub struct Budget {
    /// Width of a slot of `requests`, nanoseconds; 0 is the default interval's.
    pub(crate) width_ns: AtomicU64,
    /// Requests: each slot holds its number (upper half) and its count (lower half), so that it is written without a lock.
    pub(crate) requests: [AtomicU64; SLOTS],
    /// When it was last used, nanoseconds.
    pub(crate) used_ns: AtomicU64,
    /// Retries; the lock makes the decision exact.
    pub(crate) retries: Mutex<Retries>,
}

/// Retries over the two intervals of a policy.
#[derive(Debug, Default)]
pub struct Retries {
    /// Over `budget.interval`.
    pub(crate) budgeted: Slots,
    /// Over `minRetryRate.interval`.
    pub(crate) minimum: Slots,
}

/// Counts over an interval and up to one slot more.
#[derive(Debug, Default)]
pub struct Slots {
    /// Width of a slot in nanoseconds; 0 before the first use.
    pub(crate) width_ns: u64,
    /// (number of the slot, count).
    pub(crate) counts: [(u64, u32); SLOTS + 1],
}

/// The budgets of a service port.
#[derive(Debug, Default)]
pub struct Budgets {
    /// By namespace and workload of the caller.
    pub(crate) callers: Map<(Arc<str>, Arc<str>), Arc<Budget>>,
    /// Entries that make the next insertion drop what is idle.
    pub(crate) sweep_at: usize,
}
