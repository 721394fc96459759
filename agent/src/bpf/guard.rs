//! The hooks of a node that has booted, before there is an agent: every pod is unknown, and held as an agent holds one that it does not
//! know. The process that attaches them ends; the first agent takes them over.

use std::path::Path;

use super::{Capture, CaptureConfig, CaptureError, Judgements, capture::monotonic_nanoseconds, load};
use crate::netns::cookie_of_this_thread;

/// The groups of a node whose pods nobody has judged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unjudged {
    /// All that is known of them. Its `read_ns` is when they were read.
    pub judgements: Judgements,
    /// There are pods that the hooks cannot find by their groups (cgroup version 1): whoever is outside the node's network namespace may
    /// be one.
    pub beyond_groups: bool,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guarded {
    /// An agent's hooks are there, or an earlier guard's; nothing was changed.
    AlreadyThere,
    /// Held from now on: pods, and, where there is a folder of pods that no agent has read, who is in no known group.
    Pods,
    /// The same, and whoever is outside the node's network namespace at once: the kernel does not tell of folders, or knows them by ids
    /// that mean nothing to the hooks.
    EverythingButTheNode,
}

/// Whether the hooks of an agent, or of a guard, are all pinned there.
#[must_use]
pub fn has_hooks(folder: &Path) -> bool {
    load::hook_pins(folder).all(|pin| pin.exists())
}

impl Capture {
    /// Attaches and pins the hooks for the network namespace of the calling thread, which is the node's, and holds what `read` finds. The
    /// hooks stay when this process ends.
    ///
    /// # Errors
    /// As [`Capture::start`]; nothing is left behind then that was not there.
    pub fn guard(config: &CaptureConfig, read: impl FnOnce() -> Unjudged) -> Result<Guarded, CaptureError> {
        Self::alone(config, || {
            if has_hooks(&config.bpffs_dir) {
                return Ok(Guarded::AlreadyThere);
            }
            cookie_of_this_thread().map_err(CaptureError::Home)?;
            let mut guarded = Guarded::Pods;
            Self::open(config, |capture| {
                // A folder that is made from now on is told of, one from before is read.
                let Unjudged { judgements, beyond_groups } = read();
                let anywhere = beyond_groups || capture.events.is_none();
                if anywhere {
                    guarded = Guarded::EverythingButTheNode;
                }
                capture.hold(&judgements, anywhere, monotonic_nanoseconds())
            })?;
            Ok(guarded)
        })
    }
}
