//! Consistent hashing: endpoints lie at many points of a circle, a key goes to the first one after its own place. An
//! endpoint that leaves moves only its own keys. Pure. The hash is stable between agents, versions and platforms.
//!
//! The ring is kept in the port's state and built when first asked for, and again when the endpoints are others:
//! a choice takes a logarithm of their number.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, PoisonError},
};

pub use crate::snapshot::load::Ring;
use crate::snapshot::{Endpoint, ServicePort};

/// Points of all endpoints together, about.
const POINTS: usize = 16_384;
/// Points of one endpoint: at least, at most.
const LEAST: usize = 16;
const MOST: usize = 160;

/// The ring of the port's endpoints.
#[must_use]
pub fn of(port: &ServicePort) -> Arc<Ring> {
    let place = (port.endpoints.as_ptr() as usize, port.endpoints.len());
    let mut kept = port.state.ring.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(ring) = kept.as_ref().filter(|ring| ring.built_for == place) {
        return ring.clone();
    }
    let same =
        |ring: &&Arc<Ring>| ring.addresses.iter().eq(port.endpoints.iter().map(|endpoint| &endpoint.address));
    let ring = match kept.as_ref().filter(same) {
        // The endpoints of the next snapshot, and the same ones.
        Some(ring) => {
            Ring { addresses: ring.addresses.clone(), points: ring.points.clone(), built_for: place }
        }
        None => build(&port.endpoints),
    };
    kept.insert(Arc::new(ring)).clone()
}

/// Forgets the ring of a port, which turned out to be of other endpoints.
pub(super) fn forget(port: &ServicePort) {
    *port.state.ring.lock().unwrap_or_else(PoisonError::into_inner) = None;
}

fn build(endpoints: &[Endpoint]) -> Ring {
    let each = (POINTS / endpoints.len().max(1)).clamp(LEAST, MOST) as u64;
    let mut points: Vec<(u64, u32)> = Vec::with_capacity(endpoints.len() * each as usize);
    for (index, endpoint) in (0_u32..).zip(endpoints) {
        let seed = hash_address(endpoint.address);
        points.extend((1..=each).map(|number| (mix(seed ^ mix(number)), index)));
    }
    points.sort_unstable();
    Ring {
        addresses: endpoints.iter().map(|endpoint| endpoint.address).collect(),
        built_for: (endpoints.as_ptr() as usize, endpoints.len()),
        points: points.into(),
    }
}

impl Ring {
    /// Places of endpoints in the order in which the key prefers them, with repetitions, each point once.
    pub fn after(&self, key: u64) -> impl Iterator<Item = usize> + '_ {
        let start = self.points.partition_point(|(point, _)| *point < key);
        let after = self.points.iter().skip(start);
        after.chain(self.points.iter().take(start)).map(|(_, index)| *index as usize)
    }

    /// The share of all keys of each endpoint.
    #[must_use]
    pub fn shares(&self) -> Vec<f64> {
        let mut shares = vec![0.0; self.addresses.len()];
        let mut last = self.points.last().map_or(0, |(point, _)| *point);
        for (point, index) in self.points.iter() {
            if let Some(share) = shares.get_mut(*index as usize) {
                *share += point.wrapping_sub(last) as f64 / u64::MAX as f64;
            }
            last = *point;
        }
        shares
    }
}

/// A stable hash (FNV-1a, then mixed).
#[must_use]
pub fn hash(bytes: &[u8]) -> u64 {
    let fnv = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, fnv))
}

/// The stable hash of an address; an IPv4 address in IPv6 is the IPv4 address.
#[must_use]
pub fn hash_ip(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => hash(&address.octets()),
        IpAddr::V6(address) => hash(&address.octets()),
    }
}

fn hash_address(address: SocketAddr) -> u64 {
    mix(hash_ip(address.ip()) ^ u64::from(address.port()))
}

/// The finalizer of SplitMix64.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests;
