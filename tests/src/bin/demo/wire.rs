//! Proof that the wire carries ciphertext: every frame on the bridge between the nodes is searched for the payload
//! while calls go through the mesh; then the same search watches the same call outside the mesh and must find it,
//! so that "not found" means something.

use std::time::Duration;

use posthaste_tests::sniffer::Seen;
use posthaste_tests::{Fault, Site, Sniffer};

use crate::calls;
use crate::scene::{SECRET, Scene, direct_url};

/// Port of the tunnel.
const TUNNEL: u16 = 15008;

/// Starts to watch the bridge.
///
/// # Errors
/// A packet socket cannot be opened.
pub(crate) fn watch(scene: &Scene) -> Result<Sniffer, Fault> {
    Sniffer::start(scene.mesh.world.bridge(), &[SECRET])
}

/// What was seen, once frames that are still queued have been read.
pub(crate) fn settle(sniffer: &Sniffer) -> Seen {
    std::thread::sleep(Duration::from_millis(200));
    sniffer.seen()
}

/// How many packets with bytes went through the tunnel's port.
pub(crate) fn tunnelled(seen: &Seen) -> u64 {
    seen.ports.get(&TUNNEL).copied().unwrap_or_default()
}

/// The same search over one plaintext call between two sites that the mesh does not know.
///
/// # Errors
/// The call itself did not work.
pub(crate) fn plaintext_hits(scene: &mut Scene, client: &Site, server: &Site) -> Result<u64, Fault> {
    scene.start_outside(server)?;
    let sniffer = watch(scene)?;
    calls::get(client, &direct_url(server))?;
    Ok(settle(&sniffer).hits.iter().sum())
}
