//! A root is rotated and the CA goes away, while two agents carry connections: leaves live for seconds here, not for a day, so an
//! outage of eight seconds is more of their life than ten minutes are of a day.
//!
//! `POSTHASTE_CA_OUTAGE` (seconds, 8 where it is not set) is how long the CA is away in
//! `connections_go_on_and_leaves_are_renewed_late_while_the_ca_is_away`; with 600 the test takes half an hour.

use posthaste_tests::{
    Agent, Mesh, Pod,
    cluster::{
        Cluster, ClusterCa, SYSTEM,
        ca::{AUDIENCE, NAME},
    },
    mesh::NAMESPACE,
    peer,
};
use serde_json::json;
use std::{
    net::SocketAddr,
    thread::sleep,
    time::{Duration, Instant, SystemTime},
};

const LIFE: Duration = Duration::from_secs(48);
const OVERLAP: Duration = Duration::from_secs(55);
const OUTAGE: Duration = Duration::from_secs(8);
/// So long before the first renewal the CA goes.
const EARLY: Duration = Duration::from_secs(3);
/// The longest back-off of an agent, with its jitter.
const LONGEST_RETRY: Duration = Duration::from_secs(72);

struct Scene {
    client: Pod,
    to: SocketAddr,
    ca: ClusterCa,
    cluster: Cluster,
    carried: u64,
    // Last: pods end before the world.
    mesh: Mesh,
}

/// Two nodes whose agents get their certificates, which live for so long, from the cluster's CA, with projected tokens.
fn prepare(life: Duration) -> (Scene, Pod) {
    let mut mesh = Mesh::prepare(&[("mtls", "strict")]).unwrap();
    let mut cluster = Cluster::prepare(mesh.world.site("api", 1, 3).unwrap(), mesh.world.folder());
    cluster.start().unwrap();
    cluster.deploy("").unwrap();
    cluster
        .apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}))
        .unwrap();
    let mut ca = ClusterCa::prepare(mesh.world.site("ca-1", 1, 4).unwrap(), &cluster).unwrap();
    let life = life.as_secs().to_string();
    ca.extra = ["--validity", &life, "--longest-validity", &life].map(str::to_owned).to_vec();
    ca.start().unwrap();
    ca.wait_ready().unwrap();
    for (name, agent) in [("a", &mut mesh.a), ("b", &mut mesh.b)] {
        cluster.apply(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})).unwrap();
        let pod = cluster.running_pod(SYSTEM, &format!("agent-{name}"), "posthaste-agent", name).unwrap();
        let token = cluster.projected_token(&pod, AUDIENCE).unwrap();
        agent.settings.ca_address = Some(ca.url());
        agent.settings.ca_root = cluster.file("bundle.pem", &cluster.trust_bundle().unwrap()).unwrap();
        agent.settings.join_token = cluster.file(&format!("token-{name}"), &token).unwrap();
        agent.settings.extra.extend(["--ca-name", NAME].map(str::to_owned));
    }
    // A pod's name is its service account as well.
    for (name, node) in [("client", "a"), ("server", "b")] {
        let account = json!({"name": name, "namespace": NAMESPACE});
        cluster.apply(&json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account})).unwrap();
        cluster.running_pod(NAMESPACE, name, name, node).unwrap();
    }
    mesh.a.restart().unwrap();
    mesh.b.restart().unwrap();
    let client = mesh.pod("a", "client").unwrap();
    let server = mesh.pod("b", "server").unwrap();
    let service = mesh.service("server", 8080, &[&server]).unwrap();
    let ip = service.cluster_ips.iter().find(|ip| ip.is_ipv4()).unwrap();
    let to = SocketAddr::new(*ip, 80);
    (Scene { client, to, ca, cluster, carried: 0, mesh }, server)
}

impl Scene {
    /// Two seconds of connections, each of which must succeed; meanwhile the bundle is what kubelet would have mounted.
    fn carry(&mut self) -> String {
        self.carry_for("2000")
    }

    fn carry_for(&mut self, milliseconds: &str) -> String {
        let bundle = self.cluster.trust_bundle().unwrap();
        self.cluster.file("bundle.pem", &bundle).unwrap();
        let report = peer::call(&self.client, "repeat", self.to, &[milliseconds]).unwrap();
        let failures = report["failures"].as_object().unwrap();
        assert!(
            failures.is_empty(),
            "{report}\n{}\n{}\n{}",
            self.mesh.a.log(),
            self.mesh.b.log(),
            self.ca.log()
        );
        self.carried += report["right"].as_u64().unwrap();
        bundle
    }

