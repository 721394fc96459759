//! The choice for a request: by load, by key, through ejections, probes, penalties and slow start.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use proptest::prelude::*;

use super::*;
use crate::{
    resilience::{
        balance::Outstanding,
        outlier::{Outcome, State, record, state},
        stage::{MILLISECOND, SECOND, port, random},
    },
    snapshot::{
        TrafficPolicy,
        policy::{HashKey, Outliers},
    },
};

fn hits(port: &ServicePort, index: usize, now: u64) -> usize {
    let mut random = random(now);
    (0..2000).filter(|_| pick_request(port, None, &[], now, &mut random) == Some(index)).count()
}

fn hashing() -> TrafficPolicy {
    TrafficPolicy { balancer: Balancer::ConsistentHash(HashKey::Source), ..TrafficPolicy::default() }
}

fn eject(port: &ServicePort, index: usize, now: u64) {
    let load = &port.endpoints[index].load;
    let failure = |_| record(port, load, Outcome::GatewayFailure, None, now).len();
    assert_eq!((0..5).map(failure).sum::<usize>(), 1);
}

#[test]
fn prefers_the_idle_the_quick_and_the_unburdened() {
    for count in [2, 3, 50] {
        let least = if count == 2 { 0 } else { 5 };
        let fair = 2000 / count as usize;
        let port = port(count, TrafficPolicy::default());
        let load = &port.endpoints[0].load;
        let busy = Outstanding::request(load);
        assert!(hits(&port, 0, 1) <= least, "{count}");
        drop(busy);
        assert!(hits(&port, 0, 1) > fair / 2, "{count}");
        load::observe_response(load, 100 * MILLISECOND, 1);
        assert!(hits(&port, 0, 2) <= least, "{count}");
        assert!(hits(&port, 0, 100 * SECOND) > fair / 2, "forgiven, {count}");
        load::penalise(load, 100 * SECOND, load::Penalty { status: 503, ..Default::default() });
        assert!(hits(&port, 0, 100 * SECOND) <= least, "{count}");
        assert!(hits(&port, 0, 101 * SECOND) > fair / 2, "{count}");
        // Connections of TCP do not count.
        let _connection = Outstanding::new(load);
        assert!(hits(&port, 0, 101 * SECOND) > fair / 2, "{count}");
    }
}

#[test]
fn slow_start_grows_from_a_tenth() {
    for count in [4, 40] {
        let policy = TrafficPolicy { slow_start_ns: 60 * SECOND, ..TrafficPolicy::default() };
        let port = port(count, policy);
        port.endpoints[1..].iter().for_each(|old| old.load.since_ns.store(1, Relaxed));
        let fair = 2000.0 / f64::from(count);
        for (now, share) in [(10, 0.1), (40, 0.55), (70, 1.0)] {
            // The first look begins it at 10 s.
            let got = hits(&port, 0, now * SECOND) as f64 / fair;
            assert!((got - share).abs() < share / 2.0 + 0.05, "{count} endpoints at {now}: {got}");
        }
    }
    // All new: nobody waits for anybody.
    let policy = TrafficPolicy { slow_start_ns: 60 * SECOND, ..TrafficPolicy::default() };
    let port = port(3, policy);
    assert!((0..3).all(|index| hits(&port, index, 1) > 500));
}

#[test]
fn a_half_open_endpoint_gets_one_probe_at_a_time() {
    for count in [3, 30] {
        let port = port(count, TrafficPolicy::default());
        eject(&port, 0, SECOND);
        assert_eq!(hits(&port, 0, 5 * SECOND), 0, "ejected");
        let back = 6 * SECOND;
        assert_eq!(state(&port.endpoints[0].load, back), State::HalfOpen);
        let mut lots = random(5);
        let tried = [port.endpoints[1].address];
        let retries = (0..500).filter(|_| pick_request(&port, None, &tried, back, &mut lots) == Some(0));
        assert_eq!(retries.count(), 0, "a retry is no probe");
        assert_eq!(hits(&port, 0, back), 1, "one of two thousand");
        assert_eq!(hits(&port, 0, back + outlier::PROBE_NS), 1, "the next when it is lost");
        record(&port, &port.endpoints[0].load, Outcome::Success, Some(5), back + 1);
        assert!(hits(&port, 0, back + 2) > 1000 / count as usize, "back");
    }
}

#[test]
fn ejections_do_not_count_in_a_panic() {
    let mut port = port(10, TrafficPolicy::default());
    (0..5).for_each(|index| eject(&port, index, SECOND));
    assert!((0..5).all(|index| hits(&port, index, SECOND) == 0));
    // Four of the healthy ones leave.
    port.endpoints.truncate(6);
    assert!((0..5).all(|index| hits(&port, index, SECOND + 1) > 0));
    let outliers = Outliers { panic_percent: 0, ..Outliers::default() };
    port.policy = std::sync::Arc::new(TrafficPolicy { outliers, ..TrafficPolicy::default() });
    assert!((0..5).all(|index| hits(&port, index, SECOND + 1) == 0), "no panic where none is wanted");
}

