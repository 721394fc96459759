//! The parts together: a connection from open to close as the table, the metrics, the log, the admin socket and the commands show it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::{
    AccessLog, CloseReason, Connection, ConnectionLimits, Connections, Direction, Metrics, Opening, Security,
    SeriesTable, ServiceName, Sources, admin, clock::monotonic_ns, http, series::FORGET_AFTER_NS,
};
use crate::{
    cli::{self, Arguments, Command},
    snapshot::{MtlsMode, Snapshot, SpiffeId, Workload, model::WorkloadLabels},
};
use arc_swap::ArcSwap;
use clap::Parser;
use std::{
    collections::HashSet,
    io::Write,
    net::{TcpListener, TcpStream},
    os::fd::AsFd,
    path::Path,
    sync::{Arc, Mutex},
};

pub(crate) fn pod(name: &str, workload: &str) -> Arc<Workload> {
    Arc::new(Workload {
        uid: format!("shop/{name}").into(),
        name: name.into(),
        namespace: "shop".into(),
        node: "node-a".into(),
        identity: SpiffeId::new("cluster.local", "shop", workload),
        addresses: vec!["10.0.0.5".parse().unwrap()],
        meshed: true,
        captured: true,
        mtls: MtlsMode::Permissive,
        mtls_ports: std::collections::BTreeMap::new(),
        labels: WorkloadLabels {
            workload: workload.into(),
            app: "quote\"d".into(),
            ..WorkloadLabels::default()
        },
    })
}

fn service() -> ServiceName {
    ServiceName {
        name: "catalog".into(),
        namespace: "shop".into(),
        hostname: "catalog.shop.svc.cluster.local".into(),
    }
}

fn table(log: AccessLog) -> (Connections, Arc<SeriesTable>) {
    let series = SeriesTable::new(100);
    (Connections::new(2, ConnectionLimits { recently_closed: 4 }, series.clone(), log), series)
}

fn open(connections: &Connections, worker: usize) -> Connection {
    let opening = Opening {
        id: 0xff,
        direction: Direction::Outbound,
        client: "10.0.0.5:40000".parse().unwrap(),
        pod: pod("cart-1", "cart"),
        captured_ns: monotonic_ns(),
    };
    let connection = connections.opened(worker, opening);
    connection.destination("10.96.0.7:80".parse().unwrap());
    connection.service(service());
    connection.attempt();
    connection.endpoint("10.0.1.9:8080".parse().unwrap());
    let peer = pod("catalog-1", "catalog");
    let identity = peer.identity.clone();
    connection.peer(Some(peer), Some(identity));
    connection.security(Security::MutualTls);
    connection
}

fn sources(connections: Connections, generation: u64) -> Arc<Sources> {
    let snapshot = Snapshot { generation, ..Snapshot::default() };
    Arc::new(Sources::new(
        "node-a".to_owned(),
        Arc::new(ArcSwap::from_pointee(snapshot)),
        Arc::default(),
        connections,
        super::Requests::new(2, super::requests::RequestOptions::default()),
    ))
}

/// Samples of a scrape whose line starts with `name{`, with their values.
pub(crate) fn samples(text: &str, name: &str) -> Vec<(String, u64)> {
    let lines = text.lines().filter(|line| line.starts_with(&format!("{name}{{")));
    lines
        .map(|line| {
            let (labels, value) = line.rsplit_once(' ').unwrap();
            (labels.to_owned(), value.parse().unwrap())
        })
        .collect()
}

fn scrape(connections: &Connections) -> String {
    let sources = sources(connections.clone(), 1);
    sources.prepare_scrape();
    Metrics::new(&sources, &sources.series).encode().unwrap()
}

#[test]
fn a_scrape_shows_live_bytes_and_istio_labels() {
    let (connections, _) = table(AccessLog::off());
    let connection = open(&connections, 0);
    connection.connected();
    connection.connected();
    connection.sent(1000);
    connection.received(10);
    let text = scrape(&connections);
    assert!(text.ends_with("# EOF\n"));
    let sent = samples(&text, "istio_tcp_sent_bytes_total");
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].1, 1000);
    for label in [
        "reporter=\"source\"",
        "source_workload=\"cart\"",
        "source_workload_namespace=\"shop\"",
        "source_principal=\"spiffe://cluster.local/ns/shop/sa/cart\"",
        "source_app=\"quote\\\"d\"",
        "source_version=\"unknown\"",
        "destination_workload=\"catalog\"",
        "destination_service=\"catalog.shop.svc.cluster.local\"",
        "destination_service_name=\"catalog\"",
        "destination_service_namespace=\"shop\"",
        "request_protocol=\"tcp\"",
        "response_flags=\"-\"",
        "connection_security_policy=\"mutual_tls\"",
    ] {
        assert!(sent[0].0.contains(label), "{label} in {}", sent[0].0);
    }
    connection.sent(1);
    connection.close(CloseReason::Finished);
    let text = scrape(&connections);
    assert_eq!(samples(&text, "istio_tcp_sent_bytes_total")[0].1, 1001);
    assert_eq!(samples(&text, "istio_tcp_received_bytes_total")[0].1, 10);
    assert_eq!(samples(&text, "istio_tcp_connections_opened_total")[0].1, 1);
    assert_eq!(samples(&text, "istio_tcp_connections_closed_total")[0].1, 1);
    assert!(samples(&text, "istio_tcp_connections_failed_total").is_empty());
    assert!(text.contains("posthaste_dial_attempts_total 1\n"), "{text}");
    assert!(text.contains("posthaste_snapshot_generation 1\n"), "{text}");
}

