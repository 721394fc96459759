//! Brings bpf-linker, built from its release on the registry against the LLVM that rustc itself ships, so that
//! no LLVM needs to be installed and both speak the same bitcode. Refuses a compiler without an LLVM library
//! of its own (a distribution's rustc), because bitcode of another version does not load.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::run::{RunError, run};
use crate::toolchain::Compiler;
use crate::workspace;

const VERSION: &str = "0.13.0";

/// Why there is no linker.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkerError {
    #[error(
        "{0} holds no libLLVM of rustc's own. Use the toolchain that rust-toolchain.toml names, from rustup: \
         a compiler packaged by a distribution lacks it"
    )]
    NoLlvm(String),
    #[error("cannot prepare {0}: {1}")]
    Folder(String, std::io::Error),
    #[error(
        "{0}. The build needs the crates registry and a C compiler; run `cargo xtask setup` again when they are there"
    )]
    Build(#[from] RunError),
    #[error("built, but `bpf-linker --version` does not run in {0}")]
    DoesNotRun(String),
}

/// Builds it into `ours/bin` unless one that runs is there.
pub(crate) fn bring(compiler: &Compiler, ours: &Path) -> Result<(), LinkerError> {
    if works(ours) {
        println!("  bpf-linker {VERSION}: there");
        return Ok(());
    }
    println!(
        "  bpf-linker {VERSION}: building against rustc's own LLVM {} (one or two minutes, once)",
        compiler.llvm
    );
    let begin = Instant::now();
    let prefix = link_llvm(compiler, ours)?;
    run(&mut install(compiler, ours, &prefix))?;
    let _ = std::fs::remove_dir_all(build_folder(ours));
    if !works(ours) {
        return Err(LinkerError::DoesNotRun(ours.display().to_string()));
    }
    println!("  bpf-linker {VERSION}: built in {} s", begin.elapsed().as_secs());
    Ok(())
}

/// Whether a linker of our version is there and starts, which it does only while the LLVM it was built with
/// is still in its place.
pub(crate) fn works(ours: &Path) -> bool {
    let asked = Command::new(ours.join("bin/bpf-linker")).arg("--version").output();
    asked
        .is_ok_and(|answer| String::from_utf8_lossy(&answer.stdout).trim() == format!("bpf-linker {VERSION}"))
}

/// A folder that looks like an installed LLVM to the build script of llvm-sys: `lib/libLLVM.so`.
fn link_llvm(compiler: &Compiler, ours: &Path) -> Result<PathBuf, LinkerError> {
    let lib = compiler.sysroot.join("lib");
    let library =
        find_llvm(&lib, compiler.llvm).ok_or_else(|| LinkerError::NoLlvm(lib.display().to_string()))?;
    let prefix = ours.join("llvm");
    let link = prefix.join("lib/libLLVM.so");
    let fail = |error| LinkerError::Folder(prefix.display().to_string(), error);
    std::fs::create_dir_all(prefix.join("lib")).map_err(fail)?;
    let _ = std::fs::remove_file(&link);
    std::os::unix::fs::symlink(library, link).map_err(fail)?;
    Ok(prefix)
}

fn find_llvm(lib: &Path, major: u32) -> Option<PathBuf> {
    let entries = std::fs::read_dir(lib).ok()?.flatten();
    let mut found: Vec<PathBuf> =
        entries.map(|entry| entry.path()).filter(|path| is_llvm(path, major)).collect();
    found.sort();
    found.pop()
}

/// The real library has the version behind `.so`; the file that has it before is a linker script.
fn is_llvm(path: &Path, major: u32) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.strip_prefix("libLLVM.so.")
        .and_then(|rest| rest.strip_prefix(&major.to_string()))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '-']))
}

fn build_folder(ours: &Path) -> PathBuf {
    ours.join("build")
}

fn install(compiler: &Compiler, ours: &Path, prefix: &Path) -> Command {
    let run_path = format!("-C link-arg=-Wl,-rpath,{}/lib", compiler.sysroot.display());
    let mut command = Command::new("cargo");
    command.current_dir(workspace::root());
    command.args(["install", "bpf-linker", "--locked", "--force", "--no-default-features"]);
    command.args(["--version", &format!("={VERSION}"), "--features", &format!("llvm-{}", compiler.llvm)]);
    command.arg("--root").arg(ours).arg("--target-dir").arg(build_folder(ours));
    // Cargo warns about a folder that is not on PATH; nobody calls this one by name.
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::iter::once(ours.join("bin")).chain(std::env::split_paths(&path));
    if let Ok(path) = std::env::join_paths(path) {
        command.env("PATH", path);
    }
    command.env("LLVM_PREFIX", prefix).env("RUSTFLAGS", run_path).env_remove("CARGO_ENCODED_RUSTFLAGS");
    command
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn takes_the_library_of_the_right_major_version_only() {
        assert!(is_llvm(Path::new("lib/libLLVM.so.22.1-rust-1.95.0-stable"), 22));
        assert!(!is_llvm(Path::new("lib/libLLVM.so.22.1-rust-1.95.0-stable"), 2));
        assert!(!is_llvm(Path::new("lib/libLLVM-22-rust-1.95.0-stable.so"), 22));
        assert!(!is_llvm(Path::new("lib/librustc_driver-1.so"), 22));
    }
}
