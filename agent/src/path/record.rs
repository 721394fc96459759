//! Stage `record`: what a connection tells about itself, from its arrival on.

use std::{net::SocketAddr, sync::Arc};

use super::{arrival::Arrival, identify, relay::Count, route::Target};
use crate::{
    observe::{Connection, Direction, Opening, Security, Stage, monotonic_ns},
    snapshot::{LocalPod, Snapshot},
    tunnel::Incoming,
    worker::Worker,
};

/// Opens the record of an arrival.
pub fn open<I: Incoming>(
    worker: &Worker,
    here: &LocalPod,
    arrival: &Arrival<I>,
    snapshot: &Snapshot,
    arrived_ns: u64,
) -> Connection {
    let client = arrival.client();
    let opening = |id, client| Opening {
        id,
        direction: arrival.direction(),
        client,
        pod: Arc::clone(&here.workload),
        captured_ns: arrived_ns,
    };
    match arrival {
        Arrival::Captured { .. } => {
            let address = identify::own_address(here, client.ip()).unwrap_or(client.ip());
            worker.open(opening(fastrand::u64(..), SocketAddr::new(address, client.port())))
        }
        Arrival::Plaintext { .. } => {
            let record = worker.open(opening(fastrand::u64(..), client));
            record.peer(identify::caller(snapshot, client.ip(), None), None);
            record
        }
        Arrival::Tunnelled { request, peer, .. } => {
            // The caller's agent chose the id, so that both records can be joined.
            let id = request.head().connection.map_or_else(|| fastrand::u64(..), |id| id.0);
            let record = worker.open(opening(id, client));
            record.peer(identify::caller(snapshot, client.ip(), Some(peer)), Some(peer.clone()));
            record.security(Security::MutualTls);
            record
        }
    }
}

/// Notes what the route said.
pub fn note(record: &Connection, target: &Target<'_>) {
    record.stage(Stage::Routed);
    match target {
        Target::Service(port) => record.service(*port),
        Target::Pod(workload, address) => {
            record.peer(Some(Arc::clone(workload)), None);
            record.endpoint(*address);
        }
        Target::Outside(address) | Target::Application { address, .. } => record.endpoint(*address),
    }
}

/// Counts bytes of a relay in Istio's sense: `sent` is from the server to the client.
pub struct Bytes<'record> {
    /// The record.
    pub record: &'record Connection,
    /// Whether the relay's near socket leads to the client (else to the server).
    pub near_is_client: bool,
}

impl Count for Bytes<'_> {
    fn towards_far(&self, bytes: usize) {
        let bytes = bytes as u64;
        if self.near_is_client { self.record.received(bytes) } else { self.record.sent(bytes) }
    }

    fn towards_near(&self, bytes: usize) {
        let bytes = bytes as u64;
        if self.near_is_client { self.record.sent(bytes) } else { self.record.received(bytes) }
    }
}

/// Who is `client` of a direction; for records of tunnels that never carried anything.
#[must_use]
pub fn inbound_opening(here: &LocalPod, client: SocketAddr) -> Opening {
    Opening {
        id: fastrand::u64(..),
        direction: Direction::Inbound,
        client,
        pod: Arc::clone(&here.workload),
        captured_ns: monotonic_ns(),
    }
}
