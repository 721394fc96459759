//! Builds `tests/apiserver` once for each state of its sources and each Go: another state is another folder, and a link with
//! a stable name points at the newest.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::go::Go;
use crate::{run, workspace};

/// Why it is not built.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiServerError {
    #[error("cannot read or write {path}: {source}")]
    Folder { path: String, source: std::io::Error },
    #[error(
        "{0}\nWhat to do: make the Go module proxy reachable (GOPROXY decides which), then `cargo xtask setup` again"
    )]
    Build(String),
    #[error("{0}")]
    Link(String),
}

/// Builds it into `tools/apiserver/bin` unless it is there.
pub(crate) fn bring(go: &Go, tools: &Path) -> Result<(), ApiServerError> {
    let folder = workspace::root().join("tests/apiserver");
    let name = format!("apiserver-{:016x}", fingerprint(&folder, go)?);
    let program = tools.join(&name).join("bin/apiserver");
    if program.is_file() {
        println!("  API server of the tests: there");
    } else {
        println!("  API server of the tests: building with {} (two to five minutes, once)", go.version);
        let begin = Instant::now();
        let fresh = program.with_extension("new");
        let mut build = go.command(&["build", "-trimpath", "-ldflags=-s -w", "-o"]);
        run::output(build.arg(&fresh).arg(".").current_dir(&folder)).map_err(ApiServerError::Build)?;
        std::fs::rename(&fresh, &program).map_err(|source| fault(&program, source))?;
        println!("  API server of the tests: built in {} s", begin.elapsed().as_secs());
    }
    crate::setup::point(tools, "apiserver", Path::new(&name))
        .map_err(|error| ApiServerError::Link(error.to_string()))
}

/// Of all its sources and the Go that compiles them.
fn fingerprint(folder: &Path, go: &Go) -> Result<u64, ApiServerError> {
    let entries = std::fs::read_dir(folder).map_err(|source| fault(folder, source))?;
    let mut sources: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(|path| is_source(path)).collect();
    sources.sort();
    let mut texts = vec![go.version.clone().into_bytes()];
    for path in sources {
        texts.push(std::fs::read(&path).map_err(|source| fault(&path, source))?);
    }
    Ok(crate::setup::fingerprint(texts.iter().map(Vec::as_slice)))
}

/// What the compiler reads: Go, the module files, and what is embedded.
fn is_source(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("go" | "mod" | "sum" | "yaml"))
}

fn fault(path: &Path, source: std::io::Error) -> ApiServerError {
    ApiServerError::Folder { path: path.display().to_string(), source }
}
