//! All the cores together, as the exchange calls them, against endpoints that fail: what a caller sees and what the
//! endpoints have to carry.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{net::SocketAddr, sync::Arc};

use proptest::prelude::*;

use super::{
    balance::{Outstanding, pick_request},
    budget::Budget,
    ejection::{self, EjectionPolicy},
    load, outlier,
    outlier::Outcome,
    retry::{Attempt, Decision, Failed, decide},
    stage::{MILLISECOND, SECOND, port, random},
};
use crate::snapshot::{
    ServicePort, TrafficPolicy,
    policy::{Outliers, RetryBudget},
};

/// How an endpoint behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Manner {
    Good,
    /// Answers 503 to this share of a thousand.
    Unavailable(u64),
    /// Answers 502 to this share of a thousand.
    BadGateway(u64),
    /// Resets after the request was sent.
    Resets,
    /// Refuses the connect.
    Refuses,
}

struct Run<R> {
    port: ServicePort,
    budget: Arc<Budget>,
    manners: Vec<Manner>,
    random: R,
    attempts: Vec<u64>,
    retries: Vec<u64>,
}

impl<R: FnMut() -> u64> Run<R> {
    fn new(manners: &[Manner], random: R) -> Self {
        Self::with(TrafficPolicy::default(), manners, random)
    }

    fn with(policy: TrafficPolicy, manners: &[Manner], random: R) -> Self {
        let port = port(manners.len() as u32, policy);
        let budget = port.state.budget(&"shop".into(), &"web".into(), 0);
        Self {
            port,
            budget,
            manners: manners.to_vec(),
            random,
            attempts: vec![0; manners.len()],
            retries: Vec::new(),
        }
    }

    /// A GET; whether the caller saw a good answer.
    fn request(&mut self, now: u64) -> bool {
        self.budget.request(now);
        let mut attempt = Attempt { idempotent: true, replayable: true, ..Attempt::default() };
        let mut tried: Vec<SocketAddr> = Vec::new();
        loop {
            let Some(index) = pick_request(&self.port, None, &tried, now, &mut self.random) else {
                return false;
            };
            attempt.number += 1;
            self.retries.extend((attempt.number > 1).then_some(now));
            let Err(failed) = self.attempt(index, now) else { return true };
            attempt.not_sent += u32::from(failed == Failed::NotSent);
            tried.push(self.port.endpoints[index].address);
            let policy = &self.port.policy;
            let decision = decide(&policy.retry, &attempt, failed, None, None, &mut self.random);
            if !matches!(decision, Decision::Retry { .. }) || !self.budget.try_retry(&policy.budget, now) {
                return false;
            }
        }
    }

    fn attempt(&mut self, index: usize, now: u64) -> Result<(), Failed> {
        let endpoint = self.port.endpoints[index].load.clone();
        let _running = Outstanding::request(&endpoint);
        self.attempts[index] += 1;
        let (outcome, result) = match self.manners[index] {
            Manner::Unavailable(share) if (self.random)() % 1000 < share => {
                load::penalise(&endpoint, now, load::Penalty { status: 503, ..Default::default() });
                (Outcome::of_status(503), Err(Failed::Status(503)))
            }
            Manner::BadGateway(share) if (self.random)() % 1000 < share => {
                load::observe_failure(&endpoint, MILLISECOND / 10, now);
                (Outcome::of_status(502), Err(Failed::Status(502)))
            }
            Manner::Resets => (Outcome::GatewayFailure, Err(Failed::Sent)),
            Manner::Refuses => {
                ejection::failed(&self.port, &endpoint, &EjectionPolicy::default(), now);
                (Outcome::GatewayFailure, Err(Failed::NotSent))
            }
            Manner::Good | Manner::Unavailable(_) | Manner::BadGateway(_) => {
                load::observe_response(&endpoint, MILLISECOND, now);
                (Outcome::Success, Ok(()))
            }
        };
        load::observe_outcome(&endpoint, outcome, now);
        outlier::record(&self.port, &endpoint, outcome, result.is_ok().then_some(MILLISECOND), now);
        result
    }

    /// So many seconds at a steady rate; (requests, good answers).
    fn go(&mut self, seconds: u64, rate: u64) -> (u64, u64) {
        let good = (0..seconds * rate).filter(|number| self.request(100 * SECOND + number * SECOND / rate));
        (seconds * rate, good.count() as u64)
    }
}

#[test]
fn callers_see_none_of_one_bad_endpoint_in_three() {
    for manner in [
        Manner::Unavailable(1000),
        Manner::Unavailable(500),
        Manner::BadGateway(1000),
        Manner::BadGateway(300),
        Manner::Resets,
        Manner::Refuses,
    ] {
        for (rate, seconds) in [(5, 2000), (50, 200), (1000, 30)] {
            let mut run = Run::new(&[Manner::Good, manner, Manner::Good], random(rate));
            let (requests, good) = run.go(seconds, rate);
            let all: u64 = run.attempts.iter().sum();
            let (success, load) = (good as f64 / requests as f64, all as f64 / requests as f64);
            assert!(success >= 0.999, "{manner:?} at {rate}/s: {success}");
            assert!(load < 1.25, "{manner:?} at {rate}/s: {load}");
            // A few requests a second do not suffice to compare success rates.
            let most = if rate < 50 { requests / 5 } else { requests / 10 };
            assert!(run.attempts[1] < most, "{manner:?} at {rate}/s: left alone, {:?}", run.attempts);
        }
    }
}

