//! The answers of the two servers. On TCP :15020 `/metrics`, `/stats/prometheus`, `/healthz`, `/readyz`; on the Unix socket
//! these and `/status`, `/connections`, `/workloads`, `/services`, `/certs`, `/routes`, `/endpoints`, `/top`, `/tap`, `/explain`, `/explain/arrival`, `/coverage`, `/objects`.

use super::{
    Metrics, Sources, breakers,
    clock::monotonic_ns,
    exposition,
    http::{Answer, Answers, Listener},
    line,
    query::Query,
    request_answers,
    row::Row,
    views::{ConnectionView, ConnectionsView, EndpointView, ServicePortView, ServiceView, WorkloadView},
};
use crate::snapshot::{Endpoint, MtlsMode, Service, ServicePort, Snapshot, Workload};
use hyper::StatusCode;
use std::{
    collections::{BTreeMap, HashMap},
    io,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering::Relaxed},
};
use tokio::net::UnixListener;

/// Rows of one answer of `/connections`, so that the answer stays bounded; `limit` in the query asks for fewer.
const ROWS: usize = 10_000;

/// The admin socket cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("admin socket {path}: {source}: is another agent running, and is the folder ours to write?")]
pub struct AdminError {
    path: PathBuf,
    source: io::Error,
}

/// Listens at `path` with mode 0600. A socket file that nobody listens at any more is replaced; one that answers is not.
///
/// # Errors
/// Another agent listens there, or the folder cannot be made or written.
pub fn listen(path: &Path) -> Result<Listener, AdminError> {
    bind(path).map(Listener::Unix).map_err(|source| AdminError { path: path.to_owned(), source })
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt};
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    if let Ok(file) = std::fs::symlink_metadata(path) {
        if !file.file_type().is_socket() {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "a file that is no socket is in the way",
            ));
        }
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::Error::from(io::ErrorKind::AddrInUse));
        }
    }
    // Bound under another name first, so that nobody can connect before the mode is set.
    let mut hidden = path.as_os_str().to_owned();
    hidden.push(format!(".{}", std::process::id()));
    let hidden = PathBuf::from(hidden);
    // Left by a process of the same number that was killed right here.
    let _ = std::fs::remove_file(&hidden);
    let listener = UnixListener::bind(&hidden)?;
    std::fs::set_permissions(&hidden, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&hidden, path)?;
    Ok(listener)
}

/// What anybody who reaches :15020 may read.
#[must_use]
pub fn public_answers(sources: Arc<Sources>, metrics: Arc<Metrics>) -> Answers {
    Arc::new(move |path, _| public(&sources, &metrics, path).unwrap_or_else(not_found))
}

/// What the owner of the socket file may read.
#[must_use]
pub fn admin_answers(sources: Arc<Sources>, metrics: Arc<Metrics>) -> Answers {
    Arc::new(move |path, query| match path {
        "/status" => Answer::json(&sources.status()),
        "/connections" => Answer::json(&connections(&sources, &Query::parse(query))),
        "/coverage" => Answer::json(&super::coverage::coverage(&sources)),
        "/workloads" => {
            let query = Query::parse(query);
            let asked = query.find("present");
            asked.iter().for_each(|namespace| sources.enrolments.ask_present(namespace, monotonic_ns()));
            Answer::json(&workloads(&sources))
        }
        "/services" => Answer::json(&services(&sources.snapshot.load(), monotonic_ns())),
        "/routes" => Answer::json(&request_answers::routes(&sources, &Query::parse(query), monotonic_ns())),
        "/endpoints" => {
            Answer::json(&breakers::endpoints(&sources.snapshot.load(), &Query::parse(query), monotonic_ns()))
        }
        "/top" => Answer::json(&sources.requests.top()),
        "/tap" => request_answers::tap(&sources.requests, &Query::parse(query)),
        "/certs" => Answer::json(&(sources.certificates)()),
        "/explain" => explained((sources.explain)(query)),
        "/explain/arrival" => explained((sources.explain_arrival)(query)),
        "/objects" => Answer::text(StatusCode::OK, (sources.objects)()),
        _ => public(&sources, &metrics, path).unwrap_or_else(not_found),
    })
}

fn explained<T: serde::Serialize>(answer: Result<T, (u16, String)>) -> Answer {
    match answer {
        Ok(view) => Answer::json(&view),
        Err((status, text)) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
            Answer::text(status, format!("{text}\n"))
        }
    }
}

fn not_found() -> Answer {
    Answer::text(StatusCode::NOT_FOUND, "no such page\n")
}

fn public(sources: &Sources, metrics: &Metrics, path: &str) -> Option<Answer> {
    Some(match path {
        "/healthz" => Answer::text(StatusCode::OK, "ok\n"),
        "/readyz" => match sources.not_ready_reason() {
            None => Answer::text(StatusCode::OK, "ready\n"),
            Some(reason) => Answer::text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")),
        },
        "/metrics" | "/stats/prometheus" => scrape(sources, metrics),
        _ => return None,
    })
}

