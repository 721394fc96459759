//! Label sets of Istio's TCP metrics and their counters. A connection finds its series by the addresses of shared values
//! (workloads, service names) in its worker's cache: one hash look-up, no text. On a miss the texts are compared once, so that
//! all pods of a Deployment share a series. Bounded: beyond the limit everything is counted in one series of unknowns.

use super::{
    Direction, ResponseFlag, Security, ServiceName, locked,
    row::{Progress, Row},
};
use crate::snapshot::{Map, SpiffeId, Workload};
use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
};

/// How long series outlive their workloads, so that the last scrape still sees them: 5 minutes.
pub const FORGET_AFTER_NS: u64 = 300_000_000_000;

/// How many series an agent keeps unless it is told otherwise: some 8 MiB of them.
pub const SERIES_LIMIT: usize = 10_000;

/// One side of a connection, as labels; absent values are shown as `unknown`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Party {
    /// `*_workload`.
    pub workload: Arc<str>,
    /// `*_workload_namespace`.
    pub namespace: Arc<str>,
    /// `*_principal`.
    pub principal: Option<SpiffeId>,
    /// `*_app`.
    pub app: Arc<str>,
    /// `*_version`.
    pub version: Arc<str>,
    /// `*_canonical_service`.
    pub canonical_service: Arc<str>,
    /// `*_canonical_revision`.
    pub canonical_revision: Arc<str>,
    /// `*_cluster`.
    pub cluster: Arc<str>,
}

impl Party {
    /// The labels of a pod, where it is known, and of who it proved to be.
    #[must_use]
    pub fn of(workload: Option<&Workload>, proved: Option<&SpiffeId>) -> Self {
        let Some(workload) = workload else {
            let namespace = proved.map_or_else(Arc::default, |id| id.namespace().into());
            return Self { namespace, principal: proved.cloned(), ..Self::default() };
        };
        let labels = &workload.labels;
        Self {
            workload: labels.workload.clone(),
            namespace: workload.namespace.clone(),
            principal: Some(proved.unwrap_or(&workload.identity).clone()),
            app: labels.app.clone(),
            version: labels.version.clone(),
            canonical_service: labels.canonical_service.clone(),
            canonical_revision: labels.canonical_revision.clone(),
            cluster: labels.cluster.clone(),
        }
    }
}

/// What tells one series from another, but for the response flag.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SeriesLabels {
    /// Who reports.
    pub direction: Direction,
    /// What protects the bytes.
    pub security: Security,
    /// Who calls.
    pub source: Party,
    /// Who is called.
    pub destination: Party,
    /// The service that was meant.
    pub service: Option<ServiceName>,
}

impl SeriesLabels {
    fn of(row: &Row, progress: &Progress) -> Self {
        let pod = Party::of(Some(&row.pod), None);
        let peer = Party::of(progress.peer.as_deref(), progress.peer_identity.as_ref());
        let (source, destination) = match row.direction {
            Direction::Outbound => (pod, peer),
            Direction::Inbound => (peer, pod),
        };
        Self {
            direction: row.direction,
            security: progress.security,
            source,
            destination,
            service: progress.service.clone(),
        }
    }

    /// Both sides are in `present`, as (namespace, workload), or were never known.
    pub(crate) fn is_present(&self, present: &HashSet<(Arc<str>, Arc<str>)>) -> bool {
        [&self.source, &self.destination].into_iter().all(|party| {
            party.workload.is_empty() || present.contains(&(party.namespace.clone(), party.workload.clone()))
        })
    }

    pub(crate) fn unknown(direction: Direction) -> Self {
        Self {
            direction,
            security: Security::None,
            source: Party::default(),
            destination: Party::default(),
            service: None,
        }
    }
}

/// The counters of one label set.
#[derive(Debug)]
pub struct Series {
    pub(crate) labels: SeriesLabels,
    opened: AtomicU64,
    closed: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    failed: [AtomicU64; ResponseFlag::ALL.len()],
    live: AtomicU32,
    /// Agent time; 0 while its workloads are in the snapshot.
    absent_since_ns: AtomicU64,
}

impl Series {
    fn new(labels: SeriesLabels) -> Self {
        Self {
            labels,
            opened: AtomicU64::new(0),
            closed: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            failed: Default::default(),
            live: AtomicU32::new(0),
            absent_since_ns: AtomicU64::new(0),
        }
    }

    pub(crate) fn count_opened(&self) {
        self.live.fetch_add(1, Relaxed);
        self.opened.fetch_add(1, Relaxed);
    }

    pub(crate) fn count_closed(&self) {
        self.closed.fetch_add(1, Relaxed);
        self.live.fetch_sub(1, Relaxed);
    }

    pub(crate) fn opened(&self) -> u64 {
        self.opened.load(Relaxed)
    }

