//! What the eBPF programs and the agent must agree on: the layout of every map's keys and values, and the capture
//! verdicts as plain functions. Pure: `no_std`, no I/O, no clock; the facts a verdict needs are arguments. The
//! functions are tested on the host by tables and called by the eBPF programs as they are.

#![cfg_attr(not(test), no_std)]

pub mod address;
pub mod cgroup_event;
pub mod counters;
pub mod inbound;
pub mod keys;
pub mod liveness;
pub mod outbound;
pub mod unenrolled;

pub use address::{Address, Destination};
pub use cgroup_event::{CgroupChange, CgroupEvent, Root};
pub use counters::{COUNTERS, Counter, PodCounters, QUIC_PORT};
pub use keys::{Direction, ExcludedPort, FlowKey, ListenerKey, PodSettings, UdpFlow};
pub use unenrolled::{Judging, NewFolder, Standing};

/// `AF_INET` as the kernel numbers it.
pub const FAMILY_V4: u32 = 2;
/// `AF_INET6` as the kernel numbers it.
pub const FAMILY_V6: u32 = 10;
