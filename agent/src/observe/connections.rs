//! The connection table: one shard per worker, so that workers never wait for one another; readers on other threads take each
//! shard's lock for as long as it takes to copy pointers.

use super::{
    CloseReason, Connection, Direction,
    access_log::AccessLog,
    carried::{Carried, OfPod},
    clock::monotonic_ns,
    denials::Denials,
    locked,
    row::{Ending, Row},
    series::{SeriesCache, SeriesTable},
};
use crate::snapshot::{Protocol, Workload, protocol::Why};
use slab::Slab;
use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// What is known when a connection has been accepted.
#[derive(Clone, Debug)]
pub struct Opening {
    /// Names it in logs and tables, as 16 hexadecimal digits; drawn at random by the caller.
    pub id: u64,
    /// Whether the local pod calls or is called.
    pub direction: Direction,
    /// The address of the client.
    pub client: SocketAddr,
    /// The local pod.
    pub pod: Arc<Workload>,
    /// When it was accepted, agent time.
    pub captured_ns: u64,
}

/// Bounds of the table.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// How many closed connections are kept for people, over all workers.
    pub recently_closed: usize,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self { recently_closed: 1000 }
    }
}

/// The table of live and recently closed connections; cheap to clone.
#[derive(Clone, Debug)]
pub struct Connections(Arc<Table>);

#[derive(Debug)]
struct Table {
    shards: Vec<Mutex<Shard>>,
    closed_limit: usize,
    series: Arc<SeriesTable>,
    log: AccessLog,
    attempts: AtomicU64,
    denials: Denials,
    decisions: [[AtomicU64; Why::ALL.len()]; Protocol::ALL.len()],
    /// Cut when the agent stopped: of HTTP, of plain bytes.
    cut: [AtomicU64; 2],
}

#[derive(Debug, Default)]
struct Shard {
    live: Slab<Arc<Row>>,
    closed: VecDeque<Arc<Row>>,
    cache: SeriesCache,
    carried: Carried,
}

impl Connections {
    /// A table for `workers` workers (numbered from 0) that counts in `series` and writes to `log`.
    #[must_use]
    pub fn new(workers: usize, limits: ConnectionLimits, series: Arc<SeriesTable>, log: AccessLog) -> Self {
        let workers = workers.max(1);
        Self(Arc::new(Table {
            shards: std::iter::repeat_with(Mutex::default).take(workers).collect(),
            closed_limit: limits.recently_closed.div_ceil(workers),
            series,
            log,
            attempts: AtomicU64::new(0),
            denials: Denials::default(),
            decisions: Default::default(),
            cut: Default::default(),
        }))
    }

    /// Enters a connection that has just been accepted.
    #[must_use]
    pub fn opened(&self, worker: usize, opening: Opening) -> Connection {
        let Opening { id, direction, client, pod, captured_ns } = opening;
        let row = Arc::new(Row::new(id, direction, client, pod, captured_ns));
        let slot = self.shard(worker).map_or(0, |shard| locked(shard).live.insert(row.clone()));
        Connection::new(row, self.clone(), worker, slot)
    }

    /// Records the end of all of a pod's connections on a worker, which is about to drop them.
    pub fn close_pod(&self, worker: usize, uid: &str, reason: CloseReason) {
        let Some(shard) = self.shard(worker) else { return };
        let of_pod: Vec<_> = locked(shard)
            .live
            .iter()
            .filter(|(_, row)| *row.pod.uid == *uid)
            .map(|(slot, row)| (slot, row.clone()))
            .collect();
        let now_ns = monotonic_ns();
        for (slot, row) in of_pod {
            if reason == CloseReason::Shutdown {
                let [http, bytes] = &self.0.cut;
                let cut = if row.progress().protocol.is_http() { http } else { bytes };
                cut.fetch_add(1, Ordering::Relaxed);
            }
            self.closed(worker, slot, &row, reason, now_ns);
        }
    }

    /// All live rows, in no particular order.
    pub(crate) fn live(&self) -> Vec<Arc<Row>> {
        let mut rows = Vec::new();
        for shard in &self.0.shards {
            rows.extend(locked(shard).live.iter().map(|(_, row)| row.clone()));
        }
        rows
    }

    /// Recently closed rows, in no particular order.
    pub(crate) fn recently_closed(&self) -> Vec<Arc<Row>> {
        let mut rows = Vec::new();
        for shard in &self.0.shards {
            rows.extend(locked(shard).closed.iter().cloned());
        }
        rows
    }

    /// Says at the agent's end which connections had not ended within the time for that.
    pub fn tell_cut(&self, drain: Duration) {
        let [http, bytes] = self.0.cut.each_ref().map(|count| count.load(Ordering::Relaxed));
        match http + bytes {
            0 => tracing::info!("stopped; all connections had ended"),
            cut => tracing::warn!(
                "stopped; cut {cut} connections that had not ended within --drain ({drain:?}): {bytes} of plain bytes, {http} of HTTP"
            ),
        }
    }

