//! Proves an image: its digests hold, the binary needs nothing but itself and does its work in the image's root, and the same
//! source in another folder gives the same bytes.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use super::{Facts, binary, image_path, layer::PROGRAM, layout, write};
use crate::{
    run::{self, as_root, is_root},
    workspace,
};

/// All proofs; prints each.
pub(super) fn verify(image: &Path, facts: &Facts) -> Result<(), String> {
    let scratch = workspace::target().join("image/verify");
    let _ = std::fs::remove_dir_all(&scratch);
    let root = scratch.join("root");
    unpack(image, &root)?;
    println!("ok     every digest and size of the image holds");
    if !is_root() {
        println!("the next two proofs run through sudo, because they change their root folder");
    }
    let said = run::output(as_root("chroot").arg(&root).arg(format!("/{PROGRAM}")).arg("--version"))?;
    if said.trim() != format!("posthaste {}", facts.version) {
        return Err(format!("in the image's root, `posthaste --version` says {said}"));
    }
    println!("ok     {} in a root with nothing else", said.trim());
    check(&root)?;
    println!("ok     posthaste check in that root, with /proc and /sys of this machine");
    again(image, &scratch, facts)?;
    println!("ok     the same bytes from another folder");
    std::fs::remove_dir_all(&scratch).map_err(|error| format!("{}: {error}", scratch.display()))
}

fn unpack(image: &Path, root: &Path) -> Result<(), String> {
    let content = std::fs::read(image).map_err(|error| format!("{}: {error}", image.display()))?;
    let (config, layers) = layout::read(&content)?;
    let entry = config.pointer("/config/Entrypoint/0").and_then(serde_json::Value::as_str);
    if entry != Some(&format!("/{PROGRAM}")) {
        return Err(format!("the image starts {entry:?} instead of /{PROGRAM}"));
    }
    for layer in layers {
        tar::Archive::new(layer.as_slice()).unpack(root).map_err(|error| format!("a layer: {error}"))?;
    }
    Ok(())
}

/// Like a container: the kernel's file systems are bound into the root, in a mount namespace of its own.
fn check(root: &Path) -> Result<(), String> {
    const SCRIPT: &str = "mkdir -p \"$0/proc\" \"$0/sys\" && mount --rbind /proc \"$0/proc\" && \
        mount --rbind /sys \"$0/sys\" && exec chroot \"$0\" /usr/local/bin/posthaste check";
    let mut command = as_root("unshare");
    command.args(["--mount", "sh", "-c", SCRIPT]).arg(root);
    let said = run::output(&mut command)?;
    if said.contains("the capture programs") { Ok(()) } else { Err(format!("`posthaste check` says {said}")) }
}

/// Builds a copy of the source under another name and compares.
fn again(image: &Path, scratch: &Path, facts: &Facts) -> Result<(), String> {
    let source = scratch.join("a-copy-of-the-source");
    copy_source(&source)?;
    let binary = binary::build(&source, &scratch.join("a-second-target"), facts)?;
    let folder = scratch.join("second");
    write(&binary, &folder, facts)?;
    let read = |path: &PathBuf| std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
    let (one, two) = (read(&image.to_path_buf())?, read(&image_path(&folder, facts))?);
    if one == two {
        return Ok(());
    }
    let at = one.iter().zip(&two).position(|(one, two)| one != two);
    Err(format!("the second build differs ({} and {} bytes, first at {at:?})", one.len(), two.len()))
}

fn copy_source(to: &Path) -> Result<(), String> {
    let mut command = Command::new("git");
    command.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let listed = run::output(command.current_dir(workspace::root()))?;
    for path in listed.split('\0').filter(|path| !path.is_empty()) {
        let (from, to) = (workspace::root().join(path), to.join(path));
        if !from.is_file() {
            continue;
        }
        let copied =
            to.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::copy(&from, &to));
        copied.map_err(|error| format!("{path}: {error}"))?;
    }
    Ok(())
}
