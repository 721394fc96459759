//! Where everything comes from that the admin socket and the metrics show: handles and closures that the agent fills in once.

use super::{
    AccessLog, Connections, Enrolments, Requests, SeriesTable,
    clock::{monotonic_ns, wall_ns},
    views::{
        ADMIN_VERSION, ArrivalView, AuthorityView, CaptureView, CertificateSummary, CertificateView,
        ExplainView, ProblemView, StatusView, UncapturedView,
    },
};
use crate::snapshot::{Problem, Snapshot};
use arc_swap::ArcSwap;
use std::{
    collections::HashSet, fmt, net::SocketAddr, sync::Arc, sync::atomic::AtomicU64,
    sync::atomic::Ordering::Relaxed,
};

/// A value that is asked for when somebody looks; called on the control runtime, so it must not block.
pub type Supply<T> = Arc<dyn Fn() -> T + Send + Sync>;

/// Answers the query of `/explain` or `/explain/arrival`, or says the HTTP status and why.
pub type Explainer<T> = Arc<dyn Fn(&str) -> Result<T, (u16, String)> + Send + Sync>;

/// What the pools of tunnels hold now, and held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TunnelCounts {
    /// Tunnels that are up.
    pub connections: u64,
    /// Streams on them.
    pub streams: u64,
    /// Tunnels that were built since the start.
    pub built: u64,
    /// Of these, with a resumed TLS session.
    pub resumed: u64,
}

/// Everything that is shown. Fill the public fields that have a meaning before serving.
pub struct Sources {
    /// Node name.
    pub node: String,
    /// Version of the agent.
    pub version: String,
    /// When it started, agent time.
    pub started_ns: u64,
    /// The published snapshot.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// What does not fit in the objects, of the last reload.
    pub problems: Arc<ArcSwap<Vec<Problem>>>,
    /// The connection table.
    pub connections: Connections,
    /// The requests.
    pub requests: Requests,
    /// The series of the connections.
    pub series: Arc<SeriesTable>,
    /// The access log.
    pub access_log: AccessLog,
    /// The objects that the snapshot was built from, as manifests: one JSON object a line.
    pub objects: Supply<String>,
    /// Why the agent is not ready, beside the missing snapshot; none when it is.
    pub not_ready: Supply<Option<String>>,
    /// All certificates.
    pub certificates: Supply<Vec<CertificateView>>,
    /// The certificate authority.
    pub authority: Supply<AuthorityView>,
    /// The kernel part.
    pub capture: Supply<CaptureView>,
    /// Uids of the pods that the kernel captures now; none where nobody asks the kernel.
    pub captured: Supply<Option<HashSet<String>>>,
    /// How pods came to be captured.
    pub enrolments: Enrolments,
    /// Where pods sent UDP: uid, destination, how often.
    pub udp_flows: Supply<Vec<(String, SocketAddr, u64)>>,
    /// The tunnels.
    pub tunnels: Supply<TunnelCounts>,
    /// Explains what would become of a connection or a request, from what is in force when it is asked.
    pub explain: Explainer<ExplainView>,
    /// The same of what comes to a pod of this node, for the agent of the caller.
    pub explain_arrival: Explainer<ArrivalView>,
    /// 1 where this agent took pinned programs over from another.
    pub took_over: Supply<bool>,
    swept_ns: AtomicU64,
}

/// How often series are looked through for workloads that left: once a minute, at a scrape.
const SWEEP_EVERY_NS: u64 = 60_000_000_000;

impl Sources {
    /// Sources with empty answers for what the closures supply.
    #[must_use]
    pub fn new(
        node: String,
        snapshot: Arc<ArcSwap<Snapshot>>,
        problems: Arc<ArcSwap<Vec<Problem>>>,
        connections: Connections,
        requests: Requests,
    ) -> Self {
        Self {
            node,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_ns: monotonic_ns(),
            snapshot,
            problems,
            series: connections.series().clone(),
            access_log: connections.log().clone(),
            connections,
            requests,
            objects: Arc::new(String::new),
            not_ready: Arc::new(|| None),
            certificates: Arc::new(Vec::new),
            authority: Arc::new(AuthorityView::default),
            capture: Arc::new(CaptureView::default),
            captured: Arc::new(|| None),
            enrolments: Enrolments::default(),
            udp_flows: Arc::new(Vec::new),
            tunnels: Arc::new(TunnelCounts::default),
            explain: Arc::new(|_| Err((404, "nothing is explained here".to_owned()))),
            explain_arrival: Arc::new(|_| Err((404, "nothing is explained here".to_owned()))),
            took_over: Arc::new(|| false),
            swept_ns: AtomicU64::new(0),
        }
    }

