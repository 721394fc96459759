//! Conditions of HTTP in AuthorizationPolicies: the called pod's agent reads the requests, decides on each, and is not noticed
//! otherwise.

use crate::{
    http_scene::Web,
    scene::{logs, mentions},
};
use posthaste_tests::{
    Family, eventually,
    peer::{
        self,
        faulty::{Faulty, Plan, Trouble},
    },
    python,
    wait::holds,
};
use serde_json::{Value, json};
use std::{net::SocketAddr, time::Duration};

impl Web {
    /// Writes a policy of the pods' namespace and waits until the called pod's agent goes by it.
    pub(crate) fn policy(&mut self, name: &str, spec: &Value) {
        let generation = |web: &Self| web.mesh.b.json(&["status"]).unwrap()["snapshot_generation"].as_u64();
        let before = generation(self);
        self.mesh.manifests.put(json!({
            "apiVersion": "posthaste.dev/v1alpha1", "kind": "AuthorizationPolicy",
            "metadata": {"name": name, "namespace": "shop"}, "spec": spec,
        }));
        self.mesh.manifests.apply().unwrap();
        eventually("the new snapshot", || holds(generation(self) > before, "the old one")).unwrap();
    }

    /// Status of an answer, and the whole of it, head included.
    fn status(&self, to: SocketAddr, path: &str, more: &[&str]) -> (u16, String) {
        let url = format!("http://{to}{path}");
        let text = self.curl(&[&["-i"], more, &[&url]].concat());
        let status = text.split(' ').nth(1).and_then(|word| word.parse().ok());
        (status.unwrap_or_else(|| panic!("{url}: {text}\n{}", logs(&self.mesh))), text)
    }

    fn counted(&self, metric: &str, labels: &[(&str, &str)]) -> f64 {
        self.mesh.b.metrics().unwrap().sum(metric, labels)
    }
}

/// Lines of requests in the access log of the called pod's agent.
fn denied_lines(web: &Web) -> Vec<Value> {
    let lines = web.mesh.b.access_log().into_iter();
    lines.filter(|line| line["event"] == "request" && line["flags"] == "DENY").collect()
}

const DENIALS: &str = "posthaste_policy_denials_total";

