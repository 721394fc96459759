//! The retry budget of a calling workload towards a service port (`retryConstraint` of `XBackendTrafficPolicy`, GEP-3388):
//! retries and hedges may be a share of the requests in a sliding interval; a minimum rate is always allowed. Pure.
//!
//! Requests are counted without a lock, a retry is decided under a short one. A retry is granted when, with it, the
//! retries of the last `interval` are at most `percent` of the requests of the last `interval`, or those of the last
//! `minRetryRate.interval` at most `minRetryRate.count`. Both intervals are cut into [`SLOTS`]; what is rounded is rounded against
//! the retry: never more is granted than the policy says, in no window.

use std::sync::{
    Arc, PoisonError,
    atomic::{AtomicU64, Ordering::Relaxed},
};

pub use crate::snapshot::load::Budget;
use crate::snapshot::{
    ServiceState,
    load::{Budgets, Retries, SLOTS, Slots},
    policy::RetryBudget,
};

/// Width of a slot before a policy was seen: that of the default interval of 10 s, nanoseconds.
const WIDTH_NS: u64 = 10_000_000_000 / SLOTS as u64;
/// A budget that was not used for so long may be forgotten, nanoseconds.
const IDLE_NS: u64 = 60_000_000_000;
/// Budgets below which nothing is swept out.
const SMALLEST_SWEEP: usize = 256;

impl Budget {
    /// Counts a request that is no retry.
    pub fn request(&self, now_ns: u64) {
        self.used_ns.store(now_ns, Relaxed);
        let number = now_ns / self.width();
        let Some(slot) = self.requests.get((number % SLOTS as u64) as usize) else { return };
        count_in(slot, number);
    }

    /// Whether a retry or hedge may be made now; it is counted when it may.
    pub fn try_retry(&self, policy: &RetryBudget, now_ns: u64) -> bool {
        self.used_ns.store(now_ns, Relaxed);
        let mut retries = self.retries.lock().unwrap_or_else(PoisonError::into_inner);
        self.follow(policy);
        let granted = self.room(&mut retries, policy, now_ns) > 0;
        if granted {
            retries.budgeted.count(now_ns);
            retries.minimum.count(now_ns);
        }
        granted
    }

    /// How many retries would be granted now, one after the other.
    #[must_use]
    pub fn left(&self, policy: &RetryBudget, now_ns: u64) -> u64 {
        let mut retries = self.retries.lock().unwrap_or_else(PoisonError::into_inner);
        self.follow(policy);
        self.room(&mut retries, policy, now_ns)
    }

    fn room(&self, retries: &mut Retries, policy: &RetryBudget, now_ns: u64) -> u64 {
        let budgeted = retries.budgeted.sum(policy.interval_ns, now_ns);
        let minimum = retries.minimum.sum(policy.min_interval_ns, now_ns);
        let allowed = u128::from(self.requests_until(now_ns)) * u128::from(policy.percent) / 100;
        let of_share = u64::try_from(allowed).unwrap_or(u64::MAX).saturating_sub(budgeted);
        of_share.max(u64::from(policy.min_retries).saturating_sub(minimum))
    }

    /// Requests in the interval that ends now.
    #[must_use]
    pub fn requests_until(&self, now_ns: u64) -> u64 {
        let newest = now_ns / self.width();
        let oldest = newest.saturating_sub(SLOTS as u64 - 1);
        let slots = self.requests.iter().map(|slot| slot.load(Relaxed));
        let within = |number: u32| (oldest..=newest).any(|slot| slot as u32 == number);
        slots.filter(|slot| within((slot >> 32) as u32)).map(|slot| slot & u64::from(u32::MAX)).sum()
    }

    fn width(&self) -> u64 {
        match self.width_ns.load(Relaxed) {
            0 => WIDTH_NS,
            width => width,
        }
    }

    /// Another interval than before: what was counted cannot be converted, and is forgotten.
    fn follow(&self, policy: &RetryBudget) {
        let width = width_of(policy.interval_ns);
        if width != self.width() {
            self.width_ns.store(width, Relaxed);
            for slot in &self.requests {
                slot.store(0, Relaxed);
            }
        }
    }
}

/// Rounded down, so that the slots are never longer than the interval; never 0.
fn width_of(interval_ns: u64) -> u64 {
    (interval_ns / SLOTS as u64).max(1)
}

/// One more in the slot of that number, which begins anew when it held an older one.
fn count_in(slot: &AtomicU64, number: u64) {
    let one_more = |held: u64| {
        let same = (held >> 32) as u32 == number as u32;
        let full = held & u64::from(u32::MAX) == u64::from(u32::MAX);
        match (same, full) {
            (true, true) => None,
            (true, false) => Some(held + 1),
            (false, _) => Some((number << 32) | 1),
        }
    };
    // A full slot stays full.
    let _ = slot.fetch_update(Relaxed, Relaxed, one_more);
}

impl Slots {
    /// The counts of the interval that ends now and of the slot in which it began.
    fn sum(&mut self, interval_ns: u64, now_ns: u64) -> u64 {
        // Rounded up: the slots are never shorter than the interval.
        let width = interval_ns.div_ceil(SLOTS as u64).max(1);
        if self.width_ns != width {
            *self = Self { width_ns: width, ..Self::default() };
        }
        let oldest = (now_ns / width).saturating_sub(SLOTS as u64);
        self.counts.iter().filter(|(number, _)| *number >= oldest).map(|(_, count)| u64::from(*count)).sum()
    }

    fn count(&mut self, now_ns: u64) {
        let number = now_ns / self.width_ns.max(1);
        let Some(slot) = self.counts.get_mut((number % (SLOTS as u64 + 1)) as usize) else { return };
        if slot.0 != number {
            *slot = (number, 0);
        }
        slot.1 = slot.1.saturating_add(1);
    }
}

impl ServiceState {
    /// The budget of a calling workload, made at its first request. Callers keep it for as long as a connection lives:
    /// looking it up takes a lock.
    #[must_use]
    pub fn budget(&self, namespace: &Arc<str>, workload: &Arc<str>, now_ns: u64) -> Arc<Budget> {
        let mut budgets = self.budgets.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (namespace.clone(), workload.clone());
        if let Some(budget) = budgets.callers.get(&key) {
            return budget.clone();
        }
        if budgets.callers.len() >= budgets.sweep_at.max(SMALLEST_SWEEP) {
            sweep(&mut budgets, now_ns);
        }
        let budget = Arc::new(Budget::default());
        budget.used_ns.store(now_ns, Relaxed);
        budgets.callers.insert(key, budget.clone());
        budget
    }
}

/// A budget that a connection holds stays, so that no workload ever has two. The next sweep comes when the table has
/// doubled: constant work per insertion.
fn sweep(budgets: &mut Budgets, now_ns: u64) {
    budgets.callers.retain(|_, budget| {
        Arc::strong_count(budget) > 1 || now_ns.saturating_sub(budget.used_ns.load(Relaxed)) < IDLE_NS
    });
    budgets.sweep_at = budgets.callers.len().saturating_mul(2);
}

#[cfg(test)]
mod tests;
