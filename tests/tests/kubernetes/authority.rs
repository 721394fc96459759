//! The CA of a cluster, with the rights that are shipped: who gets certificates, who does not and why, and how roots change.

use crate::requester::Requester;
use posthaste_tests::{
    World,
    certificates::Signer,
    cluster::{Cluster, ClusterCa, SYSTEM, ca::AUDIENCE},
    eventually,
    wait::{eventually_within, holds},
};
use serde_json::{Value, json};
use std::time::Duration;

struct Scene {
    ca: ClusterCa,
    second: ClusterCa,
    agents: [Value; 2],
    requester: Requester,
    cluster: Cluster,
    // Last: everything ends before its world.
    _world: World,
}

/// An API server with the manifests, two nodes with an agent's pod each, `web` on node a and `cart` on node b; no CA runs yet.
fn prepare() -> Scene {
    let world = World::create().unwrap();
    let mut cluster = Cluster::prepare(world.site("api", 1, 3).unwrap(), world.folder());
    cluster.start().unwrap();
    cluster.deploy("").unwrap();
    cluster.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})).unwrap();
    for (namespace, account) in [("shop", "web"), ("shop", "cart"), (SYSTEM, "default")] {
        let metadata = json!({"name": account, "namespace": namespace});
        cluster.apply(&json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})).unwrap();
    }
    let agents = ["a", "b"].map(|node| {
        cluster.apply(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}})).unwrap();
        cluster.running_pod(SYSTEM, &format!("agent-{node}"), "posthaste-agent", node).unwrap()
    });
    cluster.running_pod("shop", "web-1", "web", "a").unwrap();
    cluster.running_pod("shop", "cart-1", "cart", "b").unwrap();
    let [ca, second] = [("ca-1", 4), ("ca-2", 5)]
        .map(|(name, number)| ClusterCa::prepare(world.site(name, 1, number).unwrap(), &cluster).unwrap());
    let requester = Requester::new(world.site("asker", 1, 6).unwrap());
    Scene { ca, second, agents, requester, cluster, _world: world }
}

impl Scene {
    fn start() -> Self {
        let mut scene = prepare();
        scene.ca.start().unwrap();
        scene.ca.wait_ready().unwrap();
        scene
    }

    fn token(&self, agent: usize) -> String {
        self.cluster.projected_token(&self.agents[agent], AUDIENCE).unwrap()
    }

    /// Asks the first replica for a certificate of an account of `shop`.
    fn ask(&self, token: &str, account: &str) -> Result<Vec<String>, String> {
        self.requester.ask(&self.ca.url(), &self.cluster.trust_bundle().unwrap(), token, "shop", account)
    }

    fn refused(&self, token: &str, account: &str, reason: &str) {
        let said = self.ask(token, account).expect_err(reason);
        assert!(said.contains(reason), "{said} instead of {reason}; log: {}", self.ca.log());
    }
}

#[test]
fn a_node_gets_certificates_for_its_own_pods_and_no_others() {
    let scene = Scene::start();
    let (a, b) = (scene.token(0), scene.token(1));
    let chain = scene.ask(&a, "web").unwrap();
    assert_eq!(chain.last().unwrap(), &scene.cluster.trust_bundle().unwrap());
    scene.ask(&b, "cart").unwrap();
    scene.refused(&a, "cart", "no pod of service account shop/cart runs on node a");
    scene.refused(&b, "web", "no pod of service account shop/web runs on node b");
    scene.refused(&a, "nobody", "no pod of service account shop/nobody");
    // A pod that comes counts at once, whether the watch has seen it or not; one that has ended counts no more.
    let pod = scene.cluster.running_pod("shop", "cart-2", "cart", "a").unwrap();
    scene.ask(&a, "cart").unwrap();
    let ended = json!({"status": {"phase": "Succeeded"}});
    let path = "/api/v1/namespaces/shop/pods/cart-2/status";
    scene.cluster.client().unwrap().merge(path, &ended).unwrap().success().unwrap();
    eventually("the pod that has ended to count no more", || {
        holds(scene.ask(&a, "cart").is_err(), "still served")
    })
    .unwrap();
    scene.cluster.delete(&pod).unwrap();
}