    /// Why the agent is not ready; none when it is.
    #[must_use]
    pub fn not_ready_reason(&self) -> Option<String> {
        if self.snapshot.load().generation == 0 {
            return Some("no complete snapshot of the objects yet".to_owned());
        }
        (self.not_ready)()
    }

    /// What a scrape needs done before it reads: bytes of live connections, and now and then the sweep.
    pub fn prepare_scrape(&self) {
        self.connections.count_bytes();
        self.requests.gather();
        let now_ns = monotonic_ns();
        if now_ns.saturating_sub(self.swept_ns.load(Relaxed)) < SWEEP_EVERY_NS {
            return;
        }
        self.swept_ns.store(now_ns, Relaxed);
        let snapshot = self.snapshot.load();
        let present: HashSet<_> = snapshot
            .workloads
            .values()
            .map(|workload| (workload.namespace.clone(), workload.labels.workload.clone()))
            .collect();
        self.series.sweep(&present, now_ns);
        self.connections.keep_carried(|uid| snapshot.local_pods.contains_key(uid));
        self.requests.sweep(&present, &snapshot, now_ns);
    }

    /// Of objects, and of what traffic showed.
    fn shown_problems(&self) -> Vec<ProblemView> {
        let mut problems: Vec<ProblemView> = self.problems.load().iter().map(problem).collect();
        problems.extend(self.connections.denials().problems(monotonic_ns()));
        problems
    }

    /// The answer of `/status`.
    #[must_use]
    pub fn status(&self) -> StatusView {
        let snapshot = self.snapshot.load();
        let not_ready_reason = self.not_ready_reason();
        StatusView {
            admin_version: ADMIN_VERSION,
            node: self.node.clone(),
            version: self.version.clone(),
            uptime_seconds: monotonic_ns().saturating_sub(self.started_ns) / 1_000_000_000,
            ready: not_ready_reason.is_none(),
            not_ready_reason,
            snapshot_generation: snapshot.generation,
            workloads: snapshot
                .workloads
                .values()
                .map(|workload| &workload.uid)
                .collect::<HashSet<_>>()
                .len(),
            services: snapshot.services.len(),
            local_pods: snapshot.local_pods.len(),
            uncaptured: uncaptured(&snapshot),
            connections: self.connections.active(),
            problems: self.shown_problems(),
            capture: (self.capture)(),
            certificates: summary(&(self.certificates)(), seconds_now()),
            authority: (self.authority)(),
        }
    }
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").field("node", &self.node).finish_non_exhaustive()
    }
}

pub(crate) fn seconds_now() -> i64 {
    i64::try_from(wall_ns() / 1_000_000_000).unwrap_or(i64::MAX)
}

fn uncaptured(snapshot: &Snapshot) -> Vec<UncapturedView> {
    let pods = snapshot.uncaptured.iter().map(|(workload, reason)| UncapturedView {
        namespace: workload.namespace.to_string(),
        pod: workload.name.to_string(),
        reason: reason.clone(),
    });
    pods.collect()
}

fn problem(problem: &Problem) -> ProblemView {
    ProblemView {
        origin: problem.origin.clone(),
        object: problem.object.clone(),
        field: problem.field.clone(),
        reason: problem.reason.clone(),
    }
}

fn summary(certificates: &[CertificateView], now: i64) -> CertificateSummary {
    let left = |certificate: &CertificateView| certificate.not_after.map(|end| end.saturating_sub(now));
    let valid = certificates.iter().filter(|one| left(one).is_some_and(|left| left > 0)).count();
    CertificateSummary {
        valid,
        missing: certificates.len().saturating_sub(valid),
        first_expiry_seconds: certificates.iter().filter_map(left).min(),
    }
}
