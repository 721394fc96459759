//! Brings the Gateway API's CRDs, both channels, out of its Go module: pinned by version and by the module's checksum.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::go::Go;
use crate::run;

/// The release whose CRDs are tested with.
const VERSION: &str = "v1.6.3";
/// What the Go checksum database says of it.
const SUM: &str = "h1:lKpJa5bGlraC/QeACvCpsHLdmO6y0iKfzVl6gzaFEYc=";

/// Why they are not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GatewayApiError {
    #[error(
        "{0}\nWhat to do: make the Go module proxy reachable (GOPROXY decides which), then `cargo xtask setup` again"
    )]
    Download(String),
    #[error("the module is not what was pinned: its checksum is {found}, not {SUM}")]
    Other { found: String },
    #[error("cannot copy to {path}: {source}")]
    Folder { path: String, source: std::io::Error },
    #[error("{0}")]
    Link(String),
}

/// The bundle of the standard channel; the experimental one has its own beside its CRDs.
const BUNDLE: &str = "kustomization.yaml";

/// Copies them to `tools/gateway-api/{standard,experimental}` unless they are there; `tools/gateway-api` itself is the bundle of
/// the standard channel.
pub(crate) fn bring(go: &Go, tools: &Path) -> Result<(), GatewayApiError> {
    let name = format!("gateway-api-{VERSION}");
    let folder = tools.join(&name);
    if !folder.join(BUNDLE).is_file() {
        copy(&download(go, tools)?, &folder)?;
    }
    println!("  CRDs of the Gateway API {VERSION}: there");
    crate::setup::point(tools, "gateway-api", Path::new(&name))
        .map_err(|error| GatewayApiError::Link(error.to_string()))
}

/// The folder of the module in Go's own cache.
fn download(go: &Go, tools: &Path) -> Result<PathBuf, GatewayApiError> {
    // Away from any module file, else the download would be one of that module's.
    let mut command =
        go.command(&["mod", "download", "-json", &format!("sigs.k8s.io/gateway-api@{VERSION}")]);
    command.current_dir(tools).env_remove("GOFLAGS");
    let answer = run::output(&mut command).map_err(GatewayApiError::Download)?;
    let answer: Value =
        serde_json::from_str(&answer).map_err(|error| GatewayApiError::Download(error.to_string()))?;
    let text = |field: &str| answer.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    match text("Sum") {
        sum if sum == SUM => Ok(Path::new(&text("Dir")).join("config/crd")),
        found => Err(GatewayApiError::Other { found }),
    }
}

/// Two channels and their bundles; put in place in one step.
fn copy(from: &Path, to: &Path) -> Result<(), GatewayApiError> {
    let fail = |source| GatewayApiError::Folder { path: to.display().to_string(), source };
    let fresh = to.with_extension("new");
    let _ = std::fs::remove_dir_all(&fresh);
    // Read and written, not copied: files of the module cache are read-only.
    let file = |name: &Path| {
        let text = std::fs::read(from.join(name)).map_err(fail)?;
        std::fs::write(fresh.join(name), text).map_err(fail)
    };
    for channel in ["standard", "experimental"] {
        std::fs::create_dir_all(fresh.join(channel)).map_err(fail)?;
        for entry in std::fs::read_dir(from.join(channel)).map_err(fail)? {
            file(&Path::new(channel).join(entry.map_err(fail)?.file_name()))?;
        }
    }
    file(Path::new(BUNDLE))?;
    // What an interrupted set-up or an older one left.
    let _ = std::fs::remove_dir_all(to);
    std::fs::rename(&fresh, to).map_err(fail)
}
