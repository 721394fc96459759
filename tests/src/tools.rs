//! What `cargo xtask setup` brought into the tools folder: `POSTHASTE_TOOLS`, else `target/tools` of this workspace.

use crate::Fault;
use std::{
    env,
    path::{Path, PathBuf},
};

/// A program of one of the folders there, as `python/bin/uvicorn`.
///
/// # Errors
/// It is not installed.
pub fn program(folder: &str, name: &str) -> Result<String, Fault> {
    let path = root().join(folder).join("bin").join(name);
    if path.is_file() { Ok(path.display().to_string()) } else { Err(missing(&path)) }
}

/// One of the folders there.
///
/// # Errors
/// It is not there.
pub fn folder(name: &str) -> Result<PathBuf, Fault> {
    let path = root().join(name);
    if path.is_dir() { Ok(path) } else { Err(missing(&path)) }
}

fn root() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    match env::var_os("POSTHASTE_TOOLS") {
        Some(folder) if !folder.is_empty() => workspace.join(folder),
        _ => workspace.join("target/tools"),
    }
}

fn missing(path: &Path) -> Fault {
    Fault::new(format!("{} is not there; run `cargo xtask setup`", path.display()))
}
