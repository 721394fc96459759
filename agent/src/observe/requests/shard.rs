//! A worker's short way to everything that a finished request counts in: one look-up by the addresses of shared values
//! (compared, never followed), no text, and plain numbers that are handed over when somebody looks. Pure.

use super::{
    RequestFlags, RequestProtocol,
    series::{Pending, RequestLabels, RequestSeries, RequestSeriesTable},
    tally::{RouteKey, RouteTally, ServiceTally},
};
use crate::{
    observe::{
        Direction, Security, locked,
        series::{Party, SeriesLabels},
    },
    snapshot::{ServicePort, Workload, routes::RouteName},
};
use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::{Arc, Mutex},
};

/// More than a worker uses in a while; then its cache starts anew.
const CACHE_LIMIT: usize = 4096;
/// Service ports and rules that are counted apart; more share one of unknowns, or none.
const TALLIES: usize = 10_000;

type ServiceKey = (Arc<str>, u16);

/// What is shared by all workers.
#[derive(Debug)]
pub(crate) struct Books {
    pub(crate) series: RequestSeriesTable,
    /// By host name and port.
    services: Mutex<HashMap<ServiceKey, Arc<ServiceTally>>>,
    routes: Mutex<HashMap<RouteKey, Arc<RouteTally>>>,
}

impl Books {
    pub(crate) fn new(limit: usize) -> Self {
        let series = RequestSeriesTable::new(limit);
        Self { series, services: Mutex::default(), routes: Mutex::default() }
    }

    pub(crate) fn services(&self) -> Vec<Arc<ServiceTally>> {
        locked(&self.services).values().cloned().collect()
    }

    pub(crate) fn routes(&self) -> Vec<(RouteKey, Arc<RouteTally>)> {
        locked(&self.routes).iter().map(|(key, tally)| (key.clone(), tally.clone())).collect()
    }

    /// Forgets services and rules that `keeps` does not know, unless a worker still holds them.
    pub(crate) fn retain(&self, service: impl Fn(&str, u16) -> bool, route: impl Fn(&RouteName) -> bool) {
        locked(&self.services)
            .retain(|(hostname, port), tally| service(hostname, *port) || Arc::strong_count(tally) > 1);
        locked(&self.routes).retain(|key, tally| route(&key.route) || Arc::strong_count(tally) > 1);
    }

    fn service(&self, port: &ServicePort) -> Arc<ServiceTally> {
        let mut services = locked(&self.services);
        let key = (port.hostname.clone(), port.port);
        if let Some(tally) = services.get(&key) {
            return tally.clone();
        }
        let tally = Arc::new(ServiceTally::new(port.into(), port.port));
        if services.len() < TALLIES {
            services.insert(key, tally.clone());
        }
        tally
    }

    pub(crate) fn route(&self, key: RouteKey) -> Arc<RouteTally> {
        let mut routes = locked(&self.routes);
        match routes.get(&key) {
            Some(tally) => tally.clone(),
            None if routes.len() < TALLIES => routes.entry(key).or_default().clone(),
            None => Arc::default(),
        }
    }
}

/// What a request came to, as far as it is counted.
#[derive(Debug)]
pub(crate) struct Outcome<'record> {
    pub(crate) pod: &'record Arc<Workload>,
    pub(crate) peer: Option<&'record Arc<Workload>>,
    pub(crate) service: Option<&'record Arc<ServiceTally>>,
    pub(crate) route: Option<&'record Arc<RouteName>>,
    pub(crate) security: Security,
    pub(crate) protocol: RequestProtocol,
    pub(crate) status: u16,
    pub(crate) grpc: Option<u8>,
    pub(crate) flags: RequestFlags,
}

