//! The harness itself: sites reach one another, programs run where they should, the sniffer sees what passes, and nothing
//! stays behind. No agent is needed.

use posthaste_tests::{World, cgroup, namespace, peer, site::FAMILIES, sniffer::Sniffer, sweep};
use std::path::Path;

#[test]
fn sites_talk_and_the_sniffer_sees_it() {
    let world = World::create().unwrap();
    let (client, server) = (world.site("client", 2, 1).unwrap(), world.site("server", 3, 1).unwrap());
    let sniffer = Sniffer::start(world.bridge(), &["plain-needle"]).unwrap();
    let _echo = peer::serve(&server, "echo", 8080).unwrap();
    for family in FAMILIES {
        let answer =
            peer::call(&client, "exchange", server.at(family, 8080), &["a plain-needle passes"]).unwrap();
        assert_eq!(answer["answer"], "a plain-needle passes", "{family:?} {answer}");
        assert_eq!(answer["getpeername"], server.at(family, 8080).to_string());
    }
    let seen = posthaste_tests::eventually("both directions of both families", || {
        let seen = sniffer.seen();
        if seen.hits[0] == 4 { Ok(seen) } else { Err(format!("{seen:?}")) }
    })
    .unwrap();
    assert_eq!((seen.lost, seen.tls_records), (0, 0));
    assert_eq!(seen.ports[&8080], seen.packets);
}

#[test]
fn an_uncaptured_service_address_is_refused_at_once() {
    let world = World::create().unwrap();
    let client = world.site("client", 2, 1).unwrap();
    for address in ["10.96.0.1:80", "[fd96::1]:80"] {
        let answer = peer::call(&client, "exchange", address.parse().unwrap(), &["x"]).unwrap();
        let error = answer["error"].as_str().unwrap_or_default();
        assert!(["HostUnreachable", "NetworkUnreachable", "ConnectionRefused"].contains(&error), "{answer}");
    }
}

#[test]
fn both_ways_and_many_at_once() {
    let world = World::create().unwrap();
    let (client, server) = (world.site("client", 2, 1).unwrap(), world.site("server", 3, 1).unwrap());
    let both = peer::serve(&server, "both-ways", 8080).unwrap();
    let _echo = peer::serve(&server, "echo", 8081).unwrap();
    let family = FAMILIES[0];
    let answer = peer::call(&client, "both-ways", server.at(family, 8080), &["33554432"]).unwrap();
    assert_eq!(answer["right"], true, "{answer}");
    let served = peer::wait_line(&both, "the server's hash", |line| line["served"].is_object()).unwrap();
    assert_eq!(served["served"]["hash"], answer["sent_hash"]);
    let answer = peer::call(&client, "crowd", server.at(family, 8081), &["500", "2"]).unwrap();
    assert_eq!(answer["right"], 500, "{answer}");
}

#[test]
fn nothing_stays_behind() {
    let world = World::create().unwrap();
    let prefix = world.prefix().to_owned();
    let folder = world.folder().to_owned();
    let site = world.site("lonely", 2, 1).unwrap();
    let running = site.start(&["sleep", "1000"]).unwrap();
    let process = format!("/proc/{}", running.pid());
    let members = std::fs::read_to_string(site.cgroup().path().join("cgroup.procs")).unwrap();
    assert_eq!(members.trim(), running.pid().to_string());
    let own = std::fs::read_link(format!("{process}/ns/net")).unwrap();
    assert_ne!(own, std::fs::read_link("/proc/self/ns/net").unwrap());
    drop((running, site, world));
    assert!(!Path::new(&process).exists());
    assert!(!folder.exists());
    for place in [Path::new(namespace::FOLDER), &cgroup::mount_point().unwrap(), Path::new(sweep::BPFFS)] {
        assert!(sweep::of_world(place, &format!("{prefix}-")).is_empty(), "{}", place.display());
        assert!(!place.join(&prefix).exists());
    }
}
