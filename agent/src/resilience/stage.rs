//! Ports, endpoints and repeatable chance for the tests of this folder.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use crate::snapshot::{Endpoint, ServicePort, TrafficPolicy, policy::Outliers};

pub(super) const SECOND: u64 = 1_000_000_000;
pub(super) const MILLISECOND: u64 = 1_000_000;

pub(super) fn endpoints(count: u32) -> Vec<Endpoint> {
    let address = |number| SocketAddr::from((Ipv4Addr::from(0x0a00_0000 + number), 80));
    (0..count)
        .map(|number| Endpoint { address: address(number), workload: None, load: Arc::default() })
        .collect()
}

pub(super) fn port(count: u32, policy: TrafficPolicy) -> ServicePort {
    ServicePort {
        service_name: "s".into(),
        service_namespace: "n".into(),
        hostname: "s.n.svc.cluster.local".into(),
        port: 80,
        name: "".into(),
        app_protocol: None,
        protocol: Default::default(),
        protocol_why: Default::default(),
        policy: Arc::new(policy),
        affinity_seconds: None,
        endpoints: endpoints(count),
        known_endpoints: count as usize,
        state: Arc::default(),
    }
}

pub(super) fn with_outliers(count: u32, outliers: Outliers) -> ServicePort {
    port(count, TrafficPolicy { outliers, ..TrafficPolicy::default() })
}

/// SplitMix64.
pub(super) fn random(mut seed: u64) -> impl FnMut() -> u64 {
    move || {
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
