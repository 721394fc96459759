//! `cargo xtask setup`: brings what the build needs and changes nothing outside its own folder. Each piece is
//! looked for first, so that a second run only looks. Tools are kept per compiler: after a change of the
//! toolchain the next run brings the ones that fit and points `bin` and `rust-src` at them.

mod apt_scratch;
mod apt_sources;
mod core_source;
mod crates;
pub(crate) mod kubernetes;
mod linker;
pub(crate) mod programs;
pub(crate) mod python;

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use crate::toolchain::{Compiler, CompilerError};
use crate::workspace;

/// Why the build cannot be prepared; every variant says what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetupError {
    #[error(transparent)]
    Compiler(#[from] CompilerError),
    #[error("bpf-linker: {0}")]
    Linker(#[from] linker::LinkerError),
    #[error("the source of `core`: {0}")]
    CoreSource(#[from] core_source::CoreSourceError),
    #[error("{action} {path}: {source}")]
    Folder { action: &'static str, path: String, source: std::io::Error },
    #[error("the crates: {0}")]
    Crates(#[from] crates::CratesError),
    #[error("for the build is missing: {0}")]
    Programs(String),
}

/// Everything: programs that the machine must have, the linker, the source of `core`, all crates; then what only tests need.
pub(crate) fn run() -> Result<(), SetupError> {
    let compiler = Compiler::ask()?;
    let tools = workspace::tools();
    println!(
        "setup: for rustc {} with LLVM {}, in {}",
        compiler.release,
        compiler.llvm,
        workspace::shown(&tools)
    );
    programs::require_for_build().map_err(SetupError::Programs)?;
    bring(&compiler, &tools)?;
    crates::bring(&tools)?;
    programs::report_for_tests();
    if let Err(error) = python::bring(python::Packages::Tests) {
        println!("  not needed to build, but for all tests: {error}");
    }
    if let Err(error) = kubernetes::bring() {
        println!("  not needed to build, but for the Kubernetes tests: {error}");
    }
    println!("setup: ready. Next: cargo build, cargo xtask demo, cargo xtask test");
    Ok(())
}

/// Runs the set-up only where something is missing; silent otherwise.
pub(crate) fn ensure() -> Result<(), SetupError> {
    let compiler = Compiler::ask()?;
    let tools = workspace::tools();
    let ours = tools.join(compiler.key());
    let current =
        std::fs::read_link(tools.join("bin")).is_ok_and(|target| target.starts_with(compiler.key()));
    if current && linker::works(&ours) && core_source::is_there(&ours) {
        return Ok(());
    }
    run()
}

fn bring(compiler: &Compiler, tools: &Path) -> Result<(), SetupError> {
    let ours = tools.join(compiler.key());
    create_folder(&ours)?;
    let _only_one = lock(tools)?;
    linker::bring(compiler, &ours)?;
    core_source::bring(compiler, &ours)?;
    for name in ["bin", "rust-src"] {
        point(tools, name, &Path::new(&compiler.key()).join(name))?;
    }
    Ok(())
}

fn create_folder(path: &Path) -> Result<(), SetupError> {
    std::fs::create_dir_all(path).map_err(|source| SetupError::Folder {
        action: "cannot create the folder",
        path: path.display().to_string(),
        source,
    })
}

/// Two set-ups at once would write the same files: the second waits.
fn lock(tools: &Path) -> Result<File, SetupError> {
    let path = tools.join("lock");
    let fail =
        |source| SetupError::Folder { action: "cannot lock", path: path.display().to_string(), source };
    let file = File::create(&path).map_err(fail)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            println!("  waiting for another set-up that is under way");
            file.lock().map_err(fail)?;
            Ok(file)
        }
        Err(TryLockError::Error(source)) => Err(fail(source)),
    }
}

/// Makes `tools/name` a link to `target`, replacing the old link in one step.
fn point(tools: &Path, name: &str, target: &Path) -> Result<(), SetupError> {
    let link = tools.join(name);
    if std::fs::read_link(&link).is_ok_and(|now| now == target) {
        return Ok(());
    }
    let fresh: PathBuf = tools.join(format!("{name}.new"));
    let _ = std::fs::remove_file(&fresh);
    let replaced = std::os::unix::fs::symlink(target, &fresh).and_then(|()| std::fs::rename(&fresh, &link));
    replaced.map_err(|source| SetupError::Folder {
        action: "cannot point the link (if a real folder is in the way, remove it)",
        path: link.display().to_string(),
        source,
    })
}

/// FNV-1a over texts: names a folder by what it was made from, protects nothing.
fn fingerprint<'text>(texts: impl IntoIterator<Item = &'text [u8]>) -> u64 {
    let bytes = texts.into_iter().flat_map(|text| text.iter().copied().chain([0]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn a_changed_text_is_another_fingerprint() {
        let of = |texts: &[&str]| fingerprint(texts.iter().map(|text| text.as_bytes()));
        assert_ne!(of(&["a==1", "3.11"]), of(&["a==2", "3.11"]));
        assert_ne!(of(&["a==1", "3.11"]), of(&["a==1", "3.12"]));
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
    }
}
