//! Which endpoints are left alone for what they answer: the circuit breaker of each and the comparison of all. Pure.
//!
//! Three things eject: gateway failures in a row; a success rate below the others' over a window; response times above
//! the others' over a window ([`window`]). An ejection lasts `base` times the number of ejections so far, less one for every
//! `interval` that the endpoint was healthy since. After it the breaker is half-open: one probing request at a time
//! ([`claim_probe`]), whose success closes it and whose failure ejects again, longer.
//!
//! At most `max_ejected_percent` of the endpoints are out of rotation at once, those half-open and those that
//! [`super::ejection`] left alone included; at least one may be, of two, and never the last one.

mod window;

use std::{
    net::SocketAddr,
    sync::{
        PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use super::ejection;
use crate::snapshot::{EndpointLoad, ServicePort, load::Breaker, policy::Outliers};

/// A probe that was not heard of for so long is given up, nanoseconds.
pub const PROBE_NS: u64 = 10_000_000_000;

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A good answer.
    Success,
    /// 502, 503, 504, a reset, a refused connect, a time-out.
    GatewayFailure,
    /// Another 5xx.
    ServerError,
    /// 4xx: the endpoint is well.
    ClientError,
    /// 429: says nothing of its health.
    Overload,
    /// An answer has begun whose end says how it went (gRPC). Only its time counts, and it is as good for a probe.
    Begun,
}

impl Outcome {
    /// Of an HTTP status.
    #[must_use]
    pub fn of_status(status: u16) -> Self {
        match status {
            502..=504 => Self::GatewayFailure,
            429 => Self::Overload,
            500..=599 => Self::ServerError,
            400..=499 => Self::ClientError,
            _ => Self::Success,
        }
    }

    /// Of a gRPC status (gRPC status codes, mapped as in "HTTP to gRPC status code mapping", backwards).
    #[must_use]
    pub fn of_grpc(status: u8) -> Self {
        match status {
            0 => Self::Success,
            // UNAVAILABLE.
            14 => Self::GatewayFailure,
            // RESOURCE_EXHAUSTED.
            8 => Self::Overload,
            // UNKNOWN, INTERNAL, DATA_LOSS.
            2 | 13 | 15 => Self::ServerError,
            _ => Self::ClientError,
        }
    }

    fn is_failure(self) -> bool {
        matches!(self, Self::GatewayFailure | Self::ServerError)
    }
}

/// Why an endpoint is ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// Gateway failures in a row.
    ConsecutiveFailures,
    /// Fewer successes than the others.
    SuccessRate,
    /// Slower than the others.
    Latency,
    /// It did not accept connections ([`super::ejection`]).
    Connect,
}

impl Why {
    /// For metrics and people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConsecutiveFailures => "consecutive_failures",
            Self::SuccessRate => "success_rate",
            Self::Latency => "latency",
            Self::Connect => "connect",
        }
    }

    fn of(code: u8) -> Self {
        match code {
            1 => Self::SuccessRate,
            2 => Self::Latency,
            _ => Self::ConsecutiveFailures,
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::SuccessRate => 1,
            Self::Latency => 2,
            Self::ConsecutiveFailures | Self::Connect => 0,
        }
    }
}

/// An endpoint was ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// Which.
    pub address: SocketAddr,
    /// Why.
    pub why: Why,
    /// Until when, nanoseconds of the agent's monotonic clock.
    pub until_ns: u64,
}

/// Whether an endpoint takes requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It does.
    Healthy,
    /// It is left alone.
    Ejected {
        /// Until when, nanoseconds of the agent's monotonic clock.
        until_ns: u64,
        /// Why.
        why: Why,
    },
    /// One request at a time finds out whether it is back.
    HalfOpen,
}

/// Whether an endpoint takes requests at `now_ns`. Ejections by connects (TCP too) are told as well.
#[must_use]
pub fn state(endpoint: &EndpointLoad, now_ns: u64) -> State {
    let (by_answers, by_connects) =
        (endpoint.breaker.until_ns.load(Relaxed), endpoint.ejected_until_ns.load(Relaxed));
    match (by_answers, by_connects) {
        (until_ns, _) if until_ns > now_ns => {
            State::Ejected { until_ns, why: Why::of(endpoint.breaker.why.load(Relaxed)) }
        }
        (_, until_ns) if until_ns > now_ns => State::Ejected { until_ns, why: Why::Connect },
        (0, _) => State::Healthy,
        _ => State::HalfOpen,
    }
}

