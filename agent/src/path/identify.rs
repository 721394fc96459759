//! Stage `identify`: which pod this is, and which pod the other side is. Pure.

use std::{net::IpAddr, sync::Arc};

use crate::{
    snapshot::{LocalPod, Snapshot, SpiffeId, Workload},
    worker::PodHere,
};

/// The pod whose listener accepted; none when it left the snapshot a moment ago.
#[must_use]
pub fn local_pod<'snapshot>(
    snapshot: &'snapshot Snapshot,
    pod: &PodHere,
) -> Option<&'snapshot Arc<LocalPod>> {
    snapshot.local_pods.get(&pod.uid)
}

/// The pod at the caller's address. A tunnel's caller proved an identity: where the snapshot expects another one at that
/// address, the snapshot is behind, and the certificate is the truth.
#[must_use]
pub fn caller(snapshot: &Snapshot, address: IpAddr, proved: Option<&SpiffeId>) -> Option<Arc<Workload>> {
    let found = snapshot.workloads.get(&address.to_canonical())?;
    proved.is_none_or(|identity| *identity == found.identity).then(|| Arc::clone(found))
}

/// The pod's own address of the same family as `like`, for headers and records.
#[must_use]
pub fn own_address(pod: &LocalPod, like: IpAddr) -> Option<IpAddr> {
    pod.workload.addresses.iter().copied().find(|own| own.is_ipv4() == like.is_ipv4())
}
