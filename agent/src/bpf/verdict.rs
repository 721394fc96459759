//! What the programs in the kernel would do with a new connection of a pod, for people: the decisions that the programs call
//! (`agent_common`), on the very maps that they read.

use std::net::{IpAddr, SocketAddr};

use agent_common::{Direction, ExcludedPort, PodSettings, inbound, liveness, outbound};
pub use agent_common::{inbound::Verdict as Inbound, outbound::Verdict as Outbound};

use super::{Capture, capture::monotonic_nanoseconds, load, maps::Plain, status::hook};

/// A verdict and who would give it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged<V> {
    /// What would happen.
    pub verdict: V,
    /// Name of the program.
    pub program: &'static str,
    /// The kernel's number of the program in the hook; absent where the hook is empty.
    pub number: Option<u32>,
}

impl Capture {
    /// A TCP `connect` of a process in the pod; none where the kernel does not have the pod. That the agent listens is taken for
    /// granted: it is the one that is asked.
    pub fn judge_outbound(&self, uid: &str, destination: SocketAddr) -> Option<Judged<Outbound>> {
        let (cookie, settings) = self.enrolled(uid)?;
        let attempt = outbound::Attempt::tcp(destination.ip().into(), self.config.mark);
        let excluded = || self.is_excluded(cookie, destination.port(), Direction::Outbound);
        let verdict = outbound::decide(settings, &attempt, excluded, || self.is_alive());
        let program = if destination.is_ipv4() { "on_connect4" } else { "on_connect6" };
        let number = hook(&load::hook_pin(&self.config.bpffs_dir, program)).program;
        Some(Judged { verdict, program, number })
    }

    /// A TCP connection from `client` to an address of the pod; none where the kernel does not have the pod.
    pub fn judge_inbound(&self, uid: &str, client: IpAddr, address: SocketAddr) -> Option<Judged<Inbound>> {
        let (cookie, settings) = self.enrolled(uid)?;
        let arrival = inbound::Arrival::tcp(client.into(), address.ip().into());
        let from_node = || self.maps.node_addresses.get(&Plain(client.into()), 0).is_ok();
        let excluded = || self.is_excluded(cookie, address.port(), Direction::Inbound);
        let verdict = inbound::decide(settings, &arrival, from_node, excluded, || self.is_alive());
        let number = hook(&load::pod_pin(&self.config.bpffs_dir, cookie)).program;
        Some(Judged { verdict, program: load::INBOUND, number })
    }

    fn enrolled(&self, uid: &str) -> Option<(u64, PodSettings)> {
        let cookie = self.names.iter().find(|(_, name)| ***name == *uid).map(|(cookie, _)| *cookie)?;
        let Plain(settings) = self.maps.pods.get(&cookie, 0).ok()?;
        Some((cookie, settings))
    }

    fn is_excluded(&self, cookie: u64, port: u16, direction: Direction) -> bool {
        self.maps.excluded.get(&Plain(ExcludedPort::new(cookie, port, direction)), 0).is_ok()
    }

    fn is_alive(&self) -> bool {
        let limit = u64::try_from(self.config.heartbeat_limit.as_nanos()).unwrap_or(u64::MAX);
        liveness::is_fresh(self.heartbeat().last(), monotonic_nanoseconds(), limit)
    }
}