#[test]
fn each_end_is_recorded_once() {
    let endings: [(bool, Option<CloseReason>, &str); 5] = [
        (true, Some(CloseReason::ClientReset), "closed"),
        (true, None, "closed"),
        (false, Some(CloseReason::TlsFailure), "TLS_FAILURE"),
        (false, Some(CloseReason::Refused(401)), "DENY"),
        (false, None, "\"-\""),
    ];
    for (connected, reason, seen) in endings {
        let (connections, _) = table(AccessLog::off());
        let connection = open(&connections, 1);
        if connected {
            connection.connected();
        }
        if let Some(reason) = reason {
            connection.close(reason);
            connection.close(CloseReason::Finished);
            connection.connected();
        }
        drop(connection);
        assert_eq!(connections.active(), 0);
        let closed = connections.recently_closed();
        assert_eq!(closed.len(), 1);
        let ending = closed[0].progress().ending.as_deref().copied().unwrap();
        assert_eq!(ending.reason, reason.unwrap_or(CloseReason::Cancelled));
        let text = scrape(&connections);
        let closed = samples(&text, "istio_tcp_connections_closed_total");
        let failed = samples(&text, "istio_tcp_connections_failed_total");
        let counted = if connected { &closed } else { &failed };
        assert_eq!((closed.len() + failed.len(), counted[0].1), (1, 1));
        assert!(connected || counted[0].0.contains(seen), "{counted:?}");
    }
}

#[test]
fn pods_of_one_deployment_share_a_series_and_slots_are_used_again() {
    let (connections, series) = table(AccessLog::off());
    for _ in 0..50 {
        let connection = open(&connections, 0);
        connection.connected();
        connection.close(CloseReason::Finished);
    }
    assert_eq!(series.len(), 1);
    assert_eq!(connections.recently_closed().len(), 2, "the ring is bounded per worker");
}

#[test]
fn series_are_bounded_and_forgotten_when_their_workloads_left() {
    let series = SeriesTable::new(1);
    let connections = Connections::new(1, ConnectionLimits::default(), series.clone(), AccessLog::off());
    let first = open(&connections, 0);
    first.connected();
    let second = open(&connections, 0);
    second.security(Security::None);
    second.connected();
    assert_eq!((series.len(), series.overflowed()), (2, 1));
    let nobody = HashSet::new();
    series.sweep(&nobody, 1);
    series.sweep(&nobody, FORGET_AFTER_NS + 1);
    assert_eq!(series.len(), 2, "live connections keep their series");
    drop((first, second));
    series.sweep(&nobody, 1);
    series.sweep(&nobody, FORGET_AFTER_NS);
    assert_eq!(series.len(), 2, "not yet");
    series.sweep(&nobody, FORGET_AFTER_NS + 1);
    assert_eq!(series.len(), 1, "unknowns stay");
    let again = open(&connections, 0);
    again.connected();
    assert_eq!(series.all().iter().map(|one| one.opened()).sum::<u64>(), 2, "a fresh series or the unknowns");
}

#[test]
fn the_sockets_last_words_are_kept() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (connections, _) = table(AccessLog::off());
    let connection = open(&connections, 0);
    let attached = connection.sockets(Some(client.as_fd()), Some(client.as_fd()));
    let live = connections.live();
    assert!(live[0].progress().socket_pair().network.unwrap().congestion_window > 0);
    drop(attached);
    drop(client);
    connection.close(CloseReason::Finished);
    assert!(live[0].progress().socket_pair().application.unwrap().congestion_window > 0);
}

