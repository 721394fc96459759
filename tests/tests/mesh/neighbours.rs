//! Applications that stop reading hold up their own connections and no others, though all share one tunnel.

use crate::scene::{Scene, cluster_ip};
use posthaste_tests::{
    Family, Mesh, Running, eventually,
    peer::{self, lines},
    wait::{eventually_within, holds},
};
use serde_json::json;
use std::{collections::BTreeMap, net::SocketAddr, thread, time::Duration};

/// Connections whose readers stop, in each direction: their windows together are twice that of a tunnel.
const STOPPED: usize = 8;

/// Small frames that `h2` notes for a connection at most (`small_frames` of the agent's tunnels), 5 bytes each.
const NOTED: u64 = (64 << 20) / (256 - 5);

#[test]
fn readers_that_stop_leave_the_other_connections_of_their_tunnel_alone() {
    let scene = scene();
    let _echo = peer::serve(&scene.server, "echo", 8080).unwrap();
    let _stuck = peer::serve(&scene.server, "stuck", 8081).unwrap();
    let flooding = peer::serve(&scene.server, "flood", 8082).unwrap();
    let live = peer::start_call(&scene.client, "keep", scene.address(Family::V4), &["20"]).unwrap();
    goes_on(&live, &scene);

    let (stuck, flood) = (scene.server.at(Family::V4, 8081), scene.server.at(Family::V4, 8082));
    let uploads = many(&scene, "flood", stuck, &["1000000000000", "600"]);
    uploads.iter().for_each(|upload| stands_still(upload, 1));
    goes_on(&live, &scene);
    let downloads = many(&scene, "never-read", flood, &[]);
    stands_still(&flooding, STOPPED);
    goes_on(&live, &scene);
    for _ in 0..10 {
        scene.works();
    }
    drop((uploads, downloads));
    goes_on(&live, &scene);
}

/// Of events, and of requests of which the called pod's agent decides by policies for HTTP: both agents read them piece by piece.
#[test]
fn small_pieces_of_http_to_readers_that_stop_do_not_end_their_tunnel() {
    let mut scene = scene();
    let _echo = peer::serve(&scene.server, "echo", 8080).unwrap();
    let dripping = peer::serve(&scene.server, "drip", 8081).unwrap();
    let _stuck = peer::serve(&scene.server, "stuck", 8082).unwrap();
    let (events, requests) = (http(&mut scene, "events", 8081), http(&mut scene, "requests", 8082));
    scene.mesh.manifests.put(json!({
        "apiVersion": "posthaste.dev/v1alpha1", "kind": "AuthorizationPolicy",
        "metadata": {"name": "by-method", "namespace": "shop"},
        "spec": {"action": "DENY", "rules": [{"to": [{"operation": {"methods": ["DELETE"], "ports": ["8082"]}}]}]},
    }));
    scene.mesh.manifests.apply().unwrap();
    let live = peer::start_call(&scene.client, "keep", scene.address(Family::V4), &["20"]).unwrap();
    goes_on(&live, &scene);

    // What their sockets hold does not lie in the tunnel.
    for pod in [&scene.client, &scene.server] {
        let small = "echo 4096 16384 65536 > /proc/sys/net/ipv4/tcp_wmem";
        pod.run(&["sh", "-c", small]).unwrap().success().unwrap();
    }
    let _stopped = many(&scene, "drip", events, &["GET"]);
    drips(&[&dripping], 0, &scene);
    goes_on(&live, &scene);
    let uploads = many(&scene, "drip", requests, &["POST"]);
    drips(&uploads.iter().collect::<Vec<_>>(), 0, &scene);
    goes_on(&live, &scene);
}

/// Over HTTP/2 the connection to the endpoint and that of the client are shared like a tunnel.
#[test]
fn small_messages_of_http2_to_readers_that_stop_do_not_end_their_connection() {
    let mut scene = scene();
    let dripping = peer::serve(&scene.server, "drip-http2", 8080).unwrap();
    let mut service = scene.mesh.service_spec("messages", 8080, &[&scene.server]);
    service.app_protocol = Some("kubernetes.io/h2c".to_owned());
    scene.mesh.publish(&service).unwrap();
    let to = cluster_ip(&service, Family::V4);
    let down = peer::start_call(&scene.client, "drip-http2", to, &["/drip", "8"]).unwrap();
    drips(&[&dripping, &down], NOTED, &scene);
    goes_on(&down, &scene);
    let up = peer::start_call(&scene.client, "drip-http2", to, &["/swallow", "8"]).unwrap();
    drips(&[&up], NOTED, &scene);
    goes_on(&up, &scene);
    goes_on(&down, &scene);
}

/// One worker each, so that there is one tunnel between the two pods.
fn scene() -> Scene {
    let mut mesh = Mesh::prepare(&[("mtls", "strict")]).unwrap();
    (mesh.a.settings.workers, mesh.b.settings.workers) = (1, 1);
    mesh.run().unwrap();
    Scene::within(mesh)
}

/// A service for a port of the server that speaks HTTP.
fn http(scene: &mut Scene, name: &str, port: u16) -> SocketAddr {
    let mut service = scene.mesh.service_spec(name, port, &[&scene.server]);
    service.app_protocol = Some("http".to_owned());
    scene.mesh.publish(&service).unwrap();
    cluster_ip(&service, Family::V4)
}

/// Waits until as many writers of small pieces as there are readers that stopped could write no more, after at least so many together.
fn drips(programs: &[&Running], least: u64, scene: &Scene) {
    eventually_within(Duration::from_secs(120), "the small pieces to be written", || {
        let said: String = programs.iter().map(|program| program.stdout()).collect();
        let dripped: Vec<u64> = lines(&said).iter().filter_map(|line| line["dripped"].as_u64()).collect();
        let all = dripped.len() == STOPPED && dripped.iter().sum::<u64>() > least;
        holds(all, format!("{dripped:?} of {said}\n{}", scene.logs()))
    })
    .unwrap();
}

fn many(scene: &Scene, behaviour: &str, to: SocketAddr, arguments: &[&str]) -> Vec<Running> {
    (0..STOPPED).map(|_| peer::start_call(&scene.client, behaviour, to, arguments).unwrap()).collect()
}

/// A connection of long standing is answered again and again from now on.
fn goes_on(live: &Running, scene: &Scene) {
    let rounds = || lines(&live.stdout()).pop().map_or(0, |line| line["rounds"].as_u64().unwrap_or(0));
    let before = rounds();
    eventually("a live connection goes on beside readers that stopped", || {
        let now = rounds();
        holds(now >= before + 30, format!("{before} rounds, then {now}\n{}", scene.logs()))
    })
    .unwrap();
}

/// Waits until that many connections of a writer say for two seconds that they could write nothing.
fn stands_still(writer: &Running, connections: usize) {
    let written = || {
        let said = lines(&writer.stdout()).into_iter().filter(|line| line["written"].is_u64());
        said.map(|line| (line["peer"].to_string(), line["written"].as_u64())).collect::<BTreeMap<_, _>>()
    };
    eventually_within(Duration::from_secs(60), "the writers to be stopped", || {
        let before = written();
        thread::sleep(Duration::from_secs(2));
        let after = written();
        holds(before.len() == connections && before == after, format!("{before:?} then {after:?}"))
    })
    .unwrap();
}
