//! Requests that spell a denied path, or a denied host, in every way that is known to have passed somebody's policy: sent as raw bytes,
//! through the mesh and in plain text from outside of it. None of them reaches the application.

use crate::scene::{cluster_ip, logs};
use posthaste_tests::{
    Family, Mesh, eventually,
    peer::{self, faulty::Faulty},
    wait::holds,
};
use serde_json::json;
use std::collections::BTreeSet;

/// Spellings of `/admin` or of something below it.
const PATHS: &[&str] = &[
    "/admin",
    "/admin/",
    "/admin/users",
    "/admin?x=1",
    "/admin#x",
    "/admin/?x",
    "//admin",
    "///admin//users",
    "/./admin",
    "/././/admin",
    "/public/../admin",
    "/public/./../admin",
    "/public//../admin",
    "/../admin",
    "/../../../admin/users",
    "/%61dmin",
    "/%61%64%6d%69%6e",
    "/%41dmin/../admin",
    "/adm%69n/users",
    "/admin%2fusers",
    "/admin%2Fusers",
    "/%2fadmin",
    "/%2Fadmin",
    "/public%2f..%2fadmin",
    "/public%2f%2e%2e%2fadmin",
    "/public/%2e%2e/admin",
    "/public/%2E%2E/admin",
    "/public/.%2e/admin",
    "/public/%2e./admin",
    "/%2e/admin",
    "/%2e%2fadmin",
    "/%252e%252e/admin",
    "/public/%252e%252e/admin",
    "/public%252f..%252fadmin",
    "/%2561dmin",
    "/%25%36%31dmin",
    "/admin%252fusers",
    "/admin;x=1",
    "/admin;x=1/users",
    "/admin;/users",
    "/;x/admin",
    "/public/..;/admin",
    "/public/..;x=y/admin",
    "/public/%2e%2e;/admin",
    "/.;/admin",
    "/admin%3bx",
    "/admin%3b/users",
    "\\admin",
    "/\\admin",
    "/public\\..\\admin",
    "/public/..\\admin",
    "/public/..%5cadmin",
    "/public%5c..%5cadmin",
    "/admin%5cusers",
    "/public/..%255cadmin",
    "/admin%00",
    "/admin%00.html",
    "/admin%0a",
    "/admin%0d%0a",
    "/admin%20/../../admin",
    "/admin/.",
    "/admin/x/..",
    "/admin/%2e",
    "/admin%",
    "/%zz/../admin",
    "http://shop.example/admin",
    "HTTP://shop.example/admin",
    "http://shop.example//admin",
    "http://shop.example/public/../admin",
    "http://shop.example/%61dmin",
    "http://shop.example:80/admin",
    "http://x@shop.example/admin",
    "https://shop.example/admin",
];

/// Ways of saying the host `secret.example`: the target and the `Host`.
const HOSTS: &[(&str, &str)] = &[
    ("/", "secret.example"),
    ("/", "SECRET.example"),
    ("/", "Secret.Example:80"),
    ("/", "secret.example."),
    ("/", "SECRET.EXAMPLE.:8080"),
    ("/", "secret.example:"),
    ("/", " secret.example"),
    ("/", "secret.example\t"),
    ("http://secret.example/", "other.example"),
    ("http://SECRET.example./", "other.example"),
    ("http://secret.example:8080/", "other.example"),
    ("http://x@secret.example/", "other.example"),
];

/// What the boldest server makes of a path: everything decoded, as often as it takes.
fn boldly(target: &str) -> String {
    let after_scheme = target
        .split_once("://")
        .map_or(target, |(_, rest)| rest.split_once('/').map_or("", |(_, path)| path));
    let mut path = format!("/{}", after_scheme.split(['?', '#']).next().unwrap());
    for _ in 0..4 {
        path = percent_decoded(&path);
    }
    let mut kept: Vec<&str> = Vec::new();
    let path = path.replace('\\', "/");
    for segment in path.split('/').map(|segment| segment.split(';').next().unwrap()) {
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

fn percent_decoded(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        match after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                out.push(char::from(byte));
                rest = &after[2..];
            }
            None => {
                out.push('%');
                rest = after;
            }
        }
    }
    out + rest
}

