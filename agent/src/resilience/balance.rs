//! Which endpoint a connection (here) or a request ([`pick_request`]) goes to: power of two choices on outstanding connections and peak-EWMA of connect time.
//! Pure. Constant time whatever the number of endpoints (a logarithm of it with session affinity).
//!
//! Connect times below [`QUICK_NS`], or within a factor of two, count as equal: noise between equal endpoints would
//! otherwise send every sequential connection to the same one. Equal scores are drawn by lot.

use std::{
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

mod key;
mod request;

pub use key::{hash_key, key_of};
pub use request::{of_key, pick_request, pick_weights};

use super::{affinity, ejection, ewma};
use crate::snapshot::{Endpoint, EndpointLoad, ServicePort, Shared};

/// Connect times up to this are all the same, nanoseconds.
pub const QUICK_NS: u64 = 1_000_000;
/// Up to this many endpoints all are looked at.
const FEW: usize = 8;
/// Draws for two usable endpoints among many.
const DRAWS: usize = 8;
/// Neighbours that are looked at when the draws found none.
const WALK: usize = 64;

/// Counts a connection or a request at its endpoint from the choice until it is dropped.
#[derive(Debug)]
pub struct Outstanding {
    load: Shared<EndpointLoad>,
    counter: fn(&EndpointLoad) -> &AtomicU32,
}

impl Outstanding {
    /// Counts one more connection.
    #[must_use]
    pub fn new(load: &Shared<EndpointLoad>) -> Self {
        Self::counting(load, |load| &load.outstanding)
    }

    /// Counts one more request.
    #[must_use]
    pub fn request(load: &Shared<EndpointLoad>) -> Self {
        Self::counting(load, |load| &load.requests)
    }

    /// Of the endpoint.
    #[must_use]
    pub fn load(&self) -> &EndpointLoad {
        &self.load
    }

    fn counting(load: &Shared<EndpointLoad>, counter: fn(&EndpointLoad) -> &AtomicU32) -> Self {
        counter(load).fetch_add(1, Relaxed);
        Self { load: load.clone(), counter }
    }
}

impl Drop for Outstanding {
    fn drop(&mut self) {
        (self.counter)(&self.load).fetch_sub(1, Relaxed);
    }
}

/// Chooses for a connection of `client`, with session affinity where the service asks for it; `exclude` are the
/// addresses that this connection has tried. `None` when there is no endpoint left. Ejected endpoints are chosen only
/// when nothing else is left.
pub fn pick_affine(
    port: &ServicePort,
    client: IpAddr,
    exclude: &[SocketAddr],
    now_ns: u64,
    random: &mut impl FnMut() -> u64,
) -> Option<usize> {
    let choice = Choice::new(port, exclude, now_ns);
    let kept = affinity::kept(port, client, now_ns).filter(|index| choice.usable(*index));
    let index = kept.or_else(|| choice.draw(random))?;
    if let Some(endpoint) = port.endpoints.get(index) {
        affinity::keep(port, client, endpoint.address, now_ns);
    }
    Some(index)
}

/// Chooses among bare endpoints, without affinity; else as [`pick_affine`].
pub fn pick(
    endpoints: &[Endpoint],
    exclude: &[SocketAddr],
    now_ns: u64,
    random: &mut impl FnMut() -> u64,
) -> Option<usize> {
    Choice { endpoints, exclude, now_ns, honour_ejections: true }.draw(random)
}

/// The probability with which the next connection of `client` goes to each endpoint, by place among the port's; for people.
#[must_use]
pub fn connection_weights(port: &ServicePort, client: IpAddr, now_ns: u64) -> Vec<f64> {
    let choice = Choice::new(port, &[], now_ns);
    let mut weights = vec![0.0; port.endpoints.len()];
    let kept = affinity::kept(port, client, now_ns).filter(|index| choice.usable(*index));
    if let Some(weight) = kept.and_then(|index| weights.get_mut(index)) {
        *weight = 1.0;
        return weights;
    }
    let all = || 0..port.endpoints.len();
    let mut usable: Vec<usize> = all().filter(|index| choice.usable(*index)).collect();
    if usable.is_empty() {
        usable = all().collect();
    }
    let scores: Vec<u64> = usable.iter().map(|index| choice.score(*index)).collect();
    let chances = better_of_two(&scores);
    let sum: f64 = chances.iter().sum();
    for (index, chance) in usable.into_iter().zip(chances) {
        if let Some(weight) = weights.get_mut(index) {
            *weight = chance / sum;
        }
    }
    weights
}

/// In how many of the draws of two each of these scores wins: over every worse one, and every other time over an equal one. Not scaled.
fn better_of_two(scores: &[u64]) -> Vec<f64> {
    let mut sorted = scores.to_vec();
    sorted.sort_unstable();
    let chance = |own: &u64| {
        let first = sorted.partition_point(|score| score < own);
        let end = sorted.partition_point(|score| score <= own);
        let (equal, worse) = (end - first - 1, sorted.len() - end);
        if sorted.len() == 1 { 1.0 } else { worse as f64 + equal as f64 / 2.0 }
    };
    scores.iter().map(chance).collect()
}

struct Choice<'call> {
    endpoints: &'call [Endpoint],
    exclude: &'call [SocketAddr],
    now_ns: u64,
    honour_ejections: bool,
}

