//! What must be refused, and said clearly: peers without the right certificate, and plaintext. The foreign peers are OpenSSL's.

use crate::scene::{Scene, failed, logs, mentions};
use posthaste_tests::{
    Agent, Family, Mesh, Site,
    certificates::{Files, Signer, Validity},
    peer,
};
use std::path::Path;

const CLIENT: &str = "spiffe://cluster.local/ns/shop/sa/client";
const SERVER: &str = "spiffe://cluster.local/ns/shop/sa/server";

/// A TLS client that stays as long as it may (5 s); what OpenSSL said.
fn knock(from: &Site, to: &Site, files: Option<&Files>, extra: &[&str]) -> String {
    let address = to.at(Family::V4, 15008).to_string();
    let mut line =
        vec!["timeout", "5", "openssl", "s_client", "-connect", &address, "-alpn", "h2", "-ign_eof"];
    let paths = files.map(|files| (files.certificate.display().to_string(), files.key.display().to_string()));
    if let Some((certificate, key)) = &paths {
        line.extend(["-cert", certificate, "-key", key]);
    }
    line.extend(extra);
    let finished = from.run(&line).unwrap();
    format!("{} {}{}", finished.status, finished.stdout, finished.stderr)
}

struct Gate {
    outsider: Site,
    scene: Scene,
}

impl Gate {
    fn open() -> Self {
        let mut scene = Scene::strict();
        let outsider = scene.mesh.outsider("knocker").unwrap();
        Self { outsider, scene }
    }

    fn stem(&self, name: &str) -> std::path::PathBuf {
        self.scene.mesh.world.folder().join(name)
    }

    fn signer(&self) -> Signer {
        Signer::of_mesh(&self.scene.mesh.authority.state()).unwrap()
    }

    fn knock(&self, files: Option<&Files>, extra: &[&str]) -> String {
        knock(&self.outsider, &self.scene.server, files, extra)
    }

    /// OpenSSL saw an alert (or the end), and the agent recorded who it was and why.
    fn refused(&self, said: &str, reason: &[&str]) {
        let turned_away =
            ["alert", "errno=104", "closed", "unexpected eof"].iter().any(|word| said.contains(word));
        assert!(turned_away && !said.contains("exit status: 124"), "{said}\n{}", logs(&self.scene.mesh));
        recorded(&self.scene.mesh.b, &self.outsider, reason);
    }
}

/// A line of the access log names the peer's address and one of the reasons.
fn recorded(agent: &Agent, from: &Site, reasons: &[&str]) {
    let address = from.v4.to_string();
    let fits = |line: &serde_json::Value| {
        mentions(line, &[&address]) && reasons.iter().any(|reason| mentions(line, &[reason]))
    };
    agent.wait_for_log(&format!("{reasons:?} from {address}"), fits).unwrap();
}

#[test]
fn a_client_with_a_good_certificate_is_let_in() {
    let gate = Gate::open();
    let files = gate.signer().issue(&[CLIENT], Validity::Now, &gate.stem("good")).unwrap();
    let said = gate.knock(Some(&files), &[]);
    assert!(said.contains("exit status: 124") && !said.contains("alert"), "{said}");
    assert!(said.contains("ALPN protocol: h2"), "{said}");
}

#[test]
fn no_client_certificate() {
    let gate = Gate::open();
    let said = gate.knock(None, &[]);
    gate.refused(&said, &["TLS_FAILURE", "tls_failure"]);
}

#[test]
fn a_client_of_another_trust_domain() {
    let gate = Gate::open();
    let other = "spiffe://other.example/ns/shop/sa/client";
    let files = gate.signer().issue(&[other], Validity::Now, &gate.stem("other")).unwrap();
    gate.refused(&gate.knock(Some(&files), &[]), &["TLS_FAILURE", "IDENTITY_ERROR"]);
}

#[test]
fn a_client_signed_by_a_stranger() {
    let gate = Gate::open();
    let files = Signer::stranger().unwrap().issue(&[CLIENT], Validity::Now, &gate.stem("strange")).unwrap();
    gate.refused(&gate.knock(Some(&files), &[]), &["TLS_FAILURE", "IDENTITY_ERROR"]);
}

#[test]
fn a_client_whose_certificate_expired() {
    let gate = Gate::open();
    let files = gate.signer().issue(&[CLIENT], Validity::Expired, &gate.stem("expired")).unwrap();
    gate.refused(&gate.knock(Some(&files), &[]), &["TLS_FAILURE", "IDENTITY_ERROR"]);
}

#[test]
fn a_client_without_an_identity() {
    let gate = Gate::open();
    for (name, uris) in
        [("none", &[][..]), ("half", &["spiffe://cluster.local/ns/shop"]), ("web", &["https://a/"])]
    {
        let files = gate.signer().issue(uris, Validity::Now, &gate.stem(name)).unwrap();
        gate.refused(&gate.knock(Some(&files), &[]), &["TLS_FAILURE", "IDENTITY_ERROR"]);
    }
}

#[test]
fn tls_1_2() {
    let gate = Gate::open();
    let files = gate.signer().issue(&[CLIENT], Validity::Now, &gate.stem("old")).unwrap();
    gate.refused(&gate.knock(Some(&files), &["-tls1_2"]), &["TLS_FAILURE"]);
}

