//! The ring: even, stable, and few keys move.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use proptest::prelude::*;

use super::*;
use crate::{resilience::stage, snapshot::TrafficPolicy};

fn owner(ring: &Ring, key: u64) -> SocketAddr {
    ring.addresses[ring.after(key).next().unwrap()]
}

#[test]
fn shares_are_even() {
    for (count, spread) in [(1, 0.001), (2, 0.25), (10, 0.35), (100, 0.45), (1000, 1.2)] {
        let shares = build(&stage::endpoints(count)).shares();
        let sum: f64 = shares.iter().sum();
        assert!((sum - 1.0).abs() < 1e-6, "{sum}");
        let fair = 1.0 / f64::from(count);
        let worst = shares.iter().map(|share| (share / fair - 1.0).abs()).fold(0.0, f64::max);
        assert!(worst < spread, "{count}: {worst}");
    }
    assert_eq!(build(&[]).after(5).next(), None);
}

#[test]
fn every_point_once_from_the_key_on() {
    let ring = build(&stage::endpoints(7));
    let all: Vec<usize> = ring.after(u64::MAX / 3).collect();
    assert_eq!(all.len(), 7 * MOST);
    assert!((0..7).all(|index| all.iter().filter(|one| **one == index).count() == MOST));
}

#[test]
fn kept_for_the_same_endpoints_and_built_for_others() {
    let mut port = stage::port(5, TrafficPolicy::default());
    let first = of(&port);
    assert!(Arc::ptr_eq(&first, &of(&port)));
    // Another snapshot, the same endpoints.
    port.endpoints = stage::endpoints(5);
    assert_eq!(of(&port).points, first.points);
    port.endpoints = stage::endpoints(4);
    assert_eq!(of(&port).addresses.len(), 4);
    forget(&port);
    assert_eq!(of(&port).points, build(&port.endpoints).points);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn one_that_leaves_moves_only_its_own_keys(count in 3u32..60, gone in 0u32..60, seed: u64) {
        let mut endpoints = stage::endpoints(count);
        let before = build(&endpoints);
        let gone = endpoints.remove((gone % count) as usize).address;
        let after = build(&endpoints);
        let mut random = stage::random(seed);
        let keys = 4000;
        let mut moved = 0;
        for _ in 0..keys {
            let key = random();
            let (was, is) = (owner(&before, key), owner(&after, key));
            // Other points are the same as long as their number is.
            if was != is {
                moved += 1;
                prop_assert_eq!(was, gone);
            }
        }
        prop_assert!(moved <= keys * 2 / count, "{} of {}", moved, count);
    }
}