/// Takes in what became of an attempt at an endpoint of the port; `response_ns` is the time until the answer began, where
/// there was one. Returns the endpoints that are ejected by this: this one, or those that a window that has ended
/// tells apart. Constant, but for once per interval.
pub fn record(
    port: &ServicePort,
    endpoint: &EndpointLoad,
    outcome: Outcome,
    response_ns: Option<u64>,
    now_ns: u64,
) -> Vec<Ejection> {
    let policy = &port.policy.outliers;
    window::note(&endpoint.breaker.window, outcome, response_ns);
    let mut ejections: Vec<Ejection> = turn(port, endpoint, outcome, now_ns).into_iter().collect();
    if window::is_due(port, policy, now_ns) {
        ejections.extend(window::evaluate(port, now_ns));
    }
    ejections
}

/// The step of one breaker.
fn turn(port: &ServicePort, endpoint: &EndpointLoad, outcome: Outcome, now_ns: u64) -> Option<Ejection> {
    let breaker = &endpoint.breaker;
    match breaker.until_ns.load(Relaxed) {
        0 => count(port, endpoint, outcome, now_ns),
        // An answer to what was asked before the ejection.
        until_ns if until_ns > now_ns => None,
        _ if outcome == Outcome::Overload => {
            breaker.probe_at_ns.store(0, Relaxed);
            None
        }
        _ if outcome.is_failure() => eject_again(port, endpoint, now_ns),
        _ => {
            close(breaker, now_ns);
            None
        }
    }
}

fn count(port: &ServicePort, endpoint: &EndpointLoad, outcome: Outcome, now_ns: u64) -> Option<Ejection> {
    let (most, failures) = (port.policy.outliers.consecutive, &endpoint.breaker.failures);
    match outcome {
        Outcome::GatewayFailure => {
            let failures = failures.fetch_add(1, Relaxed).saturating_add(1);
            let eject_it = most > 0 && failures >= most;
            eject_it.then(|| eject(port, endpoint, Why::ConsecutiveFailures, now_ns)).flatten()
        }
        Outcome::Overload | Outcome::Begun => None,
        _ => {
            clear(failures);
            None
        }
    }
}

/// Ejects a healthy endpoint, if one more may be.
fn eject(port: &ServicePort, endpoint: &EndpointLoad, why: Why, now_ns: u64) -> Option<Ejection> {
    let mut counted_at = port.state.counted_at_ns.lock().unwrap_or_else(PoisonError::into_inner);
    eject_locked(port, endpoint, why, now_ns, &mut counted_at)
}

fn eject_locked(
    port: &ServicePort,
    endpoint: &EndpointLoad,
    why: Why,
    now_ns: u64,
    counted_at: &mut u64,
) -> Option<Ejection> {
    let breaker = &endpoint.breaker;
    if breaker.until_ns.load(Relaxed) != 0 {
        return None;
    }
    let (most, known) = (most_ejected(port), &port.state.ejected);
    let more = u32::from(!ejection::is_ejected(endpoint, now_ns));
    if known.load(Relaxed).saturating_add(more) > most {
        ejection::recount(port, counted_at, now_ns);
    }
    if known.load(Relaxed).saturating_add(more) > most {
        return None;
    }
    // Until the next count an endpoint that was out for its connects already is counted twice: never too few.
    known.fetch_add(1, Relaxed);
    let healthy_ns = now_ns.saturating_sub(breaker.closed_at_ns.load(Relaxed));
    let forgiven = healthy_ns / port.policy.outliers.interval_ns.max(1);
    let before = u64::from(breaker.ejections.load(Relaxed)).saturating_sub(forgiven);
    Some(open(port, endpoint, why, before, now_ns))
}

