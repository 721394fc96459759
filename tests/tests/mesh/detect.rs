//! What a port speaks, found out by what unmodified programs say on it, where nothing is declared and where it is: TLS of the application with
//! its server name, and a server that speaks first. Said in the access log, in the connection table and in a metric.

use crate::scene::{cluster_ip, logs};
use posthaste_tests::{
    Family, Mesh, Pod, Running,
    certificates::{Signer, Validity},
    eventually,
    peer::{self, faulty::Faulty},
    python,
    wait::holds,
};
use serde_json::{Value, json};
use std::net::SocketAddr;

/// An HTTPS server that says `found` to every request.
const TLS_SERVER: &str = "
import http.server, ssl, sys
class Found(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self):
        self.send_response(200)
        self.send_header('content-length', '5')
        self.end_headers()
        self.wfile.write(b'found')
server = http.server.ThreadingHTTPServer(('0.0.0.0', 8443), Found)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
";

struct Pair {
    client: Pod,
    server: Pod,
    // Last: pods end before the world.
    mesh: Mesh,
}

impl Pair {
    fn start() -> Self {
        let mut mesh = Mesh::start_strict().unwrap();
        let client = mesh.pod("a", "client").unwrap();
        let server = mesh.pod("b", "server").unwrap();
        Self { client, server, mesh }
    }

    fn service(&mut self, name: &str, target: u16, protocol: Option<&str>) -> SocketAddr {
        self.service_with_port(name, "main", target, protocol)
    }

    fn service_with_port(
        &mut self,
        name: &str,
        port: &str,
        target: u16,
        protocol: Option<&str>,
    ) -> SocketAddr {
        let mut service = self.mesh.service_spec(name, target, &[&self.server]);
        service.app_protocol = protocol.map(str::to_owned);
        service.ports = vec![(port.to_owned(), 80, target)];
        self.mesh.publish(&service).unwrap();
        cluster_ip(&service, Family::V4)
    }

    fn curl(&self, arguments: &[&str]) -> String {
        let line = [&["curl", "-sS", "--noproxy", "*", "--max-time", "20"], arguments].concat();
        let output = self.client.run(&line).unwrap().success();
        output.unwrap_or_else(|fault| panic!("{fault}\n{}", logs(&self.mesh)))
    }

    /// The last line about a connection of the client to this service that is over.
    fn closed(&self, service: &str, count: usize) -> Value {
        let fits = |line: &Value| {
            line["event"] == "close"
                && line["direction"] == "outbound"
                && line["service"].as_str().is_some_and(|name| name.starts_with(&format!("{service}.")))
        };
        eventually("the connection's line", || {
            let lines: Vec<Value> = self.mesh.a.access_log().into_iter().filter(fits).collect();
            holds(lines.len() == count, format!("{lines:?}")).map(|()| lines[count - 1].clone())
        })
        .unwrap_or_else(|fault| panic!("{fault}\n{}", logs(&self.mesh)))
    }

    /// A connection that says this and then waits, while the connection table is asked what it speaks and how that is known.
    fn live(&self, service: &str, to: SocketAddr, says: &str, (protocol, why): (&str, &str)) {
        let said = peer::hexadecimal(says.as_bytes());
        let _running = peer::start_call(&self.client, "raw", to, &[&said, "60000"]).unwrap();
        let line = ["connections", "--service", service, "--pod", "client"];
        let asked = eventually("the live connection", || {
            let view = self.mesh.a.json(&line).map_err(|fault| fault.to_string())?;
            let mut rows = view["connections"].as_array().into_iter().flatten();
            let found = rows.any(|row| row["protocol"] == protocol && row["protocol_why"] == why);
            holds(found, view.to_string())
        });
        asked
            .unwrap_or_else(|fault| panic!("{service}: {protocol}, by {why}: {fault}\n{}", logs(&self.mesh)));
        let text = self.mesh.a.cli(&[&line[..], &["-o", "wide"]].concat()).unwrap();
        let shown =
            |row: &str| [protocol, why].iter().all(|word| row.split_whitespace().any(|cell| cell == *word));
        assert!(text.contains("PROTOCOL") && text.contains("KNOWN-BY") && text.lines().any(shown), "{text}");
    }

