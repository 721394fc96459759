//! What is captured, what passes untouched, and what the applications see of it.

use crate::scene::{Scene, logs, mentions};
use posthaste_tests::{Family, Mesh, Sniffer, peer, site::FAMILIES};

#[test]
fn the_application_sees_the_address_that_it_asked_for() {
    let scene = Scene::strict();
    let _server = peer::serve(&scene.server, "address", 8080).unwrap();
    for family in FAMILIES {
        for to in [scene.address(family), scene.server.at(family, 8080)] {
            let answer = peer::call(&scene.client, "exchange", to, &[""]).unwrap();
            assert_eq!(answer["getpeername"], to.to_string(), "{answer}\n{}", scene.logs());
            // The server sees the client's own address, and its own.
            let said = answer["answer"].as_str().unwrap();
            assert!(said.contains(&format!("{}", scene.client.ip(family))), "{said}");
            assert!(said.contains(&format!("{}", scene.server.ip(family))), "{said}");
        }
    }
}

#[test]
fn loopback_and_udp_pass_untouched() {
    let scene = Scene::strict();
    let _echo = peer::serve(&scene.client, "echo", 8080).unwrap();
    let _udp = peer::serve(&scene.server, "udp-echo", 5353).unwrap();
    for address in ["127.0.0.1:8080", "[::1]:8080"] {
        let answer = peer::call(&scene.client, "exchange", address.parse().unwrap(), &["to myself"]).unwrap();
        assert_eq!(answer["answer"], "to myself", "{answer}");
        assert!(
            answer["getsockname"].as_str().unwrap().contains(address.rsplit_once(':').unwrap().0),
            "{answer}"
        );
    }
    let own = peer::call(&scene.client, "exchange", scene.client.at(Family::V4, 8080), &["my own address"])
        .unwrap();
    assert_eq!(own["answer"], "my own address", "{own}\n{}", scene.logs());
    for family in FAMILIES {
        let answer = peer::call(&scene.client, "udp", scene.server.at(family, 5353), &["datagram"]).unwrap();
        assert_eq!(answer["answer"], "datagram", "{answer}");
    }
}

#[test]
fn excluded_ports_pass_untouched() {
    let mut mesh = Mesh::start_strict().unwrap();
    let annotate = |name: &str, value: &str| {
        let pair = (name.to_owned(), value.to_owned());
        move |spec: &mut posthaste_tests::objects::PodSpec| spec.annotations.push(pair)
    };
    let client = mesh.pod_with("a", "client", annotate("exclude-outbound-ports", "9000,9001")).unwrap();
    let server = mesh.pod_with("b", "server", annotate("exclude-inbound-ports", "9000")).unwrap();
    mesh.settle(&client).unwrap();
    mesh.settle(&server).unwrap();
    let _servers = [9000, 9001, 9002].map(|port| peer::serve(&server, "echo", port).unwrap());
    let sniffer = Sniffer::start(mesh.world.bridge(), &["through"]).unwrap();
    let ask = |port| peer::call(&client, "exchange", server.at(Family::V4, port), &["through"]).unwrap();
    // Neither end captures it: plaintext passes, also in strict.
    assert_eq!(ask(9000)["answer"], "through", "{}", logs(&mesh));
    assert!(sniffer.seen().ports.contains_key(&9000));
    // The caller does not capture it, the called pod does: plaintext at a strict pod.
    let refused = ask(9001);
    assert!(crate::scene::failed(&refused), "{refused}");
    // Both capture it.
    assert_eq!(ask(9002)["answer"], "through", "{}", logs(&mesh));
    assert!(!sniffer.seen().ports.contains_key(&9002));
}

#[test]
fn a_destination_outside_the_mesh_is_passed_through_and_recorded() {
    let mut scene = Scene::strict();
    let outside = scene.mesh.outsider("outside").unwrap();
    let _echo = peer::serve(&outside, "echo", 7000).unwrap();
    for family in FAMILIES {
        let to = outside.at(family, 7000);
        let answer = peer::call(&scene.client, "exchange", to, &["to the world"]).unwrap();
        assert_eq!(answer["answer"], "to the world", "{answer}\n{}", scene.logs());
        assert_eq!(answer["getpeername"], to.to_string());
        let address = to.to_string();
        scene.mesh.a.wait_for_log("its record", |line| mentions(line, &[&address, "none"])).unwrap();
    }
}

#[test]
fn a_pod_that_opts_out_is_not_captured() {
    let mut mesh = Mesh::start(&[]).unwrap();
    let disabled = |spec: &mut posthaste_tests::objects::PodSpec| {
        spec.labels.push(("posthaste.dev/mesh".to_owned(), "disabled".to_owned()));
    };
    let client = mesh.pod_with("a", "client", disabled).unwrap();
    let server = mesh.pod("b", "server").unwrap();
    let _echo = peer::serve(&server, "echo", 8080).unwrap();
    let sniffer = Sniffer::start(mesh.world.bridge(), &["in the open"]).unwrap();
    let answer = peer::call(&client, "exchange", server.at(Family::V4, 8080), &["in the open"]).unwrap();
    assert_eq!(answer["answer"], "in the open", "{answer}\n{}", logs(&mesh));
    assert!(sniffer.hits() > 0);
}
