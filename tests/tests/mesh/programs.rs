//! Unmodified programs of Debian, over both address families.

use crate::scene::{cluster_ip, logs};
use posthaste_tests::{Family, Fault, Mesh, Pod, Sniffer, site::FAMILIES};
use std::{net::SocketAddr, path::Path};

fn url(scheme: &str, address: SocketAddr) -> String {
    format!("{scheme}://{address}/")
}

fn run(mesh: &Mesh, pod: &Pod, line: &[&str]) -> String {
    let output = pod.run(line).unwrap().success();
    output.unwrap_or_else(|fault: Fault| panic!("{}: {line:?}: {fault}\n{}", pod.name, logs(mesh)))
}

/// Every way to name a server: service address, pod address (which is also what the name of a headless service resolves to).
fn names(mesh: &mut Mesh, server: &Pod, target: u16) -> Vec<SocketAddr> {
    let service = mesh.service("named", target, &[server]).unwrap();
    let mut headless = mesh.service_spec("headless", target, &[server]);
    headless.cluster_ips.clear();
    mesh.publish(&headless).unwrap();
    FAMILIES.iter().flat_map(|family| [cluster_ip(&service, *family), server.at(*family, target)]).collect()
}

#[test]
fn curl_and_python_http_server() {
    let mut mesh = Mesh::start_strict().unwrap();
    let client = mesh.pod("a", "client").unwrap();
    let server = mesh.pod("b", "web").unwrap();
    let folder = mesh.world.folder().join("www");
    std::fs::create_dir(&folder).unwrap();
    let page = "posthaste-page-".repeat(10_000);
    std::fs::write(folder.join("page"), &page).unwrap();
    let folder = folder.display().to_string();
    let _web =
        server.start(&["/usr/bin/python3", "-m", "http.server", "8080", "--directory", &folder]).unwrap();
    server.wait_listening(8080).unwrap();
    let sniffer = Sniffer::start(mesh.world.bridge(), &["posthaste-page-", "GET /page"]).unwrap();
    for address in names(&mut mesh, &server, 8080) {
        let page_url = url("http", address) + "page";
        let body = run(&mesh, &client, &["curl", "-sS", "-g", "--max-time", "10", &page_url]);
        assert_eq!(body.len(), page.len(), "{address}");
        assert_eq!(body, page, "{address}");
        let status = ["curl", "-sS", "-g", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "10"];
        let missing = url("http", address) + "nothing-here";
        assert_eq!(run(&mesh, &client, &[&status[..], &[&missing]].concat()), "404");
    }
    assert_eq!(sniffer.hits(), 0, "{:?}", sniffer.seen());
    assert!(sniffer.seen().tls_records > 10, "{:?}", sniffer.seen());
}

#[test]
fn redis() {
    let mut mesh = Mesh::start_strict().unwrap();
    let client = mesh.pod("a", "client").unwrap();
    let server = mesh.pod("b", "redis").unwrap();
    let line =
        ["redis-server", "--bind", "0.0.0.0", "::", "--protected-mode", "no", "--save", "", "--port", "6379"];
    let _redis = server.start(&line).unwrap();
    server.wait_listening(6379).unwrap();
    for address in names(&mut mesh, &server, 6379) {
        let (ip, port) = (address.ip().to_string(), address.port().to_string());
        let redis =
            |words: &[&str]| run(&mesh, &client, &[&["redis-cli", "-h", &ip, "-p", &port], words].concat());
        assert_eq!(redis(&["PING"]).trim(), "PONG", "{address}");
        redis(&["SET", "key", &ip]);
        assert_eq!(redis(&["GET", "key"]).trim(), ip);
        // Pipelined: a thousand commands that arrive as one stream.
        let many = redis(&["-r", "1000", "INCR", &format!("count-{ip}")]);
        assert_eq!(many.split_whitespace().next_back(), Some("1000"), "{address}");
    }
}

/// SMTP: the server speaks first, the client waits for it.
#[test]
fn smtp_where_the_server_speaks_first() {
    let mut mesh = Mesh::start_strict().unwrap();
    let client = mesh.pod("a", "client").unwrap();
    let server = mesh.pod("b", "mail").unwrap();
    let listen =
        |host: &str| server.start(&["/usr/bin/aiosmtpd", "-n", "-l", &format!("{host}:2525")]).unwrap();
    let servers = [listen(&server.v4.to_string()), listen(&server.v6.to_string())];
    server.wait_listening(2525).unwrap();
    let letter = mesh.world.folder().join("letter");
    std::fs::write(&letter, "Subject: hello\r\n\r\nA letter through the mesh.\r\n").unwrap();
    for address in names(&mut mesh, &server, 2525) {
        let mail = ["--mail-from", "a@example.com", "--mail-rcpt", "b@example.com", "--max-time", "15"];
        let target = url("smtp", address);
        let file = ["-T", letter.to_str().unwrap(), &target];
        run(&mesh, &client, &[&["curl", "-sS", "-g"][..], &mail, &file].concat());
    }
    let received: String = servers.iter().map(|server| server.stdout() + &server.stderr()).collect();
    assert_eq!(received.matches("A letter through the mesh.").count(), 4, "{received}");
}

#[test]
fn iperf3_both_directions() {
    assert!(Path::new("/usr/bin/iperf3").exists(), "install the package iperf3");
    let mut mesh = Mesh::start_strict().unwrap();
    let client = mesh.pod("a", "client").unwrap();
    let server = mesh.pod("b", "iperf").unwrap();
    let _iperf = server.start(&["iperf3", "-s", "-p", "5201"]).unwrap();
    server.wait_listening(5201).unwrap();
    for address in names(&mut mesh, &server, 5201) {
        for extra in [&["-n", "64M"][..], &["-n", "64M", "-R"], &["-n", "64M", "-P", "4"]] {
            let (ip, port) = (address.ip().to_string(), address.port().to_string());
            let text = run(&mesh, &client, &[&["iperf3", "-J", "-c", &ip, "-p", &port], extra].concat());
            let report: serde_json::Value = serde_json::from_str(&text).unwrap();
            let received = report["end"]["sum_received"]["bytes"].as_u64().unwrap_or(0);
            assert!(received >= 50 << 20, "{address} {extra:?}: {received} bytes");
        }
    }
}

#[test]
fn between_pods_of_one_node() {
    let mut mesh = Mesh::start_strict().unwrap();
    let client = mesh.pod("a", "client").unwrap();
    let server = mesh.pod("a", "neighbour").unwrap();
    let service = mesh.service("neighbour", 8080, &[&server]).unwrap();
    let _echo = posthaste_tests::peer::serve(&server, "echo", 8080).unwrap();
    let sniffer = Sniffer::start(mesh.world.bridge(), &["a word between neighbours"]).unwrap();
    for family in [Family::V4, Family::V6] {
        let words = ["a word between neighbours"];
        let answer =
            posthaste_tests::peer::call(&client, "exchange", cluster_ip(&service, family), &words).unwrap();
        assert_eq!(answer["answer"], words[0], "{answer}\n{}", logs(&mesh));
    }
    assert_eq!(sniffer.hits(), 0);
}
