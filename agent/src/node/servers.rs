//! The two servers of an agent and what they show: metrics and health for everybody, the admin socket for its owner.

use std::{
    io,
    net::SocketAddr,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::net::{TcpListener, TcpSocket};

use super::{authority, kernel::Kernel, publish::Published};
use crate::{
    config::AgentArguments,
    control::manifest,
    explain::{Comer, Question, Unanswered, World, arrival, explain},
    identity::{CertificateStatus, IdentityStore},
    observe::{
        Connections, Enrolments, Requests, Sources,
        access_log::AccessLogTarget,
        admin::{self, AdminError},
        http::{self, Listener},
        metrics::Metrics,
        monotonic_ns,
        query::Query,
        sources::{Explainer, TunnelCounts},
        views::{AuthorityView, CertificateView},
    },
    snapshot::SpiffeId,
    worker::{ConnectLimits, TunnelGauge, WorkerHandle},
};

/// Connections of scrapers that wait.
const BACKLOG: u32 = 128;

/// Why a server does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Metrics and health.
    #[error(
        "cannot listen on --metrics-address {address}: {source}; give an address of this machine and a free port"
    )]
    Metrics {
        /// The address.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// What the socket answers, for port-forward.
    #[error("cannot listen on --admin-address {address}: {source}; give a free port of the loopback address")]
    AdminAddress {
        /// The address.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The socket's folder.
    #[error("cannot make the folder of --admin-socket {path}: {source}")]
    Folder {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The socket.
    #[error(transparent)]
    Admin(#[from] AdminError),
}

/// What is shown.
pub struct Parts<'start> {
    /// Snapshot, problems, readiness.
    pub published: &'start Published,
    /// The connection table.
    pub connections: &'start Connections,
    /// The requests.
    pub requests: &'start Requests,
    /// Certificates.
    pub identities: &'start IdentityStore,
    /// The capture.
    pub kernel: &'start Kernel,
    /// How pods came to be captured.
    pub enrolments: &'start Enrolments,
    /// Tunnels of the workers.
    pub workers: &'start Arc<Vec<WorkerHandle>>,
    /// This agent took the kernel part over from another.
    pub took_over: bool,
}

/// Where `--access-log` leads.
#[must_use]
pub fn access_log_target(text: &str) -> AccessLogTarget {
    match text {
        "off" => AccessLogTarget::Off,
        "stdout" => AccessLogTarget::Stdout,
        path => AccessLogTarget::File(path.into()),
    }
}

/// Starts both on the calling runtime.
///
/// # Errors
/// An address or the socket is taken.
pub async fn start(
    arguments: &AgentArguments,
    admin_socket: &Path,
    parts: &Parts<'_>,
) -> Result<(), ServerError> {
    let sources = Arc::new(sources(arguments, parts));
    let metrics = Arc::new(Metrics::new(&sources, &sources.series));
    let address = arguments.metrics_address;
    let public =
        listen(address, arguments.stand_by).map_err(|source| ServerError::Metrics { address, source })?;
    let folder = admin_socket.parent().unwrap_or(Path::new("/"));
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(folder)
        .map_err(|source| ServerError::Folder { path: admin_socket.to_owned(), source })?;
    let private = admin::listen(admin_socket)?;
    let answers = admin::public_answers(Arc::clone(&sources), Arc::clone(&metrics));
    tokio::spawn(http::serve(Listener::Tcp(public), answers));
    let answers = admin::admin_answers(sources, metrics);
    if let Some(address) = arguments.admin_address {
        let own = listen(address, arguments.stand_by)
            .map_err(|source| ServerError::AdminAddress { address, source })?;
        tokio::spawn(http::serve(Listener::Own(own), Arc::clone(&answers)));
    }
    tokio::spawn(http::serve(private, answers));
    Ok(())
}

/// With `beside`, an old agent that drains may have the port as well.
fn listen(address: SocketAddr, beside: bool) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(beside)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn sources(arguments: &AgentArguments, parts: &Parts<'_>) -> Sources {
    let Published { snapshot, problems, .. } = parts.published;
    let mut sources = Sources::new(
        arguments.node.clone(),
        Arc::clone(snapshot),
        Arc::clone(problems),
        parts.connections.clone(),
        parts.requests.clone(),
    );
    let reading = Arc::clone(&parts.published.reading);
    sources.objects = Arc::new(move || manifest::lines(&reading.load().inputs));
    let published = parts.published.clone();
    sources.not_ready = Arc::new(move || published.not_ready());
    let identities = parts.identities.clone();
    sources.certificates = Arc::new(move || identities.list().into_iter().map(certificate).collect());
    let (identities, address) = (parts.identities.clone(), authority::name(arguments));
    sources.authority = Arc::new(move || authority_view(&address, &identities.list()));
    let (kernel, published) = (parts.kernel.clone(), parts.published.clone());
    sources.capture = Arc::new(move || kernel.view(&published.snapshot.load()));
    let kernel = parts.kernel.clone();
    sources.captured = Arc::new(move || Some(kernel.captured()));
    sources.enrolments = parts.enrolments.clone();
    let kernel = parts.kernel.clone();
    sources.udp_flows = Arc::new(move || kernel.udp_flows());
    let gauges: Vec<Arc<TunnelGauge>> = parts.workers.iter().map(WorkerHandle::tunnels).collect();
    sources.tunnels = Arc::new(move || tunnels(&gauges));
    sources.explain = explainer(arguments.node.clone(), parts, |world, query| {
        Question::parse(query).and_then(|question| explain(world, &question))
    });
    sources.explain_arrival = explainer(arguments.node.clone(), parts, |world, query| {
        Comer::parse(query).and_then(|comer| arrival(world, &comer))
    });
    let took_over = parts.took_over;
    sources.took_over = Arc::new(move || took_over);
    sources
}

/// Answers `/explain` from what is in force when it is asked.
fn explainer<T>(
    node: String,
    parts: &Parts<'_>,
    answer: impl Fn(&World<'_>, &Query<'_>) -> Result<T, Unanswered> + Send + Sync + 'static,
) -> Explainer<T> {
    let (published, kernel, identities) =
        (parts.published.clone(), parts.kernel.clone(), parts.identities.clone());
    Arc::new(move |query| {
        let snapshot = published.snapshot.load_full();
        let certificate = |id: &SpiffeId| match identities.current(id) {
            Some(_) => Ok(()),
            None => Err(identities.last_error(id).unwrap_or_else(|| "it is being waited for".to_owned())),
        };
        let world = World {
            node: &node,
            snapshot: &snapshot,
            outbound: &|uid, destination| kernel.judge_outbound(uid, destination),
            inbound: &|uid, client, address| kernel.judge_inbound(uid, client, address),
            certificate: &certificate,
            connect: ConnectLimits::default(),
            now_ns: monotonic_ns(),
        };
        answer(&world, &Query::parse(query)).map_err(|error| match &error {
            Unanswered::Malformed(_) | Unanswered::NoDestination(_) => (400, error.to_string()),
            Unanswered::NotHere(_) => (404, error.to_string()),
        })
    })
}

fn tunnels(gauges: &[Arc<TunnelGauge>]) -> TunnelCounts {
    gauges.iter().fold(TunnelCounts::default(), |sum, gauge| {
        let one = gauge.read();
        TunnelCounts {
            connections: sum.connections + one.connections,
            streams: sum.streams + one.streams,
            built: sum.built + one.built,
            resumed: sum.resumed + one.resumed,
        }
    })
}

fn certificate(status: CertificateStatus) -> CertificateView {
    let seconds = |date: Option<String>| {
        let parsed = OffsetDateTime::parse(&date?, &Rfc3339).ok()?;
        Some(parsed.unix_timestamp())
    };
    CertificateView {
        identity: status.identity,
        state: serde_json::to_value(status.state)
            .ok()
            .and_then(|state| state.as_str().map(str::to_owned))
            .unwrap_or_default(),
        serial: status.serial,
        not_before: seconds(status.not_before),
        not_after: seconds(status.not_after),
        renew_at: seconds(status.renew_at),
        error: status.last_error,
    }
}

fn authority_view(address: &str, certificates: &[CertificateStatus]) -> AuthorityView {
    let last_error = certificates.iter().find_map(|one| one.last_error.clone());
    let state = match (&last_error, certificates.iter().any(|one| one.issued_total > 0)) {
        (Some(_), _) => "failing",
        (None, true) => "answering",
        (None, false) => "not asked yet",
    };
    AuthorityView { address: address.to_owned(), state: state.to_owned(), last_error }
}
