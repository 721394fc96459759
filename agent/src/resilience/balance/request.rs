//! Which endpoint a request goes to: power of two choices on running requests and peak-EWMA of response time, or
//! consistent hashing. Pure. Constant time whatever the number of endpoints, a logarithm of it on the ring.
//!
//! An endpoint in slow start takes part in as many draws as its share says. One that asked to be spared counts as
//! [`PENALTY`] times as slow, one that fails as many times as it takes attempts until one is good ([`load::cost`]). The first choice of a request may become the probe of a half-open endpoint.

use std::{net::SocketAddr, sync::atomic::Ordering::Relaxed};

use super::{FEW, QUICK_NS, below, better_of_two};
use crate::{
    resilience::{ejection, load, outlier, ring, weights},
    snapshot::{EndpointLoad, ServicePort, policy::Balancer},
};

/// Draws for two usable endpoints among many.
const DRAWS: usize = 8;
/// Neighbours that are looked at when the draws found none, and points of the ring for a key.
const WALK: usize = 64;
/// How much slower an endpoint counts that asked to be spared.
const PENALTY: u64 = 16;

/// How willingly an endpoint is taken; the first that some endpoint has counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// In rotation.
    Full,
    /// In slow start, and not admitted to this draw.
    Starting,
    /// Ejected.
    Out,
}

/// Chooses for a request by the port's policy; `key` is what [`super::hash_key`] made, `tried` are the addresses that this
/// request has tried. `None` when no endpoint is left. Ejected endpoints are chosen only when nothing else is left. A choice
/// may be the probe of a half-open endpoint: its outcome must come to [`outlier::record`].
pub fn pick_request(
    port: &ServicePort,
    key: Option<u64>,
    tried: &[SocketAddr],
    now_ns: u64,
    random: &mut impl FnMut() -> u64,
) -> Option<usize> {
    let choice = Choice {
        port,
        tried,
        now_ns,
        honoured: outlier::are_honoured(port, now_ns),
        probing: tried.is_empty(),
    };
    let by_key = match (&port.policy.balancer, key) {
        (Balancer::ConsistentHash(_), Some(key)) => choice.by_key(key),
        _ => None,
    };
    by_key.or_else(|| {
        if port.endpoints.len() <= FEW { choice.among_few(random) } else { choice.among_many(random) }
    })
}

struct Choice<'call> {
    port: &'call ServicePort,
    tried: &'call [SocketAddr],
    now_ns: u64,
    honoured: bool,
    /// A choice may become the probe of a half-open endpoint. A retry is none: it has failed once already.
    probing: bool,
}

/// Where the first attempt with this key goes by the ring, without being made; for people. None where the balancer goes by no key, or
/// nothing near on the ring is in rotation.
#[must_use]
pub fn of_key(port: &ServicePort, key: u64, now_ns: u64) -> Option<usize> {
    let honoured = outlier::are_honoured(port, now_ns);
    let choice = Choice { port, tried: &[], now_ns, honoured, probing: false };
    matches!(port.policy.balancer, Balancer::ConsistentHash(_)).then(|| choice.by_key(key))?
}

