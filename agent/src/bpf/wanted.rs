//! What the rest of the agent asks of the kernel: the settings of capture and the pods to capture. Pure shapes.

use std::{os::fd::OwnedFd, path::PathBuf, sync::Arc, time::Duration};

use crate::snapshot::FailMode;

/// Settings of capture; sizes take effect where the maps are made, that is at the first start or after a clean stop.
#[derive(Clone, Debug)]
pub struct CaptureConfig {
    /// Mount point of cgroup v2; every process under it can be captured. See [`crate::cgroup::unified_root`].
    pub cgroup_root: PathBuf,
    /// Folder on a BPF file system that this agent owns: made at the start, removed at a clean stop.
    pub bpffs_dir: PathBuf,
    /// Mark of the agent's own sockets, which are never captured. The mark with its last bit turned is exempt too: the
    /// routing rule that brings answers to delivered connections back must not catch what the agent dials.
    pub mark: u32,
    /// Enrolled pods at most.
    pub max_pods: u32,
    /// Captured connections between the client's SYN and the agent's accept at most.
    pub max_flows: u32,
    /// Excluded ports of all pods together at most.
    pub max_excluded_ports: u32,
    /// Addresses of the node at most.
    pub max_node_addresses: u32,
    /// How long a pod that the agent does not know is refused, where some namespace is strict; none for until it knows it.
    pub unknown_pod_limit: Option<Duration>,
    /// Age from which a heartbeat means that no agent lives.
    pub heartbeat_limit: Duration,
    /// Port of the agent's listeners at 127.0.0.1 and `::1` in each pod for what the pod sends.
    pub outbound_port: u16,
    /// Port of the agent's inbound listeners; the kernel steers to the sockets, whatever their port.
    pub inbound_port: u16,
}

/// The inbound listeners of one pod. The kernel's look-up spreads over a `SO_REUSEPORT` group when one of the group is
/// given here.
#[derive(Debug)]
pub struct PodListeners {
    /// Listens on IPv4.
    pub v4: Option<OwnedFd>,
    /// Listens on IPv6 only.
    pub v6: Option<OwnedFd>,
}

/// A pod to capture.
#[derive(Clone, Debug)]
pub struct WantedPod {
    /// `SO_NETNS_COOKIE` of its network namespace.
    pub cookie: u64,
    /// Its network namespace.
    pub netns: Arc<OwnedFd>,
    /// Names it in problems and counts.
    pub uid: Arc<str>,
    /// What the kernel does while no agent lives.
    pub fail_mode: FailMode,
    /// Destination ports that leave uncaptured.
    pub exclude_outbound: Vec<u16>,
    /// Own ports that are reached uncaptured.
    pub exclude_inbound: Vec<u16>,
    /// Where inbound connections go. A new `Arc` replaces the sockets.
    pub listeners: Arc<PodListeners>,
}
