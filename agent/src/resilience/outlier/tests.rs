//! The breaker step by step, the comparison by tables, and what holds whatever happens.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use proptest::prelude::*;

use super::*;
use crate::resilience::{
    ejection::{EjectionPolicy, failed, is_out},
    stage::{MILLISECOND, SECOND, with_outliers},
};

fn strike(port: &ServicePort, index: usize, outcome: Outcome, now: u64) -> Vec<Ejection> {
    record(port, &port.endpoints[index].load, outcome, Some(MILLISECOND), now)
}

fn state_of(port: &ServicePort, index: usize, now: u64) -> State {
    state(&port.endpoints[index].load, now)
}

fn ejected(port: &ServicePort, now: u64) -> usize {
    port.endpoints.iter().filter(|endpoint| is_out(&endpoint.load, now)).count()
}

#[test]
fn outcomes() {
    let table = [
        (200, Outcome::Success),
        (404, Outcome::ClientError),
        (429, Outcome::Overload),
        (500, Outcome::ServerError),
        (501, Outcome::ServerError),
        (502, Outcome::GatewayFailure),
        (504, Outcome::GatewayFailure),
        (505, Outcome::ServerError),
        (101, Outcome::Success),
    ];
    for (status, outcome) in table {
        assert_eq!(Outcome::of_status(status), outcome, "{status}");
    }
    let grpc = [
        (0, Outcome::Success),
        (5, Outcome::ClientError),
        (8, Outcome::Overload),
        (13, Outcome::ServerError),
        (14, Outcome::GatewayFailure),
    ];
    for (status, outcome) in grpc {
        assert_eq!(Outcome::of_grpc(status), outcome, "{status}");
    }
}

#[test]
fn failures_in_a_row_open_a_probe_closes_and_ejections_grow() {
    use Outcome::{ClientError, GatewayFailure, Overload, ServerError, Success};
    let port = with_outliers(3, Outliers::default());
    let run = |outcomes: &[Outcome], now| {
        outcomes.iter().map(|outcome| strike(&port, 0, *outcome, now).len()).sum::<usize>()
    };
    let f = GatewayFailure;
    // Anything else between them begins a new row; an overload does not.
    assert_eq!(
        run(&[f, f, f, f, Success, f, f, f, f, ClientError, f, f, f, f, ServerError, f, f], SECOND),
        0
    );
    assert_eq!(run(&[f, Overload, f], SECOND), 0);
    let out = strike(&port, 0, f, SECOND);
    let expected =
        Ejection { address: port.endpoints[0].address, why: Why::ConsecutiveFailures, until_ns: 6 * SECOND };
    assert_eq!(out, [expected]);
    assert_eq!(
        state_of(&port, 0, SECOND),
        State::Ejected { until_ns: 6 * SECOND, why: Why::ConsecutiveFailures }
    );
    // What was under way does not count, neither way.
    assert_eq!(run(&[f, f, f, f, f, f, Success], 2 * SECOND), 0);
    let mut now = 6 * SECOND;
    for span in [10, 15, 20] {
        assert_eq!(state_of(&port, 0, now), State::HalfOpen);
        assert!(claim_probe(&port.endpoints[0].load, now) && !claim_probe(&port.endpoints[0].load, now));
        let again = strike(&port, 0, if span == 15 { ServerError } else { f }, now);
        assert_eq!(again[0].until_ns - now, span * SECOND);
        assert_eq!(again[0].why, Why::ConsecutiveFailures);
        now += span * SECOND;
    }
    assert!(claim_probe(&port.endpoints[0].load, now));
    assert_eq!(run(&[Overload], now), 0);
    assert!(state_of(&port, 0, now) == State::HalfOpen && claim_probe(&port.endpoints[0].load, now));
    assert_eq!(run(&[Success], now), 0);
    assert_eq!(state_of(&port, 0, now), State::Healthy);
    // Two intervals of health forgive two of the four ejections.
    assert_eq!(run(&[f, f, f, f], now + 25 * SECOND), 0);
    assert_eq!(strike(&port, 0, f, now + 25 * SECOND)[0].until_ns, now + 40 * SECOND);
}

#[test]
fn never_longer_than_the_longest_and_off_is_off() {
    let port = with_outliers(2, Outliers { longest_ns: 12 * SECOND, ..Outliers::default() });
    (0..5).for_each(|_| drop(strike(&port, 1, Outcome::GatewayFailure, SECOND)));
    let again = |now: u64| strike(&port, 1, Outcome::GatewayFailure, now)[0].until_ns - now;
    assert_eq!(
        (again(10 * SECOND), again(30 * SECOND), again(60 * SECOND)),
        (10 * SECOND, 12 * SECOND, 12 * SECOND)
    );
    let off = with_outliers(2, Outliers { consecutive: 0, ..Outliers::default() });
    assert!((0..99).all(|_| strike(&off, 0, Outcome::GatewayFailure, SECOND).is_empty()));
    let never = with_outliers(9, Outliers { max_ejected_percent: 0, ..Outliers::default() });
    assert!((0..99).all(|_| strike(&never, 0, Outcome::GatewayFailure, SECOND).is_empty()));
}

