//! Both ends of a connection in one record: joined by the id in the tunnel, with stages, sockets and who took the time.

use crate::http_shop::{Shop, slow};
use posthaste_tests::{Family, eventually, peer, wait::holds};
use serde_json::{Value, json};

/// The joined records of connections of `shop-web`, as the command shows them.
fn joined(shop: &Shop, more: &[&str]) -> Vec<Value> {
    let other = shop.mesh.b.socket().display().to_string();
    let arguments = [&["connections", "--joined", "--peer-socket", &other], more].concat();
    shop.mesh.a.json(&arguments).unwrap().as_array().unwrap().clone()
}

/// A call that takes a while, and its joined record.
fn of_a_slow_call(shop: &Shop) -> Value {
    shop.plan_all(&slow(400));
    // The server on the client's node has no second agent.
    eventually("a call to the other node in both records", || {
        shop.curl(&["-o", "/dev/null", &format!("http://{}/", shop.service)]);
        let all = joined(shop, &[]);
        let whole = |one: &&Value| {
            one["caller"]["state"] == "closed"
                && one["called"].is_object()
                && one["called"]["source"]["pod"] == "client"
                && one["caller"]["destination"]["pod"] != "three"
        };
        all.iter().find(whole).cloned().ok_or_else(|| format!("{all:?}"))
    })
    .unwrap()
}

#[test]
fn a_slow_call_is_blamed_on_who_was_slow() {
    for protocol in ["tcp", "http"] {
        let shop = Shop::start(protocol);
        let one = of_a_slow_call(&shop);
        let (caller, called) = (&one["caller"], &one["called"]);
        assert_eq!((&caller["id"], &caller["id"]), (&one["id"], &called["id"]));
        let slowest = &one["shares"][0];
        assert_eq!(slowest["party"], "application", "{one:#}");
        assert!(slowest["took_us"].as_u64() >= Some(390_000), "{one:#}");
        let stage =
            |record: &Value, name: &str| record["stages"][format!("{name}_us")].as_u64().unwrap_or_default();
        let order = ["taken", "routed", "tunnel", "answer"].map(|name| stage(caller, name));
        assert!(order.is_sorted() && order[0] > 0 && order[3] >= 400_000, "{one:#}");
        let order = ["taken", "routed", "dialled", "request", "answer"].map(|name| stage(called, name));
        assert!(order.is_sorted() && order[0] > 0, "{one:#}");
        let sockets = |record: &Value| {
            ["application_socket", "network_socket"]
                .map(|name| record[name]["srtt_us"].as_u64().unwrap_or_default())
        };
        assert!(sockets(called).iter().all(|rtt| *rtt > 0), "{one:#}");
        assert!(sockets(caller).iter().all(|rtt| *rtt > 0), "{one:#}");
        if protocol == "tcp" {
            assert_eq!(
                (&caller["ended_by"], &called["ended_by"]),
                (&json!("both"), &json!("both")),
                "{one:#}"
            );
            assert_eq!(
                (&caller["sent_bytes"], &caller["received_bytes"]),
                (&called["sent_bytes"], &called["received_bytes"])
            );
        }
        let id = one["id"].as_str().unwrap();
        let other = shop.mesh.b.socket().display().to_string();
        let story = shop.mesh.a.cli(&["explain", "--trace", id, "--peer-socket", &other]).unwrap();
        for words in [
            "the calling pod's agent",
            "the called pod's agent",
            "application  4",
            "sa/client -> spiffe://cluster.local/ns/shop/sa/",
            "mutual_tls",
        ] {
            assert!(story.contains(words), "{words}: {story}");
        }
        let table =
            shop.mesh.a.cli(&["connections", "--joined", "--peer-socket", &other, "-o", "wide"]).unwrap();
        assert!(table.contains("application 4") && table.contains("shop-web.shop"), "{table}");
        let fault = shop.mesh.a.cli(&["explain", "--trace", "00000000000000ff"]).unwrap_err().to_string();
        assert!(fault.contains("no connection `00000000000000ff`"), "{fault}");
    }
}

#[test]
fn a_policy_and_an_absent_application_are_told_apart() {
    let mut shop = Shop::start("tcp");
    let stranger = shop.mesh.outsider("stranger").unwrap();
    peer::call(&stranger, "exchange", shop.servers[0].0.at(Family::V4, 8080), &["x"]).unwrap();
    peer::call(&shop.client, "exchange", shop.servers[0].0.at(Family::V4, 9999), &["x"]).unwrap();
    eventually("both ends", || {
        let closed = shop.mesh.b.json(&["connections", "--closed"]).map_err(|fault| fault.to_string())?;
        let by = |reason: &str| {
            let all = closed["connections"].as_array().unwrap();
            all.iter()
                .find(|one| one["reason"] == reason)
                .map(|one| one["ended_by"].clone())
                .unwrap_or_default()
        };
        let found = [by("plaintext_refused"), by("application_refused")];
        holds(found == [json!("policy"), json!("server")], closed.to_string())
    })
    .unwrap();
}