    /// How many connections live.
    #[must_use]
    pub fn active(&self) -> usize {
        self.0.shards.iter().map(|shard| locked(shard).live.len()).sum()
    }

    /// What policies kept out.
    pub(crate) fn denials(&self) -> &Denials {
        &self.0.denials
    }

    /// How many dials there were since the start.
    #[must_use]
    pub fn attempts(&self) -> u64 {
        self.0.attempts.load(Ordering::Relaxed)
    }

    /// Moves the bytes of live connections into their series, so that a scrape shows them.
    pub fn count_bytes(&self) {
        for row in self.live() {
            row.count_bytes(&mut row.progress());
        }
    }

    /// How the connections of each pod were carried, by uid.
    pub(crate) fn carried(&self) -> HashMap<Arc<str>, OfPod> {
        let mut all = HashMap::new();
        self.0.shards.iter().for_each(|shard| locked(shard).carried.add_to(&mut all));
        all
    }

    /// Forgets how the connections of pods that are not there any more were carried.
    pub(crate) fn keep_carried(&self, is_there: impl Fn(&str) -> bool) {
        self.0.shards.iter().for_each(|shard| locked(shard).carried.keep(&is_there));
    }

    pub(crate) fn series(&self) -> &Arc<SeriesTable> {
        &self.0.series
    }

    pub(crate) fn log(&self) -> &AccessLog {
        &self.0.log
    }

    pub(crate) fn count_attempt(&self) {
        self.0.attempts.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_decision(&self, protocol: Protocol, why: Why) {
        let counter = self.0.decisions.get(protocol as usize).and_then(|row| row.get(why as usize));
        if let Some(counter) = counter {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often each protocol was decided for, by the reason; only what happened.
    #[must_use]
    pub fn decisions(&self) -> Vec<(Protocol, Why, u64)> {
        let rows = Protocol::ALL.into_iter().zip(&self.0.decisions);
        let all =
            rows.flat_map(|(protocol, row)| Why::ALL.into_iter().zip(row).map(move |one| (protocol, one)));
        let counts = all.map(|(protocol, (why, count))| (protocol, why, count.load(Ordering::Relaxed)));
        counts.filter(|(_, _, count)| *count > 0).collect()
    }

    pub(crate) fn connected(&self, worker: usize, row: &Arc<Row>, now_ns: u64) {
        let mut progress = row.progress();
        if progress.connected_ns != 0 || progress.ending.is_some() {
            return;
        }
        progress.connected_ns = now_ns.max(1);
        drop(progress);
        let series = self.series_of(worker, row);
        series.count_opened();
        let mut progress = row.progress();
        progress.series = Some(series);
        if let Some(shard) = self.shard(worker) {
            locked(shard).carried.count(row, &progress);
        }
        // Each request of an HTTP connection has a line of its own, which says more.
        let tells = !progress.protocol.is_http();
        drop(progress);
        if tells {
            self.0.log.opened(worker, row);
        }
    }

    pub(crate) fn closed(
        &self,
        worker: usize,
        slot: usize,
        row: &Arc<Row>,
        reason: CloseReason,
        now_ns: u64,
    ) {
        let mut progress = row.progress();
        if progress.ending.is_some() {
            return;
        }
        progress.release_sockets();
        progress.ending = Some(Box::new(Ending { reason, closed_ns: now_ns }));
        row.count_bytes(&mut progress);
        let series = progress.series.take();
        drop(progress);
        match series {
            Some(series) => series.count_closed(),
            None => self.series_of(worker, row).count_failed(reason.response_flag()),
        }
        self.retire(worker, slot);
        self.0.log.closed(worker, row);
    }

    /// Moves a row from the live to the recently closed.
    fn retire(&self, worker: usize, slot: usize) {
        let Some(shard) = self.shard(worker) else { return };
        let mut shard = locked(shard);
        let Some(row) = shard.live.try_remove(slot) else { return };
        if self.0.closed_limit == 0 {
            return;
        }
        if shard.closed.len() >= self.0.closed_limit {
            shard.closed.pop_front();
        }
        shard.closed.push_back(row);
    }

    fn series_of(&self, worker: usize, row: &Row) -> Arc<super::series::Series> {
        let progress = row.progress();
        match self.shard(worker) {
            Some(shard) => locked(shard).cache.find(&self.0.series, row, &progress),
            None => SeriesCache::default().find(&self.0.series, row, &progress),
        }
    }

    /// Workers beyond the announced number share shards.
    fn shard(&self, worker: usize) -> Option<&Mutex<Shard>> {
        self.0.shards.get(worker % self.0.shards.len().max(1))
    }
}