#[test]
fn a_key_keeps_its_endpoint_as_far_as_it_is_healthy() {
    let port = port(20, hashing());
    let mut lots = random(3);
    let mut go =
        |key: u64, tried: &[SocketAddr], now| pick_request(&port, Some(key), tried, now, &mut lots).unwrap();
    let key = crate::resilience::ring::hash(b"ann");
    let home = go(key, &[], SECOND);
    let _busy: Vec<Outstanding> = (0..50).map(|_| Outstanding::request(&port.endpoints[home].load)).collect();
    assert!((0..100).all(|_| go(key, &[], SECOND) == home), "load does not matter");
    let next = go(key, &[port.endpoints[home].address], SECOND);
    assert!(next != home && (0..10).all(|_| go(key, &[port.endpoints[home].address], SECOND) == next));
    eject(&port, home, SECOND);
    assert!((0..100).all(|_| go(key, &[], SECOND) == next));
    assert_eq!((go(key, &[], 6 * SECOND), go(key, &[], 6 * SECOND)), (home, next), "one probe");
    let without: std::collections::HashSet<_> =
        (0..500).filter_map(|seed| pick_request(&port, None, &[], SECOND, &mut random(seed))).collect();
    assert!(without.len() == 19 && !without.contains(&home), "without a key: all but the ejected one");
}

#[test]
fn a_ring_of_other_endpoints_at_the_same_place_is_noticed() {
    let mut port = port(3, hashing());
    let first = pick_request(&port, Some(5), &[], 0, &mut random(1)).unwrap();
    for endpoint in &mut port.endpoints {
        endpoint.address.set_port(81);
    }
    assert!(pick_request(&port, Some(5), &[], 0, &mut random(1)).is_some());
    let again: Vec<_> = (0..10).map(|seed| pick_request(&port, Some(5), &[], 0, &mut random(seed))).collect();
    assert!(again.iter().all(|index| *index == again[0]), "{first} {again:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn never_a_tried_one_and_always_one_while_there_is(
        count in 0u32..40, tried in proptest::collection::vec(0usize..40, 0..40), out in proptest::collection::vec(0usize..40, 0..40),
        key in any::<Option<u64>>(), seed: u64,
    ) {
        let port = port(count, hashing());
        let all = crate::resilience::stage::endpoints(40);
        let tried: Vec<SocketAddr> = tried.iter().map(|index| all[*index].address).collect();
        for index in out.iter().filter(|index| **index < port.endpoints.len()) {
            port.endpoints[*index].load.breaker.until_ns.store(10, Relaxed);
        }
        let left = port.endpoints.iter().filter(|one| !tried.contains(&one.address)).count();
        let picked = pick_request(&port, key, &tried, 1, &mut random(seed));
        prop_assert_eq!(picked.is_some(), left > 0);
        prop_assert!(picked.is_none_or(|index| !tried.contains(&port.endpoints[index].address)));
    }

    #[test]
    fn spreads_running_requests_evenly(count in 1u32..60, seed: u64) {
        let port = port(count, TrafficPolicy::default());
        let mut random = random(seed);
        let mut open = Vec::new();
        for _ in 0..count * 50 {
            open.push(Outstanding::request(&port.endpoints[pick_request(&port, None, &[], 0, &mut random).unwrap()].load));
        }
        let running = |one: &crate::snapshot::Endpoint| one.load.requests.load(Relaxed);
        prop_assert!(port.endpoints.iter().all(|one| (38..=58).contains(&running(one))));
        drop(open);
        prop_assert!(port.endpoints.iter().all(|one| running(one) == 0));
    }

    #[test]
    fn weights_are_what_happens(loads in proptest::collection::vec((0u32..4, 0u64..5, any::<bool>()), 1..8), seed: u64) {
        let port = port(loads.len() as u32, TrafficPolicy::default());
        for (endpoint, (requests, slow, out)) in port.endpoints.iter().zip(&loads) {
            endpoint.load.requests.store(*requests, Relaxed);
            load::observe_response(&endpoint.load, slow * 3 * MILLISECOND, SECOND);
            endpoint.load.breaker.until_ns.store(if *out { 9 * SECOND } else { 0 }, Relaxed);
        }
        port.state.ejected.store(loads.len() as u32, Relaxed);
        let weights = pick_weights(&port, SECOND);
        let sum: f64 = weights.iter().map(|(_, weight)| weight).sum();
        prop_assert!((sum - 1.0).abs() < 1e-9, "{:?}", weights);
        let mut random = random(seed);
        let mut seen = vec![0_u32; loads.len()];
        for _ in 0..4000 {
            seen[pick_request(&port, None, &[], SECOND, &mut random).unwrap()] += 1;
        }
        for (index, weight) in weights {
            prop_assert!((f64::from(seen[index]) / 4000.0 - weight).abs() < 0.05, "{} {:?}", weight, seen);
        }
    }
}
