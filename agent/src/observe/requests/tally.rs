//! What is counted per service port and per rule of a route, whichever worker carries the request. Pure.

use super::{super::ServiceName, histogram::Latencies};
use crate::{observe::locked, snapshot::routes::RouteName};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// Seldom events by a word of this program.
#[derive(Debug, Default)]
pub(crate) struct Reasons(Mutex<BTreeMap<&'static str, u64>>);

impl Reasons {
    pub(crate) fn count(&self, reason: &'static str) {
        *locked(&self.0).entry(reason).or_default() += 1;
    }

    pub(crate) fn all(&self) -> Vec<(&'static str, u64)> {
        locked(&self.0).iter().map(|(reason, count)| (*reason, *count)).collect()
    }
}

/// One service port.
#[derive(Debug)]
pub(crate) struct ServiceTally {
    pub(crate) name: ServiceName,
    pub(crate) port: u16,
    pub(crate) requests: AtomicU64,
    pub(crate) failures: AtomicU64,
    pub(crate) retries: AtomicU64,
    pub(crate) hedges: AtomicU64,
    pub(crate) budget_refused: AtomicU64,
    /// Requests that were put off because their pod had used up its turn.
    pub(crate) put_off: AtomicU64,
    pub(crate) latencies: Latencies,
    pub(crate) overflow: Reasons,
    pub(crate) ejections: Reasons,
    /// Copies by what became of them.
    pub(crate) mirrored: Reasons,
}

impl ServiceTally {
    pub(crate) fn new(name: ServiceName, port: u16) -> Self {
        Self {
            name,
            port,
            requests: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            hedges: AtomicU64::new(0),
            budget_refused: AtomicU64::new(0),
            put_off: AtomicU64::new(0),
            latencies: Latencies::default(),
            overflow: Reasons::default(),
            ejections: Reasons::default(),
            mirrored: Reasons::default(),
        }
    }

    pub(crate) fn finished(&self, failed: bool, took_ns: u64, retries: u16, hedges: u16) {
        self.requests.fetch_add(1, Relaxed);
        self.latencies.add(took_ns / 1000);
        // What is mostly nothing does not touch the shared line.
        for (counter, more) in
            [(&self.failures, u16::from(failed)), (&self.retries, retries), (&self.hedges, hedges)]
        {
            if more > 0 {
                counter.fetch_add(u64::from(more), Relaxed);
            }
        }
    }
}

/// One rule of a route towards one backend.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RouteKey {
    pub(crate) route: Arc<RouteName>,
    /// Host name and port; empty where the agent answered by itself.
    pub(crate) backend: Arc<str>,
    pub(crate) port: u16,
}

impl RouteKey {
    pub(crate) fn new(route: &Arc<RouteName>, service: Option<&Arc<ServiceTally>>) -> Self {
        Self {
            route: route.clone(),
            backend: service.map_or_else(Arc::default, |service| service.name.hostname.clone()),
            port: service.map_or(0, |service| service.port),
        }
    }
}

/// Of one rule and backend.
#[derive(Debug, Default)]
pub(crate) struct RouteTally {
    /// Requests by hundred of the status; 0 is without one.
    classes: [AtomicU64; 6],
    pub(crate) retries: AtomicU64,
    pub(crate) hedges: AtomicU64,
    pub(crate) budget_refused: AtomicU64,
    /// Requests and attempts that a limit refused.
    pub(crate) overflow: AtomicU64,
    /// Endpoints that were ejected because of its requests.
    pub(crate) ejections: AtomicU64,
}

/// What one request was beside one attempt with an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) retries: u16,
    pub(crate) hedges: u16,
    pub(crate) budget_refused: bool,
    pub(crate) overflows: u16,
    pub(crate) ejections: u16,
}

impl RouteTally {
    pub(crate) fn add(&self, status: u16, requests: u64) {
        let class = usize::from(status / 100);
        if let Some(counter) = self.classes.get(if class < 6 { class } else { 0 }) {
            counter.fetch_add(requests, Relaxed);
        }
    }

    /// A request was in trouble.
    pub(crate) fn troubled(&self, trouble: Trouble) {
        let Trouble { retries, hedges, budget_refused, overflows, ejections } = trouble;
        for (counter, more) in [
            (&self.retries, retries),
            (&self.hedges, hedges),
            (&self.budget_refused, budget_refused.into()),
            (&self.overflow, overflows),
            (&self.ejections, ejections),
        ] {
            counter.fetch_add(more.into(), Relaxed);
        }
    }

    /// Requests that are over.
    pub(crate) fn requests(&self) -> u64 {
        self.classes.iter().map(|counter| counter.load(Relaxed)).sum()
    }

    /// Classes with requests.
    pub(crate) fn classes(&self) -> Vec<(&'static str, u64)> {
        let names = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];
        let all = names.into_iter().zip(self.classes.iter().map(|counter| counter.load(Relaxed)));
        all.filter(|(_, count)| *count > 0).collect()
    }
}