/// Endpoint by endpoint: (requests, failures, response time in milliseconds); who is ejected when the window ends.
fn window(port: &ServicePort, from: u64, did: &[(u32, u32, u64)]) -> Vec<(usize, Why)> {
    for (index, (requests, failures, milliseconds)) in did.iter().enumerate() {
        for number in 0..*requests {
            // Spread, so that they are not in a row.
            let fails = u64::from(number + 1) * u64::from(*failures) / u64::from(*requests)
                > u64::from(number) * u64::from(*failures) / u64::from(*requests);
            let outcome = if fails { Outcome::ServerError } else { Outcome::Success };
            let took = milliseconds * MILLISECOND;
            assert!(record(port, &port.endpoints[index].load, outcome, Some(took), from).is_empty());
        }
    }
    let last = record(port, &port.endpoints[0].load, Outcome::Overload, None, from + 10 * SECOND);
    let place =
        |ejection: &Ejection| port.endpoints.iter().position(|one| one.address == ejection.address).unwrap();
    last.iter().map(|ejection| (place(ejection), ejection.why)).collect()
}

#[test]
fn compared_over_a_window() {
    use Why::{Latency, SuccessRate};
    type Row<'table> = (&'table str, &'table [(u32, u32, u64)], &'table [(usize, Why)]);
    let table: [Row<'_>; 15] = [
        ("half fails, of two", &[(60, 0, 1), (60, 30, 1)], &[(1, SuccessRate)]),
        ("half fails, of three", &[(60, 30, 1), (60, 0, 1), (60, 0, 1)], &[(0, SuccessRate)]),
        ("a tenth fails, of three", &[(60, 6, 1), (60, 0, 1), (60, 0, 1)], &[]),
        ("all fail alike", &[(60, 30, 1), (60, 30, 1), (60, 30, 1)], &[]),
        ("too few requests", &[(60, 0, 1), (49, 25, 1)], &[]),
        (
            "one of five by deviation",
            &[(100, 10, 1), (100, 0, 1), (100, 0, 1), (100, 1, 1), (100, 0, 1)],
            &[(0, SuccessRate)],
        ),
        (
            "one percent of five is noise",
            &[(100, 1, 1), (100, 0, 1), (100, 0, 1), (100, 0, 1), (100, 0, 1)],
            &[],
        ),
        ("slow, of two", &[(60, 0, 2), (60, 0, 40)], &[(1, Latency)]),
        ("slow, of three", &[(60, 0, 40), (60, 0, 2), (60, 0, 3)], &[(0, Latency)]),
        ("four times is not five", &[(60, 0, 40), (60, 0, 10), (60, 0, 10)], &[]),
        ("five times of very little", &[(60, 0, 4), (60, 0, 0), (60, 0, 0)], &[]),
        ("slow with three answers", &[(3, 0, 90), (200, 0, 2), (200, 0, 2)], &[(0, Latency)]),
        ("slow with two answers", &[(2, 0, 90), (200, 0, 2), (200, 0, 2)], &[]),
        ("slow with few answers", &[(10, 0, 90), (200, 0, 2), (200, 0, 2)], &[(0, Latency)]),
        (
            "the worst, since only one of three may be",
            &[(60, 30, 1), (60, 0, 1), (60, 20, 90)],
            &[(0, SuccessRate)],
        ),
    ];
    for (name, did, expected) in table {
        let port = with_outliers(did.len() as u32, Outliers::default());
        assert_eq!(window(&port, SECOND, did), expected, "{name}");
        let off = Outliers { success_rate_stdev_tenths: 0, latency_factor: 0, ..Outliers::default() };
        assert_eq!(window(&with_outliers(did.len() as u32, off), SECOND, did), [], "{name}, off");
    }
}

#[test]
fn windows_begin_anew_but_few_times_are_gathered() {
    let port = with_outliers(2, Outliers::default());
    assert_eq!(window(&port, SECOND, &[(40, 0, 1), (40, 20, 1)]), []);
    assert_eq!(window(&port, 11 * SECOND, &[(40, 0, 1), (40, 20, 1)]), [], "not added up");
    let slow = with_outliers(2, Outliers::default());
    for round in 0..2 {
        let seen = window(&slow, (1 + 10 * round) * SECOND, &[(60, 0, 1), (1, 0, 90)]);
        assert_eq!(seen, [], "{round}");
    }
    let seen = window(&slow, 21 * SECOND, &[(60, 0, 1), (1, 0, 90)]);
    assert_eq!(seen, [(1, Why::Latency)], "three answers in three windows");
    let rare = with_outliers(2, Outliers::default());
    for round in 0..30 {
        let did = [(60, 0, 1), (u32::from(round % 4 == 0), 0, 90)];
        assert_eq!(window(&rare, (1 + 10 * round) * SECOND, &did), [], "old ones are dropped");
    }
}

