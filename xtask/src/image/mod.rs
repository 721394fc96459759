//! `cargo xtask image`: an OCI image of the static binary and its bill of materials, built by ourselves, without a container
//! engine. The same source gives the same bytes: times come from the last commit, paths are mapped away.

mod binary;
mod layer;
mod layout;
mod sbom;
mod verify;

use std::path::{Path, PathBuf};

use crate::{run, setup, workspace};

/// What to build.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Folder for the image and its bill of materials; target/image unless given
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Also prove it: digests, the binary alone in its root, and a second build from another folder with the same bytes
    #[arg(long)]
    verify: bool,
}

/// What is in an image beside the binary.
#[derive(Debug, Clone)]
struct Facts {
    version: String,
    /// The commit that it is built from.
    revision: String,
    /// When that was committed, seconds since the Unix epoch.
    epoch: u64,
}

/// Builds; with `verify` proves as well.
pub(crate) fn run(arguments: &Arguments) -> Result<(), String> {
    setup::ensure().map_err(|error| error.to_string())?;
    let output = arguments.output.clone().unwrap_or_else(|| workspace::target().join("image"));
    let facts = facts()?;
    let binary = binary::build(&workspace::root(), &workspace::target(), &facts)?;
    let image = write(&binary, &output, &facts)?;
    if arguments.verify {
        verify::verify(&image, &facts)?;
    }
    Ok(())
}

/// The image file.
fn image_path(folder: &Path, facts: &Facts) -> PathBuf {
    folder.join(format!("posthaste-{}.oci.tar", facts.version))
}

/// Writes image and bill of materials; answers with the image.
fn write(binary: &Path, folder: &Path, facts: &Facts) -> Result<PathBuf, String> {
    let program = std::fs::read(binary).map_err(|error| format!("{}: {error}", binary.display()))?;
    let layer = layer::write(&program, facts.epoch).map_err(|error| format!("the layer: {error}"))?;
    let image = layout::write(&layer, facts).map_err(|error| format!("the image: {error}"))?;
    let materials = sbom::gather(&program, facts)?;
    std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let path = image_path(folder, facts);
    let beside = folder.join(format!("posthaste-{}.cdx.json", facts.version));
    for (path, content) in [(&path, &image), (&beside, &materials)] {
        std::fs::write(path, content).map_err(|error| format!("{}: {error}", path.display()))?;
        println!("wrote {} ({} KiB)", workspace::shown(path), content.len() / 1024);
    }
    Ok(path)
}

fn facts() -> Result<Facts, String> {
    let git = |arguments: &[&str]| {
        let mut command = std::process::Command::new("git");
        command.args(arguments).current_dir(workspace::root());
        run::output(&mut command).map(|text| text.trim().to_owned())
    };
    let epoch = match workspace::source_date_epoch() {
        Some(text) => text,
        None => git(&["log", "-1", "--format=%ct"])?,
    };
    let epoch = epoch.parse().map_err(|_| format!("SOURCE_DATE_EPOCH: `{epoch}` is no number of seconds"))?;
    let mut revision = git(&["rev-parse", "HEAD"])?;
    if !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty() {
        revision.push_str("-modified");
    }
    Ok(Facts { version: env!("CARGO_PKG_VERSION").to_owned(), revision, epoch })
}