    /// A little of it every second, until the time has come.
    fn carry_until(&mut self, moment: SystemTime) {
        while SystemTime::now() < moment {
            self.carry_for("100");
            sleep(Duration::from_millis(900));
        }
    }

    /// The certificates of both nodes, one each: serial, and when it is renewed and over.
    fn leaves(&self) -> [Leaf; 2] {
        [&self.mesh.a, &self.mesh.b].map(leaf)
    }
}

#[derive(Debug)]
struct Leaf {
    serial: String,
    renewed: SystemTime,
    over: SystemTime,
}

fn leaf(agent: &Agent) -> Leaf {
    let certificates = agent.json(&["certs"]).unwrap();
    let one = &certificates[0];
    let moment = |field: &str| SystemTime::UNIX_EPOCH + Duration::from_secs(one[field].as_u64().unwrap());
    Leaf {
        serial: one["serial"].as_str().unwrap().to_owned(),
        renewed: moment("renew_at"),
        over: moment("not_after"),
    }
}

/// How long the CA is away.
fn outage() -> Duration {
    let given = std::env::var("POSTHASTE_CA_OUTAGE").map(|text| text.parse().expect("seconds"));
    given.map_or(OUTAGE, Duration::from_secs)
}

#[test]
fn no_connection_fails_while_the_root_is_rotated_and_the_ca_is_away() {
    let (mut scene, server) = prepare(LIFE);
    let _echo = peer::serve(&server, "echo", 8080).unwrap();
    let old = scene.carry();
    let said = scene.ca.rotate(OVERLAP).unwrap();
    assert!(said.contains("until then agents learn to trust it"), "{said}");
    let begin = Instant::now();
    let mut seen_both = false;
    let mut outages = 0;
    let new = loop {
        let bundle = scene.carry();
        seen_both |= bundle.starts_with(&old) && bundle.len() > old.len();
        if seen_both && outages == 0 {
            outages += 1;
            scene.ca.stop().unwrap();
            let until = Instant::now() + OUTAGE;
            while Instant::now() < until {
                scene.carry();
            }
            scene.ca.start().unwrap();
            scene.ca.wait_ready().unwrap();
        }
        if seen_both && !bundle.contains(old.trim()) {
            break bundle;
        }
        assert!(begin.elapsed() < 3 * (OVERLAP + LIFE), "the old root is never dropped: {}", scene.ca.log());
    };
    // A leaf's life more: every certificate in use is of the new root by now.
    let until = Instant::now() + LIFE;
    while Instant::now() < until {
        scene.carry();
    }
    assert_ne!(new, old);
    assert_eq!(new.matches("BEGIN CERTIFICATE").count(), 1);
    assert!(begin.elapsed() > OVERLAP + LIFE);
    assert!(scene.carried > 100, "{} connections", scene.carried);
}

/// It goes just before leaves are to be renewed, and comes back when half of what was left of them then is over.
#[test]
fn connections_go_on_and_leaves_are_renewed_late_while_the_ca_is_away() {
    let away = outage();
    // Renewals are spread over a tenth of the life: all fall into the outage. The next attempt after it is as far off as the last
    // one was, at most LONGEST_RETRY: so much of the leaves is left.
    let life = (away + away.min(LONGEST_RETRY)) * 5 / 2;
    let (mut scene, server) = prepare(life);
    let _echo = peer::serve(&server, "echo", 8080).unwrap();
    let before = scene.leaves();
    scene.carry_until(before.iter().map(|leaf| leaf.renewed).min().unwrap() - away.min(EARLY));
    scene.ca.stop().unwrap();
    scene.carry_until(SystemTime::now() + away);
    for agent in [&scene.mesh.a, &scene.mesh.b] {
        let status = agent.json(&["status"]).unwrap();
        assert_eq!(status["authority"]["state"], "failing", "{status}");
    }
    for (then, now) in before.iter().zip(scene.leaves()) {
        assert_eq!(then.serial, now.serial, "a leaf was renewed before the CA went: it went too late");
    }
    scene.ca.start().unwrap();
    scene.ca.wait_ready().unwrap();
    // A little longer than the old leaves live.
    scene.carry_until(before.iter().map(|leaf| leaf.over).max().unwrap() + EARLY);
    for (then, now) in before.iter().zip(scene.leaves()) {
        assert!(now.over > then.over, "{now:?} instead of {then:?}");
    }
    assert!(scene.carried > 100, "{} connections", scene.carried);
    println!("away for {away:?} of a life of {life:?}: {} connections, none failed", scene.carried);
}
