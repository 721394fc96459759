//! Who gets nothing from `posthaste dashboard`, and what keeps it from starting.

use crate::dashboard_scene::Dashboard;
use posthaste_tests::{Mesh, Site, agent, eventually, wait::holds};
use rustix::process::Signal;
use std::time::Duration;

/// Status and head of what curl gets.
fn curl(site: &Site, more: &[&str]) -> String {
    let line = [&["curl", "-sS", "-i", "--max-time", "20", "--noproxy", "*"], more].concat();
    let answer = site.run(&line).unwrap();
    answer.stdout + &answer.stderr
}

#[test]
fn nobody_else_gets_anything() {
    let mesh = Mesh::start(&[]).unwrap();
    let mut dashboard = Dashboard::start(&mesh);
    let (site, page, port) = (&mesh.a.site, dashboard.page.clone(), dashboard.port());
    let (state, bearer) =
        (format!("{page}api/state"), format!("authorization: Bearer {}", dashboard.token()));
    let (elsewhere, wrong) = (format!("http://{}:{port}/", site.v4), "authorization: Bearer 0123".to_owned());
    for (line, expected) in [
        (vec![&*page], "HTTP/1.1 200"),
        (vec![&*state], "HTTP/1.1 401"),
        (vec!["-H", &*bearer, &*state], "HTTP/1.1 200"),
        (vec!["-H", &*wrong, &*state], "HTTP/1.1 401"),
        (vec!["-H", &*bearer, "-H", "host: evil.example", &*state], "HTTP/1.1 421"),
        (vec!["-H", "host: evil.example", &*page], "HTTP/1.1 421"),
        (vec!["-H", &*bearer, "-H", "sec-fetch-site: cross-site", &*state], "HTTP/1.1 403"),
        (vec!["-H", &*bearer, "-X", "POST", "-d", "x", &*state], "HTTP/1.1 405"),
        (vec!["-X", "DELETE", &*page], "HTTP/1.1 405"),
        // It listens on loopback alone.
        (vec![&*elsewhere], "curl: (7)"),
    ] {
        let said = curl(site, &line);
        assert!(said.starts_with(expected), "{line:?}: {said}");
        let guarded = said.contains("content-security-policy: default-src 'none'; script-src 'self'");
        assert!(guarded || !expected.starts_with("HTTP"), "{line:?}: {said}");
        assert!(!said.contains("set-cookie"), "{said}");
    }
    let taken = mesh.a.cli(&["dashboard", "--port", &port.to_string()]).unwrap_err().to_string();
    assert!(taken.contains("cannot listen at 127.0.0.1") && taken.contains("another --port"), "{taken}");
    let open = mesh.a.cli(&["dashboard", "--address", "0.0.0.0"]).unwrap_err().to_string();
    assert!(open.contains("127.0.0.1 or ::1 only") && open.contains("ssh -L"), "{open}");
    let missing = site.run(&[
        &*agent::binary().unwrap().display().to_string(),
        "--admin-socket",
        "/nonexistent/socket",
        "dashboard",
    ]);
    let missing = missing.unwrap().stderr;
    assert!(missing.contains("no agent at /nonexistent/socket"), "{missing}");
    // One of two agents is enough to begin with; the other one is named.
    let mut half = mesh.a.start_cli(&["--peer-socket", "/nonexistent/socket", "dashboard"]).unwrap();
    half.wait_for_output("#token=").unwrap();
    eventually("the missing agent to be named", || {
        let said = half.stderr();
        holds(said.contains("no agent at /nonexistent/socket"), said)
    })
    .unwrap();
    // Not Ctrl-C: whoever starts the tests in the background may have let them inherit that it is ignored.
    dashboard.running.signal(Signal::TERM);
    eventually("its end", || holds(!dashboard.running.alive(), "it lives")).unwrap();
    half.signal(Signal::TERM);
    half.finish(Duration::from_secs(20)).unwrap();
}
