//! What plaintext from outside may do, by namespace, pod and port; and that a caller of the mesh never sends any, whatever the modes are.

use crate::scene::{Scene, failed, logs, mentions};
use posthaste_tests::{
    Family, Mesh, Pod, Sniffer, agent::wait_json, eventually, mesh::NAMESPACE, objects, peer, wait::holds,
};

const SECRET: &str = "never-in-plaintext";
const PORTS: [u16; 2] = [8080, 9090];

/// A pod with a server at both ports and these annotations, and somebody outside of the mesh.
struct Modes {
    client: Pod,
    server: Pod,
    outside: posthaste_tests::Site,
    // Last: pods end before the world.
    mesh: Mesh,
}

impl Modes {
    fn start(namespace: &[(&str, &str)]) -> Self {
        let mut mesh = Mesh::start(namespace).unwrap();
        let client = mesh.pod("a", "client").unwrap();
        let server = mesh.pod("b", "server").unwrap();
        let outside = mesh.outsider("outside").unwrap();
        Self { client, server, outside, mesh }
    }

    /// Changes the annotations of the running pod.
    fn annotate(&mut self, annotations: &[(&str, &str)]) {
        let own = annotations.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        self.server.spec.annotations = own.collect();
        self.mesh.manifests.put(self.server.spec.object());
        self.mesh.manifests.apply().unwrap();
    }

    /// Waits until plaintext from outside gets to these ports and no others, while a pod of the mesh gets to all.
    fn lets_in(&self, wanted: [bool; 2], what: &str) {
        eventually(what, || {
            let answers = PORTS.map(|port| {
                let to = self.server.at(Family::V4, port);
                peer::call(&self.outside, "exchange", to, &["from outside"]).unwrap()
            });
            let open = [0, 1].map(|index| answers[index]["answer"] == "from outside");
            holds(open == wanted, format!("{answers:?}\n{}", logs(&self.mesh)))
        })
        .unwrap();
        for port in PORTS {
            let answer =
                peer::call(&self.client, "exchange", self.server.at(Family::V4, port), &[SECRET]).unwrap();
            assert_eq!(answer["answer"], SECRET, "{what}: {answer}\n{}", logs(&self.mesh));
        }
    }
}

#[test]
fn pods_and_ports_differ_from_their_namespace() {
    let mut modes = Modes::start(&[("mtls", "strict")]);
    let _servers = PORTS.map(|port| peer::serve(&modes.server, "echo", port).unwrap());
    let sniffer = Sniffer::start(modes.mesh.world.bridge(), &[SECRET]).unwrap();
    modes.lets_in([false, false], "a strict namespace to close both");
    modes.annotate(&[("mtls-ports", "9090=permissive")]);
    modes.lets_in([false, true], "one port to be opened");
    let rows = modes.mesh.b.json(&["workloads"]).unwrap();
    assert!(rows.to_string().contains("strict, 9090=permissive"), "{rows}");
    modes.annotate(&[("mtls", "permissive"), ("mtls-ports", "9090=strict")]);
    modes.lets_in([true, false], "the pod to be opened but for one port");
    modes.annotate(&[("mtls", "permissive"), ("mtls-ports", "9090=off")]);
    modes.lets_in([true, false], "a mistyped mode to keep its port closed");
    // What is let in has not changed, so nothing above has waited for it.
    wait_json(&modes.mesh.b, &["status"], |status| mentions(status, &["9090=off", "strict is in force"]))
        .unwrap();
    // The namespace opens; a port of the namespace and the pod's own word close.
    let namespace =
        objects::namespace(NAMESPACE, true, &[("mtls", "permissive"), ("mtls-ports", "8080=strict")]);
    modes.mesh.manifests.put(namespace);
    modes.annotate(&[]);
    modes.lets_in([false, true], "the namespace to close one port");
    modes.annotate(&[("mtls", "strict")]);
    modes.lets_in([false, false], "the pod to close both");
    assert_eq!(sniffer.hits(), 0, "{:?}", sniffer.seen());
}

/// The called pod would take plaintext, since its agent is dead and its namespace permissive: its caller still sends none.
#[test]
fn a_caller_never_falls_back_to_plaintext() {
    let scene = Scene::permissive();
    let _echo = peer::serve(&scene.server, "echo", 8080).unwrap();
    scene.works();
    let mut scene = scene;
    let outside = scene.mesh.outsider("outside").unwrap();
    let sniffer = Sniffer::start(scene.mesh.world.bridge(), &[SECRET]).unwrap();
    scene.mesh.b.kill();
    let straight = scene.server.at(Family::V4, 8080);
    eventually("the pod to take plaintext", || {
        let answer = peer::call(&outside, "exchange", straight, &["from outside"]).unwrap();
        holds(answer["answer"] == "from outside", format!("{answer}\n{}", scene.logs()))
    })
    .unwrap();
    for to in [scene.address(Family::V4), straight] {
        let answer = peer::call(&scene.client, "exchange", to, &[SECRET]).unwrap();
        assert!(failed(&answer), "{answer}\n{}", scene.logs());
    }
    assert_eq!(sniffer.hits(), 0, "{:?}", sniffer.seen());
    scene.mesh.b.restart().unwrap();
    eventually("calls to work again", || {
        let answer = scene.exchange(SECRET);
        holds(answer["answer"] == SECRET, format!("{answer}\n{}", scene.logs()))
    })
    .unwrap();
    assert_eq!(sniffer.hits(), 0, "{:?}", sniffer.seen());
}
