//! Finds kubectl: the machine's own where it is new enough, else Debian's package of a newer suite, unpacked into our folder.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::setup::apt_scratch::{self, DownloadError, Part, Wanted};
use crate::{run, workspace};

/// `1.N`: server-side apply and validation at the server are in it.
const OLDEST_MINOR: u32 = 28;

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KubectlError {
    #[error(
        "the machine has none of version 1.{OLDEST_MINOR} or newer, and Debian's package was not had: {0}\n\
         What to do: put kubectl on PATH, then `cargo xtask setup` again"
    )]
    Download(#[from] DownloadError),
    #[error("{0}")]
    Link(String),
    #[error("cannot make the folder {0}: {1}")]
    Folder(String, std::io::Error),
    #[error("{0} does not run")]
    DoesNotRun(String),
}

/// Makes it `tools/kubectl/bin/kubectl` unless it is there.
pub(crate) fn bring(tools: &Path) -> Result<(), KubectlError> {
    let ours = tools.join("kubectl-1");
    let program = ours.join("bin/kubectl");
    if !works(&program) {
        let _ = std::fs::remove_dir_all(&ours);
        std::fs::create_dir_all(&ours)
            .map_err(|error| KubectlError::Folder(ours.display().to_string(), error))?;
        match workspace::find_program("kubectl").filter(|own| works(own)) {
            Some(own) => link(&own, &program)?,
            None => unpack(&ours)?,
        }
    }
    if !works(&program) {
        return Err(KubectlError::DoesNotRun(program.display().to_string()));
    }
    println!("  kubectl: there");
    crate::setup::point(tools, "kubectl", Path::new("kubectl-1"))
        .map_err(|error| KubectlError::Link(error.to_string()))
}

fn link(own: &Path, program: &Path) -> Result<(), KubectlError> {
    let folder = program.parent().unwrap_or(program);
    let linked = std::fs::create_dir_all(folder).and_then(|()| std::os::unix::fs::symlink(own, program));
    linked.map_err(|error| KubectlError::Folder(program.display().to_string(), error))
}

fn unpack(ours: &Path) -> Result<(), KubectlError> {
    println!("  kubectl: none on this machine, taking Debian's package");
    let fits = |version: &str| is_enough(apt_scratch::upstream(version));
    let wanted = Wanted { package: "kubectl", version: &format!("1.{OLDEST_MINOR} or newer"), fits: &fits };
    let part = Part { folder: "./usr/bin", strip: 3 };
    let version = apt_scratch::download(&wanted, &part, ours, &ours.join("bin"))?;
    println!("  kubectl: unpacked from kubectl {version}");
    Ok(())
}

fn works(program: &Path) -> bool {
    let answer = run::output(Command::new(program).args(["version", "--client", "--output", "json"]));
    let answer: Value = answer.ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    answer.pointer("/clientVersion/gitVersion").and_then(Value::as_str).is_some_and(is_enough)
}

/// `1.32.4` or `v1.32.4-dispatcher`.
fn is_enough(version: &str) -> bool {
    let mut numbers = version.trim_start_matches('v').split('.').map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(1)), Some(Ok(minor))) => minor >= OLDEST_MINOR,
        (Some(Ok(major)), _) => major > 1,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn an_old_kubectl_will_not_do() {
        for (version, enough) in [
            ("v1.32.4-dispatcher", true),
            ("1.36.4", true),
            ("1.20.5", false),
            ("v2.0.0", true),
            ("x", false),
        ] {
            assert_eq!(is_enough(version), enough, "{version}");
        }
    }
}