    fn decided(&self, protocol: &str, why: &str) -> f64 {
        let labels = [("protocol", protocol), ("why", why)];
        self.mesh.a.metrics().unwrap().sum("posthaste_protocol_decisions_total", &labels)
    }
}

/// A mail server, which speaks first.
fn mail(pair: &Pair) -> Running {
    let listen = ["/usr/bin/aiosmtpd", "-n", "-l", &format!("{}:2525", pair.server.v4)];
    let running = pair.server.start(&listen).unwrap();
    pair.server.wait_listening(2525).unwrap();
    running
}

fn tls(pair: &Pair) -> Running {
    let stem = pair.mesh.world.folder().join("application");
    let files = Signer::stranger().unwrap().issue(&["https://shop.example"], Validity::Now, &stem).unwrap();
    let [certificate, key] = [files.certificate, files.key].map(|path| path.display().to_string());
    let running = python::start(&pair.server, "python3", &["-c", TLS_SERVER, &certificate, &key]).unwrap();
    pair.server.wait_listening(8443).unwrap();
    running
}

#[test]
fn tls_of_the_application_passes_and_its_name_is_recorded() {
    let mut pair = Pair::start();
    let _server = tls(&pair);
    for (name, protocol, why) in
        [("silent", None, "first-bytes"), ("declared", Some("https"), "app-protocol")]
    {
        let to = pair.service(name, 8443, protocol);
        let place = format!("shop.example:443:{}:{}", to.ip(), to.port());
        assert_eq!(pair.curl(&["-k", "--connect-to", &place, "https://shop.example/"]), "found");
        let line = pair.closed(name, 1);
        assert_eq!(
            (&line["protocol"], &line["protocol_why"], &line["server_name"]),
            (&json!("tls"), &json!(why), &json!("shop.example")),
            "{line}"
        );
        assert!(pair.decided("tls", why) > 0.0);
    }
}

#[test]
fn a_server_that_speaks_first_is_not_held_up_and_the_port_is_learnt() {
    let mut pair = Pair::start();
    let _server = mail(&pair);
    let to = pair.service("mail", 2525, None);
    let letter = pair.mesh.world.folder().join("letter");
    std::fs::write(&letter, "Subject: hello\r\n\r\nhello\r\n").unwrap();
    let mail =
        ["--mail-from", "a@example.com", "--mail-rcpt", "b@example.com", "-T", letter.to_str().unwrap()];
    for (count, why) in [(1, "server-first"), (2, "learnt")] {
        pair.curl(&[&mail[..], &[&format!("smtp://{to}/")]].concat());
        let line = pair.closed("mail", count);
        assert_eq!((&line["protocol"], &line["protocol_why"]), (&json!("tcp"), &json!(why)), "{line}");
        assert!(pair.decided("tcp", why) > 0.0);
    }
}

#[test]
fn the_connection_table_says_what_a_port_speaks_and_how_that_is_known() {
    let mut pair = Pair::start();
    let _servers = (Faulty::start(&pair.server, 8080, "one").unwrap(), mail(&pair));
    let _echo = peer::serve(&pair.server, "echo", 9000).unwrap();
    const GET: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    const PREFACE: &str = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    // Service, name of its port, `appProtocol`, port of the server, what the client says, and what is known of that.
    let table = [
        ("declared", "main", Some("http"), 8080, GET, ("http", "app-protocol")),
        ("otherwise", "main", Some("http"), 8080, PREFACE, ("http2", "first-bytes")),
        ("named", "http-web", None, 8080, GET, ("http", "port-name")),
        ("both", "http-web", Some("tcp"), 8080, GET, ("tcp", "app-protocol")),
        ("found", "main", None, 8080, GET, ("http", "first-bytes")),
        ("bytes", "main", None, 9000, "neither of them\r\n", ("tcp", "first-bytes")),
    ];
    for (service, port, declared, target, says, known) in table {
        let to = pair.service_with_port(service, port, target, declared);
        pair.live(service, to, says, known);
    }
    let to = pair.service("mail", 2525, None);
    for why in ["server-first", "learnt"] {
        pair.live("mail", to, "", ("tcp", why));
    }
}
