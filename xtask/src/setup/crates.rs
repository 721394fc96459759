//! Downloads every crate that the builds need, so that they work without a network afterwards: those of the
//! workspace, those of the eBPF programs, and the few that `core` itself names in the lock file of its own source.
//! Lock files decide the versions and are never changed here.

use std::path::Path;
use std::process::Command;

use crate::{run, workspace};

/// Why crates are missing.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0}\nWhat to do: make the crates registry reachable (cargo's own configuration decides which), then `cargo xtask setup` again"
)]
pub(crate) struct CratesError(String);

/// Only looks where everything has been downloaded already.
pub(crate) fn bring(tools: &Path) -> Result<(), CratesError> {
    for fetch in [&mut host(), &mut kernel(tools)] {
        run::output(fetch).map_err(CratesError)?;
    }
    println!("  crates: there");
    Ok(())
}

fn host() -> Command {
    let mut command = Command::new("cargo");
    command.args(["fetch", "--locked", "--quiet"]).current_dir(workspace::root());
    command
}

/// The same folder, target and variables as in the agent's build script, so that the same crates are meant.
fn kernel(tools: &Path) -> Command {
    let mut command = Command::new("cargo");
    command
        .args(["fetch", "--locked", "--quiet", "--target", "bpfel-unknown-none", "-Zbuild-std=core"])
        .current_dir(workspace::root().join("agent-ebpf"))
        .env("RUSTC_BOOTSTRAP", "1")
        .env("__CARGO_TESTS_ONLY_SRC_ROOT", tools.join("rust-src/library"));
    command
}
