//! `posthaste guard`: runs once when a node boots, before kubelet starts pods, and holds every pod that leaves the node's network namespace
//! until an agent has read the cluster and judged it. What it attaches stays in the kernel; the agent takes it over.
//!
//! ```text
//! decide    whether to hold, from what the last agent kept on disk; pure
//! install   puts the program and a unit of systemd on a node, and takes them away
//! ```

mod decide;
mod install;

use std::{fs, path::Path};

use super::{
    machine::{self, MachineError},
    settings,
};
use crate::{
    bpf::{self, Capture, CaptureError, Guarded, Judgement, Judgements, Unjudged},
    cgroup::{Scan, Tree},
    config::{BPFFS, GuardAction, GuardArguments},
    control::kubernetes::saved,
    netns::NamespaceFile,
    observe::monotonic_ns,
};
use decide::{Decision, Kept, decide, has_strict};
pub use install::InstallError;

/// Why nothing is held that should be.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// What this machine cannot do.
    #[error("nothing is held: {0}")]
    Machine(#[from] MachineError),
    /// The kernel part.
    #[error("nothing is held: {0}")]
    Capture(#[from] CaptureError),
    /// Every process of the node would be held.
    #[error(
        "nothing is held: whoever is in the network namespace of the node is never held, and that is to be this one, but {0}; run it on the \
         node itself as root, or take the responsibility with --cgroup-root, which names the folder that the pods are below"
    )]
    NotTheNode(String),
    /// The files on the node.
    #[error(transparent)]
    Install(#[from] InstallError),
}

/// Does what the flags say; what was done, in one line or more.
///
/// # Errors
/// It could not be done. Nothing is attached then that was not there.
pub fn run(arguments: &GuardArguments) -> Result<String, GuardError> {
    match &arguments.action {
        Some(GuardAction::Install(place)) => Ok(install::install(place, &arguments.settings())?),
        Some(GuardAction::Uninstall(place)) => Ok(install::uninstall(place)?),
        None => hold(arguments),
    }
}

/// Whether the guard is on this node, for `posthaste check`.
#[must_use]
pub fn requirement() -> bpf::Requirement {
    let found = install::is_enabled(Path::new("/"));
    let unit = if found {
        "starts before kubelet"
    } else {
        "is not on this machine, as far as can be seen from here"
    };
    let hooks = if bpf::has_hooks(Path::new(BPFFS)) { "are" } else { "are not" };
    bpf::Requirement {
        name: "boot guard",
        found,
        needed: false,
        detail: format!("{} {unit}; hooks {hooks} pinned at {BPFFS}", install::UNIT),
        advice: "a pod of a strict namespace that starts before the agent when the node boots is not held without it; \
                 `posthaste guard install`, or deploy/components/boot-guard, brings it",
    }
}

fn hold(arguments: &GuardArguments) -> Result<String, GuardError> {
    let Decision { holds, why } = decide(&kept(arguments), arguments);
    if !holds {
        return Ok(format!("nothing is held: {why}"));
    }
    machine::check_rights()?;
    let is_chosen = arguments.kernel.cgroup_root.is_some();
    if !is_chosen {
        expect_the_node().map_err(GuardError::NotTheNode)?;
    }
    let cgroup_root = machine::cgroup_root(&arguments.kernel)?;
    let config = settings::capture(&arguments.kernel, &cgroup_root);
    let read = || {
        let read_ns = monotonic_ns();
        unjudged(&Tree::new(&cgroup_root, is_chosen).scan(), read_ns)
    };
    let folder = arguments.kernel.bpffs.display();
    Ok(match Capture::guard(&config, read)? {
        Guarded::AlreadyThere => {
            format!(
                "nothing was changed: {folder} holds the hooks of an agent, or of a guard before this one"
            )
        }
        Guarded::Pods => format!("pods are held until an agent has judged them: {why}"),
        Guarded::EverythingButTheNode => format!(
            "whoever is outside the node's network namespace is held until an agent has judged the pods: {why}; the kernel does not tell \
             of folders of pods, or they are of cgroup version 1"
        ),
    })
}

fn kept(arguments: &GuardArguments) -> Kept {
    match saved::whole(&arguments.state) {
        Ok(None) => Kept::Nothing,
        Ok(Some((inputs, at))) => Kept::Inputs { has_strict: has_strict(&inputs, arguments.mtls.into()), at },
        Err(error) => Kept::Unreadable(error.to_string()),
    }
}

/// The node's is that of process 1.
fn expect_the_node() -> Result<(), String> {
    const NODE: &str = "/proc/1/ns/net";
    fs::metadata(NODE).map_err(|error| format!("{NODE} cannot be read: {error}"))?;
    let (node, own) = (NamespaceFile::of(Path::new(NODE)), NamespaceFile::of(Path::new("/proc/self/ns/net")));
    if node.is_some() && node == own { Ok(()) } else { Err(format!("{NODE} is another one")) }
}

/// Also pods that run: whoever attaches a guard beside them has no agent that has judged them.
fn unjudged(scan: &Scan, read_ns: u64) -> Unjudged {
    let others = scan.others.iter().copied();
    Unjudged {
        judgements: Judgements {
            has_strict: true,
            read_ns,
            groups: scan.groups.iter().copied().collect(),
            pods: others.clone().map(|id| (id, Judgement::Free)).collect(),
            present: scan.pods.values().map(|cgroup| cgroup.id).chain(others).collect(),
        },
        beyond_groups: scan.groups.is_empty() && !scan.pods.is_empty(),
    }
}