#[test]
fn a_few_heavy_requests_make_no_endpoint_slow() {
    // Many requests by their geometric mean, few by the quickest.
    for requests in [3_u64, 9, 200] {
        let port = with_outliers(2, Outliers::default());
        for number in 0..200_u64 {
            let took = if number % 10 == 0 { 2000 } else { 2 } * MILLISECOND;
            if number < requests {
                record(&port, &port.endpoints[0].load, Outcome::Success, Some(took), SECOND);
            }
            record(&port, &port.endpoints[1].load, Outcome::Success, Some(2 * MILLISECOND), SECOND);
        }
        assert_eq!(strike(&port, 1, Outcome::Success, 12 * SECOND), [], "{requests}");
    }
}

#[test]
fn a_half_open_one_takes_part_when_too_many_are_out() {
    let mut port = with_outliers(4, Outliers::default());
    for index in [0, 1] {
        (0..5).for_each(|_| drop(strike(&port, index, Outcome::GatewayFailure, SECOND)));
    }
    port.endpoints.truncate(2);
    assert_eq!(strike(&port, 0, Outcome::GatewayFailure, 7 * SECOND), [], "one of two at most");
    assert_eq!(state_of(&port, 0, 7 * SECOND), State::Healthy);
    assert_eq!(strike(&port, 1, Outcome::GatewayFailure, 7 * SECOND).len(), 1);
}

#[test]
fn ejections_by_connects_show_and_count() {
    let port = with_outliers(2, Outliers::default());
    assert!(failed(&port, &port.endpoints[0].load, &EjectionPolicy::default(), SECOND).is_some());
    assert_eq!(state_of(&port, 0, SECOND), State::Ejected { until_ns: 2 * SECOND, why: Why::Connect });
    assert!(
        (0..9).all(|_| strike(&port, 1, Outcome::GatewayFailure, SECOND).is_empty()),
        "not the other one too"
    );
    assert_eq!(strike(&port, 1, Outcome::GatewayFailure, 3 * SECOND).len(), 1);
    assert_eq!(failed(&port, &port.endpoints[0].load, &EjectionPolicy::default(), 3 * SECOND), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn never_more_than_allowed_and_never_the_last(
        count in 1u32..14, percent in 0u32..=100,
        steps in proptest::collection::vec((0usize..14, 0u8..7, 0u64..1500, 1u32..8), 0..200),
    ) {
        let policy = Outliers { max_ejected_percent: percent, request_volume: 3, ..Outliers::default() };
        let port = with_outliers(count, policy);
        // Connects may leave half alone, whatever the policy for requests.
        let mut by_connects = false;
        let mut now = SECOND;
        for (index, step, pause, times) in steps {
            now += pause * MILLISECOND;
            let endpoint = &port.endpoints[index % count as usize].load;
            for _ in 0..times {
                match step {
                    0..=2 => drop(record(&port, endpoint, Outcome::GatewayFailure, None, now)),
                    3 => drop(record(&port, endpoint, Outcome::ServerError, Some(5), now)),
                    4 => drop(record(&port, endpoint, Outcome::Success, Some(900 * MILLISECOND), now)),
                    5 => drop(record(&port, endpoint, Outcome::Success, Some(MILLISECOND), now)),
                    _ => by_connects |= failed(&port, endpoint, &EjectionPolicy::default(), now).is_some(),
                }
            }
            let share = (count * percent / 100).max(u32::from(percent > 0)).min(count - 1);
            let most = if by_connects { share.max(count / 2) } else { share };
            prop_assert!(ejected(&port, now) <= most as usize, "{} of {}", ejected(&port, now), count);
            prop_assert!(ejected(&port, now) < count as usize);
        }
    }

    #[test]
    fn who_recovers_comes_back(count in 2u32..8, failures in 5u32..40) {
        let port = with_outliers(count, Outliers::default());
        let mut now = SECOND;
        for _ in 0..failures {
            strike(&port, 0, Outcome::GatewayFailure, now);
            now += 500 * MILLISECOND;
        }
        for _ in 0..700 {
            now += SECOND / 2;
            if state_of(&port, 0, now) != State::HalfOpen || claim_probe(&port.endpoints[0].load, now) {
                strike(&port, 0, Outcome::Success, now);
            }
        }
        prop_assert_eq!(state_of(&port, 0, now), State::Healthy);
        prop_assert_eq!(ejected(&port, now), 0);
    }
}

#[test]
fn an_answer_that_has_begun_is_no_success_yet() {
    let port = with_outliers(3, Outliers::default());
    let load = &port.endpoints[0].load;
    let happens = |outcome, now| record(&port, load, outcome, None, now).len();
    for turn in 0..4 {
        assert_eq!(happens(Outcome::Begun, turn) + happens(Outcome::GatewayFailure, turn), 0);
    }
    assert_eq!(
        (happens(Outcome::Begun, 5), happens(Outcome::GatewayFailure, 5)),
        (0, 1),
        "the fifth in a row"
    );
    assert_eq!(
        (load.breaker.window.requests.load(Relaxed), load.breaker.window.failed.load(Relaxed)),
        (5, 5)
    );
    // A stream may be long: that it has begun brings an endpoint back.
    let later = SECOND * 6;
    assert_eq!(state(load, later), State::HalfOpen);
    assert_eq!(happens(Outcome::Begun, later), 0);
    assert_eq!(state(load, later), State::Healthy);
}
