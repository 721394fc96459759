//! Builds the static binary: glibc linked in, no symbols, no path of this machine.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use super::Facts;
use crate::{run, toolchain::Compiler, workspace};

/// Builds the workspace at `root` into the folder `target`; answers with the binary.
pub(super) fn build(root: &Path, target: &Path, facts: &Facts) -> Result<PathBuf, String> {
    let compiler = Compiler::ask().map_err(|error| error.to_string())?;
    let triple = &compiler.host;
    let maps = path_maps(root, target, &compiler);
    println!("building the static binary for {triple} (minutes, once)");
    let mut command = Command::new("cargo");
    command
        .args(["build", "--release", "--locked", "--package", "posthaste", "--bin", "posthaste"])
        .args(["--target", triple.as_str()])
        .current_dir(root)
        .env("CARGO_TARGET_DIR", target)
        .env("POSTHASTE_TOOLS", workspace::tools())
        .env("SOURCE_DATE_EPOCH", facts.epoch.to_string())
        .env("CARGO_ENCODED_RUSTFLAGS", rust_flags(&maps))
        // aws-lc is C: its assertions hold the names of its files.
        .env("CFLAGS", c_flags(&maps))
        .env("CARGO_PROFILE_RELEASE_DEBUG", "false")
        .env("CARGO_PROFILE_RELEASE_STRIP", "symbols")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
        .env("CARGO_INCREMENTAL", "0");
    run::run(&mut command).map_err(|error| error.to_string())?;
    Ok(target.join(triple).join("release/posthaste"))
}

/// (a folder of this machine, what stands for it in the binary). The last that fits wins, so the narrower come later.
fn path_maps(root: &Path, target: &Path, compiler: &Compiler) -> Vec<(String, &'static str)> {
    let shown = |path: &Path| path.display().to_string();
    let mut maps = vec![(shown(&compiler.sysroot), "/rust")];
    maps.extend(workspace::cargo_home().map(|home| (shown(&home), "/cargo")));
    maps.extend([(shown(root), "/posthaste"), (shown(target), "/target")]);
    maps
}

fn rust_flags(maps: &[(String, &str)]) -> String {
    let fixed = ["-Ctarget-feature=+crt-static".to_owned()];
    let mapped = maps.iter().map(|(from, to)| format!("--remap-path-prefix={from}={to}"));
    fixed.into_iter().chain(mapped).collect::<Vec<_>>().join("\u{1f}")
}

fn c_flags(maps: &[(String, &str)]) -> String {
    let mapped = maps.iter().map(|(from, to)| format!("-ffile-prefix-map={from}={to}"));
    mapped.collect::<Vec<_>>().join(" ")
}
