//! Pods of other nodes as the EndpointSlices of enrolled namespaces name them: enough to know that an address is a pod's of the mesh, and
//! whose, though nobody has said yet who that pod is. Pure.
//!
//! A node that reads only its own pods needs it: an address in here that is no known workload is not outside the mesh, so it gets no
//! plaintext before its pod is known.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use super::{Map, input::EndpointSlice};

/// Who a pod is to the API server.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodKey {
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Box<str>,
    /// Uid; empty where the slice does not say it.
    pub uid: Box<str>,
}

/// See the head of this file.
#[derive(Clone, Debug, Default)]
pub struct Elsewhere {
    /// By namespace, so that what did not change is shared from one snapshot to the next.
    pub(super) namespaces: HashMap<Arc<str>, Arc<OfNamespace>>,
}

/// The slices of one namespace.
#[derive(Debug)]
pub(super) struct OfNamespace {
    /// As the source has them.
    pub(super) slices: Vec<Arc<EndpointSlice>>,
    /// Addresses of their pods, one that is in two slices twice.
    pub(super) addresses: usize,
    /// Slice and endpoint by address.
    pub(super) places: Map<IpAddr, (u32, u32)>,
}

impl PodKey {
    /// Whether the pod with this uid is meant; a key without uid means whoever has the name.
    #[must_use]
    pub fn is(&self, uid: &str) -> bool {
        self.uid.is_empty() || *self.uid == *uid
    }
}

impl Elsewhere {
    /// The pod at an address.
    #[must_use]
    pub fn find(&self, address: IpAddr) -> Option<PodKey> {
        self.namespaces.values().find_map(|of| of.find(address))
    }
}

impl OfNamespace {
    fn find(&self, address: IpAddr) -> Option<PodKey> {
        let (slice, endpoint) = self.places.get(&address)?;
        let slice = self.slices.get(usize::try_from(*slice).ok()?)?;
        let pod = slice.endpoints.get(usize::try_from(*endpoint).ok()?)?.pod()?;
        let namespace = slice.metadata.namespace.clone();
        Some(PodKey { namespace, name: pod.name.into(), uid: pod.uid.into() })
    }
}
