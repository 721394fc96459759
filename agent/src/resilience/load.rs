//! What answers say about an endpoint's load: their time, requests to be spared, and how many of them are failures. Pure.
//!
//! Failing is quick, and must not draw requests. An attempt that fails costs another one, so an endpoint counts as many times as
//! slow as it takes attempts until one of them is good, by its share of gateway failures among its last few. A success makes that
//! less and so does time, so one failure among many good answers moves nothing, a request that fails everywhere takes
//! nobody out, and an endpoint that gets no requests any more is forgiven.

use std::sync::atomic::Ordering::Relaxed;

use super::{ewma::Cells, outlier::Outcome};
use crate::snapshot::EndpointLoad;

/// How long an overloaded answer without a time of its own counts, nanoseconds.
pub const PENALTY_NS: u64 = 1_000_000_000;
/// The longest that an answer can ask for, nanoseconds: no endpoint can take itself out for longer.
pub const LONGEST_PENALTY_NS: u64 = 30_000_000_000;
/// Time constant at which failures are forgiven, nanoseconds.
pub const FORGIVING_NS: u64 = 1_000_000_000;
/// How much one attempt counts in the share of failures.
const NEWEST: f64 = 0.25;
/// The unit of [`cost`].
pub const ONE: u64 = 16;
/// As many attempts for a good one at most as an endpoint counts as slow that asked to be spared.
const MOST: u64 = 16;
/// The bits of `EndpointLoad::failing` that hold the share; those above are the time.
const SHARE: u64 = 0xffff;

/// What an answer said about the endpoint's load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Penalty {
    /// HTTP status; 429 and 503 ask to be spared.
    pub status: u16,
    /// `Retry-After`, nanoseconds from now.
    pub retry_after_ns: Option<u64>,
    /// `grpc-retry-pushback-ms`, nanoseconds from now.
    pub grpc_pushback_ns: Option<u64>,
}

/// Takes in the time until an answer began, in nanoseconds (peak-EWMA).
pub fn observe_response(endpoint: &EndpointLoad, took_ns: u64, now_ns: u64) {
    Cells::of_responses(endpoint).observe(took_ns, now_ns);
}

/// Takes in the time until an answer began that says the endpoint failed: failing is often quick, and must not draw requests, so
/// it never counts as quicker than what the endpoint is known for.
pub fn observe_failure(endpoint: &EndpointLoad, took_ns: u64, now_ns: u64) {
    observe_response(endpoint, took_ns.max(endpoint.response_ns.load(Relaxed)), now_ns);
}

/// The average response time as it stands at `now_ns`, in nanoseconds; 0 where nothing is known.
#[must_use]
pub fn response_ns(endpoint: &EndpointLoad, now_ns: u64) -> u64 {
    Cells::of_responses(endpoint).current(now_ns)
}

/// Raises the endpoint's load for as long as its answer asked for, at most [`LONGEST_PENALTY_NS`].
pub fn penalise(endpoint: &EndpointLoad, now_ns: u64, hint: Penalty) {
    let overloaded = matches!(hint.status, 429 | 503) || hint.grpc_pushback_ns.is_some();
    if !overloaded {
        return;
    }
    let asked = hint.retry_after_ns.max(hint.grpc_pushback_ns).unwrap_or(PENALTY_NS);
    let until = now_ns.saturating_add(asked.clamp(PENALTY_NS, LONGEST_PENALTY_NS));
    endpoint.penalised_until_ns.fetch_max(until, Relaxed);
}

/// Whether the endpoint asked to be spared now.
#[must_use]
pub fn is_penalised(endpoint: &EndpointLoad, now_ns: u64) -> bool {
    endpoint.penalised_until_ns.load(Relaxed) > now_ns
}

/// Takes in whether an attempt failed. Another 5xx than a gateway's says nothing of another attempt, and 429 has its penalty.
pub fn observe_outcome(endpoint: &EndpointLoad, outcome: Outcome, now_ns: u64) {
    let before = failing(endpoint, now_ns);
    let share = match outcome {
        Outcome::GatewayFailure => before + (1.0 - before) * NEWEST,
        Outcome::Success | Outcome::ClientError if before > 0.0 => before * (1.0 - NEWEST),
        _ => return,
    };
    let share = (share * SHARE as f64) as u64;
    endpoint.failing.store((now_ns & !SHARE) | share, Relaxed);
}