impl Outcome<'_> {
    fn key(&self) -> Key {
        fn address<T: ?Sized>(value: Option<&Arc<T>>) -> usize {
            value.map_or(0, |value| Arc::as_ptr(value).addr())
        }
        let grpc = self.grpc.map_or(0x100, u64::from);
        let words = u64::from(self.status) << 48
            | u64::from(self.flags.bits()) << 32
            | grpc << 16
            | (self.protocol as u64) << 8
            | self.security as u64;
        Key {
            pod: address(Some(self.pod)),
            peer: address(self.peer),
            service: address(self.service),
            route: address(self.route),
            words,
        }
    }

    fn labels(&self) -> RequestLabels {
        RequestLabels {
            parties: SeriesLabels {
                direction: Direction::Outbound,
                security: self.security,
                source: Party::of(Some(self.pod), None),
                destination: Party::of(self.peer.map(|peer| &**peer), None),
                service: self.service.map(|service| service.name.clone()),
            },
            protocol: self.protocol,
            status: self.status,
            grpc: self.grpc,
            flags: self.flags,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    pod: usize,
    peer: usize,
    service: usize,
    route: usize,
    words: u64,
}

/// Mixes words of addresses, which nobody outside chooses (the multiplication of FxHash).
#[derive(Clone, Copy, Debug, Default)]
struct Mixer(u64);

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn write_u16(&mut self, word: u16) {
        self.write_u64(u64::from(word));
    }

    fn finish(&self) -> u64 {
        // The table's top bits and its place come from both ends of the word.
        self.0 ^ self.0 >> 32
    }
}

type Quick<K, V> = HashMap<K, V, BuildHasherDefault<Mixer>>;

/// Holds what the key points to, so that no other value takes its address.
#[derive(Debug)]
struct Cached {
    pending: Pending,
    series: Arc<RequestSeries>,
    tally: Option<Arc<RouteTally>>,
    status: u16,
    _pod: Arc<Workload>,
    _peer: Option<Arc<Workload>>,
    _service: Option<Arc<ServiceTally>>,
    _route: Option<Arc<RouteName>>,
}

impl Cached {
    fn hand_over(&mut self) {
        if self.pending.requests == 0 {
            return;
        }
        let pending = std::mem::take(&mut self.pending);
        self.series.add(&pending);
        if let Some(tally) = &self.tally {
            tally.add(self.status, pending.requests);
        }
    }
}

/// One worker's cache.
#[derive(Debug, Default)]
pub(crate) struct Shard {
    found: Quick<Key, Cached>,
    services: Quick<(usize, u16), (Arc<str>, Arc<ServiceTally>)>,
    epoch: u64,
    log_share: f64,
}

impl Shard {
    /// The tally of a service port.
    pub(crate) fn service(&mut self, books: &Books, port: &ServicePort) -> Arc<ServiceTally> {
        let key = (port.hostname.as_ptr().addr(), port.port);
        if let Some((_, tally)) = self.services.get(&key) {
            return tally.clone();
        }
        if self.services.len() >= CACHE_LIMIT {
            self.services.clear();
        }
        let tally = books.service(port);
        self.services.insert(key, (port.hostname.clone(), tally.clone()));
        tally
    }

    /// Counts a finished request.
    pub(crate) fn count(
        &mut self,
        books: &Books,
        outcome: &Outcome<'_>,
        took_ns: u64,
        (request_bytes, response_bytes): (u64, u64),
    ) {
        let epoch = books.series.epoch();
        if epoch != self.epoch || self.found.len() >= CACHE_LIMIT {
            self.clear();
            self.epoch = epoch;
        }
        let cached = self.found.entry(outcome.key()).or_insert_with(|| {
            let tally = outcome.route.map(|route| books.route(RouteKey::new(route, outcome.service)));
            Cached {
                pending: Pending::default(),
                series: books.series.find(outcome.labels()),
                tally,
                status: outcome.status,
                _pod: outcome.pod.clone(),
                _peer: outcome.peer.cloned(),
                _service: outcome.service.cloned(),
                _route: outcome.route.cloned(),
            }
        });
        cached.pending.count(took_ns, request_bytes, response_bytes);
    }

    /// Hands all numbers over.
    pub(crate) fn hand_over(&mut self) {
        self.found.values_mut().for_each(Cached::hand_over);
    }

    /// Hands over and lets go of everything.
    pub(crate) fn clear(&mut self) {
        self.hand_over();
        self.found.clear();
        self.services.clear();
    }

    /// Whether the next one of a share (0 to 1) is due; evenly, without chance.
    pub(crate) fn is_due(&mut self, share: f64) -> bool {
        self.log_share += share;
        let due = self.log_share >= 1.0;
        if due {
            self.log_share -= 1.0;
        }
        due
    }
}
