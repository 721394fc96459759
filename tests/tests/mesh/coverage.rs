//! `posthaste coverage` of a mesh where something of everything happens.

use crate::scene::Scene;
use posthaste_tests::{Family, agent::wait_json, peer};
use serde_json::Value;

/// UDP to port 443 and 53 from one socket that is not connected, and to 53 from one that is.
const DATAGRAMS: &str = "
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for port in (443, 443, 53):
    s.sendto(b'x', (sys.argv[1], port))
c = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
c.connect((sys.argv[1], 5353))
c.send(b'x')
";

fn pod<'a>(coverage: &'a Value, name: &str) -> &'a Value {
    coverage["pods"].as_array().unwrap().iter().find(|pod| pod["pod"] == name).unwrap_or(&Value::Null)
}

#[test]
fn what_is_not_covered_is_said_with_the_reason() {
    let mut scene = Scene::permissive();
    let _echo = peer::serve(&scene.server, "echo", 8080).unwrap();
    let excluding = |spec: &mut posthaste_tests::objects::PodSpec| {
        spec.annotations.push(("exclude-outbound-ports".to_owned(), "8080".to_owned()));
    };
    let loner = scene.mesh.pod_with("a", "loner", excluding).unwrap();
    scene.mesh.settle(&loner).unwrap();
    let opted_out = |spec: &mut posthaste_tests::objects::PodSpec| {
        spec.labels.push(("posthaste.dev/mesh".to_owned(), "disabled".to_owned()));
    };
    let _bare = scene.mesh.pod_with("a", "bare", opted_out).unwrap();
    let outside = scene.mesh.outsider("outside").unwrap();
    let _far = peer::serve(&outside, "echo", 8080).unwrap();
    scene.works();
    assert_eq!(
        peer::call(&scene.client, "exchange", outside.at(Family::V4, 8080), &["x"]).unwrap()["answer"],
        "x"
    );
    assert_eq!(
        peer::call(&loner, "exchange", scene.server.at(Family::V4, 8080), &["x"]).unwrap()["answer"],
        "x"
    );
    let datagrams = ["python3", "-c", DATAGRAMS, &outside.v4.to_string()];
    scene.client.run(&datagrams).unwrap().success().unwrap();

    let (a, b) = (&scene.mesh.a, &scene.mesh.b);
    let other = b.socket().display().to_string();
    let whole = wait_json(a, &["coverage", "--peer-socket", &other], |answer| {
        pod(answer, "client")["mutual_tls"].as_u64() >= Some(1)
            && pod(answer, "server")["plain"] != serde_json::json!([])
    })
    .unwrap_or_else(|fault| panic!("{fault}\n{}", scene.logs()));
    assert_eq!(whole["everything_encrypted"], false);
    let client = pod(&whole, "client");
    assert_eq!(
        (&client["captured"], &client["udp_flows"], &client["quic_flows"]),
        (&true.into(), &2.into(), &1.into()),
        "{client}"
    );
    assert_eq!(client["plain"][0]["other"], outside.at(Family::V4, 8080).to_string(), "{client}");
    assert_eq!(
        (&client["plain"][0]["outside"], &client["plain"][0]["direction"]),
        (&true.into(), &"outbound".into())
    );
    assert_eq!(client["udp"][0]["address"], format!("{}:443", outside.v4), "{client}");
    let alone = pod(&whole, "loner");
    assert_eq!(alone["excluded_outbound_ports"], serde_json::json!([8080]), "{alone}");
    assert_eq!(alone["reasons"], serde_json::json!(["connections to ports 8080 are excluded"]), "{alone}");
    assert!(alone["uncaptured_connections"].as_u64() >= Some(1), "{alone}");
    let out = pod(&whole, "bare");
    assert!(out["captured"] == false && out["why"].as_str().is_some_and(|why| !why.is_empty()), "{out}");
    let server = pod(&whole, "server");
    assert_eq!(
        (&server["plain"][0]["other"], &server["plain"][0]["direction"]),
        (&"shop/loner".into(), &"inbound".into()),
        "{server}"
    );

    let text = a.cli(&["coverage"]).unwrap();
    for words in [
        "? no\n",
        "pod shop/loner: connections to ports 8080 are excluded",
        "1 pods are not captured",
        "node b was not asked",
        "1 destinations of QUIC",
        "no: ",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let metrics = a.metrics().unwrap();
    let of = |name: &str, labels: &[(&str, &str)]| metrics.sum(name, labels);
    assert_eq!(of("posthaste_coverage_pods", &[("namespace", "shop"), ("captured", "false")]), 1.0);
    assert_eq!(
        of("posthaste_coverage_connections_total", &[("pod", "client"), ("protection", "outside")]),
        1.0
    );
    assert!(
        of("posthaste_coverage_connections_total", &[("pod", "client"), ("protection", "mutual_tls")]) >= 1.0
    );
    assert!(
        of("posthaste_coverage_connections_total", &[("pod", "loner"), ("protection", "uncaptured")]) >= 1.0
    );
    assert_eq!(of("posthaste_coverage_excluded_ports", &[("pod", "loner"), ("direction", "outbound")]), 1.0);
    assert_eq!(of("posthaste_coverage_udp_flows_total", &[("pod", "client"), ("kind", "quic")]), 1.0);
}
