//! An OCI image layout in a tar (opencontainers image-spec 1.1, `image-layout.md`): one manifest, one configuration, one layer.
//! Reading it back checks every digest and size. Pure.

use std::{
    collections::BTreeMap,
    io::{self, Read},
};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Archive, Builder, EntryType};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    Facts,
    layer::{self, Layer, PROGRAM},
};

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// The `sha256:` digest of a content.
pub(super) fn digest(content: &[u8]) -> String {
    let hash = Sha256::digest(content);
    let hexadecimal: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hexadecimal}")
}

fn blob_path(digest: &str) -> String {
    format!("blobs/{}", digest.replacen(':', "/", 1))
}

/// The names of Go for this architecture.
fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

/// Packs the image.
pub(super) fn write(layer: &Layer, facts: &Facts) -> io::Result<Vec<u8>> {
    let config = config(&layer.diff_id, facts).to_string().into_bytes();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(CONFIG, &config),
        "layers": [descriptor(LAYER, &layer.content)],
        "annotations": annotations(facts),
    });
    let manifest = manifest.to_string().into_bytes();
    let mut entry = descriptor(MANIFEST, &manifest);
    if let Some(entry) = entry.as_object_mut() {
        entry.insert("platform".to_owned(), json!({"architecture": architecture(), "os": "linux"}));
        let name = json!({"org.opencontainers.image.ref.name": facts.version});
        entry.insert("annotations".to_owned(), name);
    }
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [entry],
    });
    let files = [
        ("oci-layout".to_owned(), json!({"imageLayoutVersion": "1.0.0"}).to_string().into_bytes()),
        ("index.json".to_owned(), index.to_string().into_bytes()),
        (blob_path(&digest(&manifest)), manifest),
        (blob_path(&digest(&config)), config),
        (blob_path(&digest(&layer.content)), layer.content.clone()),
    ];
    pack(&files, facts.epoch)
}

fn pack(files: &[(String, Vec<u8>)], epoch: u64) -> io::Result<Vec<u8>> {
    let mut archive = Builder::new(Vec::new());
    for folder in ["blobs/", "blobs/sha256/"] {
        archive.append(&layer::header(folder, EntryType::Directory, 0o755, 0, epoch)?, io::empty())?;
    }
    for (path, content) in files {
        let header = layer::header(path, EntryType::Regular, 0o644, content.len(), epoch)?;
        archive.append(&header, content.as_slice())?;
    }
    archive.into_inner()
}

fn descriptor(media_type: &str, content: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(content), "size": content.len()})
}

fn annotations(facts: &Facts) -> Value {
    json!({
        "org.opencontainers.image.title": "posthaste",
        "org.opencontainers.image.description": "A service mesh without sidecars: one agent per node, eBPF capture, mutual TLS",
        "org.opencontainers.image.licenses": env!("CARGO_PKG_LICENSE"),
        "org.opencontainers.image.version": facts.version,
        "org.opencontainers.image.revision": facts.revision,
        "org.opencontainers.image.created": date(facts.epoch),
    })
}

fn config(diff_id: &str, facts: &Facts) -> Value {
    json!({
        "created": date(facts.epoch),
        "architecture": architecture(),
        "os": "linux",
        "config": {
            "Entrypoint": [format!("/{PROGRAM}")],
            "Env": ["PATH=/usr/local/bin"],
            "WorkingDir": "/",
            "Labels": annotations(facts),
        },
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        "history": [{"created": date(facts.epoch), "created_by": "cargo xtask image"}],
    })
}

/// RFC 3339 in UTC.
pub(super) fn date(epoch: u64) -> String {
    let date = i64::try_from(epoch).ok().and_then(|epoch| OffsetDateTime::from_unix_timestamp(epoch).ok());
    date.and_then(|date| date.format(&Rfc3339).ok()).unwrap_or_default()
}

