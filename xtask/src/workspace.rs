//! Where things lie: the root of the repository, the folder of the tools that `setup` brings, build results.
//! The only file of xtask that reads the environment for paths.

use std::path::{Path, PathBuf};

/// The root of the repository (absolute).
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// The folder that `setup` fills: `POSTHASTE_TOOLS`, else `target/tools` under the root.
/// The agent's build script looks in the same place for `bin/bpf-linker` and `rust-src/library`.
pub(crate) fn tools() -> PathBuf {
    match std::env::var_os("POSTHASTE_TOOLS") {
        Some(folder) if !folder.is_empty() => root().join(folder),
        _ => root().join("target/tools"),
    }
}

/// The folder of cargo's build results: `CARGO_TARGET_DIR`, else `target` under the root.
pub(crate) fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) if !folder.is_empty() => root().join(folder),
        _ => root().join("target"),
    }
}

/// Where cargo keeps the sources of crates: `CARGO_HOME`, else `.cargo` in the user's home.
pub(crate) fn cargo_home() -> Option<PathBuf> {
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo"));
    std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(home)
}

/// The time of a reproducible build, where the caller sets it (reproducible-builds.org, `SOURCE_DATE_EPOCH`).
pub(crate) fn source_date_epoch() -> Option<String> {
    std::env::var("SOURCE_DATE_EPOCH").ok().filter(|text| !text.is_empty())
}

/// A path as a person would write it: relative to the root where it lies inside.
pub(crate) fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// Whether a program of this name is found on `PATH` or in the system folders that a user's `PATH` may lack.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).map(|folder| folder.join(name)).find(|file| file.is_file())
}
