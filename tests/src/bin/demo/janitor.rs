//! Cleans up after a demo that was interrupted, however it ended: a second process of this program waits until the
//! first is gone (its end of a pipe closes, even after SIGKILL) and then removes what belongs to dead runs.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use posthaste_tests::{Doing, Fault, sweep};

/// The hidden argument that makes this program the janitor.
pub(crate) const ROLE: &str = "--clean-up-after";

/// The janitor's process; it works when this is dropped, or when we die with it.
pub(crate) struct Janitor(Child);

impl Janitor {
    /// Starts it in a process group of its own, so that Ctrl-C does not reach it.
    ///
    /// # Errors
    /// This program cannot be started again.
    pub(crate) fn start() -> Result<Self, Fault> {
        let own = std::env::current_exe().doing("find the running executable")?;
        let mut command = Command::new(own);
        command.arg(ROLE).arg(std::process::id().to_string()).process_group(0).stdin(Stdio::piped());
        Ok(Self(command.spawn().doing("start the janitor")?))
    }

    /// The demo has cleaned up by itself: nothing is left to do.
    pub(crate) fn dismiss(mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The janitor's whole life: waits, then sweeps.
pub(crate) fn work(owner: &str) {
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    let Ok(owner) = owner.parse::<u32>() else { return };
    // Names of a run belong to nobody only when its process is gone, not merely its pipe.
    for _ in 0..250 {
        if !sweep::lives(owner) {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    sweep::sweep();
    let left = sweep::of_world(Path::new(sweep::BPFFS), &format!("ph{owner}x"));
    if left.is_empty() {
        println!("\nstopped; namespaces, programs and scratch files of the demo are removed");
    } else {
        println!("\nstopped, but process {owner} has not ended: the next run cleans up after it");
    }
}