impl Choice<'_> {
    /// The first on the ring that is in rotation.
    fn by_key(&self, key: u64) -> Option<usize> {
        let ring = ring::of(self.port);
        for index in ring.after(key).take(WALK.saturating_add(self.tried.len())) {
            let endpoint = self.port.endpoints.get(index);
            if endpoint.is_none_or(|endpoint| ring.addresses.get(index) != Some(&endpoint.address)) {
                // Another list at the same place of memory: the next request finds a new ring.
                ring::forget(self.port);
                return None;
            }
            let Some(load) = self.untried(index) else { continue };
            if !self.is_out(load) || self.probes(load) {
                return Some(index);
            }
        }
        None
    }

    fn among_few(&self, random: &mut impl FnMut() -> u64) -> Option<usize> {
        let (mut places, mut count, mut best) = ([0; FEW], 0, Rank::Out);
        for index in 0..self.port.endpoints.len() {
            let Some(load) = self.untried(index) else { continue };
            let rank = self.rank(load, random);
            if rank == Rank::Out && self.probes(load) {
                return Some(index);
            }
            if rank < best {
                (count, best) = (0, rank);
            }
            if let Some(place) = places.get_mut(count).filter(|_| rank == best) {
                (*place, count) = (index, count + 1);
            }
        }
        let first = below(count, random)?;
        let second = below(count - 1, random).map(|other| (first + 1 + other) % count);
        let first = places.get(first).copied()?;
        Some(second.and_then(|place| places.get(place)).map_or(first, |second| self.better(first, *second)))
    }

    fn among_many(&self, random: &mut impl FnMut() -> u64) -> Option<usize> {
        let mut first = None;
        for _ in 0..DRAWS {
            let index = below(self.port.endpoints.len(), random)?;
            let Some(load) = self.untried(index).filter(|_| first != Some(index)) else { continue };
            match (self.rank(load, random), first) {
                (Rank::Full, None) => first = Some(index),
                (Rank::Full, Some(other)) => return Some(self.better(other, index)),
                (Rank::Out, _) if self.probes(load) => return Some(index),
                _ => {}
            }
        }
        first.or_else(|| self.walk(random))
    }

    /// From a random place on, as far as the tried ones can hide an untried one: the first of the best rank.
    fn walk(&self, random: &mut impl FnMut() -> u64) -> Option<usize> {
        let count = self.port.endpoints.len();
        let start = below(count, random)?;
        let steps = WALK.max(self.tried.len().saturating_add(1)).min(count);
        let near = (0..steps).map(|step| (start + step) % count);
        let ranked = near.filter_map(|index| Some((self.rank(self.untried(index)?, random), index)));
        ranked.min_by_key(|(rank, _)| *rank).map(|(_, index)| index)
    }

    fn untried(&self, index: usize) -> Option<&EndpointLoad> {
        let endpoint = self.port.endpoints.get(index)?;
        (!self.tried.contains(&endpoint.address)).then(|| &**endpoint.load)
    }

    fn is_out(&self, load: &EndpointLoad) -> bool {
        self.honoured && ejection::is_out(load, self.now_ns)
    }

    fn probes(&self, load: &EndpointLoad) -> bool {
        self.probing && outlier::claim_probe(load, self.now_ns)
    }

    fn rank(&self, load: &EndpointLoad, random: &mut impl FnMut() -> u64) -> Rank {
        if self.is_out(load) {
            return Rank::Out;
        }
        let share = weights::slow_start(load, self.port.policy.slow_start_ns, self.now_ns);
        let admitted = share >= weights::FULL || below(weights::FULL as usize, random) < Some(share as usize);
        if admitted { Rank::Full } else { Rank::Starting }
    }

    fn better(&self, first: usize, second: usize) -> usize {
        let score = |index: usize| {
            self.port.endpoints.get(index).map_or(u64::MAX, |endpoint| score(&endpoint.load, self.now_ns))
        };
        if score(second) < score(first) { second } else { first }
    }
}

/// What a request there costs. Times up to [`QUICK_NS`], or within a factor of two, count as equal: noise between equal
/// endpoints would otherwise send every sequential request to the same one.
fn score(load: &EndpointLoad, now_ns: u64) -> u64 {
    let slowness = (load::response_ns(load, now_ns) / QUICK_NS).checked_ilog2().map_or(0, |log| log + 1);
    let spared = if load::is_penalised(load, now_ns) { PENALTY * load::ONE } else { load::ONE };
    let penalty = spared.max(load::cost(load, now_ns));
    let running = u64::from(load.requests.load(Relaxed)) + 1;
    running.saturating_mul(1 << slowness.min(30)).saturating_mul(penalty)
}

/// The probability with which the next request goes to each endpoint (by place among the port's), for people. With
/// consistent hashing it is the share of all keys.
#[must_use]
pub fn pick_weights(port: &ServicePort, now_ns: u64) -> Vec<(usize, f64)> {
    let honoured = outlier::are_honoured(port, now_ns);
    let out = |load: &EndpointLoad| honoured && ejection::is_out(load, now_ns);
    let all = || port.endpoints.iter().enumerate();
    let mut usable: Vec<usize> = all().filter(|(_, one)| !out(&one.load)).map(|(index, _)| index).collect();
    if usable.is_empty() {
        usable = all().map(|(index, _)| index).collect();
    }
    let weights = match &port.policy.balancer {
        Balancer::PowerOfTwo => by_score(port, &usable, now_ns),
        Balancer::ConsistentHash(_) => by_ring(port, &usable),
    };
    let sum: f64 = weights.iter().sum();
    let scaled = |weight: &f64| if sum > 0.0 { weight / sum } else { 0.0 };
    let mut chances: Vec<f64> = vec![0.0; port.endpoints.len()];
    for (index, weight) in usable.iter().zip(&weights) {
        if let Some(chance) = chances.get_mut(*index) {
            *chance = scaled(weight);
        }
    }
    chances.into_iter().enumerate().collect()
}

/// Of two drawn, the better one wins, an equal one every other time; then by share in slow start.
fn by_score(port: &ServicePort, usable: &[usize], now_ns: u64) -> Vec<f64> {
    let load = |index: &usize| port.endpoints.get(*index).map(|endpoint| &**endpoint.load);
    let scores: Vec<u64> = usable.iter().filter_map(load).map(|load| score(load, now_ns)).collect();
    let share = |load: &EndpointLoad| weights::share(load, port.policy.slow_start_ns, now_ns) as f64;
    let shares = usable.iter().filter_map(load).map(share);
    better_of_two(&scores).into_iter().zip(shares).map(|(chance, share)| chance * share).collect()
}

fn by_ring(port: &ServicePort, usable: &[usize]) -> Vec<f64> {
    let shares = ring::of(port).shares();
    usable.iter().map(|index| shares.get(*index).copied().unwrap_or_default()).collect()
}

#[cfg(test)]
mod tests;
