//! The kernel's counters of one pod, by name. Pure.

use agent_common::{Counter, PodCounters};

/// What the kernel counted for one pod since it was enrolled, or over a while. All are numbers of connections (inbound:
/// of packets that looked for a listening socket, which a stray packet of a dead connection is too).
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct PodCounts {
    /// Network namespace cookie.
    pub cookie: u64,
    /// Name of the pod, where this agent knows it.
    pub uid: Option<String>,
    /// Refused because no agent lived.
    pub refused_outbound: u64,
    /// Went straight because no agent lived.
    pub passed_outbound: u64,
    /// Refused because no agent lived.
    pub refused_inbound: u64,
    /// Went straight because no agent lived.
    pub passed_inbound: u64,
    /// To excluded ports.
    pub excluded_outbound: u64,
    /// To excluded ports.
    pub excluded_inbound: u64,
    /// From the node's own addresses.
    pub node_inbound: u64,
    /// Found no room in a map.
    pub map_full: u64,
    /// Not TCP, or bound to a device.
    pub uncapturable: u64,
    /// Sent to the agent.
    pub captured_outbound: u64,
    /// Steered to the agent.
    pub captured_inbound: u64,
    /// UDP sockets connected.
    pub udp_connects: u64,
    /// Destinations of UDP, but for port 443.
    pub udp_flows: u64,
    /// Destinations of UDP to port 443, taken for QUIC.
    pub quic_flows: u64,
}

impl PodCounts {
    /// Names what the kernel holds.
    pub(super) fn new(cookie: u64, uid: Option<String>, counters: &PodCounters) -> Self {
        let value = |counter| counters.value(counter);
        Self {
            cookie,
            uid,
            refused_outbound: value(Counter::RefusedOutbound),
            passed_outbound: value(Counter::PassedOutbound),
            refused_inbound: value(Counter::RefusedInbound),
            passed_inbound: value(Counter::PassedInbound),
            excluded_outbound: value(Counter::ExcludedOutbound),
            excluded_inbound: value(Counter::ExcludedInbound),
            node_inbound: value(Counter::NodeInbound),
            map_full: value(Counter::MapFull),
            uncapturable: value(Counter::Uncapturable),
            captured_outbound: value(Counter::CapturedOutbound),
            captured_inbound: value(Counter::CapturedInbound),
            udp_connects: value(Counter::UdpConnects),
            udp_flows: value(Counter::UdpFlows),
            quic_flows: value(Counter::QuicFlows),
        }
    }

    /// Whether anything was decided without an agent.
    pub fn is_eventful(&self) -> bool {
        self.refused_outbound + self.passed_outbound + self.refused_inbound + self.passed_inbound > 0
    }
}

/// What was counted since `before`. A counter that runs backwards (a cookie used again) counts from zero.
pub(super) fn since(before: &PodCounters, now: &PodCounters) -> PodCounters {
    let mut values = now.values;
    for (value, before) in values.iter_mut().zip(before.values) {
        *value = value.checked_sub(before).unwrap_or(*value);
    }
    PodCounters { values }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn a_difference_names_what_was_decided_without_an_agent() {
        let mut before = PodCounters::default();
        let mut now = PodCounters::default();
        before.values[Counter::RefusedOutbound as usize] = 3;
        now.values[Counter::RefusedOutbound as usize] = 5;
        before.values[Counter::PassedInbound as usize] = 9;
        now.values[Counter::PassedInbound as usize] = 1;
        let counts = PodCounts::new(7, None, &since(&before, &now));
        assert_eq!((counts.refused_outbound, counts.passed_inbound), (2, 1));
        assert!(counts.is_eventful());
        assert!(!PodCounts::default().is_eventful());
    }
}
