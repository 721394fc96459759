//! Whether a failed request is tried again, and when. Pure.
//!
//! A request that provably never reached the application is always tried elsewhere, up to [`TRIES`] in all. What may have
//! reached it is tried again only where the method is idempotent (RFC 9110, section 9.2.2) or the policy asks for any
//! method; never once an answer has begun, never when a hop of the mesh before is retrying already, never after the
//! deadline. The budget is asked by the caller, after this.

mod hints;

pub use hints::{Pushback, parse_pushback, parse_retry_after};

use crate::snapshot::policy::RetryPolicy;

/// Tries in all of a request that was not sent.
pub const TRIES: u32 = 4;

/// What is known of the request when an attempt has failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attempt {
    /// Attempts made, the failed one included; from 1.
    pub number: u32,
    /// Those of them that never reached an application: they do not count against the policy's attempts. The failed one included.
    pub not_sent: u32,
    /// The method may be repeated.
    pub idempotent: bool,
    /// The body is still there as a whole.
    pub replayable: bool,
    /// Attempt number that a hop of the mesh before gave it; 0 where it is no retry.
    pub inherited_attempts: u32,
    /// The client has seen a part of an answer.
    pub answer_started: bool,
}

/// How an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// It provably never reached the application: connect failure, refused stream, GOAWAY below its id.
    NotSent,
    /// It may have reached the application: reset, time-out, malformed answer.
    Sent,
    /// It was answered with this status.
    Status(u16),
    /// It was answered with this gRPC status.
    Grpc(u8),
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Try again on another endpoint.
    Retry {
        /// Not before so many nanoseconds.
        wait_ns: u64,
    },
    /// Hand on the failure.
    GiveUp(Why),
}

/// Why a failure is handed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// The client has seen a part of an answer.
    AnswerStarted,
    /// Body or stream cannot be repeated.
    NotReplayable,
    /// No time is left.
    Deadline,
    /// It is a retry of a hop before.
    Inherited,
    /// The method is not idempotent.
    NotIdempotent,
    /// Status that the policy does not name.
    NotRetriable,
    /// As often as the policy allows.
    Exhausted,
    /// The server asked for more time than there is, or for no retry.
    RetryAfter,
}

impl Why {
    /// For metrics and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AnswerStarted => "answer_started",
            Self::NotReplayable => "not_replayable",
            Self::Deadline => "deadline",
            Self::Inherited => "inherited",
            Self::NotIdempotent => "not_idempotent",
            Self::NotRetriable => "not_retriable",
            Self::Exhausted => "exhausted",
            Self::RetryAfter => "retry_after",
        }
    }
}

/// Decides about a failed attempt. `retry_after_ns` is what the answer asked for (`Retry-After`, gRPC pushback; a pushback
/// that forbids is `u64::MAX`), `remaining_ns` what is left of the deadline, none where there is none.
pub fn decide(
    policy: &RetryPolicy,
    attempt: &Attempt,
    failed: Failed,
    retry_after_ns: Option<u64>,
    remaining_ns: Option<u64>,
    random: &mut impl FnMut() -> u64,
) -> Decision {
    if let Some(why) = forbidden(attempt, remaining_ns) {
        return Decision::GiveUp(why);
    }
    if failed == Failed::NotSent {
        return if attempt.number < TRIES {
            Decision::Retry { wait_ns: 0 }
        } else {
            Decision::GiveUp(Why::Exhausted)
        };
    }
    if let Some(why) = refused(policy, attempt, failed) {
        return Decision::GiveUp(why);
    }
    wait(policy, attempt, retry_after_ns, remaining_ns, random)
}

/// What no failure and no policy allows.
fn forbidden(attempt: &Attempt, remaining_ns: Option<u64>) -> Option<Why> {
    match () {
        () if attempt.answer_started => Some(Why::AnswerStarted),
        () if remaining_ns == Some(0) => Some(Why::Deadline),
        () if !attempt.replayable => Some(Why::NotReplayable),
        () => None,
    }
}

/// What the policy does not allow for a request that may have been processed.
fn refused(policy: &RetryPolicy, attempt: &Attempt, failed: Failed) -> Option<Why> {
    let named = match failed {
        Failed::NotSent | Failed::Sent => true,
        Failed::Status(status) => policy.codes.contains(&status),
        Failed::Grpc(status) => policy.grpc_codes.contains(&status),
    };
    match () {
        () if !named => Some(Why::NotRetriable),
        () if attempt.inherited_attempts > 0 => Some(Why::Inherited),
        // An answer with a status that a route names says that the request may be repeated; silence after sending does not (GEP-1731).
        () if !(attempt.idempotent || policy.any_method && failed != Failed::Sent) => {
            Some(Why::NotIdempotent)
        }
        () if sent(attempt) > policy.attempts => Some(Why::Exhausted),
        () => None,
    }
}

/// Attempts that count against the policy.
fn sent(attempt: &Attempt) -> u32 {
    attempt.number.saturating_sub(attempt.not_sent)
}

fn wait(
    policy: &RetryPolicy,
    attempt: &Attempt,
    retry_after_ns: Option<u64>,
    remaining_ns: Option<u64>,
    random: &mut impl FnMut() -> u64,
) -> Decision {
    let asked = retry_after_ns.unwrap_or(0);
    if asked > policy.backoff_max_ns.max(policy.backoff_ns) {
        return Decision::GiveUp(Why::RetryAfter);
    }
    let wait_ns = backoff(policy, sent(attempt), random).max(asked);
    match remaining_ns {
        Some(remaining) if asked >= remaining => Decision::GiveUp(Why::RetryAfter),
        Some(remaining) if wait_ns >= remaining => Decision::GiveUp(Why::Deadline),
        _ => Decision::Retry { wait_ns },
    }
}

/// Doubles with each attempt up to the longest; the upper half of it is left to chance, so that callers do not march in step.
fn backoff(policy: &RetryPolicy, sent: u32, random: &mut impl FnMut() -> u64) -> u64 {
    let doublings = sent.saturating_sub(1).min(32);
    let longest = policy.backoff_max_ns.max(policy.backoff_ns);
    let full = policy.backoff_ns.saturating_mul(1 << doublings).min(longest);
    let half = full / 2;
    let jitter = (u128::from(random()) * u128::from(full - half + 1)) >> 64;
    half + u64::try_from(jitter).unwrap_or_default()
}

#[cfg(test)]
mod tests;
