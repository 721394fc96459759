//! What happens to a packet that looks for a listening socket in an enrolled pod's network namespace. Pure: facts in,
//! verdict out; facts that cost a look-up are functions, called only where they matter.

use crate::{Address, Counter, PodSettings};

/// `IPPROTO_TCP`.
const TCP: u32 = 6;
/// Interface index of `lo` in every network namespace.
const LOOPBACK_DEVICE: u32 = 1;

/// The packet, as the hook sees it.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Protocol number.
    pub protocol: u32,
    /// Interface it came in by; the agent's own delivery is bound to `lo`.
    pub device: u32,
    /// Who sent it.
    pub remote: Address,
    /// The pod's address it was sent to.
    pub local: Address,
}

impl Arrival {
    /// A TCP connection that comes in by the pod's first device.
    pub const fn tcp(remote: Address, local: Address) -> Self {
        Self { protocol: TCP, device: LOOPBACK_DEVICE + 1, remote, local }
    }
}

/// What to do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The ordinary look-up goes on, uncounted.
    Pass,
    /// The ordinary look-up goes on; counted.
    PassCounted(Counter),
    /// Answered with a reset; counted.
    Refuse(Counter),
    /// Try the agent's listener; where it is gone, [`without_listener`].
    Steer,
}

/// Decides. `from_node`: the sender is one of the node's own addresses. `excluded`: the local port is excluded for this
/// pod. `fresh`: the agent's heartbeat is fresh.
#[inline(always)]
pub fn decide(
    settings: PodSettings,
    arrival: &Arrival,
    from_node: impl FnOnce() -> bool,
    excluded: impl FnOnce() -> bool,
    fresh: impl FnOnce() -> bool,
) -> Verdict {
    let within = arrival.device == LOOPBACK_DEVICE || arrival.remote == arrival.local;
    if arrival.protocol != TCP || within || arrival.local.is_loopback() {
        return Verdict::Pass;
    }
    if from_node() {
        return Verdict::PassCounted(Counter::NodeInbound);
    }
    if settings.has(PodSettings::EXCLUDES_INBOUND) && excluded() {
        return Verdict::PassCounted(Counter::ExcludedInbound);
    }
    if fresh() { Verdict::Steer } else { without_listener(settings) }
}

/// What happens where no agent lives or it has no listener.
#[inline(always)]
pub fn without_listener(settings: PodSettings) -> Verdict {
    if settings.has(PodSettings::FAIL_CLOSED) {
        Verdict::Refuse(Counter::RefusedInbound)
    } else {
        Verdict::PassCounted(Counter::PassedInbound)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use std::net::IpAddr;

    use super::*;

    const CLOSED: u32 = PodSettings::FAIL_CLOSED;
    const EXCLUDES: u32 = PodSettings::EXCLUDES_INBOUND;

    fn arrival(protocol: u32, device: u32, remote: &str, local: &str) -> Arrival {
        let parse = |text: &str| text.parse::<IpAddr>().unwrap().into();
        Arrival { protocol, device, remote: parse(remote), local: parse(local) }
    }

    #[test]
    fn verdicts() {
        use Counter::{ExcludedInbound, NodeInbound, PassedInbound, RefusedInbound};
        use Verdict::{Pass, PassCounted, Refuse, Steer};
        let far = arrival(6, 2, "10.0.0.9", "10.0.0.1");
        // (what, flags, arrival, from node, excluded, fresh, verdict)
        let table = [
            ("steered", CLOSED, far, false, false, true, Steer),
            ("steered v6", 0, arrival(6, 2, "fd00::9", "fd00::1"), false, false, true, Steer),
            ("udp", CLOSED, arrival(17, 2, "10.0.0.9", "10.0.0.1"), false, false, false, Pass),
            ("delivery", CLOSED, arrival(6, 1, "10.0.0.9", "10.0.0.1"), false, false, true, Pass),
            ("to itself", CLOSED, arrival(6, 2, "10.0.0.1", "10.0.0.1"), false, false, true, Pass),
            ("loopback", CLOSED, arrival(6, 0, "127.0.0.1", "127.0.0.1"), false, false, true, Pass),
            ("loopback v6", CLOSED, arrival(6, 0, "fd00::1", "::1"), false, false, true, Pass),
            ("probe", CLOSED, far, true, false, true, PassCounted(NodeInbound)),
            ("probe, dead", CLOSED, far, true, false, false, PassCounted(NodeInbound)),
            ("excluded", CLOSED | EXCLUDES, far, false, true, false, PassCounted(ExcludedInbound)),
            ("look-up spared", CLOSED, far, false, true, true, Steer),
            ("dead closed", CLOSED, far, false, false, false, Refuse(RefusedInbound)),
            ("dead open", 0, far, false, false, false, PassCounted(PassedInbound)),
        ];
        for (what, flags, arrival, from_node, excluded, fresh, verdict) in table {
            let decided = decide(PodSettings { flags }, &arrival, || from_node, || excluded, || fresh);
            assert_eq!(decided, verdict, "{what}");
        }
    }
}
