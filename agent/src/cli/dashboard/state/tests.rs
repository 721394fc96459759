//! What two agents say, put together.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use crate::{
    cli::graph,
    observe::{
        CloseReason, Direction, Security,
        views::{ConnectionsView, EndpointView, StatusView},
    },
};
use std::time::Duration;

/// What an agent's metrics say of calls from `cart` to `web`, and of connections of others to it.
fn metrics(good: u32, bad: u32, opened: u32, refused: u32) -> String {
    let of = |name: &str, more: &str, value: u32| {
        format!(
            "{name}{{reporter=\"source\",source_workload=\"cart\",source_workload_namespace=\"shop\",destination_service_name=\"front\",destination_service_namespace=\"shop\",connection_security_policy=\"mutual_tls\",{more}}} {value}\n"
        )
    };
    let to = |workload: &str| {
        format!("destination_workload=\"{workload}\",destination_workload_namespace=\"shop\"")
    };
    [
        of("istio_requests_total", &format!("{},response_code=\"200\"", to("web")), good),
        of("istio_requests_total", &format!("{},response_code=\"503\"", to("web")), bad),
        of("istio_tcp_connections_opened_total", &to("db"), opened),
        of("istio_tcp_connections_closed_total", &to("db"), opened / 2),
        of("istio_tcp_connections_failed_total", &to("db"), refused),
        of("istio_tcp_sent_bytes_total", &to("db"), opened * 100),
    ]
    .concat()
}

fn sample(node: &str, metrics: &str, requests: u64, failures: u64) -> Sample {
    let endpoint = |ejected_ms| EndpointView { ejected_ms, ..EndpointView::default() };
    let port = ServicePortView {
        port: 80,
        known_endpoints: 3,
        endpoints: vec![endpoint(None), endpoint(Some(5))],
        ..ServicePortView::default()
    };
    Sample {
        status: StatusView { node: node.to_owned(), ready: true, ..StatusView::default() },
        graph: graph::read(metrics),
        top: vec![TopView {
            namespace: "shop".to_owned(),
            service: "front".to_owned(),
            port: 80,
            requests,
            failures,
            latencies: vec![(9, requests)],
            ..TopView::default()
        }],
        services: vec![ServiceView {
            namespace: "shop".to_owned(),
            name: "front".to_owned(),
            ports: vec![port.clone(), port],
            ..ServiceView::default()
        }],
        ..Sample::default()
    }
}

fn record(direction: Direction, state: &str) -> ConnectionView {
    let party = |pod: &str| PartyView {
        namespace: Some("shop".to_owned()),
        pod: Some(format!("{pod}-0")),
        workload: Some(pod.to_owned()),
        principal: Some(format!("spiffe://cluster.local/ns/shop/sa/{pod}")),
        address: None,
    };
    ConnectionView {
        id: "00000000000000ff".to_owned(),
        direction,
        state: state.to_owned(),
        source: party("cart"),
        destination: if direction == Direction::Inbound { party("web") } else { PartyView::default() },
        service: (direction == Direction::Outbound).then(|| "front.shop.svc.cluster.local".to_owned()),
        protocol: None,
        protocol_why: None,
        server_name: None,
        endpoint: None,
        security: Security::MutualTls,
        sent_bytes: 1,
        received_bytes: 2,
        age_ms: 3,
        attempts: 1,
        connect_ms: None,
        stages: Default::default(),
        application_socket: None,
        network_socket: None,
        reason: (state == "closed").then_some(CloseReason::Finished),
        ended_by: None,
        flag: None,
        policy: None,
    }
}

#[test]
fn rates_of_several_agents_add_up() {
    let begin = Instant::now();
    let after = |seconds| begin + Duration::from_secs(seconds);
    let mut watched = [Watched::default(), Watched::default()];
    for (one, node) in watched.iter_mut().zip(["a", "b"]) {
        one.take(begin, sample(node, &metrics(100, 0, 10, 0), 100, 0));
        one.take(after(5), sample(node, &metrics(145, 5, 20, 10), 150, 5));
    }
    watched[1].fail("gone".to_owned());
    let agents: Vec<(&str, &Watched)> = vec![("/a.sock", &watched[0]), ("/b.sock", &watched[1])];
    let state = state(&agents, after(9));
    let said: Vec<_> =
        state.agents.iter().map(|one| (one.node.as_deref(), one.age_ms, one.error.as_deref())).collect();
    assert_eq!(said, [(Some("a"), Some(4000), None), (Some("b"), Some(4000), Some("gone"))]);
    assert_eq!(state.window_seconds, Some(5.0));
    let edge = |to: &str| state.edges.iter().find(|edge| edge.to == to).unwrap();
    let web = edge("shop/web");
    assert_eq!((web.requests_per_second, web.success_percent, web.total_requests), (20.0, Some(90.0), 300.0));
    assert!(web.encrypted && web.services.contains("shop/front"), "{web:?}");
    let db = edge("shop/db");
    assert_eq!((db.connections_per_second, db.success_percent, db.open_connections), (8.0, Some(50.0), 20.0));
    assert_eq!(db.bytes_per_second, 400.0);
    let [front] = &state.services[..] else { panic!("{:?}", state.services) };
    assert_eq!((front.rates.requests_per_second, front.rates.success_percent), (20.0, Some(90.0)));
    assert_eq!((front.rates.p50_us, front.total_requests), (Some(9), 300));
    assert_eq!((front.endpoints, front.known_endpoints, front.ejected), (2, 3, 1));
    assert_eq!((state.all.requests_per_second, state.all.success_percent), (20.0, Some(90.0)));
}

#[test]
fn connections_have_both_ends_and_those_that_live_come_first() {
    let view = |records: Vec<ConnectionView>| ConnectionsView {
        active: records.len(),
        connections: records,
        truncated: false,
    };
    let over = ConnectionView {
        id: "01".to_owned(),
        age_ms: 1,
        service: None,
        source: PartyView::default(),
        ..record(Direction::Outbound, "closed")
    };
    let caller =
        Sample { connections: view(vec![over, record(Direction::Outbound, "open")]), ..Sample::default() };
    let called = Sample { connections: view(vec![record(Direction::Inbound, "open")]), ..Sample::default() };
    let (all, more) = connections(&[&caller, &called]);
    assert!(!more);
    let [live, over] = &all[..] else { panic!("{all:?}") };
    assert_eq!(
        (&*live.from, &*live.to, live.service.as_deref()),
        ("shop/cart", "shop/web", Some("shop/front"))
    );
    assert_eq!(
        (&*live.source, &*live.destination, live.security),
        ("shop/cart-0", "shop/web-0", "mutual_tls")
    );
    assert_eq!(live.destination_identity.as_deref(), Some("spiffe://cluster.local/ns/shop/sa/web"));
    assert_eq!((&*over.from, &*over.to, over.reason.as_deref()), (OUTSIDE, OUTSIDE, Some("finished")));
}