/// Where nothing ejects: failing at once draws next to no requests, and what fails alike everywhere leaves all of them in use.
#[test]
fn failing_quickly_draws_no_requests() {
    let outliers = Outliers { consecutive: 0, max_ejected_percent: 0, ..Outliers::default() };
    let table = [
        ("one of three", vec![Manner::BadGateway(1000), Manner::Good, Manner::Good], 0.0..=0.05),
        ("two of three", vec![Manner::BadGateway(1000), Manner::BadGateway(1000), Manner::Good], 0.0..=0.2),
        ("resets", vec![Manner::Resets, Manner::Good, Manner::Good], 0.0..=0.05),
        ("all", vec![Manner::BadGateway(1000); 3], 0.3..=0.37),
        ("one request of fifty, wherever it goes", vec![Manner::BadGateway(20); 3], 0.28..=0.38),
        (
            "one of a hundred, of one endpoint",
            vec![Manner::BadGateway(10), Manner::Good, Manner::Good],
            0.1..=0.33,
        ),
    ];
    for (what, manners, share) in table {
        let policy = TrafficPolicy { outliers, ..TrafficPolicy::default() };
        let mut run = Run::with(policy, &manners, random(3));
        run.go(60, 100);
        let drawn = run.attempts[0] as f64 / run.attempts.iter().sum::<u64>() as f64;
        assert!(share.contains(&drawn), "{what}: {:?}", run.attempts);
    }
}

#[test]
fn a_full_outage_stays_within_the_budget() {
    for manner in [Manner::Unavailable(1000), Manner::BadGateway(1000), Manner::Resets, Manner::Refuses] {
        let mut run = Run::new(&[manner; 3], random(9));
        let (requests, good) = run.go(60, 500);
        assert_eq!(good, 0);
        let budget = RetryBudget::default();
        let all: u64 = run.attempts.iter().sum();
        assert_eq!(all, requests + run.retries.len() as u64);
        let allowed = requests * u64::from(budget.percent) / 100 + 61 * u64::from(budget.min_retries);
        assert!(all - requests <= allowed, "{all} for {requests}");
        // In every window of ten seconds too.
        for (place, from) in run.retries.iter().enumerate() {
            let window =
                run.retries[place..].iter().take_while(|at| **at < from + budget.interval_ns).count();
            assert!(window <= 5000 / 5 + 110, "{window}");
        }
        assert!(all > requests, "but it tries");
    }
}

/// Clients that each wait for their answer; ejections with their time.
fn closed_loop(times_ns: &[u64], clients: u64, seconds: u64) -> Vec<(u64, outlier::Ejection)> {
    let port = port(times_ns.len() as u32, TrafficPolicy::default());
    let (mut random, mut ejections) = (random(clients), Vec::new());
    // By when they end: the client's place, the endpoint, the beginning.
    let mut running = std::collections::BTreeMap::new();
    let mut now = SECOND;
    while now < (seconds + 1) * SECOND {
        while (running.len() as u64) < clients {
            let index = pick_request(&port, None, &[], now, &mut random).unwrap();
            let end = (now + times_ns[index], random());
            running.insert(end, (index, now, Outstanding::request(&port.endpoints[index].load)));
        }
        let ((end, _), (index, begun, _running)) = running.pop_first().unwrap();
        now = end;
        let endpoint = &port.endpoints[index].load;
        load::observe_response(endpoint, now - begun, now);
        let out = outlier::record(&port, endpoint, Outcome::Success, Some(now - begun), now);
        ejections.extend(out.into_iter().map(|ejection| (now, ejection)));
    }
    ejections
}

#[test]
fn a_slow_endpoint_is_ejected_and_no_other() {
    const QUICK: u64 = 2 * MILLISECOND;
    for clients in [8, 32] {
        let ejections = closed_loop(&[QUICK, QUICK, 100 * QUICK], clients, 60);
        let (first, _) = ejections.first().expect("an ejection");
        assert!(*first < 15 * SECOND, "{clients}: {first}");
        let slow = super::stage::endpoints(3)[2].address;
        let expected = |one: &outlier::Ejection| one.address == slow && one.why == outlier::Why::Latency;
        assert!(ejections.iter().all(|(_, ejection)| expected(ejection)), "{ejections:?}");
        assert_eq!(closed_loop(&[QUICK, QUICK, 2 * QUICK], clients, 30), []);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn one_bad_endpoint_of_many(count in 3usize..12, bad in 0usize..12, share in 300u64..=1000, rate in 20u64..400, seed: u64) {
        let mut manners = vec![Manner::Good; count];
        manners[bad % count] = Manner::Unavailable(share);
        let mut run = Run::new(&manners, random(seed));
        let (requests, good) = run.go(20_000 / rate, rate);
        let all: u64 = run.attempts.iter().sum();
        prop_assert!(good * 1000 >= requests * 999, "{} of {}", good, requests);
        prop_assert!(all * 100 < requests * 125, "{} for {}", all, requests);
    }
}