#[test]
fn plaintext_at_the_tunnel_port() {
    let gate = Gate::open();
    let to = gate.scene.server.at(Family::V4, 15008);
    let answer = peer::call(&gate.outsider, "exchange", to, &["GET / HTTP/1.1\r\n\r\n"]).unwrap();
    assert!(failed(&answer) || !answer["answer"].as_str().unwrap().contains("HTTP"), "{answer}");
    recorded(&gate.scene.mesh.b, &gate.outsider, &["TLS_FAILURE"]);
}

#[test]
fn plaintext_to_a_strict_pod() {
    let gate = Gate::open();
    let server = peer::serve(&gate.scene.server, "count", 8080).unwrap();
    for family in posthaste_tests::site::FAMILIES {
        let answer =
            peer::call(&gate.outsider, "exchange", gate.scene.server.at(family, 8080), &["in plain"])
                .unwrap();
        assert!(failed(&answer), "{answer}");
    }
    recorded(&gate.scene.mesh.b, &gate.outsider, &["plaintext_refused"]);
    assert!(!server.stdout().contains("accepted"), "{}", server.stdout());
}

#[test]
fn plaintext_to_a_permissive_pod_is_let_in_and_recorded() {
    let mut scene = Scene::permissive();
    let outsider = scene.mesh.outsider("outsider").unwrap();
    let _server = peer::serve(&scene.server, "address", 8080).unwrap();
    let answer = peer::call(&outsider, "exchange", scene.server.at(Family::V4, 8080), &[""]).unwrap();
    let said = answer["answer"].as_str().unwrap_or_default();
    assert!(said.contains(&outsider.v4.to_string()), "{answer}\n{}", scene.logs());
    recorded(&scene.mesh.b, &outsider, &["none"]);
}

/// The kubelet's probes come from the node's own addresses.
#[test]
fn probes_from_the_own_node_pass_in_strict() {
    let scene = Scene::strict();
    let _echo = peer::serve(&scene.server, "echo", 8080).unwrap();
    for family in posthaste_tests::site::FAMILIES {
        let to = scene.server.at(family, 8080);
        let own = peer::call(&scene.mesh.b.site, "exchange", to, &["alive?"]).unwrap();
        assert_eq!(own["answer"], "alive?", "{own}\n{}", scene.logs());
        let other = peer::call(&scene.mesh.a.site, "exchange", to, &["alive?"]).unwrap();
        assert!(failed(&other), "another node is no probe: {other}");
    }
}

/// Somebody else at the address of a pod: of node `c`, which has no agent.
struct Impostor {
    client: posthaste_tests::Pod,
    impostor: posthaste_tests::Pod,
    mesh: Mesh,
}

impl Impostor {
    fn stand() -> Self {
        let mut mesh = Mesh::start_strict().unwrap();
        let client = mesh.pod("a", "client").unwrap();
        let impostor = mesh.pod_with("b", "server", |spec| spec.node = "c".to_owned()).unwrap();
        mesh.settle(&impostor).unwrap();
        Self { client, impostor, mesh }
    }

    /// Serves TLS with that certificate; the client must fail, the payload must not arrive.
    fn turns_away(&self, files: &Files, reasons: &[&str]) {
        let text = |path: &Path| path.display().to_string();
        let (certificate, key) = (text(&files.certificate), text(&files.key));
        // OpenSSL's server ends with its standard input.
        let serve =
            format!("sleep 100 | openssl s_server -accept 15008 -cert {certificate} -key {key} -alpn h2");
        let line = ["sh", "-c", &serve];
        let server = self.impostor.start(&line).unwrap();
        self.impostor.wait_listening(15008).unwrap();
        let to = self.impostor.at(Family::V4, 8080);
        let answer = peer::call(&self.client, "exchange", to, &["only for the right one"]).unwrap();
        assert!(failed(&answer), "{answer}");
        recorded(&self.mesh.a, &self.impostor, reasons);
        assert!(!server.stdout().contains("only for the right one"));
    }

    fn stem(&self, name: &str) -> std::path::PathBuf {
        self.mesh.world.folder().join(name)
    }
}

#[test]
fn an_impostor_with_the_certificate_of_another_pod() {
    let scene = Impostor::stand();
    let signer = Signer::of_mesh(&scene.mesh.authority.state()).unwrap();
    let files = signer.issue(&[CLIENT], Validity::Now, &scene.stem("impostor")).unwrap();
    scene.turns_away(&files, &["IDENTITY_ERROR"]);
}

#[test]
fn an_impostor_signed_by_a_stranger() {
    let scene = Impostor::stand();
    let files = Signer::stranger().unwrap().issue(&[SERVER], Validity::Now, &scene.stem("impostor")).unwrap();
    scene.turns_away(&files, &["TLS_FAILURE", "IDENTITY_ERROR"]);
}

#[test]
fn a_server_whose_certificate_expired() {
    let scene = Impostor::stand();
    let signer = Signer::of_mesh(&scene.mesh.authority.state()).unwrap();
    let files = signer.issue(&[SERVER], Validity::Expired, &scene.stem("impostor")).unwrap();
    scene.turns_away(&files, &["TLS_FAILURE", "IDENTITY_ERROR"]);
}

/// The right certificate, but nobody who speaks HTTP/2 behind it: the handshake has a deadline.
#[test]
fn a_server_that_is_silent_after_the_handshake() {
    let scene = Impostor::stand();
    let signer = Signer::of_mesh(&scene.mesh.authority.state()).unwrap();
    let files = signer.issue(&[SERVER], Validity::Now, &scene.stem("silent")).unwrap();
    scene.turns_away(&files, &["H2_HANDSHAKE_FAILURE", "CONNECT"]);
}
