//! The dashboards and alerts that are shipped, against a real Prometheus that scrapes a mesh with traffic; and the graph of that traffic.

use crate::http_shop::{Shop, answering, backend, route};
use posthaste_tests::{
    Family, Site, eventually, http, peer,
    peer::load::Spec,
    wait::{eventually_within, holds},
};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

/// Why Istio's name may break the rule that times are in seconds: others read it.
const FIXED_BY_ISTIO: &str = "istio_request_duration_milliseconds";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/observability")
}

/// Title and query of every panel that is shipped.
fn queries() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for file in fs::read_dir(folder().join("grafana")).unwrap() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        let dashboard: Value = serde_json::from_str(&text).unwrap();
        for panel in dashboard["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().unwrap() {
                let title =
                    format!("{}: {}", dashboard["title"].as_str().unwrap(), panel["title"].as_str().unwrap());
                found.push((title, target["expr"].as_str().unwrap().replace("$__rate_interval", "15s")));
            }
        }
    }
    found
}

/// Names of metrics in a text.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|one: char| !one.is_ascii_alphanumeric() && one != '_');
    words
        .filter(|word| word.starts_with("istio_") || word.starts_with("posthaste_"))
        .map(str::to_owned)
        .collect()
}

/// A program's exit status and all that it said.
fn said(line: &[&str], input: &str) -> (bool, String) {
    let mut child = Command::new(line[0])
        .args(&line[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{line:?}: {error}; the Debian package `prometheus` has promtool"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

/// A mesh in which requests succeed and fail and are tried again, and connections too.
fn busy() -> Shop {
    let mut shop = Shop::start("http");
    shop.service("plain", &[0, 1]);
    let rules = serde_json::json!([{"backendRefs": [backend("plain", 1)]}]);
    shop.put_all(&[route("plain", &rules), route("shop-web", &rules)]);
    shop.plan(0, &answering(503));
    traffic(&shop);
    shop
}

fn traffic(shop: &Shop) {
    shop.load(&Spec::requests(40, 4));
    peer::call(&shop.client, "exchange", shop.servers[1].0.at(Family::V4, 9999), &["x"]).unwrap();
    peer::call(&shop.client, "exchange", shop.mesh.a.site.at(Family::V4, 1), &["x"]).unwrap();
}

fn query(site: &Site, address: SocketAddr, expression: &str) -> Result<Value, String> {
    let encoded: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let answer = http::fetch(site.namespace(), address, &format!("/api/v1/query?query={encoded}"));
    let (status, body) = answer.map_err(|fault| fault.to_string())?;
    holds(status == 200, format!("{status} {body}"))?;
    serde_json::from_str(&body).map_err(|error| format!("{error}: {body}"))
}

#[test]
fn every_query_of_the_dashboards_returns_data() {
    let mut shop = busy();
    let site = shop.mesh.outsider("prometheus").unwrap();
    let address = site.at(Family::V4, 9090);
    let targets: Vec<String> =
        [&shop.mesh.a, &shop.mesh.b].map(|agent| format!("{}:15020", agent.site.v4)).to_vec();
    let config = site.folder().join("prometheus.yml");
    let rules = folder().join("alerts.yaml").canonicalize().unwrap();
    let text = serde_json::json!({
        "global": {"scrape_interval": "1s"},
        "rule_files": [rules],
        "scrape_configs": [{"job_name": "agents", "static_configs": [{"targets": targets}]}],
    });
    fs::write(&config, text.to_string()).unwrap();
    let (ok, words) = said(&["promtool", "check", "config", config.to_str().unwrap()], "");
    assert!(ok && words.contains("8 rules found"), "{words}");
    let data = site.folder().join("prometheus-data");
    let _running = site
        .start(&[
            "prometheus".to_owned(),
            format!("--config.file={}", config.display()),
            format!("--storage.tsdb.path={}", data.display()),
            format!("--web.listen-address={address}"),
            "--log.level=error".to_owned(),
        ])
        .unwrap();
    let mut missing = queries();
    assert!(missing.len() >= 25, "{missing:?}");
    eventually_within(Duration::from_secs(60), "data for every query", || {
        // Rates want something that goes on.
        traffic(&shop);
        missing.retain(|(_, expression)| {
            let found = query(&site, address, expression);
            found.map_or(true, |answer| answer["data"]["result"].as_array().is_none_or(Vec::is_empty))
        });
        holds(missing.is_empty(), format!("{missing:#?}"))
    })
    .unwrap_or_else(|fault| panic!("{fault}\n{}", shop.logs()));
}

#[test]
fn the_scrape_is_clean_and_has_every_metric_that_is_named() {
    let shop = busy();
    eventually("the metrics of it all", || {
        let count = shop.count("istio_requests_total", &[("reporter", "source")]);
        holds(count >= 40.0, count.to_string())
    })
    .unwrap();
    let scrapes = [&shop.mesh.a, &shop.mesh.b].map(|agent| agent.get("/metrics").unwrap().1);
    for scrape in &scrapes {
        let (_, words) = said(&["promtool", "check", "metrics"], scrape);
        let complaints: Vec<&str> = words.lines().filter(|line| !line.starts_with(FIXED_BY_ISTIO)).collect();
        assert!(complaints.is_empty(), "{complaints:#?}");
    }
    let exist: BTreeSet<String> = scrapes.iter().flat_map(|scrape| names(scrape)).collect();
    let alerts = fs::read_to_string(folder().join("alerts.yaml")).unwrap();
    let named: BTreeSet<String> =
        queries().iter().flat_map(|(_, query)| names(query)).chain(names(&alerts)).collect();
    let absent: Vec<&String> = named.difference(&exist).collect();
    assert!(absent.is_empty(), "{absent:?}");
}

#[test]
fn the_graph_shows_who_calls_whom() {
    let shop = busy();
    let graph = shop.mesh.a.json(&["graph", "--namespace", "shop"]).unwrap();
    let edges = graph["edges"].as_array().unwrap();
    let edge = edges.iter().find(|edge| edge["from"] == "shop/client" && edge["to"] == "shop/two");
    let edge = edge.unwrap_or_else(|| panic!("{graph:#}"));
    assert!(edge["requests"].as_f64() > Some(0.0) && edge["encrypted"] == true, "{graph:#}");
    for (format, words) in [
        ("mermaid", ["flowchart LR", "shop/client", "requests, 100.0% good, mTLS"]),
        ("dot", ["digraph posthaste {", "\"shop/client\" -> \"shop/two\"", "color="]),
        ("svg", ["<svg xmlns=", ">shop/client</text>", "</svg>"]),
    ] {
        let text = shop.mesh.a.cli(&["graph", "--format", format]).unwrap();
        assert!(words.iter().all(|word| text.contains(word)), "{format}: {text}");
    }
}
