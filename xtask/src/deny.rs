//! `cargo xtask deny`: licences, banned crates and sources of every dependency, with cargo-deny kept in the tools
//! folder. The advisory database lives in a repository of its own that cannot always be reached, so it is asked
//! only with `--advisories`.

use std::path::PathBuf;
use std::process::Command;

use crate::{run, workspace};

const VERSION: &str = "0.20.2";

/// Brings cargo-deny if it is not there, then checks.
pub(crate) fn run(advisories: bool) -> Result<(), String> {
    let program = bring()?;
    let mut command = Command::new(program);
    command.args(["check", "licenses", "bans", "sources"]).current_dir(workspace::root());
    if advisories {
        command.arg("advisories");
    }
    run::run(&mut command).map_err(|error| error.to_string())
}

fn bring() -> Result<PathBuf, String> {
    let folder = workspace::tools().join(format!("cargo-deny-{VERSION}"));
    let program = folder.join("bin/cargo-deny");
    if program.is_file() {
        return Ok(program);
    }
    println!("cargo-deny {VERSION}: building (some minutes, once)");
    let mut command = Command::new("cargo");
    command.args(["install", "cargo-deny", "--locked", "--no-default-features"]);
    command.args(["--version", &format!("={VERSION}"), "--root"]).arg(&folder);
    command.arg("--target-dir").arg(folder.join("build")).current_dir(workspace::root());
    run::run(&mut command).map_err(|error| error.to_string())?;
    let _ = std::fs::remove_dir_all(folder.join("build"));
    Ok(program)
}
