//! The endpoints of a port compared over a window, by whoever comes first after it has ended. Pure.

use std::sync::{
    TryLockError,
    atomic::{AtomicU32, Ordering::Relaxed},
};

use super::{Ejection, Outcome, Why, eject_locked};
use crate::snapshot::{Endpoint, ServicePort, load::Window, policy::Outliers};

/// From so many judged endpoints on the standard deviation is used.
const HOSTS: usize = 5;
/// Below the mean by less than this is no outlier, however equal the others are.
const LEAST_GAP: f64 = 0.05;
/// Gap that is one among fewer endpoints.
const GAP: f64 = 0.20;
/// Slower than the others by less than this is no outlier, however quick the others are, nanoseconds.
const LEAST_SLOWER_NS: f64 = 5_000_000.0;
/// Answers without which nothing is said of response times.
const FEW: u32 = 3;
/// Response times are gathered over so many windows where they are few.
const MOST_WINDOWS: u32 = 6;
/// Parts of a doubling in which logarithms are summed.
const LOG_UNIT: f64 = 1024.0;

/// Constant: a few counters.
pub(super) fn note(window: &Window, outcome: Outcome, response_ns: Option<u64>) {
    if outcome == Outcome::Overload {
        return;
    }
    if outcome != Outcome::Begun {
        window.requests.fetch_add(1, Relaxed);
    }
    if outcome.is_failure() {
        window.failed.fetch_add(1, Relaxed);
    } else if let Some(ns) = response_ns {
        let logarithm = (ns.max(1) as f64).log2() * LOG_UNIT;
        window.logarithms.fetch_add(logarithm as u64, Relaxed);
        window.answers.fetch_add(1, Relaxed);
        if window.quickest.load(Relaxed) < u64::MAX - ns {
            window.quickest.fetch_max(u64::MAX - ns, Relaxed);
        }
    }
}

pub(super) fn clear(window: &Window) {
    window.requests.store(0, Relaxed);
    window.failed.store(0, Relaxed);
    clear_times(window);
}

fn clear_times(window: &Window) {
    window.answers.store(0, Relaxed);
    window.logarithms.store(0, Relaxed);
    window.quickest.store(0, Relaxed);
    window.age.store(0, Relaxed);
}

/// Whether the running window has ended; the first request begins the first one.
pub(super) fn is_due(port: &ServicePort, policy: &Outliers, now_ns: u64) -> bool {
    let from = &port.state.window_from_ns;
    match from.load(Relaxed) {
        0 => {
            from.store(now_ns.max(1), Relaxed);
            false
        }
        begun => now_ns.saturating_sub(begun) >= policy.interval_ns.max(1),
    }
}

/// Compares the endpoints and begins the next window; nothing where another is at it.
pub(super) fn evaluate(port: &ServicePort, now_ns: u64) -> Vec<Ejection> {
    let policy = &port.policy.outliers;
    let mut counted_at = match port.state.counted_at_ns.try_lock() {
        Ok(guard) => guard,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => return Vec::new(),
    };
    if !is_due(port, policy, now_ns) {
        return Vec::new();
    }
    port.state.window_from_ns.store(now_ns, Relaxed);
    let samples: Vec<Sample<'_>> =
        port.endpoints.iter().filter_map(|endpoint| sample(endpoint, policy)).collect();
    let mut out = unsuccessful(&samples, policy);
    out.extend(slow(&samples, policy));
    let eject =
        |(endpoint, why): (&Endpoint, Why)| eject_locked(port, &endpoint.load, why, now_ns, &mut counted_at);
    out.into_iter().filter_map(eject).collect()
}

/// What an endpoint did, where it is to be judged at all.
struct Sample<'port> {
    endpoint: &'port Endpoint,
    success_rate: Option<f64>,
    times: Option<Times>,
}

/// The response times of an endpoint, nanoseconds.
#[derive(Clone, Copy)]
struct Times {
    /// Their geometric mean, with which others are compared.
    mean_ns: f64,
    /// What the endpoint is judged by: the mean, or where answers are few, the quickest of them. One that balancing has
    /// recognised as slow is rarely asked; a few heavy requests shall not look like it.
    judged_ns: f64,
}

