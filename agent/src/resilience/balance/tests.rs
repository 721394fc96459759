//! Choice, ejection and affinity together.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;
use crate::resilience::ejection::{EjectionPolicy, failed, is_ejected, succeeded};

const SECOND: u64 = 1_000_000_000;

fn endpoints(count: u32) -> Vec<Endpoint> {
    let address = |number| SocketAddr::from((Ipv4Addr::from(0x0a00_0000 + number), 80));
    (0..count)
        .map(|number| Endpoint { address: address(number), workload: None, load: Default::default() })
        .collect()
}

fn port(count: u32, affinity_seconds: Option<u32>) -> ServicePort {
    ServicePort {
        service_name: "s".into(),
        service_namespace: "n".into(),
        hostname: "s.n.svc.cluster.local".into(),
        port: 80,
        name: "".into(),
        app_protocol: None,
        protocol: Default::default(),
        protocol_why: Default::default(),
        policy: Default::default(),
        affinity_seconds,
        endpoints: endpoints(count),
        known_endpoints: count as usize,
        state: Default::default(),
    }
}

/// SplitMix64.
fn random(mut seed: u64) -> impl FnMut() -> u64 {
    move || {
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

fn client(number: u32) -> IpAddr {
    Ipv4Addr::from(0x0b00_0000 + number).into()
}

/// What is told to people is what is drawn.
#[test]
fn weights_of_connections_are_those_of_the_draws() {
    let port = port(4, Some(60));
    let _busy = Outstanding::new(&port.endpoints[0].load);
    port.endpoints[3].load.ejected_until_ns.store(9 * SECOND, Relaxed);
    let weights = connection_weights(&port, client(1), SECOND);
    assert_eq!(weights, [0.0, 0.5, 0.5, 0.0]);
    let (mut random, mut drawn) = (random(3), [0; 4]);
    for _ in 0..2000 {
        drawn[Choice::new(&port, &[], SECOND).draw(&mut random).unwrap()] += 1;
    }
    for (weight, count) in weights.iter().zip(drawn) {
        assert!((weight - f64::from(count) / 2000.0).abs() < 0.1, "{weights:?} {drawn:?}");
    }
    let kept = pick_affine(&port, client(1), &[], SECOND, &mut random).unwrap();
    assert_eq!(connection_weights(&port, client(1), SECOND)[kept], 1.0);
}

#[test]
fn prefers_the_idle_and_the_quick() {
    for count in [2, 3, 50] {
        let port = port(count, None);
        let busy = Outstanding::new(&port.endpoints[0].load);
        let mut random = random(1);
        let mut hits =
            |now| (0..2000).filter(|_| pick(&port.endpoints, &[], now, &mut random) == Some(0)).count();
        assert!(hits(0) <= if count == 2 { 0 } else { 5 }, "{count}");
        drop(busy);
        ewma::observe(&port.endpoints[0].load, 50_000_000, 0);
        assert!(hits(1) <= if count == 2 { 0 } else { 5 }, "{count}");
        // Forgiven after a while.
        assert!(hits(100 * SECOND) > 2000 / count as usize / 2, "{count}");
        // Noise below a millisecond decides nothing.
        ewma::observe(&port.endpoints[1].load, 900_000, 100 * SECOND);
        assert!(hits(100 * SECOND) < 2000 * 3 / 2 / count as usize, "{count}");
    }
}

#[test]
fn ejections_grow_and_one_success_forgives() {
    let port = port(2, None);
    let (load, policy) = (&port.endpoints[0].load, EjectionPolicy::default());
    let mut now = SECOND;
    for expected in [1, 2, 4, 8, 16, 32, 60, 60] {
        assert_eq!(failed(&port, load, &policy, now), Some(expected * SECOND));
        assert_eq!(failed(&port, load, &policy, now + 1), None, "already ejected");
        now += expected * SECOND;
        assert!(!is_ejected(load, now));
    }
    succeeded(load);
    assert_eq!(failed(&port, load, &policy, now), Some(SECOND));
    assert_eq!(failed(&port, &port.endpoints[1].load, &policy, now), None, "half is the most");
    assert_eq!(pick_affine(&port, client(1), &[], now, &mut random(1)), Some(1));
    assert_eq!(pick_affine(&port, client(1), &[port.endpoints[1].address], now, &mut random(1)), Some(0));
    let lone = self::port(1, None);
    assert_eq!(failed(&lone, &lone.endpoints[0].load, &policy, now), None);
}

#[test]
fn ejections_do_not_count_once_they_are_the_majority() {
    let mut port = port(10, None);
    for endpoint in &port.endpoints[..5] {
        assert!(failed(&port, &endpoint.load, &EjectionPolicy::default(), SECOND).is_some());
    }
    let mut first = random(3);
    assert!((0..100).all(|_| pick_affine(&port, client(1), &[], SECOND, &mut first) >= Some(5)));
    // Four healthy ones leave: five of six are ejected.
    port.endpoints.truncate(6);
    assert!((0..100).any(|_| pick_affine(&port, client(1), &[], SECOND, &mut first) < Some(5)));
    // The ejected leave: others may be ejected after the next count.
    port.endpoints = endpoints(4);
    assert!(failed(&port, &port.endpoints[0].load, &EjectionPolicy::default(), 2 * SECOND).is_some());
}

#[test]
fn affinity_holds_moves_and_expires() {
    let port = port(20, Some(10));
    let mut random = random(7);
    let mut go = |number, exclude: &[SocketAddr], now| {
        pick_affine(&port, client(number), exclude, now, &mut random).unwrap()
    };
    let first = go(1, &[], 0);
    // Each use renews the time.
    assert!((1..100).all(|step| go(1, &[], step * 9 * SECOND) == first));
    let moved = go(1, &[port.endpoints[first].address], 900 * SECOND);
    assert!(moved != first && go(1, &[], 901 * SECOND) == moved);
    // Expired: over many clients the choice is free again.
    let before: Vec<usize> = (0..2000).map(|number| go(number, &[], 1000 * SECOND)).collect();
    let kept = (0..2000).filter(|number| go(*number, &[], 1010 * SECOND) == before[*number as usize]).count();
    assert!(kept < 300, "{kept}");
    for number in 0..5000 {
        go(10_000 + number, &[], 2000 * SECOND);
    }
    assert!(port.state.affinity.lock().unwrap().clients.len() < 7100, "expired clients are swept out");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn never_an_excluded_one_and_always_one_while_there_is(count in 0u32..40, tried in proptest::collection::vec(0u32..40, 0..40), out in proptest::collection::vec(0u32..40, 0..40), seed: u64) {
        let all = endpoints(count);
        let exclude: Vec<SocketAddr> = endpoints(40).iter().enumerate().filter(|(index, _)| tried.contains(&(*index as u32))).map(|(_, endpoint)| endpoint.address).collect();
        for index in out.iter().filter(|index| **index < count) {
            all[*index as usize].load.ejected_until_ns.store(10, Relaxed);
        }
        let left = all.iter().filter(|endpoint| !exclude.contains(&endpoint.address)).count();
        let picked = pick(&all, &exclude, 1, &mut random(seed));
        prop_assert_eq!(picked.is_some(), left > 0);
        prop_assert!(picked.is_none_or(|index| !exclude.contains(&all[index].address)));
        let usable = |endpoint: &&Endpoint| !exclude.contains(&endpoint.address) && !is_ejected(&endpoint.load, 1);
        if all.iter().any(|endpoint| usable(&endpoint)) {
            prop_assert!(usable(&&all[picked.unwrap()]));
        }
    }

    #[test]
    fn spreads_evenly(count in 1u32..60, seed: u64) {
        let all = endpoints(count);
        let mut random = random(seed);
        let mut open = Vec::new();
        for _ in 0..count * 50 {
            open.push(Outstanding::new(&all[pick(&all, &[], 0, &mut random).unwrap()].load));
        }
        let loads: Vec<u32> = all.iter().map(|endpoint| endpoint.load.outstanding.load(Relaxed)).collect();
        prop_assert!(loads.iter().all(|load| (38..=58).contains(load)), "{:?}", loads);
        drop(open);
        prop_assert!(all.iter().all(|endpoint| endpoint.load.outstanding.load(Relaxed) == 0));
    }

    #[test]
    fn never_more_than_half_are_ejected(count in 1u32..30, steps in proptest::collection::vec((0u32..30, any::<bool>(), 0u64..3_000_000_000), 0..200)) {
        let port = port(count, None);
        let mut now = SECOND;
        for (index, fails, pause) in steps {
            now += pause;
            let load = &port.endpoints[(index % count) as usize].load;
            if fails {
                failed(&port, load, &EjectionPolicy::default(), now);
            } else {
                succeeded(load);
            }
            let ejected = port.endpoints.iter().filter(|endpoint| is_ejected(&endpoint.load, now)).count();
            prop_assert!(ejected <= count as usize / 2);
        }
    }
}