#[test]
fn each_request_of_a_connection_is_decided() {
    let mut web = Web::start();
    let server = Faulty::start(&web.server, 8080, "one").unwrap();
    let to = web.address(Some("http"), Family::V4);
    let http2 = web.address(Some("kubernetes.io/h2c"), Family::V4);
    web.policy(
        "admin",
        &json!({"action": "DENY", "rules": [{"to": [{"operation": {"paths": ["/admin", "/admin/*"]}}]}]}),
    );
    web.policy("read", &json!({"rules": [
        {"to": [{"operation": {"methods": ["GET", "HEAD"]}}]},
        {"to": [{"operation": {"methods": ["POST"]}}], "when": [{"key": "request.headers[x-role]", "values": ["writer"]}]},
    ]}));
    let table: [(&str, &[&str], u16); 8] = [
        ("/a", &[], 200),
        ("/admin", &[], 403),
        ("/admin/x?y", &[], 403),
        ("/administration", &[], 200),
        ("/a", &["-X", "DELETE"], 403),
        ("/body", &["-d", "hello"], 403),
        ("/body", &["-d", "hello", "-H", "x-role: writer"], 200),
        ("/admin", &["-d", "hello", "-H", "x-role: writer"], 403),
    ];
    for (address, version) in [(to, "--http1.1"), (http2, "--http2-prior-knowledge")] {
        for (path, more, expected) in table {
            let (status, text) = web.status(address, path, &[&[version], more].concat());
            assert_eq!(status, expected, "{version} {path} {more:?}: {text}\n{}", logs(&web.mesh));
            assert_eq!(text.contains("RBAC: access denied"), expected == 403, "{text}");
        }
        // gRPC callers are told in their own terms.
        let grpc = ["-X", "POST", "-H", "content-type: application/grpc", "-H", "te: trailers"];
        let (status, text) = web.status(address, "/admin/Call", &[&[version], &grpc[..]].concat());
        assert!(status == 200 && text.contains("grpc-status: 7"), "{text}");
    }
    // One connection goes on behind a denial.
    let pipelined =
        "GET /admin HTTP/1.1\r\nHost: h\r\n\r\nGET /size/3 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    let answers = web.raw(to, pipelined);
    assert!(answers.starts_with("HTTP/1.1 403") && answers.ends_with("sss"), "{answers}");
    let seen = server.seen(&web.server).unwrap();
    let passed: Vec<_> = seen.targets.keys().collect();
    assert_eq!(passed, ["/a", "/administration", "/body", "/size/3"], "what the application has seen");
    assert_eq!(seen.methods.get("DELETE"), None);
    let admin = web.counted(DENIALS, &[("policy", "shop/admin"), ("of", "request")]);
    let none = web.counted(DENIALS, &[("policy", ""), ("of", "request")]);
    assert_eq!((admin, none), (9.0, 4.0), "{}", logs(&web.mesh));
    let lines = eventually("the lines of what was denied", || {
        let lines = denied_lines(&web);
        if lines.len() >= 13 { Ok(lines) } else { Err(format!("{lines:?}")) }
    });
    let lines = lines.unwrap();
    assert_eq!(lines.len(), 13, "{lines:?}");
    let found = |words: &[&str]| lines.iter().filter(|line| mentions(line, words)).count();
    let by_admin = "rbac_access_denied_matched_policy[ns[shop]-policy[admin]-rule[0]]";
    assert_eq!(
        found(&["\"status\":403", "\"flags\":\"DENY\"", "\"direction\":\"inbound\""]),
        13,
        "{lines:?}"
    );
    assert_eq!(found(&[by_admin, "AuthorizationPolicy shop/admin rules[0]"]), 9, "{lines:?}");
    assert_eq!(found(&["rbac_access_denied_matched_policy[none]", "no AuthorizationPolicy allows it"]), 4);
    let grpc = ["\"grpc_status\":7", "/admin/Call", "\"protocol\":\"grpc\""];
    assert_eq!(
        (found(&grpc), found(&["/admin/x?y", "\"pod\":\"client\"", "ns/shop/sa/client"])),
        (2, 2),
        "{lines:?}"
    );
    let connections = web.mesh.b.json(&["connections"]).unwrap();
    assert!(mentions(&connections, &["AuthorizationPolicy shop/admin rules[0]"]), "{connections}");
}

