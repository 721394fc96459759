//! What the flags ask of this machine, checked before anything is started: rights, cgroup v2, congestion control.

use std::{path::PathBuf, sync::Arc};

use crate::{
    bpf, cgroup,
    config::{AgentArguments, KernelArguments},
};

/// The algorithms of the kernel that are ready for use (ip-sysctl).
const ALGORITHMS: &str = "/proc/sys/net/ipv4/tcp_available_congestion_control";
/// Every kernel has it.
const LAST_RESORT: &str = "reno";

/// What this machine cannot do.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// Rights.
    #[error("rights are missing: {0}; run this as root, or see `posthaste check`")]
    Rights(String),
    /// Where cgroup v2 is.
    #[error("no cgroup v2 hierarchy is mounted; mount one, or name it with --cgroup-root")]
    NoCgroup,
    /// What the flag names is something else.
    #[error("--cgroup-root {0} is not a folder of a cgroup v2 hierarchy; leave the flag out to use its root")]
    NotCgroup(PathBuf),
    /// A name that the kernel does not know.
    #[error(
        "--congestion {asked} is not known to this kernel; it has {known}, or `kernel` leaves its default"
    )]
    Congestion {
        /// The flag.
        asked: String,
        /// What the kernel offers.
        known: String,
    },
}

/// The right to load eBPF programs and to make sockets in other namespaces.
///
/// # Errors
/// It is missing.
pub fn check_rights() -> Result<(), MachineError> {
    let missing = bpf::probe_rights();
    if missing.found { Ok(()) } else { Err(MachineError::Rights(missing.detail)) }
}

/// The cgroup that the connect hooks attach to.
///
/// # Errors
/// There is none.
pub fn cgroup_root(arguments: &KernelArguments) -> Result<PathBuf, MachineError> {
    match &arguments.cgroup_root {
        // Every cgroup has this file, and cgroup v1 has not.
        Some(root) if root.join("cgroup.controllers").exists() => Ok(root.clone()),
        Some(root) => Err(MachineError::NotCgroup(root.clone())),
        None => cgroup::unified_root().ok_or(MachineError::NoCgroup),
    }
}

/// The congestion control of the agent's sockets; none leaves the kernel's default.
///
/// # Errors
/// The kernel does not know the name.
pub fn congestion(arguments: &AgentArguments) -> Result<Option<Arc<str>>, MachineError> {
    let known = std::fs::read_to_string(ALGORITHMS).unwrap_or_default();
    choose(&arguments.congestion, known.trim())
}

/// The default gives way where the kernel lacks it; a name that somebody chose does not.
fn choose(asked: &str, known: &str) -> Result<Option<Arc<str>>, MachineError> {
    match asked {
        "kernel" => Ok(None),
        name if known.is_empty() || known.split_whitespace().any(|one| one == name) => Ok(Some(name.into())),
        "cubic" => Ok(Some(LAST_RESORT.into())),
        name => Err(MachineError::Congestion { asked: name.to_owned(), known: known.to_owned() }),
    }
}

/// Every connection costs a descriptor or two: takes what the hard limit allows.
pub fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_gives_way_and_a_choice_does_not() {
        let table = [
            ("cubic", "reno bbr cubic", Some(Some("cubic"))),
            ("cubic", "reno bbr", Some(Some("reno"))),
            ("bbr", "reno bbr", Some(Some("bbr"))),
            ("nope", "reno bbr", None),
            ("kernel", "reno", Some(None)),
            ("bbr", "", Some(Some("bbr"))),
        ];
        for (asked, known, wanted) in table {
            assert_eq!(
                choose(asked, known).ok(),
                wanted.map(|name| name.map(Arc::from)),
                "{asked} of {known}"
            );
        }
    }
}
