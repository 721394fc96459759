//! What the pairs of other proxies have in common: where they listen, and certificates for mutual TLS 1.3 between them.

use crate::{
    Doing, Fault, World,
    certificates::{Files, Signer, Validity},
};
use std::{fs, path::PathBuf};

/// The near proxy, on the client's loopback address.
pub(super) const NEAR_PORT: u16 = 16001;
/// The far proxy, on the server's address.
pub(super) const FAR_PORT: u16 = 16008;

/// Files of both proxies.
pub(super) struct Certificates {
    pub(super) root: PathBuf,
    pub(super) near: Files,
    pub(super) far: Files,
}

/// Made by a root of their own.
pub(super) fn certificates(world: &World) -> Result<Certificates, Fault> {
    let signer = Signer::stranger()?;
    let root = world.folder().join("root.pem");
    fs::write(&root, signer.root()).doing("write the root")?;
    let issue = |name: &str| {
        signer.issue(&[&format!("spiffe://bench/{name}")], Validity::Now, &world.folder().join(name))
    };
    Ok(Certificates { near: issue("near")?, far: issue("far")?, root })
}
