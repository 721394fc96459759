//! Budgets: exact at each grant, generous enough, one for each caller.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use proptest::prelude::*;

use super::*;
use crate::resilience::stage::{MILLISECOND, SECOND};

fn retries(budget: &Budget, policy: &RetryBudget, wanted: u32, now: u64) -> u32 {
    (0..wanted).map(|_| u32::from(budget.try_retry(policy, now))).sum()
}

#[test]
fn the_minimum_rate_without_requests() {
    let (budget, policy) = (Budget::default(), RetryBudget::default());
    assert_eq!(retries(&budget, &policy, 50, 100 * SECOND), 10);
    assert_eq!(retries(&budget, &policy, 50, 100 * SECOND + SECOND / 2), 0);
    // Rounded against the retry: up to a sixteenth later.
    assert_eq!(retries(&budget, &policy, 50, 101 * SECOND + SECOND / 15), 10);
}

#[test]
fn a_share_of_the_requests_in_the_interval() {
    let policy = RetryBudget { min_retries: 0, ..RetryBudget::default() };
    let budget = Budget::default();
    assert_eq!(retries(&budget, &policy, 5, 100 * SECOND), 0);
    for number in 0..1000 {
        budget.request(100 * SECOND + number * MILLISECOND);
    }
    assert_eq!(budget.requests_until(101 * SECOND), 1000);
    assert_eq!(retries(&budget, &policy, 500, 101 * SECOND), 200);
    assert_eq!(retries(&budget, &policy, 500, 105 * SECOND), 0);
    // The requests are forgotten with the interval.
    assert_eq!(retries(&budget, &policy, 500, 112 * SECOND), 0);
    assert_eq!(budget.requests_until(112 * SECOND), 0);
    let none = RetryBudget { percent: 0, ..policy };
    budget.request(112 * SECOND);
    assert_eq!(retries(&budget, &none, 5, 112 * SECOND), 0);
}

#[test]
fn a_steady_caller_gets_its_share() {
    let policy = RetryBudget { min_retries: 0, ..RetryBudget::default() };
    let (budget, mut granted) = (Budget::default(), 0);
    let steps = 60 * 500;
    for step in 0..steps {
        let now = 50 * SECOND + step * 2 * MILLISECOND;
        budget.request(now);
        granted += retries(&budget, &policy, 1, now);
    }
    let share = f64::from(granted) / steps as f64;
    assert!((0.16..=0.20).contains(&share), "{share}");
}

#[test]
fn another_interval_begins_anew() {
    let budget = Budget::default();
    let policy = RetryBudget { min_retries: 0, ..RetryBudget::default() };
    (0..100).for_each(|_| budget.request(100 * SECOND));
    let shorter = RetryBudget { interval_ns: SECOND, ..policy };
    assert_eq!(retries(&budget, &shorter, 99, 100 * SECOND), 0);
    (0..100).for_each(|_| budget.request(100 * SECOND));
    assert_eq!(retries(&budget, &shorter, 99, 100 * SECOND), 20);
    // Intervals of 0 and of all time do not divide by zero.
    for interval_ns in [0, 1, u64::MAX] {
        let odd =
            RetryBudget { interval_ns, min_interval_ns: interval_ns, percent: u32::MAX, min_retries: 1 };
        budget.request(u64::MAX);
        let _ = budget.try_retry(&odd, u64::MAX);
        assert_eq!(retries(&Budget::default(), &odd, 3, 5), 1);
    }
}

#[test]
fn threads_get_no_more_together() {
    let (budget, policy) = (Budget::default(), RetryBudget { min_retries: 0, ..RetryBudget::default() });
    let granted = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..1000).for_each(|_| budget.request(100 * SECOND)));
        }
    });
    assert_eq!(budget.requests_until(100 * SECOND), 4000, "no request is lost");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                granted.fetch_add(u64::from(retries(&budget, &policy, 1000, 100 * SECOND)), Relaxed);
            });
        }
    });
    assert_eq!(granted.load(Relaxed), 800);
}

#[test]
fn each_caller_has_one_of_its_own() {
    let state = ServiceState::default();
    let name = |number: u32| -> Arc<str> { format!("w{number}").into() };
    let (first, other) = (state.budget(&name(0), &name(1), 0), state.budget(&name(1), &name(1), 0));
    assert!(Arc::ptr_eq(&first, &state.budget(&name(0), &name(1), 5)) && !Arc::ptr_eq(&first, &other));
    for number in 0..5000 {
        // Each is idle long before the next hundred come.
        let _ = state.budget(&name(7), &name(number), u64::from(number) * SECOND);
    }
    let kept = state.budgets.lock().unwrap().callers.len();
    assert!(kept <= SMALLEST_SWEEP + 1, "{kept}");
    assert!(Arc::ptr_eq(&first, &state.budget(&name(0), &name(1), 9999 * SECOND)), "held ones stay");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn never_more_than_the_policy_in_any_window(
        steps in proptest::collection::vec((0u64..700, 0u32..40, 0u32..20), 1..120),
        percent in 0u32..120, min_retries in 0u32..12, interval in 1u64..12, min_interval in 1u64..4,
    ) {
        let policy = RetryBudget {
            percent, min_retries,
            interval_ns: interval * SECOND + 7, min_interval_ns: min_interval * SECOND + 3,
        };
        let (budget, mut now) = (Budget::default(), 1000 * SECOND + 12_345);
        let (mut asked, mut granted): (Vec<u64>, Vec<u64>) = (Vec::new(), Vec::new());
        // The interval becomes known with the first retry.
        let _ = budget.try_retry(&policy, 0);
        for (pause, requests, wanted) in steps {
            now += pause * MILLISECOND + 1;
            (0..requests).for_each(|_| { budget.request(now); asked.push(now); });
            for _ in 0..wanted {
                if !budget.try_retry(&policy, now) {
                    continue;
                }
                granted.push(now);
                let within = |times: &[u64], span: u64| times.iter().filter(|at| **at + span > now).count() as u64;
                let share = within(&asked, policy.interval_ns) * u64::from(percent) / 100;
                let budgeted = within(&granted, policy.interval_ns) <= share;
                prop_assert!(budgeted || within(&granted, policy.min_interval_ns) <= u64::from(min_retries));
            }
        }
    }
}
