//! Beside kube-proxy: the connect hook sees the address of a service before any rule on packets does.

use crate::scene::{Scene, cluster_ip, logs, mentions};
use posthaste_tests::{Family, Sniffer, World, peer};
use std::{
    io::Write,
    net::SocketAddr,
    process::{Command, Stdio},
};

const NEEDLE: &str = "through-the-service";

/// Runs nft in the namespace between the pods, which is the node of a cluster as far as packets go.
fn nft(world: &World, arguments: &[&str], rules: &str) -> String {
    let run = || {
        let mut command = Command::new("nft");
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("nft (package nftables)");
        child.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let output = world.bridge().inside(run).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What kube-proxy does for one service, in its nftables mode: the service's address becomes an endpoint's.
fn proxy(world: &World, service: SocketAddr, endpoint: SocketAddr) {
    let (ip, port) = (service.ip(), service.port());
    let rules = format!(
        "table ip kube-proxy {{\n\
         chain services {{ type nat hook prerouting priority dstnat; \
         ip daddr {ip} tcp dport {port} counter dnat to {endpoint}; }}\n\
         chain answers {{ type nat hook postrouting priority srcnat; ct status dnat masquerade; }}\n}}\n"
    );
    nft(world, &["-f", "-"], &rules);
}

/// Connections that the rule has translated.
fn translated(world: &World) -> u64 {
    let text = nft(world, &["list", "chain", "ip", "kube-proxy", "services"], "");
    let (_, rest) = text.split_once("counter packets ").unwrap();
    rest.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn the_agent_sees_the_services_address_first() {
    let mut scene = Scene::permissive();
    let _echo = peer::serve(&scene.server, "echo", 8080).unwrap();
    let service = cluster_ip(&scene.service, Family::V4);
    proxy(&scene.mesh.world, service, scene.server.at(Family::V4, 8080));
    // The rule is a real one: somebody outside of the mesh gets through by it.
    let outside = scene.mesh.outsider("outside").unwrap();
    let answer = peer::call(&outside, "exchange", service, &["by the rule"]).unwrap();
    assert_eq!(answer["answer"], "by the rule", "{answer}\n{}", logs(&scene.mesh));
    let before = translated(&scene.mesh.world);
    assert!(before > 0);
    let sniffer = Sniffer::start(scene.mesh.world.bridge(), &[NEEDLE]).unwrap();
    let answer = scene.exchange(NEEDLE);
    assert_eq!(answer["answer"], NEEDLE, "{answer}\n{}", scene.logs());
    assert_eq!(answer["getpeername"], service.to_string());
    assert_eq!(translated(&scene.mesh.world), before, "the rule never saw it");
    assert_eq!(sniffer.hits(), 0);
    let hostname = format!("{}.{}.svc", scene.service.name, scene.service.namespace);
    scene.mesh.a.wait_for_log("its service", |line| mentions(line, &[&hostname])).unwrap();
}
