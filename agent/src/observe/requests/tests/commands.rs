//! The admin socket's answers about requests, as the commands show them.

use super::*;
use crate::observe::{admin, http, tests::run};
use std::{path::Path, time::Duration};

fn serve(requests: &Requests, snapshot: Snapshot, socket: &Path) {
    let sources = sources(requests, snapshot);
    let metrics = Arc::new(Metrics::new(&sources, &sources.series));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let listener = runtime.block_on(async { admin::listen(socket) }).unwrap();
    // Ends with the process: it serves for ever.
    std::thread::spawn(move || {
        runtime.block_on(http::serve(listener, admin::admin_answers(sources, metrics)))
    });
}

fn world() -> Snapshot {
    use crate::snapshot::{
        Service, ServiceRoutes,
        routes::{
            Action, Backend, Filters, RouteTable, Rule,
            entry::{Entry, PathMatch},
        },
    };
    let port = Arc::new(service_port("cart"));
    let backends = vec![
        Backend { weight: 90, port: Ok(port.clone()), filters: Filters::default() },
        Backend { weight: 10, port: Err("no Service `cart-2`".to_owned()), filters: Filters::default() },
    ];
    let rule = Arc::new(Rule {
        name: route(),
        action: Action::Forward(backends),
        filters: Filters::default(),
        request_timeout_ns: Some(1_000_000_000),
        backend_timeout_ns: None,
        retry: None,
    });
    let path = PathMatch::Prefix("/items".into());
    let table = RouteTable::of(vec![Entry { path, predicate: Arc::default(), rule, created: None }]);
    let address = "10.96.0.7".parse().unwrap();
    let routes =
        ServiceRoutes { producer: Some(Arc::new(table)), consumers: std::collections::HashMap::new() };
    let service = Service {
        name: "cart".into(),
        namespace: "shop".into(),
        hostname: port.hostname.clone(),
        cluster_ips: vec![address],
        affinity_seconds: None,
        ports: vec![port],
    };
    Snapshot {
        generation: 1,
        routes: [((address, 80), Arc::new(routes))].into(),
        services: vec![Arc::new(service)],
        ..Snapshot::default()
    }
}

#[test]
fn commands_show_routes_endpoints_rates_and_requests() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("admin.sock");
    let requests = Requests::new(1, RequestOptions::default());
    serve(&requests, world(), &socket);

    let routes = run(&socket, &["routes", "cart.shop", "-o", "wide"]).unwrap();
    assert!(routes.contains("/items/*") && routes.contains("cart.shop:80 90%, 500 10%"), "{routes}");
    assert!(routes.contains("HTTPRoute/shop/cart[1]: no Service `cart-2`"), "{routes}");
    assert_eq!(run(&socket, &["routes", "nothing"]).unwrap(), "no routes for `nothing`\n");

    let endpoints = run(&socket, &["endpoints", "cart", "-o", "json"]).unwrap();
    let endpoints: serde_json::Value = serde_json::from_str(&endpoints).unwrap();
    let only = &endpoints[0]["endpoints"][0];
    assert_eq!((&only["address"], &only["state"]), (&"10.0.1.1:8080".into(), &"healthy".into()));
    assert_eq!(
        (&only["weight_percent"], &endpoints[0]["running"][2]["limit"]),
        (&100.0.into(), &8192.into())
    );

    let traffic = std::thread::spawn(move || {
        for _ in 0..200 {
            eventful(&requests, 0, 200);
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    let tapped = run(&socket, &["tap", "--max", "3", "--path", "/items", "--headers", "x-token"]).unwrap();
    assert_eq!(
        tapped.matches(" GET cart/items?secret=1 200 3.5ms shop/web-1 -> shop/cart-1").count(),
        3,
        "{tapped}"
    );
    assert_eq!(tapped.matches("\n  > x-token: hidden").count(), 3, "{tapped}");
    let top = run(&socket, &["top", "--once", "--interval", "0.2", "-o", "json"]).unwrap();
    let top: serde_json::Value = serde_json::from_str(&top).unwrap();
    assert!(top[0]["requests_per_second"].as_f64().unwrap() > 1.0, "{top}");
    assert_eq!(top[0]["success_percent"], 100.0);
    traffic.join().unwrap();
    let wrong = run(&socket, &["tap", "--status", "x"]).unwrap_err();
    assert!(wrong.contains("400") && wrong.contains("`status` is 404, 5xx or 500-503"), "{wrong}");
    let place = crate::cli::cluster::place::Place { admin_socket: socket, ..Default::default() };
    let metrics = String::from_utf8(crate::cli::client::fetch(&place, "/metrics").unwrap()).unwrap();
    let breaker =
        "posthaste_breaker_requests{service=\"cart.shop.svc.cluster.local\",port=\"80\",family=\"ipv4\"} 0";
    assert!(metrics.contains(breaker), "{metrics}");
}