fn is_denied(target: &str) -> bool {
    let path = boldly(target);
    // A server that cuts at a NUL or drops white space sees this.
    let path = path.split(['\0', '\r', '\n']).next().unwrap();
    path == "/admin" || path.starts_with("/admin/")
}

#[test]
fn no_spelling_reaches_what_is_denied() {
    let mut mesh = Mesh::start(&[]).unwrap();
    let client = mesh.pod("a", "client").unwrap();
    let server = mesh.pod("b", "server").unwrap();
    let outsider = mesh.outsider("outsider").unwrap();
    let application = Faulty::start(&server, 8080, "one").unwrap();
    let mut service = mesh.service_spec("web", 8080, &[&server]);
    service.app_protocol = Some("http".to_owned());
    mesh.publish(&service).unwrap();
    mesh.manifests.put(json!({
        "apiVersion": "posthaste.dev/v1alpha1", "kind": "AuthorizationPolicy",
        "metadata": {"name": "admin", "namespace": "shop"},
        "spec": {"action": "DENY", "rules": [
            {"to": [{"operation": {"paths": ["/admin", "/admin/*"]}}]},
            {"to": [{"operation": {"hosts": ["secret.example"]}}]},
        ]},
    }));
    mesh.manifests.apply().unwrap();
    let ways = [
        (&*client, cluster_ip(&service, Family::V4)),
        (&*client, server.at(Family::V4, 8080)),
        (&outsider, server.at(Family::V4, 8080)),
    ];
    let ask = |way: usize, target: &str, host: &str| {
        let (site, to) = ways[way];
        let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        peer::raw(site, to, request.as_bytes()).unwrap().0
    };
    for way in 0..ways.len() {
        eventually("the policy to be in force", || {
            let answer = ask(way, "/admin", "h");
            holds(answer.starts_with("HTTP/1.1 403"), format!("{answer}\n{}", logs(&mesh)))
        })
        .unwrap();
    }
    application.forget(&server).unwrap();
    let mut told = BTreeSet::new();
    for way in 0..ways.len() {
        // What is not denied arrives, so that silence is not taken for denial.
        for good in ["/", "/public/a%20b", "/administration", "/public/admin", "/public/a;b=c"] {
            let answer = ask(way, good, "shop.example");
            assert!(answer.starts_with("HTTP/1.1 200"), "{way} {good}: {answer}\n{}", logs(&mesh));
        }
        let paths = PATHS.iter().map(|path| (*path, "shop.example"));
        for (target, host) in paths.chain(HOSTS.iter().copied()) {
            let answer = ask(way, target, host);
            let status = answer.get(9..12).unwrap_or_default().to_owned();
            assert!(
                ["", "400", "403", "404"].contains(&&*status),
                "{way} {target} {host}: {answer}\n{}",
                logs(&mesh)
            );
            told.insert(status);
        }
    }
    let seen = application.seen(&server).unwrap();
    assert_eq!(seen.ambiguous, 0, "{:?}", seen.targets);
    let arrived: Vec<&String> = seen.targets.keys().filter(|target| is_denied(target)).collect();
    assert!(arrived.is_empty(), "reached what is denied: {arrived:?}");
    assert_eq!(seen.requests, 5 * ways.len() as u64, "{:?}", seen.targets);
    assert!(told.contains("403") && told.contains("400"), "{told:?}");
}

#[test]
fn the_corpus_is_what_it_says() {
    assert!(
        ["/", "/public/a%20b", "/administration", "/public/admin"].iter().all(|target| !is_denied(target))
    );
    let spelt = PATHS.iter().filter(|target| is_denied(target)).count();
    // The others are malformed, or absolute forms of an odd kind.
    assert!(spelt > PATHS.len() * 9 / 10, "{spelt} of {}", PATHS.len());
}
