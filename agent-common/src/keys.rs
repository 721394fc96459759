//! Keys and values of the maps beside addresses. Pure. Every type is `repr(C)` without implicit padding, since the
//! kernel compares keys byte by byte.

use crate::{Address, Destination, FAMILY_V4, FAMILY_V6};

/// What the kernel must know about an enrolled pod. 4 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct PodSettings {
    /// Bits of the constants below.
    pub flags: u32,
}

impl PodSettings {
    /// New connections are refused while no agent lives; without it they go straight.
    pub const FAIL_CLOSED: u32 = 1;
    /// The pod has excluded outbound ports; without it the look-up is spared.
    pub const EXCLUDES_OUTBOUND: u32 = 2;
    /// The pod has excluded inbound ports.
    pub const EXCLUDES_INBOUND: u32 = 4;

    /// Whether the bit is set.
    #[inline(always)]
    pub const fn has(self, flag: u32) -> bool {
        self.flags & flag != 0
    }
}

/// Which way a connection goes, seen from the pod.
#[repr(u16)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// The pod connects.
    Outbound = 0,
    /// The pod is connected to.
    Inbound = 1,
}

/// A port that passes uncaptured. 8 + 2 + 2 + 4 = 16 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExcludedPort {
    /// Network namespace cookie of the pod.
    pub cookie: u64,
    /// Port in host byte order.
    pub port: u16,
    /// A [`Direction`].
    pub direction: u16,
    /// Zero.
    pub reserved: u32,
}

impl ExcludedPort {
    /// The key of one port of one pod.
    #[inline(always)]
    pub const fn new(cookie: u64, port: u16, direction: Direction) -> Self {
        Self { cookie, port, direction: direction as u16, reserved: 0 }
    }
}

/// A captured connection before the agent has it: the client's end as the agent's `accept` will report it.
/// 8 + 16 + 4 + 4 = 32 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// Network namespace cookie of the pod.
    pub cookie: u64,
    /// Address of the client's end.
    pub address: Address,
    /// Port of the client's end, host byte order.
    pub port: u32,
    /// Zero.
    pub reserved: u32,
}

impl FlowKey {
    /// The key of one client's end.
    #[inline(always)]
    pub const fn new(cookie: u64, address: Address, port: u32) -> Self {
        Self { cookie, address, port, reserved: 0 }
    }
}

/// Where a pod sends UDP. 8 + 16 + 4 + 4 = 32 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UdpFlow {
    /// Network namespace cookie of the pod.
    pub cookie: u64,
    /// Where to.
    pub address: Address,
    /// Port there, host byte order.
    pub port: u32,
    /// Zero.
    pub reserved: u32,
}

impl UdpFlow {
    /// The key of one destination of one pod.
    #[inline(always)]
    pub const fn new(cookie: u64, destination: Destination) -> Self {
        Self { cookie, address: destination.address, port: destination.port as u32, reserved: 0 }
    }
}

/// The inbound listener of a pod for one family. 8 + 4 + 4 = 16 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenerKey {
    /// Network namespace cookie of the pod.
    pub cookie: u64,
    /// `AF_INET` or `AF_INET6`.
    pub family: u32,
    /// Zero.
    pub reserved: u32,
}

impl ListenerKey {
    /// The key of the IPv4 listener.
    #[inline(always)]
    pub const fn v4(cookie: u64) -> Self {
        Self { cookie, family: FAMILY_V4, reserved: 0 }
    }

    /// The key of the IPv6 listener.
    #[inline(always)]
    pub const fn v6(cookie: u64) -> Self {
        Self { cookie, family: FAMILY_V6, reserved: 0 }
    }
}

const _: () = assert!(size_of::<PodSettings>() == 4);
const _: () = assert!(size_of::<ExcludedPort>() == 8 + 2 + 2 + 4);
const _: () = assert!(size_of::<UdpFlow>() == 8 + 16 + 4 + 4);
const _: () = assert!(size_of::<FlowKey>() == 8 + 16 + 4 + 4);
const _: () = assert!(size_of::<ListenerKey>() == 8 + 4 + 4);
