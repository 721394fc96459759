//! Label sets of Istio's request metrics with their histograms. Workers count in plain numbers of their own (`shard`) and
//! hand them over here when somebody looks. Bounded: beyond the limit everything is counted in one series of unknowns. Pure.

use super::{
    RequestFlags, RequestProtocol,
    histogram::{Counts, Histogram},
};
use crate::observe::{
    Direction, locked,
    series::{FORGET_AFTER_NS, SeriesLabels},
};
use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// What tells one series from another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RequestLabels {
    pub(crate) parties: SeriesLabels,
    pub(crate) protocol: RequestProtocol,
    /// 0 where there was no answer.
    pub(crate) status: u16,
    pub(crate) grpc: Option<u8>,
    pub(crate) flags: RequestFlags,
}

/// What one worker counted since it was last asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pending {
    pub(crate) requests: u64,
    /// Milliseconds; the sum in nanoseconds.
    pub(crate) duration: Counts,
    pub(crate) request_bytes: Counts,
    pub(crate) response_bytes: Counts,
}

impl Pending {
    pub(crate) fn count(&mut self, took_ns: u64, request_bytes: u64, response_bytes: u64) {
        self.requests += 1;
        self.duration.add(took_ns / 1000, took_ns);
        self.request_bytes.add(request_bytes.saturating_mul(1000), request_bytes);
        self.response_bytes.add(response_bytes.saturating_mul(1000), response_bytes);
    }
}

/// The counters of one label set.
#[derive(Debug)]
pub(crate) struct RequestSeries {
    pub(crate) labels: RequestLabels,
    pub(crate) requests: AtomicU64,
    pub(crate) duration: Histogram,
    pub(crate) request_bytes: Histogram,
    pub(crate) response_bytes: Histogram,
    /// Agent time; 0 while its workloads are in the snapshot.
    absent_since_ns: AtomicU64,
}

impl RequestSeries {
    fn new(labels: RequestLabels) -> Self {
        Self {
            labels,
            requests: AtomicU64::new(0),
            duration: Histogram::default(),
            request_bytes: Histogram::default(),
            response_bytes: Histogram::default(),
            absent_since_ns: AtomicU64::new(0),
        }
    }

    pub(crate) fn add(&self, pending: &Pending) {
        self.requests.fetch_add(pending.requests, Relaxed);
        self.duration.add(&pending.duration);
        self.request_bytes.add(&pending.request_bytes);
        self.response_bytes.add(&pending.response_bytes);
    }
}

/// All series of requests.
#[derive(Debug)]
pub(crate) struct RequestSeriesTable {
    known: Mutex<HashMap<RequestLabels, Arc<RequestSeries>>>,
    limit: usize,
    /// Changes when series were forgotten, so that caches start anew.
    epoch: AtomicU64,
    overflowed: AtomicU64,
}

impl RequestSeriesTable {
    pub(crate) fn new(limit: usize) -> Self {
        Self { known: Mutex::default(), limit, epoch: AtomicU64::new(0), overflowed: AtomicU64::new(0) }
    }

    pub(crate) fn all(&self) -> Vec<Arc<RequestSeries>> {
        locked(&self.known).values().cloned().collect()
    }

    pub(crate) fn overflowed(&self) -> u64 {
        self.overflowed.load(Relaxed)
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Relaxed)
    }

    pub(crate) fn find(&self, labels: RequestLabels) -> Arc<RequestSeries> {
        let mut known = locked(&self.known);
        if let Some(series) = known.get(&labels) {
            return series.clone();
        }
        let labels = if known.len() < self.limit {
            labels
        } else {
            self.overflowed.fetch_add(1, Relaxed);
            // The status stays: there are few of them, and it is what people ask first.
            let parties = SeriesLabels::unknown(Direction::Outbound);
            RequestLabels { parties, grpc: None, flags: RequestFlags::default(), ..labels }
        };
        known.entry(labels.clone()).or_insert_with(|| Arc::new(RequestSeries::new(labels))).clone()
    }

    /// Forgets series of which a workload has not been in `present` for [`FORGET_AFTER_NS`]. `now_ns` is agent time.
    pub(crate) fn sweep(&self, present: &HashSet<(Arc<str>, Arc<str>)>, now_ns: u64) {
        let mut known = locked(&self.known);
        let before = known.len();
        known.retain(|_, series| {
            if series.labels.parties.is_present(present) {
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
}
