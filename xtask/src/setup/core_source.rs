//! Brings the source of `core` of exactly the compiler in use, which the eBPF target is compiled from: the
//! toolchain's own `rust-src` where it is there, else Debian's package of the same version, unpacked into our
//! folder. Never adds anything to the user's toolchain. Refuses a source of another version: it would not compile.

use std::path::Path;

use super::apt_scratch::{self, DownloadError};
use crate::toolchain::Compiler;

/// Why the source is not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CoreSourceError {
    #[error("cannot write {0}: {1}")]
    Folder(String, std::io::Error),
    #[error(
        "the toolchain has no rust-src and Debian's package of rustc {release} was not had:\n{reason}\n\
         What to do: `rustup component add rust-src` (it changes your toolchain, so it is yours to decide), \
         then `cargo xtask setup` again"
    )]
    NotFound { release: String, reason: DownloadError },
}

/// Links or unpacks it as `ours/rust-src/library` unless it is there.
pub(crate) fn bring(compiler: &Compiler, ours: &Path) -> Result<(), CoreSourceError> {
    if is_there(ours) {
        println!("  source of core {}: there", compiler.release);
        return Ok(());
    }
    let folder = ours.join("rust-src");
    let _ = std::fs::remove_dir_all(&folder);
    let own = compiler.sysroot.join("lib/rustlib/src/rust/library");
    if holds_core(&own) {
        link(&own, &folder).map_err(|error| CoreSourceError::Folder(folder.display().to_string(), error))?;
        println!("  source of core {}: the toolchain's own", compiler.release);
        return Ok(());
    }
    println!(
        "  source of core {}: not in the toolchain, taking Debian's package rust-src (45 MB)",
        compiler.release
    );
    let version = apt_scratch::download_rust_src(&compiler.release, ours)
        .map_err(|reason| CoreSourceError::NotFound { release: compiler.release.clone(), reason })?;
    println!("  source of core {}: unpacked from rust-src {version}", compiler.release);
    Ok(())
}

/// Whether the source is in its place.
pub(crate) fn is_there(ours: &Path) -> bool {
    holds_core(&ours.join("rust-src/library"))
}

fn holds_core(library: &Path) -> bool {
    library.join("core/src/lib.rs").is_file() && library.join("Cargo.lock").is_file()
}

fn link(library: &Path, folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    std::os::unix::fs::symlink(library, folder.join("library"))
}
