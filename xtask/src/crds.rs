//! `cargo xtask crds`: writes each document of `posthaste crds` to its file in `deploy/crds`. A test of the agent fails while one
//! of them is stale.

use std::process::Command;

use crate::{run, workspace};

/// Builds the agent and asks it.
pub(crate) fn run() -> Result<(), String> {
    let mut command = Command::new("cargo");
    command.args(["run", "--quiet", "--bin", "posthaste", "--", "crds"]).current_dir(workspace::root());
    let text = run::output(&mut command)?;
    let folder = workspace::root().join("deploy/crds");
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for document in text.split("---\n") {
        let path = folder.join(format!("{}.yaml", singular(document)?));
        std::fs::write(&path, document).map_err(|error| format!("{}: {error}", path.display()))?;
        println!("wrote {}", path.display());
    }
    Ok(())
}

/// The name of a definition in the singular, which names its file.
fn singular(document: &str) -> Result<&str, String> {
    let name = document.lines().find_map(|line| line.trim_start().strip_prefix("singular: "));
    name.ok_or_else(|| "a document of `posthaste crds` has no singular name".to_owned())
}