fn scrape(sources: &Sources, metrics: &Metrics) -> Answer {
    sources.prepare_scrape();
    match metrics.encode() {
        Ok(body) => Answer { status: StatusCode::OK, content: exposition::OPEN_METRICS, body: body.into() },
        Err(error) => Answer::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

/// `id=..&closed=true&all=true&namespace=..&pod=..&service=..&state=..&limit=..`; cheap, before the texts of a row are made.
fn fits(query: &Query<'_>, row: &Row) -> bool {
    let progress = row.progress();
    let pods = [Some(&row.pod), progress.peer.as_ref()];
    let any = |test: &dyn Fn(&Workload) -> bool| pods.into_iter().flatten().any(|pod| test(pod));
    query.find("id").is_none_or(|id| u64::from_str_radix(id, 16) == Ok(row.id))
        && query.find("namespace").is_none_or(|namespace| any(&|pod| &*pod.namespace == namespace))
        && query.find("pod").is_none_or(|name| any(&|pod| &*pod.name == name))
        && query
            .find("service")
            .is_none_or(|name| progress.service.as_ref().is_some_and(|service| service.is(name)))
        && query.find("state").is_none_or(|state| match state {
            "connecting" => progress.ending.is_none() && progress.connected_ns == 0,
            "open" => progress.ending.is_none() && progress.connected_ns != 0,
            "closed" => progress.ending.is_some(),
            _ => false,
        })
}

fn connections(sources: &Sources, query: &Query<'_>) -> ConnectionsView {
    let table = &sources.connections;
    let closed = query.find("closed") == Some("true") || query.find("state") == Some("closed");
    let mut rows = if closed { table.recently_closed() } else { table.live() };
    if !closed && query.find("all") == Some("true") {
        rows.extend(table.recently_closed());
    }
    rows.retain(|row| fits(query, row));
    rows.sort_by_key(|row| std::cmp::Reverse(row.captured_ns));
    let limit = query.find("limit").and_then(|limit| limit.parse().ok()).unwrap_or(ROWS).min(ROWS);
    let now_ns = monotonic_ns();
    let shown: Vec<ConnectionView> = rows.iter().take(limit).map(|row| line::view(row, now_ns)).collect();
    ConnectionsView { active: table.active(), truncated: rows.len() > shown.len(), connections: shown }
}

/// Every pod of the snapshot once: by its addresses, and those of this node also where they have none yet.
fn workloads(sources: &Sources) -> Vec<WorkloadView> {
    let snapshot = sources.snapshot.load();
    let captured = (sources.captured)();
    let here = snapshot.local_pods.values().map(|pod| &pod.workload);
    let all = snapshot.workloads.values().chain(here).chain(snapshot.uncaptured.iter().map(|(pod, _)| pod));
    let mut found = BTreeMap::new();
    for workload in all {
        found
            .entry((workload.namespace.clone(), workload.name.clone(), workload.uid.clone()))
            .or_insert(workload);
    }
    let reasons: HashMap<&str, &String> =
        snapshot.uncaptured.iter().map(|(pod, reason)| (&*pod.uid, reason)).collect();
    let view = |workload: &Workload| {
        let local = snapshot.local_pods.contains_key(&workload.uid);
        let captured = captured.as_ref().is_none_or(|captured| captured.contains(&*workload.uid));
        let enrolment = sources.enrolments.of(&workload.uid);
        WorkloadView {
            not_captured: enrolment.waiting.or_else(|| reasons.get(&*workload.uid).map(|why| (*why).clone())),
            capture_window_us: enrolment.capture_window_us,
            connections_before: enrolment.connections_before,
            connections_present: sources.enrolments.present(&workload.uid),
            captured_here: local && captured,
            ..workload_view(workload)
        }
    };
    found.values().map(|workload| view(workload)).collect()
}

fn workload_view(workload: &Workload) -> WorkloadView {
    WorkloadView {
        namespace: workload.namespace.to_string(),
        pod: workload.name.to_string(),
        addresses: workload.addresses.iter().map(ToString::to_string).collect(),
        node: workload.node.to_string(),
        identity: workload.identity.to_string(),
        meshed: workload.meshed,
        mtls: mtls(workload),
        ..WorkloadView::default()
    }
}

/// `strict`, or `strict, 9090=permissive`.
fn mtls(workload: &Workload) -> String {
    let word = |mode: MtlsMode| match mode {
        MtlsMode::Permissive => "permissive",
        MtlsMode::Strict => "strict",
    };
    let ports = workload.mtls_ports.iter().map(|(port, mode)| format!(", {port}={}", word(*mode)));
    word(workload.mtls).to_owned() + &ports.collect::<String>()
}

fn services(snapshot: &Snapshot, now_ns: u64) -> Vec<ServiceView> {
    snapshot.services.iter().map(|service| service_view(service, now_ns)).collect()
}

fn service_view(service: &Service, now_ns: u64) -> ServiceView {
    ServiceView {
        namespace: service.namespace.to_string(),
        name: service.name.to_string(),
        cluster_ips: service.cluster_ips.iter().map(ToString::to_string).collect(),
        affinity_seconds: service.affinity_seconds,
        ports: service.ports.iter().map(|port| port_view(port, now_ns)).collect(),
    }
}

fn port_view(port: &ServicePort, now_ns: u64) -> ServicePortView {
    ServicePortView {
        port: port.port,
        name: port.name.to_string(),
        known_endpoints: port.known_endpoints,
        endpoints: port.endpoints.iter().map(|endpoint| endpoint_view(endpoint, now_ns)).collect(),
    }
}

fn endpoint_view(endpoint: &Endpoint, now_ns: u64) -> EndpointView {
    let load = endpoint.load.known();
    let until = load.map_or(0, |load| load.ejected_until_ns.load(Relaxed));
    EndpointView {
        address: endpoint.address.to_string(),
        pod: endpoint.workload.as_ref().map(|pod| format!("{}/{}", pod.namespace, pod.name)),
        outstanding: load.map_or(0, |load| load.outstanding.load(Relaxed)),
        connect_us: load.map_or(0, |load| load.ewma_ns.load(Relaxed) / 1000),
        failures: load.map_or(0, |load| load.failures.load(Relaxed)),
        ejected_ms: (until > now_ns).then(|| (until - now_ns) / 1_000_000),
    }
}
