//! `posthaste install [--dry-run]`: the mesh's own objects, printed for `kubectl apply`, or applied.

mod manifests;

pub use manifests::ManifestError;

use super::{
    connect::{ClusterError, client, refused},
    place::Place,
};
use crate::cli::{CliError, Options, Output};
use kube::{
    Api, Client,
    api::{DynamicObject, Patch, PatchParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::{Value, json};
use std::io::{self, Write};

/// Who owns the fields that are applied.
const MANAGER: &str = "posthaste";

/// What is installed.
#[derive(Clone, Debug, clap::Args)]
pub struct InstallArguments {
    /// Only print the objects, for `kubectl apply --server-side -f -`; asks no cluster
    #[arg(long)]
    pub dry_run: bool,
    /// Where you pushed the image that `cargo xtask image` wrote
    #[arg(long, value_name = "NAME:TAG", default_value = concat!("posthaste:", env!("CARGO_PKG_VERSION")))]
    pub image: String,
    /// A setting that differs, as POSTHASTE_MTLS=strict; may be given more than once
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = pair)]
    pub settings: Vec<(String, String)>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("`{text}` is not NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Prints or applies them.
///
/// # Errors
/// A setting that nothing reads; the cluster cannot be asked, or refuses an object, which is named.
pub fn run(options: &Options, arguments: &InstallArguments, out: &mut dyn Write) -> Result<(), CliError> {
    let objects = manifests::objects(&arguments.image, &arguments.settings).map_err(ClusterError::from)?;
    if arguments.dry_run {
        return Ok(print(options.output, &objects, out)?);
    }
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ClusterError::from)?;
    runtime.block_on(apply_all(&options.place, &objects, out))
}

fn print(output: Output, objects: &[Value], out: &mut dyn Write) -> io::Result<()> {
    if output == Output::Json {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        return writeln!(out, "{list:#}");
    }
    for object in objects {
        let text = serde_yaml_ng::to_string(object).map_err(io::Error::other)?;
        write!(out, "---\n{text}")?;
    }
    out.flush()
}

async fn apply_all(place: &Place, objects: &[Value], out: &mut dyn Write) -> Result<(), CliError> {
    let client = client(place).await?;
    for object in objects {
        let shown = apply(&client, object).await?;
        writeln!(out, "{shown} applied")?;
    }
    writeln!(out, "\nNext: posthaste --kubeconfig ... check, then posthaste enroll NAMESPACE --dry-run")?;
    Ok(())
}

/// Server-side apply of one object; how it is called.
async fn apply(client: &Client, object: &Value) -> Result<String, ClusterError> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (group, version) = text("/apiVersion").split_once('/').unwrap_or(("", text("/apiVersion")));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, text("/kind")));
    let api: Api<DynamicObject> = match text("/metadata/namespace") {
        "" => Api::all_with(client.clone(), &resource),
        namespace => Api::namespaced_with(client.clone(), namespace, &resource),
    };
    let shown = format!("{}/{}", text("/kind"), text("/metadata/name"));
    let applied =
        api.patch(text("/metadata/name"), &PatchParams::apply(MANAGER), &Patch::Apply(object)).await;
    applied.map(|_| shown.clone()).map_err(|error| refused(&format!("apply {shown}"), &error))
}