impl<'call> Choice<'call> {
    fn new(port: &'call ServicePort, exclude: &'call [SocketAddr], now_ns: u64) -> Self {
        let honour_ejections = ejection::are_honoured(port, now_ns);
        Self { endpoints: &port.endpoints, exclude, now_ns, honour_ejections }
    }

    fn draw(&self, random: &mut impl FnMut() -> u64) -> Option<usize> {
        if self.endpoints.len() <= FEW { self.among_few(random) } else { self.among_many(random) }
    }

    fn among_few(&self, random: &mut impl FnMut() -> u64) -> Option<usize> {
        let (mut places, mut count) = ([0; FEW], 0);
        for usable in [Self::usable, Self::untried] {
            for index in (0..self.endpoints.len()).filter(|index| usable(self, *index)) {
                if let Some(place) = places.get_mut(count) {
                    (*place, count) = (index, count + 1);
                }
            }
            if count > 0 {
                break;
            }
        }
        let first = below(count, random)?;
        // One of the others, each as likely.
        let second = below(count - 1, random).map(|other| (first + 1 + other) % count);
        let first = places.get(first).copied()?;
        Some(second.and_then(|place| places.get(place)).map_or(first, |second| self.better(first, *second)))
    }

    fn among_many(&self, random: &mut impl FnMut() -> u64) -> Option<usize> {
        let mut first = None;
        for _ in 0..DRAWS {
            let index = below(self.endpoints.len(), random)?;
            match first {
                _ if !self.usable(index) => {}
                None => first = Some(index),
                Some(other) if other == index => {}
                Some(other) => return Some(self.better(other, index)),
            }
        }
        first.or_else(|| self.walk(random))
    }

    /// From a random place on: as far as the tried ones can hide an untried one.
    fn walk(&self, random: &mut impl FnMut() -> u64) -> Option<usize> {
        let count = self.endpoints.len();
        let start = below(count, random)?;
        let steps = WALK.max(self.exclude.len().saturating_add(1)).min(count);
        let near = || (0..steps).map(|step| (start + step) % count);
        near().find(|index| self.usable(*index)).or_else(|| near().find(|index| self.untried(*index)))
    }

    fn untried(&self, index: usize) -> bool {
        self.endpoints.get(index).is_some_and(|endpoint| !self.exclude.contains(&endpoint.address))
    }

    fn usable(&self, index: usize) -> bool {
        let ejected = |endpoint: &Endpoint| ejection::is_ejected(&endpoint.load, self.now_ns);
        self.untried(index) && !(self.honour_ejections && self.endpoints.get(index).is_some_and(ejected))
    }

    fn better(&self, first: usize, second: usize) -> usize {
        if self.score(second) < self.score(first) { second } else { first }
    }

    fn score(&self, index: usize) -> u64 {
        let Some(load) = self.endpoints.get(index).map(|endpoint| &endpoint.load) else { return u64::MAX };
        let slowness = (ewma::current(load, self.now_ns) / QUICK_NS).checked_ilog2().map_or(0, |log| log + 1);
        let outstanding = u64::from(load.outstanding.load(Relaxed)) + 1;
        outstanding.saturating_mul(1 << slowness.min(30))
    }
}

/// A number below `count`, each as likely; none where `count` is 0.
fn below(count: usize, random: &mut impl FnMut() -> u64) -> Option<usize> {
    (count > 0).then(|| ((u128::from(random()) * count as u128) >> 64) as usize)
}

#[cfg(test)]
mod tests;