/// Takes the counts out of the window of an endpoint in rotation.
fn sample<'port>(endpoint: &'port Endpoint, policy: &Outliers) -> Option<Sample<'port>> {
    let (breaker, window) = (&endpoint.load.breaker, &endpoint.load.breaker.window);
    if breaker.until_ns.load(Relaxed) != 0 {
        clear(window);
        return None;
    }
    let take = |cell: &AtomicU32| cell.swap(0, Relaxed);
    let (failed, requests) = (f64::from(take(&window.failed)), take(&window.requests));
    let volume = policy.request_volume.max(1);
    let success_rate = (requests >= volume).then(|| (1.0 - failed / f64::from(requests)).max(0.0));
    Some(Sample { endpoint, success_rate, times: times(window, volume) })
}

/// A fifth of the volume is enough to judge by the mean.
fn times(window: &Window, volume: u32) -> Option<Times> {
    let answers = window.answers.load(Relaxed);
    if answers == 0 {
        return None;
    }
    let enough = answers >= volume.div_ceil(5).max(FEW);
    let mean_ns = (window.logarithms.load(Relaxed) as f64 / f64::from(answers) / LOG_UNIT).exp2();
    let quickest_ns = (u64::MAX - window.quickest.load(Relaxed)) as f64;
    if enough || window.age.fetch_add(1, Relaxed) + 1 >= MOST_WINDOWS {
        clear_times(window);
    }
    let judged_ns = if enough { mean_ns } else { quickest_ns };
    (answers >= FEW).then_some(Times { mean_ns, judged_ns })
}

/// The worst first.
fn unsuccessful<'port>(samples: &[Sample<'port>], policy: &Outliers) -> Vec<(&'port Endpoint, Why)> {
    let mut rates: Vec<(f64, &Endpoint)> =
        samples.iter().filter_map(|sample| Some((sample.success_rate?, sample.endpoint))).collect();
    if policy.success_rate_stdev_tenths == 0 || rates.len() < 2 {
        return Vec::new();
    }
    let count = rates.len() as f64;
    let mean = rates.iter().map(|(rate, _)| rate).sum::<f64>() / count;
    let variance = rates.iter().map(|(rate, _)| (rate - mean).powi(2)).sum::<f64>() / count;
    let gap = if rates.len() < HOSTS {
        GAP
    } else {
        (variance.sqrt() * f64::from(policy.success_rate_stdev_tenths) / 10.0).max(LEAST_GAP)
    };
    rates.retain(|(rate, _)| *rate < mean - gap);
    rates.sort_by(|(one, _), (two, _)| one.total_cmp(two));
    rates.into_iter().map(|(_, endpoint)| (endpoint, Why::SuccessRate)).collect()
}

/// The slowest first, each compared with the median of the others.
fn slow<'port>(samples: &[Sample<'port>], policy: &Outliers) -> Vec<(&'port Endpoint, Why)> {
    let mut times: Vec<(Times, &Endpoint)> =
        samples.iter().filter_map(|sample| Some((sample.times?, sample.endpoint))).collect();
    if policy.latency_factor == 0 || times.len() < 2 {
        return Vec::new();
    }
    times.sort_by(|(one, _), (two, _)| one.mean_ns.total_cmp(&two.mean_ns));
    let is_slow = |place: usize, judged_ns: f64| {
        let middle = (times.len() - 2) / 2;
        let median = times.get(if middle >= place { middle + 1 } else { middle });
        median.is_some_and(|(Times { mean_ns, .. }, _)| {
            judged_ns > mean_ns * f64::from(policy.latency_factor) && judged_ns - mean_ns >= LEAST_SLOWER_NS
        })
    };
    let all = times.iter().enumerate().rev();
    let slow = all.filter(|(place, (times, _))| is_slow(*place, times.judged_ns));
    slow.map(|(_, (_, endpoint))| (*endpoint, Why::Latency)).collect()
}