/// A half-open one fails: it is counted as ejected already. Where healthy endpoints have left and too many are out, it
/// takes part again instead.
fn eject_again(port: &ServicePort, endpoint: &EndpointLoad, now_ns: u64) -> Option<Ejection> {
    let breaker = &endpoint.breaker;
    let mut counted_at = port.state.counted_at_ns.lock().unwrap_or_else(PoisonError::into_inner);
    let until_ns = breaker.until_ns.load(Relaxed);
    if until_ns == 0 || until_ns > now_ns {
        return None;
    }
    let (most, known) = (most_ejected(port), &port.state.ejected);
    if known.load(Relaxed) > most {
        // Probes are rare enough for an exact count.
        *counted_at = 0;
        ejection::recount(port, &mut counted_at, now_ns);
    }
    if known.load(Relaxed) > most {
        close(breaker, now_ns);
        return None;
    }
    let (before, why) = (breaker.ejections.load(Relaxed), Why::of(breaker.why.load(Relaxed)));
    Some(open(port, endpoint, why, u64::from(before), now_ns))
}

fn open(port: &ServicePort, endpoint: &EndpointLoad, why: Why, before: u64, now_ns: u64) -> Ejection {
    let (policy, breaker) = (&port.policy.outliers, &endpoint.breaker);
    let number = before.saturating_add(1);
    let span = policy.base_ns.saturating_mul(number).min(policy.longest_ns).max(1);
    let until_ns = now_ns.saturating_add(span);
    breaker.ejections.store(u32::try_from(number).unwrap_or(u32::MAX), Relaxed);
    breaker.why.store(why.code(), Relaxed);
    breaker.probe_at_ns.store(0, Relaxed);
    breaker.failures.store(0, Relaxed);
    breaker.until_ns.store(until_ns, Relaxed);
    Ejection { address: address_of(port, endpoint), why, until_ns }
}

/// What it did before says nothing of it now.
fn close(breaker: &Breaker, now_ns: u64) {
    window::clear(&breaker.window);
    clear(&breaker.failures);
    breaker.closed_at_ns.store(now_ns, Relaxed);
    breaker.probe_at_ns.store(0, Relaxed);
    breaker.until_ns.store(0, Relaxed);
}

/// Written only where it changes: the cache line is shared by workers.
fn clear(cell: &AtomicU32) {
    if cell.load(Relaxed) != 0 {
        cell.store(0, Relaxed);
    }
}

/// Looked for only when it is ejected.
fn address_of(port: &ServicePort, endpoint: &EndpointLoad) -> SocketAddr {
    let found = port.endpoints.iter().find(|candidate| std::ptr::eq(&**candidate.load, endpoint));
    found.map_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)), |endpoint| endpoint.address)
}

fn most_ejected(port: &ServicePort) -> u32 {
    let (count, percent) = (port.endpoints.len() as u64, u64::from(port.policy.outliers.max_ejected_percent));
    let share = count * percent.min(100) / 100;
    let at_least = u64::from(percent > 0);
    u32::try_from(share.max(at_least).min(count.saturating_sub(1))).unwrap_or(u32::MAX)
}

/// Whether ejections count at a choice: not while the share of endpoints in rotation is below `panic_percent`.
#[must_use]
pub fn are_honoured(port: &ServicePort, now_ns: u64) -> bool {
    ejection::count_fits(port, now_ns, |ejected| {
        !panics(&port.policy.outliers, port.endpoints.len(), ejected)
    })
}

fn panics(policy: &Outliers, count: usize, ejected: u32) -> bool {
    let (count, ejected) = (count as u64, u64::from(ejected));
    ejected > 0 && count.saturating_sub(ejected) * 100 < count * u64::from(policy.panic_percent)
}

/// Makes the request that asks the probe of a half-open endpoint, unless another one is it.
pub(super) fn claim_probe(endpoint: &EndpointLoad, now_ns: u64) -> bool {
    if state(endpoint, now_ns) != State::HalfOpen {
        return false;
    }
    let probe = &endpoint.breaker.probe_at_ns;
    let before = probe.load(Relaxed);
    let free = before == 0 || now_ns.saturating_sub(before) >= PROBE_NS;
    free && probe.compare_exchange(before, now_ns.max(1), Relaxed, Relaxed).is_ok()
}

#[cfg(test)]
mod tests;
