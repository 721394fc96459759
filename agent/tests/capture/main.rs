//! Capture against the real kernel: needs root, cgroup v2 and `ip`; a machine that cannot run it fails it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod guard;
mod inbound;
mod lifetime;
mod neighbours;
mod outbound;
mod unenrolled;
mod world;

use std::{
    thread,
    time::{Duration, Instant},
};

use posthaste::{bpf::Capture, snapshot::FailMode};
use world::{Inbound, Outbound, PATIENCE, World};

/// A captured pod with an agent that lives.
fn captured(world: &World, fail_mode: FailMode) -> (Capture, Outbound, Inbound) {
    let (outbound, inbound) = (Outbound::open(world), Inbound::open(world));
    let mut capture = world.capture();
    capture.beat();
    let node = ["10.77.0.3".parse().unwrap()];
    assert_eq!(capture.apply(&[world.wanted(fail_mode, &inbound)], &node), []);
    (capture, outbound, inbound)
}

fn flows(capture: &Capture) -> u64 {
    capture.status().maps.iter().find(|map| map.name == "FLOWS").unwrap().entries
}

/// Waits until the kernel has forgotten every flow.
fn no_flows_stay(capture: &Capture) {
    let end = Instant::now() + PATIENCE;
    while flows(capture) > 0 {
        assert!(Instant::now() < end, "{} flows stay", flows(capture));
        thread::sleep(Duration::from_millis(10));
    }
}