/// How many attempts an endpoint takes until one is good, in units of 1 / [`ONE`].
#[must_use]
pub fn cost(endpoint: &EndpointLoad, now_ns: u64) -> u64 {
    ((ONE as f64 / (1.0 - failing(endpoint, now_ns)).max(f64::EPSILON)) as u64).min(ONE * MOST)
}

/// The recent share of failures as it stands at `now_ns`.
fn failing(endpoint: &EndpointLoad, now_ns: u64) -> f64 {
    match endpoint.failing.load(Relaxed) {
        packed if packed & SHARE == 0 => 0.0,
        packed => {
            let elapsed = now_ns.saturating_sub(packed & !SHARE);
            (packed & SHARE) as f64 / SHARE as f64 * (-(elapsed as f64) / FORGIVING_NS as f64).exp()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Costs in units of [`ONE`] after outcomes that come one after the other.
    #[test]
    fn failures_raise_the_cost_and_are_forgiven() {
        use Outcome::{ClientError, GatewayFailure as Bad, Overload, ServerError, Success};
        const SECOND: u64 = 1_000_000_000;
        let table: [(&str, Vec<Outcome>, u64, std::ops::RangeInclusive<u64>); 9] = [
            ("nothing is known", vec![], 0, 16..=16),
            ("one failure", vec![Bad], 0, 21..=21),
            ("five, as many as eject", vec![Bad; 5], 0, 64..=68),
            ("nothing else", vec![Bad; 100], 0, 250..=256),
            ("every other one", [Bad, Success].repeat(50), 0, 26..=32),
            ("one of a hundred", [vec![Bad], vec![Success; 99]].concat(), 0, 16..=16),
            ("other answers", vec![Success, ClientError, ServerError, Overload], 0, 16..=16),
            ("they do not mend it either", vec![Bad, ServerError, Overload], 0, 21..=21),
            ("forgiven without requests", vec![Bad; 100], 3 * SECOND, 16..=16),
        ];
        for (what, outcomes, later, expected) in table {
            let load = EndpointLoad::default();
            outcomes.into_iter().for_each(|outcome| observe_outcome(&load, outcome, 7 * SECOND));
            let found = cost(&load, 7 * SECOND + later);
            assert!(expected.contains(&found), "{what}: {found}");
        }
        // A clock that seems to go back between workers, and the end of time.
        let load = EndpointLoad::default();
        observe_outcome(&load, Bad, 7 * SECOND);
        assert_eq!((cost(&load, 0), cost(&load, u64::MAX)), (21, 16));
    }

    #[test]
    fn penalties_by_what_the_answer_said() {
        const SECOND: u64 = 1_000_000_000;
        let table = [
            (Penalty { status: 429, ..Penalty::default() }, SECOND),
            (Penalty { status: 503, retry_after_ns: Some(5 * SECOND), grpc_pushback_ns: None }, 5 * SECOND),
            (
                Penalty { status: 503, retry_after_ns: Some(3600 * SECOND), grpc_pushback_ns: None },
                30 * SECOND,
            ),
            (Penalty { status: 200, retry_after_ns: None, grpc_pushback_ns: Some(2 * SECOND) }, 2 * SECOND),
            (Penalty { status: 200, retry_after_ns: Some(2 * SECOND), grpc_pushback_ns: None }, 0),
            (Penalty { status: 500, ..Penalty::default() }, 0),
        ];
        for (hint, span) in table {
            let load = EndpointLoad::default();
            penalise(&load, 7, hint);
            assert!(!is_penalised(&load, 7 + span), "{hint:?}");
            assert_eq!(is_penalised(&load, 6 + span), span > 0, "{hint:?}");
        }
        // A shorter one does not undo a longer one.
        let load = EndpointLoad::default();
        penalise(&load, 0, Penalty { status: 429, retry_after_ns: Some(9 * SECOND), grpc_pushback_ns: None });
        penalise(&load, 1, Penalty { status: 429, ..Penalty::default() });
        assert!(is_penalised(&load, 8 * SECOND));
    }

    #[test]
    fn failures_never_draw_requests() {
        let load = EndpointLoad::default();
        observe_response(&load, 40, 1);
        observe_failure(&load, 5, 1_000);
        assert_eq!(load.response_ns.load(Relaxed), 40);
        observe_failure(&load, 90, 2_000);
        assert_eq!(load.response_ns.load(Relaxed), 90);
    }

    #[test]
    fn response_times_have_their_own_average() {
        let load = EndpointLoad::default();
        observe_response(&load, 40, 1);
        assert_eq!((response_ns(&load, 1), crate::resilience::ewma::current(&load, 1)), (40, 0));
    }
}
