//! What the kernel counts per pod. Pure.

/// One thing that is counted. The number is its place in [`PodCounters::values`] and must not change between
/// releases, because counters outlive the agent.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Counter {
    /// Outbound connections refused because no agent lived (fail mode `closed`).
    RefusedOutbound = 0,
    /// Outbound connections that went straight because no agent lived (fail mode `open`).
    PassedOutbound = 1,
    /// Inbound packets without a socket refused because no agent lived: connection attempts, and late packets of
    /// connections that ended with the agent, which the hook cannot tell apart.
    RefusedInbound = 2,
    /// Inbound connection attempts that went straight because no agent lived.
    PassedInbound = 3,
    /// Outbound connections to excluded ports.
    ExcludedOutbound = 4,
    /// Inbound connection attempts to excluded ports.
    ExcludedInbound = 5,
    /// Inbound connection attempts from the node's own addresses (probes).
    NodeInbound = 6,
    /// Connections whose destination found no room in a map.
    MapFull = 7,
    /// Stream connections that cannot be captured (another protocol than TCP, a socket bound to a device).
    Uncapturable = 8,
    /// Outbound connections sent to the agent.
    CapturedOutbound = 9,
    /// Inbound connection attempts steered to the agent.
    CapturedInbound = 10,
    /// UDP sockets connected; they pass untouched.
    UdpConnects = 11,
    /// Destinations that UDP was sent to, first packets or connects only; but for those below.
    UdpFlows = 12,
    /// The same to port 443, which is taken for QUIC: the hooks see addresses, not bytes.
    QuicFlows = 13,
}

/// Where HTTP/3 is spoken (RFC 9114, section 3.1).
pub const QUIC_PORT: u16 = 443;

/// How many counters a pod has room for; a power of two, so that an index can be masked.
pub const COUNTERS: usize = 16;

/// The counters of one pod. 16 * 8 = 128 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct PodCounters {
    /// Indexed by [`Counter`].
    pub values: [u64; COUNTERS],
}

const _: () = assert!(size_of::<PodCounters>() == 16 * 8);

impl Counter {
    /// The counter of a new UDP flow to this port.
    #[inline(always)]
    pub const fn of_udp_flow(port: u16) -> Self {
        if port == QUIC_PORT { Self::QuicFlows } else { Self::UdpFlows }
    }
}

impl PodCounters {
    /// One of them.
    pub fn value(&self, counter: Counter) -> u64 {
        self.values.get(counter as usize).copied().unwrap_or_default()
    }
}
