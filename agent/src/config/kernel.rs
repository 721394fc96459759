//! What the programs in the kernel are loaded with: the same for the agent and for the boot guard, whose programs and maps the agent
//! takes over.

use std::{path::PathBuf, time::Duration};

use super::seconds;

/// Folder of the pins unless another is named.
pub const BPFFS: &str = "/sys/fs/bpf/posthaste";

/// Flags that the agent and the boot guard share. A node's guard is to have the same as its agent, in each one's view of the machine.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct KernelArguments {
    /// Folder on a BPF file system for pinned programs, maps and links.
    #[arg(long, value_name = "DIR", default_value = BPFFS, env = "POSTHASTE_BPFFS")]
    pub bpffs: PathBuf,
    /// cgroup v2 folder the connect hooks attach to; the root of the hierarchy unless given.
    #[arg(long, value_name = "DIR", env = "POSTHASTE_CGROUP_ROOT")]
    pub cgroup_root: Option<PathBuf>,
    /// Mark of the agent's own sockets.
    #[arg(long, value_name = "NUMBER", default_value_t = 0x7068, env = "POSTHASTE_MARK")]
    pub mark: u32,
    /// Enrolled pods of this node at most; the size of a kernel map.
    #[arg(long, value_name = "N", default_value_t = 1024, env = "POSTHASTE_MAX_PODS")]
    pub max_pods: u32,
    /// Connections that are captured and not yet accepted at most; the size of a kernel map.
    #[arg(long, value_name = "N", default_value_t = 65536, env = "POSTHASTE_MAX_FLOWS")]
    pub max_flows: u32,
    /// Excluded ports over all pods at most; the size of a kernel map.
    #[arg(long, value_name = "N", default_value_t = 8192, env = "POSTHASTE_MAX_EXCLUDED_PORTS")]
    pub max_excluded_ports: u32,
    /// Addresses of this node at most; the size of a kernel map.
    #[arg(long, value_name = "N", default_value_t = 256, env = "POSTHASTE_MAX_NODE_ADDRESSES")]
    pub max_node_addresses: u32,
    /// Without a heartbeat for so long the kernel takes the agent for dead.
    #[arg(
        long,
        value_name = "SECONDS",
        default_value = "3",
        value_parser = seconds,
        env = "POSTHASTE_HEARTBEAT_LIMIT"
    )]
    pub heartbeat_limit: Duration,
    /// Where some namespace is strict, connections of a pod that the agent does not know yet are refused for so long after the
    /// first, then let go in plain text; 0 lets them go at once, `never` not before the agent knows the pod.
    #[arg(
        long,
        value_name = "SECONDS|never",
        default_value = "never",
        value_parser = limit,
        env = "POSTHASTE_UNKNOWN_POD_LIMIT"
    )]
    pub unknown_pod_limit: Limit,
}

/// How long something holds; none for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit(pub Option<Duration>);

impl KernelArguments {
    /// The same in its environment form.
    pub(super) fn settings(&self) -> Vec<(&'static str, String)> {
        let limit = self.unknown_pod_limit.0.map_or_else(|| "never".to_owned(), text);
        let mut settings = vec![
            ("POSTHASTE_BPFFS", self.bpffs.display().to_string()),
            ("POSTHASTE_MARK", self.mark.to_string()),
            ("POSTHASTE_MAX_PODS", self.max_pods.to_string()),
            ("POSTHASTE_MAX_FLOWS", self.max_flows.to_string()),
            ("POSTHASTE_MAX_EXCLUDED_PORTS", self.max_excluded_ports.to_string()),
            ("POSTHASTE_MAX_NODE_ADDRESSES", self.max_node_addresses.to_string()),
            ("POSTHASTE_HEARTBEAT_LIMIT", text(self.heartbeat_limit)),
            ("POSTHASTE_UNKNOWN_POD_LIMIT", limit),
        ];
        let root = self.cgroup_root.as_ref();
        settings.extend(root.map(|root| ("POSTHASTE_CGROUP_ROOT", root.display().to_string())));
        settings
    }
}

fn text(length: Duration) -> String {
    length.as_secs_f64().to_string()
}

fn limit(text: &str) -> Result<Limit, String> {
    match text {
        "never" => Ok(Limit(None)),
        _ => {
            seconds(text).map(|length| Limit(Some(length))).map_err(|reason| format!("{reason}, nor `never`"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_length_of_time_or_none() {
        for (text, expected) in [
            ("never", Ok(Limit(None))),
            ("0", Ok(Limit(Some(Duration::ZERO)))),
            ("2.5", Ok(Limit(Some(Duration::from_millis(2500))))),
            ("always", Err("`always` is not a number of seconds, nor `never`".to_owned())),
            ("-1", Err("`-1` is not a length of time, nor `never`".to_owned())),
        ] {
            assert_eq!(limit(text), expected, "{text}");
        }
    }
}
