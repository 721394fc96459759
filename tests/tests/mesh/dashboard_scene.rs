//! What tests of the dashboard begin with: a shop with traffic, and a dashboard that shows it.

use crate::http_shop::{backend, faulty, publish, route};
use posthaste_tests::{
    Family, Mesh, Pod, Running, Site,
    peer::{
        self,
        faulty::{Faulty, Plan},
        load::{self, Spec},
    },
};
use serde_json::{Value, json};

/// What would be markup if a page took it for that. Names of objects cannot be, but what routes ask for can.
pub(crate) const MARKUP: &str = "<img id=evil src=x onerror=alert(1)>";

/// A shop on two nodes: `frontend` calls `cart` and `catalog`, `cart` calls `catalog` and `payments`, `payments` keeps connections to
/// `ledger` and opens others, and somebody outside calls `catalog` in plain text.
pub(crate) struct Busy {
    _clients: Vec<Running>,
    /// `cart`, `catalog`, `payments`.
    pub(crate) servers: Vec<(Pod, Faulty)>,
    _ledger: (Pod, Running),
    _frontend: Pod,
    _outside: Site,
    // Last: pods end before the world.
    pub(crate) mesh: Mesh,
}

impl Busy {
    pub(crate) fn start() -> Self {
        let mut mesh = Mesh::start(&[]).unwrap();
        let frontend = mesh.pod("a", "frontend").unwrap();
        let servers = faulty(&mut mesh, [("a", "cart"), ("b", "catalog"), ("b", "payments")]);
        let ledger = mesh.pod("a", "ledger").unwrap();
        let echo = peer::serve(&ledger, "echo", 8080).unwrap();
        let [cart, catalog, payments] = [0, 1, 2]
            .map(|number| publish(&mut mesh, &servers[number].0.name, "http", &[&servers[number].0]));
        let books = publish(&mut mesh, "ledger", "tcp", &[&ledger]);
        let evil = json!([{"matches": [{"headers": [{"name": "x-a", "value": MARKUP}]}], "backendRefs": [backend("payments", 1)]}, {"backendRefs": [backend("payments", 1)]}]);
        mesh.manifests.put(route("payments", &evil));
        mesh.manifests.apply().unwrap();
        let outside = mesh.outsider("outside").unwrap();
        let calls = |site: &Site, to, rate| {
            let spec = Spec { seconds: 3600.0, rate, connections: 2, ..Spec::default() };
            load::start(site, to, &spec).unwrap()
        };
        let clients = vec![
            calls(&frontend, cart, 20.0),
            calls(&frontend, catalog, 30.0),
            calls(&servers[0].0, catalog, 10.0),
            calls(&servers[0].0, payments, 8.0),
            calls(&outside, servers[1].0.at(Family::V4, 8080), 2.0),
            peer::start_call(&servers[2].0, "repeat", books, &["500"]).unwrap(),
            peer::start_call(&servers[2].0, "keep", books, &["100"]).unwrap(),
        ];
        let (_ledger, _frontend) = ((ledger, echo), frontend);
        Self { _clients: clients, servers, _ledger, _frontend, _outside: outside, mesh }
    }

    pub(crate) fn plan(&self, server: usize, plan: &Plan) {
        let (pod, program) = &self.servers[server];
        program.plan(pod, plan).unwrap();
    }
}

/// A dashboard that runs on node a and asks both agents, and its address without and with the token.
pub(crate) struct Dashboard {
    pub(crate) running: Running,
    pub(crate) page: String,
    pub(crate) url: String,
}

impl Dashboard {
    pub(crate) fn start(mesh: &Mesh) -> Self {
        let other = mesh.b.socket().display().to_string();
        let mut running = mesh.a.start_cli(&["--peer-socket", &other, "dashboard", "-o", "json"]).unwrap();
        running.wait_for_output("#token=").unwrap();
        let printed: Value = serde_json::from_str(&running.stdout()).unwrap();
        let url = printed["url"].as_str().unwrap().to_owned();
        let page = url.split('#').next().unwrap().to_owned();
        Self { running, page, url }
    }

    pub(crate) fn token(&self) -> &str {
        self.url.rsplit('=').next().unwrap()
    }

    pub(crate) fn port(&self) -> u16 {
        self.page.trim_end_matches('/').rsplit(':').next().unwrap().parse().unwrap()
    }
}
