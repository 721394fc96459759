//! `cargo xtask fmt` and `cargo xtask lint`: the same checks that the tests begin with. The eBPF crate is a
//! workspace of its own and compiles only for its target, so it is formatted separately.

use std::process::Command;
use std::time::Duration;

use crate::{run, workspace};

/// Formats everything in place.
pub(crate) fn format() -> Result<(), String> {
    format_with(&[])
}

/// Fails where formatting would change something.
pub(crate) fn format_check() -> Result<(), String> {
    format_with(&["--check"])
}

fn format_with(extra: &[&str]) -> Result<(), String> {
    let mut host = cargo(&["fmt", "--all"]);
    run::run(host.args(extra)).map_err(|error| format!("{error}: run `cargo xtask fmt`"))?;
    let manifest = workspace::root().join("agent-ebpf/Cargo.toml");
    if !manifest.is_file() {
        return Ok(());
    }
    let mut kernel = cargo(&["fmt", "--manifest-path"]);
    run::run(kernel.arg(manifest).args(extra)).map_err(|error| format!("{error}: run `cargo xtask fmt`"))
}

/// Clippy over every target of the workspace; a warning is a failure.
pub(crate) fn lints(limit: Duration) -> Result<(), String> {
    let mut command = cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]);
    run::stream(&mut command, limit, |_| {}).map_err(|error| error.to_string())
}

fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.args(arguments).current_dir(workspace::root());
    command
}
