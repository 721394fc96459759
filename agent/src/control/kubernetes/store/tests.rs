//! Changes in, readings out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use crate::control::document;

fn service(name: &str, port: &str) -> (Name, Item) {
    let text = format!(
        r#"{{"metadata":{{"name":"{name}","namespace":"shop"}},"spec":{{"ports":[{{"port":{port}}}]}}}}"#
    );
    (("shop".into(), name.into()), document::object(&ORIGIN.into(), Kind::Service, &text))
}

fn listed(store: &mut Store, kind: Kind, objects: Vec<(Name, Item)>) {
    store.apply(kind, Change::Begin);
    for (name, item) in objects {
        store.apply(kind, Change::Listed(name, item));
    }
    assert!(store.apply(kind, Change::End));
}

fn names(store: &Store) -> Vec<String> {
    let services = store.reading("u", [].iter()).inputs.services;
    services.iter().map(|service| format!("{} {}", service.metadata.name, service.ports[0].port)).collect()
}

#[test]
fn a_list_replaces_what_was_there_when_it_is_whole() {
    let mut store = Store::default();
    listed(&mut store, Kind::Service, vec![service("b", "1"), service("a", "1")]);
    assert_eq!(names(&store), ["a 1", "b 1"]);
    store.apply(Kind::Service, Change::Begin);
    let (name, item) = service("a", "2");
    assert!(!store.apply(Kind::Service, Change::Listed(name, item)));
    assert_eq!(names(&store), ["a 1", "b 1"], "half a list changes nothing");
    store.apply(Kind::Service, Change::End);
    assert_eq!(names(&store), ["a 2"]);
}

#[test]
fn what_an_earlier_agent_kept_is_in_force_until_its_kind_is_read() {
    let mut store = Store::default();
    for name in ["kept", "gone"] {
        let (name, Item::Good(key, object)) = service(name, "1") else { panic!("{name}") };
        store.keep(key.kind, name, object);
    }
    store.apply(Kind::Service, Change::State(State::Denied("no".into())));
    assert!(store.is_stuck() && !store.has_read(Kind::Service));
    assert_eq!(names(&store), ["gone 1", "kept 1"]);
    listed(&mut store, Kind::Service, vec![service("kept", "2")]);
    assert!(!store.is_stuck() && store.has_read(Kind::Service));
    assert_eq!(names(&store), ["kept 2"]);
}

#[test]
fn a_bad_version_keeps_the_last_good_one_and_names_the_field() {
    let mut store = Store::default();
    listed(&mut store, Kind::Service, vec![service("a", "1"), service("b", "\"x\"")]);
    assert_eq!(names(&store), ["a 1"]);
    let (name, item) = service("a", "\"y\"");
    store.apply(Kind::Service, Change::Applied(name, item));
    assert_eq!(names(&store), ["a 1"]);
    let problems = store.problems("u");
    let of = |name: &str| problems.iter().find(|problem| problem.object.ends_with(name)).unwrap();
    assert_eq!(of("shop/a").field, "spec.ports[0].port");
    assert!(of("shop/a").reason.contains("last good version stays"));
    assert!(!of("shop/b").reason.contains("last good version"));
    // Also over a list.
    listed(&mut store, Kind::Service, vec![service("a", "\"y\"")]);
    assert_eq!(names(&store), ["a 1"]);
    store.apply(Kind::Service, Change::Gone(("shop".into(), "a".into())));
    assert_eq!((names(&store).len(), store.problems("u").len()), (0, 0));
}

#[test]
fn an_object_that_did_not_change_is_the_same_allocation() {
    let mut store = Store::default();
    listed(&mut store, Kind::Service, vec![service("a", "1")]);
    let first = store.reading("u", [].iter()).inputs.services[0].clone();
    listed(&mut store, Kind::Service, vec![service("a", "1")]);
    assert!(Arc::ptr_eq(&first, &store.reading("u", [].iter()).inputs.services[0]));
}

#[test]
fn a_node_goes_on_without_routes_and_not_without_pods() {
    let mut store = Store::default();
    for kind in KINDS.into_iter().filter(|kind| *kind != Kind::Pod) {
        assert!(!store.is_complete());
        let state = if is_core(kind) { State::Waiting } else { State::Denied("no".into()) };
        store.apply(kind, Change::State(state));
        if is_core(kind) {
            listed(&mut store, kind, vec![]);
        }
    }
    store.apply(Kind::Pod, Change::State(State::Denied("forbidden: pods".into())));
    assert!(!store.is_complete());
    let problems = store.problems("u");
    let pods = problems.iter().find(|problem| problem.object == "pods").unwrap();
    assert!(pods.reason.contains("forbidden: pods") && pods.reason.contains("`list` and `watch` on `pods`"));
    listed(&mut store, Kind::Pod, vec![]);
    assert!(store.is_complete());
}

#[test]
fn what_was_read_stays_while_the_server_is_away_and_goes_with_its_kind() {
    let mut store = Store::default();
    listed(&mut store, Kind::Service, vec![service("a", "1")]);
    for since in ["09:00", "10:00"] {
        store.apply(Kind::Service, Change::State(State::Unreachable("refused".into(), since.into())));
    }
    store.apply(Kind::Pod, Change::State(State::Unreachable("refused".into(), "08:00".into())));
    let problems = store.problems("https://here");
    assert_eq!(problems.len(), 1);
    assert!(problems[0].reason.contains("since 08:00"), "{problems:?}");
    assert_eq!(names(&store), ["a 1"]);
    store.apply(Kind::Service, Change::State(State::Following));
    store.apply(Kind::Pod, Change::State(State::Following));
    assert!(store.problems("u").is_empty());
    store.apply(Kind::Service, Change::State(State::Absent));
    assert!(names(&store).is_empty());
}

#[test]
fn a_policy_that_was_never_in_order_is_in_force_as_far_as_it_can_be_read() {
    let mut store = Store::default();
    let mut apply = |spec: &str| {
        let text = format!(r#"{{"metadata":{{"name":"a","namespace":"shop"}},"spec":{spec}}}"#);
        let item = document::object(&ORIGIN.into(), Kind::AuthorizationPolicy, &text);
        store.apply(Kind::AuthorizationPolicy, Change::Applied(("shop".into(), "a".into()), item));
        let reading = store.reading("u", [].iter());
        let whole = reading.inputs.authorization_policies[0].unread.is_none();
        (whole, reading.inputs.authorization_policies[0].spec.rules.len(), reading.problems.len())
    };
    assert_eq!(apply(r#"{"rules":[1]}"#), (false, 1, 0));
    assert_eq!(apply(r#"{"rules":[1,2]}"#), (false, 2, 0));
    assert_eq!(apply(r#"{"rules":[{},{},{}]}"#), (true, 3, 0));
    assert_eq!(apply(r#"{"rules":[1]}"#), (true, 3, 1), "the last good one stays, and the problem is said");
}
