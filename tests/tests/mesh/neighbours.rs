//! Applications that stop reading hold up their own connections and no others, though all share one tunnel.

use crate::scene::Scene;
use posthaste_tests::{
    Family, Mesh, Running, eventually,
    peer::{self, lines},
    wait::{eventually_within, holds},
};
use std::{collections::BTreeMap, net::SocketAddr, thread, time::Duration};

/// Connections whose readers stop, in each direction: their windows together are twice that of a tunnel.
const STOPPED: usize = 8;

#[test]
fn readers_that_stop_leave_the_other_connections_of_their_tunnel_alone() {
    // One worker, so that there is one tunnel between the two pods.
    let mut mesh = Mesh::prepare(&[("mtls", "strict")]).unwrap();
    (mesh.a.settings.workers, mesh.b.settings.workers) = (1, 1);
    mesh.run().unwrap();
    let scene = Scene::within(mesh);
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
