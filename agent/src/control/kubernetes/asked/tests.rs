//! Wants in, fetches out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fmt::Write as _;

use super::*;
use crate::control::document::{self, Format, Item, Object};

/// A cluster out of YAML.
#[derive(Default)]
struct World {
    slices: Vec<Arc<EndpointSlice>>,
    services: Vec<Arc<Service>>,
    local: Vec<&'static str>,
}

impl Cluster for World {
    fn slices(&self, namespace: &str) -> Vec<&EndpointSlice> {
        self.slices
            .iter()
            .map(|slice| &**slice)
            .filter(|slice| *slice.metadata.namespace == *namespace)
            .collect()
    }

    fn service(&self, name: &Name) -> Option<&Service> {
        self.services.iter().map(|service| &**service).find(|service| service.metadata.name == name.1)
    }

    fn is_local(&self, name: &Name) -> bool {
        self.local.contains(&&*name.1)
    }
}

fn world(service: &str, pods: &[&str]) -> World {
    let mut text = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {service}, namespace: shop}}\nspec: {{selector: {{app: {service}, tier: b}}}}\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: {service}-x, namespace: shop, labels: {{kubernetes.io/service-name: {service}}}}}\n\
         addressType: IPv4\nendpoints:\n"
    );
    for (number, pod) in pods.iter().enumerate() {
        let _ = writeln!(
            text,
            "- {{addresses: [10.0.0.{number}], targetRef: {{kind: Pod, name: {pod}, uid: uid-{pod}}}}}"
        );
    }
    let mut world = World::default();
    for item in document::parse("t", &text, Format::Yaml) {
        match item {
            Item::Good(_, Object::EndpointSlice(slice)) => world.slices.push(slice),
            Item::Good(_, Object::Service(service)) => world.services.push(service),
            other => panic!("{other:?}"),
        }
    }
    world
}

fn pod(name: &str) -> Arc<Pod> {
    let text =
        format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop, uid: uid-{name}}}\n");
    match document::parse("t", &text, Format::Yaml).pop() {
        Some(Item::Good(_, Object::Pod(pod))) => pod,
        other => panic!("{other:?}"),
    }
}

fn key(name: &str) -> PodKey {
    PodKey { namespace: "shop".into(), name: name.into(), uid: format!("uid-{name}").into() }
}

fn one(name: &str) -> Fetch {
    Fetch::One(("shop".into(), name.into()))
}

fn names(asked: &Asked) -> Vec<String> {
    asked.pods().map(|pod| pod.metadata.name.to_string()).collect()
}

#[test]
fn a_pod_comes_with_the_others_of_its_services() {
    let now = Instant::now();
    let mut asked = Asked::default();
    let few = world("web", &["a", "b", "here"]);
    let few = World { local: vec!["here"], ..few };
    assert_eq!(asked.want(&key("a"), &few, now), [one("a"), one("b")]);
    assert!(asked.want(&key("a"), &few, now).is_empty(), "it was asked for just now");
    assert!(asked.want(&key("here"), &few, now).is_empty(), "the watch has it");
    let later = now + PATIENCE;
    assert_eq!(asked.want(&key("a"), &few, later)[0], one("a"), "an answer that was lost");
    assert!(asked.answer("shop", vec![pod("a"), pod("stranger")], &few));
    assert_eq!(names(&asked), ["a"], "what no slice names is not kept");
    assert!(!asked.answer("shop", vec![pod("a")], &few));
    assert!(asked.want(&key("a"), &few, later).is_empty());
    let service = ("shop".into(), "web".into());
    assert_eq!(asked.prefetch(&service, &few, later + PATIENCE), [one("b")], "the other is known");
    assert_eq!(asked.want(&key("a"), &few, later + PATIENCE), [one("a")], "what is known was not enough");
}

#[test]
fn many_pods_come_in_one_list() {
    let many = world("web", &["a", "b", "c", "d", "e"]);
    let mut asked = Asked::default();
    let fetches = asked.want(&key("c"), &many, Instant::now());
    assert_eq!(fetches, [one("c"), Fetch::Selected("shop".into(), "app=web,tier=b".into())]);
}

#[test]
fn new_endpoints_are_fetched_while_the_service_is_in_use() {
    let now = Instant::now();
    let service: Name = ("shop".into(), "web".into());
    let (before, after) = (world("web", &["a"]), world("web", &["a", "b"]));
    let mut asked = Asked::default();
    assert!(asked.prefetch(&service, &before, now).is_empty(), "nobody uses it");
    asked.want(&key("a"), &before, now);
    asked.answer("shop", vec![pod("a")], &before);
    assert_eq!(asked.concerns(&after.slices[0]), Some(service.clone()));
    assert_eq!(asked.prefetch(&service, &after, now + PATIENCE), [one("b")]);
    assert!(asked.prefetch(&service, &after, now + IN_USE + PATIENCE).is_empty());
    assert_eq!(asked.concerns(&after.slices[0]), None);
}

#[test]
fn a_pod_goes_when_no_slice_names_it_or_another_has_its_name() {
    let now = Instant::now();
    let both = world("web", &["a", "b"]);
    let mut asked = Asked::default();
    asked.want(&key("a"), &both, now);
    asked.answer("shop", vec![pod("a"), pod("b")], &both);
    let only_a = world("web", &["a"]);
    assert!(asked.forget(&both.slices[0], &only_a));
    assert_eq!(names(&asked), ["a"]);
    assert!(!asked.forget(&both.slices[0], &only_a));
    // The same name, made again.
    let mut again = world("web", &["a"]);
    let slice = Arc::make_mut(&mut again.slices[0]);
    let mut endpoints: Vec<_> = slice.endpoints.iter().map(EndpointRef::unpacked).collect();
    endpoints[0].pod.as_mut().unwrap().1 = "another".into();
    slice.endpoints = endpoints.into_iter().collect();
    assert!(asked.forget(&only_a.slices[0], &again));
    assert!(names(&asked).is_empty());
}

#[test]
fn what_an_earlier_agent_knew_is_in_use_while_the_slices_name_it() {
    let now = Instant::now();
    let mut asked = Asked::default();
    [pod("a"), pod("gone")].into_iter().for_each(|pod| asked.take_over(pod));
    let cluster = world("web", &["a", "b"]);
    asked.forget_all_but(&cluster, now);
    assert_eq!(names(&asked), ["a"]);
    assert_eq!(asked.prefetch(&("shop".into(), "web".into()), &cluster, now), [one("b")]);
}