#[test]
fn a_token_that_is_not_an_agents_is_refused_with_the_reason() {
    let mut scene = Scene::start();
    let other = scene.cluster.projected_token(&scene.agents[0], "vault").unwrap();
    scene.refused(&other, "web", "audience");
    let api = scene.cluster.token(SYSTEM, "posthaste-agent", &json!({})).unwrap();
    scene.refused(&api, "web", "audience");
    let unbound = scene.cluster.token(SYSTEM, "posthaste-agent", &json!({"audiences": [AUDIENCE]})).unwrap();
    scene.refused(&unbound, "web", "not bound to a pod");
    let web = scene.cluster.running_pod("shop", "web-2", "web", "a").unwrap();
    let stolen = scene.cluster.projected_token(&web, AUDIENCE).unwrap();
    scene.refused(&stolen, "web", "may not ask for certificates");
    scene.refused("nonsense", "web", "refused by the API server");
    // Revoked: the pod that it was made for is gone, also for a CA that has just seen the token.
    let revoked = scene.token(0);
    scene.ask(&revoked, "web").unwrap();
    scene.cluster.delete(&scene.agents[0]).unwrap();
    eventually("the token of a deleted pod to be refused", || {
        holds(scene.ask(&revoked, "web").is_err(), "still served")
    })
    .unwrap();
    scene.refused(&revoked, "web", "");
    // Expired: the server is told to give short ones.
    scene.cluster.stop().unwrap();
    scene.cluster.extra = vec!["--max-token-lifetime".to_owned(), "3s".to_owned()];
    scene.cluster.start().unwrap();
    let expired = scene.token(1);
    std::thread::sleep(Duration::from_secs(4));
    eventually("the CA to have the API server again", || {
        let said = scene.ask(&expired, "cart").expect_err("an expired token");
        holds(said.contains("expired"), said)
    })
    .unwrap();
}

#[test]
fn replicas_share_one_root_and_a_restart_keeps_it() {
    let mut scene = prepare();
    scene.ca.start().unwrap();
    scene.second.start().unwrap();
    scene.ca.wait_ready().unwrap();
    scene.second.wait_ready().unwrap();
    let bundle = scene.cluster.trust_bundle().unwrap();
    assert_eq!(bundle.matches("BEGIN CERTIFICATE").count(), 1, "one root, whoever won");
    let token = scene.token(0);
    for url in [scene.ca.url(), scene.second.url()] {
        assert!(scene.requester.verifies(&url, &bundle, &token, ("shop", "web"), &bundle).unwrap(), "{url}");
    }
    scene.ca.stop().unwrap();
    scene.second.stop().unwrap();
    scene.ca.start().unwrap();
    scene.ca.wait_ready().unwrap();
    assert_eq!(scene.cluster.trust_bundle().unwrap(), bundle);
    scene.ask(&token, "web").unwrap();
    // A bundle that somebody broke is mended.
    let broken = json!({"data": {"ca.crt": "nothing"}});
    let path = format!("/api/v1/namespaces/{SYSTEM}/configmaps/posthaste-ca-bundle");
    scene.cluster.client().unwrap().merge(&path, &broken).unwrap().success().unwrap();
    eventually("the bundle to be mended", || {
        let now = scene.cluster.trust_bundle().map_err(|fault| fault.to_string())?;
        holds(now == bundle, now)
    })
    .unwrap();
}

#[test]
fn a_root_that_is_given_takes_over_after_the_overlap_and_a_broken_one_changes_nothing() {
    let mut scene = prepare();
    scene.ca.extra =
        ["--overlap", "12", "--validity", "6", "--longest-validity", "6"].map(str::to_owned).to_vec();
    scene.ca.start().unwrap();
    scene.ca.wait_ready().unwrap();
    let old = scene.cluster.trust_bundle().unwrap();
    let given = Signer::stranger().unwrap();
    let secret = |certificate: &str, key: &str| {
        json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": {"name": "posthaste-ca-given", "namespace": SYSTEM},
            "stringData": {"tls.crt": certificate, "tls.key": key}})
    };
    scene.cluster.apply(&secret(given.root(), "no key")).unwrap();
    eventually("the CA to say what is wrong", || holds(scene.ca.log().contains("given-"), scene.ca.log()))
        .unwrap();
    assert_eq!(scene.cluster.trust_bundle().unwrap(), old);
    scene.cluster.apply(&secret(given.root(), &given.key())).unwrap();
    let both = eventually("both roots to be trusted", || {
        let now = scene.cluster.trust_bundle().map_err(|fault| fault.to_string())?;
        holds(now.len() > old.len(), now.clone()).map(|()| now)
    })
    .unwrap();
    assert!(both.starts_with(&old) && both.contains(given.root().trim()), "{both}");
    // Until the overlap is over the old root signs, then the given one; the requester verifies against the root it is told.
    let signed_by = |root: &str| {
        let token = scene.token(0);
        scene.requester.verifies(&scene.ca.url(), &both, &token, ("shop", "web"), root)
    };
    assert!(signed_by(&old).unwrap(), "the old root signs during the overlap");
    eventually_within(Duration::from_secs(60), "the given root to sign", || {
        holds(signed_by(given.root())?, "the old one still signs")
    })
    .unwrap();
    eventually_within(Duration::from_secs(60), "the old root to be dropped", || {
        let now = scene.cluster.trust_bundle().map_err(|fault| fault.to_string())?;
        holds(now.trim() == given.root().trim(), now)
    })
    .unwrap();
    let refused = scene.ca.rotate(Duration::from_secs(1)).unwrap_err().to_string();
    assert!(refused.contains("replace its content"), "{refused}");
}
