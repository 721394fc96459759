//! Consistent hashing, and new endpoints that begin slowly.

use crate::{
    http_shop::{Shop, answering, policy},
    scene::cluster_ip,
};
use posthaste_tests::{
    Family,
    mesh::endpoint,
    peer::{faulty::Plan, load::Spec},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

fn by(key: &Value) -> Value {
    json!({
        "loadBalancer": {"type": "ConsistentHash", "consistentHash": key},
        "outlierDetection": {"baseEjectionTime": "5m", "latencyFactor": 0},
    })
}

#[test]
fn the_same_key_goes_to_the_same_endpoint() {
    let mut shop = Shop::start("http");
    let [cookie_web, source_web] = ["cookie-web", "source-web"].map(|name| shop.service(name, &[0, 1, 2]));
    shop.put_all(&[
        policy("shop-web", by(&json!({"type": "Header", "name": "x-user"}))),
        policy("cookie-web", by(&json!({"type": "Cookie", "name": "session"}))),
        policy("source-web", by(&json!({"type": "Source"}))),
    ]);
    let home = |to: SocketAddr, name: &str, value: &str| -> String {
        let headers = vec![(name.to_owned(), value.to_owned())];
        let report = shop.load_to(to, &Spec { headers, ..Spec::requests(12, 3) });
        assert!(
            report.status(200) == 12 && report.servers.len() == 1,
            "{value}: {report:?}\n{}",
            shop.logs()
        );
        report.servers.into_keys().next().unwrap()
    };
    let users: Vec<String> = (0..12).map(|number| format!("user-{number}")).collect();
    let homes = || -> BTreeMap<&String, String> {
        users.iter().map(|user| (user, home(shop.service, "x-user", user))).collect()
    };
    let before = homes();
    let used: BTreeSet<_> = before.values().collect();
    assert_eq!(used.len(), 3, "{before:?}");
    // The cookie decides, among others and on whatever connection.
    let cookies: Vec<String> = users
        .iter()
        .take(5)
        .map(|user| home(cookie_web, "cookie", &format!("a=1; session={user}; b=2")))
        .collect();
    let again: Vec<String> =
        users.iter().take(5).map(|user| home(cookie_web, "cookie", &format!("session={user}"))).collect();
    assert_eq!(cookies, again);
    // All requests of a pod, whatever they say.
    let report = shop.load_to(source_web, &Spec { new_connection: true, ..Spec::requests(30, 3) });
    assert_eq!((report.status(200), report.servers.len()), (30, 1), "{report:?}");
    // Without the key requests are balanced.
    assert_eq!(shop.load(&Spec::requests(60, 3)).servers.len(), 3);

    // An endpoint fails: its keys move, the others stay.
    shop.plan(0, &answering(502));
    shop.wait_endpoint("shop-web", 0, "an ejection", |one| {
        shop.load(&Spec::requests(30, 3));
        one["state"] != "healthy"
    });
    let after = homes();
    for (user, server) in &after {
        assert!(
            server != "one" && (before[user] == "one" || before[user] == *server),
            "{user}: {before:?} {after:?}"
        );
    }
    shop.plan(0, &Plan::default());
}

#[test]
fn a_new_endpoint_begins_slowly() {
    let mut shop = Shop::start("http");
    shop.put(policy("grown", json!({"loadBalancer": {"slowStart": "2m"}})));
    let mut spec = shop.mesh.service_spec("grown", 8080, &[&shop.servers[0].0, &shop.servers[1].0]);
    spec.app_protocol = Some("http".to_owned());
    shop.mesh.publish(&spec).unwrap();
    let to = cluster_ip(&spec, Family::V4);
    let share = |shop: &Shop| {
        let report = shop.load_to(to, &Spec::requests(300, 2));
        assert_eq!(report.status(200), 300, "{report:?}\n{}", shop.logs());
        report.servers.get("three").copied().unwrap_or_default()
    };
    assert_eq!(share(&shop), 0);
    spec.endpoints.push(endpoint(&shop.servers[2].0));
    let objects: Vec<Value> = spec.objects();
    shop.put_all(&objects);
    let first = share(&shop);
    assert!(first < 50, "{first} of 300 at once");
    // What is short by now is over.
    shop.put(policy("grown", json!({"loadBalancer": {"slowStart": "100ms"}})));
    let grown = share(&shop);
    assert!(grown > 60, "{grown} of 300");
}