/// The layers of an image, each uncompressed, and its configuration. Refuses what does not hold together.
pub(super) fn read(image: &[u8]) -> Result<(Value, Vec<Vec<u8>>), String> {
    let files = unpack(image).map_err(|error| format!("the image is no tar: {error}"))?;
    let index = document(files.get("index.json").ok_or("the image has no index.json")?)?;
    let entries = index.get("manifests").and_then(Value::as_array).ok_or("index.json names no manifests")?;
    let [entry] = entries.as_slice() else {
        return Err(format!("{} manifests instead of one", entries.len()));
    };
    let manifest = document(blob(&files, entry)?)?;
    let config = document(blob(&files, manifest.get("config").ok_or("the manifest has no config")?)?)?;
    let layers = manifest.get("layers").and_then(Value::as_array).ok_or("the manifest has no layers")?;
    let named = config.pointer("/rootfs/diff_ids").and_then(Value::as_array).ok_or("no diff_ids")?;
    if layers.len() != named.len() {
        return Err(format!("{} layers, but {} diff_ids", layers.len(), named.len()));
    }
    let mut contents = Vec::new();
    for (layer, diff_id) in layers.iter().zip(named) {
        let mut tar = Vec::new();
        let mut decoder = flate2::read::GzDecoder::new(blob(&files, layer)?.as_slice());
        decoder.read_to_end(&mut tar).map_err(|error| format!("a layer: {error}"))?;
        if Some(digest(&tar).as_str()) != diff_id.as_str() {
            return Err(format!("a layer has the digest {}, its diff_id says {diff_id}", digest(&tar)));
        }
        contents.push(tar);
    }
    Ok((config, contents))
}

fn unpack(image: &[u8]) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for entry in Archive::new(image).entries()? {
        let mut entry = entry?;
        let mut content = Vec::new();
        entry.read_to_end(&mut content)?;
        files.insert(entry.path()?.display().to_string(), content);
    }
    Ok(files)
}

/// What a descriptor names, if digest and size are what it says.
fn blob<'files>(
    files: &'files BTreeMap<String, Vec<u8>>,
    descriptor: &Value,
) -> Result<&'files Vec<u8>, String> {
    let named = descriptor.get("digest").and_then(Value::as_str).ok_or("a descriptor has no digest")?;
    let content = files.get(&blob_path(named)).ok_or_else(|| format!("the blob {named} is missing"))?;
    if digest(content) != named {
        return Err(format!("the blob {named} has the digest {}", digest(content)));
    }
    match descriptor.get("size").and_then(Value::as_u64) {
        Some(size) if size == content.len() as u64 => Ok(content),
        size => Err(format!("the blob {named} has {} bytes, its descriptor says {size:?}", content.len())),
    }
}

fn document(content: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(content).map_err(|error| format!("a document of the image: {error}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn facts() -> Facts {
        Facts { version: "1.2.3".to_owned(), revision: "abc".to_owned(), epoch: 1_700_000_000 }
    }

    fn image() -> Vec<u8> {
        write(&layer::write(b"program", facts().epoch).unwrap(), &facts()).unwrap()
    }

    #[test]
    fn what_is_written_is_read_back_and_always_the_same() {
        let (config, layers) = read(&image()).unwrap();
        assert_eq!(config["config"]["Entrypoint"][0], "/usr/local/bin/posthaste");
        assert_eq!(config["created"], "2023-11-14T22:13:20Z");
        assert_eq!(layers.len(), 1);
        assert_eq!(image(), image());
    }

    #[test]
    fn a_changed_byte_is_found() {
        let sound = image();
        let text = b"\"created_by\"";
        let at = sound.windows(text.len()).position(|window| window == text).unwrap();
        let mut broken = sound.clone();
        broken[at + 1] = b'C';
        assert!(read(&broken).unwrap_err().contains("has the digest"));
        assert!(read(&sound[..sound.len() / 2]).is_err());
        assert!(read(b"").is_err());
    }
}