#[test]
fn a_request_that_loses_its_right_is_cut_off_and_a_trial_cuts_nothing() {
    let mut web = Web::start();
    let server = Faulty::start(&web.server, 8080, "one").unwrap();
    let to = web.address(Some("http"), Family::V4);
    let denial = |path: &str, trial: bool| json!({"action": "DENY", "dryRun": trial, "rules": [{"to": [{"operation": {"paths": [path]}}]}]});
    web.policy("slow", &denial("/nothing", false));
    web.policy("trial", &denial("/tried", true));
    assert_eq!(web.status(to, "/tried", &[]).0, 200);
    assert_eq!(
        web.counted("posthaste_policy_dry_run_denials_total", &[("policy", "shop/trial"), ("of", "request")]),
        1.0
    );
    let tried = web.mesh.b.wait_for_log("the trial", |line| line["event"] == "dry_run").unwrap();
    assert!(mentions(&tried, &["/tried", "\"status\":403", "shop/trial (dry run) would deny"]), "{tried}");
    server
        .plan(&web.server, &Plan { delay_ms: 60_000, body: 1000, ..Plan::always(Trouble::SlowBody) })
        .unwrap();
    let request = peer::hexadecimal(b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n");
    let long = peer::start_call(&web.client, "raw", to, &[&request, "60000"]).unwrap();
    eventually("the request at the application", || {
        let seen = server.seen(&web.server).unwrap();
        holds(seen.targets.contains_key("/slow"), format!("{seen:?}"))
    })
    .unwrap();
    web.policy("slow", &denial("/slow", false));
    let finished = long.finish(Duration::from_secs(40)).unwrap();
    let last = peer::lines(&finished.stdout).pop().unwrap();
    // The answer began, and ends before its end.
    assert!(!last.to_string().contains("WouldBlock"), "{last}");
    web.mesh
        .b
        .wait_for_log("the reason", |line| {
            line["event"] == "request"
                && line.get("status").is_none()
                && mentions(line, &["/slow", "DENY", "AuthorizationPolicy shop/slow rules[0]"])
        })
        .unwrap();
    server.plan(&web.server, &Plan::default()).unwrap();
    assert_eq!(web.status(to, "/fast", &[]).0, 200);
}

#[test]
fn what_is_not_http_is_denied_and_said() {
    let mut web = Web::start();
    let _echo = peer::serve(&web.server, "echo", 8080).unwrap();
    let (undeclared, raw) = (web.address(None, Family::V4), web.address(Some("tcp"), Family::V4));
    let exchange = |web: &Web, to| peer::call(&web.client, "exchange", to, &["not http"]).unwrap();
    web.policy("tried", &json!({"dryRun": true, "rules": [{"to": [{"operation": {"methods": ["GET"]}}]}]}));
    // On trial it is carried, and said.
    assert_eq!(exchange(&web, undeclared)["answer"], "not http", "{}", logs(&web.mesh));
    let trials = web
        .counted("posthaste_policy_dry_run_denials_total", &[("policy", "shop/tried"), ("of", "connection")]);
    assert!(trials >= 1.0, "{trials}");
    web.policy("read", &json!({"rules": [{"to": [{"operation": {"methods": ["GET"]}}]}]}));
    for to in [undeclared, raw] {
        let answer = exchange(&web, to);
        assert!(answer.get("error").is_some() || answer["answer"] == "", "{answer}");
    }
    eventually("the problem", || {
        let status = web.mesh.b.json(&["status"]).map_err(|fault| fault.to_string())?;
        let problems = status["problems"].to_string();
        holds(problems.contains("declared as tcp"), problems)
    })
    .unwrap();
}

#[test]
fn a_port_that_turns_out_not_to_be_http_is_a_problem() {
    let mut web = Web::start();
    let _echo = peer::serve(&web.server, "echo", 8080).unwrap();
    let to = web.address(None, Family::V4);
    web.policy("read", &json!({"action": "DENY", "rules": [{"to": [{"operation": {"methods": ["POST"]}}]}]}));
    let answer = peer::call(&web.client, "exchange", to, &["not http"]).unwrap();
    assert!(answer.get("error").is_some() || answer["answer"] == "", "{answer}");
    let status = web.mesh.b.json(&["status"]).unwrap();
    let problems = status["problems"].to_string();
    assert!(
        mentions(&status["problems"], &["AuthorizationPolicy/shop/read", "port 8080", "is not HTTP"]),
        "{problems}"
    );
}

/// Everything is allowed, but each request is read for it.
fn reading(web: &mut Web) {
    web.policy("read", &json!({"rules": [{"to": [{"operation": {"methods": ["*"]}}]}]}));
}

#[test]
fn programs_notice_nothing_of_it() {
    let mut web = Web::start();
    reading(&mut web);
    let server = python::uvicorn(&web.server, 8080).unwrap();
    for protocol in [None, Some("http")] {
        let address = web.address(protocol, Family::V4);
        web.checks("with_requests.py", &format!("http://{address}"));
        web.checks("with_aiohttp.py", &format!("http://{address}"));
        web.checks("with_websockets.py", &format!("ws://{address}/ws"));
    }
    drop(server);
    let _server = python::hypercorn(&web.server, 8080).unwrap();
    let address = web.address(Some("kubernetes.io/h2c"), Family::V6);
    web.checks("with_httpx.py", &format!("http://{address}"));
    assert!(
        web.counted("posthaste_protocol_decisions_total", &[("why", "first-bytes")]) > 0.0,
        "nothing was read"
    );
}

#[test]
fn grpc_notices_nothing_of_it() {
    let mut web = Web::start();
    reading(&mut web);
    let _server = python::grpc_server(&web.server, 8080).unwrap();
    for (protocol, family) in [(None, Family::V4), (Some("grpc"), Family::V6)] {
        let address = web.address(protocol, family);
        web.checks("with_grpcio.py", &address.to_string());
    }
}
