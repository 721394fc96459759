//! `cargo xtask crds`: writes `deploy/crds/trafficpolicy.yaml` with what `posthaste crds` says. A test of the agent fails while
//! the file is stale.

use std::process::Command;

use crate::{run, workspace};

/// Builds the agent and asks it.
pub(crate) fn run() -> Result<(), String> {
    let mut command = Command::new("cargo");
    command.args(["run", "--quiet", "--bin", "posthaste", "--", "crds"]).current_dir(workspace::root());
    let text = run::output(&mut command)?;
    let folder = workspace::root().join("deploy/crds");
    let path = folder.join("trafficpolicy.yaml");
    std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::write(&path, text))
        .map_err(|error| format!("{}: {error}", path.display()))?;
    println!("wrote {}", path.display());
    Ok(())
}
