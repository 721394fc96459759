//! What answers say about an endpoint's load: their time, and requests to be spared. Pure.

use std::sync::atomic::Ordering::Relaxed;

use super::ewma::Cells;
use crate::snapshot::EndpointLoad;

/// How long an overloaded answer without a time of its own counts, nanoseconds.
pub const PENALTY_NS: u64 = 1_000_000_000;
/// The longest that an answer can ask for, nanoseconds: no endpoint can take itself out for longer.
pub const LONGEST_PENALTY_NS: u64 = 30_000_000_000;

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

#[cfg(test)]
mod tests {
    use super::*;

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