    pub(crate) fn closed(&self) -> u64 {
        self.closed.load(Relaxed)
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    pub(crate) fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    pub(crate) fn failed(&self, flag: ResponseFlag) -> u64 {
        self.failed.get(flag as usize).map_or(0, |counter| counter.load(Relaxed))
    }

    pub(crate) fn count_failed(&self, flag: ResponseFlag) {
        if let Some(counter) = self.failed.get(flag as usize) {
            counter.fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn add_bytes(&self, sent: u64, received: u64) {
        self.sent.fetch_add(sent, Relaxed);
        self.received.fetch_add(received, Relaxed);
    }
}

/// All series of the agent.
#[derive(Debug)]
pub struct SeriesTable {
    known: Mutex<HashMap<SeriesLabels, Arc<Series>>>,
    limit: usize,
    /// Changes when series were forgotten, so that caches start anew.
    epoch: AtomicU64,
    /// How many connections were counted in a series of unknowns because of the limit.
    overflowed: AtomicU64,
}

impl SeriesTable {
    /// A table of at most `limit` series.
    #[must_use]
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            known: Mutex::default(),
            limit,
            epoch: AtomicU64::new(0),
            overflowed: AtomicU64::new(0),
        })
    }

    /// All series, in no particular order.
    pub(crate) fn all(&self) -> Vec<Arc<Series>> {
        locked(&self.known).values().cloned().collect()
    }

    /// How many series there are.
    #[must_use]
    pub fn len(&self) -> usize {
        locked(&self.known).len()
    }

    /// Whether nothing was counted yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many times a label set did not fit in.
    #[must_use]
    pub fn overflowed(&self) -> u64 {
        self.overflowed.load(Relaxed)
    }

    /// Forgets series without live connections of which a workload, told by (namespace, workload), has not been in `present`
    /// for [`FORGET_AFTER_NS`]. `now_ns` is agent time.
    pub fn sweep(&self, present: &HashSet<(Arc<str>, Arc<str>)>, now_ns: u64) {
        let mut known = locked(&self.known);
        let before = known.len();
        known.retain(|_, series| {
            if series.live.load(Relaxed) > 0 || series.labels.is_present(present) {
                series.absent_since_ns.store(0, Relaxed);
                return true;
            }
            let since = series.absent_since_ns.load(Relaxed);
            if since == 0 {
                series.absent_since_ns.store(now_ns.max(1), Relaxed);
                return true;
            }
            now_ns.saturating_sub(since) < FORGET_AFTER_NS
        });
        if known.len() != before {
            self.epoch.fetch_add(1, Relaxed);
        }
    }

    fn find(&self, labels: SeriesLabels) -> Arc<Series> {
        let mut known = locked(&self.known);
        if let Some(series) = known.get(&labels) {
            return series.clone();
        }
        let labels = if known.len() < self.limit {
            labels
        } else {
            self.overflowed.fetch_add(1, Relaxed);
            SeriesLabels::unknown(labels.direction)
        };
        known.entry(labels.clone()).or_insert_with(|| Arc::new(Series::new(labels))).clone()
    }
}

/// Addresses of the shared values that make a series (compared, never followed); valid while the cache holds those values.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    direction: Direction,
    security: Security,
    pod: usize,
    peer: usize,
    hostname: usize,
    /// Only where it is not what the peer's pod should be.
    proved: Option<SpiffeId>,
}

impl Key {
    fn of(row: &Row, progress: &Progress) -> Self {
        let expected = progress.peer.as_ref().map(|peer| &peer.identity);
        Self {
            direction: row.direction,
            security: progress.security,
            pod: Arc::as_ptr(&row.pod).addr(),
            peer: progress.peer.as_ref().map_or(0, |peer| Arc::as_ptr(peer).addr()),
            hostname: progress.service.as_ref().map_or(0, |service| service.hostname.as_ptr().addr()),
            proved: progress.peer_identity.as_ref().filter(|proved| Some(*proved) != expected).cloned(),
        }
    }
}

/// A worker's short way to its series.
#[derive(Debug, Default)]
pub struct SeriesCache {
    found: Map<Key, Cached>,
    epoch: u64,
}

/// Holds what the key points to, so that no other value takes its address.
#[derive(Debug)]
struct Cached {
    series: Arc<Series>,
    _pod: Arc<Workload>,
    _peer: Option<Arc<Workload>>,
    _hostname: Option<Arc<str>>,
}

/// More than the series that a worker uses in a while; then it starts anew.
const CACHE_LIMIT: usize = 4096;

impl SeriesCache {
    pub(crate) fn find(&mut self, table: &SeriesTable, row: &Row, progress: &Progress) -> Arc<Series> {
        let epoch = table.epoch.load(Relaxed);
        if epoch != self.epoch || self.found.len() >= CACHE_LIMIT {
            self.found.clear();
            self.epoch = epoch;
        }
        let key = Key::of(row, progress);
        if let Some(cached) = self.found.get(&key) {
            return cached.series.clone();
        }
        let series = table.find(SeriesLabels::of(row, progress));
        let cached = Cached {
            series: series.clone(),
            _pod: row.pod.clone(),
            _peer: progress.peer.clone(),
            _hostname: progress.service.as_ref().map(|service| service.hostname.clone()),
        };
        self.found.insert(key, cached);
        series
    }
}