#[derive(Clone, Default)]
pub(crate) struct Captured(pub(crate) Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn the_access_log_has_a_line_at_open_and_at_close() {
    let out = Captured::default();
    let log = AccessLog::start_into(Box::new(out.clone()), 2).unwrap();
    let (connections, _) = table(log.clone());
    let connection = open(&connections, 1);
    connection.connected();
    connection.sent(7);
    connection.close(CloseReason::Refused(503));
    log.stop();
    let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert_eq!(lines[0]["event"], "open");
    assert_eq!(lines[0]["id"], "00000000000000ff");
    assert_eq!(lines[0]["source"]["workload"], "cart");
    assert_eq!(lines[0]["destination"]["address"], "10.96.0.7:80");
    assert_eq!(lines[1]["event"], "close");
    assert_eq!(lines[1]["sent_bytes"], 7);
    assert_eq!((&lines[1]["reason"], &lines[1]["status"]), (&"refused".into(), &503.into()));
    assert_eq!((&lines[1]["flag"], &lines[1]["ended_by"]), (&"CONNECT".into(), &"peer".into()));
    let time = lines[1]["time"].as_str().unwrap();
    assert_eq!((time.len(), time.ends_with('Z'), time.starts_with("20")), (24, true, true), "{time}");
    assert_eq!((log.written(), log.dropped()), (2, 0));
}

#[test]
fn a_stuck_output_costs_lines_and_never_a_worker() {
    let out = Captured::default();
    let log = AccessLog::start_into(Box::new(out.clone()), 1).unwrap();
    let (connections, _) = table(log.clone());
    let stuck = out.0.lock().unwrap();
    for _ in 0..20_000 {
        drop(open(&connections, 0));
    }
    drop(stuck);
    log.stop();
    assert!(log.dropped() > 0);
    assert_eq!(log.written() + log.dropped(), 20_000);
}

#[test]
fn names_are_escaped_in_lines() {
    let out = Captured::default();
    let log = AccessLog::start_into(Box::new(out.clone()), 1).unwrap();
    let (connections, _) = table(log.clone());
    let connection = open(&connections, 0);
    connection.peer(Some(pod("a\"},\n\u{1b}\\", "w")), None);
    drop(connection);
    log.stop();
    let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    let line: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(line["destination"]["pod"], "a\"},\n\u{1b}\\");
    assert_eq!(line["reason"], "cancelled");
}

pub(crate) fn run(socket: &Path, command: &[&str]) -> Result<String, String> {
    let mut words = vec!["posthaste", "--admin-socket", socket.to_str().unwrap()];
    words.extend(command);
    let arguments = Arguments::try_parse_from(words).unwrap();
    #[allow(irrefutable_let_patterns, reason = "main adds commands that do not inspect")]
    let Command::Inspect(inspect) = &arguments.command else { panic!("not a command that inspects") };
    let mut out = Vec::new();
    cli::execute(&arguments.options, inspect, &Vec::new, &mut out).map_err(|error| error.to_string())?;
    Ok(String::from_utf8(out).unwrap())
}

#[test]
fn commands_show_what_the_admin_socket_says() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("run/admin.sock");
    let (connections, _) = table(AccessLog::off());
    let connection = open(&connections, 0);
    connection.connected();
    let sources = sources(connections, 0);
    let metrics = Arc::new(Metrics::new(&sources, &sources.series));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let refused = run(&socket, &["status"]).unwrap_err();
    assert!(refused.contains("no agent at"), "{refused}");
    let listener = runtime.block_on(async { admin::listen(&socket) }).unwrap();
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let answers = admin::admin_answers(sources.clone(), metrics);
    let other = runtime.block_on(async { admin::listen(&socket) });
    assert!(other.is_err(), "a living socket is not taken over");
    // Ends with the process: it serves for ever.
    std::thread::spawn(move || runtime.block_on(http::serve(listener, answers)));

    let status = run(&socket, &["status"]).unwrap();
    assert!(status.contains("no: no complete snapshot"), "{status}");
    let place = cli::cluster::place::Place { admin_socket: socket.clone(), ..Default::default() };
    let not_ready = cli::client::fetch(&place, "/readyz").unwrap_err().to_string();
    assert!(not_ready.contains("503"), "{not_ready}");
    sources.snapshot.store(Arc::new(Snapshot { generation: 1, ..Snapshot::default() }));
    assert_eq!(cli::client::fetch(&place, "/readyz").unwrap(), b"ready\n");

    let table = run(&socket, &["connections", "--columns", "200"]).unwrap();
    assert!(table.contains("shop/cart-1") && table.contains("catalog.shop"), "{table}");
    let json = run(&socket, &["-o", "json", "connections", "--service", "catalog.shop"]).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["connections"][0]["endpoint"], "10.0.1.9:8080");
    for (filter, shown) in
        [(["--pod", "cart-1"], true), (["--pod", "x"], false), (["--state", "connecting"], false)]
    {
        let text = run(&socket, &["connections", filter[0], filter[1]]).unwrap();
        assert_eq!(text.contains("shop/cart-1"), shown, "{text}");
    }
    connection.close(CloseReason::ServerReset);
    let closed = run(&socket, &["connections", "--closed", "--watch", "--count", "1"]).unwrap();
    assert!(closed.contains("server_reset"), "{closed}");
    for command in ["workloads", "services", "certs"] {
        assert!(run(&socket, &[command]).unwrap().starts_with("no "), "{command}");
    }
    assert!(
        String::from_utf8(cli::client::fetch(&place, "/metrics").unwrap())
            .unwrap()
            .contains("# TYPE posthaste_ready gauge\n")
    );
}
