//! The hash ring of a service port's endpoints; `resilience::ring` builds and reads it. Pure.

use std::{net::SocketAddr, sync::Arc};

/// Points of endpoints on the circle of 64-bit hashes.
#[derive(Debug, Default)]
pub struct Ring {
    /// The endpoints it was built for, in the port's order.
    pub(crate) addresses: Vec<SocketAddr>,
    /// Where they lay in memory and how many they were: the quick answer to whether they are still the same.
    pub(crate) built_for: (usize, usize),
    /// (hash, place in `addresses`), sorted.
    pub(crate) points: Arc<[(u64, u32)]>,
}
