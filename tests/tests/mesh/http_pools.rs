//! How long connections to endpoints are kept, and for how many requests: as the keep-alive of a policy says.

use crate::{
    http_limits::shop_with_one_worker,
    http_shop::{Shop, policy},
};
use posthaste_tests::peer::load::Spec;
use serde_json::json;
use std::{net::SocketAddr, thread::sleep, time::Duration};

/// Requests one after the other, each on a connection of its own from the client; so many connections a server has seen up to now.
fn one_by_one(shop: &Shop, to: SocketAddr, server: usize, pause: Duration) -> u64 {
    for _ in 0..3 {
        assert_eq!(shop.load_to(to, &Spec::requests(1, 1)).status(200), 1, "{}", shop.logs());
        sleep(pause);
    }
    shop.seen_by(server).connections
}

#[test]
fn connections_are_kept_as_a_policy_says() {
    // Each worker has a pool of its own.
    let mut shop = shop_with_one_worker();
    let names = ["few-requests", "none-idle", "short-idle"];
    let [few, none, short] = [0, 1, 2].map(|server| shop.service(names[server], &[server]));
    let all = Spec::requests(30, 1);
    // Without a policy there is one for all.
    assert_eq!(shop.load_to(few, &all).status(200), 30, "{}", shop.logs());
    assert_eq!(shop.seen_by(0).connections, 1);
    assert_eq!(one_by_one(&shop, short, 2, Duration::ZERO), 1);

    let keep =
        [json!({"requestsPerConnection": 3}), json!({"idleConnections": 0}), json!({"idleTimeout": "100ms"})];
    let policies: Vec<_> =
        names.iter().zip(keep).map(|(name, keep)| policy(name, json!({"keepAlive": keep}))).collect();
    shop.put_all(&policies);
    shop.forget();
    assert_eq!(shop.load_to(few, &all).status(200), 30, "{}", shop.logs());
    // The first request goes over the one that is there, which has had more than three.
    assert_eq!(shop.seen_by(0).connections, 10, "29 requests by threes");
    assert_eq!(shop.load_to(none, &all).status(200), 30, "{}", shop.logs());
    assert_eq!(shop.seen_by(1).connections, 30);
    // The one that is there was kept by the old rule, until its next request.
    assert_eq!(one_by_one(&shop, short, 2, Duration::from_millis(300)), 2);
}
