//! Endpoints that refuse or time out are left alone for a growing while. Pure.
//!
//! Never more than half of the endpoints of a port (rounded down) are ejected, those included that [`super::outlier`]
//! ejected for their answers: a lone endpoint never is. A success
//! forgives everything. What a connection pays is constant; endpoints are counted only when one is to be ejected,
//! and at most every [`RECOUNT_NS`].

use std::sync::atomic::Ordering::Relaxed;

use crate::snapshot::{Endpoint, EndpointLoad, ServicePort};

/// Endpoints of a port are counted again at most this often, nanoseconds.
pub const RECOUNT_NS: u64 = 100_000_000;

/// When and for how long an endpoint is ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EjectionPolicy {
    /// Failures in a row that eject.
    pub failures: u32,
    /// First ejection in nanoseconds; each further one without a success in between is twice as long.
    pub base_ns: u64,
    /// Longest ejection in nanoseconds.
    pub longest_ns: u64,
}

impl Default for EjectionPolicy {
    /// One refused or timed-out connect is enough, since another endpoint takes the connection: 1 s, up to 60 s.
    fn default() -> Self {
        Self { failures: 1, base_ns: 1_000_000_000, longest_ns: 60_000_000_000 }
    }
}

/// Whether the endpoint is to be left alone now.
#[must_use]
pub fn is_ejected(load: &EndpointLoad, now_ns: u64) -> bool {
    load.ejected_until_ns.load(Relaxed) > now_ns
}

/// The endpoint accepted a connection.
pub fn succeeded(load: &EndpointLoad) {
    // Written only where it changes: the cache line is shared by workers.
    for cell in [&load.failures, &load.ejections] {
        if cell.load(Relaxed) != 0 {
            cell.store(0, Relaxed);
        }
    }
    if load.ejected_until_ns.load(Relaxed) != 0 {
        load.ejected_until_ns.store(0, Relaxed);
    }
}

/// The endpoint refused or timed out. Returns for how many nanoseconds it is ejected by this, if it is.
pub fn failed(port: &ServicePort, load: &EndpointLoad, policy: &EjectionPolicy, now_ns: u64) -> Option<u64> {
    let failures = load.failures.fetch_add(1, Relaxed).saturating_add(1);
    if failures < policy.failures || is_ejected(load, now_ns) {
        return None;
    }
    let mut counted_at = port.state.counted_at_ns.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if is_ejected(load, now_ns) || !has_room(port, &mut counted_at, now_ns) {
        return None;
    }
    let doublings = load.ejections.fetch_add(1, Relaxed).min(32);
    let span = policy.base_ns.saturating_mul(1 << doublings).min(policy.longest_ns);
    load.ejected_until_ns.store(now_ns.saturating_add(span), Relaxed);
    load.failures.store(0, Relaxed);
    port.state.ejected.fetch_add(1, Relaxed);
    Some(span)
}

/// Whether the endpoint is out of rotation: ejected for its connects, or for its answers and not back yet.
#[must_use]
pub(super) fn is_out(load: &EndpointLoad, now_ns: u64) -> bool {
    is_ejected(load, now_ns) || load.breaker.until_ns.load(Relaxed) != 0
}

/// Whether ejections count at a choice: not while more than half are ejected because healthy endpoints have left.
#[must_use]
pub fn are_honoured(port: &ServicePort, now_ns: u64) -> bool {
    count_fits(port, now_ns, |ejected| !exceeds(ejected, port))
}

/// Whether the number of ejected endpoints fits; they are counted again when the number that is known does not.
pub(super) fn count_fits(port: &ServicePort, now_ns: u64, fits: impl Fn(u32) -> bool) -> bool {
    if fits(port.state.ejected.load(Relaxed)) {
        return true;
    }
    // Somebody else decides right now: what is known is good enough for one choice.
    if let Ok(mut counted_at) = port.state.counted_at_ns.try_lock() {
        recount(port, &mut counted_at, now_ns);
    }
    fits(port.state.ejected.load(Relaxed))
}

fn has_room(port: &ServicePort, counted_at: &mut u64, now_ns: u64) -> bool {
    recount(port, counted_at, now_ns);
    !exceeds(port.state.ejected.load(Relaxed).saturating_add(1), port)
}

fn exceeds(ejected: u32, port: &ServicePort) -> bool {
    ejected as usize > port.endpoints.len() / 2
}

/// Between counts the number only grows: endpoints that come back or leave are noticed late, never too early.
pub(super) fn recount(port: &ServicePort, counted_at: &mut u64, now_ns: u64) {
    if *counted_at != 0 && now_ns.saturating_sub(*counted_at) < RECOUNT_NS {
        return;
    }
    let ejected = |endpoint: &&Endpoint| is_out(&endpoint.load, now_ns);
    let count = port.endpoints.iter().filter(ejected).count();
    port.state.ejected.store(u32::try_from(count).unwrap_or(u32::MAX), Relaxed);
    *counted_at = now_ns;
}
