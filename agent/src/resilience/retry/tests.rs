//! The decision as a table, and what holds whatever the numbers are.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use proptest::prelude::*;

use super::*;
use crate::resilience::stage::{MILLISECOND, SECOND, random};

const GET: Attempt = Attempt {
    number: 1,
    not_sent: 0,
    idempotent: true,
    replayable: true,
    inherited_attempts: 0,
    answer_started: false,
};
const POST: Attempt = Attempt { idempotent: false, ..GET };

fn verdict(
    policy: &RetryPolicy,
    attempt: Attempt,
    failed: Failed,
    after: Option<u64>,
    left: Option<u64>,
) -> Option<Why> {
    match decide(policy, &attempt, failed, after, left, &mut random(1)) {
        Decision::Retry { .. } => None,
        Decision::GiveUp(why) => Some(why),
    }
}

#[test]
fn decisions() {
    let default = RetryPolicy::default();
    let any = RetryPolicy { any_method: true, ..RetryPolicy::default() };
    let off = RetryPolicy { attempts: 0, ..RetryPolicy::default() };
    let (sent, not_sent) = (Failed::Sent, Failed::NotSent);
    let table: [(&str, &RetryPolicy, Attempt, Failed, Option<Why>); 24] = [
        ("get reset", &default, GET, sent, None),
        ("post reset", &default, POST, sent, Some(Why::NotIdempotent)),
        ("post reset, any method", &any, POST, sent, None),
        ("post not sent", &default, POST, not_sent, None),
        ("not sent without policy", &off, POST, not_sent, None),
        ("get 503", &default, GET, Failed::Status(503), None),
        ("post 503", &default, POST, Failed::Status(503), Some(Why::NotIdempotent)),
        ("get 500", &default, GET, Failed::Status(500), Some(Why::NotRetriable)),
        ("get 200", &default, GET, Failed::Status(200), Some(Why::NotRetriable)),
        ("grpc unavailable", &any, POST, Failed::Grpc(14), None),
        ("grpc unavailable, post", &default, POST, Failed::Grpc(14), Some(Why::NotIdempotent)),
        ("grpc internal", &any, POST, Failed::Grpc(13), Some(Why::NotRetriable)),
        ("second failure", &default, Attempt { number: 2, ..GET }, sent, None),
        ("third failure", &default, Attempt { number: 3, ..GET }, sent, Some(Why::Exhausted)),
        ("third, one unsent", &default, Attempt { number: 3, not_sent: 1, ..GET }, sent, None),
        (
            "fourth unsent",
            &default,
            Attempt { number: 4, not_sent: 4, ..GET },
            not_sent,
            Some(Why::Exhausted),
        ),
        ("third unsent", &off, Attempt { number: 3, not_sent: 3, ..POST }, not_sent, None),
        ("off", &off, GET, sent, Some(Why::Exhausted)),
        ("inherited", &default, Attempt { inherited_attempts: 1, ..GET }, sent, Some(Why::Inherited)),
        ("inherited, not sent", &default, Attempt { inherited_attempts: 1, ..GET }, not_sent, None),
        ("body gone", &default, Attempt { replayable: false, ..GET }, sent, Some(Why::NotReplayable)),
        (
            "body gone, not sent",
            &default,
            Attempt { replayable: false, ..GET },
            not_sent,
            Some(Why::NotReplayable),
        ),
        ("answer begun", &any, Attempt { answer_started: true, ..GET }, sent, Some(Why::AnswerStarted)),
        (
            "answer begun, not sent",
            &any,
            Attempt { answer_started: true, ..GET },
            not_sent,
            Some(Why::AnswerStarted),
        ),
    ];
    for (name, policy, attempt, failed, expected) in table {
        assert_eq!(verdict(policy, attempt, failed, None, None), expected, "{name}");
        assert_eq!(verdict(policy, attempt, failed, None, Some(10 * SECOND)), expected, "{name}, in time");
        let late = if attempt.answer_started { Why::AnswerStarted } else { Why::Deadline };
        assert_eq!(verdict(policy, attempt, failed, None, Some(0)), Some(late), "{name}, too late");
    }
}

#[test]
fn a_server_that_asks_for_time() {
    let policy = RetryPolicy::default();
    let status = Failed::Status(503);
    let asks =
        |after: u64, left: Option<u64>| decide(&policy, &GET, status, Some(after), left, &mut random(1));
    assert_eq!(asks(200 * MILLISECOND, None), Decision::Retry { wait_ns: 200 * MILLISECOND });
    assert_eq!(
        asks(251 * MILLISECOND, None),
        Decision::GiveUp(Why::RetryAfter),
        "beyond the longest backoff"
    );
    assert_eq!(asks(u64::MAX, None), Decision::GiveUp(Why::RetryAfter), "pushback that forbids");
    assert_eq!(asks(200 * MILLISECOND, Some(200 * MILLISECOND)), Decision::GiveUp(Why::RetryAfter));
    assert_eq!(asks(0, Some(MILLISECOND)), Decision::GiveUp(Why::Deadline), "the backoff does not fit");
}

proptest! {
    #[test]
    fn waits_are_bounded_and_jittered(number in 1u32..40, base in 0u64..10 * SECOND, max in 0u64..100 * SECOND, seed: u64) {
        let policy = RetryPolicy { attempts: 99, backoff_ns: base, backoff_max_ns: max, ..RetryPolicy::default() };
        let decision = decide(&policy, &Attempt { number, ..GET }, Failed::Sent, None, None, &mut random(seed));
        let Decision::Retry { wait_ns } = decision else { panic!("{decision:?}") };
        let full = base.saturating_mul(1 << (number - 1).min(32)).min(max.max(base));
        prop_assert!(wait_ns >= full / 2 && wait_ns <= full, "{} {}", wait_ns, full);
    }

    #[test]
    fn a_request_that_must_not_be_repeated_never_is(
        number in 1u32..9, not_sent in 0u32..9, inherited in 0u32..3, code in 0u16..600, after in any::<Option<u64>>(),
        left in any::<Option<u64>>(), seed: u64,
    ) {
        let attempt = Attempt { number, not_sent, inherited_attempts: inherited, ..POST };
        let policy = RetryPolicy { attempts: 99, codes: (0..600).collect(), grpc_codes: (0..=255).collect(), ..RetryPolicy::default() };
        for failed in [Failed::Sent, Failed::Status(code), Failed::Grpc(code as u8)] {
            let decision = decide(&policy, &attempt, failed, after, left, &mut random(seed));
            prop_assert!(matches!(decision, Decision::GiveUp(_)), "{:?}", failed);
        }
    }
}
